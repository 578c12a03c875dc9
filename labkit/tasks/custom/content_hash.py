"""Adds content hashes to the names of custom data, models and scores in a recipe. Changed content makes another recipe.

    with_hashes(Experiment(data="mine.jsonl")).data       # "mine.jsonl#1c5b0e9f3a7d2468"; the key of its records contains it too

The content of shipped examples, and of models that `labkit fetch` knows by a short name, does not change; they get no hash.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from labkit.base import manifest
from labkit.base.errors import LabError
from labkit.base.files import expanded
from labkit.records.experiment import Experiment
from labkit.records.model_folders import folder_of, without_hash
from labkit.records.names import FETCHABLE, named_model
from labkit.tasks.custom.rows import read_rows
from labkit.tasks.custom.sources import EXAMPLES

Stamp = tuple[Path, int, int, int]  # path, inode, size and modification time (ns); they change if the file is written again


def with_hashes(experiment: Experiment) -> Experiment:
    """Add a content hash to the name of each custom file, model and function of a recipe.

    Returns the recipe, unchanged if it has no `data`.

    Raises `LabError` if a file cannot be read, or if its content does not match the hash that the recipe has already.
    """
    if not experiment.data:
        return experiment
    hashed = {}
    for field in ("data", "teacher", "student", "score"):
        name = getattr(experiment, field)
        path, given = without_hash(name), name[len(without_hash(name)) + 1 :]
        if field == "score":
            if (file := function_file(name)) is None or not file.is_file():  # a missing file is reported when it is read
                continue
            now = _hash_of_files(_stamps([file]))
        elif field == "data" and (given or path not in EXAMPLES):
            now = _hash_of_data(path, experiment.learn)
        elif field != "data" and (given or (path not in FETCHABLE and named_model(path))):
            now = _hash_of_model(folder_of(path))
        else:
            continue
        if given and given != now:
            what = f"{path} or learn" if field == "data" and experiment.learn != "answer" else path
            raise LabError(f"{what} has changed since this recipe was written (its hash is now #{now}): use {path!r} without the hash.")
        hashed[field] = f"{path}#{now}"
    return experiment.but(**hashed)


def function_file(score: str) -> Path | None:
    """The file of a score that is a custom function, as in `path/to/file.py:function`; None for any other score."""
    match = re.fullmatch(r"(?:python:)?(.+\.py):\w+(?:#[0-9a-f]{16})?", score.strip())
    return expanded(match[1]) if match else None


# ---- hashes, cached while the file does not change -------------------------------------------------------------------------------------


def _hash_of_data(name: str, learn: str) -> str:
    file = expanded(name)
    return _hash_of_rows(name, learn, _stamps([file]) if file.is_file() else ())


def _hash_of_model(folder: Path) -> str:
    """Hash of config, weights and tokenizer; a card, a report or the list of checksums in the folder does not count."""
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors", ".jinja") and file.name != manifest.NAME)
    return _hash_of_files(_stamps(files))


def _stamps(files: Iterable[Path]) -> tuple[Stamp, ...]:
    stats = ((file, file.stat()) for file in files)
    return tuple((file, stat.st_ino, stat.st_size, stat.st_mtime_ns) for file, stat in stats)


@functools.lru_cache(maxsize=32)
def _hash_of_rows(name: str, learn: str, stamps: tuple[Stamp, ...]) -> str:
    return read_rows(name, learn=learn).fingerprint


@functools.lru_cache(maxsize=32)
def _hash_of_files(stamps: tuple[Stamp, ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path, *_ in stamps:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'blake2b').hexdigest()}".encode())
    return digest.hexdigest()
