"""The journal of a job: each answer is written at once, one row a request, and is never requested again.

A row is one write to the kernel before the next request is sent, so a killed process loses nothing. A separate thread flushes to the
disk, so a slow disk does not delay requests. Some space is reserved: if the disk fills up, there is still room for the answers under way,
which are paid for already.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labkit.base.errors import DataError, LabError
from labkit.base.files import append_row, rows_in

FLUSH_EVERY = 0.05  # least seconds between two flushes; a power cut, unlike a kill, may lose as much
FROM_SERVER = ("response", "reasoning", "logprobs", "finish", "served", "refusal", "reason")  # fields of a row with text of the server


class Journal:
    """An append-only file next to the answers. Rows with `key` and `response` are answers; those with `lost` may have been billed.

    A row with `sent` comes before each request, with the most tokens that it may use, and one of the other two follows. If none does, the
    request is in flight, or was when the job was killed.
    """

    def __init__(self, answers: Path, reserve: int = 1 << 20, redact: Callable[[str], str] = str) -> None:
        """answers: path of the answers file. reserve: bytes of disk to reserve for answers under way. redact: removes keys from a text."""
        self.path = answers.with_name(answers.name + ".journal")
        self._spare = answers.with_name(answers.name + ".reserve")
        self._lock = FileLock(answers.with_name(f".{answers.name}.lock"))
        self._size, self._redact = reserve, redact
        self._dirty, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble: OSError | None = None

    def __enter__(self) -> Journal:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise LabError(f"another process writes to {self.path}: wait for it, or use another file.") from None
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}. Use a folder that you may write to.") from None
        try:
            with self._spare.open("wb") as file:
                file.write(bytes(self._size))
                file.flush()
                os.fsync(file.fileno())
            self.path.touch()
        except OSError as error:
            self._release()
            self._lock.release()
            raise DataError(f"no room for the answers at {self.path}: {error.strerror or error}. Nothing was sent.") from None
        self._thread = threading.Thread(target=self._flush, name="journal", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._dirty.set()
        if self._thread:
            self._thread.join()
        self._release()
        self._lock.release()

    def in_use(self) -> bool:
        """Whether a job writes to it at this moment."""
        if not Path(self._lock.lock_file).exists():  # looking makes no file
            return False
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return True
        except OSError:  # a folder in which nothing can be written has no job
            return False
        self._lock.release()
        return False

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row. If the disk is full, the reserve is released for it and `trouble` is set: send nothing more then."""
        row = {name: self._clean(value) if name in FROM_SERVER else value for name, value in row.items()}
        try:
            append_row(self.path, row)
        except OSError as error:
            self.trouble = self.trouble or error
            self._release()
            append_row(self.path, row)
        self._dirty.set()

    def _clean(self, value: Any) -> Any:
        """The value with all its texts made safe to store: without keys and without lone surrogates."""
        match value:
            case str():
                return self._redact(value).encode(errors="replace").decode()
            case list():
                return [self._clean(part) for part in value]
            case dict():
                return {name: self._clean(part) for name, part in value.items()}
        return value

    def _flush(self) -> None:
        handle = os.open(self.path, os.O_RDWR)
        try:
            while not self._closing.is_set() or self._dirty.is_set():
                self._dirty.wait()
                self._dirty.clear()
                try:
                    os.fsync(handle)
                except OSError as error:
                    self.trouble = self.trouble or error
                self._closing.wait(FLUSH_EVERY)
        finally:
            os.close(handle)

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            self._spare.unlink(missing_ok=True)


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yields the row in each line of a journal, None for a damaged one, with its position in the file in bytes. A missing journal is empty.

    Raises `DataError` if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            lines, sizes = itertools.tee(file)
            start = 0
            for row, line in zip(rows_in(lines), sizes):
                yield start, row
                start += len(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(
            f"cannot read the journal {path}: {error.strerror or error}. It has the paid answers: make it readable first."
        ) from None
