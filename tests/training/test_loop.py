"""The loop against plain PyTorch written out by hand; kills, knobs, faults and stops; and what a run says of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import REPOSITORY, TEACHER
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from labkit import models
from labkit.base import tensors
from labkit.base.errors import DataError, LabError
from labkit.base.files import made_here
from labkit.base.settings import default
from labkit.base.threads import Share
from labkit.losses.divergences import DIVERGENCES, TAILS, divergence, top_k
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import SIZES, SKILLS
from labkit.records.record import Record, read_events
from labkit.records.store import Store
from labkit.studies import run as runs
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers.signals import Signals
from labkit.training import assembly, batches, checkpoint, loop, setup
from labkit.training.batches import Order, split_by_length
from labkit.training.loop import Run
from labkit.training.prerequisites import made_teacher_recipe, warm_recipe

TINY = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=8)
EVERY = 3  # a checkpoint every so many steps


@pytest.fixture(autouse=True)
def small(quick, monkeypatch: pytest.MonkeyPatch):
    """The logs of runs that a test drops, as a kill would, are closed when it is over."""
    opened, begin = [], checkpoint.Folder.__init__

    def remembered(self, *args) -> None:
        begin(self, *args)
        opened.append(self)

    monkeypatch.setattr(checkpoint.Folder, "__init__", remembered)
    yield
    for folder in opened:
        folder.close()


def until(run: Run, step: int) -> list[ev.Event]:
    """The events up to and with this step's, and the run left there, as a kill would leave it."""
    told = []
    for event in run:
        told.append(event)
        if isinstance(event, ev.Step) and event.step == step:
            return told
    raise AssertionError(f"the run ended before step {step}: {told[-1]}")


def killed(run: Run, step: int) -> list[ev.Event]:
    """The same, and its hold on the folder gone, as a kill would have it."""
    told = until(run, step)
    run.folder._lock.release()
    return told


def plain(events) -> list[dict]:
    """What can be compared between two runs: all but the clock."""
    rows = [e.to_json() for e in events]
    for row in rows:
        row.pop("seconds", None)
    return rows


def to_its_error(run: Run, kind: type[BaseException], match: str | None = None) -> tuple[list[ev.Event], BaseException]:
    """The events of a run that ends in an error, and the error."""
    events: list[ev.Event] = []

    def listen() -> None:
        for event in run:
            events.append(event)

    with pytest.raises(kind, match=match) as caught:
        listen()
    return events, caught.value


def of(kind, events) -> list:
    return [e for e in events if isinstance(e, kind)]


def losses(events) -> list[float]:
    return [e.values["loss"] for e in of(ev.Step, events)]


# ---- the oracle ----------------------------------------------------------------------------------------------------------------


