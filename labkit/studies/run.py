"""Records of runs: fetch or make one, compare several over the same seeds, or repeat one.

rec = labkit.record(Experiment(student="57k"))
labkit.compare([exp, exp.but(temperature=2.0)], seeds=3)      # one table, with bands and verdicts
"""

from __future__ import annotations

import functools
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from labkit.base.errors import LabError
from labkit.base.files import made_here, prepare_home
from labkit.base.kinds import kinds_checked
from labkit.base.stats import band
from labkit.base.threads import processors
from labkit.records import events as ev
from labkit.records.comparison import Comparison
from labkit.records.experiment import Experiment
from labkit.records.machines import GPU, Machine, tolerance
from labkit.records.progress import Progress
from labkit.records.record import Record, mean
from labkit.records.rules import refuse
from labkit.records.store import Store
from labkit.tasks.custom.content_hash import with_hashes
from labkit.training.checkpoint import Folder
from labkit.training.loop import Run


def folder_of(experiment: Experiment) -> Path:
    """The folder for log and checkpoint of a run of this recipe, until it has ended."""
    return made_here("runs") / experiment.key


def has_checkpoint(experiment: Experiment) -> bool:
    """Whether a run of this recipe was cut off, and can go on."""
    return Folder(folder_of(experiment), experiment).checkpoint.exists()


def begin(experiment: Experiment, exams: int | None = None) -> Run:
    """Start a run in the folder of its recipe. It goes on from the checkpoint of an earlier run that was killed.

    A checkpoint of a run whose knobs were turned is deleted: its result would not be that of the recipe.

    exams: number of exams, as for `Run`.
    """
    prepare_home()
    experiment = with_hashes(experiment)
    folder = Folder(folder_of(experiment), experiment)
    if folder.turned():
        folder.forget()
    return Run(experiment, folder.path, exams=exams)


def keep(record: Record) -> Path:
    """Store the record of a finished run, and delete its checkpoint.

    Returns the path of the stored record.
    """
    path = Store().add(record)
    clear(record)
    return path


def clear(record: Record) -> None:
    """Delete the folder of a run, with its log and checkpoint: its student is then no longer available."""
    shutil.rmtree(folder_of(record.experiment), ignore_errors=True)


@kinds_checked
def record(
    experiment: Experiment | None = None, *, fresh: bool = False, watch: Callable[[ev.Event], None] | None = None, **changes
) -> Record:
    """The record of a recipe: fetched if there is one, otherwise made by a run.

    A fetched record also gets the baselines that were measured after it. A run that was killed goes on from its checkpoint.

    experiment: the recipe; the default one if not given.
    fresh: run it even if there is a record.
    watch: called with each event of a run.
    changes: fields of the recipe to change, as in `record(student="57k")`.

    Returns the record. Raises `LabError` for a recipe that breaks a rule, and for a run that fails, with its message and advice.
    """
    experiment = with_hashes(Experiment.of(experiment).but(**changes))
    if not fresh and (found := Store().judged(experiment)):
        return found
    refuse(experiment)
    made = completed(begin(experiment), watch)
    keep(made)
    return made


def completed(run: Run, watch: Callable[[ev.Event], None] | None = None) -> Record:
    """Run to the end.

    watch: called with each event.

    Returns the record. Raises `LabError` with the message and advice of a run that fails.
    """
    made, cause = Record(), None
    try:
        for event in run:
            made.add(event)
            if watch:
                watch(event)
    except Exception as error:
        if not isinstance(made.finished, ev.Failed):
            raise  # an error of `watch`: it is the caller's
        cause = error
    finally:
        run.close()
    if isinstance(made.finished, ev.Failed):
        raise LabError(f"{made.finished.message.rstrip('.')}. {made.finished.advice}") from cause
    return made


