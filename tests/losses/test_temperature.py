"""Softening against closed forms and automatic differentiation; the article's table against arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import LabError
from labkit.losses.divergences import divergence
from labkit.losses.temperature import check_printed_softmax, entropy, gradient_size, soften

TEMPERATURES = st.floats(0.3, 30.0)


def logits(seed: int, rows: int = 4, tokens: int = 9) -> torch.Tensor:
    return torch.randn(rows, tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


@given(st.integers(0, 1_000), TEMPERATURES)
def test_entropy_grows_with_temperature_as_variance_over_its_cube(seed, T):
    x, h = logits(seed), 1e-4 * T
    slope = (entropy(x, T + h) - entropy(x, T - h)) / (2 * h)
    p = soften(x, T)
    variance = (p * x**2).sum(-1) - (p * x).sum(-1) ** 2
    assert torch.allclose(slope, variance / T**3, rtol=1e-4, atol=1e-8)
    assert (slope >= -1e-9).all()


def test_the_limits():
    x = logits(0)
    assert torch.allclose(entropy(x, 1e4), torch.full((4,), math.log(9), dtype=torch.float64), atol=1e-5)
    assert (entropy(x, 1e-3) < 1e-9).all()
    assert (soften(x, 1e-3).argmax(-1) == x.argmax(-1)).all()


@given(st.integers(0, 1_000), TEMPERATURES)
def test_gradient_size_is_that_of_the_divergence(seed, T):
    teacher, student = logits(seed).float(), logits(seed + 1).float().requires_grad_()
    (slope,) = torch.autograd.grad(divergence("forward_kl")(teacher, student, T).sum(), student)
    assert torch.allclose(gradient_size(teacher, student.detach(), T), slope.norm(dim=-1), rtol=1e-3, atol=1e-6)


def test_one_over_t_squared_is_a_limit_and_not_a_law():
    teacher, student = logits(3), logits(4)
    at = {T: gradient_size(teacher, student, T) for T in (1.0, 3.0, 1_000.0, 2_000.0)}
    assert not torch.allclose(at[3.0] / at[1.0], torch.full((4,), 1 / 9, dtype=torch.float64), rtol=0.05)
    assert torch.allclose(at[2_000.0] / at[1_000.0], torch.full((4,), 1 / 4, dtype=torch.float64), rtol=0.01)


def test_the_article_s_table_does_not_add_to_one():
    printed = {1: (0.708, 0.260, 0.005, 0.0006), 3: (0.452, 0.324, 0.121, 0.062)}
    one, three = check_printed_softmax([4, 3, -1, -3], printed)
    assert one.total == pytest.approx(0.9736)
    assert three.total == pytest.approx(0.959)
    for row in (one, three):
        exact = [math.exp(v / row.temperature) for v in (4, 3, -1, -3)]
        assert row.right == pytest.approx([e / sum(exact) for e in exact])
        assert row.worst == pytest.approx(max(abs(a - b) for a, b in zip(row.printed, row.right, strict=True)))


def test_a_right_table_passes():
    right = tuple(soften(torch.tensor([1.0, 2.0], dtype=torch.float64), 2.0).tolist())
    assert check_printed_softmax([1, 2], {2.0: right})[0].worst < 1e-12


def test_bad_input():
    with pytest.raises(LabError, match="must be above 0"):
        soften(logits(0), 0.0)
    with pytest.raises(LabError, match="3 probabilities for 4 logits"):
        check_printed_softmax([1, 2, 3, 4], {1: (0.2, 0.3, 0.5)})
