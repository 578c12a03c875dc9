"""Failures and their detectors, put to the test on the runs that ship: effects with bands, names given to unseen runs, false alarms.

    effect("missing_end")             # the symptom with the failure less that without, paired by seed
    sightings("missing_end")          # what was said of runs that no limit was set on

The arm of the sweep "failures" that bears a failure's name has it; the same recipe, cured, is beside it.
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

SET_ON = (0, 1)  # seeds of the sweep that the detectors' limits were set on: they prove nothing any more


class Pair(NamedTuple):
    """Runs of one recipe with a failure in it, and of the same recipe cured, by seed."""

    provoked: Sequence[Record]
    cured: Sequence[Record]


class Sightings(NamedTuple):
    """Of unseen runs that have a failure: how many there are, how many were told by it first, and how often anything else was found in
    them (`beside`) or put in its place (`instead`; "" is nothing)."""

    runs: int
    right: int
    beside: Mapping[str, int]
    instead: Mapping[str, int]


class Alarms(NamedTuple):
    """Of unseen runs that have no failure: how many there are, the false findings of those that were given any, and how many were asked
    fresh questions, without which a leaked exam cannot be told."""

    runs: int
    false: Sequence[tuple[Experiment, Sequence[str]]]
    fresh: int = 0


def pair(name: str) -> Pair:
    """Raises `LabError` for a failure without recorded runs."""
    grid, entry = sweep("failures"), named(name)
    recipe = grid.recipe(name)
    return Pair(_runs(grid, recipe), _runs(grid, entry.cure(recipe)))


def effect(name: str, score: Callable[[Record], float] | None = None) -> Band:
    """How much more of the symptom (or of another `score`) the runs with a failure have than those it was cured in."""
    symptom = named(name).symptom
    return paired(*pair(name), score or (lambda record: symptom(Evidence(record))))


def cost(name: str) -> Band:
    """What a failure adds to the mean core skill: mostly less than nothing."""
    return effect(name, core)


def sightings(name: str) -> Sightings:
    """What the detectors say of a failure's runs with seeds they were not set on."""
    unseen = [record for record in pair(name).provoked if record.experiment.seed not in SET_ON]
    found = [[diagnosis.failure for diagnosis in diagnose(record)] for record in unseen]
    right = sum(names[:1] == [name] for names in found)
    beside = Counter(other for names in found for other in names if other != name)
    return Sightings(len(unseen), right, beside, Counter((names or [""])[0] for names in found if names[:1] != [name]))


def alarms() -> tuple[Alarms, Alarms]:
    """What the detectors say of every shipped run whose recipe has no failure within it: the runs with looks at single batches, and the
    older ones without. Left out are those their limits were set on, those of assistants, which are taught by a student too, and those of
    other worlds than Atlas."""
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
