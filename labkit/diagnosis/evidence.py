"""The part of a record that a detector may read: everything but the recipe (no torch).

    seen = Evidence(record)
    seen.read("hits"), seen.exam.fidelity["kl"], seen.mean("kl")

It holds losses, exams, answers, costs and batch checks. It holds no name, recipe, seed or turned knob.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.record import Record, average


class Evidence:
    """A record without its recipe. Detectors mostly read a shipped run's row of the results table; `steps`, `exams` and `samples` are
    read from its events.

    record: the run.

    Raises `LabError` for a run without an exam.
    """

    def __init__(self, record: Record) -> None:
        try:
            self.exam, self.length = record.exam, int(record.numbers("run")["steps"])  # the last exam; steps taken
        except (LabError, IndexError):
            raise LabError("this run has not come to its first exam, so nothing can be diagnosed: let it go on.") from None
        # The teacher's scores, the costs, the first batch check, the end of the training curve, the first exam: as in `Record.numbers`.
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
        """A number of the first batch check; NaN if it was not measured (every comparison with NaN is False)."""
        return self.look.get(name, math.nan)

    @property
    def on_policy(self) -> bool:
        """Whether the student wrote some of the text: then the teacher's first choice need not be the token in the text."""
        return self.cost.get("student_written_tokens", 0) > 0 or self.training.get("own", 0) > 0

    @property
    def exposures(self) -> float:
        """How often each distinct question was used; NaN if the teacher answered none."""
        return self.training.get("exposures", math.nan)

    @property
    def entropy(self) -> float:
        """Mean entropy of the signal over all batch checks, in nats a token; NaN if there was none."""
        return self.training.get("entropy", math.nan)

    def mean(self, name: str) -> float:
        """Mean of a training number over the last 20 steps; NaN if it was not recorded."""
        return self.training.get("kl", math.nan) if name == "kl" else average(step.get(name) for step in self.steps[-20:])
