"""A model with a KV cache that can drop tokens again, for the target and for the draft.

cached = CachedModel(model)
states = cached.read(prompt)        # states (T, D); `cached.logits` predicts the next token from each
cached.back(len(prompt) - 3)        # drop the last three tokens
cached.keep(4, [0, 2])              # keep two of the last four tokens: one path of a tree
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit.base.errors import LabError
from labkit.models.architectures import LanguageModel, State, cache_of


class States(NamedTuple):
    """A model's states at the T tokens that it has just read."""

    final_T_D: Tensor  # final hidden states
    layers_T_L_D: Tensor | None  # the residual stream after each of the L extra layers


class CachedModel:
    """A model with the cache of one text. `length` is the number of tokens in the cache, `passes` the number of forward passes.

    extra_layers: layers whose outputs are returned too; 1 is the first.
    """

    def __init__(self, model: LanguageModel, extra_layers: Sequence[int] = ()) -> None:
        self.model: Any = model
        self.device = model.device  # kept, because the lookup goes through all parameters
        self.extra_layers = tuple(extra_layers)
        self.cache: Any = cache_of(model)
        self.length = self.passes = 0
        self._states: list[Tensor] = []  # of a recurrent model: its state after each token

    @torch.inference_mode()
    def read(self, ids: Sequence[int], parents: Sequence[int] | None = None) -> States:
        """Read more tokens.

        ids: the tokens.
        parents: if given, the tokens are a tree. The number of each token's parent among `ids`, -1 for the text. A token attends to the
            text and to its ancestors, and its position is given by its depth.

        Returns the states at these tokens.

        Raises `LabError` for a tree if the model is recurrent.

        Source: tree attention, Miao et al. 2023, SpecInfer, arXiv 2305.09781.
        """
        self.passes += 1
        if isinstance(self.cache, State):
            if parents is not None:
                raise LabError("a recurrent model reads one token after the other and cannot read a tree: propose a chain.")
            return self._one_by_one(ids)
        body = self.model.model
        masked = {} if parents is None else self._tree(parents)
        layers: dict[int, Tensor] = {}
        hooks = [
            body.layers[n - 1].register_forward_hook(lambda _, __, out, n=n: layers.update({n: out[0]})) for n in set(self.extra_layers)
        ]
        try:
            out = body(torch.tensor([list(ids)], device=self.device), past_key_values=self.cache, use_cache=True, **masked)
        finally:
            for hook in hooks:
                hook.remove()
        self.length += len(ids)
        return States(out.last_hidden_state[0], torch.stack([layers[n] for n in self.extra_layers], 1) if self.extra_layers else None)

    def logits(self, final_T_D: Tensor) -> Tensor:
        """Logits `(T, V)` of the token after each final state."""
        with torch.inference_mode():
            return self.model.lm_head(final_T_D).float()

    def back(self, length: int) -> None:
        """Drop all tokens after the first `length`."""
        if length >= self.length:
            return
        if isinstance(self.cache, State):
            del self._states[length:]
            self.cache.state_L_B_H = self._states[-1] if length else None
        else:
            self.cache.crop(length - self.length)
        self.length = length

    def keep(self, last: int, kept: Sequence[int]) -> None:
        """Of the `last` tokens in the cache, keep only those with the numbers `kept`, which are in rising order."""
        start = self.length - last
        if list(kept) != list(range(len(kept))):
            rows = torch.tensor([*range(start), *(start + i for i in kept)], device=self.device)
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys.index_select(2, rows), layer.values.index_select(2, rows)
            self.length = start + len(kept)
        self.back(start + len(kept))

    def _tree(self, parents: Sequence[int]) -> dict[str, Tensor]:
        """Attention mask and position ids of a tree."""
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
