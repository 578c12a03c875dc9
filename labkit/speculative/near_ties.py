"""Where two greedy texts of one target differ first, and whether rounding explains it.

In exact arithmetic a draft never changes the target's greedy text. In bf16 a pass over several tokens rounds differently from a pass over
one token. Two tokens with almost equal logits may then change places, and the rest of the text differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from labkit.models.architectures import LanguageModel
from labkit.speculative.kv_cache import CachedModel

ULPS = 4  # steps of the arithmetic by which a logit may differ between two ways to compute it


class Parting(NamedTuple):
    """The first difference between two texts."""

    position: int  # of the first token that differs
    rank: int  # of the second text's token under the target; 1 is the likeliest
    gap: float  # the highest logit minus that token's logit
    step: float  # distance between neighbouring numbers of that size in the target's arithmetic

    @property
    def near_tie(self) -> bool:
        """Whether rounding explains it: the two likeliest tokens changed places, and their logits are at most `ULPS` steps apart."""
        return self.rank <= 2 and self.gap <= ULPS * self.step


def first_difference(target: LanguageModel, prompt: Sequence[int], alone: Sequence[int], other: Sequence[int]) -> Parting | None:
    """The first difference of `other` from `alone`, the target's own greedy text after `prompt`; None if they are equal."""
    if list(alone) == list(other):
        return None
    position = next((i for i, (a, b) in enumerate(zip(alone, other, strict=False)) if a != b), min(len(alone), len(other)))
    if position == min(len(alone), len(other)):  # one text is a part of the other, which rounding cannot explain
        return Parting(position, 0, float("inf"), 0.0)
    cached = CachedModel(target)
    logits_V = cached.logits(cached.read([*prompt, *alone[:position]]).final_T_D[-1:])[0]
    logit = logits_V[other[position]]
    best, kind = logits_V.max(), target.dtype
    step = torch.finfo(kind).eps * 2.0 ** float(best.abs().log2().floor())
    rivals = logits_V.clone()
    rivals[[alone[position], other[position]]] = -torch.inf
    rank = 1 + int((rivals > logit).sum()) + int(logits_V[alone[position]] > logit)
    return Parting(position, rank, float(best - logit), step)
