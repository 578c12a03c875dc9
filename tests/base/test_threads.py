"""Waiting threads spin for a bounded time in every process of the lab. The witness is OpenMP itself, which can print its settings."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

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
    "a command": ("-m", "labkit", "run", "--teacher", "./nowhere", "--data", "faq"),  # it loads torch, and ends
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
