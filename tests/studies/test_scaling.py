"""Laws of size, against curves whose numbers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import labkit
from labkit.base.errors import LabError
from labkit.records.record import core
from labkit.studies import scaling
from labkit.studies.scaling import FORMS, UNIT, fit, held_out

SIZES = (3_327, 7_038, 12_530, 22_352, 56_480, 211_904, 284_468, 815_160)


def power(n, floor=0.05, a=1.0, b=0.6):
    return floor + a * (n / UNIT) ** -b


def logistic(n, top=0.9, mid=50_000, k=1.2):
    return top / (1 + (n / mid) ** -k)


CURVES = {"power": power, "logistic": logistic}


def noisy(curve, form, spread, seed, sizes=SIZES, seeds=3):
    random = np.random.default_rng(seed)
    if FORMS[form].relative:
        return {n: list(curve(n) * np.exp(spread * random.standard_normal(seeds))) for n in sizes}
    return {n: list(curve(n) + spread * random.standard_normal(seeds)) for n in sizes}


@pytest.mark.parametrize("form", CURVES)
def test_a_law_without_noise_is_found_again(form):
    curve = CURVES[form]
    law = fit(form, {n: [curve(n)] for n in SIZES}, draws=8)
    for n in (5_000, 100_000, 3_000_000):
        assert law.at(n).middle == pytest.approx(curve(n), rel=1e-4)
        assert law.size_for(curve(n)).middle == pytest.approx(n, rel=1e-3)
    assert law.limits().middle == pytest.approx(0.05 if form == "power" else 0.9, rel=1e-3)


def test_numbers_are_those_of_the_formula():
    law = fit("power", {n: [power(n)] for n in SIZES}, draws=2)
    assert np.exp(law.z) == pytest.approx([0.05, 1.0, 0.6], rel=1e-3)
    law = fit("logistic", {n: [logistic(n)] for n in SIZES}, draws=2)
    assert (1 / (1 + math.exp(-law.z[0])), UNIT * math.exp(law.z[1]), math.exp(law.z[2])) == pytest.approx((0.9, 50_000, 1.2), rel=1e-3)


@pytest.mark.parametrize("form", CURVES)
def test_intervals_hold_the_truth_about_as_often_as_they_say(form):
    """Of 40 noisy worlds, the law's own interval and that of a new size should hold it 95% of the time, and by chance 85% at least."""
    curve, n, own, new = CURVES[form], 100_000, 0, 0
    for seed in range(40):
        law = fit(form, noisy(curve, form, 0.04, seed), draws=40)
        own += law.at(n).low <= curve(n) <= law.at(n).high
        fresh = float(np.mean(noisy(curve, form, 0.04, 1_000 + seed, (n,))[n]))
        new += law.at(n, new=True).low <= fresh <= law.at(n, new=True).high
    assert own >= 32
    assert new >= 32


def test_intervals_grow_with_the_noise():
    widths = []
    for spread in (0.01, 0.05):
        found = fit("logistic", noisy(logistic, "logistic", spread, 3)).at(100_000)
        widths.append(found.high - found.low)
    assert widths[1] > 2 * widths[0] > 0


@settings(max_examples=8)
@given(st.integers(0, 1_000), st.sampled_from(sorted(CURVES)))
def test_laws_are_monotone(seed, form):
    law = fit(form, noisy(CURVES[form], form, 0.1, seed), draws=4)
    values = np.array([law.at(n).middle for n in np.geomspace(1_000, 1e7, 40)])
    assert (np.diff(values) <= 1e-9).all() if form == "power" else (np.diff(values) >= -1e-9).all()
    for z in law.draws:
        steps = np.diff(law.form.value(z, np.linspace(-3, 8, 30)))
        assert (steps <= 1e-9).all() if form == "power" else (steps >= -1e-9).all()


@pytest.mark.parametrize("form", CURVES)
def test_the_size_and_the_value_turn_each_other_round(form):
    law = fit(form, noisy(CURVES[form], form, 0.03, 1), draws=4)
    for z in (law.z, *law.draws):
        for x in (-1.0, 1.0, 3.0):
            value = float(law.form.value(z, np.array([x]))[0])
            assert float(law.form.size(z, value)) == pytest.approx(x, abs=1e-5)


def test_an_answer_says_when_it_is_beyond_what_was_measured():
    law = fit("logistic", noisy(logistic, "logistic", 0.005, 0))
    assert law.size_for(0.5).measured
    assert not law.size_for(0.89).measured
    assert not law.at(5_000_000).measured
    assert law.size_for(0.5).low < law.size_for(0.5).middle < law.size_for(0.5).high


def test_what_some_of_the_laws_never_reach_has_no_upper_end():
    law = fit("logistic", noisy(logistic, "logistic", 0.03, 2))
    assert law.size_for(law.limits().middle - 1e-3).high == math.inf


@pytest.mark.parametrize(("form", "target"), [("logistic", 0.97), ("power", 0.01), ("logistic", -0.1), ("power", 1e9)])
def test_out_of_reach_is_told_with_the_limit(form, target):
    law = fit(form, noisy(CURVES[form], form, 0.01, 0))
    with pytest.raises(LabError, match=r"out of reach.*something else than the size"):
        law.size_for(target)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fit("cubic", {1.0: [1.0]}), "unknown law 'cubic'"),
        (lambda: fit("power", {n: [1.0] for n in SIZES[:3]}), "at least 4 sizes"),
        (lambda: fit("power", {n: [] for n in SIZES}), "needs at least one score"),
        (lambda: fit("power", {n: [math.nan] for n in SIZES}), "must be a number"),
        (lambda: fit("power", {n: [0.0] for n in SIZES}), "a loss, not a score"),
        (lambda: held_out("power", {n: [power(n)] for n in SIZES[:4]}), "at least 4 sizes"),
        (lambda: fit("logistic", {n: [logistic(n)] for n in SIZES}, draws=2).at(0), "above 0"),
    ],
)
def test_what_cannot_be_fitted_is_told(call, says):
    with pytest.raises(LabError, match=says):
        call()


def test_a_size_held_out_has_no_part_in_its_prediction():
    scores = noisy(logistic, "logistic", 0.01, 5)
    spoiled = {n: [v + 0.3 * (n == 56_480) for v in values] for n, values in scores.items()}
    clean, found = ({h.parameters: h for h in held_out("logistic", points, draws=20)} for points in (scores, spoiled))
    assert found[56_480].predicted == clean[56_480].predicted
    assert clean[56_480].inside
    assert not found[56_480].inside
    assert [h.between for h in found.values()] == [False, *[True] * 6, False]


def test_seeds_that_disagree_widen_a_perfect_fit():
    tight = fit("logistic", {n: [logistic(n)] * 3 for n in SIZES}).at(100_000, new=True)
    loose = fit("logistic", {n: [logistic(n) - 0.1, logistic(n), logistic(n) + 0.1] for n in SIZES}).at(100_000, new=True)
    assert loose.high - loose.low > 0.1 > 1e-3 > tight.high - tight.low


def test_points_come_from_the_records():
    found = scaling.points(labkit.sweep("minute"), core)
    assert set(found) == {211_904.0}
    assert len(found[211_904.0]) == 10
    assert len(scaling.points(labkit.sweep("minute"), core, ["soft labels"])[211_904.0]) == 5
    with pytest.raises(LabError, match="give arms that it has"):
        scaling.points(labkit.sweep("minute"), core, [])
