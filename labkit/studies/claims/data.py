"""What claims and lessons read off the runs of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit.base.errors import LabError
from labkit.base.stats import Band, band
from labkit.records import measurements
from labkit.records.record import Record, core, paired
from labkit.studies.sweep import Sweep, sweep

STARTS = ("random", "warm")
ARMS = ("output", "hard answers", "hidden states", "attention relations", "teacher's text", "online")  # of the ladder


def runs_of(grid: Sweep, arm: str = "", **values: Any) -> list[Record]:
    """A point's runs, every seed of them. Raises `LabError` if one is missing."""
    found = grid.records(arm, **values)
    if len(found) < grid.seeds:
        raise LabError(f"{len(found)} of {grid.seeds} seeds of {grid.recipe(arm, **values).recipe!r} are on record: run the sweep.")
    return found


def seeds_of(table: str, column: str, **where: Any) -> dict[int, float]:
    """A column of a measurement by seed, in the rows where the other columns have these values."""
    found = [row for row in measurements.rows(table) if all(row[name] == value for name, value in where.items())]
    return {row["seed"]: row[column] for row in found}


def scores(runs: Sequence[Record], score: Callable[[Record], float] = core) -> dict[int, float]:
    """The same of runs."""
    return {run.experiment.seed: score(run) for run in runs}


def less(more: Mapping[int, float], fewer: Mapping[int, float]) -> Band:
    """The difference over the seeds that both have."""
    return band([more[seed] - fewer[seed] for seed in sorted(more.keys() & fewer.keys())])


def mean_of(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)


def ladder(arm: str, against: str) -> dict[str, Band]:
    """An arm of the ladder less another, from both starts, on equal questions and in equal time."""
    return {
        f"{start} start, equal {equal}": paired(runs_of(grid, f"{arm}, {start}"), runs_of(grid, f"{against}, {start}"))
        for equal, grid in (("questions", sweep("ladder")), ("time", sweep("ladder_time")))
        for start in STARTS
    }


def cost_ratio(arm: str, against: str) -> str:
    """How much longer an arm's step takes than another's, from either start, in words: one timing each, of the first seed, which was run
    alone on the machine. Labels and text that are at hand cost nothing here; what is read anew in every run does."""
    grid = sweep("ladder")
    ratios = [seconds_a_step(runs_of(grid, f"{arm}, {s}")[0]) / seconds_a_step(runs_of(grid, f"{against}, {s}")[0]) for s in STARTS]
    return "A step takes {:.1f} to {:.1f} times as long".format(*sorted(ratios))


def seconds_a_step(record: Record) -> float:
    """Mean time from one step to the next, exams left out."""
    return record.numbers("run")["seconds_a_step"]
