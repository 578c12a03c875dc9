"""What was expected of a grid before its runs, read from its TOML and laid beside what was measured.

[expected]                                                   # a line for each point of the grid, or for a comparison of two
"soft labels" = { sign = "+", size = [0.02, 0.10], reason = "they tell more than one right answer" }
"16 answers" = { sign = "0", against = "4 answers", reason = "four answers tell most of it" }

labkit.sweep(name).expectations()                            # a row a line, with what was measured
labkit.sweep(name).surprises()                               # only those where it came out otherwise
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
    """A difference as it was expected: of one point of the grid from another, in mean core skill, from `low` to `high`, and why."""

    point: str
    against: str
    sign: str
    low: float
    high: float
    reason: str

    def __str__(self) -> str:
        ends = [f"{end:+.3f}" for end in dict.fromkeys((self.low, self.high))]
        return " to ".join(ends).replace("-", "\u2212")

    def parted(self, measured: Band) -> str:
        """How the measured difference contradicts this: by its "sign", by its "size" (no value of the expected range lies in the measured
        band), or "" if it does not, or has no band yet."""
        if math.isnan(measured.low):
            return ""
        outside = self.high < measured.low or measured.high < self.low
        found = _MEASURED.get(measured.verdict, self.sign)
        # A small effect that was expected to be small is no surprise, although its verdict is "no practical effect".
        return "sign" if found != self.sign and (outside or found != "0") else "size" if outside else ""


def read(lines: Any, points: Collection[str]) -> tuple[Expected, ...]:
    """The lines of an `[expected]` table; `points` are the names of the grid's points, of which the first is what the others are compared
    with. Raises `LabError` for a point or field that does not exist, a sign or size that is none, or no reason."""
    if not isinstance(lines, dict) or not all(isinstance(line, dict) for line in lines.values()):
        raise LabError('[expected] must have one line a point, as in "warm" = { sign = "+", size = [0.02, 0.1], reason = "..." }.')
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
        raise LabError(f"[expected] compares {point!r} with itself: name another point as against, or expect something of the others.")
    ends: list[Any] = size if isinstance(size, list) else [size, size]
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends) or not 0 <= ends[0] <= ends[1] <= 1 or ends[1] == 0:
        raise LabError(
            f"[expected] has size={size!r} for {point!r}, and it must be a difference in mean skill without its sign, above 0 and up to 1, "
            "or a range such as [0.02, 0.1]."
        )
    if not isinstance(reason, str) or not reason.strip() or "\n" in reason:
        raise LabError(f"[expected] must give a reason for {point!r}, in a line.")
    low, high = {"+": ends, "-": [-ends[1], -ends[0]], "0": [-ends[1], ends[1]]}[line["sign"]]
    return Expected(point, against, line["sign"], low, high, reason)
