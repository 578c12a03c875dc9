"""Manifests: the checksum of every file of a folder, and the command that rebuilds it; one `manifest.json` per folder (no torch).

seal(folder, "labkit build tokenizer", {"atlas.json": {"licence": "Apache-2.0"}})
checked(folder / "atlas.json")       # the path, if its SHA-256 is the manifest's; else `DataError` with that command
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.base.errors import UNREADABLE, DataError, reading

NAME = "manifest.json"
WEIGHTS = ".safetensors"
COMPUTING = (WEIGHTS, ".json", ".jinja", ".model", ".txt")  # endings of the files that say what a model computes
SETTLED = 2_000_000_000  # nanoseconds; a file that is younger may be written again without a new time, so its checksum is not kept

_sums: dict[tuple[Path, int, int, int], str] = {}  # checksums by file, inode, size and time


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sum_of(path: Path) -> str:
    """As `sha256`, but a file is read once in a process, and again only if its inode, size or time has changed."""
    stat = path.stat()
    stamp = (path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if stamp not in _sums:
        found = sha256(path)
        if time.time_ns() - stat.st_mtime_ns < SETTLED:
            return found
        _sums[stamp] = found
    return _sums[stamp]


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest's entry for each file: `sha256`, `rebuild` and further facts. Empty if the manifest is missing or damaged."""
    try:
        items = json.loads((folder / NAME).read_text(encoding="utf-8")).items()
        return {name: entry for name, entry in items if name != "note" and isinstance(entry["sha256"], str)}
    except UNREADABLE:
        return {}


def seal(folder: Path, rebuild: str, files: Mapping[str, Mapping[str, Any]], note: Mapping[str, Any] | None = None) -> None:
    """Enter files in the folder's manifest. Entries of other files stay if those files still exist.

    rebuild: the whole command that rebuilds these files, as in "labkit build tables"; "" if there is none.
    files: further facts about each file, by file name.
    note: facts about the whole folder.
    """
    command = {"rebuild": rebuild} if rebuild else {}
    made = {name: {"sha256": sha256(folder / name), **command, **more} for name, more in files.items()}
    kept = {name: entry for name, entry in sorted((entries(folder) | made).items()) if (folder / name).is_file()}
    text = json.dumps(kept | ({"note": note} if note else {}), indent=1, ensure_ascii=False)
    part = folder / f".{NAME}.part"  # so that no kill leaves half of it
    part.write_text(text + "\n", encoding="utf-8", newline="\n")
    part.replace(folder / NAME)


def seal_model(folder: Path, rebuild: str = "") -> None:
    """Enter all files that say what a model computes in the manifest of the folder to which it was just saved.

    rebuild: as for `seal`.
    """
    seal(folder, rebuild, {file.name: {} for file in sorted(folder.iterdir()) if file.suffix in COMPUTING and file.name != NAME})


def refuse_changed(folder: Path, weights: bool = True) -> None:
    """Check the files of a model or adapter, each once in a process. A folder without a manifest is taken as it is.

    weights: whether to check the weights too, which takes a second for 500 MB.

    Raises `DataError` if a file is missing, or differs from what was fetched or saved.
    """
    manifest = folder / NAME
    if not manifest.is_file():
        return
    with reading(manifest, "Fetch or save the model again."):
        json.loads(manifest.read_text(encoding="utf-8"))  # `entries` is silent about it
    listed = entries(folder)
    commands = {str(entry.get("rebuild")) for name, entry in listed.items() if name.endswith(COMPUTING)}
    command = next((command for command in commands if command.startswith("labkit fetch ")), "")
    how = f"Fetch it again with `python -m {command}`" if command else "Save the model again"
    purpose = f"copy the folder without its {NAME}, and give the path of the copy" if command else f"delete {NAME} beside it"
    for name, entry in listed.items():
        file = folder / name
        if file.suffix not in COMPUTING or (file.suffix == WEIGHTS and not weights):
            continue
        with reading(file, f"{how}."):
            if not file.is_file():
                raise DataError(f"{file} is missing, and {NAME} beside it lists it. {how}; or, if you removed it on purpose, {purpose}.")
            if sum_of(file) != entry["sha256"]:
                raise DataError(
                    f"{file} is damaged or edited: it differs from what was {'fetched' if command else 'saved'}. {how}; or, if you changed "
                    f"it on purpose, {purpose}."
                )
    others = sorted(file.name for file in folder.iterdir() if file.suffix in COMPUTING and file.name not in {*listed, NAME})
    if command and others:  # a fetched model has no hash in a recipe, so nothing would tell it from what was fetched
        raise DataError(f"{folder / others[0]} was not fetched with the model: remove it, or {purpose}.")


def checked(path: Path) -> Path:
    """Returns `path` if its SHA-256 agrees with the manifest beside it.

    Raises `DataError` with the file, the problem and the command that rebuilds it.
    """
    entry = entries(path.parent).get(path.name)
    restore = "restore it with `git checkout -- data`"
    if entry is None:
        raise DataError(f"{path.parent / NAME} is missing or damaged, so {path.name} cannot be checked: {restore}.")
    fix = f"Rebuild it with `python -m {entry['rebuild']}`, or {restore}." if "rebuild" in entry else f"{restore.capitalize()}."
    if not path.is_file():
        raise DataError(f"{path} is missing. {fix}")
    if (actual := sum_of(path)) != entry["sha256"]:
        raise DataError(f"{path} is damaged: its SHA-256 is {actual[:12]}…, the manifest says {entry['sha256'][:12]}…. {fix}")
    return path
