"""Shards: the event logs of many runs in one file, where each run is read without the others (no torch).

A shard is JSON lines in xz, so `xzcat data/records/ladder.jsonl.xz` prints it: first an index of the runs, then the runs. Similar runs
(the seeds of a recipe) share one xz stream.
"""

from __future__ import annotations

import functools
import json
import lzma
from pathlib import Path

from labkit.base.errors import DataError
from labkit.base.manifest import checked

ENDING = ".jsonl.xz"
Place = tuple[int, int, int, int]  # the run's stream: offset after the first stream, bytes; the run in its text: offset, bytes


def keys(path: Path) -> list[str]:
    """The keys of the runs in a shard. Raises `DataError` for a shard that is missing or does not match its manifest."""
    return list(_open(path, _stamp(path))[0])


def log(path: Path, key: str) -> bytes:
    """One run's events, one JSON object a line. Raises `DataError` as `keys` does, or if the run is not in the shard."""
    index, _ = _open(path, _stamp(path))
    if key not in index:
        raise DataError(f"{path} holds no run {key}, although the results table says so. Restore both with `git checkout -- data`.")
    offset, size, start, length = index[key]
    return _stream(path, _stamp(path), offset, size)[start : start + length]


def _stamp(path: Path) -> int:
    return (path if path.exists() else checked(path)).stat().st_mtime_ns


@functools.lru_cache(maxsize=64)
def _open(path: Path, stamp: int) -> tuple[dict[str, Place], bytes]:
    """A shard's index, and the bytes after it. `stamp`: the time of its last change, so that a changed file is read again."""
    first = lzma.LZMADecompressor()
    return json.loads(first.decompress(checked(path).read_bytes())), first.unused_data


@functools.lru_cache(maxsize=16)
def _stream(path: Path, stamp: int, offset: int, size: int) -> bytes:
    return lzma.decompress(_open(path, stamp)[1][offset : offset + size])
