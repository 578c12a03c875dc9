"""Tensors on disk: safetensors files with a checksum of the content in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from labkit.base.errors import DataError
from labkit.base.files import write_whole


def save(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None) -> None:
    """Write `tensors` and a `note` (texts by name) to a file, atomically."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {**(note or {}), "seal": _seal(kept, note or {})}
    write_whole(path, lambda to: save_file(kept, to, header))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the note of a file. Raises `DataError` if the file cannot be read or any bit of it has changed."""
    try:
        with safe_open(path, "pt") as file:
            note = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}).") from None
    if note.pop("seal", None) != _seal(tensors, note):
        raise DataError(f"{path} is damaged (its content does not match its checksum).")
    return tensors, note


def note(path: Path) -> dict[str, str]:
    """The note alone, without the check of the content, which is faster. Raises `DataError` if the file cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}).") from None


def _seal(tensors: Mapping[str, Tensor], note: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(json.dumps(note, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