@kinds_checked
def compare(experiments: Iterable[Experiment], seeds: int = 3, watch: Callable[[ev.Event], None] | None = None) -> Comparison:
    """Run or fetch each recipe over the seeds 0 to `seeds - 1`, and compare it with the first recipe.

    experiments: at least two recipes; their own seeds are ignored.
    seeds: how many; 3 for a look, 5 for a claim.
    watch: called with each event of all runs; if not given, a line on a terminal or in a notebook tells how they go on.

    Returns a table with bands and verdicts. Raises `LabError` for fewer than two recipes, or one that breaks a rule, before the first run.
    """
    if len(recipes := list(map(Experiment.of, experiments))) < 2:
        raise LabError(f"compare got {len(recipes)} recipes, and needs at least two: give one to compare with.")
    if seeds < 1:
        raise LabError(f"seeds={seeds} must be at least 1 (3 for a look, 5 for a claim).")
    for experiment in recipes:
        refuse(experiment)
    made: list[list[Record]] = [[] for _ in recipes]
    with Progress(every=0) as progress:
        for number in range(len(recipes) * seeds):
            arm, seed = divmod(number, seeds)
            progress.of(f"run {number + 1} of {len(recipes) * seeds}")
            made[arm].append(record(recipes[arm].but(seed=seed), watch=watch or progress))
    return Comparison(recipes, made)


class Drift(NamedTuple):
    """A recorded run, compared with a new run of the same recipe or of its first steps."""

    recorded: Record
    fresh: Record
    loss: float  # the largest relative difference between the two losses of a step, beyond the digits of a record; 0: all of them agree
    low: float  # 95% prediction interval of the mean core skill for one more seed, from the recorded seeds (Student's t)
    high: float
    inside: bool | None  # whether the new score is in it; None for part of a run, or if fewer than three seeds are on record

    def __repr__(self) -> str:
        steps, total = len(self.fresh.steps), len(self.recorded.steps)
        part = f"the first {steps} of {total} steps" if steps < total else f"all {total} steps"
        parts = [f"{part}: losses differ by at most {self.loss:.2g} of their size"]
        if self.fresh.complete:
            now, then = mean(self.fresh.skills), mean(self.recorded.skills)
            where = "no band: fewer than three seeds are on record"
            if self.inside is not None:
                where = f"{'inside' if self.inside else 'OUTSIDE'} the band of the seeds on record, {self.low:.3f} to {self.high:.3f}"
            parts.append(f"mean core skill {now:.3f} now, {then:.3f} on record ({now - then:+.3f}), {where}")
        return f"{'; '.join(parts)}. {self.machines}"

    @property
    def machines(self) -> str:
        """The machine on record and this one, in sentences: whether they are the same, what was to be expected of that, and what came."""
        then, now = (Machine.of(record.started.machine if record.started else "") for record in (self.recorded, self.fresh))
        came = "every digit on record is the same"
        threads = [e for e in self.recorded.events if isinstance(e, ev.KnobTurned) and e.name == "threads"]
        if then == now and then.kernels and not threads and not then.kernels.startswith(GPU):
            if self.loss:
                came = (
                    "they are not the same: the lab or a library has changed since, the teacher's signals were kept by a run with other "
                    "threads or kernels, or a processor of another maker has other kernels of this name"
                )
            return f"On record and here: {now}. The same bits are expected, and {came}."
        told = [f"On record: {then}.", f"Here: {now}."]
        told += [] if then.kernels else ["The record is of an older version, and does not name its kernels."]
        told += [f"The recorded run went on with {e.new} of its threads from step {e.step}." for e in threads]
        if then.threads != now.threads and then.threads <= processors():
            told.append(f"For the threads on record, start with OMP_NUM_THREADS={then.threads}.")
        told += [] if self.loss else [f"{came[0].upper()}{came[1:]}."]
        return " ".join([*told, self._tolerance(then, now)])

    def _tolerance(self, then: Machine, now: Machine) -> str:
        """What was measured for two machines that are not the same, and whether this run is inside it."""
        try:
            measured = tolerance(then, now, self.recorded.experiment, len(self.fresh.steps))
        except LabError as error:  # of the shipped data; the run is over, and its numbers are told all the same
            return f"The recorded tolerances cannot be read: {error}"
        if measured is None:
            return "How far these two differ in such a run was never measured: labkit.measured('kernels') has what was."
        apart = _apart(self.recorded, self.fresh, measured.steps)
        inside = "inside it"
        if apart > measured.loss:
            inside = "outside it, and inside" if apart <= measured.largest else "OUTSIDE it and"
            inside += f" that between any two, {measured.largest:.2g}"
        ends = "these two" if then.kernels else "this one and any other"
        told = (
            f"The recorded tolerance between {ends} is {measured.loss:.2g} over the first {measured.steps} steps of a run such as "
            f"`{measured.recipe}`: this run is {inside}."
        )
        return told if measured.score is None else f"{told} The mean core skill differed there by {measured.score:.3f}."