def by_hand(exp: Experiment, steps: int, start: dict | None = None) -> tuple[list[dict[str, float]], torch.nn.Module]:
    """The same training in plain PyTorch, one unpadded row at a time; returns the numbers of each step and the student."""
    world, tokenizer = Atlas(exp.scale), models.tokenizer()
    rows: list[tuple] = []
    if exp.method != "gold":
        pool = Signals(models.teacher(exp.teacher), world.questions(exp.questions, 7))
        for _ in pool.prepare(range(exp.questions)):
            pass
        again = torch.rand(exp.questions, generator=torch.Generator().manual_seed(exp.seed * 1_000_003))
        for new in range(exp.questions):  # a new question, then one of those already seen
            for i in (new, int(again[new] * (new + 1))):
                rows.append((pool.prompt(i), pool.answer(i), models.teacher(exp.teacher).lm_head(pool.hidden([i]).float())))
    asked = world.questions(exp.gold, 11)
    gold = list(zip(tokenizer.prompts([q.text for q in asked]), tokenizer.answers([q.gold for q in asked]), [None] * exp.gold, strict=True))
    gold = [gold[i] for i in torch.randperm(exp.gold, generator=torch.Generator().manual_seed((exp.seed + 1) * 1_000_003))]
    n_gold = exp.batch if exp.method == "gold" or exp.mix == 1 else exp.batch // 4 if exp.mix else 0
    student, t = models.student(exp.student, exp.seed), exp.temperature
    if start:
        student.load_state_dict(start, strict=False)
    optimiser = torch.optim.AdamW(student.parameters(), exp.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    told = []
    for step in range(steps):
        own, paid = rows[step * (exp.batch - n_gold) :][: exp.batch - n_gold], gold[step * n_gold :][:n_gold]
        soft, hard, kl, ce = [], [], [], []
        for prompt, answer, teacher in [*own, *paid]:
            logits = student(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            label = F.cross_entropy(logits, torch.tensor(answer), reduction="sum")
            (hard if teacher is not None else ce).append(label)
            if teacher is not None:
                soft.append(t**2 * F.kl_div((logits / t).log_softmax(-1), (teacher / t).log_softmax(-1), reduction="sum", log_target=True))
                kl.append(F.kl_div(logits.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True).detach())
        n_own, n_paid = sum(len(a) for _, a, _ in own) or 1, sum(len(a) for _, a, _ in paid) or 1
        matched = sum(soft if exp.method == "output" else hard) / n_own
        loss = sum(ce) / n_paid if exp.method == "gold" else (1 - exp.mix) * matched + exp.mix * sum(ce) / n_paid
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        rate = exp.learning_rate * min(1, (step + 1) / 30) * (0.05 + 0.95 * (1 + math.cos(math.pi * step / exp.steps)) / 2)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        told.append({"loss": float(loss.detach()), "grad_norm": float(norm), "lr": rate, "kl": float(sum(kl)) / n_own})
    return told, student


ARMS = {
    "output": TINY,
    "output at T=3": TINY.but(temperature=3.0),
    "output at T=0.5": TINY.but(temperature=0.5, student="57k"),
    "output with gold": TINY.but(mix=0.5, temperature=2.0),
    "answers": TINY.but(method="answers"),
    "answers with gold": TINY.but(method="answers", mix=0.25),
    "gold through output": TINY.but(mix=1.0),
    "gold": TINY.but(method="gold", seed=3),
    "gold without a teacher": TINY.but(method="gold", teacher="none"),
    "gold with a mix": TINY.but(method="gold", mix=0.5),
}


@pytest.mark.parametrize("arm", ARMS)
def test_three_steps_are_what_plain_pytorch_does(arm: str):
    exp = ARMS[arm]
    run = Run(exp)
    steps = [e.values for e in of(ev.Step, until(run, 3))]
    wanted, student = by_hand(exp, 3)
    assert steps[0]["loss"] == pytest.approx(wanted[0]["loss"], abs=1e-6, rel=1e-6)
    for found, expected in zip(steps, wanted, strict=True):
        for name in ("loss", "grad_norm", "lr"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5), name
        if "kl" in found:
            assert found["kl"] == pytest.approx(expected["kl"], rel=1e-5)
    for (name, mine), theirs in zip(run.student.named_parameters(), student.parameters(), strict=True):
        # Where a gradient is nearly 0, Adam's division blows up its rounding: a step of a wrong loss would be 1e-4 and more apart.
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_kl_is_told_where_it_was_measured_and_only_there():
    for arm, measured in (("output", True), ("answers", True), ("output with gold", True), ("gold", False), ("gold through output", False)):
        values = of(ev.Step, until(Run(ARMS[arm]), 1))[0].values
        assert (values.get("kl") is not None) is measured, arm
        assert measured is False or values["kl"] > 1, arm


def test_the_kl_curve_is_at_temperature_one_whatever_the_loss():
    hot, cold = (of(ev.Step, until(Run(TINY.but(temperature=t)), 1))[0].values for t in (4.0, 1.0))
    assert hot["kl"] == pytest.approx(cold["kl"], rel=1e-6)
    assert hot["loss"] != pytest.approx(cold["loss"], rel=1e-2)
    assert cold["loss"] == pytest.approx(cold["kl"], rel=1e-6)


def test_cross_entropy_is_told_of_one_thing_only():
    """With a mix, `ce` is the gold labels' own, not a sum of two means over different rows."""
    values = of(ev.Step, until(Run(TINY.but(method="answers", mix=0.5)), 1))[0].values
    assert values["ce"] < 9, "an untrained student is at log(1024) = 6.9"


def test_live_signals_are_the_cached_ones_in_full_precision():
    cached, live = (until(Run(TINY.but(signals=s)), 3) for s in ("cached", "live"))
    assert losses(live) == pytest.approx(losses(cached), rel=1e-3)


# ---- micro-batches -------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_over_holds_its_student_and_no_optimiser():
    run = Run(TINY, exams=0)
    list(run)
    kept = [value for value in vars(run).values() if isinstance(value, torch.optim.Optimizer | Signals | assembly.Parts)]
    assert run.student is not None
    assert not kept


def test_a_position_takes_what_it_knows():
    assert checkpoint.Position.of({"step": 3, "of another version": 1}) == checkpoint.Position(step=3)


@pytest.mark.parametrize(
    "exp", [TINY, TINY.but(mix=0.5, temperature=2.0), TINY.but(method="answers", mix=0.5), TINY.but(method="gold")], ids=str
)
def test_micro_batches_change_nothing(exp: Experiment, monkeypatch: pytest.MonkeyPatch):
    def step_with(parts) -> tuple[dict, torch.Tensor]:
        caught = []

        class Watched(assembly.Accelerator):
            def clip_grad_norm_(self, parameters, *args):
                parameters = list(parameters)
                caught.append(torch.cat([p.grad.flatten().clone() for p in parameters]))
                return super().clip_grad_norm_(parameters, *args)

        with monkeypatch.context() as patch:
            patch.setattr("labkit.training.readers.split_by_length", lambda lengths, *_: parts(list(range(len(lengths)))))
            patch.setattr(assembly, "Accelerator", Watched)
            (step,) = of(ev.Step, until(Run(exp), 1))
        return step.values, caught[0]

    whole, gradient = step_with(lambda rows: [rows])
    for parts in (lambda r: [r[::2], r[1::2]], lambda r: [r[:3], r[3:]], lambda r: [r[-1:], r[:-1]], lambda r: [[i] for i in r]):
        values, other = step_with(parts)
        for name, value in whole.items():
            assert values[name] == pytest.approx(value, rel=1e-5), name
        torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-7)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=200), st.sampled_from(sorted(SIZES)))
def test_a_split_is_a_partition(lengths: list[int], size: str):
    layers = SIZES[size].layers
    for parameters in (20_000, 3_000_000, batches.LARGE):
        parts = split_by_length(lengths, parameters, layers)
        assert 1 <= len(parts) <= 2
        assert all(parts)
        assert sorted(itertools.chain(*parts)) == list(range(len(lengths)))
        if len(parts) == 2:
            assert max(lengths[i] for i in parts[0]) <= min(lengths[i] for i in parts[1])
            assert max(lengths[i] for i in parts[0]) < max(lengths)


