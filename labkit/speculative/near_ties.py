"""Where two greedy texts of one target part, and whether that was more than rounding.

In exact arithmetic a draft never changes the target's greedy text. In bf16 a pass over several tokens rounds differently from a pass over
one, so that two tokens the target finds all but equally likely may change places; what follows is then another text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from labkit.models.architectures import LanguageModel
from labkit.speculative.kv_cache import CachedModel

ULPS = 4  # roundings by which two logits may differ between two ways to work them out


class Parting(NamedTuple):
    """position: of the first token that differs. rank: of the second text's token, by the target (1 is its likeliest, 2 the next). gap: by
    how much its logit is below the likeliest. step: the distance of neighbouring numbers at that size, in the target's arithmetic."""

    position: int
    rank: int
    gap: float
    step: float

    @property
    def near_tie(self) -> bool:
        """Whether rounding explains it: a change of places between the first two, a few roundings apart."""
        return self.rank <= 2 and self.gap <= ULPS * self.step


def first_difference(target: LanguageModel, prompt: Sequence[int], alone: Sequence[int], other: Sequence[int]) -> Parting | None:
    """Where `other` leaves `alone`, the target's own greedy text; None where it never does."""
    if list(alone) == list(other):
        return None
    position = next((i for i, (a, b) in enumerate(zip(alone, other, strict=False)) if a != b), min(len(alone), len(other)))
    if position == min(len(alone), len(other)):  # one goes on where the other ends: never greedy's doing
        return Parting(position, 0, float("inf"), 0.0)
    cached = CachedModel(target)
    logits_V = cached.logits(cached.read([*prompt, *alone[:position]]).final_T_D[-1:])[0]
    own = logits_V[other[position]]
    best, kind = logits_V.max(), target.lm_head.weight.dtype
    step = torch.finfo(kind).eps * 2.0 ** float(best.abs().log2().floor())
    rivals = logits_V.clone()
    rivals[[alone[position], other[position]]] = -torch.inf
    rank = 1 + int((rivals > own).sum()) + int(logits_V[alone[position]] > own)
    return Parting(position, rank, float(best - own), step)
