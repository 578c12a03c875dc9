"""EAGLE: one small decoder layer that predicts the target's next state from its last one (Li et al. 2024, arXiv 2401.15077).

At each answer position it reads the target's feature and the token that followed, and predicts the next state; the target's frozen head
gives its logits. From its own states it can predict to any depth. The signal cache has the target's states from the prompt's last token
on. For the prompt's other tokens EAGLE reads one learned vector instead of a feature, which is enough to copy a name from the question.
(The published EAGLE reads features there too, and adds noise to them in training.)

    cache = eagle.begin(prompt)
    states_T_D, logits_T_V = eagle.read(features_T_F, ids_T, cache)     # at tokens that the target has verified
    states_W_D, logits_W_V = eagle.roll(states_T_D[-1:], [17], cache)   # one token deeper
    eagle.crop(cache, kept)                                             # drop the positions that were rolled
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import HeadOutput, Heads, TargetStates
from labkit.models.parts import config_of

THETA = 10_000.0


class Cache:
    """Keys and values `(H, T, d)` of the positions that were read and rolled."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.keys is None else self.keys.shape[1]

    def add(self, keys_H_T_d: Tensor, values_H_T_d: Tensor) -> tuple[Tensor, Tensor]:
        """Append positions. Returns all keys and values."""
        keys = keys_H_T_d if self.keys is None else torch.cat([self.keys, keys_H_T_d], 1)
        values = values_H_T_d if self.values is None else torch.cat([self.values, values_H_T_d], 1)
        self.keys, self.values = keys, values
        return keys, values


class Projected(NamedTuple):
    """Queries, keys and values `(B, H, T, d)`; queries and keys are rotated by their positions."""

    queries: Tensor
    keys: Tensor
    values: Tensor