# ---- order ---------------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 2**31), st.booleans(), st.lists(st.integers(0, 50), max_size=6))
def test_every_pass_asks_every_question_once(n: int, seed: int, growing: bool, counts: list[int]):
    order = Order(n, seed, growing=growing)
    taken: list[int] = []
    for count in counts:
        rows = order.take(len(taken), count)
        assert len(rows) == count
        taken += rows
    begun = 2 * n if growing else 0
    for start in range(begun, len(taken) - n + 1, n):
        assert sorted(taken[start : start + n]) == list(range(n))
    assert Order(n, seed, growing=growing).take(0, len(taken)) == taken, "however it is cut"
    assert Order(n, seed, growing=growing).take(len(taken) // 2, 5) == (taken + order.take(len(taken), 5 + n))[len(taken) // 2 :][:5]


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_a_growing_pass_takes_new_rows_in_order_and_seen_ones_between(n: int, seed: int):
    first = Order(n, seed, growing=True).take(0, 2 * n)
    assert first[::2] == list(range(n))
    assert all(again <= new for new, again in zip(first[::2], first[1::2], strict=True))


def test_orders_differ_by_seed_and_by_pass():
    passes = [Order(50, seed).take(50 * number, 50) for seed in range(3) for number in range(3)]
    assert len({tuple(p) for p in passes}) == 9


@given(st.integers(1, 5000))
def test_the_rate_warms_up_and_falls(steps: int):
    rates = [loop.schedule(s, steps) for s in range(1, steps + 1)]
    assert all(0 < r <= 1 for r in rates)
    peak = rates.index(max(rates))
    assert peak < 30
    assert all(a >= b for a, b in itertools.pairwise(rates[30:]))
    assert loop.schedule(10_000, 10_000) == pytest.approx(0.05, abs=1e-3)
    assert loop.schedule(30, 10**6) == pytest.approx(1, abs=1e-3)


# ---- the story -----------------------------------------------------------------------------------------------------------------


def test_the_story_of_a_run(home: Path):
    events = list(Run(TINY))
    kinds = [e.kind for e in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds[1] == "labelled"
    record = Record(events)
    assert record.complete
    assert record.experiment == TINY
    assert [s.step for s in record.steps] == list(range(1, 9))
    assert [s.questions_seen for s in record.steps] == [8 * k for k in range(1, 9)]
    assert [e.final for e in record.evaluations] == [False] * (len(record.evaluations) - 1) + [True]
    assert record.evaluations[-1].step == 8
    assert kinds.count("sampled") == kinds.count("probe") == kinds.count("evaluated")
    assert [r.name for r in of(ev.Reference, events)] == ["teacher"]
    assert tuple(record.skills) == SKILLS == record.started.skills
    assert record.started.teacher_parameters == models.parameters(models.teacher(TEACHER))
    assert record.started.steps == 8
    labelled = [e.done for e in of(ev.Labelled, events)]
    assert labelled == sorted(set(labelled))
    assert labelled[-1] <= of(ev.Labelled, events)[0].total
    assert record.finished.cost["questions"] == 64
    assert record.finished.cost["teacher_tokens"] > 0
    seconds = [e.seconds for e in events if hasattr(e, "seconds")]
    assert seconds == sorted(seconds)
    for event in events:
        assert ev.from_json(json.loads(ev.dumps(event))).kind == event.kind
    assert not list(home.rglob("runs")), "without a folder nothing is kept of the run"


def test_pauses_are_not_counted(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(now=0.0)

    def tick() -> float:
        clock.now += 0.001
        return clock.now

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=tick, process_time=tick))
    run = Run(TINY)
    for _ in until(run, 3):
        clock.now += 1_000.0  # no one is asking for the next event
    assert clock.now > 1_000
    assert run.seconds < 10


def test_while_it_goes_the_student_is_there_to_be_asked():
    run = Run(TINY)
    assert isinstance(next(run), ev.Started)
    first = models.fingerprint(run.student)
    assert first == models.fingerprint(models.student("22k", 0))
    until(run, 2)
    assert models.fingerprint(run.student) != first


def test_same_seed_same_result_other_seed_another():
    def result(seed: int) -> tuple[list[dict], str]:
        run = Run(TINY.but(seed=seed))
        return [r for r in plain(run) if r["event"] not in ("labelled", "finished")], models.fingerprint(run.student)

    first, again, other = result(0), result(0), result(1)
    assert first == again
    assert first[1] != other[1]
    assert losses_of(first[0]) != losses_of(other[0])


def losses_of(rows: list[dict]) -> list[float]:
    return [r["values"]["loss"] for r in rows if r["event"] == "step"]


def test_the_global_random_state_is_nobody_s_business():
    torch.manual_seed(1)
    first = losses(Run(TINY))
    torch.manual_seed(2)
    assert losses(Run(TINY)) == first


def test_references_on_record_are_told_and_give_a_recovery():
    baseline = TINY.baseline()
    Store().add(Record(Run(baseline)))
    record = Record(Run(TINY))
    assert set(record.references) == {"teacher", "label budget"}
    assert record.references["label budget"].skills == Store().find(baseline).skills
    assert record.recovery().baseline == "label budget"


def test_a_damaged_baseline_does_not_stop_another_run():
    path = Store().own / f"{TINY.baseline().key}.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    events = list(Run(TINY))
    assert events[-1].kind == "finished"


# ---- knobs ---------------------------------------------------------------------------------------------------------------------


def test_a_hot_knob_holds_from_the_next_step():
    still = losses(Run(TINY))
    run, events = Run(TINY), []
    for event in run:
        events.append(event)
        if isinstance(event, ev.Step) and event.step == 3:
            run.turn(temperature=3.0)
    (turned,) = of(ev.KnobTurned, events)
    assert (turned.step, turned.name, turned.old, turned.new) == (4, "temperature", 1.0, 3.0)
    after = events[events.index(turned) + 1 :]
    assert of(ev.Step, after)[0].step == 4
    assert not of(ev.Step, events[: events.index(turned)])[3:]
    found = losses(events)
    assert found[:3] == still[:3]
    assert found[3] != pytest.approx(still[3], rel=1e-3)
    fourth = of(ev.Step, events)[3].values
    assert fourth["kl"] == pytest.approx(still[3], rel=1e-6), "the student is the same, only the loss has changed"


def test_a_knob_turned_before_the_run_and_one_turned_back():
    run = Run(TINY)
    run.turn(learning_rate=1e-3)
    events = until(run, 2)
    assert [(e.step, e.old, e.new) for e in of(ev.KnobTurned, events)] == [(1, TINY.learning_rate, 1e-3)]
    assert of(ev.Step, events)[0].values["lr"] == pytest.approx(1e-3 / 30)
    run.turn(mix=0.5), run.turn(mix=0.0)
    assert not of(ev.KnobTurned, until(run, 3))


def test_mix_may_be_turned_all_the_way():
    run = Run(TINY)
    seen = []
    for mix in (0.0, 0.5, 1.0, 0.0):
        run.turn(mix=mix)
        seen.append(of(ev.Step, until(run, len(seen) + 1))[-1].values)
    assert all(math.isfinite(v["loss"]) for v in seen)
    assert "ce" not in seen[0]
    assert "ce" in seen[1]
    assert "ce" in seen[2]


def test_speed_is_not_worth_an_event():
    run = Run(TINY)
    run.turn(speed="slow")
    assert not of(ev.KnobTurned, until(run, 2))


@pytest.mark.parametrize(("name", "value"), [("student", "57k"), ("steps", 9), ("seed", 1), ("gold", 5), ("method", "gold")])
def test_a_cold_knob_is_refused_in_a_sentence(name: str, value: object):
    run = Run(TINY)
    with pytest.raises(LabError) as caught:
        run.turn(**{name: value})
    assert f"{name} cannot change during a run" in str(caught.value)
    assert f"{name}={value!r}" in str(caught.value)


def test_bad_values_and_names_change_nothing():
    run = Run(TINY)
    before = dict(run.knobs)
    for bad in ({"temperature": 99}, {"mix": -1}, {"temprature": 2}, {"mix": 0.5, "temperature": "hot"}):
        with pytest.raises(LabError):
            run.turn(**bad)
    assert run.knobs == before


# ---- stopping ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 3, 7])
def test_stop_ends_in_order_with_a_last_exam(step: int):
    run = Run(TINY)
    until(run, step)
    run.stop()
    rest = list(run)
    assert not of(ev.Step, rest)
    assert of(ev.Evaluated, rest)[-1].final
    assert of(ev.Evaluated, rest)[-1].step == step
    assert isinstance(rest[-1], ev.Finished)
    assert (rest[-1].reason, rest[-1].step) == ("stopped", step)
    assert not run.student.training


def test_stop_before_the_first_step():
    run = Run(TINY)
    run.stop()
    events = list(run)
    assert isinstance(events[-1], ev.Finished)
    assert (events[-1].reason, events[-1].step) == ("stopped", 0)
    assert not of(ev.Step, events)


# ---- kills ---------------------------------------------------------------------------------------------------------------------


def told_alike(events) -> list[dict]:
    """What must be the same with a kill and without: not the notice of it, nor how often the cache was looked into."""
    rows = [r for r in plain(events) if r["event"] != "labelled" and not (r["event"] == "warned" and "cut off" in r["message"])]
    for row in rows:
        row.pop("cost", None)
    return rows


@pytest.mark.parametrize(("killed_at", "from_step"), [(4, 3), (6, 3), (7, 6), (8, 6)])
@pytest.mark.parametrize("exp", [TINY.but(mix=0.5), TINY.but(method="gold", teacher="none")], ids=["output", "gold"])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path, exp: Experiment, killed_at: int, from_step: int):
    whole = Run(exp, tmp_path / "whole", EVERY)
    wanted = list(whole)
    before = killed(Run(exp, tmp_path / "killed", EVERY), killed_at)
    assert of(ev.Step, before)
    again = Run(exp, tmp_path / "killed", EVERY)
    events = list(again)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert told_alike(events) == told_alike(wanted)
    (notice,) = of(ev.Warned, events)
    assert str(from_step) in notice.message
    assert notice.step == from_step
    assert [e.step for e in of(ev.Step, events)] == list(range(1, 9)), "what was told before is told again, once"
    logged = list(read_events(tmp_path / "killed" / "events.jsonl"))
    assert plain(logged) == plain(events)


