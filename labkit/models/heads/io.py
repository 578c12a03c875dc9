"""Draft heads by name: how they are created, saved and loaded.

heads = make("eagle", target, ahead=4)
save(heads, Path("eagle.safetensors"), {"recipe": exp.recipe})
heads = load(Path("eagle.safetensors"), target)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.base import tensors
from labkit.base.errors import LabError, reading, unknown
from labkit.base.files import data_dir
from labkit.base.manifest import checked
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads
from labkit.models.heads.eagle import Eagle, Eagle3
from labkit.models.heads.medusa import Medusa, Medusa2
from labkit.models.load import weights_hash
from labkit.models.parts import layers_of, traits_of, vocabulary_of

KINDS: dict[str, type[Medusa] | type[Eagle]] = {kind.kind: kind for kind in (Medusa, Medusa2, Eagle, Eagle3)}


def make(kind: str, target: LanguageModel, ids: Sequence[int] | None = None, ahead: int = 4, seed: int = 0) -> Medusa | Eagle:
    """New draft heads on a target.

    kind: a key of `KINDS`.
    ids: the target's tokens that the heads can predict; None for all.
    ahead: the number of depths.
    seed: determines the first weights.

    Raises `LabError` for an unknown kind, tokens that the target does not have, or fewer than 1 depth.
    """
    if kind not in KINDS:
        raise unknown("kind of heads", kind, KINDS)
    if kind.startswith("eagle") and not len(layers_of(target)):
        raise LabError(f"{kind} needs a target with a list of layers, and {type(target).__name__} has none: choose medusa.")
    head = target.get_output_embeddings()
    if traits_of(target).head != "linear" or getattr(head, "bias", None) is not None:
        raise LabError(f"draft heads copy their target's head, a linear map without bias, and {type(target).__name__} has another one.")
    size = vocabulary_of(target)
    if isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1:
        raise LabError(f"ahead={ahead!r} must be a whole number of tokens, 1 or more.")
    if ids is not None and (not len(ids) or not all(isinstance(i, int) and 0 <= i < size for i in ids)):
        raise LabError(f"ids={list(ids)[:5]} must be tokens of the target that the heads can predict: numbers from 0 to {size - 1}.")
    return KINDS[kind](target, ids, ahead, seed)


def save(heads: Heads, path: Path, note: Mapping[str, str] | None = None) -> None:
    """Save heads as one safetensors file in half precision, with their settings and the fingerprint of their target.

    note: further texts by name.
    """
    settings = {"kind": heads.kind, "ahead": heads.ahead, "target": weights_hash(heads.target)}
    kept = {f"weight/{name}": parameter.half() for name, parameter in heads.named_parameters()}
    tensors.save(path, kept | {"ids": heads.ids_V.int()}, {**(note or {}), "heads": json.dumps(settings)})


def load(path: Path, target: LanguageModel) -> Medusa | Eagle:
    """Heads from disk, frozen, in eval mode and in their target's precision. Raises `LabError` for another file, or another target's."""
    mend = "Give a file that `labkit.models.heads.io.save` has written."
    kept, note = tensors.load(path, mend)
    with reading(path, mend, "holds no heads"):
        settings = json.loads(note["heads"])
        ids, known = kept["ids"].tolist(), [settings[name] for name in ("kind", "ahead", "target")]
    if known[2] != (weights := weights_hash(target)):
        raise LabError(
            f"{path} belongs to a target with weights #{known[2]}, and this one's are #{weights}: heads work only with the "
            "target that they were trained on. Load that target, or train new heads."
        )
    with reading(path, mend):
        heads = make(known[0], target, None if len(ids) == vocabulary_of(target) else ids, known[1])
        for name, parameter in heads.named_parameters():
            tensors.fill(parameter, kept, f"weight/{name}")
    return heads.to(target.dtype).eval().requires_grad_(False)


def shipped(name: str, target: LanguageModel) -> Medusa | Eagle:
    """Shipped heads on their target. Raises `LabError` for an unknown name or another target, `DataError` if the file is damaged."""
    names = sorted(path.stem for path in (data_dir() / "drafts").glob("*.safetensors"))
    if name not in names:
        raise unknown("shipped heads", name, names)
    return load(checked(data_dir() / "drafts" / f"{name}.safetensors"), target)
