"""A grid of experiments over seeds, run once each on a few processes or machines, and read as one table.

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
    labkit.sweep("ladder").table()            # one of those in data/sweeps, whose runs ship with the lab

What is on record is not run again, so a sweep that was killed goes on where it was, each run from its own checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import secrets
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.base.errors import LabError, need, unknown
from labkit.base.files import data_dir, home_dir
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
BACKENDS = {"local": "loky", "ray": "ray"}  # what joblib calls them


class Sweep(NamedTuple):
    """Every arm (a named set of fields that go together) with every combination of the values in `grid`, on top of `base`, for seeds
    0 to `seeds - 1`. expected: what was expected of them before the runs."""

    base: Experiment
    grid: Mapping[str, Sequence[Any]]
    seeds: int = 3
    arms: Mapping[str, Mapping[str, Any]] = MappingProxyType({"": {}})
    expected: tuple[Expected, ...] = ()

    @classmethod
    def from_toml(cls, text: str) -> Sweep:
        """Raises `LabError` for what cannot be read, a field that does not exist, a value out of range, or a recipe that breaks a rule."""
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
        recipes = sweep.recipes()
        for (arm, values), recipe in zip(sweep.points(), recipes, strict=True):
            for problem in recipe.problems():
                what = ", ".join([*([f"arm {arm!r}"] if arm else []), *(f"{field}={value!r}" for field, value in values.items())])
                raise LabError(f"{what} of this sweep cannot be run: {problem}")
        if len(sweep.names()) < len(recipes):
            raise LabError("the grid of this sweep holds a value twice: leave each in a list once.")
        return sweep._replace(expected=expected.read(told.get("expected", {}), sweep.names()))

    def points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Arm and values of the grid's fields, one combination after the other; the first is what the others are compared with."""
        for arm, values in itertools.product(self.arms, itertools.product(*self.grid.values())):
            yield arm, dict(zip(self.grid, values, strict=True))

    def names(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The same points by name, such as "online, temperature=2.0"."""
        return {", ".join([*[arm] * bool(arm), *(f"{k}={v}" for k, v in values.items())]): (arm, values) for arm, values in self.points()}

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
        recipe, store = with_hashes(self.recipe(arm, **values)), Store()
        return [found for seed in range(self.seeds) if (found := store.judged(recipe.but(seed=seed)))]

    def experiments(self) -> list[Experiment]:
        """All that has to be run: each recipe's seeds, and the label-budget baselines they are judged by, once each. (Heads on a
        teacher are judged by what it accepts of them, which has a scale of its own.)"""
        seeded = [with_hashes(recipe).but(seed=seed) for seed in range(self.seeds) for recipe in self.recipes()]
        wanted = [
            e for run in seeded for e in (*([run.baseline()] if run.teacher != "none" and run.student not in DRAFT_HEADS else []), run)
        ]
        return list({e.key: e for e in wanted}.values())

    def missing(self) -> list[Experiment]:
        store = Store()
        return [e for e in self.experiments() if not store.judged(e)]

    def run(self, jobs: int | None = None, tell: Callable[[str], None] = print, backend: str = "local") -> None:
        """Run what is not on record: here (`jobs` processes, 1 by default, share the cores), or on a Ray cluster (`jobs` processors of it,
        all by default), which is the one at `$RAY_ADDRESS`, or one started on this machine for the time. The machines of a cluster share
        the folder `LABKIT_HOME`.

        A run that fails is told and does not stop the others; `LabError` at the end names how many did.
        """
        if backend not in BACKENDS:
            raise unknown("backend", backend, BACKENDS)
        if jobs is not None and jobs < 1:
            raise LabError(f"jobs={jobs} must be at least 1.")
        todo, failed, done = self.missing(), 0, 0
        tell(f"{len(self.experiments())} runs, {len(todo)} of them to do")
        if not todo:
            return
        judged_by = {run.baseline().key for run in todo}
        with _workers(backend, jobs) as finished:
            for phase in (True, False):  # baselines first, all of them: a run is judged by its own seed's
                for experiment, trouble in finished([e for e in todo if (e.key in judged_by) == phase]):
                    done, failed = done + 1, failed + (trouble is not None)
                    tell(f"{done}/{len(todo)}  {experiment.recipe}" + (f"  failed: {trouble}" if trouble else ""))
        if failed:
            raise LabError(f"{failed} of {len(todo)} runs failed, as told above; the others are on record. Run the sweep again to retry.")

    def table(self) -> pandas.DataFrame:
        """A row a recipe: the grid's values, mean core skill, recovery, KL, and the difference from the first with its band."""
        import pandas

        points = list(self.points())
        groups = [self.records(arm, **values) for arm, values in points]
        named = [({"arm": arm} if arm else {}) | values for arm, values in points]
        rows = [name | summary(runs, groups[0]) for name, runs in zip(named, groups, strict=True)]
        first = next(iter(self.names()))
        told = {line.point: str(line) for line in self.expected if line.against == first}
        for name, row in zip(self.names(), rows, strict=True):
            row |= {"expected": told[name]} if name in told else {}
        return pandas.DataFrame(rows)

    def expectations(self) -> pandas.DataFrame:
        """A row for each line of `[expected]`: the difference as expected and as measured, and by what they parted, if they did."""
        import pandas

        columns = ["point", "against", "expected", "reason", "difference", "low", "high", "verdict", "parted"]
        return pandas.DataFrame([self._beside(line) for line in self.expected], columns=columns)

    def surprises(self) -> pandas.DataFrame:
        """Those of `expectations` where the sign differs, or the size lies outside the measured band."""
        found = self.expectations()
        return found[found["parted"] != ""].reset_index(drop=True)

    def _beside(self, line: Expected) -> dict[str, Any]:
        row = {"point": line.point, "against": line.against, "expected": str(line), "reason": line.reason}
        runs, others = (self.records(self.names()[name][0], **self.names()[name][1]) for name in (line.point, line.against))
        if not runs or {r.experiment.seed for r in runs} != {r.experiment.seed for r in others}:
            return row | {"verdict": "not measured", "parted": ""}
        found = paired(runs, others)
        measured = {"difference": found.middle, "low": found.low, "high": found.high, "verdict": found.verdict}
        return row | measured | {"parted": line.parted(found)}


