"""A divergence straight from hidden states, for vocabularies whose logits would not fit: B x T x V is never held in memory.

    total, loss_N = linear_divergence(divergence("jsd"), student_states_N_D, student_head_V_D, teacher_states_N_E, teacher_head_V_E)
    (total / len(loss_N)).backward()

Rows are taken a chunk at a time, and each chunk's gradient is worked out while its logits are there, then the logits are
forgotten (the idea of Liger-Kernel's chunked losses: Hsu et al. 2024, arXiv 2410.10989).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.base.errors import LabError
from labkit.losses.divergences import unlike

CHUNK = 2**24  # logits held at a time: 64 MB in float32; smaller blocks (below glibc's 32 MB) are not given back when freed, and pile up

Compare = Callable[[Tensor, Tensor], Tensor]  # teacher and student logits (n, V) to an unreduced loss (n,)


def linear_divergence(
    compare: Compare,
    student_states_N_D: Tensor,
    student_head_V_D: Tensor,
    teacher_states_N_E: Tensor,
    teacher_head_V_E: Tensor,
    weights_N: Tensor | None = None,
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`(total, loss_N)`: the weighted sum of `compare` over rows, to be differentiated, and its unreduced values, to be looked at.

    Gradients reach the student's states and head; the teacher gets none. `weights_N` (default: ones) must not need a gradient.
    `rows` is the number of rows a chunk (default: what makes 16 million logits). Raises `LabError` for shapes that do not fit.
    """
    n, vocabulary = student_states_N_D.shape[0], student_head_V_D.shape[0]
    if (n, vocabulary) != (teacher_states_N_E.shape[0], teacher_head_V_E.shape[0]):
        raise unlike((teacher_states_N_E.shape[0], teacher_head_V_E.shape[0]), (n, vocabulary))
    for who, states, head in (("student", student_states_N_D, student_head_V_D), ("teacher", teacher_states_N_E, teacher_head_V_E)):
        if states.shape[1:] != head.shape[1:]:
            raise LabError(f"the {who}'s states are {tuple(states.shape)} and its head {tuple(head.shape)}: the last sizes must agree.")
    rows = rows or max(1, CHUNK // vocabulary)
    if rows < 1:
        raise LabError(f"rows={rows} must be at least 1.")
    weights_N = student_states_N_D.new_ones(n, dtype=torch.float32) if weights_N is None else weights_N
    return _LinearDivergence.apply(
        student_states_N_D, student_head_V_D, teacher_states_N_E.detach(), teacher_head_V_E.detach(), weights_N.detach(), compare, rows
    )


class _LinearDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states_N_D, head_V_D, teacher_states_N_E, teacher_head_V_E, weights_N, compare, rows):
        wants_states, wants_head = ctx.needs_input_grad[:2]
        states_grad = torch.zeros_like(states_N_D) if wants_states else None
        head_grad = torch.zeros_like(head_V_D, dtype=torch.float32) if wants_head else None
        losses = []
        for start in range(0, len(states_N_D), rows):
            part = slice(start, start + rows)
            teacher_logits = teacher_states_N_E[part] @ teacher_head_V_E.T
            logits = (states_N_D[part] @ head_V_D.T).detach().requires_grad_(wants_states or wants_head)
            with torch.enable_grad():
                loss = compare(teacher_logits, logits)
            losses.append(loss.detach())
            if not logits.requires_grad:
                continue
            (gradient,) = torch.autograd.grad(loss, logits, weights_N[part].to(loss.dtype))
            if states_grad is not None:
                states_grad[part] = gradient @ head_V_D
            if head_grad is not None:
                head_grad.addmm_(gradient.T.float(), states_N_D[part].float())
        loss_N = torch.cat(losses) if losses else weights_N.new_zeros(0)
        ctx.save_for_backward(states_grad, None if head_grad is None else head_grad.to(head_V_D.dtype))
        ctx.mark_non_differentiable(loss_N)
        return (weights_N * loss_N).sum(), loss_N

    @staticmethod
    def backward(ctx, upstream, _):
        states_grad, head_grad = ctx.saved_tensors
        return (
            None if states_grad is None else states_grad * upstream,
            None if head_grad is None else head_grad * upstream,
            *[None] * 5,
        )
