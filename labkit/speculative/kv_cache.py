"""A model that reads on from where it is, and can go back: the KV cache of speculative decoding, on either side.

reader = Reader(model)
seen = reader.read(prompt)          # states (T, D); the head gives what follows each token
reader.back(len(prompt) - 3)        # as if the last three had never been read
reader.keep(4, [0, 2])              # of the last four tokens keep two: one path of a tree
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit.base.errors import LabError
from labkit.models.architectures import LanguageModel, State, cache_of


class States(NamedTuple):
    """What a model thought at the tokens it has just read: its final states, and the residual stream after each layer asked for."""

    final_T_D: Tensor
    layers_T_L_D: Tensor | None


class CachedModel:
    """One row of text under a model. `length`: tokens in the cache. `looks`: layers whose output is noted (1 is the first)."""

    def __init__(self, model: LanguageModel, extra_layers: Sequence[int] = ()) -> None:
        self.model: Any = model
        self.device = model.device  # looked up by going through all parameters
        self.extra_layers = tuple(extra_layers)
        self.cache: Any = cache_of(model)
        self.length = self.passes = 0
        self._states: list[Tensor] = []  # of a recurrent model: what it remembered after each token

    @torch.inference_mode()
    def read(self, ids: Sequence[int], parents: Sequence[int] | None = None) -> States:
        """Read on. With `parents`, the tokens are a tree: each sees the text, its parent (a number among these tokens, -1 for the text),
        that one's parent, and so on, and stands as far along as it is deep (tree attention: Miao et al. 2023, SpecInfer, arXiv 2305.09781).
        Raises `LabError` for a tree before a recurrent model."""
        self.passes += 1
        if isinstance(self.cache, State):
            if parents is not None:
                raise LabError("a recurrent model reads one token after the other, and no tree: propose a chain.")
            return self._one_by_one(ids)
        body = self.model.model
        how = {} if parents is None else self._tree(parents)
        layers: dict[int, Tensor] = {}
        hooks = [
            body.layers[n - 1].register_forward_hook(lambda _, __, out, n=n: layers.update({n: out[0]})) for n in set(self.extra_layers)
        ]
        try:
            out = body(torch.tensor([list(ids)], device=self.device), past_key_values=self.cache, use_cache=True, **how)
        finally:
            for hook in hooks:
                hook.remove()
        self.length += len(ids)
        return States(out.last_hidden_state[0], torch.stack([layers[n] for n in self.extra_layers], 1) if self.extra_layers else None)

    def logits(self, final_T_D: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.model.lm_head(final_T_D).float()

    def back(self, length: int) -> None:
        """Forget all tokens from `length` on."""
        if length >= self.length:
            return
        if isinstance(self.cache, State):
            del self._states[length:]
            self.cache.state_L_B_H = self._states[-1] if length else None
        else:
            self.cache.crop(length - self.length)
        self.length = length

    def keep(self, last: int, kept: Sequence[int]) -> None:
        """Of the `last` tokens read keep these, by number, in order."""
        start = self.length - last
        if list(kept) != list(range(len(kept))):
            rows = torch.tensor([*range(start), *(start + i for i in kept)], device=self.device)
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys.index_select(2, rows), layer.values.index_select(2, rows)
            self.length = start + len(kept)
        self.back(start + len(kept))

    def _tree(self, parents: Sequence[int]) -> dict[str, Tensor]:
        n, dtype = len(parents), self.model.lm_head.weight.dtype
        sees = torch.eye(n, dtype=torch.bool)
        depths: list[int] = []
        for i, parent in enumerate(parents):
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
            if parent >= 0:
                sees[i] |= sees[parent]
        mask = torch.zeros(1, 1, n, self.length + n, dtype=dtype)
        mask[0, 0, :, self.length :].masked_fill_(~sees, torch.finfo(dtype).min)
        return {"attention_mask": mask.to(self.device), "position_ids": (torch.tensor([depths]) + self.length).to(self.device)}

    def _one_by_one(self, ids: Sequence[int]) -> States:
        finals = []
        for token in ids:
            out = self.model.model(torch.tensor([[token]], device=self.device), past_key_values=self.cache, use_cache=True)
            finals.append(out.last_hidden_state[0])
            self._states.append(self.cache.state_L_B_H)
        self.length += len(ids)
        return States(torch.cat(finals), None)
