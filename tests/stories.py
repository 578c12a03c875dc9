"""Runs told by hand, with realistic numbers, for tests that need a record and no training."""

from __future__ import annotations

import math
import random
import types
from collections.abc import Mapping
from typing import Any

from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import SKILLS
from labkit.records.record import Record

TEACHER = dict(zip(SKILLS, (0.98, 0.95, 0.97, 1.0, 0.91, 0.45, 0.88, 1.0, 1.0, 0.95), strict=True))
STUDENT = dict(zip(SKILLS, (0.71, 0.42, 0.78, 0.63, 0.66, 0.40, 0.35, 0.58, 0.21, 0.80), strict=True))
GOLD = dict(zip(SKILLS, (0.22, 0.05, 0.46, 0.12, 0.31, 0.43, 0.10, 0.08, 0.03, 0.72), strict=True))
HARD = dict(zip(SKILLS, (0.66, 0.40, 0.74, 0.60, 0.55, 0.38, 0.33, 0.51, 0.18, 0.78), strict=True))


def events(
    steps: int = 700,
    *,
    gold: Mapping[str, float] | None = GOLD,
    hard: Mapping[str, float] | None = None,
    teacher: Mapping[str, float] | None = TEACHER,
    student: Mapping[str, float] | None = STUDENT,
    seeds: int = 1,
    end: bool = True,
    title: str = "",
    noise: int = 0,
    **changes,
) -> list[ev.Event]:
    """The story of one run. Its KL falls from about 6.9 to 0.35 nats; references that are None were not measured."""
    exp = Experiment(steps=steps, **changes)
    rng = random.Random(noise)
    story: list[ev.Event] = [
        ev.Started(
            exp.to_dict(),
            title or f"{exp.student} student of {exp.teacher}",
            2_900_000,
            200_000,
            steps,
            20_000,
            (exp.score,) if exp.data else SKILLS,
            "2 cores",
        )
    ]
    if teacher:
        story.append(ev.Reference("teacher", teacher, recipe=exp.teacher))
    for name, scores, floor in (("label budget", gold, 1.3), ("same questions", hard, 0.47)):
        if scores:
            points = [round(steps * share) for share in (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)]
            curve = tuple((s, floor + 5.6 * math.exp(-9 * s / steps)) for s in points)
            story.append(ev.Reference(name, scores, curve, exp.baseline(name).recipe, seeds))
    exams = {round(steps * share) for share in (0.05, 0.25, 0.5, 0.75, 1.0)}
    for step in range(1, steps + 1):
        kl = (0.33 + 6.5 * math.exp(-8 * step / steps)) * math.exp(rng.gauss(0, 0.08))
        values = {"loss": kl, "kl": kl, "lr": 6e-3, "grad_norm": 1.0}
        story.append(ev.Step(step, step * 0.06, step * 128, values))
        if step in exams and student:
            share = min(1.0, step / steps * 1.4)
            scores = {k: v if step == steps else round(v * share, 4) for k, v in student.items()}
            fidelity = {"kl": 0.37 + 6.4 * math.exp(-8 * step / steps), "agreement": 0.5 + 0.4 * share}
            story.append(ev.Evaluated(step, step * 0.06, scores, fidelity, {"validity": 0.7, "coverage": 0.4}, 0.1, {}, step == steps))
    if end:
        story.append(ev.Finished(steps, steps * 0.06, "completed"))
    return story


def record(*args, **kwargs) -> Record:
    return Record(events(*args, **kwargs))


def distilled(n: int, *, untouched: float, distilled: float, gold: float | None = None, teacher: float | None = 1.0, kl=(6.9, 4.0)) -> Any:
    """A result whose models are right on these shares of `n` prompts, each on the first ones.

    kl: of the student before and after, held out; () for none.
    """
    from labkit.studies.distill import Distilled  # with torch, which the other stories do not need
    from labkit.tasks.custom.rows import Row
    from labkit.tasks.metrics import metric

    rows = [Row(f"prompt {i}", "right", i) for i in range(n)]
    shares = {"untouched": untouched, "gold labels": gold, "distilled": distilled, "teacher": teacher}
    scores, grades = {}, {}
    for name, share in shares.items():
        if share is not None:
            answers = ["right" if i < round(share * n) else "wrong" for i in range(n)]
            scores[name] = metric("exact")(answers, rows)
            fidelity = {"kl": {"untouched": kl[0], "teacher": 0.0}.get(name, kl[1])} if kl else {}
            grades[name] = types.SimpleNamespace(fidelity=fidelity, answers=answers)
    told = record(60, data="mine.jsonl", teacher={"exact": teacher or 0.0}, gold=None, student={"exact": distilled})
    return Distilled(told.experiment, told, grades, scores, None, {})
