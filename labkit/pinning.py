"""Data and models are named by path, and a path does not say what is there today. A pinned recipe does, by a mark of the content:

    pinned(Experiment(data="mine.jsonl")).data       # "mine.jsonl#1c5b0e9f3a7d2468", and so the key of its records

Shipped examples have one content, and stay as they are.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from labkit.errors import LabError
from labkit.experiment import Experiment
from labkit.own_data import read_rows
from labkit.sources import EXAMPLES

Stamp = tuple[int, int, int]  # of a file: what changes when it is written again


def parts(name: str) -> tuple[str, str]:
    """A name without its mark, and the mark: "" where there is none."""
    found = re.fullmatch(r"(.*)#([0-9a-f]{16})", name)
    return (found[1], found[2]) if found else (name, "")


def pinned(experiment: Experiment) -> Experiment:
    """The recipe with a mark behind the name of every file of one's own, so that other content is another recipe.

    Raises `LabError` for a file that cannot be read, or that has changed since the recipe was pinned.
    """
    path, mark = parts(experiment.data)
    if not path or (path in EXAMPLES and not mark):
        return experiment
    file = Path(path).expanduser()
    now = _of_rows(path, _stamp(file) if file.is_file() else (0, 0, 0))
    return experiment.but(data=_marked(path, mark, now))


def _marked(path: str, mark: str, now: str) -> str:
    if mark and mark != now:
        raise LabError(f"{path} has changed since this recipe was written (it is now #{now}): use {path!r} without the mark.")
    return f"{path}#{now}"


@functools.lru_cache(maxsize=32)
def _of_rows(path: str, stamp: Stamp) -> str:
    return read_rows(path).fingerprint


def _stamp(file: Path) -> Stamp:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
