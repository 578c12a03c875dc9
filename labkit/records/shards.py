"""Recorded runs, packed: the event logs of many runs in one file, of which each is read without the others (no torch).

A shard is JSON lines in xz, so `xzcat data/records/ladder.jsonl.xz` prints it: a first line that says where each run is, then the runs.
Runs that are alike (the seeds of a recipe) share one xz stream.
"""

from __future__ import annotations

import functools
import json
import lzma
from pathlib import Path

from labkit.base.errors import DataError
from labkit.base.manifest import checked

ENDING = ".jsonl.xz"
Place = tuple[int, int, int, int]  # of a stream, behind the first: offset, bytes; of the run in its text: offset, bytes


def keys(path: Path) -> list[str]:
    """The runs in a shard. Raises `DataError` for one that is missing, or is not what its manifest says."""
    return list(_open(path, _stamp(path))[0])


def log(path: Path, key: str) -> bytes:
    """One run's events, a JSON object a line. Raises `DataError` as `keys` does."""
    index, _ = _open(path, _stamp(path))
    if key not in index:
        raise DataError(f"{path} holds no run {key}, although the results table says so. Restore both with `git checkout -- data`.")
    offset, size, start, length = index[key]
    return _stream(path, _stamp(path), offset, size)[start : start + length]


def _stamp(path: Path) -> int:
    return (path if path.exists() else checked(path)).stat().st_mtime_ns


@functools.lru_cache(maxsize=64)
def _open(path: Path, stamp: int) -> tuple[dict[str, Place], bytes]:
    """The index, and the streams behind it, of a file as it was at a time."""
    first = lzma.LZMADecompressor()
    return json.loads(first.decompress(checked(path).read_bytes())), first.unused_data


@functools.lru_cache(maxsize=16)
def _stream(path: Path, stamp: int, offset: int, size: int) -> bytes:
    return lzma.decompress(_open(path, stamp)[1][offset : offset + size])
