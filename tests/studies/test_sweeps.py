"""A sweep runs what is missing, once, in one process or several, and its table is the comparison's."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import psutil
import pytest
import torch
from conftest import REPOSITORY, TEACHER
from filelock import FileLock

import labkit
from labkit.base.errors import DataError, LabError
from labkit.base.settings import Settings
from labkit.base.threads import Share
from labkit.cli.main import main
from labkit.records import events as ev
from labkit.records import machines
from labkit.records.machines import Machine
from labkit.records.record import Record, mean
from labkit.records.store import Store
from labkit.studies import run as runs
from labkit.studies.run import compare, record, rerun
from labkit.studies.sweep import Sweep
from labkit.training import loop

T = TypeVar("T")

GRID = f"""
[experiment]
student = "22k"
teacher = "{TEACHER}"
questions = 128
gold = 40
batch = 8
steps = 6
[grid]
temperature = [1.0, 2.0]
student = ["22k", "57k"]
[sweep]
seeds = 2
"""


def test_the_grid_is_every_combination_with_its_baselines():
    sweep = Sweep.from_toml(GRID)
    assert [(r.temperature, r.student) for r in sweep.recipes()] == [(1.0, "22k"), (1.0, "57k"), (2.0, "22k"), (2.0, "57k")]
    wanted = sweep.experiments()
    assert len(wanted) == 2 * (4 + 2), "two seeds of four recipes, and a baseline for each size"
    assert len({e.key for e in wanted}) == len(wanted)
    for number, experiment in enumerate(wanted):
        assert experiment.method == "gold" or experiment.baseline().key in {e.key for e in wanted[:number]}, "a baseline comes first"


def test_it_runs_what_is_missing_and_nothing_twice(quick):
    sweep = Sweep.from_toml(GRID)
    record(sweep.experiments()[3])
    told: list[str] = []
    sweep.run(tell=told.append)
    assert told[0] == "12 runs, 11 of them to do"
    assert len(told) == 12
    assert sweep.missing() == []
    again: list[str] = []
    sweep.run(tell=again.append)
    assert again == ["12 runs, 0 of them to do"]


def test_the_table_is_the_comparison(quick):
    sweep = Sweep.from_toml(GRID)
    sweep.run(tell=lambda line: None)
    table, wanted = sweep.table(), compare(sweep.recipes(), seeds=2).table()
    assert list(table["temperature"]) == [1.0, 1.0, 2.0, 2.0]
    for column in ("mean skill", "KL", "difference", "low", "high"):
        assert table[column].tolist() == pytest.approx(wanted[column].tolist(), nan_ok=True)
    assert table["verdict"].tolist()[1:] == wanted["verdict"].tolist()[1:]


def test_a_table_of_what_there_is_so_far(quick):
    sweep = Sweep.from_toml(GRID)
    record(sweep.recipes()[0].but(seed=0))
    assert sweep.table()["seeds"].tolist() == [1, 0, 0, 0]


def test_several_processes_give_the_same_records(quick, tiny_data, settings):
    settings(chunk=Settings.chunk)  # as in the other processes: what a teacher writes depends on it
    sweep = Sweep.from_toml(GRID.replace('student = ["22k", "57k"]\n', "").replace("seeds = 2", "seeds = 1"))
    sweep.run(jobs=2, tell=lambda line: None)
    one = Store().find(sweep.recipes()[1].but(seed=0))
    again = record(one.experiment, fresh=True)
    assert [s.values["loss"] for s in again.steps] == pytest.approx([s.values["loss"] for s in one.steps], rel=1e-4)


@contextlib.contextmanager
def endless(home, tmp_path):
    """A command that sweeps without end on two processes; one trains the baseline, and the other waits for it. Yields it and its family."""
    grid = GRID.replace("steps = 6", "steps = 100000").replace('student = ["22k", "57k"]\n', "").replace("seeds = 2", "seeds = 1")
    (tmp_path / "grid.toml").write_text(grid)
    command = [sys.executable, "-m", "labkit", "sweep", str(tmp_path / "grid.toml"), "--jobs", "2"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.DEVNULL) as sweeping:
        while not any(log.stat().st_size > 3000 for log in home.glob("*/runs/*/events.jsonl")):  # one is training
            time.sleep(0.1)
            assert sweeping.poll() is None
        family = psutil.Process(sweeping.pid).children(recursive=True)
        try:
            yield sweeping, family
        finally:
            for left in (sweeping, *family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()


def test_workers_end_with_the_process_that_started_them(tiny_data, home, tmp_path):
    with endless(home, tmp_path) as (sweeping, _):
        sweeping.kill()
        (lock,) = home.glob("*/runs/*/lock")
        FileLock(lock).acquire(timeout=60)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("times", [1, 2])
def test_a_sweep_that_is_ended_leaves_no_process_behind(tiny_data, home, tmp_path, times: int):
    with endless(home, tmp_path) as (sweeping, family):
        assert len(family) > 2, "two workers, and what watches over them"
        for _ in range(times):
            sweeping.terminate()
        assert sweeping.wait(60) == 143
        assert not psutil.wait_procs(family, timeout=60)[1]  # an idle worker would wait for five minutes


STARVED = ("timed out during startup", "waiting for node to startup", "waiting for node info", "Failed to connect to GCS")  # Ray's words


def started(start: Callable[[], T]) -> T:
    """What `start` gives. Where Ray's own start timed out, for want of a processor, this is said, and it is tried once more."""
    for last in (False, True):
        try:
            return start()
        except AssertionError as error:
            if not any(words in str(error) for words in STARVED):
                raise
            if last:
                raise AssertionError(f"starved twice: run this test where a processor is free. {error}") from None
            warnings.warn("starved: Ray's own start timed out on this busy machine; it is tried once more", stacklevel=2)
    raise AssertionError("unreachable")


