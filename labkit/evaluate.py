"""How good a student is: truth against the facts, fidelity to the teacher, validity and coverage, calibration.

    exam = Exam(Atlas("half"), teacher)
    grades = exam.grade(student)          # answers come from real generation; see `Grades`

Recovery and verdicts are sums over what is recorded here and live with the records (`labkit.record`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.atlas import SKILLS, Atlas, Question, normalise
from labkit.models import Written, answer_states, pad, tokenizer, write

PER_SKILL = 40
ROWS = 200  # read or answered at a time; all in one batch, padded to the longest, would take 200 MB more


class Graded(NamedTuple):
    """One exam answer: the text, its probability under the model that gave it, and whether it is right."""

    text: str
    probability: float
    right: bool


class Grades(NamedTuple):
    """skills: score in [0, 1] a skill (share of right greedy answers; for open questions the probability mass on valid
    answers). fidelity: kl (nats per answer token, teacher to student, on the teacher's answers) and agreement (share of equal
    top-1 tokens). open: validity (mass on valid answers) and coverage (share of valid answers given at least half of an even
    share). truth: shares of right, inherited and wrong answers. ece: expected calibration error of whole answers, 10 bins."""

    skills: Mapping[str, float]
    fidelity: Mapping[str, float]
    open: Mapping[str, float]
    truth: Mapping[str, float]
    ece: float
    answers: Sequence[Graded]


class Exam:
    """A fixed paper for one world; compositions, sums and comparisons on it were never in any training set."""

    def __init__(
        self,
        world: Atlas,
        teacher: LlamaForCausalLM | None,
        per_skill: int = PER_SKILL,
        *,
        wording: int = 0,
        skills: Sequence[str] = SKILLS,
    ) -> None:
        self.world = world
        self.questions = [q for q in world.exam(per_skill, wording=wording) if q.skill in skills]
        self.prompts = tokenizer().prompts([q.text for q in self.questions])
        self.teacher_answers: Sequence[Graded] = ()
        self._teacher_states: Tensor | None = None
        self._open = [i for i, q in enumerate(self.questions) if q.skill == "open"]
        choices = [(i, answer) for i in self._open for answer in self.questions[i].answers]
        self._choice_of = [i for i, _ in choices]
        self._choices = list(zip([self.prompts[i] for i, _ in choices], tokenizer().answers([a for _, a in choices]), strict=True))
        self._teacher = teacher
        if teacher is not None:
            written = self._write(teacher)
            self.teacher_answers = self._mark(written)
            self._teacher_ids = [w.ids for w in written]
            with torch.no_grad():
                self._teacher_states = _states(teacher, self.prompts, self._teacher_ids)
            self.teacher_grades = self.grade(teacher, written)

    def grade(self, model: LlamaForCausalLM, written: Sequence[Written] | None = None) -> Grades:
        """Examine `model`, which is left as it was found; `written` are its greedy answers, if they are at hand."""
        training = model.training
        model.eval()
        answers = self._mark(written or self._write(model))
        validity, coverage = self._open_questions(model)
        fidelity = self._fidelity(model)
        model.train(training)
        skills = {}
        for skill in dict.fromkeys(q.skill for q in self.questions):
            marks = [a.right for a, q in zip(answers, self.questions, strict=True) if q.skill == skill]
            skills[skill] = validity if skill == "open" else sum(marks) / len(marks)
        verdicts = [self.verdict(i, a) for i, a in enumerate(answers)]
        truth = {name: verdicts.count(name) / len(verdicts) for name in ("right", "inherited", "wrong")}
        return Grades(skills, fidelity, {"validity": validity, "coverage": coverage}, truth, calibration_error(answers), answers)

    def verdict(self, number: int, answer: Graded) -> str:
        """ "right"; "inherited" if it repeats the teacher's own wrong answer; else "wrong"."""
        if answer.right:
            return "right"
        same = self.teacher_answers and normalise(self.teacher_answers[number].text) == normalise(answer.text)
        return "inherited" if same else "wrong"

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """`n` rows to look at, spread over the skills, always the same questions."""
        skills = [q.skill for q in self.questions]
        order = sorted(range(len(skills)), key=lambda i: (skills[:i].count(skills[i]), SKILLS.index(skills[i])))
        rows = []
        for i in order[:n]:
            question = self.questions[i]
            rows.append(
                {
                    "question": question.text,
                    "skill": question.skill,
                    "student": answers[i].text,
                    "teacher": self.teacher_answers[i].text if self.teacher_answers else "",
                    "truth": listed(question.answers),
                    "verdict": self.verdict(i, answers[i]),
                }
            )
        return rows

    def probe(self, model: LlamaForCausalLM, most: int = 8) -> tuple[str, list[str], list[float], list[float]]:
        """One open question: the tokens that teacher and student find likeliest to begin an answer, and how likely."""
        i = max(self._open, key=lambda i: (2 <= len(self.questions[i].answers) <= 8, len(self.questions[i].answers)))
        own = _first_token(model, self.prompts[i])
        teacher = _first_token(self._teacher, self.prompts[i]) if self._teacher is not None else torch.zeros_like(own)
        top = sorted(range(len(own)), key=lambda t: -max(float(teacher[t]), float(own[t])))[:most]
        names = [tokenizer().token(t).strip() for t in top]
        return self.questions[i].text, names, teacher[top].tolist() if self._teacher is not None else [], own[top].tolist()

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _write(self, model: LlamaForCausalLM) -> list[Written]:
        """Greedy answers to the whole paper."""
        found: dict[int, Written] = {}
        for part in _of_like_length(self.prompts):
            found |= zip(part, write(model, [self.prompts[i] for i in part]), strict=True)
        return [found[i] for i in range(len(self.prompts))]

    def _mark(self, written: Sequence[Written]) -> list[Graded]:
        texts = [tokenizer().text(w.ids) for w in written]
        return [
            Graded(text, math.exp(sum(w.logprobs)), self.world.is_right(question, text))
            for text, w, question in zip(texts, written, self.questions, strict=True)
        ]

    @torch.no_grad()
    def _open_questions(self, model: LlamaForCausalLM) -> tuple[float, float]:
        """Mean probability mass on valid answers, and mean share of valid answers with at least half an even share."""
        if not self._choices:
            return 0.0, 0.0
        prompts, answers = [p for p, _ in self._choices], [a for _, a in self._choices]
        logprobs = model.lm_head(_states(model, prompts, answers)).float().log_softmax(-1)
        labels = torch.tensor([token for answer in answers for token in answer], device=logprobs.device)
        scores = logprobs.gather(1, labels[:, None])[:, 0]
        totals = [float(s.sum().exp()) for s in scores.split([len(a) for _, a in self._choices])]
        mass: dict[int, list[float]] = {}
        for i, p in zip(self._choice_of, totals, strict=True):
            mass.setdefault(i, []).append(p)
        validity = sum(min(1.0, sum(p)) for p in mass.values()) / len(mass)
        coverage = sum(sum(x >= 0.5 / len(p) for x in p) / len(p) for p in mass.values()) / len(mass)
        return validity, coverage

    @torch.no_grad()
    def _fidelity(self, model: LlamaForCausalLM) -> dict[str, float]:
        if self._teacher is None or self._teacher_states is None:
            return {}
        teacher = self._teacher.lm_head(self._teacher_states).float().log_softmax(-1)
        own = model.lm_head(_states(model, self.prompts, self._teacher_ids)).float().log_softmax(-1)
        kl = (teacher.exp() * (teacher - own)).sum(-1).mean()
        return {"kl": float(kl), "agreement": float((teacher.argmax(-1) == own.argmax(-1)).float().mean())}


