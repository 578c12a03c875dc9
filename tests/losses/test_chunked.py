"""The chunked loss is the plain one, in value and gradient, whatever the chunk; and its logits are never all there."""

from __future__ import annotations

import pytest
import torch

from labkit.base.errors import LabError
from labkit.losses.chunked import linear_divergence
from labkit.losses.divergences import DIVERGENCES, divergence

N, V, D, E = 11, 37, 6, 5


def parts(dtype=torch.float32) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    make = {"student_states_N_D": (N, D), "student_head_V_D": (V, D), "teacher_states_N_E": (N, E), "teacher_head_V_E": (V, E)}
    return {name: torch.randn(shape, generator=g).to(dtype) for name, shape in make.items()}


def plain(entry, p, weights):
    return (entry(p["teacher_states_N_E"] @ p["teacher_head_V_E"].T, p["student_states_N_D"] @ p["student_head_V_D"].T) * weights).sum()


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
@pytest.mark.parametrize("rows", [1, 4, 11, 100, None])
def test_value_and_gradient_equal_the_plain_loss(name: str, rows: int | None):
    entry, p = divergence(name), parts()
    weights = torch.linspace(0, 2, N)
    learnt = [p["student_states_N_D"].requires_grad_(), p["student_head_V_D"].requires_grad_()]
    wanted = plain(entry, p, weights)
    wanted_grad = torch.autograd.grad(3 * wanted, learnt)
    total, loss_N = linear_divergence(entry, **p, weights_N=weights, rows=rows)
    found_grad = torch.autograd.grad(3 * total, learnt)
    torch.testing.assert_close(total, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close((loss_N * weights).sum(), wanted, rtol=1e-5, atol=1e-5)
    assert not loss_N.requires_grad
    for found, expected in zip(found_grad, wanted_grad, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_it_agrees_with_liger():
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    p = parts()
    learnt = [p["student_states_N_D"].requires_grad_(), p["student_head_V_D"].requires_grad_()]
    liger = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.4, compiled=False, chunk_size=3)
    theirs = liger(*p.values(), torch.zeros(N, dtype=torch.long))
    total, _ = linear_divergence(divergence("jsd", beta=0.4), **p, rows=3)
    torch.testing.assert_close(total / N, theirs, rtol=1e-5, atol=1e-6)
    for ours, other in zip(torch.autograd.grad(total / N, learnt), torch.autograd.grad(theirs, learnt), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-6)


def test_no_more_rows_of_logits_than_a_chunk_are_made():
    seen = []

    def compare(teacher, student):
        seen.append(tuple(student.shape))
        return divergence("forward_kl")(teacher, student)

    linear_divergence(compare, **parts(), rows=4)
    assert seen == [(4, V), (4, V), (3, V)]


def test_a_frozen_head_gets_no_gradient_and_a_frozen_student_none_at_all():
    p = parts()
    p["student_states_N_D"].requires_grad_()
    total, _ = linear_divergence(divergence("forward_kl"), **p)
    total.backward()
    assert p["student_states_N_D"].grad is not None
    assert p["student_head_V_D"].grad is None
    assert not linear_divergence(divergence("forward_kl"), **parts())[0].requires_grad


def test_half_precision_heads_keep_their_type():
    p = parts(torch.bfloat16)
    learnt = [p["student_states_N_D"].requires_grad_(), p["student_head_V_D"].requires_grad_()]
    total, _ = linear_divergence(divergence("forward_kl"), **p)
    assert {g.dtype for g in torch.autograd.grad(total, learnt)} == {torch.bfloat16}
    torch.testing.assert_close(total, plain(divergence("forward_kl"), p, torch.ones(N)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("teacher_head_V_E", (V + 1, E), "one vocabulary"),
        ("teacher_states_N_E", (N + 1, E), "row by row"),
        ("student_head_V_D", (V, D + 1), "student's states"),
        ("teacher_states_N_E", (N, E + 2), "teacher's states"),
    ],
)
def test_shapes_that_do_not_fit_are_told(name: str, shape: tuple[int, int], words: str):
    with pytest.raises(LabError, match=words):
        linear_divergence(divergence("forward_kl"), **(parts() | {name: torch.zeros(shape)}))


def test_nothing_to_compare_is_zero():
    p = parts()
    empty = {k: v[:0] if "_N_" in k else v for k, v in p.items()}
    total, loss_N = linear_divergence(divergence("forward_kl"), **empty)
    assert float(total) == 0
    assert loss_N.shape == (0,)
