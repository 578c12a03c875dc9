"""What a run cost, in work and in money (no torch: it reads records).

    spent = cost(rec)                         # spent.flops, spent.teacher_tokens, spent.seconds ...
    spent.money(Prices(machine_hour=0.5))     # in the prices' currency, by what it went on

Arithmetic is counted the usual way: 2 operations a parameter and token forward, 6 forward and backward (Kaplan et al. 2020,
arXiv 2001.08361, section 2.1); attention is left out, which at these lengths is a few percent.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from labkit.base.errors import LabError
from labkit.records.events import Finished
from labkit.records.record import Record

FORWARD, BOTH_WAYS = 2, 6  # operations a parameter and token


@dataclasses.dataclass(frozen=True, slots=True)
class Prices:
    """What things are charged at, in one currency. The defaults are round numbers of 2026, for rented hardware and a hosted model
    of middling size: replace them with your own.

    machine_hour: an hour of the machine the run was on. endpoint_out: a million tokens written by a hosted teacher.
    storage: a gigabyte kept for a month.
    """

    machine_hour: float = 0.10
    endpoint_out: float = 2.00
    storage: float = 0.02

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise LabError(f"{field.name}={value!r} must be a price: a number, zero or more.")


class Cost(NamedTuple):
    """seconds of work; tokens the student was trained on and tokens it wrote itself; tokens the teacher read or wrote; bytes of the
    teacher's signals kept; floating-point operations of either."""

    seconds: float
    questions: int
    student_tokens: int
    written_tokens: int
    teacher_tokens: int
    cache_bytes: int
    student_flops: float
    teacher_flops: float

    @property
    def flops(self) -> float:
        return self.student_flops + self.teacher_flops

    def money(self, prices: Prices | None = None) -> dict[str, float]:
        """Time on the machine, and a month's keep of the signals."""
        prices = prices or Prices()
        return {"machine": self.seconds / 3600 * prices.machine_hour, "storage": self.cache_bytes / 1e9 * prices.storage}

    def from_endpoint(self, prices: Prices | None = None) -> float:
        """What the same labelling would have cost at a hosted teacher, all of it charged as output, its dearer half."""
        return self.teacher_tokens / 1e6 * (prices or Prices()).endpoint_out


def cost(record: Record) -> Cost:
    """What a finished run cost. Raises `LabError` for one that never came to its end."""
    end = record.finished
    if not isinstance(end, Finished):
        raise LabError("this run did not end in order, and what it cost is told at the end.")
    told, parameters = end.cost, record.numbers("parameters")
    trained, wrote, taught = (int(told.get(name, 0)) for name in ("student_tokens", "student_written_tokens", "teacher_tokens"))
    return Cost(
        end.seconds,
        int(told.get("questions", 0)),
        trained,
        wrote,
        taught,
        int(told.get("cache_bytes", 0)),
        parameters["student"] * (BOTH_WAYS * trained + FORWARD * wrote),
        parameters["teacher"] * FORWARD * taught,
    )
