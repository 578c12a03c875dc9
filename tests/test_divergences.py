"""Every divergence is what its formula says, to float64; and the identities that lessons rest on hold."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labkit import divergences as dv
from labkit.divergences import DIVERGENCES, divergence
from labkit.errors import LabError

N, V = 5, 7


def logits(seed: int, scale: float = 2.0, n: int = N, v: int = V) -> torch.Tensor:
    return torch.randn(n, v, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.array([math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)])


# A divergence without an oracle here fails the suite: write down, from the paper, what it must be.
ORACLES = {
    "forward_kl": kl,
}


@pytest.fixture(params=sorted(DIVERGENCES))
def entry(request) -> dv.Divergence:
    return DIVERGENCES[request.param]


# ---- the registry ------------------------------------------------------------------------------------------------------


def test_every_entry_is_complete(entry: dv.Divergence):
    assert entry.name in ORACLES, f"write an oracle for {entry.name}"
    assert entry.label
    assert entry.formula
    assert "=" in entry.formula
    assert any(c.isdigit() for c in entry.source), "a source has a year or an arXiv number"
    assert list(inspect.signature(entry.per_token).parameters)[:2] == ["teacher_logprobs_N_V", "student_logprobs_N_V"]
    assert divergence(entry.name) is entry


def test_unknown_name_says_the_nearest():
    with pytest.raises(LabError, match="Did you mean 'forward_kl'"):
        divergence("foward_kl")


# ---- for every entry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_enumeration(entry: dv.Divergence, temperature: float):
    teacher, student = logits(1), logits(2)
    wanted = ORACLES[entry.name](softmax(teacher.numpy() / temperature), softmax(student.numpy() / temperature))
    exact = entry.per_token((teacher / temperature).log_softmax(-1), (student / temperature).log_softmax(-1))
    assert exact.shape == (N,)
    np.testing.assert_allclose(exact.numpy(), wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(entry(teacher, student, temperature).numpy(), wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 20.0])
def test_zero_when_equal_and_never_negative(entry: dv.Divergence, temperature: float):
    same, other = logits(3), logits(4)
    if entry.zero_when_equal:
        assert entry(same, same.clone(), temperature).abs().max() < 1e-6
    assert (entry(same, other, temperature) > 0).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_constant_added_to_logits_changes_nothing(entry: dv.Divergence, temperature: float):
    teacher, student = logits(5), logits(6)
    shift = torch.arange(N, dtype=torch.float64)[:, None] * 3 - 5
    plain = entry(teacher, student, temperature)
    torch.testing.assert_close(entry(teacher + shift, student - 2 * shift, temperature), plain, rtol=1e-5, atol=1e-6)


def test_rows_do_not_mix_and_order_of_tokens_does_not_matter(entry: dv.Divergence):
    teacher, student = logits(7).float(), logits(8).float()
    whole = entry(teacher, student)
    for row in range(N):
        torch.testing.assert_close(entry(teacher[row : row + 1], student[row : row + 1]), whole[row : row + 1])
    order = torch.randperm(V, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(entry(teacher[:, order], student[:, order]), whole)


def test_gradients_agree_with_finite_differences(entry: dv.Divergence):
    teacher = logits(9).log_softmax(-1)
    assert torch.autograd.gradcheck(lambda z: entry.per_token(teacher, z.log_softmax(-1)), logits(10).requires_grad_())


def test_half_precision_logits_are_compared_in_single(entry: dv.Divergence):
    teacher, student = logits(11).half(), logits(12).half()
    found = entry(teacher, student)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, entry(teacher.float(), student.float()))


@pytest.mark.parametrize("shape", [(N, V + 1), (N + 1, V), (V,), (1, V), (N, 1)])
def test_shapes_that_differ_are_refused_with_both(entry: dv.Divergence, shape: tuple[int, ...]):
    with pytest.raises(LabError) as caught:
        entry(torch.zeros(N, V), torch.zeros(shape))
    assert str((N, V)) in str(caught.value)
    assert str(shape) in str(caught.value)


# ---- forward KL: the identities of the lessons --------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_gradient_is_q_minus_p_over_t(temperature: float):
    teacher, student = logits(1), logits(2).requires_grad_()
    forward = DIVERGENCES["forward_kl"].per_token
    forward((teacher / temperature).log_softmax(-1), (student / temperature).log_softmax(-1)).sum().backward()
    p, q = softmax(teacher.numpy() / temperature), softmax(student.detach().numpy() / temperature)
    np.testing.assert_allclose(student.grad.numpy(), (q - p) / temperature, atol=1e-12)
    single = student.detach().clone().requires_grad_()
    divergence("forward_kl")(teacher, single, temperature).sum().backward()
    np.testing.assert_allclose(single.grad.numpy(), (q - p) / temperature, atol=1e-6)


def test_t_squared_limit_is_logit_matching_with_error_one_over_t():
    teacher, student = logits(1, 1.0), logits(2, 1.0)
    centred = (teacher - teacher.mean(-1, keepdim=True)) - (student - student.mean(-1, keepdim=True))
    wanted_loss, wanted_gradient = (centred**2).sum(-1) / (2 * V), -centred / V
    loss_errors, gradient_errors = [], []
    for temperature in (10.0, 100.0, 1_000.0):
        moving = student.clone().requires_grad_()
        value = DIVERGENCES["forward_kl"].per_token((teacher / temperature).log_softmax(-1), (moving / temperature).log_softmax(-1))
        scaled = temperature**2 * value
        scaled.sum().backward()
        loss_errors.append(float((scaled.detach() - wanted_loss).abs().max()))
        gradient_errors.append(float((moving.grad - wanted_gradient).abs().max()))
    for errors in (loss_errors, gradient_errors):
        for before, after in itertools.pairwise(errors):
            assert 7 < before / after < 14, errors


def test_at_finite_temperature_the_gradient_does_not_shrink_as_one_over_t_squared():
    def size(temperature: float) -> float:
        moving = logits(2).requires_grad_()
        DIVERGENCES["forward_kl"].per_token(
            (logits(1) / temperature).log_softmax(-1), (moving / temperature).log_softmax(-1)
        ).sum().backward()
        return float(moving.grad.norm())

    assert abs(size(2.0) / size(1.0) - 0.25) > 0.005
    assert abs(size(1.0) / size(0.5) - 0.25) > 0.005
    assert size(2_000.0) / size(1_000.0) == pytest.approx(0.25, rel=1e-3)


def test_entropy_rises_with_temperature_as_the_variance_says():
    v = logits(13, n=1)[0].numpy()

    def entropy(temperature: float) -> float:
        p = softmax(v / temperature)
        return -math.fsum(x * math.log(x) for x in p if x > 0)

    for temperature in (0.5, 1.0, 2.0, 5.0):
        p = softmax(v / temperature)
        variance = math.fsum(p * v**2) - math.fsum(p * v) ** 2
        slope = (entropy(temperature + 1e-5) - entropy(temperature - 1e-5)) / 2e-5
        assert slope == pytest.approx(variance / temperature**3, rel=1e-6)
        assert slope > 0
    assert entropy(0.001) == pytest.approx(0, abs=1e-6)
    assert entropy(1e6) == pytest.approx(math.log(V), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_forward_kl_agrees_with_torch(temperature: float):
    teacher, student = logits(1).float(), logits(2).float()
    wanted = F.kl_div((student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1), reduction="none", log_target=True)
    torch.testing.assert_close(divergence("forward_kl")(teacher, student, temperature), wanted.sum(-1))


def test_forward_kl_is_cross_entropy_less_entropy_and_the_right_way_round():
    teacher, student = logits(1), logits(2)
    p = teacher.softmax(-1)
    found = divergence("forward_kl")(teacher, student)
    cross = -(p * student.log_softmax(-1)).sum(-1) + (p * p.log()).sum(-1)
    torch.testing.assert_close(found.double(), cross, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, divergence("forward_kl")(student, teacher), rtol=1e-2)


def test_a_certain_teacher_makes_it_the_hard_label_loss():
    labels = torch.arange(N) % V
    teacher = torch.full((N, V), -200.0)
    teacher[torch.arange(N), labels] = 0.0
    student = logits(2).float()
    torch.testing.assert_close(divergence("forward_kl")(teacher, student), F.cross_entropy(student, labels, reduction="none"))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.filterwarnings("ignore")  # trl's own
def test_forward_kl_agrees_with_trl(temperature: float, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("trl")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    try:
        from trl.experimental.gkd import GKDTrainer
    except ImportError:
        from trl import GKDTrainer  # older releases
    teacher, student = logits(1).float(), logits(2).float()
    theirs = GKDTrainer.generalized_jsd_loss(student[None], teacher[None], beta=0.0, temperature=temperature, reduction="sum")
    torch.testing.assert_close(divergence("forward_kl")(teacher, student, temperature).sum(), theirs)
