"""The type of a lesson."""

from __future__ import annotations

from typing import NamedTuple

from labkit.records.experiment import Experiment


class Lesson(NamedTuple):
    """What a lesson opens with."""

    number: str  # as in the name of its notebook
    title: str
    question: str
    minutes: int
    experiment: Experiment  # the recipe that the controls begin with
    recorded: Experiment  # the recorded run on the board until the learner's own
    controls: tuple[str, ...]  # its knobs; the first three stand beside the board
    asks: str  # what the learner predicts
    unit: str  # of the prediction
