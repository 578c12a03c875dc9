"""The folder for a distilled student, checked before anything is trained."""

from __future__ import annotations

import datetime
import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.base.errors import LabError
from labkit.base.files import no_empty_folder
from labkit.models import parameters, pretrained
from labkit.records.names import named_model

BESIDE = 4_000_000  # bytes; more than a tokenizer, a record and a report take
RECORD = "record.jsonl.gz"


def free(folder: Path | None, models: Mapping[str, str], force: bool) -> None:
    """Check that a folder can take the result, and leave nothing there.

    models: the names of student and teacher, whose folders it may not be.
    force: whether an earlier result may be replaced.

    Raises `LabError` if it cannot be written to, or has other files in it, or an earlier result.
    """
    if folder is None:
        return
    beside(folder, "")
    for what, name in models.items():
        if named_model(name) and folder.resolve() == pretrained.folder_of(name).resolve():
            raise LabError(f"--out {folder} is the folder of the {what}, which would be overwritten: choose another --out.")
    earlier = folder / RECORD
    if folder.exists() and (not folder.is_dir() or (any(file.name != ".part" for file in folder.iterdir()) and not earlier.exists())):
        raise LabError(f"{folder} exists, and is not the result of an earlier distillation: choose another --out.")
    if earlier.exists() and not force:
        made = datetime.date.fromtimestamp(earlier.stat().st_mtime)
        other = next(place for n in itertools.count(2) if not (place := beside(folder, f"-{n}")).exists())
        raise LabError(
            f"{folder} holds the result of a distillation of {made}, which would be overwritten: name another folder (--out {other}), or "
            "replace it with --force (force=True)."
        )
    try:
        with no_empty_folder(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
    except OSError as error:
        raise LabError(f"cannot write to {folder}: {error}. Choose another --out.") from None


def beside(folder: Path, ending: str) -> Path:
    """The path beside a folder, with an ending behind the folder's name. Raises `LabError` for the root, which has no name."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    if not named.name:
        raise LabError(f"--out {folder} is the root of the disk, and the student needs a folder of its own: choose another --out.")
    return named.with_name(f"{named.name}{ending}")


def room(folder: Path | None, student: Any) -> None:
    """Check the free space before anything is trained. Raises `LabError` if the result does not fit."""
    if folder is None:
        return
    size = 2 if hasattr(student, "chat") else 4  # bytes a weight, as it is saved
    there = next(place for place in (folder, *folder.parents) if place.exists())
    needed, left = size * parameters(student) + BESIDE, shutil.disk_usage(there).free
    if left < needed:
        raise LabError(
            f"{folder} has {left / 1e6:.1f} MB free, and the result takes about {needed / 1e6:.1f} MB: free some space, or choose another "
            "--out."
        )
