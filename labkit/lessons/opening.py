"""Opening a lesson: one run in a kernel, and a recipe that this machine can run in the lesson's time."""

from __future__ import annotations

import os

from labkit.lessons.lab import Lab
from labkit.lessons.types import Lesson
from labkit.records.experiment import Experiment

_latest: Lab | None = None  # what was opened last


def opened(lesson: Lesson, board: str = "auto") -> Lab:
    """The lab of a lesson. If its own run goes on, it is the lab of that run. Another run is stopped: there is one run in a kernel."""
    global _latest
    before = _latest if _latest and _latest.session and not _latest.session.over else None
    if before and (before.lesson, before.kind) == (lesson, board):
        return before
    if before:
        before.stop()
    _latest = Lab(lesson, board)
    return _latest


def affordable(experiment: Experiment) -> Experiment:
    """The experiment with fewer steps on one core, so that it takes about the lesson's time."""
    if os.environ.get("LABKIT_QUICK"):
        return experiment.but(steps=min(experiment.steps, 40), questions=min(experiment.questions, 2_000))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return experiment if cores > 1 else experiment.but(steps=max(1, experiment.steps // 2))
