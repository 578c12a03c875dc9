"""What speculative decoding gains, on paper (Leviathan et al. 2023, arXiv 2211.17192).

    overlap(target_logits_N_V, draft_logits_N_V)     # (N,) the chance that a token drawn from the draft is accepted
    speedup(alpha=0.8, gamma=4, cost=0.1)            # 2.40 times the target alone
    best_gamma(alpha=0.8, cost=0.1)                  # (6, 2.47)

`alpha` is the chance that a proposed token is accepted, `gamma` how many are proposed a round, `cost` what the draft takes for a token as a
share of what the target takes for a pass. The formulas take every token to have the same chance, whatever was accepted before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.base.errors import LabError

if TYPE_CHECKING:
    from torch import Tensor

MOST = 24  # tokens a round, where the best number is looked for


def overlap(target_logits_N_V: Tensor, draft_logits_N_V: Tensor, temperature: float = 1.0) -> Tensor:
    """`(N,)` sum over the vocabulary of min(p, q) = 1 - TV(p, q): exactly the chance that rejection sampling accepts (theorem 3.5)."""
    if target_logits_N_V.shape != draft_logits_N_V.shape:
        raise LabError(f"target logits {tuple(target_logits_N_V.shape)} and draft logits {tuple(draft_logits_N_V.shape)} must agree.")
    p, q = ((x.float() / temperature).softmax(-1) for x in (target_logits_N_V, draft_logits_N_V))
    return p.minimum(q).sum(-1)


def tokens_per_round(alpha: float, gamma: int) -> float:
    """Tokens that a pass of the target yields on average: the accepted ones, and one of its own: (1 - alpha^(gamma+1)) / (1 - alpha)."""
    _checked(alpha, gamma)
    return float(gamma + 1) if alpha == 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)


def tokens_by_position(alphas: Sequence[float]) -> float:
    """The same where the chance depends on the place in the round: `alphas[i]` is token i's, given that those before it were accepted."""
    total, chance = 1.0, 1.0
    for alpha in alphas:
        _checked(alpha, 1)
        chance *= alpha
        total += chance
    return total


def speedup(alpha: float, gamma: int, cost: float, verify: float = 0.0) -> float:
    """How many times as fast as the target alone: tokens a round, over what a round costs in passes of the target (theorem 3.8).

    verify: what every further token makes a pass of the target dearer, as a share of a pass; the paper takes it to be nothing.
    Raises `LabError` for a chance outside [0, 1], a negative cost or a negative gamma.
    """
    if cost < 0 or verify < 0:
        raise LabError(f"cost={cost:g} and verify={verify:g} are shares of a pass of the target: neither can be below 0.")
    return tokens_per_round(alpha, gamma) / (gamma * (cost + verify) + 1)


def best_gamma(alpha: float, cost: float, verify: float = 0.0, most: int = MOST) -> tuple[int, float]:
    """The number of tokens to propose that is fastest, and its speed-up; (0, 1.0) where proposing anything is slower than not."""
    return max(((gamma, speedup(alpha, gamma, cost, verify)) for gamma in range(most + 1)), key=lambda found: found[1])


def _checked(alpha: float, gamma: int) -> None:
    if not 0 <= alpha <= 1:
        raise LabError(f"alpha={alpha:g} is a chance: give a number from 0 to 1.")
    if gamma < 0:
        raise LabError(f"gamma={gamma} is a number of tokens: give 0 or more.")