def test_killed_twice(tmp_path: Path):
    whole = Run(TINY)
    wanted = list(whole)
    killed(Run(TINY, tmp_path, EVERY), 5)
    killed(Run(TINY, tmp_path, EVERY), 7)
    again = Run(TINY, tmp_path, EVERY)
    events = list(again)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert told_alike(events) == told_alike(wanted)


def test_a_killed_run_goes_on_with_the_threads_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Other threads add in another order, and so give other last bits."""
    before = torch.get_num_threads()
    given, seen, step = iter((before + 1, before)), list[int](), loop.gradients
    monkeypatch.setattr(loop, "threads_of_a_run", lambda most: contextlib.nullcontext(Share(next(given))))
    killed(Run(TINY, tmp_path, EVERY), 5)
    monkeypatch.setattr(loop, "gradients", lambda *args, **given: seen.append(torch.get_num_threads()) or step(*args, **given))
    list(Run(TINY, tmp_path, EVERY))
    assert set(seen) == {before + 1} and torch.get_num_threads() == before


def test_a_run_leaves_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(loop, "threads_of_a_run", lambda most: contextlib.nullcontext(Share(most + 1)))
    (started,) = of(ev.Started, list(Run(TINY.but(steps=1))))
    assert f"{before + 1} threads" in started.machine
    assert torch.get_num_threads() == before


def test_a_starved_run_says_so_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop.Watch, "AFTER", 0.0)
    monkeypatch.setattr(loop.Watch, "STARVED", 1000.0)
    (warned,) = of(ev.Warned, list(Run(TINY)))
    assert warned.message.startswith("Other programs take the processors: this run had ")
    monkeypatch.setattr(loop.Watch, "STARVED", 0.0)
    assert not of(ev.Warned, list(Run(TINY)))


@pytest.mark.parametrize(("threads", "offers"), [(2, True), (1, False)])
def test_a_starved_run_of_several_threads_offers_to_go_on_with_one(monkeypatch: pytest.MonkeyPatch, threads: int, offers: bool):
    monkeypatch.setattr(loop.Watch, "AFTER", 0.0)
    monkeypatch.setattr(loop.Watch, "STARVED", 1000.0)
    monkeypatch.setattr(loop, "threads_of_a_run", lambda most: contextlib.nullcontext(Share(threads)))
    (warned,) = of(ev.Warned, list(Run(TINY)))
    assert warned.offer == ("threads=1" if offers else "")
    assert ("one thread" in warned.message) is offers, "advice that changes nothing is not given"
    assert "kernel" not in warned.message, "the run may be a command's"


def test_a_run_goes_on_with_fewer_threads_and_so_does_one_that_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen, step, before = list[int](), loop.gradients, torch.get_num_threads()
    monkeypatch.setattr(loop, "threads_of_a_run", lambda most: contextlib.nullcontext(Share(2)))
    monkeypatch.setattr(loop, "gradients", lambda *args, **given: seen.append(torch.get_num_threads()) or step(*args, **given))
    run = Run(TINY, tmp_path, EVERY)
    until(run, 2)
    run.turn(threads=1)
    told = killed(run, 7)
    (turned,) = of(ev.KnobTurned, told)
    assert (turned.step, turned.name, turned.old, turned.new) == (3, "threads", 2, 1)
    events = list(Run(TINY, tmp_path, EVERY))
    assert seen == [2, 2, 1, 1, 1, 1, 1, 1, 1], "step 7 twice"
    assert plain(of(ev.KnobTurned, events)) == plain([turned])
    assert torch.get_num_threads() == before


def test_a_run_that_went_on_with_fewer_threads_stands_for_its_recipe(monkeypatch: pytest.MonkeyPatch):
    """Threads are no part of it, unlike a knob."""
    monkeypatch.setattr(loop, "threads_of_a_run", lambda most: contextlib.nullcontext(Share(2)))
    torch.set_num_threads(2)
    try:
        run = Run(TINY)
        run.turn(threads=1)
    finally:
        torch.set_num_threads(1)
    made = Record(run)
    assert [(e.step, e.name) for e in of(ev.KnobTurned, made.events)] == [(1, "threads")]
    Store().add(made)
    assert Store().find(TINY) is not None


@pytest.mark.parametrize("threads", [0, -1, 3, 1.0, True, "1", None])
def test_a_run_takes_no_more_threads_than_it_has(monkeypatch: pytest.MonkeyPatch, threads: object):
    monkeypatch.setattr(loop, "threads_of_a_run", lambda most: contextlib.nullcontext(Share(2)))
    run = Run(TINY)
    until(run, 1)
    with pytest.raises(LabError, match=f"threads={threads!r} must be a whole number from 1 to 2"):
        run.turn(threads=threads)
    assert not of(ev.KnobTurned, until(run, 2))


def test_killed_before_its_first_checkpoint_a_run_begins_again_with_a_clean_log(tmp_path: Path):
    wanted = list(Run(TINY))
    killed(Run(TINY, tmp_path, EVERY), 2)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event":"step","st')
    killed(Run(TINY, tmp_path, EVERY), 5)
    events = list(Run(TINY, tmp_path, EVERY))
    assert told_alike(events) == told_alike(wanted)
    assert len(of(ev.Started, read_events(tmp_path / "events.jsonl"))) == 1


def test_killed_after_its_last_step(tmp_path: Path):
    wanted = list(Run(TINY))
    run = Run(TINY, tmp_path, checkpoint_every=4)
    for event in run:
        if isinstance(event, ev.Finished):
            break  # the last checkpoint is there, and nobody took the record away
    run.folder._lock.release()
    again = list(Run(TINY, tmp_path, checkpoint_every=4))
    assert told_alike(again) == told_alike(wanted)


def test_stopped_at_a_checkpoint_and_taken_up_again(tmp_path: Path):
    whole = Run(TINY)
    wanted = list(whole)
    run = Run(TINY, tmp_path, EVERY)
    until(run, 3)
    run.stop()
    list(run)
    again = Run(TINY, tmp_path, EVERY)
    events = list(again)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert len(of(ev.Finished, events)) == 1
    assert [e.final for e in of(ev.Evaluated, events)].count(True) == 1
    assert losses(events) == pytest.approx(losses(wanted), rel=1e-5)


def test_a_knob_turned_before_the_kill_stays_turned(tmp_path: Path):
    def turned_at_two(run: Run, last: int) -> list[ev.Event]:
        until(run, 2)
        run.turn(temperature=4.0, learning_rate=2e-3, mix=0.5)
        return killed(run, last) if last < 8 else list(run)

    whole = Run(TINY)
    wanted = turned_at_two(whole, 8)
    turned_at_two(Run(TINY, tmp_path, EVERY), 5)
    again = Run(TINY, tmp_path, EVERY)
    events = list(again)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert told_alike(events)[-len(told_alike(wanted)) :] == told_alike(wanted)
    assert {(e.step, e.name) for e in of(ev.KnobTurned, events)} == {(3, "temperature"), (3, "learning_rate"), (3, "mix")}


def first_lines(count: int):
    return lambda data: b"".join(data.splitlines(keepends=True)[:count])


@pytest.mark.parametrize(
    "damage",
    [
        None,
        first_lines(0),
        first_lines(4),
        lambda data: data.replace(b'"loss"', b'"lors"', 1),
        lambda data: bytes([data[0] ^ 1]) + data[1:],
    ],
    ids=["gone", "empty", "cut", "a key", "a bit"],
)
def test_a_run_whose_log_has_a_hole_begins_anew(tmp_path: Path, damage):
    whole = Run(TINY)
    wanted = list(whole)
    killed(Run(TINY, tmp_path, EVERY), 5)
    log = tmp_path / "events.jsonl"
    log.unlink() if damage is None else log.write_bytes(damage(log.read_bytes()))
    again = Run(TINY, tmp_path, EVERY)
    events = list(again)
    (notice,) = of(ev.Warned, events)
    assert "events.jsonl has lost or changed lines since the checkpoint at step 3" in notice.message
    assert told_alike([e for e in events if e is not notice]) == told_alike(wanted)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert plain(list(read_events(log))) == plain(events)


def test_what_is_lost_behind_the_checkpoint_is_made_again(tmp_path: Path):
    wanted = list(Run(TINY))
    killed(Run(TINY, tmp_path, EVERY), 5)
    log = tmp_path / "events.jsonl"
    log.write_bytes(log.read_bytes()[:-30] + b"\0" * 30)  # as some file systems fill what a power cut took
    events = list(Run(TINY, tmp_path, EVERY))
    assert "goes on from step 3" in of(ev.Warned, events)[0].message
    assert told_alike(events) == told_alike(wanted)


def test_a_second_run_in_the_same_folder_keeps_out_of_it(tmp_path: Path):
    first, second = Run(TINY, tmp_path, EVERY), Run(TINY, tmp_path, EVERY)
    until(first, 4)
    events = list(second)
    (notice,) = of(ev.Warned, events)
    assert "run elsewhere" in notice.message
    assert of(ev.Finished, events)[0].reason == "completed"
    rest = list(first)
    assert of(ev.Finished, rest)
    logged = list(read_events(tmp_path / "events.jsonl"))
    assert [e.step for e in of(ev.Step, logged)] == list(range(1, 9)), "the log is the first run's own"


def test_a_run_with_turned_knobs_is_not_gone_on_from_under_its_recipe():
    recipe = TINY.but(steps=60)
    run = runs.begin(recipe)
    until(run, 2)
    run.turn(temperature=4.0)
    killed(run, 30)  # past a checkpoint
    again = runs.begin(recipe)
    events = until(again, 3)
    assert not of(ev.Warned, events)
    assert [e.step for e in of(ev.Step, events)] == [1, 2, 3]
    assert again.knobs["temperature"] == TINY.temperature


def test_a_killed_run_is_gone_on_from_under_its_recipe():
    recipe = TINY.but(steps=60)
    killed(runs.begin(recipe), 30)
    events = until(runs.begin(recipe), 31)
    assert of(ev.Warned, events)[0].step == 25


def test_after_an_explosion_the_next_run_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = Run(TINY, tmp_path, EVERY)
    until(run, 4)
    monkeypatch.setattr(loop, "EXPLODED", 0.0)
    assert of(ev.Failed, list(run))
    monkeypatch.setattr(loop, "EXPLODED", 20.0)
    assert [e.step for e in of(ev.Step, killed(Run(TINY, tmp_path, EVERY), 2))] == [1, 2]


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError("no space left"), "free space"), (RuntimeError("out of memory"), "smaller student"), (RuntimeError("boom"), "report")],
)
def test_record_turns_every_failure_into_a_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str):
    def broken(*args, **kwargs):
        raise error

    monkeypatch.setattr(setup, "Exam", broken)
    with pytest.raises(LabError, match=words) as caught:
        runs.record(TINY)
    assert str(error) in str(caught.value)
    assert caught.value.__cause__ is error


def test_an_error_of_the_watcher_is_the_watcher_s():
    def watch(event: ev.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runs.record(TINY, watch=watch)


def test_a_fetched_record_gets_the_baselines_measured_since():
    with pytest.raises(LabError, match="label budget"):
        runs.record(TINY).recovery()
    runs.record(TINY.baseline())
    assert runs.record(TINY).recovery().baseline == "label budget"


def test_divergences_and_tails_are_trained_with_as_recipes_say():
    """The first loss of each, against the divergence taken of the same logits by hand."""
    run = Run(TINY)
    until(run, 1)
    tokens, mask, _ = batches.first_batch(TINY)
    teacher, fresh = models.teacher(TEACHER), models.student(TINY.student, TINY.seed)
    with torch.no_grad():
        p, q = (m(tokens).logits[mask] for m in (teacher, fresh))
    for name in DIVERGENCES:
        for t in (1.0, 2.0):
            entry = divergence(name)
            told = of(ev.Step, until(Run(TINY.but(divergence=name, temperature=t, signals="live")), 1))[0]
            assert told.values["loss"] == pytest.approx(float(entry(p, q, t).mean()) * t**entry.temperature_power, rel=1e-5)
    for tail in TAILS:
        told = of(ev.Step, until(Run(TINY.but(top_k=5, tail=tail, signals="live")), 1))[0]
        assert told.values["loss"] == pytest.approx(float(top_k(divergence("forward_kl"), p, q, 5, tail).mean()), rel=1e-4, abs=1e-6)
    drawn = [losses(until(Run(TINY.but(top_k=50, tail="sampled", seed=s, signals="live")), 1))[0] for s in (0, 0)]
    assert drawn[0] == drawn[1], "drawn by the seed"
    assert drawn[0] == pytest.approx(float(divergence("forward_kl")(p, q).mean()), rel=0.3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"divergence": "logit_mse", "top_k": 5}, "needs the whole vocabulary"),
        ({"divergence": "jsd", "top_k": 5, "tail": "sampled"}, "estimates forward KL"),
    ],
)
def test_losses_that_make_no_sense_are_refused_before_anything_is_loaded(changes: dict, words: str):
    events, _ = to_its_error(Run(TINY.but(**changes)), LabError, words)
    assert [e.kind for e in events] == ["failed"]


def test_a_resumed_run_keeps_count_of_what_it_cost(tmp_path: Path):
    killed(Run(TINY, tmp_path, EVERY), 5)
    spent = Signals(models.teacher(TEACHER), Atlas("half").questions(128, 7))
    (finished,) = of(ev.Finished, Run(TINY, tmp_path, EVERY))
    assert finished.cost["questions"] == 64
    assert spent.folder.exists()
    assert finished.cost["teacher_tokens"] > 0, "the teacher was paid before the kill, not never"


@pytest.mark.parametrize("exp", [TINY, TINY.but(signals="live")])
def test_a_run_that_was_killed_before_its_first_checkpoint_keeps_count_of_what_its_teacher_read(tmp_path: Path, exp: Experiment):
    whole = list(Run(exp, tmp_path / "whole"))[-1]
    shutil.rmtree(made_here("x").parent.parent / "signals")
    killed(Run(exp, tmp_path / "killed"), 1)
    killed(Run(exp, tmp_path / "killed"), 2)
    assert list(Run(exp, tmp_path / "killed"))[-1].cost["teacher_tokens"] == whole.cost["teacher_tokens"] > 0


@pytest.mark.parametrize("exp", [TINY, TINY.but(signals="live")])
def test_a_run_that_was_killed_after_a_checkpoint_keeps_count_of_what_its_teacher_read(tmp_path: Path, exp: Experiment):
    whole = list(Run(exp, tmp_path / "whole", EVERY))[-1]
    shutil.rmtree(made_here("x").parent.parent / "signals")
    killed(Run(exp, tmp_path / "killed", EVERY), 5)
    assert list(Run(exp, tmp_path / "killed", EVERY))[-1].cost["teacher_tokens"] >= whole.cost["teacher_tokens"] > 0


def test_a_checkpoint_of_an_older_version_is_gone_on_from(tmp_path: Path):
    """It has no hash of its log."""
    whole = Run(TINY, tmp_path / "whole", EVERY)
    wanted = list(whole)
    killed(Run(TINY, tmp_path / "old", EVERY), 5)
    file = tmp_path / "old" / "checkpoint.safetensors"
    kept, note = tensors.load(file)
    tensors.save(file, kept, {name: text for name, text in note.items() if name != "log"})
    again = Run(TINY, tmp_path / "old", EVERY)
    events = list(again)
    assert [warned.message for warned in of(ev.Warned, events)] == ["This run was cut off; it goes on from step 3."]
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert told_alike(events) == told_alike(wanted)


def test_a_real_kill(tmp_path: Path, home: Path, quick: Path):
    """SIGKILL, sent by the process to itself in the middle of step 6, between one event and the next."""
    code = f"""
