"""On-policy rows: who writes, who scores, and that nothing flows through the writing."""

from __future__ import annotations

import pytest
import torch
from conftest import TEACHER

from labkit import models
from labkit.losses.divergences import divergence
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers.signals import Signals
from labkit.training import batches
from labkit.training.batches import StepRows
from labkit.training.loop import Run
from labkit.training.on_policy import OnPolicy

TINY = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=8, method="online", on_policy=0.5)


pytestmark = pytest.mark.usefixtures("quick")


def steps(events) -> list[ev.Step]:
    return [e for e in events if isinstance(e, ev.Step)]


def drawn() -> StepRows:
    texts = ["What is the capital of Chad?", "What is 2 + 3?", "Name a city in Peru.", "What is the symbol of iron?"]
    answers = models.tokenizer().answers(["N'Djamena", "5", "Lima", "Fe"])
    return StepRows(models.tokenizer().prompts(texts), answers, [4, 5, 6])  # the last row is gold


def test_the_student_writes_the_first_rows_and_no_others():
    student, before = models.student("57k", 3), drawn()
    own = OnPolicy(TINY)
    after = own.replace_answers(student, before, step=1, share=2 / 3)
    assert after.own == 2
    assert after.prompts == before.prompts
    assert after.answers[2:] == before.answers[2:]
    wanted = models.write(student, before.prompts[:2], temperature=1.0, seed=TINY.seed * 1_000_003 + 1)
    assert after.answers[:2] == [w.ids for w in wanted]
    assert own.generated == sum(len(w.ids) for w in wanted)
    assert after.tokens(gold=True) == before.tokens(gold=True)
    assert all(after.answers), "an answer has at least one token, its end"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(share: float):
    after = OnPolicy(TINY).replace_answers(models.student("22k", 1), drawn(), 1, share)
    assert after.own == 3 * share
    assert (after.answers == drawn().answers) is (share == 0)


def test_replayed_rows_are_rows_written_before():
    own, student = OnPolicy(TINY.but(replay=0.5)), models.student("22k", 1)
    first = own.replace_answers(student, drawn(), 1, 1.0)
    written = list(zip(first.prompts[:3], first.answers[:3], strict=True))
    second = own.replace_answers(student, drawn(), 2, 1.0)
    assert second.own == 3
    assert (second.prompts[2], second.answers[2]) in [tuple(row) for row in written]
    assert len(own.kept) == 4, "two of three were new"
    assert len(second.prompts) == len(first.prompts)


def test_without_on_policy_rows_it_is_output_distillation():
    plain = steps(Run(TINY.but(method="output", steps=3)))
    online = steps(Run(TINY.but(on_policy=0.0, steps=3)))
    assert [e.values for e in online] == [e.values for e in plain]


def test_the_loss_and_its_gradient_are_those_of_fixed_text():
    """The first step against the same rows written down and compared by hand: the writing carries no gradient (GKD, section 3)."""
    exp = TINY.but(on_policy=1.0, steps=1, signals="live")
    run = Run(exp)
    (told,) = steps(run)
    student, teacher = models.student(exp.student, exp.seed), models.teacher(TEACHER)
    pool = Signals(teacher, Atlas(exp.scale).questions(exp.questions, 7))
    list(pool.prepare(range(128)))
    rows = batches.BatchSampler(exp, (), pool, models.tokenizer()).next_rows(exp.batch, 0.0)[0]
    prompts = [pool.prompt(i) for i in rows]
    answers = [w.ids for w in models.write(student, prompts, temperature=1.0, seed=1)]
    tokens, mask, _ = models.pad(prompts, answers)
    with torch.no_grad():
        p = teacher(tokens).logits[mask]
    loss = divergence("forward_kl")(p, student(tokens).logits[mask]).mean()
    assert told.values["loss"] == pytest.approx(loss.item(), rel=1e-4)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    assert told.values["grad_norm"] == pytest.approx(float(norm), rel=1e-3)


