"""Sweeps: a grid of recipes over several seeds, each run once, on one or more processes or machines, and read as one table.

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
    sweep.run(); sweep.table()                # sweep.run(jobs=2) on two processes, sweep.run(backend="ray") on a cluster
    labkit.sweep("ladder").table()            # a sweep of data/sweeps; its runs ship with the lab

A recipe on record is not run again. So a sweep that was killed goes on where it was, each run from its own checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import multiprocessing
import os
import secrets
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.base.errors import LabError, need, reading, shown, unknown
from labkit.base.files import data_dir, home_dir
from labkit.base.interrupts import uninterrupted
from labkit.base.kinds import kinds_checked
from labkit.records import events as ev
from labkit.records.comparison import summary
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.names import DRAFT_HEADS
from labkit.records.record import Record, paired
from labkit.records.store import Store
from labkit.studies import expected
from labkit.studies.expected import Expected
from labkit.tasks.custom.content_hash import with_hashes

if TYPE_CHECKING:
    import pandas

SECTIONS = ("experiment", "grid", "arm", "sweep", "expected")
MOST_SEEDS = int(KNOBS["seed"].knob.high) + 1
BACKENDS = {"local": "loky", "ray": "ray"}  # names in joblib


@kinds_checked
class Sweep(NamedTuple):
    """Each arm with each combination of the grid's values, for several seeds."""

    base: Experiment  # the fields that all recipes share
    grid: Mapping[str, Sequence[Any]]  # values by field
    seeds: int = 3  # the seeds are 0 to seeds - 1
    arms: Mapping[str, Mapping[str, Any]] = MappingProxyType({"": {}})  # fields that are set together, by the arm's name
    expected: tuple[Expected, ...] = ()  # differences that were expected before the runs

    @classmethod
    @kinds_checked
    def from_toml(cls, text: str) -> Sweep:
        """Read a sweep.

        Raises `LabError` for text that cannot be read, an unknown field, a value out of range, or a recipe that breaks a rule.
        """
        with reading("the sweep", "Correct it there.", "cannot be read"):
            fields = tomllib.loads(text)
        for section in fields:
            if section not in SECTIONS:
                raise unknown("section", section, SECTIONS)
            if section != "arm" and not isinstance(fields[section], dict):
                raise LabError(f"[{section}] must be one table of fields, as in [grid] and, under it, temperature = [1.0, 2.0].")
        if extra := [name for name in fields.get("sweep", {}) if name != "seeds"]:
            raise unknown("field of [sweep]", extra[0], ("seeds",))
        grid, seeds = fields.get("grid", {}), fields.get("sweep", {}).get("seeds", 3)
        arms = fields.get("arm", [])
        if not (grid or arms) or not all(isinstance(values, list) and values for values in grid.values()):
            raise LabError("a sweep needs a [grid] table with a list of values for each field, as in temperature = [1.0, 2.0].")
        names = [arm.get("name") for arm in arms] if isinstance(arms, list) and all(isinstance(arm, dict) for arm in arms) else [None]
        if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
            raise LabError('every [[arm]] of a sweep needs a name that no other has, as in name = "online", and then its fields.')
        if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= MOST_SEEDS:
            raise LabError(
                f"seeds={shown(seeds)} must be a whole number, at least 1 and at most {MOST_SEEDS:,} (3 for a look, 5 for a claim)."
            )
        named = {arm["name"]: {field: value for field, value in arm.items() if field != "name"} for arm in arms}
        sweep = cls(Experiment().but(**fields.get("experiment", {})), grid, seeds, named or {"": {}})
        recipes = sweep.recipes()
        for (arm, values), recipe in zip(sweep.points(), recipes, strict=True):
            for problem in recipe.problems():
                what = ", ".join([*([f"arm {arm!r}"] if arm else []), *(f"{field}={shown(value)}" for field, value in values.items())])
                raise LabError(f"{what} of this sweep cannot be run: {problem}")
        if len({(arm, recipe) for (arm, _), recipe in zip(sweep.points(), recipes, strict=True)}) < len(recipes):
            raise LabError("the grid of this sweep has a value twice in a list: remove one of them.")
        return sweep._replace(expected=expected.read(fields.get("expected", {}), sweep.names()))

    def points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Arm and grid values of each combination. The others are compared with the first."""
        for arm, values in itertools.product(self.arms, itertools.product(*self.grid.values())):
            yield arm, dict(zip(self.grid, values, strict=True))

    def names(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The points by name, such as "online, temperature=2.0"."""
        return {", ".join([*[arm] * bool(arm), *(f"{k}={v}" for k, v in values.items())]): (arm, values) for arm, values in self.points()}

    def recipe(self, arm: str = "", **values: Any) -> Experiment:
        """The recipe at one point; its seed is that of `base`.

        values: one for each field of the grid.

        Raises `LabError` for an unknown arm, or if a field of the grid is missing.
        """
        if arm not in self.arms:
            raise unknown("arm", arm, self.arms)
        if values.keys() != self.grid.keys():
            raise LabError(
                f"this sweep got values for {', '.join(values) or 'no field'}: give a value for {', '.join(self.grid) or 'no field'}."
            )
        return self.base.but(**{**self.arms[arm], **values})

    def recipes(self) -> list[Experiment]:
        """The recipes at all points, in the order of `points`, each with the seed of `base`.

        Raises `LabError` for an unknown field, or one that both an arm and the grid set.
        """
        for arm, fields in self.arms.items():
            if both := fields.keys() & self.grid.keys():
                raise LabError(f"arm {arm!r} and the grid both set {', '.join(sorted(both))}: set it in one of them only.")
        for name in (*self.grid, *(field for fields in self.arms.values() for field in fields)):
            if name not in KNOBS or name == "seed":
                raise unknown("field", name, [n for n in KNOBS if n != "seed"])
        return [self.recipe(arm, **values) for arm, values in self.points()]

    def records(self, arm: str = "", **values: Any) -> list[Record]:
        """The records at one point, one for each seed that has been run."""
        recipe, store = with_hashes(self.recipe(arm, **values)), Store()
        return [found for seed in range(self.seeds) if (found := store.judged(recipe.but(seed=seed)))]

    def experiments(self) -> list[Experiment]:
        """All runs of the sweep: each recipe with each seed, and the label-budget baselines for recovery, each once.

        Draft heads have no such baseline: they are scored by acceptance.
        """
        seeded = [with_hashes(recipe).but(seed=seed) for seed in range(self.seeds) for recipe in self.recipes()]
        wanted = [
            e for run in seeded for e in (*([run.baseline()] if run.teacher != "none" and run.student not in DRAFT_HEADS else []), run)
        ]
        return list({e.key: e for e in wanted}.values())

    def missing(self) -> list[Experiment]:
        """The runs that are not on record."""
        store = Store()
        return [e for e in self.experiments() if not store.judged(e)]

    def run(self, jobs: int | None = None, tell: Callable[[str], None] = print, backend: str = "local") -> None:
        """Run what is not on record. A run that fails is reported and does not stop the others.

        jobs: processes on this machine, which share its cores (1 by default), or processors of the Ray cluster (all by default).
        tell: called with a line for each run.
        backend: "local"; or "ray", for the cluster at `$RAY_ADDRESS`, or one that is started on this machine for the sweep. All machines of
            a cluster must share the folder `LABKIT_HOME`.

        Raises `LabError` for an unknown backend or a bad number of jobs; and at the end, with the number of runs that failed, if any did.
        """
        if backend not in BACKENDS:
            raise unknown("backend", backend, BACKENDS)
        if jobs is not None and jobs < 1:
            raise LabError(f"jobs={jobs} must be at least 1.")
        to_do, failed, done = self.missing(), 0, 0
        tell(f"{len(self.experiments())} runs, {len(to_do)} of them to do")
        if not to_do:
            return
        baselines = {run.baseline().key for run in to_do}
        with _workers(backend, jobs) as finished:
            for phase in (True, False):  # all baselines first: a run needs that of its seed
                for experiment, error in finished([e for e in to_do if (e.key in baselines) == phase]):
                    done, failed = done + 1, failed + (error is not None)
                    tell(f"{done}/{len(to_do)}  {experiment.recipe}" + (f"  failed: {error}" if error else ""))
        if failed:
            raise LabError(f"{failed} of {len(to_do)} runs failed, see above; the others are on record. Run the sweep again to retry.")

    def table(self) -> pandas.DataFrame:
        """One row for each recipe: arm, grid values, mean core skill, recovery, KL, and difference from the first with its band."""
        import pandas

        points = list(self.points())
        groups = [self.records(arm, **values) for arm, values in points]
        named = [({"arm": arm} if arm else {}) | values for arm, values in points]
        rows = [name | summary(runs, groups[0]) for name, runs in zip(named, groups, strict=True)]
        first = next(iter(self.names()))
        lines = {line.point: str(line) for line in self.expected if line.against == first}
        for name, row in zip(self.names(), rows, strict=True):
            row |= {"expected": lines[name]} if name in lines else {}
        return pandas.DataFrame(rows)

    def expectations(self) -> pandas.DataFrame:
        """One row for each line of `[expected]`: expected and measured difference, and whether they contradict (`parted`)."""
        import pandas

        columns = ["point", "against", "expected", "reason", "difference", "low", "high", "verdict", "parted"]
        return pandas.DataFrame([self._beside(line) for line in self.expected], columns=columns)

    def surprises(self) -> pandas.DataFrame:
        """The rows of `expectations` whose sign differs, or whose size is outside the measured band."""
        rows = self.expectations()
        return rows[rows["parted"] != ""].reset_index(drop=True)

    def _beside(self, line: Expected) -> dict[str, Any]:
        row = {"point": line.point, "against": line.against, "expected": str(line), "reason": line.reason}
        runs, others = (self.records(self.names()[name][0], **self.names()[name][1]) for name in (line.point, line.against))
        if not runs or {r.experiment.seed for r in runs} != {r.experiment.seed for r in others}:
            return row | {"verdict": "not measured", "parted": ""}
        effect = paired(runs, others)
        measured = {"difference": effect.middle, "low": effect.low, "high": effect.high, "verdict": effect.verdict}
        return row | measured | {"parted": line.parted(effect)}


