"""What commands print, read and write."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.record import Record


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"cannot read {path}: {error}.") from None


def writable(out: Path | None) -> None:
    """Raises `LabError`, before anything is done for it, for a file that could not be written."""
    try:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out.parent).close()
        if out is not None and out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise LabError(f"--out {out} cannot be written ({error.strerror or error}): choose another.") from None


def tell(event: ev.Event, every: int = 50) -> None:
    """One event as a line for a terminal, where it is worth one."""
    match event:
        case ev.Labelled() if event.done == event.total:
            print(f"{event.seconds:6.1f} s  the teacher has answered {event.total:,} questions")
        case ev.Step() if event.step % every == 0:
            numbers = "  ".join(f"{name} {value:.3f}" for name, value in event.values.items() if name in ("loss", "kl", "ce"))
            print(f"{event.seconds:6.1f} s  step {event.step}  {numbers}", flush=True)
        case ev.Evaluated():
            print(f"{event.seconds:6.1f} s  exam: " + "  ".join(f"{k} {v:.2f}" for k, v in event.skills.items()), flush=True)
        case ev.Warned():
            print(event.message)


def summarise(record: Record) -> None:
    from importlib.util import find_spec

    if find_spec("pandas"):
        print(record.table().to_string(float_format=lambda x: f"{x:.2f}", na_rep="-"))
    if {"label budget", "teacher"} <= record.references.keys():
        found = record.recovery()
        of = "" if record.experiment.data else f" on core skills, {found.all_skills:.2f} on all"
        print(f"recovery over the label budget: {found.mean:.2f}{of}")
        print(f"student / teacher, which ignores the baseline: {found.ratio:.2f}")
    elif "label budget" not in record.references:
        print("recovery: not shown, since the label-budget baseline is not on record. Measure it with:")
        print(f"  python -m labkit run {record.experiment.baseline().recipe}")