def test_a_starved_start_is_said_and_tried_once_more():
    tried: list[str] = []

    def start(*ends: str) -> int:
        tried.append(ends[len(tried)])
        assert not tried[-1], tried[-1]
        return len(tried)

    with pytest.warns(UserWarning, match="starved"):
        assert started(lambda: start(f"Exception: the node {STARVED[0]}.", "")) == 2
    tried.clear()
    with pytest.raises(AssertionError, match="another reason"):
        started(lambda: start("another reason", ""))
    assert len(tried) == 1
    tried.clear()
    with pytest.warns(UserWarning, match="starved"), pytest.raises(AssertionError, match=f"starved twice.*{STARVED[1]}"):
        started(lambda: start(STARVED[0], STARVED[1]))


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs ray")
@pytest.mark.alone
def test_a_sweep_on_ray_that_was_killed_goes_on_and_runs_nothing_twice(tiny_data, home, tmp_path):
    grid = GRID.replace('student = ["22k", "57k"]\n', "").replace("[1.0, 2.0]", "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]")
    grid = grid.replace("seeds = 2", "seeds = 1").replace('student = "22k"', 'student = "3.3k"\nscale = "Europe"')
    sweep = Sweep.from_toml(grid)
    (tmp_path / "grid.toml").write_text(grid)
    command = [sys.executable, "-m", "labkit", "sweep", str(tmp_path / "grid.toml"), "--backend", "ray", "--jobs", "2"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}

    def alive(process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def files() -> dict:
        return {path.name: path.stat().st_mtime_ns for path in Store().own.glob("*.jsonl.gz")}

    def killed_after_a_run() -> tuple[list[str], list[psutil.Process]]:
        with (tmp_path / "errors").open("w") as errors:
            first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        with first:
            told = list(itertools.islice(first.stdout, 2))  # a run is done
            assert len(told) == 2, (tmp_path / "errors").read_text()[-2000:]
            workers = psutil.Process(first.pid).children(recursive=True)
            first.kill()
        return told, workers

    def to_the_end() -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    told, workers = started(killed_after_a_run)
    while any(map(alive, workers)):  # they die soon after their driver, and until then may end a run
        time.sleep(0.1)
    assert told[0] == "9 runs, 9 of them to do\n"
    assert told[1].startswith("1/9")
    before, left = files(), len(sweep.missing())
    assert 1 <= left <= 8, "a line that was told is of a run that is on record"
    again = started(to_the_end)
    assert again.splitlines()[0] == f"9 runs, {left} of them to do"
    assert f"{left}/{left}  " in again and "verdict" in again
    assert sweep.missing() == []
    assert {name: when for name, when in files().items() if name in before} == before, "none of the first was touched"


def test_a_run_that_fails_is_told_and_the_others_go_on(quick):
    sweep = Sweep.from_toml(
        GRID.replace("temperature = [1.0, 2.0]", 'teacher = ["atlas-900k", "atlas-200k"]').replace("seeds = 2", "seeds = 1")
    )
    told: list[str] = []
    with pytest.raises(LabError, match="runs failed"):
        sweep.run(tell=told.append)
    assert any("failed: " in line and "git checkout -- data" in line for line in told)
    assert Store().find(sweep.recipes()[-1].but(seed=0)).complete


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[grid]", "[gird]", "Did you mean 'grid'"),
        ("temperature = [1.0, 2.0]", "temprature = [1.0]", "Did you mean 'temperature'"),
        ("temperature = [1.0, 2.0]", "temperature = 2.0", "list of values"),
        ("temperature = [1.0, 2.0]", "temperature = [99.0]", "temperature goes from"),
        ("temperature = [1.0, 2.0]", f"temperature = [{'9' * 400}]", "temperature is a whole number of about 400 digits"),
        ("temperature = [1.0, 2.0]", f"temperature = [{'9' * 5000}]", "the sweep cannot be read"),
        ("temperature = [1.0, 2.0]", "seed = [1]", "unknown field 'seed'"),
        ("seeds = 2", "seeds = 0", "at least 1"),
        ("[grid]", "[grid", "the sweep cannot be read"),
        ("[grid]", "[[grid]]", "must be one table"),
        ("seeds = 2", "seed = 2", "Did you mean 'seeds'"),
        ("seeds = 2", "seeds = true", "at least 1"),
        ("temperature = [1.0, 2.0]", "temperature = [1.0, 1.0]", "has a value twice"),
        ("temperature = [1.0, 2.0]", "temperature = [1, 1.0]", "has a value twice"),
        ('["22k", "57k"]', '["57k", "57K"]', "has a value twice"),
        ("seeds = 2", "seeds = 3000000000", "at most 2,147,483,648"),
    ],
)
def test_bad_input_is_told_before_anything_runs(old: str, new: str, words: str):
    with pytest.raises(LabError, match=words):
        Sweep.from_toml(GRID.replace(old, new))