import os, signal
from pathlib import Path
import torch
torch.set_num_threads(1)
from labkit.base.settings import Settings
from labkit.training import assembly, batches, loop
from labkit.records.experiment import Experiment
step = 0
draw = batches.BatchSampler.draw
def die(*args):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(*args)
batches.BatchSampler.draw = die
for event in loop.Run(Experiment.from_recipe({TINY.recipe!r}), Path({str(tmp_path)!r}), {EVERY}, settings={default()!r}):
    step = getattr(event, "step", step)
print("not killed")
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LABKIT_HOME": str(home), "LABKIT_DATA": str(quick)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [e.step for e in of(ev.Step, read_events(tmp_path / "events.jsonl"))] == [1, 2, 3, 4, 5], "nothing that was shown is lost"
    whole, again = Run(TINY), Run(TINY, tmp_path, EVERY)
    wanted, events = list(whole), list(again)
    assert told_alike(events) == told_alike(wanted)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert {p.name for p in tmp_path.iterdir()} - {"lock"} == {"events.jsonl", "checkpoint.safetensors", "teacher_tokens"}


def test_a_kill_while_the_checkpoint_is_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = Run(TINY)
    list(whole)
    save_file, calls = tensors.save_file, []

    def half(kept, to, note):
        calls.append(to)
        if len(calls) == 2:
            Path(to).write_bytes(b"half a che")
            raise KeyboardInterrupt
        save_file(kept, to, note)

    monkeypatch.setattr(tensors, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        list(Run(TINY, tmp_path, EVERY))
    again = Run(TINY, tmp_path, EVERY)
    list(again)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)


