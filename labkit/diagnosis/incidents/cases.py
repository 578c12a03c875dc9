"""Cases: real runs with no, one or two failures, drawn by a number. They do not show their failures.

    case = draw(7)                  # prints as "a sealed case"; the same number draws the same case
    case.brief, case.evidence       # the intended recipe in words, and what a detector may read

The runs are from the sweeps "failures" (seeds that no limit was set on) and "incidents". A run trained for a case is not kept.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping

from labkit.base.errors import DataError, LabError
from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures import FAILURES, provoke
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import MADE_TEACHERS
from labkit.records.record import Record
from labkit.records.store import Store
from labkit.studies.sweep import sweep

SOURCES = {"failures": range(2, 7), "incidents": range(2)}  # the detectors' limits were set on seeds 0 and 1 of the first
ODDS = (1, 2, 1)  # of no, one and two failures
LIVE_SEEDS = 1_000  # the lowest seed of trained cases: none of them is a recorded run


class Case:
    """One run whose failures are hidden: they are in private attributes, and nothing that is shown or printed names them."""

    def __init__(self, number: int, recipe: Experiment, record: Record, live: bool) -> None:
        self.number, self.live = number, live
        self._recipe, self._record = recipe, record
        self.evidence = Evidence(record)
        self.brief = brief(ordered(recipe))  # the intended recipe, in words
        self.healthy = _sound(ordered(recipe).but(seed=0), recipe.key)  # evidence of sound runs of the intended recipe

    def __repr__(self) -> str:
        return "a sealed case"


def draw(number: int) -> Case:
    """The recorded case with this number.

    Raises `LabError` if no run is on record.
    """
    for recipe in _order(number):
        if run := _find(recipe):
            return Case(number, recipe, run, live=False)
    raise LabError(
        "no recorded case is on this machine. Restore data/records with `git checkout -- data`, or train one: incident(live=True)."
    )


def train(number: int, watch: Callable[[int, int], object] = lambda step, steps: None) -> Case:
    """A case whose run is trained now, in about ten seconds. The run is not kept, so that no file shows the failures.

    watch: called with (step, steps) after each step.

    Raises `LabError` if the run does not finish.
    """
    from labkit.training.loop import Run

    recipe = _invented(number)
    try:
        record = Record(Run(recipe), lambda event: watch(event.step, recipe.steps) if isinstance(event, ev.Step) else None)
    except LabError:
        record = Record()  # the error would name the failure
    if not record.complete:
        raise LabError("the run of this case did not finish. Draw another: incident(live=True).")
    return Case(number, recipe, record, live=True)


def truth(recipe: Experiment) -> tuple[str, ...]:
    """The failures in a recipe, in the registry's order."""
    return tuple(name for name, entry in FAILURES.items() if entry.within(recipe))


def ordered(recipe: Experiment) -> Experiment:
    """The intended recipe: every failure is cured."""
    for name in truth(recipe):
        recipe = FAILURES[name].cure(recipe)
    return recipe


def brief(meant: Experiment) -> str:
    """The intended recipe, in a sentence."""
    cut = ", with a vocabulary of its own" if meant.vocabulary != "atlas" else ""
    mixed = f"half and half with {meant.gold:,} gold labels" if meant.mix else "no gold labels"
    return (
        f"A {meant.student} student of {meant.teacher}{cut}: soft labels at T = {meant.temperature:g}, {mixed}; {meant.steps} steps of "
        f"{meant.batch}, on {meant.questions:,} different questions about {meant.scale}, which the teacher answered once before the run."
    )


# ---- the pool ----------------------------------------------------------------------------------------------------------------------


@functools.cache
def recorded() -> Mapping[Experiment, tuple[str, ...]]:
    """The recipes that cases are drawn from, with the failures in each.

    Their intended recipes all have runs with no, one and two failures, so that the intended recipe gives nothing away.
    """
    recipes = {recipe: seeds for name, seeds in SOURCES.items() for recipe in sweep(name).recipes()}
    names = {recipe: truth(recipe) for recipe in recipes}
    orders = {recipe: ordered(recipe) for recipe in recipes}
    counts = {order: {len(names[recipe]) for recipe in recipes if orders[recipe] == order} for order in orders.values()}
    fit = [recipe for recipe in recipes if len(names[recipe]) <= 2 and counts[orders[recipe]] >= {0, 1, 2}]
    return {recipe.but(seed=seed): names[recipe] for recipe in fit for seed in recipes[recipe]}


@functools.cache
def _sound(order: Experiment, but: str) -> tuple[Evidence, ...]:
    """Evidence of every recorded sound run of an intended recipe, without the case's own run (key `but`)."""
    grids = [grid for name in SOURCES if order in (grid := sweep(name)).recipes()]
    runs = [run for grid in grids for seed in range(grid.seeds) if (run := _find(order.but(seed=seed)))]
    return tuple(Evidence(run) for run in runs if run.experiment.key != but)


def _find(recipe: Experiment) -> Record | None:
    """A recorded run, or None; also None for a damaged one, since the error would name its recipe."""
    try:
        return Store().find(recipe)
    except DataError:
        return None


def _order(number: int) -> Iterator[Experiment]:
    """Recipes in the order in which a number prefers them: first by the number of failures, then by which, then by the run."""
    pool, count = recorded(), _many(number)
    for names in sorted(set(pool.values()), key=lambda some: (len(some) != count, _lot(number, "+".join(sorted(some))))):
        yield from sorted((recipe for recipe in pool if pool[recipe] == names), key=lambda recipe: _lot(number, recipe.recipe))


def _invented(number: int) -> Experiment:
    """A recipe for a case that is trained."""
    orders = {recipe.but(seed=LIVE_SEEDS + number) for recipe, names in recorded().items() if not names}
    meant = min(orders, key=lambda order: _lot(number, order.recipe))
    for names in sorted(itertools.permutations(FAILURES, _many(number)), key=lambda some: _lot(number, "+".join(some))):
        try:
            made = provoke(meant, *names)
        except LabError:
            continue
        telling = made.generations > 1 or made.teacher in MADE_TEACHERS  # its earlier students or its teacher are kept on disk
        if sorted(truth(made)) == sorted(names) and not telling:
            return made
    return meant


def _many(number: int) -> int:
    """How many failures a number draws, with the odds `ODDS`."""
    left = int.from_bytes(_lot(number, "how many")) % sum(ODDS)
    return next(many for many in range(len(ODDS)) if left < sum(ODDS[: many + 1]))


def _lot(number: int, text: str) -> bytes:
    """A hash to draw by: the lowest wins. Something added later changes only the draws that it wins."""
    return hashlib.blake2b(f"{number} {text}".encode(), digest_size=8).digest()
