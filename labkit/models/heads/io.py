"""Heads by name: how they are made, and how they are kept.

heads = make("eagle", target, ahead=4)
save(heads, Path("eagle.safetensors"), {"recipe": exp.recipe})
heads = load(Path("eagle.safetensors"), target)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from labkit.base import tensors
from labkit.base.errors import LabError, unknown
from labkit.base.files import data_dir
from labkit.base.manifest import checked
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads
from labkit.models.heads.eagle import Eagle, Eagle3
from labkit.models.heads.medusa import Medusa, Medusa2
from labkit.models.load import fingerprint

KINDS: dict[str, type[Medusa] | type[Eagle]] = {kind.kind: kind for kind in (Medusa, Medusa2, Eagle, Eagle3)}


def make(kind: str, target: LanguageModel, ids: Sequence[int] | None = None, ahead: int = 4, seed: int = 0) -> Medusa | Eagle:
    """New heads on a target. ids: the tokens they can say; None for all. Raises `LabError` for a kind that does not exist, tokens that the
    target has not, or heads that guess nothing."""
    if kind not in KINDS:
        raise unknown("kind of heads", kind, KINDS)
    if kind.startswith("eagle") and not hasattr(getattr(target, "model", None), "layers"):
        raise LabError(f"{kind} is a layer made like its target's, and {type(target).__name__} is not made as a Llama is: take medusa.")
    size = target.lm_head.weight.shape[0]
    if isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1:
        raise LabError(f"ahead={ahead!r} must be a whole number of tokens, 1 or more.")
    if ids is not None and (not len(ids) or not all(isinstance(i, int) and 0 <= i < size for i in ids)):
        raise LabError(f"heads must be able to say some of the target's tokens, numbers from 0 to {size - 1}, and got {list(ids)[:5]}.")
    return KINDS[kind](target, ids, ahead, seed)


def save(heads: Heads, path: Path, note: Mapping[str, str] | None = None) -> None:
    """Heads as one safetensors file in half precision, with what it takes to make them again; their target is named by its weights."""
    settings = {"kind": heads.kind, "ahead": heads.ahead, "target": fingerprint(heads.target)}
    kept = {f"weight/{name}": parameter.half() for name, parameter in heads.named_parameters()}
    tensors.save(path, kept | {"ids": heads.ids_V.int()}, {**(note or {}), "heads": json.dumps(settings)})


def load(path: Path, target: LanguageModel) -> Medusa | Eagle:
    """Heads from disk, in eval mode, as precise as their target. Raises `LabError` for another file, or another target's."""
    kept, note = tensors.load(path)
    try:
        settings = json.loads(note["heads"])
    except (KeyError, ValueError):
        raise LabError(f"{path} holds no heads: give a file that `labkit.models.heads.io.save` has written.") from None
    if settings["target"] != (own := fingerprint(target)):
        raise LabError(
            f"{path} belongs to a target with weights #{settings['target']}, and this one's are #{own}: heads read one model's states "
            "and no other's. Load the target they were trained on, or train new ones."
        )
    ids = kept["ids"].tolist()
    heads = make(settings["kind"], target, None if len(ids) == target.lm_head.weight.shape[0] else ids, settings["ahead"])
    with torch.no_grad():
        for name, parameter in heads.named_parameters():
            parameter.copy_(kept[f"weight/{name}"])
    return heads.to(target.lm_head.weight.dtype).eval().requires_grad_(False)


def shipped(name: str, target: LanguageModel) -> Medusa | Eagle:
    """Heads that come with the lab, on their target. Raises `LabError` for others, or another target; `DataError` if they are damaged."""
    names = sorted(path.stem for path in (data_dir() / "drafts").glob("*.safetensors"))
    if name not in names:
        raise unknown("shipped heads", name, names)
    return load(checked(data_dir() / "drafts" / f"{name}.safetensors"), target)
