"""How far a student's distribution is from the teacher's: pure functions on logits, unreduced, in nats.

To add one, write a function of two `(N, V)` tensors of log-probabilities and decorate it; the property tests, the
dropdowns and the tables read `DIVERGENCES`, and the tests check every property the decorator claims.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from labkit.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor


class Divergence(NamedTuple):
    """A registry entry: what it is called, what it computes, where it comes from, and what may be relied on."""

    name: str
    label: str
    formula: str
    source: str
    zero_when_equal: bool
    per_token: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, temperature: float = 1.0) -> Tensor:
        """Unreduced `(N,)` divergence in nats of the two distributions softened at `temperature`, without the factor T squared."""
        if teacher_logits_N_V.shape != student_logits_N_V.shape:
            raise unknown_shapes(tuple(teacher_logits_N_V.shape), tuple(student_logits_N_V.shape))
        teacher = (teacher_logits_N_V.float() / temperature).log_softmax(-1)
        student = (student_logits_N_V.float() / temperature).log_softmax(-1)
        return self.per_token(teacher, student)


DIVERGENCES: dict[str, Divergence] = {}


def register(name: str, *, label: str, formula: str, source: str, zero_when_equal: bool):
    def add(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        DIVERGENCES[name] = Divergence(name, label, formula, source, zero_when_equal, function)
        return function

    return add


def divergence(name: str) -> Divergence:
    """The divergence of that name. Raises `LabError` with the nearest name if there is none."""
    if name not in DIVERGENCES:
        raise unknown("divergence", name, DIVERGENCES)
    return DIVERGENCES[name]


def unknown_shapes(teacher: tuple[int, ...], student: tuple[int, ...]):
    from labkit.errors import LabError

    return LabError(
        f"teacher logits are {teacher} and student logits {student}: they must agree row by row over one vocabulary. "
        "Different tokenizers cannot be compared token by token."
    )


@register(
    "forward_kl",
    label="forward KL",
    formula="KL(teacher || student) = sum p (log p - log q)",
    source="Hinton, Vinyals & Dean 2015, arXiv 1503.02531",
    zero_when_equal=True,
)
def forward_kl(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor) -> Tensor:
    return (teacher_logprobs_N_V.exp() * (teacher_logprobs_N_V - student_logprobs_N_V)).sum(-1)
