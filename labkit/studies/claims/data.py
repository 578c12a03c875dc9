"""Runs of sweeps and columns of measurements, as claims and lessons read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit.base.errors import LabError
from labkit.base.stats import Band, band
from labkit.records import measurements
from labkit.records.record import Record, core, mean, paired
from labkit.studies.sweep import Sweep, sweep

STARTS = ("random", "warm")
ARMS = ("output", "hard answers", "hidden states", "attention relations", "teacher's text", "online")  # of the ladder


def runs_of(grid: Sweep, arm: str = "", **values: Any) -> list[Record]:
    """The runs at one point of a sweep, with all seeds.

    Raises `LabError` if one is not on record.
    """
    runs = grid.records(arm, **values)
    if len(runs) < grid.seeds:
        raise LabError(f"{len(runs)} of {grid.seeds} seeds of {grid.recipe(arm, **values).recipe!r} are on record: run the sweep.")
    return runs


def seeds_of(table: str, column: str, **where: Any) -> dict[int, float]:
    """A column of a measurement, by seed.

    where: values of other columns in the rows to take.
    """
    rows = [row for row in measurements.rows(table) if all(row[name] == value for name, value in where.items())]
    return {row["seed"]: row[column] for row in rows}


def scores(runs: Sequence[Record], score: Callable[[Record], float] = core) -> dict[int, float]:
    """A score of runs, by seed."""
    return {run.experiment.seed: score(run) for run in runs}


def less(more: Mapping[int, float], fewer: Mapping[int, float]) -> Band:
    """The band of `more` minus `fewer`, over the seeds that both have."""
    return band([more[seed] - fewer[seed] for seed in sorted(more.keys() & fewer.keys())])


def mean_of(values: Mapping[int, float]) -> float:
    """The mean over the seeds."""
    return sum(values.values()) / len(values)


def ladder(arm: str, against: str) -> dict[str, Band]:
    """Mean core skill of an arm of the ladder minus another, from both starts, with equal questions and in equal time."""
    return {
        f"{start} start, equal {equal}": paired(runs_of(grid, f"{arm}, {start}"), runs_of(grid, f"{against}, {start}"))
        for equal, grid in (("questions", sweep("ladder")), ("time", sweep("ladder_time")))
        for start in STARTS
    }


def above_gold(arm: str) -> dict[str, Band]:
    """Mean core skill of an arm of the ladder minus that of the same student on its gold labels alone, from both starts."""
    return {
        f"{start} start": band([core(run) - mean(run.scores["label budget"]) for run in runs_of(sweep("ladder"), f"{arm}, {start}")])
        for start in STARTS
    }


def cost_ratio(arm: str, against: str) -> str:
    """How much longer a step of an arm takes than one of another, from both starts, in words.

    Each time is of the first seed, which ran alone on its machine. Cached labels and written text cost nothing; what every run computes
    again does.
    """
    grid = sweep("ladder")
    ratios = [seconds_a_step(runs_of(grid, f"{arm}, {s}")[0]) / seconds_a_step(runs_of(grid, f"{against}, {s}")[0]) for s in STARTS]
    return "A step takes {:.1f} to {:.1f} times as long".format(*sorted(ratios))


def seconds_a_step(record: Record) -> float:
    """Mean time from one step to the next, without exams."""
    return record.numbers("run")["seconds_a_step"]
