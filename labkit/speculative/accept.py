"""Which of a draft's tokens the target takes, and what it says instead: three rules.

`sampled` keeps the target's distribution exactly, whatever the draft proposes. `greedy` gives the very tokens of the target's own greedy
decoding. `typical` takes what is likely enough, which is neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.models import draw

EPSILON, DELTA = 0.09, 0.3  # of typical acceptance: Medusa's published settings (Cai et al. 2024, arXiv 2401.10774, section 2.3.1)


class Acceptance(NamedTuple):
    """path: the accepted proposals, by number, in order. token: what the target says after them."""

    path: list[int]
    token: int


def sampled(p_G1_V: Tensor, q_G_V: Tensor, proposed: Sequence[int], generator: torch.Generator) -> Acceptance:
    """Rejection sampling of a chain (Leviathan et al. 2023, arXiv 2211.17192, algorithm 1): token x is taken with probability
    min(1, p(x) / q(x)); at the first that is not, the target's word is drawn from what p has above q.

    p_G1_V: the target's probabilities before each proposed token and after the last. q_G_V: the draft's, that the tokens were drawn from.
    """
    chances = torch.rand(len(proposed), generator=generator).tolist()
    for i, (x, chance) in enumerate(zip(proposed, chances, strict=True)):
        if chance * float(q_G_V[i, x]) >= float(p_G1_V[i, x]):
            rest = (p_G1_V[i] - q_G_V[i]).clamp(min=0)
            rest = rest if float(rest.sum()) > 0 else p_G1_V[i]  # p = q but for rounding: then nothing should have been refused
            return Acceptance(list(range(i)), int(draw(rest[None], generator)))
    return Acceptance(list(range(len(proposed))), int(draw(p_G1_V[-1:], generator)))


def greedy(logits_G1_V: Tensor, proposed: Sequence[int], parents: Sequence[int]) -> Acceptance:
    """The longest path of a tree that the target would have gone itself. Row 0 of the logits is what follows the text, row i + 1 what
    follows proposal i; `parents[i]` is the proposal that i continues, -1 for the text."""
    best = logits_G1_V.argmax(-1).tolist()
    path, at = list[int](), -1
    while True:
        follows = next((i for i, (x, parent) in enumerate(zip(proposed, parents, strict=True)) if parent == at and x == best[at + 1]), None)
        if follows is None:
            return Acceptance(path, best[at + 1])
        path.append(follows)
        at = follows


def typical(p_G1_V: Tensor, proposed: Sequence[int], parents: Sequence[int], generator: torch.Generator) -> Acceptance:
    """The longest path of tokens that are each likely enough: p(x) above min(epsilon, delta exp(-entropy of p)). NOT exact: what comes out
    is not distributed as the target's text (Cai et al. 2024, Medusa, arXiv 2401.10774, section 2.3.1)."""
    entropy_G1 = -(p_G1_V * p_G1_V.clamp(min=1e-30).log()).sum(-1)
    bar_G1 = (DELTA * (-entropy_G1).exp()).clamp(max=EPSILON).tolist()
    paths: dict[int, list[int]] = {-1: []}
    for i, (x, parent) in enumerate(zip(proposed, parents, strict=True)):  # a proposal comes after the one it continues
        if parent in paths and float(p_G1_V[parent + 1, x]) > bar_G1[parent + 1]:
            paths[i] = [*paths[parent], i]
    path = max(paths.values(), key=len)
    at = path[-1] if path else -1
    return Acceptance(path, int(draw(p_G1_V[at + 1][None], generator)))