@kinds_checked
def rerun(experiment: Experiment, steps: int | None = None, watch: Callable[[ev.Event], None] | None = None) -> Drift:
    """Run a recorded recipe again on this machine, and measure how far the result is from the record. The record does not change.

    It takes the threads on record, if as many are free at this moment and OMP_NUM_THREADS is not set; else it says how many it took.

    experiment: the recipe.
    steps: run only this many first steps; all if not given.
    watch: called with each event.

    Returns the comparison. Raises `LabError` if the recipe is not on record, `steps` is below 1, or the run fails.
    """
    if steps is not None and steps < 1:
        raise LabError(f"steps={steps} must be at least 1; leave it out for the whole run.")
    experiment = with_hashes(Experiment.of(experiment))
    recorded = Store().judged(experiment)
    if recorded is None:
        raise LabError(
            f"{experiment.recipe!r} is not on record, so there is nothing to compare with. Run it once, and its record is kept: "
            f"`labkit run {experiment.recipe}`."
        )
    fresh = Record()
    for event in _with_threads_of(recorded, experiment):
        fresh.add(event)
        if watch:
            watch(event)
        if isinstance(event, ev.Failed):
            raise LabError(f"{event.message.rstrip('.')}. {event.advice}")
        if steps is not None and steps <= len(fresh.steps) < experiment.steps:
            break
    loss = _apart(recorded, fresh, len(fresh.steps))
    seeds = [mean(r.skills) for seed in range(5) if (r := Store().judged(experiment.but(seed=seed)))]
    if len(seeds) < 3 or not fresh.complete:
        return Drift(recorded, fresh, loss, math.nan, math.nan, None)
    scores = band(seeds)
    half = (scores.high - scores.middle) * math.sqrt(len(seeds) + 1)  # the interval of one more draw, not of the mean
    low, high = scores.middle - half, scores.middle + half
    return Drift(recorded, fresh, loss, low, high, low <= mean(fresh.skills) <= high)


def _with_threads_of(recorded: Record, experiment: Experiment) -> Run:
    """A run of a recipe with the threads of its record, if there are as many here and the user has not set another number."""
    import torch

    before = torch.get_num_threads()
    threads = Machine.of(recorded.started.machine).threads if recorded.started else 0
    if 1 <= threads <= processors() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    try:
        return Run(experiment)
    finally:
        torch.set_num_threads(before)


def _apart(recorded: Record, fresh: Record, first: int) -> float:
    """The largest relative difference of the losses of a step, over the first steps of both; NaN if they share none.

    A record keeps six digits. Half of the last one is taken off, so that 0 means that all digits agree.
    """
    then = {step.step: step.values["loss"] for step in recorded.steps}
    found = [
        max(0.0, abs(now.values["loss"] - old) - 0.500001 * 10 ** (math.floor(math.log10(abs(old))) - 5)) / abs(old)
        for now in fresh.steps[:first]
        if (old := then.get(now.step))
    ]
    return max(found, default=math.nan)


def with_baseline(made: Record, watch: Callable[[Run, ev.Event], None] | None = None) -> Iterator[ev.Reference]:
    """Fetch or run the label-budget baseline of a record.

    watch: called with the run and each of its events.

    Yields the reference to add to the record; nothing if the run is stopped.
    """
    recipe = made.experiment.baseline()
    baseline = Store().judged(recipe)
    if baseline is None:
        run = begin(recipe)
        baseline = Record(run, functools.partial(watch, run) if watch else lambda event: None)
        if not baseline.complete:
            return
        keep(baseline)
    yield baseline.reference("label budget")
