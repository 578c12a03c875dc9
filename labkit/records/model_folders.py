"""The folder of a model that a recipe names."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.base.errors import LabError, shown
from labkit.base.files import expanded, home_dir
from labkit.records.names import FETCHABLE


def without_hash(name: str) -> str:
    """The name of a file or model without its content hash."""
    return re.sub("#[0-9a-f]{16}$", "", name)


def folder_of(name: str) -> Path:
    """The folder of a model on this machine. Nothing is downloaded.

    name: a folder, or a model that `labkit fetch` has fetched; with or without its content hash.

    Raises `LabError` for a model that is not on this machine, with the command that fetches it.
    """
    name = without_hash(name)
    path = expanded(name)
    if name not in FETCHABLE and path.is_dir():
        return path
    fetched = expanded(home_dir() / "models" / name.replace("/", "--"))
    if fetched.is_dir():
        return fetched
    if name in FETCHABLE:
        raise LabError(f"{name} is not on this machine yet: fetch it once with `labkit fetch {name}`.")
    looks_like_a_path = path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1
    where = "there is no such folder" if looks_like_a_path else f"there is no such folder, and it is not fetched: `labkit fetch {name}`"
    raise LabError(
        f"no model at {shown(name)}: {where}. Give a Hugging Face folder with config.json and safetensors, or a fetched model's name."
    )
