"""The journal of a job: what was paid for is written down at once, one row a request, and never asked again.

A row is one write, in the kernel's hands before the next request goes out, so that a killed process loses nothing; a thread of its own
flushes to the disk, so that a slow disk does not keep a server waiting. Some space is kept in reserve: when the disk fills up, the
answers under way, which are paid for already, still find room.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labkit.base.errors import DataError, LabError
from labkit.base.files import append_row

FLUSH_EVERY = 0.05  # seconds at least between two flushes: what a power cut, unlike a kill, may lose
SAID = ("response", "reasoning", "logprobs", "finish", "served", "reason")  # what a row holds of a server's own words


class Journal:
    """An append-only file beside the answers. Rows with a `key` and a `response` are answers; those with `lost` may have been charged."""

    def __init__(self, answers: Path, reserve: int = 1 << 20, redact: Callable[[str], str] = str) -> None:
        """reserve: bytes of disk kept free for what is under way. redact: takes keys out of what a server said."""
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
            raise LabError(f"another process is labelling into {self.path}: wait for it, or name other answers.") from None
        except OSError as error:
            raise DataError(f"cannot write beside {self.path}: {error.strerror or error}. Name answers in a folder of yours.") from None
        try:
            with self._spare.open("wb") as file:
                file.write(bytes(self._size))
                file.flush()
                os.fsync(file.fileno())
            self.path.touch()
        except OSError as error:
            self._release()
            self._lock.release()
            raise DataError(f"no room for answers beside {self.path}: {error.strerror or error}. Nothing was sent.") from None
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

    def write(self, row: Mapping[str, Any]) -> None:
        """Keep a row. When the disk is full the reserve is given up for it and `trouble` is set: nothing more must be sent."""
        row = {name: self._clean(value) if name in SAID else value for name, value in row.items()}
        try:
            append_row(self.path, row)
        except OSError as error:
            self.trouble = self.trouble or error
            self._release()
            append_row(self.path, row)
        self._dirty.set()

    def _clean(self, value: Any) -> Any:
        """The same with every text in it as it may be written down: without keys, and without halves of character pairs."""
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


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row of a journal and where in the file it begins; lines cut short by a kill are left out. Empty if there is no journal."""
    try:
        with path.open("rb") as file:
            start = 0
            for line in file:
                with contextlib.suppress(ValueError, RecursionError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        yield start, row
                start += len(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(
            f"cannot read the journal {path}: {error.strerror or error}. It holds what was paid for: mend that first."
        ) from None
