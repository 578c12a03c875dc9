"""Tensors on disk: safetensors files with a checksum of the content in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from labkit.base.errors import reading
from labkit.base.files import write_whole

AGAIN = "Delete it: it is made again when it is needed."


def save(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None) -> None:
    """Write `tensors` and a `note` (texts by name) to a file, atomically."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {**(note or {}), "seal": _seal(kept, note or {})}
    write_whole(path, lambda to: save_file(kept, to, header))


def load(path: Path, mend: str = AGAIN) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the note of a file.

    mend: what to do if it is damaged, in sentences.

    Raises `DataError` if the file cannot be read or any bit of it has changed.
    """
    with reading(path, mend):
        with safe_open(path, "pt") as file:
            note = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if note.pop("seal", None) != _seal(tensors, note):
            raise ValueError("its content does not match its checksum")
    return tensors, note


def note(path: Path) -> dict[str, str]:
    """The note alone, without the check of the content, which is faster. Raises `DataError` if the file cannot be read."""
    with reading(path, AGAIN), safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def fill(parameter: Tensor, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copy a tensor of a file into a parameter, without a gradient. A copy alone would repeat a smaller one to fill the parameter.

    name: of the tensor in the file.

    Raises `KeyError` if the file does not have it, `ValueError` if it has another shape.
    """
    if tensors[name].shape != parameter.shape:
        raise ValueError(f"{name} has the shape {tuple(tensors[name].shape)}, and must have {tuple(parameter.shape)}")
    with torch.no_grad():
        parameter.copy_(tensors[name])


def _seal(tensors: Mapping[str, Tensor], note: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(json.dumps(note, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
