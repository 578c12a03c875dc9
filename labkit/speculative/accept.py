"""Three rules that decide which proposed tokens the target accepts, and which token follows them.

`sampled` keeps the target's distribution exactly, whatever the draft proposes. `greedy` gives the tokens of the target's greedy
decoding. `typical` accepts tokens that are likely enough, and keeps neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.models import draw

EPSILON, DELTA = 0.09, 0.3  # typical acceptance: Medusa's published settings (Cai et al. 2024, arXiv 2401.10774, section 2.3.1)


class Acceptance(NamedTuple):
    """What the target makes of one proposal."""

    path: list[int]  # numbers of the accepted proposed tokens, in order
    token: int  # the target's own token after them


def sampled(p_G1_V: Tensor, q_G_V: Tensor, proposed: Sequence[int], generator: torch.Generator) -> Acceptance:
    """Rejection sampling of a chain: token x is accepted with probability min(1, p(x) / q(x)). In place of the first rejected token, the
    target's token is drawn from max(0, p - q), normalised.

    p_G1_V: the target's probabilities at each proposed token and after the last, `(G + 1, V)`.
    q_G_V: the draft's probabilities, from which the proposed tokens were drawn, `(G, V)`.

    Source: Leviathan et al. 2023, arXiv 2211.17192, algorithm 1.
    """
    chances = torch.rand(len(proposed), generator=generator).tolist()
    for i, (x, chance) in enumerate(zip(proposed, chances, strict=True)):
        if chance * float(q_G_V[i, x]) >= float(p_G1_V[i, x]):
            rest = (p_G1_V[i] - q_G_V[i]).clamp(min=0)
            rest = rest if float(rest.sum()) > 0 else p_G1_V[i]  # p and q differ only by rounding, so nothing should be rejected
            return Acceptance(list(range(i)), int(draw(rest[None], generator)))
    return Acceptance(list(range(len(proposed))), int(draw(p_G1_V[-1:], generator)))


def greedy(logits_G1_V: Tensor, proposed: Sequence[int], parents: Sequence[int]) -> Acceptance:
    """Accept the longest path of a tree that is the target's greedy continuation.

    logits_G1_V: the target's logits `(G + 1, V)`; row 0 is for the token after the text, row i + 1 for the token after proposal i.
    parents: `parents[i]` is the number of the proposal that i continues, -1 for the text.
    """
    best = logits_G1_V.argmax(-1).tolist()
    path, at = list[int](), -1
    while True:
        follows = next((i for i, (x, parent) in enumerate(zip(proposed, parents, strict=True)) if parent == at and x == best[at + 1]), None)
        if follows is None:
            return Acceptance(path, best[at + 1])
        path.append(follows)
        at = follows


def typical(p_G1_V: Tensor, proposed: Sequence[int], parents: Sequence[int], generator: torch.Generator) -> Acceptance:
    """Accept the longest path of tokens with p(x) > min(epsilon, delta exp(-entropy of p)).

    NOT exact: the text does not have the target's distribution. The arguments are those of `sampled` and `greedy`.

    Source: Cai et al. 2024, Medusa, arXiv 2401.10774, section 2.3.1.
    """
    entropy_G1 = -(p_G1_V * p_G1_V.clamp(min=1e-30).log()).sum(-1)
    bar_G1 = (DELTA * (-entropy_G1).exp()).clamp(max=EPSILON).tolist()
    paths: dict[int, list[int]] = {-1: []}
    for i, (x, parent) in enumerate(zip(proposed, parents, strict=True)):  # a parent comes before its children
        if parent in paths and float(p_G1_V[parent + 1, x]) > bar_G1[parent + 1]:
            paths[i] = [*paths[parent], i]
    path = max(paths.values(), key=len)
    at = path[-1] if path else -1
    return Acceptance(path, int(draw(p_G1_V[at + 1][None], generator)))