@kinds_checked
def sweep(name: str) -> Sweep:
    """A sweep of `data/sweeps`; its runs ship with the lab.

    name: of its file, without ".toml".

    Raises `LabError` for an unknown name.
    """
    files = {path.stem: path for path in sorted((data_dir() / "sweeps").glob("*.toml"))}
    if name not in files:
        raise unknown("sweep", name, files)
    with reading(files[name], "Restore it with `git checkout -- data`."):
        text = files[name].read_text(encoding="utf-8")
    return _sweep(text)


_sweep = functools.lru_cache(maxsize=64)(Sweep.from_toml)


Finished = Callable[[Sequence[Experiment]], Iterator[tuple[Experiment, str | None]]]


@contextlib.contextmanager
def _workers(backend: str, jobs: int | None) -> Iterator[Finished]:
    """A function that runs experiments, and yields each when it has ended, with an error message or None."""
    if backend == "local" and jobs in (None, 1):
        yield lambda experiments: ((e, _run_one(e.to_dict())) for e in experiments)
        return
    if backend == "ray" and importlib.util.find_spec("ray") is None:
        raise need("ray", "a sweep on a Ray cluster")
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    if backend == "ray":
        jobs, stop = _cluster(jobs)
        threads, parent = 1, 0  # Ray counts a worker as one processor, and ends it with its driver
    else:
        os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")  # joblib's helpers warn after an interrupt
        threads, parent = max(1, (os.cpu_count() or 1) // (jobs or 1)), os.getpid()
        stop = lambda: get_reusable_executor().shutdown()  # noqa: E731
    places = {"LABKIT_HOME": str(home_dir())} | {name: os.environ[name] for name in ("LABKIT_DATA",) if name in os.environ}

    def finished(experiments: Sequence[Experiment]) -> Iterator[tuple[Experiment, str | None]]:
        work = Parallel(jobs, backend=BACKENDS[backend], batch_size=1, return_as="generator_unordered")
        try:
            for number, error in work(delayed(_work)(n, e.to_dict(), threads, places, parent) for n, e in enumerate(experiments)):
                if error is None and Store().find(experiments[number]) is None:
                    error = f"its record is not in {home_dir()} here: all machines must share this folder as their LABKIT_HOME"
                yield experiments[number], error
        except Exception as lost:
            raise LabError(
                f"a worker was lost ({type(lost).__name__}), often because memory ran out. Records are kept, and runs that were cut off go "
                "on from their checkpoints: run the sweep again, with fewer jobs."
            ) from lost

    try:
        yield finished
    finally:
        stop()


def _cluster(jobs: int | None) -> tuple[int, Callable[[], None]]:
    """Join the Ray cluster at `$RAY_ADDRESS`, or start one on this machine. Returns the processors to use, and a function to leave."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anyone
    local = not os.environ.get("RAY_ADDRESS")
    if local and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        # Ray listens on all interfaces, and anyone who can reach it can run code. The token, which Ray reads on import, prevents that.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import joblib
    import ray
    from ray.util.joblib.ray_backend import RayBackend

    class Streaming(RayBackend):
        """Ray's backend. It can yield results one by one, although its base class says that it cannot."""

        supports_return_generator = True

    joblib.register_parallel_backend("ray", Streaming)
    if ray.is_initialized():
        return jobs or int(ray.cluster_resources()["CPU"]), lambda: None
    new = {"num_cpus": jobs, "include_dashboard": False} if local else {}
    ray.init(**new, log_to_driver=False, logging_level="error")
    return jobs or int(ray.cluster_resources()["CPU"]), ray.shutdown


def _work(number: int, experiment: dict[str, Any], threads: int, places: Mapping[str, str], parent: int) -> tuple[int, str | None]:
    """Run an experiment in this worker, perhaps on another machine. It ends with the process `parent`, if that is not 0.

    Returns its number and the message of any error.
    """
    os.environ.update(places)
    import torch

    torch.set_num_threads(threads)
    try:
        return number, _run_one(experiment, lambda event: _end_with(parent))
    except Exception as error:
        return number, f"{type(error).__name__}: {error}"


def _end_with(parent: int) -> None:
    """End this worker if the process that started it has ended: nobody takes its result, and the sweep may have been started again."""
    if os.name == "posix":
        orphaned = parent and os.getppid() != parent
    else:  # a process of Windows keeps the number of a parent that has ended
        above = multiprocessing.parent_process()
        orphaned = parent and above is not None and not above.is_alive()
    if orphaned:
        os._exit(1)  # its checkpoint stays, and whoever runs the sweep again goes on from it


def _run_one(experiment: dict[str, Any], watch: Callable[[ev.Event], None] | None = None) -> str | None:
    """Run an experiment. Returns the message of a `LabError`; other errors are raised."""
    with uninterrupted():
        from labkit.studies.run import record

    try:
        record(Experiment.from_dict(experiment), watch=watch)
    except LabError as error:
        return str(error)
    return None
