"""What may be seen of a run by somebody who is not told what was done to it (no torch).

    seen = Evidence(record)
    seen.read("hits"), seen.exam.fidelity["kl"], seen.mean("kl")

Names, recipes, seeds and turned knobs are left out; losses, exams, answers, costs and the looks at single batches are there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.record import Record, average


class Evidence:
    """A record without its recipe. What detectors read of a shipped run stands in its row of the results table; steps, exams, looks and
    samples are read from its events. Raises `LabError` for a run without an exam.

    exam: the last one. length: steps taken. look, training, first: as in `Record.numbers`.
    """

    def __init__(self, record: Record) -> None:
        try:
            self.exam, self.length = record.exam, int(record.numbers("run")["steps"])
        except (LabError, IndexError):
            raise LabError("this run has not come to its first exam, so there is nothing to diagnose: let it go on.") from None
        self.teacher, self.cost, self.look, self.training, self.first = map(
            record.numbers, ("teacher", "cost", "look", "training", "first")
        )
        self._events: Callable[[], Sequence[ev.Event]] = lambda: record.events

    @functools.cached_property
    def steps(self) -> Sequence[Mapping[str, float]]:
        return tuple(event.values for event in self._events() if isinstance(event, ev.Step))

    @functools.cached_property
    def exams(self) -> Sequence[ev.Evaluated]:
        return tuple(event for event in self._events() if isinstance(event, ev.Evaluated))

    @functools.cached_property
    def samples(self) -> Sequence[Sequence[Mapping[str, str]]]:
        return tuple(event.rows for event in self._events() if isinstance(event, ev.Sampled))

    def read(self, name: str) -> float:
        """A number of the first look at a batch; NaN if that was not looked at, which no comparison is true of."""
        return self.look.get(name, math.nan)

    @property
    def on_policy(self) -> bool:
        """Whether the student wrote some of the text itself, so that the teacher's first choice need not be what stands there."""
        return self.cost.get("student_written_tokens", 0) > 0 or self.training.get("own", 0) > 0

    @property
    def exposures(self) -> float:
        """How often each distinct question was seen; NaN if the teacher answered none."""
        return self.training.get("exposures", math.nan)

    @property
    def entropy(self) -> float:
        """Mean entropy of the signal over all looks at a batch; NaN if there was none."""
        return self.training.get("entropy", math.nan)

    def mean(self, name: str) -> float:
        """Mean of a training number over the last 20 steps; NaN if it was not told."""
        return self.training.get("kl", math.nan) if name == "kl" else average(step.get(name) for step in self.steps[-20:])
