"""Manifests: the checksum of every file of a folder, and the command that rebuilds it; one `manifest.json` per folder (no torch).

seal(folder, "labkit build tokenizer", {"atlas.json": {"licence": "Apache-2.0"}})
checked(folder / "atlas.json")       # the path, if its SHA-256 is the manifest's; else `DataError` with that command
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.base.errors import DataError

NAME = "manifest.json"


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest's entry for each file: `sha256`, `rebuild` and further facts. Empty if the manifest is missing or damaged."""
    try:
        items = json.loads((folder / NAME).read_text(encoding="utf-8")).items()
        return {name: entry for name, entry in items if name != "note" and isinstance(entry["sha256"], str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def seal(folder: Path, rebuild: str, files: Mapping[str, Mapping[str, Any]], note: Mapping[str, Any] | None = None) -> None:
    """Enter files in the folder's manifest. Entries of other files stay if those files still exist.

    rebuild: the whole command that rebuilds these files, as in "labkit build tables".
    files: further facts about each file, by file name.
    note: facts about the whole folder.
    """
    made = {name: {"sha256": sha256(folder / name), "rebuild": rebuild, **more} for name, more in files.items()}
    kept = {name: entry for name, entry in sorted((entries(folder) | made).items()) if (folder / name).is_file()}
    text = json.dumps(kept | ({"note": note} if note else {}), indent=1, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8", newline="\n")


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
    if (actual := sha256(path)) != entry["sha256"]:
        raise DataError(f"{path} is damaged: its SHA-256 is {actual[:12]}…, the manifest says {entry['sha256'][:12]}…. {fix}")
    return path
