"""Waiting threads spin for a bounded time in every process of the lab. The witness is OpenMP itself, which can print its settings."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
from conftest import REPOSITORY

from labkit.base import threads
from labkit.base.threads import LIMITS
from labkit.studies import sweep

OURS = f"GOMP_SPINCOUNT = '{LIMITS['GOMP_SPINCOUNT']}'"
SETTINGS = (*LIMITS, "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
LATE = "torch was imported before labkit"
TORCH = importlib.util.find_spec("torch")
LIBRARIES = [str(path) for path in (Path(TORCH.origin).parent / "lib").glob("libgomp*")] if TORCH and TORCH.origin else []
OPENMP = f"import ctypes; ctypes.CDLL({LIBRARIES[:1]}[0])"  # the first that torch itself loads, without the seconds that the rest takes

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="the witness is GNU's OpenMP, which torch brings on Linux")


def told_by(*command: str, **settings: str) -> str:
    """What a process writes to its stderr, its OpenMP's settings among it; the user has set nothing about threads but `settings`."""
    clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment = clean | {"OMP_DISPLAY_ENV": "verbose", "OMP_NUM_THREADS": "2", "PYTHONPATH": str(REPOSITORY)} | settings
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300, cwd=REPOSITORY / "tests"
    )
    assert "GOMP_SPINCOUNT = " in done.stderr, done.stderr[-2000:]
    return done.stderr


WAYS = {
    "a command": ("-m", "labkit", "inspect", "./nowhere"),  # it loads torch, and ends
    "an import": ("-c", f"import labkit; {OPENMP}"),
    "the tests": ("-c", f"import conftest; {OPENMP}"),
    "a sweep's worker": ("-c", f"import pickle; pickle.loads({pickle.dumps(sweep._work)!r}); {OPENMP}"),  # as joblib sends it, to Ray too
}


@pytest.mark.parametrize("way", WAYS)
def test_spinning_is_bounded_however_the_lab_is_entered(way: str):
    told = told_by(*WAYS[way])
    assert OURS in told
    assert LATE not in told


def test_notebooks_import_labkit_before_torch():
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        imports = [node for cell in cells for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [name for node in imports for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module])]
        assert "torch" not in names or names.index("labkit") < names.index("torch"), path.name


@pytest.mark.parametrize(("name", "value", "count"), [("GOMP_SPINCOUNT", "7", "7"), ("OMP_WAIT_POLICY", "PASSIVE", "0")])
def test_what_the_user_has_set_stays(name: str, value: str, count: str):
    assert f"GOMP_SPINCOUNT = '{count}'" in told_by("-c", f"import labkit; {OPENMP}", **{name: value})


def test_where_torch_came_first_it_is_said_what_is_lost():
    program = """
import os, sys, torch, labkit
print("then", file=sys.stderr)
from labkit.base.threads import LIMITS, bound_spinning
os.system("env >&2")
def again(**settings):
    for name in (*LIMITS, "OMP_WAIT_POLICY"):
        os.environ.pop(name, None)
    os.environ.update(settings)
    bound_spinning()
again(GOMP_SPINCOUNT="7"), again(OMP_WAIT_POLICY="PASSIVE")
torch.set_num_threads(1)
again()
"""
    told, then = told_by("-c", program).split("then\n")
    assert OURS not in told, "nothing can be done for this process"
    assert told.count(LATE) == 1
    assert f"Import labkit first, or start Python with GOMP_SPINCOUNT={LIMITS['GOMP_SPINCOUNT']}" in told
    assert f"GOMP_SPINCOUNT={LIMITS['GOMP_SPINCOUNT']}\n" in then, "the processes that it starts are bounded"
    assert LATE not in then, "the user has said how to wait, or one thread waits for none"


# ---- how many threads a run takes --------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """A machine with so many processors, of which so many are busy, and no other runs."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def of(count: float, busy: float = 0.0) -> None:
        monkeypatch.setattr(threads, "processors", lambda: count)
        monkeypatch.setattr(threads, "busy_processors", lambda: busy)

    return of


@pytest.mark.parametrize(
    ("count", "busy", "most", "taken"),
    [(2, 0, 2, 2), (8, 0, 4, 4), (2, 1, 2, 1), (2, 0.3, 2, 2), (2, 0.7, 2, 1), (2, 5, 2, 1), (0.5, 0, 4, 1), (3.5, 1, 8, 2)],
)
def test_a_run_takes_the_threads_that_are_free(machine, count, busy, most, taken):
    machine(count, busy)
    with threads.threads_of_a_run(most) as share:
        assert share.threads == taken


