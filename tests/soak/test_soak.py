"""A few minutes of the soak, and whether each reader of the lab is in it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import FrameType

from conftest import REPOSITORY
from soak.files import FILES
from soak.run import RESULTS, families

BESIDE = {  # functions that open a file, and are in no kind
    *("base/files.py: append_row", "cli/distill.py: _read_once", "models/pretrained.py: save", "models/pretrained.py: write"),  # write it
    *("teachers/labelling/answers.py: assemble", "teachers/labelling/answers.py: lines", "teachers/labelling/answers.py: write"),
    *("teachers/labelling/journal.py: __enter__", "teachers/labelling/journal.py: _flush", "training/checkpoint.py: write_down"),
    *(
        "base/threads.py: _quota",
        "base/threads.py: _worked",
        "base/threads.py: _waited",
        "cli/output.py: silence",
        "cli/run.py: _together",
    ),  # the system's
    *("studies/export.py: _script", "studies/trace.py: _docstrings", "views/board/widget.py: script", "views/board/widget.py: style"),
    "lessons/handin.py: _runs",  # `load` tells what is wrong
    *("cli/lab.py: server_options", "views/board/access.py: __init__"),  # the lab's own
    "models/damage.py: unreadable_weights",  # words for what has failed already
    "models/pretrained.py: context_of",  # `load` tells what is wrong
    "tasks/custom/content_hash.py: _hash_of_files",  # any bytes are right
    "training/checkpoint.py: _log_until",  # checkpoints of an older version
    "teachers/labelling/local.py: again",  # no file: the name is that of a server's method
    "views/lenses/text.py: __init__",  # no file: the name is the lab's own
}


OPEN = {"reading", "read_text", "read_bytes", "safe_open", "open"}


def readers() -> set[str]:
    """The functions of the lab that open a file."""

    def opens(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and bool({getattr(node.func, "id", ""), getattr(node.func, "attr", "")} & OPEN)

    found = set()
    for path in (REPOSITORY / "labkit").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(opens(node) for part in function.body for node in ast.walk(part)):
                found.add(f"{path.relative_to(REPOSITORY / 'labkit')}: {function.name}")
    return found


def test_each_reader_of_the_lab_is_in_the_soak(tiny_data: Path, settings, tmp_path: Path):
    settings(chunk=8)
    entered = set[str]()

    def enter(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (path := frame.f_code.co_filename).startswith(str(REPOSITORY / "labkit")):
            entered.add(f"{Path(path).relative_to(REPOSITORY / 'labkit')}: {frame.f_code.co_name}")

    for number, kind in enumerate(FILES.values()):
        (folder := tmp_path / str(number)).mkdir()
        path = kind.make(folder)
        sys.setprofile(enter)
        try:
            kind.read(path)
        finally:
            sys.setprofile(None)
    outside = readers() - entered
    assert sorted(outside - BESIDE) == [], "add a kind of file to tests/soak/files.py"
    assert sorted(BESIDE - outside) == [], "these are in a kind, or gone"


def test_a_few_cases_of_each_family(tmp_path: Path):
    paths = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))
    settings = os.environ | {"PYTHONPATH": paths, "GOMP_SPINCOUNT": "0", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "soak.run", "short"], env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_no_case_of_the_soak_ended_wrong():
    """Of the results that are committed, which `make soak` makes."""
    rows = json.loads(RESULTS.read_text())["rows"]
    assert {row["family"] for row in rows} == families().keys()
    for row in rows:
        assert row["tried"] == row["right"] + row["told"] and not row["wrong"], row
        assert row["tried"] == families()[row["family"]].aim, row
