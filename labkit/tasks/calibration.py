"""Calibration: reliability bins and the expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Marked(Protocol):
    """A graded answer, with the probability that its model gave it."""

    @property
    def probability(self) -> float: ...

    @property
    def right(self) -> bool: ...


class Bin(NamedTuple):
    """The answers with `low <= probability < high`."""

    low: float
    high: float
    n: int  # answers in the bin
    confidence: float  # their mean probability
    right: float  # share of right answers


def reliability(answers: Sequence[Marked], bins: int = 10) -> list[Bin]:
    """Sort answers into bins of equal width by their probability. Empty bins are left out; the last bin includes probability 1."""
    result = []
    for b in range(bins):
        inside = [a for a in answers if b / bins <= a.probability < (b + 1) / bins or (b == bins - 1 and a.probability >= 1)]
        if inside:
            n = len(inside)
            result.append(Bin(b / bins, (b + 1) / bins, n, sum(a.probability for a in inside) / n, sum(a.right for a in inside) / n))
    return result


def calibration_error(answers: Sequence[Marked], bins: int = 10) -> float:
    """Expected calibration error: |mean confidence - share right| of each bin, weighted by the bin's size.

    Source: Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    return sum(b.n * abs(b.confidence - b.right) for b in reliability(answers, bins)) / max(1, len(answers))
