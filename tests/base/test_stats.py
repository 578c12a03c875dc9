"""Bands against scipy's one-sample t-test, and what they are called."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from labkit.base.errors import LabError
from labkit.base.stats import band


@pytest.mark.parametrize("n", [*range(2, 10), 31, 32, 33, 60, 1_000])
def test_a_band_is_the_t_interval_of_any_number_of_pairs(n: int):
    rng = random.Random(n)
    differences = [rng.gauss(0.1, 1.0) for _ in range(n)]
    wanted = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    found = band(differences)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-12)
    assert found.n == n and found.middle == pytest.approx(sum(differences) / n)


@pytest.mark.parametrize(("differences", "value"), [([], "no differences"), ([0.1, math.nan], "nan"), ([math.inf], "inf")])
def test_no_band_of_what_is_no_number(differences, value):
    with pytest.raises(LabError, match=value):
        band(differences)


def test_one_pair_has_a_middle_and_no_band():
    found = band([0.25])
    assert found.middle == 0.25 and math.isnan(found.low) and math.isnan(found.high)
