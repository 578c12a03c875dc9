"""Manifests: what every file of a folder must contain, and the command that makes it again; one `manifest.json` a folder (no torch).

seal(folder, "labkit build tokenizer", {"atlas.json": {"licence": "Apache-2.0"}})
checked(folder / "atlas.json")       # the path, once its SHA-256 is the manifest's; else `DataError`, with that command
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
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """What the manifest says of each file: `sha256`, `rebuild`, and what else is known; empty if it is missing or damaged."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8")).items()
        return {name: entry for name, entry in found if name != "note" and isinstance(entry["sha256"], str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def seal(folder: Path, rebuild: str, files: Mapping[str, Mapping[str, Any]], note: Mapping[str, Any] | None = None) -> None:
    """Enter files in the folder's manifest, each with what else is to be known of it. Entries of other files stay, while they exist.

    rebuild: the whole command that makes these files again, as in "labkit build tables". note: what is to be known of the whole folder.
    """
    made = {name: {"sha256": sha256(folder / name), "rebuild": rebuild, **more} for name, more in files.items()}
    kept = {name: entry for name, entry in sorted((entries(folder) | made).items()) if (folder / name).is_file()}
    text = json.dumps(kept | ({"note": note} if note else {}), indent=1, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8", newline="\n")


def checked(path: Path) -> Path:
    """`path`, once its SHA-256 agrees with the manifest beside it. Raises `DataError` naming the file, what is wrong, and the command."""
    entry = entries(path.parent).get(path.name)
    restore = "restore it with `git checkout -- data`"
    if entry is None:
        raise DataError(f"{path.parent / NAME} is missing or damaged, so {path.name} cannot be checked: {restore}.")
    mend = f"Rebuild it with `python -m {entry['rebuild']}`, or {restore}." if "rebuild" in entry else f"{restore.capitalize()}."
    if not path.is_file():
        raise DataError(f"{path} is missing. {mend}")
    if (found := sha256(path)) != entry["sha256"]:
        raise DataError(f"{path} is damaged: its SHA-256 is {found[:12]}…, the manifest says {entry['sha256'][:12]}…. {mend}")
    return path