def _of_like_length(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Row numbers, `ROWS` at a time, so that little of a batch is padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), ROWS):
        yield order[start : start + ROWS]


def _states(model: LlamaForCausalLM, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Tensor:
    """Final states `(N, hidden)` at all answer tokens, one row after the other."""
    found: dict[int, Tensor] = {}
    for part in _of_like_length([[*p, *a] for p, a in zip(prompts, answers, strict=True)]):
        states = answer_states(model, pad([prompts[i] for i in part], [answers[i] for i in part]))
        found |= zip(part, states.split([len(answers[i]) for i in part]), strict=True)
    return torch.cat([found[i] for i in range(len(prompts))])


def calibration_error(answers: Sequence[Graded], bins: int = 10) -> float:
    """Expected calibration error: |mean confidence - share right| over equal-width bins of confidence, weighted by their size.

    Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    total = 0.0
    for b in range(bins):
        inside = [a for a in answers if b / bins <= a.probability < (b + 1) / bins or (b == bins - 1 and a.probability >= 1)]
        if inside:
            total += abs(sum(a.probability for a in inside) - sum(a.right for a in inside))
    return total / max(1, len(answers))


def listed(answers: Sequence[str], most: int = 3) -> str:
    """Valid answers in a few words."""
    return ", ".join(answers[:most]) + (f" or {len(answers) - most} more" if len(answers) > most else "")


@torch.no_grad()
def _first_token(model: LlamaForCausalLM, prompt: list[int]) -> Tensor:
    return model(torch.tensor([prompt], device=model.device)).logits[0, -1].float().softmax(-1).cpu()


@functools.cache
def whole_world() -> Atlas:
    """Truth is that of the whole world, whatever part of it is asked about."""
    return Atlas()


class Answer(NamedTuple):
    """What `ask` returns; `truth` is None for a question Atlas does not know."""

    answer: str
    probability: float
    right: bool | None
    truth: str | None
    runners_up: tuple[tuple[str, float], ...]


def ask(model: LlamaForCausalLM, text: str) -> Answer:
    """A model's greedy answer to any question, how sure it is, the truth if Atlas knows it, and its other first guesses."""
    prompt = tokenizer().prompts([text])[0]
    written = write(model, [prompt])[0]
    first = _first_token(model, prompt)
    rivals = [(tokenizer().token(int(t)).strip(), float(first[t])) for t in first.topk(6).indices if int(t) != written.ids[0]]
    world = whole_world()
    question: Question | None = world.find(text)
    said = tokenizer().text(written.ids)
    return Answer(
        said,
        math.exp(sum(written.logprobs)),
        world.is_right(question, said) if question else None,
        listed(question.answers) if question else None,
        tuple(rivals[:5]),
    )
