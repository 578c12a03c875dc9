"""The theory of speculative decoding: acceptance and speed-up (Leviathan et al. 2023, arXiv 2211.17192).

    overlap(target_logits_N_V, draft_logits_N_V)     # (N,) probability that a token drawn from the draft is accepted
    speedup(alpha=0.8, gamma=4, cost=0.1)            # 2.40 times as fast as the target alone
    best_gamma(alpha=0.8, cost=0.1)                  # (6, 2.47)

`alpha` is the probability that a proposed token is accepted, `gamma` the number of tokens proposed a round, `cost` the draft's time for a
token divided by the target's time for a pass. The formulas assume the same probability for every token, whatever was accepted before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.base.errors import LabError

if TYPE_CHECKING:
    from torch import Tensor

MOST = 24  # largest gamma that `best_gamma` tries


def overlap(target_logits_N_V: Tensor, draft_logits_N_V: Tensor, temperature: float = 1.0) -> Tensor:
    """Probability that rejection sampling accepts a token of the draft: sum over the vocabulary of min(p, q) = 1 - TV(p, q).

    target_logits_N_V, draft_logits_N_V: logits `(N, V)` over the same vocabulary.

    Returns `(N,)`.

    Raises `LabError` if the shapes differ.

    Source: Leviathan et al. 2023, arXiv 2211.17192, theorem 3.5.
    """
    if target_logits_N_V.shape != draft_logits_N_V.shape:
        raise LabError(f"target logits {tuple(target_logits_N_V.shape)} and draft logits {tuple(draft_logits_N_V.shape)} must agree.")
    p, q = ((x.float() / temperature).softmax(-1) for x in (target_logits_N_V, draft_logits_N_V))
    return p.minimum(q).sum(-1)


def tokens_per_round(alpha: float, gamma: int) -> float:
    """Mean number of tokens per pass of the target, the accepted ones and its own: (1 - alpha^(gamma+1)) / (1 - alpha).

    Raises `LabError` for an alpha outside [0, 1] or a negative gamma.
    """
    _checked(alpha, gamma)
    return float(gamma + 1) if alpha == 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)


def speedup(alpha: float, gamma: int, cost: float, verify: float = 0.0) -> float:
    """Speed-up over the target alone: tokens a round, divided by the cost of a round in passes of the target.

    verify: extra cost of each further token in a pass of the target, as a share of a pass; the paper assumes 0.

    Raises `LabError` for an alpha outside [0, 1], a negative cost or a negative gamma.

    Source: Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8.
    """
    if cost < 0 or verify < 0:
        raise LabError(f"cost={cost:g} and verify={verify:g} must not be below 0: give each as a share of a pass of the target.")
    return tokens_per_round(alpha, gamma) / (gamma * (cost + verify) + 1)


def best_gamma(alpha: float, cost: float, verify: float = 0.0, most: int = MOST) -> tuple[int, float]:
    """Returns the fastest gamma up to `most` and its speed-up; (0, 1.0) if any proposal makes decoding slower."""
    return max(((gamma, speedup(alpha, gamma, cost, verify)) for gamma in range(most + 1)), key=lambda pair: pair[1])


def _checked(alpha: float, gamma: int) -> None:
    if not 0 <= alpha <= 1:
        raise LabError(f"alpha={alpha:g} must be a probability: give a number from 0 to 1.")
    if gamma < 0:
        raise LabError(f"gamma={gamma} must be a number of tokens: give 0 or more.")
