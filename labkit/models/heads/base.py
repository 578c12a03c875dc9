"""Draft heads on a frozen target: small modules that read its states and predict tokens after its next one. The training loop trains them.

The target's final state h_i predicts the answer token a_i. A prediction at depth d, made at i, is one of a_{i+d}. The signal cache has all
that is needed to train it: h_i as input, a_{i+d} as label, and the target's logits there, which are its head on h_{i+d}. So training needs
no forward pass of the target, except for gold rows, which are not in the cache.
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
from labkit.models.load import tokenizer_of
from labkit.models.parts import answer_states, pad, vocabulary_of

DECAY = 0.8  # weight of a depth in the loss, relative to the depth before it (Cai et al. 2024, section 2.2; Li et al. 2025)


class TargetStates(NamedTuple):
    """Rows and the target's states at their N answer tokens, one row after the other."""

    prompts: Sequence[list[int]]
    answers: Sequence[list[int]]
    states_N_D: Tensor  # final states
    extra_N_L_D: Tensor | None = None  # the residual stream after the layers that the heads also read

    @property
    def lengths(self) -> list[int]:
        """Tokens of each answer."""
        return [len(answer) for answer in self.answers]

    @classmethod
    def of(cls, parts: Sequence[TargetStates]) -> TargetStates:
        """Several concatenated."""
        extra_layers = [part.extra_N_L_D for part in parts if part.extra_N_L_D is not None]
        return cls(
            [prompt for part in parts for prompt in part.prompts],
            [answer for part in parts for answer in part.answers],
            torch.cat([part.states_N_D for part in parts]),
            torch.cat(extra_layers) if extra_layers else None,
        )


class HeadOutput(NamedTuple):
    """Predictions at one depth, at the M positions that have a token at that depth."""

    logits_M_V: Tensor
    states_M_D: Tensor | None = None  # predicted states, for heads that predict them


class Heads(nn.Module):
    """Base class of Medusa and EAGLE heads. The target is not part of the module: it is not trained, moved or saved with it.

    ids: the target's tokens that the heads can predict; None for all.
    ahead: the number of depths.
    """

    kind = ""
    extra_layers: tuple[int, ...] = ()  # layers of the target that the heads read beside its final states
    padded = False  # whether rows of a micro-batch are padded to the longest
    ids_V: Tensor  # the target's tokens that the heads can predict, in the order of their logits
    column_of: Tensor  # the inverse: the place of each token in `ids_V`, or -1
    trained: tuple[int, ...]  # the depths in the loss; 0 is the target's next token

    def __init__(self, target: LanguageModel, ids: Sequence[int] | None = None, ahead: int = 4) -> None:
        super().__init__()
        object.__setattr__(self, "target", target)  # not through nn.Module, which would register it as a submodule
        self.ahead, self.trained = ahead, tuple(range(1, ahead + 1))
        model: Any = target
        head_V_D, size = model.get_output_embeddings().weight.detach(), vocabulary_of(target)
        chosen = torch.arange(size) if ids is None else torch.tensor(sorted(set(ids)))
        column_of = torch.full((size,), -1)
        column_of[chosen] = torch.arange(len(chosen))
        self.register_buffer("ids_V", chosen, persistent=False)
        self.register_buffer("column_of", column_of, persistent=False)
        self._head_V_D = head_V_D if ids is None else head_V_D[chosen.to(head_V_D.device)]

    target: Any

    @property
    def config(self) -> Any:
        """The target's configuration."""
        return self.target.config

    @property
    def chat(self) -> Any:
        """The tokenizer of a pretrained target; None for other targets (see `tokenizer_of`)."""
        return getattr(self.target, "chat", None)

    @property
    def device(self) -> torch.device:
        return self.ids_V.device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def weights(self) -> dict[int, float]:
        """The weight of each trained depth in the loss. Those from depth 1 on fall by `DECAY` and sum to 1; depth 0 has 1."""
        total = sum(DECAY**d for d in self.trained if d)
        return {d: DECAY**d / total if d else 1.0 for d in self.trained}

    def guesses(self, told: TargetStates, depths: Sequence[int]) -> list[HeadOutput]:
        """Predictions at these depths, in order, each at the positions of `places`."""
        raise NotImplementedError

    def said(self, states_N_D: Tensor) -> Tensor:
        """Logits `(N, V)` of states through the target's frozen head, over the tokens that the heads can predict."""
        return F.linear(states_N_D.to(self._head_V_D.dtype), self._head_V_D).float()

    @torch.no_grad()
    def read_target(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> TargetStates:
        """The target's states at these rows, from a forward pass."""
        rows = pad(prompts, answers)
        if not self.extra_layers:
            return TargetStates(prompts, answers, answer_states(self.target, rows).float())
        activations = run_with_hooks(self.target, rows, self.extra_layers)
        assert activations.hidden_N_L_D is not None
        return TargetStates(prompts, answers, activations.final_N_D.float(), activations.hidden_N_L_D.float())

    # ---- in the loss -------------------------------------------------------------------------------------------------

    def batch(self, told: TargetStates, gold: Sequence[bool]) -> Batch:
        """All trained depths of some rows, one after the other, as a batch for the loss terms of any method.

        gold: marks the rows with a gold label, which have no signal of the target.

        Tokens that the heads cannot predict are left out.
        """
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
        """The sum of the weights of all predictions in some answers, which a mean over them is divided by (1 if there are none)."""
        sayable = [(self.column_of[torch.tensor(answer, device=self.device)] >= 0).tolist() for answer in answers]
        return sum(weight * sum(row[d:]) for d, weight in self.weights.items() for row in sayable) or 1.0

    def passes(self, lengths: Sequence[int], logits: int) -> list[list[int]]:
        """Row numbers in micro-batches of similar lengths.

        lengths: tokens of each row.
        logits: the most logits of a micro-batch, over all depths.

        If rows are padded to the longest, none is more than twice as long as another in its micro-batch.
        """
        batches: list[list[int]] = []
        room = 0
        for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            size = lengths[row] * len(self.trained) * len(self.ids_V)
            if size > room or (self.padded and lengths[row] > 2 * lengths[batches[-1][0]]):
                batches, room = [*batches, []], logits
            batches[-1].append(row)
            room -= size
        return batches


def places(lengths: Sequence[int], ahead: int) -> Tensor:
    """`(M,)` positions that have a token `ahead` further on in their row, in rows of these lengths, one after the other."""
    length_B = torch.tensor(lengths)
    start_B = length_B.cumsum(0) - length_B
    return torch.cat([torch.arange(int(s), int(s) + max(0, int(n) - ahead)) for s, n in zip(start_B, length_B, strict=True)])


def commonest(target: LanguageModel, size: int, texts: Iterable[Sequence[int]]) -> list[int] | None:
    """The `size` most frequent tokens of some texts, always with the end mark, completed with other tokens by number.

    Returns None if `size` is 0 or not less than the vocabulary: all tokens.
    """
    every = vocabulary_of(target)
    if not size or size >= every:
        return None
    counts = Counter(token for text in texts for token in text)
    end = tokenizer_of(target).end
    order = sorted(range(every), key=lambda token: (token != end, -counts[token], token))
    return sorted(order[:size])
