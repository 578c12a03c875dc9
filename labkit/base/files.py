"""Folders and files: the data that ships with the lab (`data/`), and what this machine has made (`home`)."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.base.errors import UNREADABLE, DataError, LabError, not_written, reading, shown
from labkit.base.manifest import entries

REPOSITORY = Path(__file__).resolve().parents[2]
OUTCOMES = 1  # raise it when a code change alters the result of an equal recipe, so that old and new runs are not compared

_appending = threading.Lock()


def data_dir() -> Path:
    """The folder of shipped data: `$LABKIT_DATA`, or `data/` beside the package. Raises `DataError` if it holds no lab data."""
    folder = Path(os.environ.get("LABKIT_DATA") or REPOSITORY / "data")
    if not (folder / "atlas").is_dir():
        raise DataError(
            f"{folder} holds no lab data: the lab runs from its repository. Clone it and run `pip install -e .` there, "
            "or set LABKIT_DATA to the repository's data folder."
        )
    return folder


def home_dir() -> Path:
    """The folder for what this machine makes (runs, cached teacher signals, predictions): `$LABKIT_HOME` or a cache folder.

    It is made when something is first written there, so that the lab reads its data where nothing can be written.

    Raises `DataError` for a user without a home folder, if the environment names none.
    """
    if own := os.environ.get("LABKIT_HOME"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labkit"
    except RuntimeError:  # neither $HOME nor an entry among the machine's users, as in some containers
        raise DataError("this user has no home folder, so LABKIT_HOME must be set: to a folder that you may write to.") from None


def expanded(path: str | Path) -> Path:
    """A path as a user writes it, with a home folder in place of ~.

    Raises `LabError` for one that no file can have, as an empty or an endless one, or whose home is not known on this machine.
    """
    try:
        if not str(path).strip():
            raise ValueError("it is empty")
        found = Path(path).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            os.stat(found)
        return found
    except RuntimeError:  # no such user, or neither $HOME nor an entry among the machine's users
        home, *others = Path(path).parts
        if home != "~" and (not others or os.path.exists(path)):
            return Path(path)  # a file's name that begins with ~
        raise LabError(
            f"{shown(str(path))} begins with {home}, and this machine knows no such home folder: give the path in full."
        ) from None
    except (OSError, ValueError) as error:  # too long; or with a character that no path may have
        why = "it cannot be written in UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        raise LabError(f"{shown(str(path))} cannot be a path ({why}): give the path of a file or folder.") from None


def to_write(path: str | Path) -> Path:
    """A path as a user writes it, for a file. Raises `LabError` for one that no file can have, or that of a folder."""
    found = expanded(path)
    if found.is_dir():
        raise LabError(f"{shown(str(path))} is a folder: add the name of a file.")
    return found


def made_here(kind: str) -> Path:
    """The folder for one kind of files that runs write ("records", "runs", "starts"), a different one for each version of the data."""
    return home_dir() / _version(data_dir()) / kind


@functools.cache
def _version(data: Path) -> str:
    """A hash of the checksums of all data that a run depends on: tables, tokenizers, teachers, adapters."""
    digest = hashlib.blake2b(str(OUTCOMES).encode(), digest_size=6)
    for manifest in sorted(data.glob("*/**/manifest.json")):
        if manifest.relative_to(data).parts[0] in ("atlas", "tokenizers", "vocabularies", "teachers", "adapters"):
            sums = {name: entry["sha256"] for name, entry in entries(manifest.parent).items() if not name.endswith(".md")}
            digest.update(json.dumps([manifest.parent.name, sums], sort_keys=True).encode())
    return digest.hexdigest()


# As `write_whole` and `fill_whole` name what they write, and `labkit fetch` a folder for a `model`.
TEMPORARY = re.compile(r"\.part|\..+\.(?:gz|jsonl?|safetensors|html|toml|md|csv)\.[a-z0-9_]{8}")
A_DAY = 24 * 3600  # seconds; a file that is being written is renamed long before


def prepare_home() -> None:
    """Make the lab's home, before something is written there, and delete what writers that were killed left more than a day ago.

    Raises `DataError` if it cannot be made.
    """
    folder = home_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be created: {error}. Set LABKIT_HOME to a folder that you may write to.") from None
    _sweep(folder)


@functools.cache
def _sweep(home: Path) -> None:
    """Delete old temporary files, once in a process, in the folders alone that the lab writes."""
    version = "[0-9a-f]" * 12
    for pattern in ("models", "models/*", "signals/*", f"{version}/*", f"{version}/runs/*", f"{version}/sequences/*.part"):
        for folder in home.glob(pattern):
            with contextlib.suppress(OSError):  # not a folder, read-only, or swept by another process at this moment
                fetched = folder.glob(".*.????????/model/..") if folder == home / "models" else ()
                for left in [
                    *(file for file in folder.iterdir() if TEMPORARY.fullmatch(file.name)),
                    *(inner.parent.parent for inner in fetched),
                ]:
                    inside = left.rglob("*") if left.is_dir() else ()
                    if max(file.lstat().st_mtime for file in (left, *inside)) < time.time() - A_DAY:
                        shutil.rmtree(left) if left.is_dir() else left.unlink()


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: after a kill or a power cut, either the old or the new file is there, never a part of one.

    write: writes the new content to the path that it is given.

    Raises `NotWritten`, which is a `DataError` and an `OSError`, if the disk does not take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            write(Path(name))
            with open(name, "r+b") as written:
                os.fsync(written.fileno())  # else a power cut may leave the new name with no content
            os.chmod(name, 0o644)  # the temporary file was private
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except Exception as error:
        if told := not_written(path, error):
            raise told from None
        raise


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write JSON objects, one a line, atomically: gzipped if the name ends in .gz, else with their checksum in the first object, as `seal`.

    lines: the objects as JSON.
    """
    text = "".join(f"{line}\n" for line in lines).encode()
    if path.suffix == ".gz":
        data = gzip.compress(text, mtime=0)  # it has a checksum of its own
    else:
        first, end, rest = text.partition(b"\n")
        data = _sealed(first, text) + end + rest if first else text
    write_whole(path, lambda to: to.write_bytes(data))