def sweep(name: str) -> Sweep:
    """One of the sweeps in `data/sweeps`, whose runs ship with the lab. Raises `LabError` for a name that is not there."""
    files = {path.stem: path for path in sorted((data_dir() / "sweeps").glob("*.toml"))}
    if name not in files:
        raise unknown("sweep", name, files)
    return _sweep(files[name].read_text(encoding="utf-8"))


_sweep = functools.lru_cache(maxsize=64)(Sweep.from_toml)


Finished = Callable[[Sequence[Experiment]], Iterator[tuple[Experiment, str | None]]]


@contextlib.contextmanager
def _workers(backend: str, jobs: int | None) -> Iterator[Finished]:
    """Something that runs experiments, and gives each once it has been run, with what went wrong if something did."""
    if backend == "local" and jobs in (None, 1):
        yield lambda experiments: ((e, _run_one(e.to_dict())) for e in experiments)
        return
    if backend == "ray" and importlib.util.find_spec("ray") is None:
        raise need("ray", "a sweep on a Ray cluster")
    from joblib import Parallel, delayed

    if backend == "ray":
        jobs, stop = _cluster(jobs)
        threads = 1  # Ray counts a worker as one processor
    else:
        from joblib.externals.loky import get_reusable_executor

        threads = max(1, (os.cpu_count() or 1) // (jobs or 1))
        stop = lambda: get_reusable_executor().shutdown()  # noqa: E731
    places = {"LABKIT_HOME": str(home_dir())} | {name: os.environ[name] for name in ("LABKIT_DATA",) if name in os.environ}

    def finished(experiments: Sequence[Experiment]) -> Iterator[tuple[Experiment, str | None]]:
        work = Parallel(jobs, backend=BACKENDS[backend], batch_size=1, return_as="generator_unordered")
        try:
            for number, trouble in work(delayed(_work)(n, e.to_dict(), threads, places) for n, e in enumerate(experiments)):
                if trouble is None and Store().find(experiments[number]) is None:
                    trouble = f"its record is not in {home_dir()} here: all machines must share this folder, as their LABKIT_HOME"
                yield experiments[number], trouble
        except Exception as error:
            raise LabError(
                f"a worker was lost ({type(error).__name__}), often for want of memory. What is on record is kept, and runs that were "
                "cut off go on from their checkpoints: run the sweep again, with fewer jobs."
            ) from error

    try:
        yield finished
    finally:
        stop()


def _cluster(jobs: int | None) -> tuple[int, Callable[[], None]]:
    """Join the Ray cluster at `$RAY_ADDRESS`, or start one on this machine; returns the processors to use, and how to leave it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anyone
    own = not os.environ.get("RAY_ADDRESS")
    if own and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        # Ray listens on all interfaces, and whoever may talk to it may run anything: a password, read on import, keeps others out.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import joblib
    import ray
    from ray.util.joblib.ray_backend import RayBackend

    class Streaming(RayBackend):
        """Ray's backend, which can also give results one by one; the class it inherits from says that it cannot."""

        supports_return_generator = True

    joblib.register_parallel_backend("ray", Streaming)
    if ray.is_initialized():
        return jobs or int(ray.cluster_resources()["CPU"]), lambda: None
    new = {"num_cpus": jobs, "include_dashboard": False} if own else {}
    ray.init(**new, log_to_driver=False, logging_level="error")
    return jobs or int(ray.cluster_resources()["CPU"]), ray.shutdown


def _work(number: int, experiment: dict[str, Any], threads: int, places: Mapping[str, str]) -> tuple[int, str | None]:
    """In a process of its own, perhaps on another machine: run an experiment, and say in words what went wrong, whatever it was."""
    os.environ.update(places)
    import torch

    torch.set_num_threads(threads)
    try:
        return number, _run_one(experiment)
    except Exception as error:
        return number, f"{type(error).__name__}: {error}"


def _run_one(experiment: dict[str, Any]) -> str | None:
    """Run it, and say in words what went wrong, if it is something that one may do something about."""
    from labkit.studies.run import record

    try:
        record(Experiment.from_dict(experiment))
    except LabError as error:
        return str(error)
    return None
