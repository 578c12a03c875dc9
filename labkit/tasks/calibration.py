"""Does confidence mean anything? Reliability bins and the expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Marked(Protocol):
    """An answer with the probability its model gave it, marked right or wrong."""

    @property
    def probability(self) -> float: ...

    @property
    def right(self) -> bool: ...


class Bin(NamedTuple):
    """Answers whose probability is from `low` on and below `high`: how many, how sure on average, and the share that is right."""

    low: float
    high: float
    n: int
    confidence: float
    right: float


def reliability(answers: Sequence[Marked], bins: int = 10) -> list[Bin]:
    """Equal-width bins of confidence, without the empty ones; the last one holds certainty too."""
    found = []
    for b in range(bins):
        inside = [a for a in answers if b / bins <= a.probability < (b + 1) / bins or (b == bins - 1 and a.probability >= 1)]
        if inside:
            n = len(inside)
            found.append(Bin(b / bins, (b + 1) / bins, n, sum(a.probability for a in inside) / n, sum(a.right for a in inside) / n))
    return found


def calibration_error(answers: Sequence[Marked], bins: int = 10) -> float:
    """Expected calibration error: |mean confidence - share right| of each bin, weighted by its size."""
    return sum(b.n * abs(b.confidence - b.right) for b in reliability(answers, bins)) / max(1, len(answers))
