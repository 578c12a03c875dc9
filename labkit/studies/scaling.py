"""Laws of size: how a score or a loss depends on the number of parameters, fitted with uncertainty, and inverted.

    law = fit("logistic", points(labkit.sweep("sizes"), core))
    law.at(100_000)               # what a student of that size would score: middle, low, high
    law.size_for(0.7)             # the size that 0.7 needs, with its interval
    held_out("logistic", ...)     # each size, and its prediction from the others

To add a law, decorate a function of unbounded coefficients with `law`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from labkit.base.errors import LabError, need
from labkit.base.registry import Registry
from labkit.base.stats import Band, band

if TYPE_CHECKING:
    from labkit.records.record import Record
    from labkit.studies.sweep import Sweep

UNIT = 10_000.0  # parameters; the fitted variable is log(size / UNIT)
DRAWS = 200  # refits of the bootstrap
Points = Mapping[float, Sequence[float]]  # parameters -> the scores of several seeds


class Form(NamedTuple):
    """The form of a law: a curve over x = log(parameters / UNIT), with coefficients z of shape (..., n)."""

    name: str
    formula: str
    source: str
    n: int  # number of coefficients
    relative: bool  # whether errors are relative (of a loss), not differences
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (z, x) -> value
    size: Callable[[np.ndarray, float], np.ndarray]  # (z, value) -> x; infinite if the curve never has that value
    starts: Callable[[np.ndarray, np.ndarray], list[list[float]]]  # (x, y) -> initial coefficients of fits


FORMS = Registry("law", Form, "value")
law = FORMS.register


def _power_size(z: np.ndarray, value: float) -> np.ndarray:
    above = value - np.exp(z[..., 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above > 0, (z[..., 1] - np.log(np.maximum(above, 1e-300))) / np.exp(z[..., 2]), math.inf)


def _power_starts(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    return [[math.log(share * y.min()), math.log(y.max()), math.log(b)] for share in (0.01, 0.5, 0.9) for b in (0.2, 0.7)]


@law(
    "power",
    "E + A (N / N0)^-b",
    "Hoffmann et al. 2022, arXiv 2203.15556, equation 2, in size alone",
    n=3,
    relative=True,
    size=_power_size,
    starts=_power_starts,
)
def power(z: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A loss that falls to a floor; E, A and b are above 0."""
    return np.exp(z[..., 0, None]) + np.exp(z[..., 1, None] - np.exp(z[..., 2, None]) * x)