class Layer(nn.Module):
    """A Llama's decoder layer: RMSNorm, rotary attention, SwiGLU. The caller computes attention, which differs in training and decoding."""

    def __init__(self, width: int, heads: int, head_width: int, inner: int, epsilon: float) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.before_attention, self.before_mlp = nn.RMSNorm(width, epsilon), nn.RMSNorm(width, epsilon)
        self.project = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def projected(self, inputs_B_T_D: Tensor, positions_T: Tensor) -> Projected:
        """Queries, keys and values of inputs at these positions. Only differences of positions matter."""
        parts = self.project(_normed(self.before_attention, inputs_B_T_D)).unflatten(-1, (3, self.heads, self.head_width))
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        half = self.head_width // 2
        angles_T_h = positions_T[:, None] * THETA ** (-torch.arange(half, device=positions_T.device) / half)
        cosine, sine = angles_T_h.cos().to(inputs_B_T_D.dtype), angles_T_h.sin().to(inputs_B_T_D.dtype)

        def turned(x: Tensor) -> Tensor:
            a, b = x[..., :half], x[..., half:]
            return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)

        return Projected(turned(queries), turned(keys), values)

    def after(self, inputs_B_T_D: Tensor, mixed_B_H_T_d: Tensor) -> Tensor:
        """The layer's output, given its inputs and the result of attention."""
        stream = inputs_B_T_D + self.out(mixed_B_H_T_d.transpose(1, 2).flatten(2))
        normed = _normed(self.before_mlp, stream)
        return stream + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Eagle(Heads):
    """EAGLE-1: reads the target's final states, and is trained at depth 1 only, on the target's states."""

    kind = "eagle"
    padded = True

    def __init__(self, target: LanguageModel, ids: Sequence[int] | None = None, ahead: int = 4, seed: int = 0) -> None:
        super().__init__(target, ids, ahead)
        self.trained = (1,)
        like = config_of(target)
        width, heads = like.hidden_size, like.num_attention_heads
        head_width = getattr(like, "head_dim", None) or width // heads
        inner = getattr(like, "intermediate_size", None) or int(8 * width / 3) // 8 * 8
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.join = nn.Linear(2 * width, width, bias=False)
            self.layer = Layer(width, heads, head_width, inner, getattr(like, "rms_norm_eps", 1e-6))
            self.nothing_D = nn.Parameter(torch.zeros(width))  # the feature of a token whose state is not in the cache
            self._more(width)

    def _more(self, width: int) -> None:
        """Adds the modules of a subclass."""

    def _features(self, features_N_F: Tensor) -> Tensor:
        """The target's features as the layer reads them."""
        return features_N_F

    def _of(self, told: TargetStates) -> Tensor:
        """The part of the target's states that is read."""
        return told.states_N_D

    def logits(self, states_N_D: Tensor) -> Tensor:
        return self.said(states_N_D)

    def _joined(self, features_B_T_D: Tensor, ids_B_T: Tensor) -> Tensor:
        with torch.no_grad():
            tokens_B_T_D = self.target.get_input_embeddings()(ids_B_T).to(features_B_T_D.dtype)
        return self.join(torch.cat([tokens_B_T_D, features_B_T_D], -1))

    # ---- training: all positions at once -----------------------------------------------------------------------------

    def guesses(self, told: TargetStates, depths: Sequence[int]) -> list[HeadOutput]:
        lengths_B = torch.tensor(told.lengths, device=self.device)
        ids_B_T = pad_sequence([torch.tensor(answer) for answer in told.answers], batch_first=True).to(self.device)
        features_B_T_D = pad_sequence(self._features(self._of(told)).split(told.lengths), batch_first=True)
        found = []
        for d, states_B_T_D in enumerate(self.unrolled(told.prompts, features_B_T_D, ids_B_T, max(depths)), 1):
            if d in depths:
                there_B_T = torch.arange(states_B_T_D.shape[1], device=self.device) < (lengths_B - d)[:, None]
                states_M_D = states_B_T_D[there_B_T]
                found.append(HeadOutput(self.logits(states_M_D), states_M_D))
        return found

    def unrolled(self, prompts: Sequence[list[int]], features_B_T_D: Tensor, ids_B_T: Tensor, steps: int) -> list[Tensor]:
        """The predicted states `(B, T - d, D)` at depths d = 1, 2, ... `steps` of each position.

        The first is predicted from the target's features. In step j each position continues from its predicted state of the step before and
        the text's token. It attends to the prompt, the target's features up to itself, and its own predicted states since then.

        Source: training-time test, Li et al. 2025.
        """
        length, device = ids_B_T.shape[1], ids_B_T.device
        prompt, padding_B_P = self._prompt(prompts)
        before = padding_B_P.shape[1]
        future_T_T = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
        state, states, predicted = features_B_T_D, list[Tensor](), list[Projected]()
        scale = self.layer.head_width**-0.5
        for j in range(steps):
            span = max(0, length - 1 - j)  # positions that have a token at this depth, in the longest row
            inputs = self._joined(state[:, :span], ids_B_T[:, j : j + span])
            now = self.layer.projected(inputs, torch.arange(before + j, before + j + span, device=device))
            if not j:
                keys, values = (torch.cat([a, b], 2) for a, b in ((prompt.keys, now.keys), (prompt.values, now.values)))
            predicted += [now] if j else []
            hidden = torch.cat(
                [padding_B_P[:, None, None].expand(-1, 1, span, -1), future_T_T[:span, :span].expand(len(ids_B_T), 1, -1, -1)], -1
            )
            scores = (now.queries @ keys[:, :, : before + span].transpose(-1, -2) * scale).masked_fill(hidden, -torch.inf)
            more = [(now.queries * past.keys[:, :, :span]).sum(-1, keepdim=True) * scale for past in predicted]
            shares = torch.cat([scores, *more], -1).softmax(-1)
            mixed = shares[..., : before + span] @ values[:, :, : before + span]
            for m, past in enumerate(predicted):
                mixed = mixed + shares[..., before + span + m, None] * past.values[:, :, :span]
            state = self.layer.after(inputs, mixed)
            states.append(state)
        return states

    def _prompt(self, prompts: Sequence[list[int]]) -> tuple[Projected, Tensor]:
        """Queries, keys and values of prompts, aligned at their last tokens; and `(B, P)`, True at padding.

        Each position stands for the token after it, as in answers, so the first token is not read.
        """
        width = max(map(len, prompts)) - 1
        ids_B_P = torch.tensor([[0] * (width + 1 - len(prompt)) + prompt[1:] for prompt in prompts], dtype=torch.long, device=self.device)
        lengths_B = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.device)
        inputs = self._joined(self.nothing_D.expand(*ids_B_P.shape, -1), ids_B_P)
        places_P = torch.arange(width, device=self.device)
        return self.layer.projected(inputs, places_P), places_P < width - lengths_B[:, None]

    # ---- decoding: one row, a few positions at a time ----------------------------------------------------------------

    @torch.inference_mode()
    def begin(self, prompt: Sequence[int]) -> Cache:
        """A new cache with the keys and values of a prompt."""
        cache = Cache()
        projected, _ = self._prompt([list(prompt)])
        cache.add(projected.keys[0], projected.values[0])
        return cache

    @torch.inference_mode()
    def read(self, features_T_F: Tensor, ids_T: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        """Predict from positions that the target has read, and add them to the cache.

        features_T_F: the target's features there.
        ids_T: the tokens that follow.

        Returns states `(T, D)` and logits `(T, V)`.
        """
        return self._on(self._features(features_T_F.to(self.join.weight.dtype)), ids_T, cache)

    @torch.inference_mode()
    def roll(
        self, states_W_D: Tensor, tokens: Sequence[int], cache: Cache, place: int | None = None, sees_W_T: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict one token deeper from its own states, and add the positions to the cache.

        states_W_D: predicted states; several are the ends of branches.
        tokens: the token chosen at each.
        place: the position of all branch ends.
        sees_W_T: for each branch end, True at the cached and new positions that it attends to.

        Returns states `(W, D)` and logits `(W, V)`.
        """
        assert len(tokens) == 1 or (place is not None and sees_W_T is not None), "several branch ends need `place` and `sees_W_T`"
        return self._on(states_W_D, torch.tensor(tokens, device=self.device), cache, place, sees_W_T)

    def crop(self, cache: Cache, length: int) -> None:
        """Drop all but the first `length` positions from the cache."""
        if cache.keys is not None and cache.values is not None:
            cache.keys, cache.values = cache.keys[:, :length], cache.values[:, :length]

    def _on(
        self, features_T_D: Tensor, ids_T: Tensor, cache: Cache, place: int | None = None, sees_T_C: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        before, count = len(cache), len(ids_T)
        inputs = self._joined(features_T_D[None], ids_T[None])
        places_T = torch.arange(before, before + count) if place is None else torch.full((count,), place)
        now = self.layer.projected(inputs, places_T.to(ids_T.device))
        keys, values = cache.add(now.keys[0], now.values[0])
        if sees_T_C is None and count > 1:
            sees_T_C = torch.ones(count, before + count, dtype=torch.bool, device=ids_T.device).tril(before)
        mixed = F.scaled_dot_product_attention(now.queries, keys[None], values[None], attn_mask=sees_T_C)
        states_T_D = self.layer.after(inputs, mixed)[0]
        return states_T_D, self.logits(states_T_D)


class Eagle3(Eagle):
    """EAGLE-3: reads a low, a middle and the last layer of the target instead of its final states, and is trained at all depths.

    In training it reads its own predicted states, which need not resemble the target's. Source: Li et al. 2025, arXiv 2503.01840.
    """

    kind = "eagle3"

    def __init__(self, target: LanguageModel, ids: Sequence[int] | None = None, ahead: int = 4, seed: int = 0) -> None:
        super().__init__(target, ids, ahead, seed)
        self.trained = tuple(range(1, ahead + 1))
        layers = config_of(target).num_hidden_layers
        self.extra_layers = (max(1, round(layers / 6)), max(1, round(layers / 2)), layers)

    def _more(self, width: int) -> None:
        self.fuse = nn.Linear(3 * width, width, bias=False)
        self.norm = nn.RMSNorm(width, 1e-6)

    def _features(self, features_N_F: Tensor) -> Tensor:
        return self.fuse(features_N_F.flatten(1))

    def _of(self, told: TargetStates) -> Tensor:
        assert told.extra_N_L_D is not None
        return told.extra_N_L_D

    def logits(self, states_N_D: Tensor) -> Tensor:
        return self.said(_normed(self.norm, states_N_D))


def _normed(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """The norm in the precision of its weights: torch has no fast kernel for mixed ones, and warns."""
    return norm(x.to(norm.weight.dtype))
