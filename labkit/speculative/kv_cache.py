"""A model with a KV cache that can drop tokens again, for the target and for the draft.

cached = CachedModel(model)
states = cached.read(prompt)        # states (T, D); `cached.logits` predicts the next token from each
cached.back(len(prompt) - 3)        # drop the last three tokens
cached.keep(4, [0, 2])              # keep two of the last four tokens: one path of a tree
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit.models.architectures import LanguageModel
from labkit.models.hooks import output_of
from labkit.models.parts import body_of, cached_pass, layers_of, logits_of, new_cache, traits_of
from labkit.speculative import trees


class States(NamedTuple):
    """A model's states at the T tokens that it has just read."""

    final_T_D: Tensor  # final hidden states
    layers_T_L_D: Tensor | None  # the residual stream after each of the L extra layers


class CachedModel:
    """A model with the cache of one text. `length` is the number of tokens in the cache, `passes` the number of forward passes.

    A cache that is a state cannot drop tokens. It is then copied before each pass; to go back, the last copy is taken, and the tokens
    after it are read again. A model without a cache to rely on reads its whole text in each pass.

    extra_layers: layers whose outputs are returned too; 1 is the first.
    goes_back: whether tokens may be dropped.
    """

    def __init__(self, model: LanguageModel, extra_layers: Sequence[int] = (), goes_back: bool = True) -> None:
        self.model: Any = model
        self.device = model.device  # kept, because the lookup goes through all parameters
        self.extra_layers = tuple(extra_layers)
        self.traits = traits_of(model)
        self.cache: Any = new_cache(model) if self.traits.cache != "none" else None
        self.passes, self.goes_back = 0, goes_back
        self._ids: list[int] = []
        self._copies: list[tuple[int, Any]] = []  # (tokens in it, a copy of the state), the longest last

    @property
    def length(self) -> int:
        return len(self._ids)

    @torch.inference_mode()
    def read(self, ids: Sequence[int], parents: Sequence[int] | None = None) -> States:
        """Read more tokens.

        ids: the tokens.
        parents: if given, the tokens are a tree. The number of each token's parent among `ids`, -1 for the text. A token attends to the
            text and to its ancestors, and its position is given by its depth.

        Returns the states at these tokens.

        Raises `LabError` for a tree if the model cannot read one.

        Source: tree attention, Miao et al. 2023, SpecInfer, arXiv 2305.09781.
        """
        masked: Any = (None, None)
        if parents is not None:
            trees.check(self.model)
            masked = trees.masked(self.model, self.length, parents)
        if self.traits.cache == "state" and self.goes_back:
            self._copies.append((self.length, copy.deepcopy(self.cache)))
        layers: dict[int, Tensor] = {}
        parts = layers_of(self.model) if self.extra_layers else ()
        hooks = [
            parts[n - 1].register_forward_hook(lambda _, __, out, n=n: layers.update({n: output_of(out)[0]}))
            for n in set(self.extra_layers)
        ]
        try:
            final_T_D = self._pass(list(ids), *masked)
        finally:
            for hook in hooks:
                hook.remove()
        self._ids += ids
        return States(final_T_D, torch.stack([layers[n] for n in self.extra_layers], 1) if self.extra_layers else None)

    def _pass(self, ids: list[int], visible: Any = None, position_1_T: Tensor | None = None) -> Tensor:
        """Final states `(T, D)` of the next tokens of the text."""
        if self.cache is None:
            self.passes += 1
            tokens = torch.tensor([[*self._ids, *ids]], device=self.device)
            return body_of(self.model)(tokens, use_cache=False).last_hidden_state[0, len(self._ids) :]
        parts = [ids] if self.traits.chunks or not self.length else [[token] for token in ids]
        states, start = [], self.length
        for part in parts:
            self.passes += 1
            at = position_1_T if position_1_T is not None else torch.arange(start, start + len(part), device=self.device)[None]
            states.append(cached_pass(self.model, torch.tensor([part], device=self.device), self.cache, visible, at)[0])
            start += len(part)
        return torch.cat(states)

    def logits(self, final_T_D: Tensor) -> Tensor:
        """Logits `(T, V)` of the token after each final state."""
        with torch.inference_mode():
            return logits_of(self.model, final_T_D).float()

    @torch.inference_mode()
    def back(self, length: int) -> None:
        """Drop all tokens after the first `length`."""
        dropped, again = self.length - length, self._ids[:length]
        if self.traits.cache == "state" and self.goes_back:
            while len(self._copies) > 1 and self._copies[-1][0] > length:
                self._copies.pop()
            if dropped > 0:
                start, self.cache = self._copies[-1]
                self._copies, self._ids = [], again[:start]
                if start < length:
                    self.read(again[start:])
            del self._copies[:-1]
        elif dropped > 0 and self.cache is not None:
            self.cache.crop(-dropped)
        self._ids = again if dropped > 0 else self._ids

    def keep(self, last: int, kept: Sequence[int]) -> None:
        """Of the `last` tokens in the cache, keep only those with the numbers `kept`, which are in rising order."""
        start = self.length - last
        if list(kept) != list(range(len(kept))):
            rows = torch.tensor([*range(start), *(start + i for i in kept)], device=self.device)
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys.index_select(2, rows), layer.values.index_select(2, rows)
            self._ids = [*self._ids[:start], *(self._ids[start + i] for i in kept)]
        self.back(start + len(kept))
