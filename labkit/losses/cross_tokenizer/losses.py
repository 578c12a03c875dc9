"""Losses between a teacher and a student with different tokens: one term per alignment.

To add an alignment, write a function of an `Aligned` and the student's logits that returns an unreduced term, and decorate it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.base.registry import Registry
from labkit.losses.cross_tokenizer import spans

FLOOR_OF_LOG = 1e-8
ULD_WEIGHT = 1.5  # beside the cross-entropy of the text (Boizard et al. 2024)

Compare = Callable[[Tensor, Tensor, float], Tensor]


# ---- a batch in both models' tokens ------------------------------------------------------------------------------------------------


class Aligned(NamedTuple):
    """The answers of some rows in both models' tokens, L teacher tokens and M student tokens in S spans, with the teacher's signal."""

    across: str  # the alignment
    teacher_logits_L_V: Tensor
    teacher_labels_L: Tensor
    student_labels_M: Tensor
    span_L: Tensor  # the span of each teacher token
    span_M: Tensor  # the span of each student token
    first_of_teacher_S: Tensor  # the first teacher token of each span
    first_of_student_S: Tensor  # the first student token of each span
    pairs: tuple[Tensor, Tensor]  # tokens at the same position of their row, which naive code compares
    columns: tuple[Tensor, Tensor]  # teacher ids and student ids of the K strings that both vocabularies have
    column_of: tuple[Tensor, Tensor]  # (V,) and (W,): the place of each id in `columns`, or -1
    target_M_W: Tensor | None  # the exact next-token distribution in the student's tokens


# ---- the alignments ----------------------------------------------------------------------------------------------------------------


class Alignment(NamedTuple):
    """How the teacher's signal is mapped to other tokens."""

    name: str
    label: str
    source: str
    term: Callable[[Aligned, Tensor, Compare, float], Tensor]
    text: bool = False  # whether the teacher's text is learned too, as hard labels, since some tokens have no signal


ALIGNMENTS = Registry("alignment", Alignment, "term")
register = ALIGNMENTS.register


def cross_tokenizer_terms(aligned: Aligned, student_logits_M_W: Tensor, compare: Compare, temperature: float) -> dict[str, Tensor]:
    """The named, unreduced loss terms of a batch, in nats. Raises `LabError` for an unknown alignment."""
    alignment = ALIGNMENTS[aligned.across]
    terms = {"crossed": alignment.term(aligned, student_logits_M_W, compare, temperature)}
    if alignment.text:
        terms["hard"] = F.cross_entropy(student_logits_M_W, aligned.student_labels_M, reduction="none")
    return terms


@register("ids", label="by number (a fault)", source="code that does not compare the tokens' strings")
def ids(aligned: Aligned, student_logits_M_W: Tensor, compare: Compare, temperature: float) -> Tensor:
    teacher, student = aligned.teacher_logits_L_V[aligned.pairs[0]], student_logits_M_W[aligned.pairs[1]]
    width = min(teacher.shape[-1], student.shape[-1])
    return compare(teacher[:, :width], student[:, :width], temperature)


@register("mapped", label="tokens that both have", source="string match, as in MinED's exact part (Wan et al. 2024)", text=True)
def mapped(aligned: Aligned, student_logits_M_W: Tensor, compare: Compare, temperature: float) -> Tensor:
    teacher = aligned.teacher_logits_L_V[aligned.first_of_teacher_S].log_softmax(-1)
    student = student_logits_M_W[aligned.first_of_student_S].log_softmax(-1)
    sides = [spans.shared_outcomes(side, columns) for side, columns in zip((teacher, student), aligned.columns, strict=True)]
    return compare(sides[0], sides[1], temperature)


@register("uld", label="sorted probabilities (ULD)", source="Boizard et al. 2024, arXiv 2402.12030", text=True)
def uld(aligned: Aligned, student_logits_M_W: Tensor, compare: Compare, temperature: float) -> Tensor:
    teacher, student = aligned.teacher_logits_L_V[aligned.pairs[0]], student_logits_M_W[aligned.pairs[1]]
    return ULD_WEIGHT * spans.uld_loss(teacher, student, temperature)


@register("spans", label="shared spans and shared tokens", source="after GOLD (Patiño et al. 2025, Hugging Face)")
def merged(aligned: Aligned, student_logits_M_W: Tensor, compare: Compare, temperature: float) -> Tensor:
    teacher, student = _sides(aligned, student_logits_M_W)
    firsts = aligned.first_of_teacher_S, aligned.first_of_student_S
    count = len(aligned.columns[0])
    begun_S_K = torch.zeros(len(firsts[0]), count + 1, dtype=torch.bool, device=teacher.device)
    for labels, first, column in zip((aligned.teacher_labels_L, aligned.student_labels_M), firsts, aligned.column_of, strict=True):
        begun_S_K.scatter_(1, column[labels[first]].where(column[labels[first]] >= 0, count)[:, None], True)
    sides = [
        spans.merged_outcomes(logprobs[first], columns, span_S, begun_S_K[:, :count])
        for logprobs, first, columns, span_S in zip((teacher, student), firsts, aligned.columns, _likelihoods(aligned, teacher, student))
    ]
    return compare(sides[0], sides[1], temperature)


@register("chunks", label="likelihoods of shared spans (ALM)", source="Minixhofer et al. 2025, arXiv 2503.20083")
def chunks(aligned: Aligned, student_logits_M_W: Tensor, compare: Compare, temperature: float) -> Tensor:
    return spans.chunk_loss(*_likelihoods(aligned, *_sides(aligned, student_logits_M_W)), temperature)


@register("exact", label="summed over all segmentations", source="marginalisation; after Vieira et al. 2024, arXiv 2412.03719")
def exact(aligned: Aligned, student_logits_M_W: Tensor, compare: Compare, temperature: float) -> Tensor:
    assert aligned.target_M_W is not None
    return compare(aligned.target_M_W.clamp(min=FLOOR_OF_LOG).log(), student_logits_M_W, temperature)


def _sides(aligned: Aligned, student_logits_M_W: Tensor) -> tuple[Tensor, Tensor]:
    return aligned.teacher_logits_L_V.log_softmax(-1), student_logits_M_W.log_softmax(-1)


def _likelihoods(aligned: Aligned, teacher_L_V: Tensor, student_M_W: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities `(S,)` of the spans, for teacher and student."""
    count = len(aligned.first_of_teacher_S)
    sides = [
        spans.add_up(logprobs.gather(1, labels[:, None])[:, 0], span, count)
        for logprobs, labels, span in (
            (teacher_L_V, aligned.teacher_labels_L, aligned.span_L),
            (student_M_W, aligned.student_labels_M, aligned.span_M),
        )
    ]
    return sides[0], sides[1]
