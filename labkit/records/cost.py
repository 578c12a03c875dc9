"""The cost of a run, in work and in money (no torch: it reads records).

    spent = cost(rec)                         # spent.flops, spent.teacher_tokens, spent.seconds ...
    spent.money(Prices(machine_hour=0.5))     # by item, in the currency of the prices

Operations are counted as usual: 2 per parameter and token in a forward pass, 6 in a forward and backward pass. Attention is left out;
at these lengths it is a few percent. Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from labkit.base.errors import LabError
from labkit.records.events import Finished
from labkit.records.record import Record

FORWARD, BOTH_WAYS = 2, 6  # operations per parameter and token


@dataclasses.dataclass(frozen=True, slots=True)
class Prices:
    """Prices in one currency. The defaults are round numbers of 2026 in US dollars, for rented hardware and a hosted model of medium size.

    Raises `LabError` for a price that is negative or not a number.
    """

    machine_hour: float = 0.10  # an hour of the machine that the run was on
    endpoint_out: float = 2.00  # a million tokens written by a hosted teacher
    storage: float = 0.02  # a gigabyte kept for a month
    currency: str = "US$"

    def told(self, amount: float) -> str:
        """An amount with its currency; below a hundredth only that it is less."""
        return f"{self.currency} {amount:,.2f}" if amount >= 0.01 or not amount else f"less than {self.currency} 0.01"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type != "str" and not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise LabError(f"{field.name}={value!r} must be a price: a number, zero or more.")


class Cost(NamedTuple):
    """The work that a run took."""

    seconds: float
    questions: int
    student_tokens: int  # that the student was trained on
    written_tokens: int  # that the student wrote itself
    teacher_tokens: int  # that the teacher read or wrote
    cache_bytes: int  # of the teacher's signals on disk
    student_flops: float  # floating-point operations
    teacher_flops: float

    @property
    def flops(self) -> float:
        """Floating-point operations of student and teacher."""
        return self.student_flops + self.teacher_flops

    def money(self, prices: Prices | None = None) -> dict[str, float]:
        """The price of the machine's time, and of storing the signals for a month."""
        prices = prices or Prices()
        return {"machine": self.seconds / 3600 * prices.machine_hour, "storage": self.cache_bytes / 1e9 * prices.storage}

    def in_money(self, prices: Prices | None = None) -> str:
        """What the run cost, and what the same labelling costs at a hosted teacher, in words."""
        prices = prices or Prices()
        a, rates = prices.currency, f"at {prices.currency} {prices.machine_hour:.2f} an hour and {prices.storage:.2f} a gigabyte"
        told = f"{prices.told(sum(self.money(prices).values()))} for {self.seconds:,.0f} s of this machine and a month of storage ({rates})"
        if not self.teacher_tokens:
            return told
        hosted = f"{self.teacher_tokens:,} tokens of a hosted teacher would be {prices.told(self.from_endpoint(prices))}"
        return f"{told}; {hosted} (at {a} {prices.endpoint_out:.2f} a million)"

    def from_endpoint(self, prices: Prices | None = None) -> float:
        """The price of the same labelling by a hosted teacher, with all tokens charged at the (higher) price of output."""
        return self.teacher_tokens / 1e6 * (prices or Prices()).endpoint_out


def cost(record: Record) -> Cost:
    """The cost of a finished run. Raises `LabError` for a run without a "finished" event, which holds the cost."""
    end = record.finished
    if not isinstance(end, Finished):
        raise LabError("this run has no cost, since it did not finish: run its recipe to the end.")
    counts, parameters = end.cost, record.numbers("parameters")
    trained, wrote, taught = (int(counts.get(name, 0)) for name in ("student_tokens", "student_written_tokens", "teacher_tokens"))
    return Cost(
        end.seconds,
        int(counts.get("questions", 0)),
        trained,
        wrote,
        taught,
        int(counts.get("cache_bytes", 0)),
        parameters["student"] * (BOTH_WAYS * trained + FORWARD * wrote),
        parameters["teacher"] * FORWARD * taught,
    )