def test_rows_of_both_kinds_meet_the_right_teacher_states():
    """Half of the rows cached, half read now: the same numbers as all read now."""
    cached = steps(Run(TINY.but(steps=2)))
    live = steps(Run(TINY.but(steps=2, signals="live")))
    for one, other in zip(cached, live, strict=True):
        assert one.values["loss"] == pytest.approx(other.values["loss"], rel=2e-3)


@pytest.mark.parametrize("changes", [{}, {"replay": 0.5}, {"divergence": "reverse_kl", "mix": 0.25}])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, changes: dict):
    exp = TINY.but(**changes)
    whole = Run(exp)
    wanted = list(whole)
    first = Run(exp, tmp_path, 3)
    for event in first:
        if isinstance(event, ev.Step) and event.step == 5:
            first.folder._lock.release()
            break
    again = Run(exp, tmp_path, 3)
    told = list(again)
    assert any(isinstance(e, ev.Warned) and "goes on from step 3" in e.message for e in told)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert told[-1].cost["student_written_tokens"] == wanted[-1].cost["student_written_tokens"]


def test_what_it_costs_is_counted():
    offline = list(Run(TINY.but(method="output")))[-1].cost
    online = list(Run(TINY.but(on_policy=1.0)))[-1].cost
    assert online["student_written_tokens"] > 0
    assert online["teacher_tokens"] > offline["teacher_tokens"]


def test_the_share_is_a_hot_knob():
    run, seen = Run(TINY.but(on_policy=0.0, steps=3)), []
    for event in run:
        if isinstance(event, ev.Step):
            run.turn(on_policy=1.0)
        if isinstance(event, ev.Finished):
            seen.append(event.cost["student_written_tokens"])
    assert seen[0] > 0


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_the_sampling_temperature_is_the_writer_s(temperature: float):
    student = models.student("57k", 3)
    after = OnPolicy(TINY.but(sampling_temperature=temperature)).replace_answers(student, drawn(), 1, 1.0)
    wanted = models.write(student, drawn().prompts[:3], temperature=temperature, seed=1)
    assert after.answers[:3] == [w.ids for w in wanted]


def test_the_student_writes_from_its_share_of_the_steps_on():
    """Before it: output distillation, to the bit; after it: online."""
    late, plain, always = (Run(TINY.but(**c)) for c in ({"online_from": 0.5, "on_policy": 1.0}, {"on_policy": 0.0}, {"on_policy": 1.0}))
    told, wanted = steps(late), steps(plain)
    assert [e.values for e in told[:4]] == [e.values for e in wanted[:4]]
    assert all(a.values["loss"] != b.values["loss"] for a, b in zip(told[4:], wanted[4:], strict=True))
    assert told[0].values != steps(always)[0].values


@pytest.mark.parametrize(("start", "writes"), [(0.0, 8), (0.75, 2), (1.0, 0)])
def test_it_writes_in_the_steps_left(start: float, writes: int, monkeypatch: pytest.MonkeyPatch):
    asked = []
    real = OnPolicy.replace_answers
    monkeypatch.setattr(OnPolicy, "replace_answers", lambda self, s, d, step, share: asked.append(share) or real(self, s, d, step, share))
    list(Run(TINY.but(online_from=start)))
    assert asked == [0.0] * (8 - writes) + [0.5] * writes


def test_a_late_writer_goes_on_after_a_kill(tmp_path):
    exp = TINY.but(online_from=0.5)
    whole = Run(exp)
    list(whole)
    first = Run(exp, tmp_path, 3)
    for event in first:
        if isinstance(event, ev.Step) and event.step == 5:
            first.folder._lock.release()
            break
    again = Run(exp, tmp_path, 3)
    told = list(again)
    assert any(isinstance(e, ev.Warned) and "goes on from step 3" in e.message for e in told)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
