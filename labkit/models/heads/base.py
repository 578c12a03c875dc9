"""Heads on a frozen target: small modules that read its states and guess the tokens after its next one, as students of the one engine.

The target's final state h_i behind an answer's token predicts that token, a_i. A guess *d ahead* made at i is one of a_{i+d}. All that is
needed to train it is in the signals cache: h_i to read, a_{i+d} for a label, and the target's own logits there, its head on h_{i+d}. So
heads learn without a single pass of the target, but for gold rows, which it has not read yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.losses.batch import Batch
from labkit.models.architectures import LanguageModel
from labkit.models.hooks import run_with_hooks
from labkit.models.load import answer_states, pad, tokenizer_of

DECAY = 0.8  # a depth's weight in the loss against the one before it (Cai et al. 2024, section 2.2; Li et al. 2025)


class TargetStates(NamedTuple):
    """Rows as the target has read them: its final states at all answer tokens, one row after the other, and its residual stream there
    after the layers that were asked for."""

    prompts: Sequence[list[int]]
    answers: Sequence[list[int]]
    states_N_D: Tensor
    extra_N_L_D: Tensor | None = None

    @property
    def lengths(self) -> list[int]:
        return [len(answer) for answer in self.answers]

    @classmethod
    def of(cls, parts: Sequence[TargetStates]) -> TargetStates:
        """Several, one after the other."""
        extra_layers = [part.extra_N_L_D for part in parts if part.extra_N_L_D is not None]
        return cls(
            [prompt for part in parts for prompt in part.prompts],
            [answer for part in parts for answer in part.answers],
            torch.cat([part.states_N_D for part in parts]),
            torch.cat(extra_layers) if extra_layers else None,
        )


class HeadOutput(NamedTuple):
    """What heads say at one depth, at the M places that have a token so far ahead; for those that guess states too, these."""

    logits_M_V: Tensor
    states_M_D: Tensor | None = None


class Heads(nn.Module):
    """What `medusa` and `eagle` have in common. The target is no part of the module: it is neither trained, moved nor saved with it.

    ids_V: the target's tokens that heads can say, their own columns in order. looks: layers of the target they read beside its final
    states. ahead: how far they guess. trained: the depths in the loss; 0 is the target's own next token.
    """

    kind = ""
    extra_layers: tuple[int, ...] = ()
    padded = False
    ids_V: Tensor
    column_of: Tensor

    def __init__(self, target: LanguageModel, ids: Sequence[int] | None = None, ahead: int = 4) -> None:
        super().__init__()
        object.__setattr__(self, "target", target)  # past nn.Module, which would make it a part
        self.ahead, self.trained = ahead, tuple(range(1, ahead + 1))
        head_V_D, size = target.lm_head.weight.detach(), target.lm_head.weight.shape[0]
        chosen = torch.arange(size) if ids is None else torch.tensor(sorted(set(ids)))
        column_of = torch.full((size,), -1)
        column_of[chosen] = torch.arange(len(chosen))
        self.register_buffer("ids_V", chosen, persistent=False)
        self.register_buffer("column_of", column_of, persistent=False)
        self._head_V_D = head_V_D if ids is None else head_V_D[chosen.to(head_V_D.device)]

    target: Any

    @property
    def config(self) -> Any:
        return self.target.config

    @property
    def chat(self) -> Any:
        """The target's tokenizer, if it has one of its own (see `tokenizer_of`)."""
        return getattr(self.target, "chat", None)

    @property
    def device(self) -> torch.device:
        return self.ids_V.device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def weights(self) -> dict[int, float]:
        """Of each trained depth in the loss: the guesses' fall by `DECAY` and sum to 1; that of depth 0 is 1."""
        total = sum(DECAY**d for d in self.trained if d)
        return {d: DECAY**d / total if d else 1.0 for d in self.trained}

    def guesses(self, told: TargetStates, depths: Sequence[int]) -> list[HeadOutput]:
        """What the heads say at these depths, in order; at each, for the places that `places` gives."""
        raise NotImplementedError

    def said(self, states_N_D: Tensor) -> Tensor:
        """Logits `(N, V)` of states through the target's frozen head, over the tokens that heads can say."""
        return F.linear(states_N_D.to(self._head_V_D.dtype), self._head_V_D).float()

    @torch.no_grad()
    def read_target(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> TargetStates:
        """These rows, read by the target now."""
        rows = pad(prompts, answers)
        if not self.extra_layers:
            return TargetStates(prompts, answers, answer_states(self.target, rows).float())
        seen = run_with_hooks(self.target, rows, self.extra_layers)
        assert seen.hidden_N_L_D is not None
        return TargetStates(prompts, answers, seen.final_N_D.float(), seen.hidden_N_L_D.float())

    # ---- in the loss -------------------------------------------------------------------------------------------------

    def batch(self, told: TargetStates, gold: Sequence[bool]) -> Batch:
        """All trained depths of some rows, one after the other, as a batch of which every method can ask its terms. `gold` marks rows
        whose label was paid for, about which the target says nothing. Tokens that heads cannot say are left out."""
        labels_N = self.column_of[torch.tensor([t for answer in told.answers for t in answer], device=self.device)]
        gold_N = torch.tensor([g for g, n in zip(gold, told.lengths, strict=True) for _ in range(n)], device=self.device)
        with torch.no_grad():
            teacher_N_V = None if all(gold) else self.said(told.states_N_D)
        parts, states = [], []
        for d, guess in zip(self.trained, self.guesses(told, self.trained), strict=True):
            aim_M = places(told.lengths, d).to(self.device) + d
            kept_M = labels_N[aim_M] >= 0
            parts.append((guess.logits_M_V.float()[kept_M], aim_M[kept_M], torch.full_like(aim_M[kept_M], d)))
            states += [] if guess.states_M_D is None else [guess.states_M_D[kept_M]]
        logits_N_V, aim_N, depth_N = (torch.cat(column) for column in zip(*parts, strict=True))
        weight_of = torch.tensor([self.weights.get(d, 0.0) for d in range(self.ahead + 1)], device=self.device)
        gold_N = gold_N[aim_N]
        pool_M = (~gold_N).nonzero()[:, 0]
        followed = bool(states) and teacher_N_V is not None
        return Batch(
            logits_N_V,
            labels_N[aim_N],
            pool_M,
            gold_N.nonzero()[:, 0],
            None if teacher_N_V is None else teacher_N_V[aim_N[pool_M]],
            student_features_M=torch.cat(states)[pool_M] if followed else None,
            teacher_features_M=told.states_N_D[aim_N[pool_M]] if followed else None,
            weights_N=weight_of[depth_N],
        )

    def scored(self, answers: Iterable[Sequence[int]]) -> float:
        """The weight of all that is guessed in some answers: what a mean over them is divided by (1 where there is nothing)."""
        sayable = [(self.column_of[torch.tensor(answer, device=self.device)] >= 0).tolist() for answer in answers]
        return sum(weight * sum(row[d:]) for d, weight in self.weights.items() for row in sayable) or 1.0

    def passes(self, lengths: Sequence[int], logits: int) -> list[list[int]]:
        """Row numbers in micro-batches: rows of like length, so few that all depths have at most so many logits. Where heads pad rows
        to the longest, none is more than twice as long as another."""
        found: list[list[int]] = []
        room = 0
        for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            size = lengths[row] * len(self.trained) * len(self.ids_V)
            if size > room or (self.padded and lengths[row] > 2 * lengths[found[-1][0]]):
                found, room = [*found, []], logits
            found[-1].append(row)
            room -= size
        return found


def places(lengths: Sequence[int], ahead: int) -> Tensor:
    """Where in rows of these lengths, laid one after the other, there is a token so far ahead: `(M,)`, in order."""
    length_B = torch.tensor(lengths)
    start_B = length_B.cumsum(0) - length_B
    return torch.cat([torch.arange(int(s), int(s) + max(0, int(n) - ahead)) for s, n in zip(start_B, length_B, strict=True)])


def commonest(target: LanguageModel, size: int, texts: Iterable[Sequence[int]]) -> list[int] | None:
    """The `size` tokens most frequent in some texts, the end mark always among them, filled up by number; None for all there are."""
    every = target.lm_head.weight.shape[0]
    if not size or size >= every:
        return None
    counts = Counter(token for text in texts for token in text)
    end = tokenizer_of(target).end
    order = sorted(range(every), key=lambda token: (token != end, -counts[token], token))
    return sorted(order[:size])
