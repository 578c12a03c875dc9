"""Hashes of data, models and scores of one's own, put behind their paths in a recipe: changed content makes it another recipe.

    pinned(Experiment(data="mine.jsonl")).data       # "mine.jsonl#1c5b0e9f3a7d2468", and so the key of its records

Shipped examples and the models that `labkit fetch` knows by a short name have one content, and stay as they are.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from labkit.base.errors import LabError
from labkit.records.experiment import Experiment
from labkit.records.model_folders import folder_of, without_hash
from labkit.records.names import FETCHABLE, named_model
from labkit.tasks.custom.rows import read_rows
from labkit.tasks.custom.sources import EXAMPLES

Stamp = tuple[Path, int, int, int]  # a file, and what changes when it is written again


def with_hashes(experiment: Experiment) -> Experiment:
    """The recipe with a mark behind the name of every file, model and function of one's own, so that other content is another recipe.

    Raises `LabError` for what cannot be read, or has changed since the recipe was pinned.
    """
    if not experiment.data:
        return experiment
    marked = {}
    for field in ("data", "teacher", "student", "score"):
        name = getattr(experiment, field)
        path, mark = without_hash(name), name[len(without_hash(name)) + 1 :]
        if field == "score":
            if (file := function_file(name)) is None or not file.is_file():  # which is told where it is read
                continue
            now = _files_mark(_stamps([file]))
        elif field == "data" and (mark or path not in EXAMPLES):
            now = _of_data(path)
        elif field != "data" and (mark or (path not in FETCHABLE and named_model(path))):
            now = _of_model(folder_of(path))
        else:
            continue
        if mark and mark != now:
            raise LabError(f"{path} has changed since this recipe was written (it is now #{now}): use {path!r} without the mark.")
        marked[field] = f"{path}#{now}"
    return experiment.but(**marked)


def function_file(score: str) -> Path | None:
    """The file of a score that is a function of one's own, as in `path/to/file.py:function`."""
    found = re.fullmatch(r"(?:python:)?(.+\.py):\w+(?:#[0-9a-f]{16})?", score.strip())
    return Path(found[1]).expanduser() if found else None


# ---- marks, each worked out once for a file that stays as it is ------------------------------------------------------------------------


def _of_data(name: str) -> str:
    file = Path(name).expanduser()
    return _rows_mark(name, _stamps([file]) if file.is_file() else ())


def _of_model(folder: Path) -> str:
    """Of config, weights and tokenizer; a card or a report beside them may change."""
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors", ".jinja"))
    return _files_mark(_stamps(files))


def _stamps(files: Iterable[Path]) -> tuple[Stamp, ...]:
    found = ((file, file.stat()) for file in files)
    return tuple((file, stat.st_ino, stat.st_size, stat.st_mtime_ns) for file, stat in found)


@functools.lru_cache(maxsize=32)
def _rows_mark(name: str, stamps: tuple[Stamp, ...]) -> str:
    return read_rows(name).fingerprint


@functools.lru_cache(maxsize=32)
def _files_mark(stamps: tuple[Stamp, ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path, *_ in stamps:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'blake2b').hexdigest()}".encode())
    return digest.hexdigest()
