"""Where a model that a recipe names is kept on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.base.errors import LabError
from labkit.base.files import home_dir
from labkit.records.names import FETCHABLE


def without_hash(name: str) -> str:
    """A file's or model's name as it was given."""
    return re.sub("#[0-9a-f]{16}$", "", name)


def folder_of(name: str) -> Path:
    """Where a model is kept on this machine. Raises `LabError` for one that is not here, and says how to get it; nothing is downloaded."""
    name = without_hash(name)
    own = Path(name).expanduser()
    if name not in FETCHABLE and own.is_dir():
        return own
    kept = home_dir() / "models" / name.replace("/", "--")
    if kept.is_dir():
        return kept
    if name in FETCHABLE:
        raise LabError(f"{name} is not on this machine yet: `labkit fetch {name}` brings it, once.")
    looks_like_a_path = own.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1
    where = "there is no such folder" if looks_like_a_path else f"there is no such folder, and it is not fetched: `labkit fetch {name}`"
    raise LabError(
        f"no model at {name!r}: {where}. Give a Hugging Face folder with config.json and safetensors, or a fetched model's name."
    )
