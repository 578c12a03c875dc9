"""A grid of experiments over seeds, run once each on a few processes, and read as one table.

    sweep = Sweep.from_toml('''
    [experiment]
    steps = 300
    [grid]
    temperature = [1.0, 2.0, 4.0]
    [[arm]]
    name = "small"
    student = "57k"
    learning_rate = 2e-2
    [[arm]]
    name = "large"
    student = "200k"
    [sweep]
    seeds = 3
    ''')
    sweep.run(); sweep.table()
    labkit.sweep("ladder").table()            # one of those in data/sweeps, whose runs ship with the lab

What is on record is not run again, so a sweep that was killed goes on where it was, each run from its own checkpoint.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import multiprocessing
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.errors import LabError, unknown
from labkit.experiment import KNOBS, Experiment
from labkit.paths import data_dir
from labkit.records import Record, Store, mean, paired

if TYPE_CHECKING:
    import pandas

SECTIONS = ("experiment", "grid", "arm", "sweep")


class Sweep(NamedTuple):
    """Every arm (a named set of fields that go together) with every combination of the values in `grid`, on top of `base`, for seeds
    0 to `seeds - 1`."""

    base: Experiment
    grid: Mapping[str, Sequence[Any]]
    seeds: int = 3
    arms: Mapping[str, Mapping[str, Any]] = MappingProxyType({"": {}})

    @classmethod
    def from_toml(cls, text: str) -> Sweep:
        """Raises `LabError` for what cannot be read, a field that does not exist, or a value outside its range."""
        try:
            told = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise LabError(f"cannot read the sweep: {error}.") from None
        for section in told:
            if section not in SECTIONS:
                raise unknown("section", section, SECTIONS)
            if section != "arm" and not isinstance(told[section], dict):
                raise LabError(f"[{section}] must be one table of fields, as in [grid] and, under it, temperature = [1.0, 2.0].")
        if extra := [name for name in told.get("sweep", {}) if name != "seeds"]:
            raise unknown("field of [sweep]", extra[0], ("seeds",))
        grid, seeds = told.get("grid", {}), told.get("sweep", {}).get("seeds", 3)
        arms = told.get("arm", [])
        if not (grid or arms) or not all(isinstance(values, list) and values for values in grid.values()):
            raise LabError("a sweep needs a [grid] table with a list of values for each field, as in temperature = [1.0, 2.0].")
        names = [arm.get("name") for arm in arms] if isinstance(arms, list) and all(isinstance(arm, dict) for arm in arms) else [None]
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
            raise LabError('every [[arm]] of a sweep needs a name of its own, as in name = "online", and then its fields.')
        if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
            raise LabError(f"seeds={seeds!r} must be a whole number, at least 1 (3 for a look, 5 for a claim).")
        named = {arm["name"]: {field: value for field, value in arm.items() if field != "name"} for arm in arms}
        sweep = cls(Experiment().but(**told.get("experiment", {})), grid, seeds, named or {"": {}})
        sweep.recipes()  # every one of them is looked at before the first is run
        return sweep

    def points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Arm and values of the grid's fields, one combination after the other; the first is what the others are compared with."""
        for arm, values in itertools.product(self.arms, itertools.product(*self.grid.values())):
            yield arm, dict(zip(self.grid, values, strict=True))

    def recipe(self, arm: str = "", **values: Any) -> Experiment:
        """The experiment at one point, without its seed. Raises `LabError` for an arm that is not there, or a point off the grid."""
        if arm not in self.arms:
            raise unknown("arm", arm, self.arms)
        if values.keys() != self.grid.keys():
            raise LabError(
                f"a point of this sweep has values for {', '.join(self.grid) or 'no field'}, and got {', '.join(values) or 'none'}."
            )
        return self.base.but(**{**self.arms[arm], **values})

    def recipes(self) -> list[Experiment]:
        """The combinations, without seeds, in the order of the arms and of the grid's fields."""
        for arm, fields in self.arms.items():
            if both := fields.keys() & self.grid.keys():
                raise LabError(f"arm {arm!r} and the grid both set {', '.join(sorted(both))}: leave it to one of them.")
        for name in (*self.grid, *(field for fields in self.arms.values() for field in fields)):
            if name not in KNOBS or name == "seed":
                raise unknown("field", name, [n for n in KNOBS if n != "seed"])
        return [self.recipe(arm, **values) for arm, values in self.points()]

    def records(self, arm: str = "", **values: Any) -> list[Record]:
        """What is on record at one point, a run a seed."""
        recipe = self.recipe(arm, **values)
        return [found for seed in range(self.seeds) if (found := record_of(recipe.but(seed=seed)))]

    def experiments(self) -> list[Experiment]:
        """All that has to be run: each recipe's seeds, and the label-budget baselines they are judged by, once each."""
        seeded = [recipe.but(seed=seed) for seed in range(self.seeds) for recipe in self.recipes()]
        wanted = [e for run in seeded for e in (*([run.baseline()] if run.teacher != "none" else []), run)]
        return list({e.key: e for e in wanted}.values())

    def missing(self) -> list[Experiment]:
        store = Store()
        return [e for e in self.experiments() if not (found := store.find(e)) or not found.complete]

    def run(self, jobs: int = 1, tell: Callable[[str], None] = print) -> None:
        """Run what is not on record. With several `jobs`, on as many processes, which share the cores.

        A run that fails is told and does not stop the others; `LabError` at the end names how many did.
        """
        todo, failed, done = self.missing(), 0, 0
        tell(f"{len(self.experiments())} runs, {len(todo)} of them to do")
        judged_by = {run.baseline().key for run in todo}
        for phase in (True, False):  # baselines first, all of them: a run is judged by its own seed's
            for experiment, trouble in _finished([e for e in todo if (e.key in judged_by) == phase], jobs):
                done, failed = done + 1, failed + (trouble is not None)
                tell(f"{done}/{len(todo)}  {experiment.recipe}" + (f"  failed: {trouble}" if trouble else ""))
        if failed:
            raise LabError(f"{failed} of {len(todo)} runs failed, as told above; the others are on record. Run the sweep again to retry.")

    def table(self) -> pandas.DataFrame:
        """A row a recipe: the grid's values, mean core skill, recovery, KL, and the difference from the first with its band."""
        import pandas

        points = list(self.points())
        groups = [self.records(arm, **values) for arm, values in points]
        rows = []
        for (arm, values), runs in zip(points, groups, strict=True):
            scores = [mean(r.skills) for r in runs]
            row: dict[str, Any] = ({"arm": arm} if arm else {}) | values | {"seeds": len(runs)}
            if runs:
                recovered = [r.recovery().mean for r in runs if {"label budget", "teacher"} <= r.references.keys()]
                row |= {
                    "mean skill": sum(scores) / len(scores),
                    "recovery": sum(recovered) / len(recovered) if len(recovered) == len(runs) else None,
                    "KL": sum(r.evaluations[-1].fidelity.get("kl", float("nan")) for r in runs) / len(runs),
                }
            if runs and runs is not groups[0] and {r.experiment.seed for r in runs} == {r.experiment.seed for r in groups[0]}:
                found = paired(runs, groups[0])
                row |= {"difference": found.middle, "low": found.low, "high": found.high, "verdict": found.verdict}
            rows.append(row)
        return pandas.DataFrame(rows)


