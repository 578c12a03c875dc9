"""What a lesson is."""

from __future__ import annotations

from typing import NamedTuple

from labkit.records.experiment import Experiment


class Lesson(NamedTuple):
    """number and title as in its notebook; experiment and controls it opens with; the recorded run that is on the board until
    the learner's own; what it asks to predict, in which unit."""

    number: str
    title: str
    question: str
    minutes: int
    experiment: Experiment
    recorded: Experiment
    controls: tuple[str, ...]
    asks: str
    unit: str