def test_on_the_command_line(quick, tmp_path, capsys, monkeypatch):
    (tmp_path / "grid.toml").write_text(GRID.replace("seeds = 2", "seeds = 1").replace('student = ["22k", "57k"]\n', ""))
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "table.csv")]) == 0
    assert "verdict" in capsys.readouterr().out
    assert (tmp_path / "table.csv").read_text().startswith("temperature,seeds,mean skill")
    assert main(["sweep", str(tmp_path / "none.toml")]) == 2
    table = (tmp_path / "table.csv").read_text()
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "table.csv.gz")]) == 0
    assert gzip.decompress((tmp_path / "table.csv.gz").read_bytes()).decode() == table

    def full(*_):
        raise OSError(28, "No space left on device")

    capsys.readouterr()
    monkeypatch.setattr(os, "fsync", full)
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "table.csv")]) == 2
    assert f"{tmp_path / 'table.csv'} cannot be written (No space left on device)" in capsys.readouterr().err
    assert (tmp_path / "table.csv").read_text() == table


ARMS = (
    GRID.replace('student = ["22k", "57k"]', "")
    + """
[[arm]]
name = "soft"
[[arm]]
name = "hard"
method = "answers"
"""
)


def test_arms_are_crossed_with_the_grid():
    sweep = Sweep.from_toml(ARMS)
    assert [(arm, values["temperature"]) for arm, values in sweep.points()] == [("soft", 1.0), ("soft", 2.0), ("hard", 1.0), ("hard", 2.0)]
    assert [(r.method, r.temperature) for r in sweep.recipes()] == [("output", 1.0), ("output", 2.0), ("answers", 1.0), ("answers", 2.0)]
    with pytest.raises(LabError, match="unknown arm"):
        sweep.recipe("medium", temperature=1.0)
    for values in ({}, {"temperature": 1.0, "mix": 0.5}):
        with pytest.raises(LabError, match="give a value for temperature"):
            sweep.recipe("hard", **values)
    with pytest.raises(LabError, match="both set temperature"):
        Sweep.from_toml(ARMS + "temperature = 4.0\n")


def test_records_of_one_point(quick):
    sweep = Sweep.from_toml(ARMS)
    sweep.run(tell=lambda line: None)
    runs = sweep.records("hard", temperature=2.0)
    assert [r.experiment for r in runs] == [sweep.recipe("hard", temperature=2.0).but(seed=seed) for seed in (0, 1)]
    assert list(sweep.table()["arm"]) == ["soft", "soft", "hard", "hard"]


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ('[[arm]]\nmethod = "answers"', "needs a name"),
        ('[[arm]]\nname = "a"\n[[arm]]\nname = "a"', "that no other has"),
        ('[arm]\nname = "a"', "needs a name"),
        ('[[arm]]\nname = "a"\ntemprature = 2.0', "Did you mean 'temperature'"),
        ('[[arm]]\nname = "a"\nseed = 2', "unknown field"),
    ],
)
def test_bad_arms_are_told(arms: str, words: str):
    with pytest.raises(LabError, match=words):
        Sweep.from_toml(arms)