# ---- damage --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "empty", "text", "bit", "number", "position"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, how: str):
    killed(Run(TINY, tmp_path, EVERY), 5)
    path = tmp_path / "checkpoint.safetensors"
    raw = bytearray(path.read_bytes())
    match how:
        case "cut":
            raw = raw[: len(raw) // 2]
        case "empty":
            raw = bytearray()
        case "text":
            raw = bytearray(b"no tensors here")
        case "bit":  # in the header
            raw[20] ^= 0xFF
        case "number":  # in a weight
            raw[-3] ^= 0x40
        case "position":  # in the header, where it is still JSON
            where = raw.index(b'{\\"step\\": 3') + len(b'{\\"step\\": ')
            raw[where] ^= 4
    path.write_bytes(raw)
    events, error = to_its_error(Run(TINY, tmp_path, EVERY), DataError)
    assert str(path) in str(error)
    assert "Delete" in str(error)
    assert isinstance(events[-1], ev.Failed)
    assert events[-1].message == str(error)
    assert events[-1].advice


@pytest.mark.parametrize("other", [TINY.but(seed=5), TINY.but(student="57k"), TINY.but(method="gold")], ids=["seed", "student", "method"])
def test_another_recipe_s_checkpoint_is_refused_and_left_alone(tmp_path: Path, other: Experiment):
    killed(Run(TINY, tmp_path, EVERY), 5)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(DataError, match="another recipe") as caught:
        list(Run(other, tmp_path, EVERY))
    assert TINY.recipe in str(caught.value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("file", "error"),
    [
        ("checkpoint.safetensors", OSError(28, "No space left on device")),
        ("checkpoint.safetensors", SafetensorError("I/O error: No space left on device (os error 28)")),
        ("events.jsonl", OSError(28, "No space left on device")),
    ],
)
def test_a_disk_that_is_full_is_said_in_words(file: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_) -> None:
        raise error

    real = Path.open
    if file == "events.jsonl":
        log = SimpleNamespace(write=len, flush=full, close=full)  # a file tries again to write when it is closed
        monkeypatch.setattr(Path, "open", lambda self, *how, **more: log if self.name == file else real(self, *how, **more))
    else:
        save = tensors.save_file
        monkeypatch.setattr(tensors, "save_file", lambda kept, to, note: full() if file in to.name else save(kept, to, note))
    events, _ = to_its_error(Run(TINY, tmp_path, EVERY), OSError, "No space")
    assert isinstance(events[-1], ev.Failed)
    assert events[-1].message.startswith(f"{tmp_path / file} cannot be written (") and "No space left" in events[-1].message
    assert "free some space" in events[-1].message and "checkpoint" not in events[-1].advice


@pytest.mark.parametrize(
    "error",
    [SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), Exception("no space (os error 28)")],
)
def test_a_full_disk_is_no_fault_of_the_lab(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise error

    monkeypatch.setattr(checkpoint.Folder, "save", full)
    events, _ = to_its_error(Run(TINY, tmp_path, checkpoint_every=EVERY), type(error))
    assert events[-1].message == f"a file cannot be read or written ({error})"
    assert "free space" in events[-1].advice and "fault of the lab" not in events[-1].advice
    assert "if there was one" in events[-1].advice


# ---- faults --------------------------------------------------------------------------------------------------------------------


def spoil(model) -> None:
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan


def finite(model) -> bool:
    return all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("step", [3, 5, 7])
def test_a_nan_ends_the_run_with_the_last_good_student(tmp_path: Path, step: int):
    run = Run(TINY, tmp_path, checkpoint_every=2)
    until(run, step)
    spoil(run.student)
    rest = list(run)
    failed = rest[-1]
    assert isinstance(failed, ev.Failed)
    assert failed.step == step + 1
    assert "nan" in failed.message
    assert "learning rate" in failed.advice.lower()
    assert not of(ev.Step, rest)
    assert finite(run.student)
    wanted = Run(TINY)
    until(wanted, step - 1)  # the last checkpoint before the damage
    assert models.fingerprint(run.student) == models.fingerprint(wanted.student)


def test_a_nan_right_after_a_resume(tmp_path: Path):
    killed(Run(TINY, tmp_path, EVERY), 4)
    run = Run(TINY, tmp_path, EVERY)
    for event in run:
        if isinstance(event, ev.Warned):
            break
    spoil(run.student)
    assert isinstance(list(run)[-1], ev.Failed)
    assert finite(run.student)


def test_an_exploding_loss_ends_the_run():
    run = Run(TINY)
    until(run, 3)
    with torch.no_grad():
        run.student.model.norm.weight *= 1e4
    failed = list(run)[-1]
    assert isinstance(failed, ev.Failed)
    assert "loss became" in failed.message
    assert finite(run.student)
    assert run.student.model.norm.weight.abs().max() < 10


def test_an_unexpected_error_is_told_and_raised_again(monkeypatch: pytest.MonkeyPatch):
    def broken(*args, **kwargs):
        raise RuntimeError("boom")

    monkeypatch.setattr(setup, "Exam", broken)
    run = Run(TINY)
    events, _ = to_its_error(run, RuntimeError, "boom")
    assert isinstance(events[-1], ev.Failed)
    assert events[-1].message == "RuntimeError: boom"
    assert events[-1].step == of(ev.Step, events)[-1].step
    assert "report" in events[-1].advice
    assert list(run) == [], "and then there is no more"


def test_out_of_memory_has_advice_of_its_own(monkeypatch: pytest.MonkeyPatch):
    def broken(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: out of memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(setup, "Exam", broken)
    events, _ = to_its_error(Run(TINY), RuntimeError)
    assert "smaller student" in events[-1].advice


@pytest.mark.parametrize("method", ["output", "answers"])
def test_a_method_that_needs_a_teacher_says_so(method: str):
    events, _ = to_its_error(Run(TINY.but(method=method, teacher="none")), LabError, "needs a teacher")
    assert [e.kind for e in events] == ["failed"]


def test_a_damaged_signal_chunk_is_mended_and_told():
    first = list(Run(TINY))
    folder = Signals(models.teacher(TEACHER), Atlas("half").questions(128, 7)).folder
    (folder / "00000.safetensors").write_bytes(b"damaged")
    again = list(Run(TINY))
    assert losses(again) == losses(first)
    assert any("00000.safetensors" in e.message for e in of(ev.Warned, again)), "a learner should know"


# ---- warm starts ---------------------------------------------------------------------------------------------------------------

WARM = TINY.but(start="warm")


def test_a_warm_start_is_used_and_shared(home: Path):
    from safetensors.torch import load_file

    steps = [e.values for e in of(ev.Step, until(Run(WARM), 3))]
    (path,) = made_here("starts").iterdir()
    wanted, _ = by_hand(WARM, 3, start=load_file(path))
    assert [s["loss"] for s in steps] == pytest.approx([w["loss"] for w in wanted], rel=1e-5)
    assert steps[0]["loss"] != pytest.approx(by_hand(TINY, 1)[0][0]["loss"], rel=1e-3)
    kept = path.read_bytes()
    events = until(Run(WARM.but(method="answers", temperature=1.0, gold=7)), 1)
    assert not of(ev.Warned, events), "made once"
    assert [p.read_bytes() for p in made_here("starts").iterdir()] == [kept]
    until(Run(WARM.but(seed=1)), 1)
    assert len(list(made_here("starts").iterdir())) == 2, "each seed has its own"


def test_a_warm_start_is_plain_hard_label_training(home: Path):
    from safetensors.torch import load_file

    until(Run(WARM), 1)
    recipe = WARM.baseline().but(start="random", gold=50, steps=6, teacher="none")
    _, student = by_hand(recipe, 6)
    (path,) = made_here("starts").iterdir()
    for name, tensor in load_file(path).items():
        torch.testing.assert_close(tensor, student.get_parameter(name).detach(), rtol=0, atol=1e-5)


def test_labels_at_fault_do_not_reach_the_warm_start(home: Path):
    until(Run(WARM.but(gold_noise=0.5, falsehoods=0.5)), 1)
    until(Run(WARM), 1)
    assert len(list(made_here("starts").iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"damaged", None])
def test_a_damaged_warm_start_is_named(home: Path, damage: bytes | None):
    until(Run(WARM), 1)
    (path,) = made_here("starts").iterdir()
    path.write_bytes(path.read_bytes()[:-50] if damage is None else damage)
    with pytest.raises(DataError, match="starts") as caught:
        list(Run(WARM))
    assert str(path) in str(caught.value)
    assert "Delete" in str(caught.value)


def test_the_warm_start_of_another_recipe_is_named(home: Path):
    list(Run(WARM))
    list(Run(WARM.but(seed=1)))
    one, other = home.rglob("starts/*.safetensors")
    one.write_bytes(other.read_bytes())
    with pytest.raises(LabError, match="it is of the recipe") as caught:
        list(Run(WARM)), list(Run(WARM.but(seed=1)))
    assert str(one) in str(caught.value)


def test_a_warm_run_that_was_killed_goes_on_to_the_same_result(tmp_path: Path):
    whole = Run(WARM)
    list(whole)
    killed(Run(WARM, tmp_path, EVERY), 5)
    again = Run(WARM, tmp_path, EVERY)
    list(again)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)


# ---- the front door ------------------------------------------------------------------------------------------------------------


def test_run_takes_changes():
    run = loop.run(TINY, steps=2, student="57k")
    assert run.experiment == TINY.but(steps=2, student="57k")
    assert Counter(e.kind for e in run)["step"] == 2


def test_the_first_batch_is_the_first_step_s():
    tokens, mask, labels = batches.first_batch(TINY)
    assert tokens.shape == mask.shape
    assert tokens.shape[0] == 8
    assert int(mask.sum()) == len(labels)
    student = models.student(TINY.student, TINY.seed)
    by_answers = F.cross_entropy(student(tokens).logits[mask], labels)
    step = of(ev.Step, until(Run(TINY.but(method="answers")), 1))[0]
    assert float(by_answers.detach()) == pytest.approx(step.values["loss"], rel=1e-5)


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_seeds_of_runs_before_the_run_go_on_from_0_behind_the_last(seed: int):
    stranger, warm = made_teacher_recipe(TINY.but(teacher="stranger", seed=seed)), warm_recipe(TINY.but(seed=seed), seed + loop.PEER)
    assert stranger.seed == (seed + 2_000_000) % 2**31
    assert warm.seed == (seed + loop.PEER) % 2**31