def sweep(name: str) -> Sweep:
    """One of the sweeps in `data/sweeps`, whose runs ship with the lab. Raises `LabError` for a name that is not there."""
    files = {path.stem: path for path in sorted((data_dir() / "sweeps").glob("*.toml"))}
    if name not in files:
        raise unknown("sweep", name, files)
    return Sweep.from_toml(files[name].read_text(encoding="utf-8"))


def record_of(experiment: Experiment) -> Record | None:
    """The finished run on record, with every baseline that is."""
    from labkit.runs import record  # brings torch, which reading a sweep does not need

    found = Store().find(experiment)
    return record(experiment) if found and found.complete else None


def _finished(experiments: Sequence[Experiment], jobs: int) -> Iterator[tuple[Experiment, str | None]]:
    """Each experiment once it has been run, with what went wrong if something did."""
    if jobs <= 1:
        for experiment in experiments:
            yield experiment, _run_one(experiment.to_dict(), 0)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = {pool.submit(_run_one, experiment.to_dict(), threads): experiment for experiment in experiments}
        for future in concurrent.futures.as_completed(waiting):
            error = future.exception()
            yield waiting[future], str(error) if error else future.result()


def _run_one(experiment: dict[str, Any], threads: int) -> str | None:
    """In a process of its own, or this one: run it, and say in words what went wrong."""
    from labkit.runs import record

    if threads:
        import torch

        torch.set_num_threads(threads)
    try:
        record(Experiment.from_dict(experiment))
    except LabError as error:
        return str(error)
    return None
