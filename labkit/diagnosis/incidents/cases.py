"""Cases: a real run with none, one or two failures in it, drawn by a number, and sealed.

    case = draw(7)                  # prints as "a sealed case"; the same number draws the same case
    case.brief, case.evidence       # what was ordered, and what may be seen of the run

The runs are those of the sweeps "failures" (seeds no detector was set on) and "incidents", or trained here and now, and then kept nowhere.
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

SOURCES = {"failures": range(2, 7), "incidents": range(2)}  # of the first, detectors know the seeds 0 and 1
ODDS = (1, 2, 1)  # of no failure, one, and two
LIVE_SEEDS = 1_000  # from here on, so that no run trained for a case is one on record


class Case:
    """One sealed run. brief: what was ordered. evidence: what may be seen of it. healthy: the same of sound runs of that order.

    What is wrong with it is in private attributes: printing a case, or anything shown of it, does not tell.
    """

    def __init__(self, number: int, recipe: Experiment, record: Record, live: bool) -> None:
        self.number, self.live = number, live
        self._recipe, self._record = recipe, record
        self.evidence = Evidence(record)
        self.brief = brief(ordered(recipe))
        self.healthy = _sound(ordered(recipe).but(seed=0), recipe.key)

    def __repr__(self) -> str:
        return "a sealed case"


def draw(number: int) -> Case:
    """A recorded case. Raises `LabError` if none is on record."""
    for recipe in _order(number):
        if found := _find(recipe):
            return Case(number, recipe, found, live=False)
    raise LabError(
        "no recorded case is on this machine. Restore data/records with `git checkout -- data`, or train one: incident(live=True)."
    )


def train(number: int, watch: Callable[[int, int], object] = lambda step, steps: None) -> Case:
    """A case trained here and now, some ten seconds; `watch` gets (step, steps). Its run is kept nowhere, so that no file tells on it."""
    from labkit.training.loop import Run

    recipe = _invented(number)
    try:
        record = Record(Run(recipe), lambda event: watch(event.step, recipe.steps) if isinstance(event, ev.Step) else None)
    except LabError:
        record = Record()  # what went wrong would tell what is in it
    if not record.complete:
        raise LabError("the run of this case did not come to its end. Draw another: incident(live=True).")
    return Case(number, recipe, record, live=True)


def truth(recipe: Experiment) -> tuple[str, ...]:
    """The failures a recipe has in it, in the registry's order."""
    return tuple(name for name, entry in FAILURES.items() if entry.within(recipe))


def ordered(recipe: Experiment) -> Experiment:
    """The recipe as it was meant: with every failure cured."""
    for name in truth(recipe):
        recipe = FAILURES[name].cure(recipe)
    return recipe


def brief(meant: Experiment) -> str:
    """What was ordered, in a sentence."""
    cut = ", with a vocabulary of its own" if meant.vocabulary != "atlas" else ""
    mixed = f"half and half with {meant.gold:,} gold labels" if meant.mix else "no gold labels"
    return (
        f"A {meant.student} student of {meant.teacher}{cut}: soft labels at T = {meant.temperature:g}, {mixed}; {meant.steps} steps of "
        f"{meant.batch}, on {meant.questions:,} different questions about {meant.scale}, which the teacher answered once, beforehand."
    )


# ---- the pool ----------------------------------------------------------------------------------------------------------------------


@functools.cache
def recorded() -> Mapping[Experiment, tuple[str, ...]]:
    """Every recipe a case may be drawn from, and what is in it: only of orders that have runs with no failure, with one and with two, so
    that what was ordered does not tell."""
    recipes = {recipe: seeds for name, seeds in SOURCES.items() for recipe in sweep(name).recipes()}
    names = {recipe: truth(recipe) for recipe in recipes}
    orders = {recipe: ordered(recipe) for recipe in recipes}
    many = {order: {len(names[recipe]) for recipe in recipes if orders[recipe] == order} for order in orders.values()}
    fit = [recipe for recipe in recipes if len(names[recipe]) <= 2 and many[orders[recipe]] >= {0, 1, 2}]
    return {recipe.but(seed=seed): names[recipe] for recipe in fit for seed in recipes[recipe]}


@functools.cache
def _sound(order: Experiment, but: str) -> tuple[Evidence, ...]:
    """What may be seen of every recorded sound run of an order, but for the run itself."""
    grids = [grid for name in SOURCES if order in (grid := sweep(name)).recipes()]
    found = [run for grid in grids for seed in range(grid.seeds) if (run := _find(order.but(seed=seed)))]
    return tuple(Evidence(run) for run in found if run.experiment.key != but)


def _find(recipe: Experiment) -> Record | None:
    """A run on record; a damaged one is passed over, since to name it would tell."""
    try:
        return Store().find(recipe)
    except DataError:
        return None


def _order(number: int) -> Iterator[Experiment]:
    """Recipes by how well a number draws them: first how many failures, then which, then in what run."""
    pool, many = recorded(), _many(number)
    for names in sorted(set(pool.values()), key=lambda some: (len(some) != many, _lot(number, "+".join(sorted(some))))):
        yield from sorted((recipe for recipe in pool if pool[recipe] == names), key=lambda recipe: _lot(number, recipe.recipe))


def _invented(number: int) -> Experiment:
    """A recipe of one's own for a case that is trained."""
    orders = {recipe.but(seed=LIVE_SEEDS + number) for recipe, names in recorded().items() if not names}
    meant = min(orders, key=lambda order: _lot(number, order.recipe))
    for names in sorted(itertools.permutations(FAILURES, _many(number)), key=lambda some: _lot(number, "+".join(some))):
        try:
            made = provoke(meant, *names)
        except LabError:
            continue
        telling = made.generations > 1 or made.teacher in MADE_TEACHERS  # the students before it are kept
        if sorted(truth(made)) == sorted(names) and not telling:
            return made
    return meant


def _many(number: int) -> int:
    """How many failures a number draws, by the odds."""
    left = int.from_bytes(_lot(number, "how many")) % sum(ODDS)
    return next(many for many in range(len(ODDS)) if left < sum(ODDS[: many + 1]))


def _lot(number: int, text: str) -> bytes:
    """By these things are drawn: the lowest wins, so that something added later changes a draw only where it wins."""
    return hashlib.blake2b(f"{number} {text}".encode(), digest_size=8).digest()
