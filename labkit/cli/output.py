"""What several commands use to read files, to ask, and to print results."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

from labkit.base.errors import LabError, reading
from labkit.records.record import Record

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ReaderGone(BrokenPipeError):
    """Who reads stdout or stderr has ended, as in `labkit claims | head -1`. A pipe to anything else raises its own error."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(errno.EPIPE, os.strerror(errno.EPIPE))
        self.stream = stream

    def silence(self) -> None:
        """Let what is still to be written there, also by Python's last flush, go nowhere."""
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.stream.fileno())


class _Plain:
    """A stream to which control characters are written as `\\u001b`: text of others cannot steer a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        back = text.startswith("\r")  # as a progress bar begins each time
        with self._read():
            self._stream.write("\r" * back + CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text[back:]))  # which JSON can read too
        return len(text)

    def flush(self) -> None:
        with self._read():
            self._stream.flush()

    @contextlib.contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise ReaderGone(self._stream) from None

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def plain_text() -> Iterator[None]:
    """Let no control character but tabs and line ends reach stdout and stderr, whoever has written the text: records, files, models.

    Raises `ReaderGone` if nobody reads them any more.
    """
    with contextlib.redirect_stdout(cast(TextIO, _Plain(sys.stdout))), contextlib.redirect_stderr(cast(TextIO, _Plain(sys.stderr))):
        try:
            yield
        finally:
            sys.stdout.flush()


def read(path: Path) -> str:
    """The text of a file. Raises `LabError` if it cannot be read."""
    with reading(path, "Give a text file in UTF-8.", "cannot be read"):
        return path.read_text(encoding="utf-8")


def writable(out: Path | None) -> None:
    """Raises `LabError` if a file cannot be written, to be called before the work whose result it is for."""
    try:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out.parent).close()
        if out is not None and out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise LabError(f"--out {out} cannot be written ({error.strerror or error}): choose another.") from None


def summarise(record: Record) -> None:
    """Print a run's scores and its recovery, or the command that measures the baseline."""
    from importlib.util import find_spec

    if find_spec("pandas"):
        print(record.table().to_string(float_format=lambda x: f"{x:.2f}", na_rep="-"))
    if {"label budget", "teacher"} <= record.references.keys():
        recovery = record.recovery()
        of = "" if record.experiment.data else f" on core skills, {recovery.all_skills:.2f} on all"
        print(f"recovery over the label budget: {recovery.mean:.2f}{of}")
        print(f"student / teacher, which ignores the baseline: {recovery.ratio:.2f}")
    elif lacks_baseline(record):
        print("recovery: not shown, since the label-budget baseline is not on record. Measure it with:")
        print(f"  python -m labkit run {record.experiment.recipe} --baseline")


def lacks_baseline(record: Record) -> bool:
    """Whether a run has a teacher to be compared with, and no label-budget baseline yet."""
    return record.experiment.method != "gold" and "teacher" in record.references and "label budget" not in record.references


def asked(question: str) -> bool | None:
    """The user's answer to a question whose usual answer is yes; None if there is no terminal to ask in."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    try:
        return input(f"{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        return False
