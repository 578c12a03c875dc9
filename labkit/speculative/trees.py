"""The attention mask of a tree of proposed tokens, for each kind of layer; and whether a model reads trees right.

`transformers` takes a 4-D mask as it is, so the windows of sliding layers must be in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from labkit.base.errors import LabError
from labkit.models.parts import body_of, cached_pass, config_of, new_cache, traits_of, vocabulary_of

FULL = "full_attention"
WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}  # kind of layer: its field of the config
NARROW = 4  # tokens of a window, for the check
CLOSE = 1e-2  # largest error of a state in the check, in standard deviations (0.2 in half precision)


def check(model: Any) -> None:
    """Raises `LabError` for a model that cannot read a tree. The check is done once for a model."""
    if why := reason(model):
        raise LabError(f"this model cannot read a tree of proposals: {why}. Propose a chain, with candidates=0.")


def reason(model: Any) -> str:
    """Why a model cannot read a tree of proposals; "" if it can."""
    found = getattr(model, "tree_reason", None)
    if found is None:
        found = model.tree_reason = _reason(model)
    return found


def masked(model: Any, length: int, parents: Sequence[int]) -> tuple[Any, Tensor]:
    """The attention mask and position ids of a tree after `length` tokens of text.

    Returns one mask `(1, 1, N, length + N)`, or for layers of several kinds a dict of them; and the positions `(1, N)`.
    """
    depths: list[int] = []
    sees_N_N = torch.eye(len(parents), dtype=torch.bool)
    for i, parent in enumerate(parents):
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
        if parent >= 0:
            sees_N_N[i] |= sees_N_N[parent]
    at_N = torch.tensor(depths) + length
    key_C, sees_N_C = torch.cat([torch.arange(length), at_N]), torch.cat([torch.ones(len(parents), length, dtype=torch.bool), sees_N_N], 1)
    masks = {}
    for kind in _kinds(model):
        allowed_N_C, size = sees_N_C, _window(model, kind)
        if kind == "sliding_attention":
            allowed_N_C = sees_N_C & (at_N[:, None] - key_C < size)
        elif kind == "chunked_attention":
            allowed_N_C = sees_N_C & (at_N[:, None] // size == key_C // size)
        mask = torch.zeros(1, 1, *allowed_N_C.shape, dtype=model.dtype).masked_fill(~allowed_N_C, torch.finfo(model.dtype).min)
        masks[kind] = mask.to(model.device)
    return masks if len(masks) > 1 else next(iter(masks.values())), at_N[None].to(model.device)


def _kinds(model: Any) -> set[str]:
    """The kinds of attention of the model's layers."""
    config = config_of(model)
    if given := getattr(config, "layer_types", None):
        return {kind if kind in WINDOWS and _window(model, kind) else FULL if kind in WINDOWS else kind for kind in given}
    return {"sliding_attention"} if _window(model, "sliding_attention") else {FULL}


def _window(model: Any, kind: str) -> int:
    """The window of this kind of layer in tokens; 0 for none."""
    config = config_of(model)
    return (getattr(config, WINDOWS[kind], None) or 0) if kind in WINDOWS and getattr(config, "use_sliding_window", True) else 0


def _reason(model: Any) -> str:
    traits = traits_of(model)
    if traits.cache == "state":
        return "it keeps a state that grows token by token along one text"
    if traits.cache == "none":
        return "none of its caches gives its own numbers"
    if not traits.chunks or not traits.positions:
        return "it counts positions itself"
    if unknown := _kinds(model) - {FULL, *WINDOWS}:
        return f"its layers of kind {sorted(unknown)[0]} take no mask"
    try:
        with torch.inference_mode(), _narrow(model) as effective:
            return "" if effective and _exact(model) else "its layers do not follow the mask of a tree"
    except Exception as error:  # code of any family
        return f"it does not take the mask of a tree ({type(error).__name__})"


@contextlib.contextmanager
def _narrow(model: Any) -> Iterator[bool]:
    """Make the windows of a model narrow for a while, so that a short text is longer than they are. Yields whether that has an effect."""
    config = config_of(model)
    before = {name: getattr(config, name) for kind, name in WINDOWS.items() if kind in _kinds(model)}
    tokens = _tokens(model)
    wide = body_of(model)(tokens, use_cache=False).last_hidden_state
    training = model.training
    model.eval()
    try:
        for name in before:
            setattr(config, name, NARROW)
        narrow = body_of(model)(tokens, use_cache=False).last_hidden_state
        yield not before or not torch.equal(wide, narrow) or min(before.values()) <= NARROW
    finally:
        for name, value in before.items():
            setattr(config, name, value)
        model.train(training)


def _tokens(model: Any) -> Tensor:
    return torch.randint(vocabulary_of(model), (1, 13), generator=torch.Generator().manual_seed(0)).to(model.device)


def _exact(model: Any) -> bool:
    """Whether every path of a small tree gets the states that it has as a text."""
    tokens, parents = _tokens(model), [-1, 0, 1, 0, 3]
    text = tokens[:, : tokens.shape[1] - len(parents)]
    cache = new_cache(model)
    at = torch.arange(text.shape[1], device=text.device)[None]
    cached_pass(model, text, cache, position_B_T=at)
    mask, position = masked(model, text.shape[1], parents)
    found_N_D = cached_pass(model, tokens[:, text.shape[1] :], cache, mask, position)[0].float()
    close = CLOSE if model.dtype in (torch.float32, torch.float64) else 20 * CLOSE
    for number in range(len(parents)):
        path, at_node = [number], parents[number]
        while at_node >= 0:
            path, at_node = [at_node, *path], parents[at_node]
        row = torch.cat([text, tokens[:, [text.shape[1] + i for i in path]]], 1)
        wanted_D = body_of(model)(row, use_cache=False).last_hidden_state[0, -1].float()
        if float((found_N_D[number] - wanted_D).square().mean().sqrt() / wanted_D.std()) > close:
            return False
    return True