def read_lines(path: Path, mend: str) -> list[bytes]:
    """The lines of a file, as `write_lines` writes it; or of one without a checksum, which is taken as it is.

    mend: what to do if it is damaged, in sentences.

    Raises `DataError` if it cannot be read or does not match its checksum.
    """
    with reading(path, mend):
        data = path.read_bytes()
        if path.suffix == ".gz":
            return gzip.decompress(data).split(b"\n")
        first, end, rest = data.partition(b"\n")
        first, seal = _unsealed(first)
        data = first + end + rest
        if seal not in (None, _seal(data)):
            raise ValueError("its content does not match its checksum")
        return data.split(b"\n")


def _seal(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).hexdigest().encode()


def _sealed(line: bytes, text: bytes) -> bytes:
    """A JSON object with the checksum of a text as its last entry."""
    return line.removesuffix(b"}") + b',"seal":"' + _seal(text) + b'"}'


def _unsealed(line: bytes) -> tuple[bytes, bytes | None]:
    """As it was before `_sealed`, and the checksum; None if there is none."""
    found = re.search(rb',"seal":"([^"]*)"}$', line)
    return (line[: found.start()] + b"}", found[1]) if found else (line, None)


OF_A_MODEL = ("*.safetensors", "*.safetensors.index.json", "chat_template*", "additional_chat_templates", "special_tokens_map.json")


def fill_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Put files into a folder, all of them or, if writing fails, none. Other files stay, except old weights when new ones are written.

    write: writes the files to the temporary folder that it is given; from there they are moved.
    """
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write(part)
        made = sorted(part.iterdir(), key=lambda file: "safetensors" in file.name)  # weights last: they are what counts
        if any("safetensors" in file.name for file in made):
            written = {file.name for file in made}
            stale = [file for pattern in OF_A_MODEL for file in folder.glob(pattern) if file.name not in written]
        else:
            stale = []
        for file in made:
            if (folder / file.name).is_dir():
                shutil.rmtree(folder / file.name)
            os.replace(file, folder / file.name)
        for old in stale:  # of an earlier model, which would be read beside the new one
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove the folder and those above it that are made meanwhile, if they are empty at the end. Folders that were there before stay."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # not empty, or not made
                place.rmdir()


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a JSON object as one line with its checksum, in one write, so that lines of two processes never mix.

    If the file's last line has no end, the end is written first. Raises `OSError` if the disk takes only a part.
    """
    data = sealed_row(row) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
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


def sealed_row(row: Mapping[str, Any]) -> bytes:
    """A JSON object as one line with its checksum, as `rows_in` reads it."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    return _sealed(line, line)


def json_object(path: Path, mend: str) -> dict[str, Any]:
    """The JSON object in a file; {} if there is no such file.

    mend: what to do if it is damaged, in sentences.

    Raises `DataError` if the file holds anything else.
    """
    with reading(path, mend):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, and must hold a JSON object")
    return found


def rows_in(lines: Iterable[bytes], newer: bool = False) -> Iterator[dict[str, Any] | None]:
    """For each line of a file to which `append_row` adds: its JSON object, {} for an empty line, None for one that was cut short by a
    kill, damaged or edited. Lines without a checksum are of an older version, so none comes after one with a checksum.

    newer: whether no line is of that version."""
    for line in lines:
        line, seal = _unsealed(line.strip())
        try:
            row = json.loads(line.decode()) if seal == _seal(line) or (seal is None and not newer) else None
        except UNREADABLE:
            row = None
        newer = newer or seal is not None
        yield {} if not line else row if isinstance(row, dict) else None


def rows_of(path: Path) -> dict[int, dict[str, Any] | None]:
    """The rows that `append_row` has written to a file, by the number of their line; None for a damaged one. A file that cannot be read
    is a damaged line 0."""
    try:
        with _appending:
            lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError:  # a folder, or not readable
        return {0: None}
    return {number: row for number, row in enumerate(rows_in(lines), 1) if row != {}}


def left_out(path: Path, lines: Sequence[int]) -> str:
    """What to do about damaged lines of a file, in a sentence; "" if there are none."""
    if not lines:
        return ""
    if 0 in lines:
        return f"{path} cannot be read, and is left out: make it readable."
    are, them = ("are", "them") if len(lines) > 1 else ("is", "it")
    mend = f"put {them} back from a copy of the file, or delete {them}"
    return f"{named_lines(lines)} of {path} {are} damaged, cut short or edited, and {are} left out: {mend}."


def named_lines(lines: Sequence[int]) -> str:
    """The numbers of lines in words, the first ten of them."""
    return f"Lines {', '.join(map(str, lines[:10]))}{', ...' if len(lines) > 10 else ''}" if len(lines) > 1 else f"Line {lines[0]}"