def test_what_the_user_has_set_is_taken_as_it_is(machine, monkeypatch):
    machine(2, busy=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with threads.threads_of_a_run(2) as share:
        assert share.threads == 2


def test_a_run_inside_a_run_takes_that_one_s_threads(machine):
    machine(4)
    with threads.threads_of_a_run(3), threads.threads_of_a_run(3) as inner:
        assert inner.threads == 3
    with threads.threads_of_a_run(2) as later:
        assert later.threads == 2


HOLDS = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from labkit.base import threads
threads.processors, threads.busy_processors = lambda: 4, lambda: 0.0
with threads.threads_of_a_run(4) as share:
    print(share.threads, flush=True)
    sys.stdin.readline()
"""


def test_runs_that_begin_together_share_the_processors(machine, monkeypatch, tmp_path):
    """Each sees those before it, also on an idle machine, until they end, pause or are killed."""
    machine(4)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    other = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    try:
        assert sorted(int(process.stdout.readline()) for process in other) == [1, 4]
        with threads.threads_of_a_run(4) as share:
            assert share.threads == 1, "4 processors, and 5 threads of other runs"
        with monkeypatch.context() as later:
            later.setattr(threads, "AT_WORK", 0.0)  # as after so many seconds without a step
            with threads.threads_of_a_run(4) as share:
                assert share.threads == 4, "the others are paused"
        for process in other:
            process.kill()
            process.wait()
        with threads.threads_of_a_run(4) as share:
            assert share.threads == 4
    finally:
        for process in other:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def test_a_run_that_goes_on_with_fewer_threads_leaves_the_others_to_those_beside_it(machine, tmp_path):
    machine(4)
    with threads.threads_of_a_run(4) as share:
        (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
        assert threads._taken(folder) == 4
        assert share.take(1) == share.threads == 1
        assert threads._taken(folder) == 1
        assert not share.resumed(2) and threads._taken(folder) == 2, "with the threads that it began with"
        next(folder.glob("*-2")).unlink()  # as a user who tidies up
        share.take(1)
        share._told = 0.0
        share.at_work()
        assert threads._taken(folder) == 1
    assert not threads._taken(folder)
    assert not list(folder.glob("*-*-*"))


def test_a_folder_that_cannot_be_written_changes_nothing(machine, monkeypatch, tmp_path):
    machine(4, busy=1)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with threads.threads_of_a_run(4) as share:
        assert share.threads == 3


def test_processors_and_work_are_those_of_this_machine():
    assert 0 < threads.processors() <= (os.cpu_count() or 1)
    assert 0 <= threads.busy_processors() < (os.cpu_count() or 1) * 1.5


def test_in_a_container_only_its_own_work_counts(monkeypatch):
    """The machine may have a hundred processors that are busy with others."""
    read, shown = (
        Path.read_text,
        {"/sys/fs/cgroup/cpu.max": "200000 100000", "/sys/fs/cgroup/cpu.stat": "usage_usec 7000000\nuser_usec 1\n"},
    )
    monkeypatch.setattr(Path, "read_text", lambda path, *args, **given: shown.get(str(path)) or read(path, *args, **given))
    assert threads.processors() == min(2, len(threads._mine()))
    assert threads._worked() == 7.0
    assert threads.busy_processors() == 0


def test_work_that_cannot_be_seen_is_no_error(monkeypatch):
    def closed(path, *args, **given):
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", closed)
    assert 0 <= threads.busy_processors() <= (os.cpu_count() or 1)


def test_a_run_is_not_resumed_with_more_threads_than_the_machine_has(monkeypatch):
    monkeypatch.setattr(threads, "processors", lambda: 2)
    share = threads.Share(2)
    assert not share.resumed(1) and share.threads == 1
    assert "began with 32 threads, and goes on with 1" in share.resumed(32)[0] and share.threads == 1
    assert not share.resumed(0) and share.threads == 1


@pytest.mark.parametrize(
    ("worked", "waited", "share"),
    [
        (5.0, 0.5, None),  # stopped (Ctrl-Z) for most of a minute, or the machine slept: it has not wanted a processor
        (5.0, 55.0, "8%"),  # it wanted one
        (12.0, 18.0, "40%"),  # stopped for half of the minute, and starved in the rest
        (27.0, 3.0, None),
        (50.0, 90.0, None),  # its two threads wait for each other
        (5.0, math.nan, "8%"),  # not Linux: the time that it waited is not known
    ],
)
def test_a_run_that_was_stopped_is_not_called_starved(monkeypatch, worked: float, waited: float, share: str | None):
    clock = {"worked": 3.0, "waited": 7.0}
    monkeypatch.setattr(threads.time, "process_time", lambda: clock["worked"])
    monkeypatch.setattr(threads, "_waited", lambda: clock["waited"])
    watch, device = threads.Watch(), types.SimpleNamespace(type="cpu")
    clock.update(worked=3.0 + worked, waited=7.0 + waited)
    told = watch.starved(60.0, device, 2)
    assert [text.split(": this run had ")[1].split(" of one")[0] for text, _ in told] == ([share] if share else [])
    assert not watch.starved(61.0, device, 2)


def test_a_stop_is_not_counted_later_either(monkeypatch):
    clock = {"worked": 0.0}
    monkeypatch.setattr(threads.time, "process_time", lambda: clock["worked"])
    monkeypatch.setattr(threads, "_waited", lambda: 1.0)
    watch, device = threads.Watch(), types.SimpleNamespace(type="cpu")
    for seconds, worked in ((100.0, 15.0), (110.0, 25.0), (120.0, 35.0)):  # stopped for the first 85 s
        clock["worked"] = worked
        assert not watch.starved(seconds, device, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts it")
def test_the_time_that_threads_waited_for_a_processor_is_known():
    before = threads._waited()
    assert math.isnan(before) or 0 < before <= threads._waited()
