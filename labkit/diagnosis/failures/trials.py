"""Tests of the detectors on recorded runs: effects with bands, hits on unseen runs, false alarms.

    effect("missing_end")             # the symptom with the failure minus without it, paired by seed
    sightings("missing_end")          # detector results on held-out runs (seeds not used to set limits)

The sweep "failures" has an arm named after each failure, with that failure in it, and the same recipe cured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from labkit.base.errors import LabError
from labkit.base.stats import Band
from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures.registry import FAILURES, diagnose, named
from labkit.records.experiment import Experiment
from labkit.records.record import Record, core, paired
from labkit.records.results import rows
from labkit.records.store import shipped
from labkit.studies.sweep import Sweep, sweep

SET_ON = (0, 1)  # seeds that the detectors' limits were set on: they prove nothing


class Pair(NamedTuple):
    """Runs of one recipe with a failure, and of the same recipe cured, in the order of the seeds."""

    provoked: Sequence[Record]
    cured: Sequence[Record]


class Sightings(NamedTuple):
    """What the detectors find in unseen runs that have a failure."""

    runs: int
    right: int  # runs whose first finding is the failure
    beside: Mapping[str, int]  # how often another failure was found
    instead: Mapping[str, int]  # how often another failure was the first finding; "" stands for no finding


class Alarms(NamedTuple):
    """What the detectors find in unseen runs that have no failure."""

    runs: int
    false: Sequence[tuple[Experiment, Sequence[str]]]  # the runs with a finding, and the failures found
    fresh: int = 0  # runs with fresh questions, without which a leaked exam cannot be detected


def pair(name: str) -> Pair:
    """The runs with a failure, and cured of it.

    Raises `LabError` for a failure without recorded runs.
    """
    grid, entry = sweep("failures"), named(name)
    recipe = grid.recipe(name)
    return Pair(_runs(grid, recipe), _runs(grid, entry.cure(recipe)))


def effect(name: str, score: Callable[[Record], float] | None = None) -> Band:
    """Symptom (or another `score`) of the runs with a failure, minus that of the cured runs, paired by seed."""
    symptom = named(name).symptom
    return paired(*pair(name), score or (lambda record: symptom(Evidence(record))))


def cost(name: str) -> Band:
    """Change of the mean core skill by a failure; mostly negative."""
    return effect(name, core)


def sightings(name: str) -> Sightings:
    """What the detectors find in a failure's runs of the held-out seeds."""
    unseen = [record for record in pair(name).provoked if record.experiment.seed not in SET_ON]
    found = [[diagnosis.failure for diagnosis in diagnose(record)] for record in unseen]
    right = sum(names[:1] == [name] for names in found)
    beside = Counter(other for names in found for other in names if other != name)
    return Sightings(len(unseen), right, beside, Counter((names or [""])[0] for names in found if names[:1] != [name]))


def alarms() -> tuple[Alarms, Alarms]:
    """What the detectors find in the shipped runs without a failure: those with batch checks, and the older ones without.

    Left out are the runs that limits were set on, runs with an assistant (a student is their teacher too), and runs on your own data.
    """
    grid = sweep("failures")
    seen = {recipe.but(seed=seed).key for recipe in grid.recipes() for seed in SET_ON}
    groups: tuple[list[Record], list[Record]] = ([], [])
    for key, row in sorted(rows().items()):
        recipe = Experiment.from_recipe(row["recipe"])
        if key in seen or recipe.assistant != "none" or recipe.data or any(entry.within(recipe) for entry in FAILURES.values()):
            continue
        if record := shipped().judged(recipe):
            groups[not record.numbers("look")].append(record)
    with_looks, without = (
        Alarms(
            len(runs),
            [(r.experiment, [d.failure for d in found]) for r in runs if (found := diagnose(r))],
            sum("fresh" in r.exam.habits for r in runs),
        )
        for runs in groups
    )
    return with_looks, without


def _runs(grid: Sweep, recipe: Experiment) -> list[Record]:
    found = [run for seed in range(grid.seeds) if (run := shipped().judged(recipe.but(seed=seed)))]
    if len(found) < grid.seeds:
        raise LabError(f"{len(found)} of {grid.seeds} seeds of {recipe.recipe!r} are on record: `labkit build records` runs them.")
    return found
