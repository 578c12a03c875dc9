"""What may be seen of a run by somebody who is not told what was done to it (no torch).

    seen = Evidence(record)
    seen.read("hits"), seen.exam.fidelity["kl"], seen.mean("kl")

Names, recipes, seeds and turned knobs are left out; losses, exams, answers, costs and the looks at single batches are there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.record import Record


class Evidence:
    """A record without its recipe. Raises `LabError` for one that holds no exam yet."""

    def __init__(self, record: Record) -> None:
        if not record.evaluations or not record.steps:
            raise LabError("this run has not come to its first exam, so there is nothing to diagnose: let it go on.")
        self.steps = tuple(step.values for step in record.steps)
        self.seconds = tuple(step.seconds for step in record.steps)
        self.exams = tuple(record.evaluations)
        self.looks = tuple(event.values for event in record.events if isinstance(event, ev.Inspected))
        self.samples = tuple(event.rows for event in record.events if isinstance(event, ev.Sampled))
        teacher = record.references.get("teacher")
        self.teacher: Mapping[str, float] = teacher.skills if teacher else {}
        asked = [event.total for event in record.events if isinstance(event, ev.Labelled)]
        self.exposures = record.steps[-1].questions_seen / asked[-1] if asked else math.nan  # of each distinct question
        self.cost: Mapping[str, float] = record.finished.cost if isinstance(record.finished, ev.Finished) else {}

    @property
    def exam(self) -> ev.Evaluated:
        """The last one."""
        return self.exams[-1]

    def read(self, name: str) -> float:
        """A number of the first look at a batch; NaN if that was not looked at, which no comparison is true of."""
        return self.looks[0].get(name, math.nan) if self.looks else math.nan

    @property
    def on_policy(self) -> bool:
        """Whether the student wrote some of the text itself, so that the teacher's first choice need not be what stands there."""
        return self.cost.get("student_written_tokens", 0) > 0 or any(look.get("own") for look in self.looks)

    def average(self, name: str) -> float:
        """Mean of a number over all looks at a batch; NaN if there was none."""
        values = [look[name] for look in self.looks if look.get(name) is not None]
        return sum(values) / len(values) if values else math.nan

    def mean(self, name: str, last: int = 20) -> float:
        """Mean of a training number over the last steps; NaN if it was not told."""
        values = [step[name] for step in self.steps[-last:] if step.get(name) is not None]
        return sum(values) / len(values) if values else math.nan