def _logistic_size(z: np.ndarray, value: float) -> np.ndarray:
    top = 1 / (1 + np.exp(-z[..., 0]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(top > value, z[..., 1] + np.log(value / np.maximum(top - value, 1e-300)) / np.exp(z[..., 2]), math.inf)


def _logistic_starts(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    top = min(max(y.max(), 0.02), 0.98)
    return [[math.log(top / (1 - top)), float(np.quantile(x, q)), math.log(k)] for q in (0.25, 0.5, 0.75) for k in (0.7, 2.0)]


@law(
    "logistic",
    "top / (1 + (N / mid)^-k)",
    "a saturating curve in log size; top between 0 and 1",
    n=3,
    relative=False,
    size=_logistic_size,
    starts=_logistic_starts,
)
def logistic(z: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A score that rises to a top of at most 1; k is above 0."""
    top, rise = 1 / (1 + np.exp(-z[..., 0, None])), np.exp(z[..., 2, None])
    return top / (1 + np.exp(-np.clip(rise * (x - z[..., 1, None]), -60, 60)))


class Estimate(NamedTuple):
    """A number and its 95% interval."""

    middle: float
    low: float
    high: float  # of a size: infinite if some of the refitted laws never reach the target
    measured: bool = True  # whether the size lies between the smallest and the largest measured one


class Law:
    """A fitted law.

    z: its coefficients.
    draws: coefficients of the bootstrap's refits.
    error: standard deviation of a size's mean around the law, from misfit and seeds; a share if the form is `relative`.
    degrees: of freedom of that error.
    ends: the smallest and the largest measured size.
    """

    def __init__(self, form: Form, z: np.ndarray, draws: np.ndarray, error: float, degrees: int, ends: tuple[float, float]) -> None:
        self.form, self.z, self.draws, self.error, self.degrees, self.ends = form, z, draws, error, degrees, ends

    def __repr__(self) -> str:
        return f"Law({self.form.formula}, {self.ends[0]:,.0f} to {self.ends[1]:,.0f} parameters, error {self.error:.3f})"

    def at(self, parameters: float, *, new: bool = False) -> Estimate:
        """The value of the law at a size.

        new: the interval is for the mean of a new size, measured like the others; otherwise for the law itself.

        Raises `LabError` for a size that is not above 0.
        """
        if not parameters > 0 or not math.isfinite(parameters):
            raise LabError(f"parameters={parameters!r} must be a number above 0: the size of a student.")
        x = np.array([math.log(parameters / UNIT)])
        middle, values = float(self.form.value(self.z, x)[0]), self.form.value(self.draws, x)[:, 0]
        if new:
            off = self.error * np.random.default_rng(1).standard_t(self.degrees, len(values))
            values = values * np.exp(off) if self.form.relative else values + off
        low, high = np.quantile(values, (0.025, 0.975))
        return Estimate(middle, float(low), float(high), self._measured(parameters))

    def size_for(self, target: float) -> Estimate:
        """The parameters that the law needs for a target.

        Raises `LabError` for a target outside the range of the law.
        """
        limits = self.limits()
        far, near = limits.middle, float(self.form.value(self.z, np.array([math.log(1 / UNIT)]))[0])
        if not min(far, near) < target < max(far, near):
            raise LabError(
                f"{target:g} is out of reach: by this law, size alone leads from {near:.3g} to {far:.3g} ({limits.low:.3g} "
                f"to {limits.high:.3g}). Ask for a value in between, or change something else than the size: data, steps, teacher."
            )
        sizes = UNIT * np.exp(np.minimum(self.form.size(self.draws, target), 700.0))
        middle = UNIT * math.exp(float(self.form.size(self.z, target)))
        low, high = (float(v) for v in np.quantile(sizes, (0.025, 0.975), method="nearest"))
        return Estimate(middle, low, high if high < 1e15 else math.inf, self._measured(middle))

    def limits(self) -> Estimate:
        """The limit of the law for infinite size."""
        x = np.array([60.0])
        low, high = np.quantile(self.form.value(self.draws, x)[:, 0], (0.025, 0.975))
        return Estimate(float(self.form.value(self.z, x)[0]), float(low), float(high), False)

    def _measured(self, parameters: float) -> bool:
        return self.ends[0] <= parameters <= self.ends[1]


def fit(name: str, points: Points, draws: int = DRAWS) -> Law:
    """Fit a law to scores by size: least squares on the mean of each size (SciPy's Levenberg-Marquardt).

    The uncertainty is from a parametric bootstrap: means are drawn around the law, with the spread of the residuals or of the seeds,
    whichever is larger, and fitted again.

    name: of the law.
    points: the scores of several seeds, by size.
    draws: refits of the bootstrap.

    Raises `LabError` for an unknown law, too few sizes, or values that the law cannot have.
    """
    form = FORMS[name]
    if len(points) <= form.n:
        raise LabError(f"{len(points)} sizes cannot be fitted: {form.formula} has {form.n} coefficients: give at least {form.n + 1} sizes.")
    sizes = sorted(points)
    if not all(points[size] for size in sizes) or not all(math.isfinite(v) for size in sizes for v in points[size]):
        raise LabError("every size needs at least one score, and every score must be a number: leave out what was not measured.")
    if sizes[0] <= 0 or (form.relative and min(min(points[size]) for size in sizes) <= 0):
        raise LabError(f"sizes must be above 0, and so must the values of {form.formula}: give a loss, not a score.")
    x = np.log(np.array(sizes, dtype=float) / UNIT)
    y = np.array([float(np.mean(points[size])) for size in sizes])
    fits = [_least(form, x, y, np.array(start)) for start in form.starts(x, y)]
    z = min(fits, key=lambda z: float(np.square(_off(form, z, x, y)).sum()))
    degrees = len(sizes) - form.n
    misfit = math.sqrt(float(np.square(_off(form, z, x, y)).sum()) / degrees)
    error = max(misfit, _seeds(form, [points[size] for size in sizes]), 1e-9)
    random, fitted = np.random.default_rng(0), form.value(z, x)
    spread = error * np.sqrt(degrees / random.chisquare(degrees, (draws, 1)))  # the spread is itself an estimate
    off = spread * random.standard_normal((draws, len(sizes)))
    drawn = fitted * np.exp(off) if form.relative else fitted + off
    return Law(form, z, np.array([_least(form, x, row, z) for row in drawn]), error, degrees, (sizes[0], sizes[-1]))


class HeldOut(NamedTuple):
    """The mean of one size, and its prediction from the law fitted to all others."""

    parameters: float
    measured: float
    predicted: Estimate
    between: bool  # whether it is neither the smallest nor the largest size

    @property
    def inside(self) -> bool:
        """Whether the mean is in the interval of the prediction."""
        return self.predicted.low <= self.measured <= self.predicted.high


def held_out(name: str, points: Points, draws: int = DRAWS) -> list[HeldOut]:
    """Predict each size from the others.

    Raises `LabError` if that leaves too few sizes.
    """
    predictions = []
    for size in sorted(points):
        law = fit(name, {other: scores for other, scores in points.items() if other != size}, draws)
        predictions.append(HeldOut(size, float(np.mean(points[size])), law.at(size, new=True), min(points) < size < max(points)))
    return predictions


def points(grid: Sweep, score: Callable[[Record], float], arms: Sequence[str] | None = None) -> dict[float, list[float]]:
    """The scores of the recorded runs of a sweep, by the size of the student.

    score: of a record.
    arms: only these; all if not given.

    Raises `LabError` if no run is on record.
    """
    scores: dict[float, list[float]] = {}
    for arm, values in grid.points():
        for run in grid.records(arm, **values) if arms is None or arm in arms else []:
            scores.setdefault(float(run.numbers("parameters")["student"]), []).append(score(run))
    if not scores:
        raise LabError("none of this sweep's runs is on record: run it, or give arms that it has.")
    return scores


def bands(grid: Sweep, score: Callable[[Record], float]) -> dict[float, Band]:
    """The same as bands over the seeds, smallest size first."""
    return {size: band(scores) for size, scores in sorted(points(grid, score).items())}


def _off(form: Form, z: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    value = form.value(z, x)
    return np.log(np.maximum(value, 1e-300) / y) if form.relative else value - y


def _least(form: Form, x: np.ndarray, y: np.ndarray, start: np.ndarray) -> np.ndarray:
    try:
        from scipy.optimize import least_squares
    except ModuleNotFoundError as error:
        raise need(error.name or "scipy", "fitting a law") from None
    with np.errstate(over="ignore"):
        return least_squares(lambda z: _off(form, np.clip(z, -30, 30), x, y), start, method="lm", max_nfev=400).x.clip(-30, 30)


def _seeds(form: Form, scores: Sequence[Sequence[float]]) -> float:
    """The standard error of a size's mean from the spread of its seeds, pooled over sizes; 0 with one seed each."""
    several = [np.log(np.array(s)) if form.relative else np.array(s) for s in scores if len(s) > 1]
    if not several:
        return 0.0
    within = sum(float(np.square(s - s.mean()).sum()) for s in several) / sum(len(s) - 1 for s in several)
    return math.sqrt(within * float(np.mean([1 / len(s) for s in scores])))