def test_every_shipped_sweep_is_on_record():
    for path in sorted((REPOSITORY / "data" / "sweeps").glob("*.toml")):
        assert labkit.sweep(path.stem).missing() == [], f"`labkit build records` runs what is missing of {path.name}"
    with pytest.raises(LabError, match="unknown sweep"):
        labkit.sweep("lader")


def test_drift_is_measured_against_other_seeds_and_leaves_the_record(quick):
    exp = Sweep.from_toml(GRID).recipes()[0]
    with pytest.raises(LabError, match="not on record"):
        rerun(exp)
    record(exp)
    with pytest.raises(LabError, match="at least 1"):
        rerun(exp, steps=0)
    part = rerun(exp, steps=4)
    assert len(part.fresh.steps) == 4
    assert part.loss < 1e-5, "the same machine, the same numbers but for the order of sums"
    assert part.inside is None
    assert repr(part).startswith("the first 4 of 6 steps: losses differ by at most")
    alone = rerun(exp)
    assert alone.inside is None
    assert "no band" in repr(alone)
    for seed in (1, 2):
        record(exp.but(seed=seed))
    before = Store().find(exp).events
    drift = rerun(exp)
    assert drift.inside
    scores = [mean(Store().find(exp.but(seed=seed)).skills) for seed in (0, 1, 2)]
    half = 4.303 * statistics.stdev(scores) * math.sqrt(1 + 1 / 3)  # t for 2 degrees of freedom, one more draw
    assert (drift.low, drift.high) == pytest.approx((statistics.fmean(scores) - half, statistics.fmean(scores) + half))
    assert Store().find(exp).events == before
    assert "inside" in repr(drift)
    assert "OUTSIDE" in repr(drift._replace(inside=False))


def named(recorded: Record, machine: str, *more: ev.Event, factor: float = 1.0) -> None:
    """Let a record say that it was made on another machine, where the loss of its first step was another one by a factor."""
    first = recorded.steps[0]
    other = dataclasses.replace(first, values=first.values | {"loss": factor * first.values["loss"]})
    events = [dataclasses.replace(e, machine=machine) if isinstance(e, ev.Started) else other if e is first else e for e in recorded.events]
    Record([*events[:-1], *more, events[-1]]).save(Store().own / f"{recorded.experiment.key}.jsonl.gz")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """A measurement in which the kernels of this processor and others differ by what the test says, over 2 steps and over 6."""

    def by(millionths: float, most: float = 0.0) -> None:
        ours = Machine.here(1, torch.device("cpu"))
        row = {"method": "output", "architecture": ours.processor, "a": ours.instructions, "a_threads": 1, "b": "NEON", "b_threads": 1}
        row |= {"loss_millionths": millionths, "recipe": "labkit student=57k"}
        table = [row | {"steps": 2, "score": None}, row | {"steps": 6, "score": 0.004}]
        others = [line | {"a": "VSX", "loss_millionths": most} for line in table]
        monkeypatch.setattr(machines, "rows", lambda name: table + others)

    by(1.0)
    return by


def test_a_rerun_on_the_same_machine_gives_every_digit_and_says_so(quick):
    exp = Sweep.from_toml(GRID).recipes()[0]
    made = record(exp)
    drift = rerun(exp)
    assert drift.loss == 0
    assert [ev.plain(step.values) for step in drift.fresh.steps] == [ev.plain(step.values) for step in made.steps]
    assert f"On record and here: {made.started.machine}. The same bits are expected, and every digit on record is the same." in repr(drift)
    store = Store().own / f"{exp.key}.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(store.read_bytes()).splitlines()]
    for row in rows:
        if row["event"] == "step" and row["step"] == 5:
            row["values"]["loss"] = float(f"{row['values']['loss'] * 1.00002:.6g}")
    store.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert rerun(exp, steps=4).loss == 0
    drift = rerun(exp)
    assert drift.loss == pytest.approx(2e-5, rel=0.1), "all but the rounding"
    assert "The same bits are expected, and they are not the same: the lab or a library has changed since" in repr(drift)


