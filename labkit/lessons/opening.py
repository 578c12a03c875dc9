"""Opening a lesson: one run in a kernel, and a recipe that this machine can run in the lesson's time."""

from __future__ import annotations

import os

from labkit.lessons.lab import Lab
from labkit.lessons.types import Lesson
from labkit.records.experiment import Experiment
from labkit.views.board.session import going

_latest: dict[str, Lab] = {}  # of each lesson, what was opened last


def opened(lesson: Lesson, board: str = "auto") -> Lab:
    """The lab of a lesson. If its own run goes on, it is the lab of that run. Another run is stopped: there is one run in a kernel.

    A lab whose lesson is opened again is closed. Labs of other lessons stay on their pages.
    """
    session = going()
    before = session.owner if session else None
    if isinstance(before, Lab) and (before.lesson, before.kind) == (lesson, board):
        return before
    if session:
        session.stop()
    lab = Lab(lesson, board)
    if lesson.number in _latest:
        _latest[lesson.number].close()
    _latest[lesson.number] = lab
    return lab


def affordable(experiment: Experiment) -> Experiment:
    """The experiment with fewer steps on one core, so that it takes about the lesson's time."""
    if os.environ.get("LABKIT_QUICK"):
        return experiment.but(steps=min(experiment.steps, 40), questions=min(experiment.questions, 2_000))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return experiment if cores > 1 else experiment.but(steps=max(1, experiment.steps // 2))
