"""Exposure bias, against full enumeration and against itself."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from oracles import answer_logprobs
from torch import nn

from labkit import models
from labkit.base.errors import LabError
from labkit.lessons.exercises import check
from labkit.studies.exposure import AtPosition, exposure, first_step, kl_along, stepwise
from labkit.tasks.atlas.facts import Atlas


@pytest.fixture
def questions():
    return [q for q in Atlas("half").exam(12) if q.skill in ("two_hop_steps", "chain")]


class Table(nn.Module):
    """A model over `V` tokens whose logits are a fixed random function of the whole prefix; token 0 ends an answer."""

    def __init__(self, seed: int, size: int = 3) -> None:
        super().__init__()
        self.seed, self.size, self.device = seed, size, torch.device("cpu")
        head = nn.Identity()
        head.weight = torch.zeros(1)
        self.base_model, self.get_output_embeddings = self.read, lambda: head

    def logits(self, prefix: tuple[int, ...]) -> torch.Tensor:
        seed = hash((self.seed, prefix)) % 2**31
        return torch.randn(self.size, generator=torch.Generator().manual_seed(seed))

    def read(self, tokens_B_T: torch.Tensor, use_cache: bool = False):
        states = torch.stack([torch.stack([self.logits(tuple(row[: t + 1])) for t in range(len(row))]) for row in tokens_B_T.tolist()])
        return type("Out", (), {"last_hidden_state": states})


def test_the_kl_of_answers_is_the_sum_over_positions_by_full_enumeration():
    """KL over all answers of up to 4 tokens = sum over t of the expected KL at t over the teacher's prefixes (the chain rule)."""
    teacher, student, prompt, longest = Table(1), Table(2), [2], 4
    answers = [
        [*body, 0] if len(body) < longest else list(body) for n in range(longest + 1) for body in itertools.product((1, 2), repeat=n)
    ]

    def logprob(model: Table, answer: list[int]) -> float:
        return sum(float(model.logits((*prompt, *answer[:t])).log_softmax(-1)[answer[t]]) for t in range(len(answer)))

    p, q = ([logprob(m, a) for a in answers] for m in (teacher, student))
    assert sum(map(math.exp, p)) == pytest.approx(1, abs=1e-5)
    whole = sum(math.exp(x) * (x - y) for x, y in zip(p, q, strict=True))
    along = kl_along(teacher, student, [prompt] * len(answers), answers)
    by_position = [sum(math.exp(x) * float(row[t]) for x, row in zip(p, along, strict=True) if len(row) > t) for t in range(longest)]
    assert min(by_position) > 0.01
    assert sum(by_position) == pytest.approx(whole, abs=1e-5)
    own = sum(math.exp(y) * float(row.sum()) for y, row in zip(q, along, strict=True))
    assert own != pytest.approx(whole, abs=1e-2), "over the student's prefixes it is another number"


def test_a_student_that_is_its_teacher_is_nowhere_off(tiny_teacher, questions):
    found = exposure(tiny_teacher, tiny_teacher, questions)
    assert all(abs(row.teacher) < 1e-6 and abs(row.own) < 1e-6 for row in found)
    assert all(row.teacher_rows == row.own_rows for row in found)
    assert [row.position for row in found] == list(range(1, len(found) + 1))


def test_it_is_what_one_row_at_a_time_gives(tiny_teacher, questions):
    student = models.student("22k", 3)
    found = exposure(tiny_teacher, student, questions, seed=5)
    prompts = models.tokenizer().prompts([q.text for q in questions])
    for side, writer in (("teacher", tiny_teacher), ("own", student)):
        at: dict[int, list[float]] = {}
        for prompt, written in zip(prompts, models.write(writer, prompts, temperature=1.0, seed=5), strict=True):
            p, q = (answer_logprobs(m, prompt, written.ids) for m in (tiny_teacher, student))
            for t, kl in enumerate((p.exp() * (p - q)).sum(-1).tolist()):
                at.setdefault(t + 1, []).append(kl)
        for row in found:
            assert getattr(row, side) == pytest.approx(sum(at[row.position]) / len(at[row.position]), rel=1e-3)
            assert getattr(row, f"{side}_rows") == len(at[row.position])
    assert isinstance(found[0], AtPosition)
    assert found[0].teacher == pytest.approx(found[0].own, rel=1e-6), "the first position has no prefix but the question"


def test_the_first_step_is_the_right_one(questions):
    for question in questions:
        text = models.tokenizer().text(first_step(question))
        assert text == question.answers[0].partition(", ")[0] + ","


def test_a_right_first_step_of_one_s_own_is_as_good_as_one_that_is_given(tiny_teacher, questions):
    """Greedy writing goes on from a prefix in one way, whoever wrote it."""
    alone = [stepwise(tiny_teacher, [q]) for q in questions]
    assert all(one.given == one.own for one in alone if one.first == 1)
    together = stepwise(tiny_teacher, questions)
    for name in ("given", "own", "first"):
        assert getattr(together, name) == pytest.approx(sum(getattr(one, name) for one in alone) / len(alone))


def test_a_question_without_steps_is_refused(tiny_teacher):
    with pytest.raises(LabError, match="not answered in steps"):
        stepwise(tiny_teacher, Atlas("half").exam(1)[:1])


# ---- the exercise of lesson 09 ------------------------------------------------------------------------------------------------


def test_right_answers_to_the_exercise():
    for answer in (
        lambda kl, m: (kl * m).sum(0) / m.sum(0),
        lambda kl, m: torch.stack([kl[m[:, t], t].mean() for t in range(kl.shape[1])]),
    ):
        found = check("09.position", answer)
        assert found.ok, found


WRONG = {
    "all rows": lambda kl, m: (kl * m).mean(0),
    "padding": lambda kl, m: kl.mean(0),
    "by answer": lambda kl, m: (kl * m).sum(1) / m.sum(1),
    "summed": lambda kl, m: (kl * m).sum(0),
    "one number": lambda kl, m: kl[m].mean(),
    "cumulative": lambda kl, m: ((kl * m).sum(0) / m.sum(0)).cumsum(0),
    "shape": lambda kl, m: kl * m,
    "": lambda kl, m: (kl * m).sum(0) / m.sum(0) + 1,
    "nothing returned": lambda kl, m: None,
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_are_named(name: str):
    found = check("09.position", WRONG[name])
    assert not found.ok
    assert found.misconception == name
    assert len(found.reason) > 20


def test_models_with_other_tokens_are_not_compared_by_position():
    own, other = models.student("22k"), models.student("22k", vocabulary="bytes")
    with pytest.raises(LabError, match="vocabulary='atlas'"):
        exposure(own, other, Atlas("half").exam(1)[:2])