def test_a_rerun_names_what_of_the_machine_is_another(quick, measured, monkeypatch):
    exp = Sweep.from_toml(GRID).recipes()[0]
    made = record(exp)
    here = Machine.of(made.started.machine)

    named(made, str(here._replace(kernels="NEON")))
    told = repr(rerun(exp))
    assert f"On record: {here._replace(kernels='NEON')}. Here: {here}. Every digit on record is the same." in told
    assert "The recorded tolerance between these two is 1e-06 over the first 6 steps of a run such as `labkit student=57k`" in told
    assert "this run is inside it. The mean core skill differed there by 0.004." in told
    part = repr(rerun(exp, steps=4))
    assert "over the first 2 steps" in part and "mean core skill" not in part
    named(made, str(here._replace(kernels="NEON")), factor=1.0001)
    assert rerun(exp, steps=2).loss == pytest.approx(1e-4, rel=0.1)
    measured(10.0, most=120.0)
    assert "this run is outside it, and inside that between any two, 0.00012." in repr(rerun(exp, steps=2))
    measured(10.0, most=20.0)
    assert "this run is OUTSIDE it and that between any two, 2e-05." in repr(rerun(exp, steps=2))
    measured(120.0)
    assert "this run is inside it." in repr(rerun(exp, steps=2))

    named(made, str(here._replace(kernels="SVE256")))
    assert "How far these two differ in such a run was never measured" in repr(rerun(exp))

    def unreadable(name: str):
        raise DataError("kernels.json is damaged.")

    monkeypatch.setattr(machines, "rows", unreadable)
    assert "The recorded tolerances cannot be read: kernels.json is damaged." in repr(rerun(exp)), "its numbers are told all the same"


def test_a_rerun_of_an_older_record_says_that_it_names_no_kernels(quick, measured):
    exp = Sweep.from_toml(GRID).recipes()[0]
    made = record(exp)
    old = Machine.of(made.started.machine)._replace(kernels="")
    named(made, str(old))
    told = repr(rerun(exp))
    assert f"On record: {old.processor}, 1 threads, torch {old.torch}. Here: " in told
    assert "The record is of an older version, and does not name its kernels. Every digit on record is the same." in told
    assert "The recorded tolerance between this one and any other is 1e-06 over the first 6 steps" in told
    named(made, "some laptop")
    assert "On record: some laptop. Here: " in (told := repr(rerun(exp)))
    assert "never measured" in told


def test_a_rerun_takes_the_threads_on_record_where_it_can(quick, measured, monkeypatch):
    exp = Sweep.from_toml(GRID).recipes()[0]
    made = record(exp)
    here = Machine.of(made.started.machine)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(runs, "processors", lambda: 4)
    monkeypatch.setattr(loop, "threads_of_a_run", lambda most: contextlib.nullcontext(Share(most)))  # as on an idle machine

    named(made, str(here._replace(threads=3)))
    drift = rerun(exp, steps=4)
    assert Machine.of(drift.fresh.started.machine).threads == 3
    assert "The same bits are expected" in repr(drift)
    assert torch.get_num_threads() == 1

    named(made, str(here._replace(threads=5)))
    told = repr(rerun(exp, steps=4))
    assert "5 threads" in told and "Here: " in told and "OMP_NUM_THREADS" not in told, "this machine has no five"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    named(made, str(here._replace(threads=3)))
    told = repr(rerun(exp, steps=4))
    assert "For the threads on record, start with OMP_NUM_THREADS=3." in told and "never measured" in told

    named(made, str(here), ev.KnobTurned(5, 1.0, "threads", 2, 1))
    assert "The recorded run went on with 1 of its threads from step 5." in repr(rerun(exp, steps=4))


def test_a_rerun_that_fails_says_so(quick, monkeypatch: pytest.MonkeyPatch):
    exp = Sweep.from_toml(GRID).recipes()[0]
    record(exp)
    monkeypatch.setattr("labkit.training.loop.EXPLODED", 0.01)
    with pytest.raises(LabError, match="the loss became"):
        rerun(exp)


def test_a_run_is_judged_by_its_own_seed_once_that_is_on_record(quick):
    exp = Sweep.from_toml(GRID).recipes()[0]
    record(exp.baseline().but(seed=1))
    stand_in = record(exp).references["label budget"]
    assert stand_in.recipe == exp.baseline().but(seed=1).recipe
    record(exp.baseline())
    assert record(exp).references["label budget"].recipe == exp.baseline().recipe
