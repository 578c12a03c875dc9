"""The effect of the temperature on a distribution and on its gradient: pure functions on logits, in nats.

soften(logits_N_V, 4.0)                     # softmax(logits / T)
entropy(logits_N_V, 4.0)                    # grows with T: dH/dT = Var(logits) / T^3, under the softened distribution
gradient_size(teacher_N_V, student_N_V, 4.0)    # of KL at T, without any power of T: it falls as 1/T^2 once T is large
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from labkit.base.errors import LabError
from labkit.base.interrupts import uninterrupted

if TYPE_CHECKING:
    from torch import Tensor


def soften(logits_N_V: Tensor, temperature: float) -> Tensor:
    """The distribution at a temperature, over the last axis. Raises `LabError` for a temperature that is not above 0."""
    if not temperature > 0:
        raise LabError(f"temperature={temperature:g} must be above 0: near 0 all mass is on the likeliest token.")
    return (logits_N_V / temperature).softmax(-1)


def entropy(logits_N_V: Tensor, temperature: float) -> Tensor:
    """`(N,)` entropy of the softened distribution, in nats."""
    soft = soften(logits_N_V.float() if logits_N_V.dtype.itemsize < 4 else logits_N_V, temperature)
    return -soft.xlogy(soft).sum(-1)


def gradient_size(teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, temperature: float) -> Tensor:
    """`(N,)` norm of the gradient of KL(teacher || student), both softened, by the student's logits: |q_T - p_T| / T.

    Source: Hinton, Vinyals & Dean 2015, equation 2.
    """
    difference = soften(student_logits_N_V, temperature) - soften(teacher_logits_N_V, temperature)
    return difference.norm(dim=-1) / temperature


class Audit(NamedTuple):
    """A printed row of probabilities, compared with those of the logits."""

    temperature: float
    printed: tuple[float, ...]
    total: float  # the sum of the printed row
    right: tuple[float, ...]  # the probabilities of the logits
    worst: float  # the largest difference


def check_printed_softmax(logits: Sequence[float], printed: dict[float, Sequence[float]]) -> list[Audit]:
    """Compare a printed softmax table with the logits.

    printed: a row of probabilities for each temperature.

    Raises `LabError` for a row of another length than the logits.
    """
    with uninterrupted():
        import torch

    audits = []
    for temperature, row in printed.items():
        if len(row) != len(logits):
            raise LabError(f"the row at T={temperature:g} has {len(row)} probabilities for {len(logits)} logits: give one for each.")
        right = soften(torch.tensor(logits, dtype=torch.float64), temperature).tolist()
        worst = max(abs(a - b) for a, b in zip(row, right, strict=True))
        audits.append(Audit(temperature, tuple(row), sum(row), tuple(right), worst))
    return audits
