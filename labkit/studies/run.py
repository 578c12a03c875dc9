"""Runs that end in a record: fetch or make one, and compare several over shared seeds.

rec = labkit.record(Experiment(student="57k"))
labkit.compare([exp, exp.but(temperature=2.0)], seeds=3)      # one table, with bands and verdicts
"""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from labkit.base.errors import LabError
from labkit.base.files import made_here
from labkit.base.stats import band
from labkit.records import events as ev
from labkit.records.comparison import Comparison
from labkit.records.experiment import Experiment
from labkit.records.record import Record, mean
from labkit.records.rules import refuse
from labkit.records.store import Store
from labkit.tasks.custom.content_hash import with_hashes
from labkit.training.checkpoint import Folder
from labkit.training.loop import Run


def folder_of(experiment: Experiment) -> Path:
    """Where a run of this recipe keeps its log and checkpoint while it is under way."""
    return made_here("runs") / experiment.key


def begin(experiment: Experiment, exams: int | None = None) -> Run:
    """A run that keeps itself in its recipe's folder, and goes on from what a killed one left there; but one whose knobs had been
    turned was another recipe's, and is not gone on from."""
    experiment = with_hashes(experiment)
    folder = Folder(folder_of(experiment), experiment)
    if folder.turned():
        folder.forget()
    return Run(experiment, folder.path, exams=exams)


def keep(record: Record) -> Path:
    """Put a finished run on record, and clear away its checkpoint."""
    path = Store().add(record)
    clear(record)
    return path


def clear(record: Record) -> None:
    """Clear away the checkpoint of a run whose student is no longer needed."""
    shutil.rmtree(folder_of(record.experiment), ignore_errors=True)


def record(
    experiment: Experiment | None = None, *, fresh: bool = False, watch: Callable[[ev.Event], None] | None = None, **changes
) -> Record:
    """The record of an experiment: fetched if it is on record (`fresh=True` runs it anyway), else run to the end.

    `watch` is called with every event. A run that fails raises `LabError` with what the board would say; one that was killed
    earlier goes on from its checkpoint. A fetched record gets the baselines that were measured since.
    """
    experiment = with_hashes((experiment or Experiment()).but(**changes))
    if not fresh and (found := Store().judged(experiment)):
        return found
    refuse(experiment)
    made = completed(begin(experiment), watch)
    keep(made)
    return made


def completed(run: Run, watch: Callable[[ev.Event], None] | None = None) -> Record:
    """The record of a run, once it is through. Raises `LabError` with what the board would say if it fails."""
    made, cause = Record(), None
    try:
        for event in run:
            made.add(event)
            if watch:
                watch(event)
    except Exception as error:
        if not isinstance(made.finished, ev.Failed):
            raise  # from `watch`, whose errors are the caller's
        cause = error
    finally:
        run.close()
    if isinstance(made.finished, ev.Failed):
        raise LabError(f"{made.finished.message.rstrip('.')}. {made.finished.advice}") from cause
    return made


def compare(experiments: Sequence[Experiment], seeds: int = 3, watch: Callable[[ev.Event], None] | None = None) -> Comparison:
    """Run (or fetch) every recipe over the seeds 0 to `seeds - 1`, and compare each with the first. Raises `LabError`, before the first is
    run, for a recipe that breaks a rule."""
    if len(experiments) < 2:
        raise LabError(f"compare needs at least two recipes, and got {len(experiments)}: a number alone says nothing.")
    if seeds < 1:
        raise LabError(f"seeds={seeds} must be at least 1 (3 for a look, 5 for a claim).")
    for experiment in experiments:
        refuse(experiment)
    return Comparison(experiments, [[record(e.but(seed=s), watch=watch) for s in range(seeds)] for e in experiments])


class Drift(NamedTuple):
    """A recorded run and the same recipe run now, whole or in part.

    loss: the largest relative difference between the two losses at any step both took. inside: whether the new mean core skill lies
    where 95% of other seeds would, `low` to `high`, by those on record (Student's t, for one more draw); None for part of a run, or
    with fewer than three seeds.
    """

    recorded: Record
    fresh: Record
    loss: float
    low: float
    high: float
    inside: bool | None

    def __repr__(self) -> str:
        steps, total = len(self.fresh.steps), len(self.recorded.steps)
        told = f"the first {steps} of {total} steps" if steps < total else f"all {total} steps"
        parts = [f"{told}: losses differ by at most {self.loss:.2g} of their size"]
        if self.fresh.complete:
            now, then = mean(self.fresh.skills), mean(self.recorded.skills)
            where = "no band: fewer than three seeds are on record"
            if self.inside is not None:
                where = f"{'inside' if self.inside else 'OUTSIDE'} the band of the seeds on record, {self.low:.3f} to {self.high:.3f}"
            parts.append(f"mean core skill {now:.3f} now, {then:.3f} on record ({now - then:+.3f}), {where}")
        return "; ".join(parts) + "."


def rerun(experiment: Experiment, steps: int | None = None, watch: Callable[[ev.Event], None] | None = None) -> Drift:
    """Run a recorded recipe again, here and now, and say how far it drifted; the record stays as it is. `steps` runs only the first of
    them. Raises `LabError` if the recipe is not on record."""
    if steps is not None and steps < 1:
        raise LabError(f"steps={steps} must be at least 1; leave it out for the whole run.")
    experiment = with_hashes(experiment)
    recorded = Store().judged(experiment)
    if recorded is None:
        raise LabError(
            f"{experiment.recipe!r} is not on record, so there is nothing to compare with: labkit.record(...) runs and keeps it."
        )
    fresh = Record()
    for event in Run(experiment):
        fresh.add(event)
        if watch:
            watch(event)
        if isinstance(event, ev.Failed):
            raise LabError(f"{event.message.rstrip('.')}. {event.advice}")
        if steps is not None and steps <= len(fresh.steps) < experiment.steps:
            break
    then = {step.step: step.values["loss"] for step in recorded.steps}
    loss = max((abs(now.values["loss"] / then[now.step] - 1) for now in fresh.steps if now.step in then), default=math.nan)
    seeds = [mean(r.skills) for seed in range(5) if (r := Store().judged(experiment.but(seed=seed)))]
    if len(seeds) < 3 or not fresh.complete:
        return Drift(recorded, fresh, loss, math.nan, math.nan, None)
    found = band(seeds)
    half = (found.high - found.middle) * math.sqrt(len(seeds) + 1)  # of one more draw, not of the mean
    low, high = found.middle - half, found.middle + half
    return Drift(recorded, fresh, loss, low, high, low <= mean(fresh.skills) <= high)


def with_baseline(made: Record, watch: Callable[[Run, ev.Event], None] | None = None) -> Iterator[ev.Reference]:
    """Measure the label-budget baseline that a record lacks, and yield it as the reference to add to that record."""
    recipe = made.experiment.baseline()
    baseline = Store().judged(recipe)
    if baseline is None:
        run = begin(recipe)
        baseline = Record(run, functools.partial(watch, run) if watch else lambda event: None)
        if not baseline.complete:
            return
        keep(baseline)
    yield baseline.reference("label budget")
