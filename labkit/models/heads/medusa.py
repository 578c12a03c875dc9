"""Medusa: one head per depth, each a residual block and its own output layer on the target's final state.

All depths are predicted from the same state, so the second does not depend on the first. Source: Cai et al. 2024, arXiv 2401.10774.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import HeadOutput, Heads, TargetStates, places
from labkit.models.parts import answer_states, logits_of, pad


class MedusaHead(nn.Module):
    """x + SiLU(Wx), then the output layer. At first W is 0 and the output layer the target's, so a new head predicts as the target does."""

    def __init__(self, head_V_D: Tensor) -> None:
        super().__init__()
        size, width = head_V_D.shape
        self.block = nn.Linear(width, width)
        self.vocabulary = nn.Linear(width, size, bias=False)
        with torch.no_grad():
            self.block.weight.zero_()
            self.block.bias.zero_()
            self.vocabulary.weight.copy_(head_V_D)

    def forward(self, states_N_D: Tensor) -> Tensor:
        return self.vocabulary(states_N_D + F.silu(self.block(states_N_D)))


class Medusa(Heads):
    """Medusa-1: the target is not trained."""

    kind = "medusa"

    def __init__(self, target: LanguageModel, ids: Sequence[int] | None = None, ahead: int = 4, seed: int = 0) -> None:
        """seed: not used, since all heads start from the target's head."""
        super().__init__(target, ids, ahead)
        self.heads = nn.ModuleList(MedusaHead(self._head_V_D.float()) for _ in range(ahead))

    def forward(self, states_N_D: Tensor) -> Tensor:
        """Logits `(K, N, V)`; index 0 is depth 1, the token after the target's next one."""
        return torch.stack([head(states_N_D) for head in self.heads])

    def guesses(self, told: TargetStates, depths: Sequence[int]) -> list[HeadOutput]:
        states_N_D = self._states(told)
        at = {d: states_N_D[places(told.lengths, d).to(self.device)] for d in depths}
        return [HeadOutput(self.heads[d - 1](at[d]) if d else self._own(at[d])) for d in depths]

    def _states(self, told: TargetStates) -> Tensor:
        return told.states_N_D

    def _own(self, states_N_D: Tensor) -> Tensor:
        return self.said(states_N_D)


class Medusa2(Medusa):
    """Medusa-2: a copy of the target is trained jointly with the heads, and replaces the target.

    The copy's next token is in the loss with weight 1, so that it predicts as the target does. It decodes not exactly the target's text.
    """

    kind = "medusa2"

    def __init__(self, target: LanguageModel, ids: Sequence[int] | None = None, ahead: int = 4, seed: int = 0) -> None:
        super().__init__(target, ids, ahead, seed)
        self.trained = tuple(range(ahead + 1))
        self.trunk = copy.deepcopy(target).float().requires_grad_(True)

    def _states(self, told: TargetStates) -> Tensor:
        return answer_states(self.trunk, pad(told.prompts, told.answers))

    def _own(self, states_N_D: Tensor) -> Tensor:
        return logits_of(self.trunk, states_N_D)[:, self.ids_V]
