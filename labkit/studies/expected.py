"""Expectations: what was expected of a grid before its runs, read from its TOML and compared with what was measured.

[expected]                                                   # a line for each point of the grid, or for a comparison of two
"soft labels" = { sign = "+", size = [0.02, 0.10], reason = "they have more than one right answer" }
"16 answers" = { sign = "0", against = "4 answers", reason = "four answers hold most of it" }

labkit.sweep(name).expectations()                            # one row for each line, with what was measured
labkit.sweep(name).surprises()                               # only those that were wrong
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from labkit.base.errors import LabError, unknown
from labkit.base.stats import NO_EFFECT, Band

SIGNS = ("+", "-", "0")
_MEASURED = {"better": "+", "worse": "-", "no practical effect": "0"}  # "not distinguishable" contradicts no sign


class Expected(NamedTuple):
    """An expected difference in mean core skill between two points of a grid."""

    point: str
    against: str  # the point that it is compared with
    sign: str  # "+", "-" or "0"
    low: float  # the expected range, with its sign
    high: float
    reason: str

    def __str__(self) -> str:
        ends = [f"{end:+.3f}" for end in dict.fromkeys((self.low, self.high))]
        return " to ".join(ends).replace("-", "\u2212")

    def parted(self, measured: Band) -> str:
        """How the measured difference contradicts the expected one.

        Returns "sign"; "size" if the expected range and the measured band have no value in common; or "" if there is no contradiction, or
        no band yet.
        """
        if math.isnan(measured.low):
            return ""
        outside = self.high < measured.low or measured.high < self.low
        sign = _MEASURED.get(measured.verdict, self.sign)
        # An effect that was expected to be small is no surprise if the verdict is "no practical effect".
        return "sign" if sign != self.sign and (outside or sign != "0") else "size" if outside else ""


def read(lines: Any, points: Collection[str]) -> tuple[Expected, ...]:
    """Read an `[expected]` table.

    lines: the table.
    points: names of the grid's points; a line without `against` is compared with the first.

    Raises `LabError` for an unknown point or field, an invalid sign or size, or a missing reason.
    """
    if not isinstance(lines, dict) or not all(isinstance(line, dict) for line in lines.values()):
        raise LabError('[expected] must have one line for each point, as in "warm" = { sign = "+", size = [0.02, 0.1], reason = "..." }.')
    return tuple(_line(point, line, tuple(points)) for point, line in lines.items())


def _line(point: str, line: dict[str, Any], points: Sequence[str]) -> Expected:
    against, sign, reason = line.get("against", points[0]), line.get("sign"), line.get("reason")
    size: Any = line.get("size", NO_EFFECT if sign == "0" else None)
    for what, name, choices in (
        *(("point of the grid in [expected]", name, points) for name in (point, against)),
        *((f"field of {point!r} in [expected]", name, ("sign", "size", "reason", "against")) for name in line),
        (f"sign of {point!r} in [expected]", sign, SIGNS),
    ):
        if name not in choices:
            raise unknown(what, name, choices)
    if point == against:
        raise LabError(f"[expected] compares {point!r} with itself: set against to another point.")
    ends: list[Any] = size if isinstance(size, list) else [size, size]
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends) or not 0 <= ends[0] <= ends[1] <= 1 or ends[1] == 0:
        raise LabError(
            f"[expected] has size={size!r} for {point!r}: it must be a difference in mean skill without sign, above 0 and at most 1, or a "
            "range such as [0.02, 0.1]."
        )
    if not isinstance(reason, str) or not reason.strip() or "\n" in reason:
        raise LabError(f"[expected] has no reason for {point!r}: give one, on one line.")
    low, high = {"+": ends, "-": [-ends[1], -ends[0]], "0": [-ends[1], ends[1]]}[line["sign"]]
    return Expected(point, against, line["sign"], low, high, reason)
