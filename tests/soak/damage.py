"""Files of every kind that the lab reads, damaged as a disk, an editor or a cut copy damages one.

Each case must end right: in the content that was written, in a cache that is made again, or in a `LabError`. Never in another exception,
and never in another number without a word.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from soak.core import BARE, RIGHT, SILENT, TOLD, Case, Family, Wrong
from soak.files import AGAIN, FILES, Kind

from labkit.base import settings
from labkit.base.errors import LabError

DEEP = b"[" * 100_000
OTHERS = (  # what stands in the file instead
    *(b"", b"\0" * 500, b"[]", b"null", b"3", b'"text"', b"{}", b'{"a": null}', DEEP, b'{"a":' * 50_000, b"[1]\n[2]\n"),
    b"\x89PNG\r\n\x1a\n\xff",
)
VALUES: tuple[Any, ...] = (None, [], "text", {"a": []}, -1.5, 10**400, True)  # of a field, instead of its own
MISSING = "missing"


def damaged(whole: bytes, case: Case, other: bytes = b"") -> bytes | None:
    """What becomes of a file; None if it is gone.

    case: the damage. Places in the file are parts of its length, so that a case stays what it is when a format changes.
    other: the content of a file of another kind.
    """
    match case:
        case {"gone": _}:
            return None
        case {"other": number, "packed": packed}:
            return gzip.compress(OTHERS[number]) if packed else OTHERS[number]
        case {"kind instead": _}:
            return other
        case {"cut": part}:
            return whole[: int(part * len(whole))]
        case {"flips": flips}:
            data = bytearray(whole)
            for part, bit in flips if data else ():
                data[int(part * len(data))] ^= 1 << bit
            return bytes(data)
        case {"zeros": (begin, end)}:
            begin, end = int(begin * len(whole)), int(end * len(whole))
            return whole[:begin] + bytes(end - begin) + whole[end:]
        case {"twice": (begin, end)}:
            begin, end = int(begin * len(whole)), int(end * len(whole))
            return whole[:end] + whole[begin:end] + whole[end:]
        case {"line": line, "field": name, "value": value}:
            return _with_field(whole, line, name, VALUES[value] if value != MISSING else MISSING)
    raise ValueError(case)


def fields(whole: bytes) -> list[tuple[int, str]]:
    """The fields of the first object of each form: the line, and the name. Of JSON lines, or of one JSON object; packed or not."""
    found, tried = [], set[tuple[str, ...]]()
    for number, line in enumerate(_objects(whole)):
        if isinstance(line, dict) and (form := (*line, str(line.get("event")))) not in tried:
            tried.add(form)
            found += [(number, name) for name in line if name != "seal"]
    return found


def _objects(whole: bytes) -> list[Any]:
    text = gzip.decompress(whole) if whole[:2] == b"\x1f\x8b" else whole
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def _with_field(whole: bytes, number: int, name: str, value: Any) -> bytes:
    """A file that somebody has written whole, with another value of a field: so without its checksum."""
    lines = _objects(whole)
    if isinstance(lines[0], dict):
        lines[0].pop("seal", None)
    lines[number] = {k: v for k, v in lines[number].items() if k != name} | ({} if value == MISSING else {name: value})
    data = "\n".join(map(json.dumps, lines)).encode() + b"\n"
    return gzip.compress(data) if whole[:2] == b"\x1f\x8b" else data


def outcome(kind: Kind, path: Path, case: Case, wanted: Any) -> str:
    """RIGHT or TOLD: what the reader of a damaged file does.

    wanted: what it read before the damage.

    Raises `Wrong` if it does neither.
    """
    try:
        found = kind.read(path)
    except LabError as error:
        if not str(error).endswith("."):
            raise Wrong(BARE, f"no sentence: {error}") from None
        return TOLD
    except Exception as error:
        raise Wrong(BARE, f"{type(error).__name__}: {str(error)[:300]}") from None
    rewritten = "field" in case  # whoever writes a file whole, writes another content
    if kind.sealed and not rewritten and found is not AGAIN and found != wanted:
        raise Wrong(SILENT, f"read as {str(found)[:300]}")
    return RIGHT


def every_damage(kind: Kind, whole: bytes) -> Iterator[Case]:
    """One damage of each sort, the bits evenly spread: the fixed list that `make test` tries."""
    yield {"gone": True}
    for number in range(len(OTHERS)):
        yield from ({"other": number, "packed": packed} for packed in (False, True))
    yield from ({"cut": part} for part in (1 / max(1, len(whole)), 1 / 3, 1 - 1 / max(1, len(whole))))
    yield from ({"flips": [[number / kind.flips, number % 8]]} for number in range(kind.flips))
    yield {"zeros": [0.5, 1.0]}
    if kind.fields:
        for line, name in fields(whole):
            yield from ({"line": line, "field": name, "value": value} for value in (*range(len(VALUES)), MISSING))


def draw(rng: random.Random) -> Case:
    """A kind, and what happens to its file."""
    kind = rng.choice(list(FILES))
    sorts = ["gone", "other", "kind instead", "cut", "flips", "flips", "flips", "zeros", "twice"] + ["field"] * 3 * FILES[kind].fields
    case: Case = {"kind": kind}
    begin, end = sorted((rng.random(), rng.random()))
    match rng.choice(sorts):
        case "gone":
            return case | {"gone": True}
        case "other":
            return case | {"other": rng.randrange(len(OTHERS)), "packed": rng.random() < 0.3}
        case "kind instead":
            return case | {"kind instead": rng.choice([name for name in FILES if name != kind])}
        case "cut":
            return case | {"cut": rng.random()}
        case "flips":
            return case | {"flips": [[rng.random(), rng.randrange(8)] for _ in range(rng.choice((1, 1, 1, 3, 30)))]}
        case "field":
            return case | {"field": rng.random(), "value": rng.choice([*range(len(VALUES)), MISSING])}
        case sort:
            return case | {sort: [begin, end]}


def attempt(case: Case, folder: Path) -> str:
    """Damage a fresh copy of the file, and read it."""
    shared = Path(os.environ["LABKIT_SOAK_SHARED"])
    _tiny(shared)
    name = case["kind"]
    place, wanted = _made(shared, name)
    shutil.copytree(shared / "kinds" / name, folder / "case", symlinks=True)
    whole = (folder / "case" / place).read_bytes()
    if "field" in case:
        choices = fields(whole)
        line, field = choices[int(case["field"] * len(choices))]
        case = case | {"line": line, "field": field}
    other = b""
    if instead := case.get("kind instead"):
        other = (shared / "kinds" / instead / _made(shared, instead)[0]).read_bytes()
    data = damaged(whole, case, other)
    (folder / "case" / place).unlink() if data is None else (folder / "case" / place).write_bytes(data)
    return outcome(FILES[name], folder / "case" / place, case, wanted)


def _tiny(shared: Path) -> None:
    """Use a small teacher and small chunks, as tests/conftest.py does."""
    from table import tiny_data

    with FileLock(shared / "tiny.lock"):
        if not (shared / "tiny").exists():
            tiny_data(shared / "tiny")
    os.environ["LABKIT_DATA"] = str(shared / "tiny")
    settings.DEFAULT = dataclasses.replace(settings.DEFAULT, chunk=8)


def _made(shared: Path, name: str) -> tuple[str, Any]:
    """A file of a kind, made once; its place in the kind's folder, and what it is read as."""
    folder, kind = shared / "kinds" / name, FILES[name]
    with FileLock(shared / "kinds.lock"):
        if not (note := shared / f"{name.replace('/', ' ')}.place").exists():
            folder.mkdir(parents=True)
            path = kind.make(folder)
            note.write_text(str(path.relative_to(folder)))
    place = note.read_text()
    copy = Path(os.environ["LABKIT_HOME"]) / "as made"
    shutil.copytree(folder, copy, symlinks=True)
    try:
        wanted = kind.read(copy / place)
    finally:
        shutil.rmtree(copy)
    assert wanted is not AGAIN
    return place, wanted


FAMILIES = {"damage": Family(draw, attempt, aim=2000, short=60)}
