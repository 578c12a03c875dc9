"""Where things live: what ships with the lab (`data/`), and what this machine has made (`home`)."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labkit.base.errors import DataError
from labkit.base.manifest import entries

REPOSITORY = Path(__file__).resolve().parents[2]
OUTCOMES = 1  # raised when a change of code changes what an equal recipe gives, so that old runs are not compared with new ones

_appending = threading.Lock()


def data_dir() -> Path:
    """The folder of shipped data: `data/` beside the package, or `$LABKIT_DATA`."""
    folder = Path(os.environ.get("LABKIT_DATA") or REPOSITORY / "data")
    if not (folder / "atlas").is_dir():
        raise DataError(
            f"no lab data in {folder}: the lab runs from its repository. Clone it and run `pip install -e .` there, "
            "or set LABKIT_DATA to the repository's data folder."
        )
    return folder


def home_dir() -> Path:
    """The folder for what this machine makes (runs, cached teacher signals, predictions): `$LABKIT_HOME` or a cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("LABKIT_HOME") or cache / "labkit")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the lab cannot keep anything in {folder}: {error}. Set LABKIT_HOME to a folder you may write to.") from None
    return folder


def made_here(kind: str) -> Path:
    """The folder for what runs leave behind ("records", "runs", "starts"), apart for each version of the shipped data."""
    return home_dir() / _version(data_dir()) / kind


@functools.cache
def _version(data: Path) -> str:
    """A hash of the checksums of tables, tokenizer and teachers: runs on other data are other runs."""
    digest = hashlib.blake2b(str(OUTCOMES).encode(), digest_size=6)
    for manifest in sorted(data.glob("*/**/manifest.json")):
        if manifest.relative_to(data).parts[0] in ("atlas", "tokenizers", "vocabularies", "teachers", "adapters"):  # what a run depends on
            sums = {name: entry["sha256"] for name, entry in entries(manifest.parent).items() if not name.endswith(".md")}
            digest.update(json.dumps([manifest.parent.name, sums], sort_keys=True).encode())
    return digest.hexdigest()


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a kill at any moment leaves either the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)  # the temporary file was private
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def fill_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Put files into a folder, all of them or, if writing fails, none: they are written to one inside it, and then moved. What else is
    there stays, but for weights, since a model has no others than its own."""
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write(part)
        made = {file.name for file in part.iterdir()}
        for old in (
            [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")] if any("safetensors" in n for n in made) else ()
        ):
            old.unlink()
        for name in made:
            os.replace(part / name, folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a JSON object as a line, in one write, so that lines of two processes never mix; one cut short before it is ended first."""
    data = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()
    with _appending:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.lseek(handle, 0, os.SEEK_END)
            if size:
                os.lseek(handle, size - 1, os.SEEK_SET)
                data = data if os.read(handle, 1) == b"\n" else b"\n" + data
            if os.write(handle, data) != len(data):
                raise OSError("the disk took only part of the row")
        finally:
            os.close(handle)


def rows_of(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects that were added to a file, and how many lines are none: cut short by a kill, or damaged."""
    try:
        with _appending:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return [], 0
    except OSError:
        return [], 1  # whatever it is, it cannot be read
    rows: list[dict[str, Any]] = []
    unreadable = 0
    for line in filter(str.strip, lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            unreadable += 1
    return rows, unreadable
