"""Bands and verdicts: what a difference over a few seeds allows to say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from labkit.base.errors import LabError

NO_EFFECT = 0.02  # on a score of 0 to 1: smaller differences have no practical effect
# Student's 97.5% quantiles for 1 to 6 degrees of freedom, from scipy. Importing scipy would take a fifth of a recorded table's time.
T_975 = (12.706204736174694, 4.302652729749462, 3.1824463052837078, 2.7764451051977934, 2.5705818356363146, 2.4469118511449786)


class Band(NamedTuple):
    """A mean difference and its 95% t-interval over `n` paired seeds. With one seed there is no interval: `low` and `high` are NaN."""

    middle: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> str:
        """What the interval allows to say: "better", "worse", "no practical effect" or "not distinguishable"."""
        if self.n < 2:
            return "one seed: no band"
        if self.low >= -NO_EFFECT and self.high <= NO_EFFECT:
            return "no practical effect"
        if self.low <= 0 <= self.high:
            return "not distinguishable"
        return "better" if self.low > 0 else "worse"


def band(differences: Sequence[float]) -> Band:
    """The 95% t-interval of paired differences. Raises `LabError` for no differences, or for NaN or infinity among them."""
    if not differences:
        raise LabError("no differences: a band needs at least one pair of runs.")
    if not all(map(math.isfinite, differences)):
        raise LabError(f"differences {list(differences)[:5]} contain NaN or infinity: leave out runs without a score.")
    n, middle = len(differences), statistics.fmean(differences)
    if n == 1:
        return Band(middle, math.nan, math.nan, 1)
    if n - 2 < len(T_975):
        quantile = T_975[n - 2]
    else:
        from scipy.special import stdtrit

        quantile = float(stdtrit(n - 1, 0.975))
    half = quantile * statistics.stdev(differences) / math.sqrt(n)
    return Band(middle, middle - half, middle + half, n)
