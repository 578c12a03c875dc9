"""Every divergence is what its formula says, to float64; and the identities that lessons rest on hold."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from labkit.base.errors import LabError
from labkit.losses import divergences as dv
from labkit.losses.divergences import DIVERGENCES, divergence
from labkit.records import names
from labkit.records.experiment import KNOBS

N, V = 5, 7


def logits(seed: int, scale: float = 2.0, n: int = N, v: int = V) -> torch.Tensor:
    return torch.randn(n, v, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    def term(a: float, b: float) -> float:
        return 0.0 if a == 0 else math.inf if b == 0 else a * (math.log(a) - math.log(b))

    return np.array([math.fsum(map(term, x, y)) for x, y in zip(p, q, strict=True)])


def jsd(p: np.ndarray, q: np.ndarray, beta: float = 0.5) -> np.ndarray:
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def half_variance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.var(np.log(p) - np.log(q), axis=-1) / 2


# A divergence without an oracle here fails the suite: write down, from the paper, what it must be (at its default parameters).
ORACLES = {
    "forward_kl": kl,
    "reverse_kl": lambda p, q: kl(q, p),
    "jsd": jsd,
    "skew_forward_kl": lambda p, q: kl(p, 0.1 * p + 0.9 * q),
    "skew_reverse_kl": lambda p, q: kl(q, 0.9 * p + 0.1 * q),
    "total_variation": lambda p, q: 1 - np.minimum(p, q).sum(-1),
    "acceptance": lambda p, q: -np.log(np.minimum(p, q).sum(-1)),
    "logit_mse": half_variance,
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
    assert divergence(entry.name) == entry
    assert entry.name in names.DIVERGENCES, "and a recipe can name it"
    assert set(entry.parameters) <= KNOBS.keys(), "its parameters are knobs"
    assert all(KNOBS[name].default == value for name, value in entry.parameters.items())


def test_unknown_name_says_the_nearest():
    with pytest.raises(LabError, match="Did you mean 'forward_kl'"):
        divergence("foward_kl")


# ---- for every entry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_enumeration(entry: dv.Divergence, temperature: float):
    teacher, student = logits(1), logits(2)
    wanted = ORACLES[entry.name](softmax(teacher.numpy() / temperature), softmax(student.numpy() / temperature))
    exact = entry.of((teacher / temperature).log_softmax(-1), (student / temperature).log_softmax(-1))
    assert exact.shape == (N,)
    np.testing.assert_allclose(exact.numpy(), wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(entry(teacher, student, temperature).numpy(), wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 20.0])
def test_zero_when_equal_and_never_negative(entry: dv.Divergence, temperature: float):
    same, other = logits(3), logits(4)
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
    assert torch.autograd.gradcheck(lambda z: entry.of(teacher, z.log_softmax(-1)), logits(10).requires_grad_())


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


# ---- columns with logit -inf ----------------------------------------------------------------------------------------------

COMPARED = {  # every way to compare two rows of logits; k and draws are within the columns that are left below
    **{name: divergence(name) for name in DIVERGENCES},
    **{f"{name} at an end": divergence(name, **dict.fromkeys(DIVERGENCES[name].parameters, 1.0)) for name in ("jsd", "skew_reverse_kl")},
    **{
        f"{name}, top 2, {tail}": lambda teacher, student, T, name=name, tail=tail: dv.top_k(divergence(name), teacher, student, 2, tail, T)
        for name in DIVERGENCES
        if DIVERGENCES[name].on_distributions
        for tail in dv.TAILS
    },
    "sampled": lambda teacher, student, T: dv.sampled_kl(teacher, student, 3, torch.Generator().manual_seed(0), T),
}


def value_and_gradients(compare, teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> list[torch.Tensor]:
    teacher, student = teacher.clone().requires_grad_(), student.clone().requires_grad_()
    value = compare(teacher, student, temperature)
    gradients = torch.autograd.grad(value.sum(), (teacher, student), materialize_grads=True)
    return [value.detach(), *gradients]


@pytest.mark.parametrize("way", COMPARED)
@settings(max_examples=10)
@given(
    seed=st.integers(0, 99),
    gone=st.sets(st.integers(0, V - 1), min_size=1, max_size=V - 3),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_columns_that_neither_side_has_are_as_if_dropped(way: str, seed: int, gone: set[int], temperature: float, dtype: torch.dtype):
    teacher, student = logits(seed).to(dtype), logits(seed + 100).to(dtype)
    kept = [column for column in range(V) if column not in gone]
    wanted = value_and_gradients(COMPARED[way], teacher[:, kept], student[:, kept], temperature)
    teacher[:, list(gone)] = student[:, list(gone)] = -math.inf
    value, *gradients = value_and_gradients(COMPARED[way], teacher, student, temperature)
    assert value.dtype == dtype
    assert all((gradient[:, list(gone)] == 0).all() for gradient in gradients)
    for found, right in zip([value, *(gradient[:, kept] for gradient in gradients)], wanted, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=2e-6)


@pytest.mark.parametrize("tail", sorted(dv.TAILS))
def test_a_k_above_the_teacher_s_tokens_keeps_them_all(tail: str):
    teacher, student = logits(1), logits(2)
    teacher[:, 4:] = student[:, 4:] = -math.inf
    four, six = (dv.top_k(divergence("forward_kl"), teacher, student, k, tail) for k in (4, 6))
    torch.testing.assert_close(four, six)


@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_a_token_that_one_side_lacks_is_infinite_where_the_formula_is(name: str, side: str):
    teacher, student = logits(1), logits(2)
    (teacher if side == "teacher" else student)[:, 0] = -math.inf
    value, _, gradient = value_and_gradients(divergence(name), teacher, student, 1.0)
    if name == "logit_mse" or name == {"teacher": "reverse_kl", "student": "forward_kl"}[side]:
        assert (value == math.inf).all()
    else:
        np.testing.assert_allclose(value.numpy(), ORACLES[name](softmax(teacher.numpy()), softmax(student.numpy())), atol=1e-12)
        assert gradient.isfinite().all()


def test_what_is_not_a_number_stays_so(entry: dv.Divergence):
    teacher, student = logits(1), logits(2)
    teacher[0, 0] = math.nan
    value = entry(teacher, student)
    assert value[0].isnan()
    assert value[1:].isfinite().all()


@pytest.mark.parametrize("name", ["forward_kl", "jsd", "skew_reverse_kl", "logit_mse"])
def test_a_traced_divergence_takes_masked_columns_too(name: str):
    teacher, student = logits(1), logits(2)
    graph = make_fx(lambda a, b: divergence(name)(a, b))(teacher, student)
    torch.testing.assert_close(graph(teacher, student), divergence(name)(teacher, student))
    teacher[:, 3:5] = student[:, 3:5] = -math.inf
    torch.testing.assert_close(graph(teacher, student), divergence(name)(teacher, student))


def test_double_precision_is_kept(entry: dv.Divergence):
    """Above 1e-7, the precision of floats: two logits differ by less than a float can hold."""
    teacher = logits(1) + 1e4
    student = teacher.clone()
    student[:, 0] += 1e-5
    wanted = ORACLES[entry.name](softmax(teacher.numpy()), softmax(student.numpy()))
    found = entry(teacher, student)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0.05)
    if entry.on_distributions:
        assert dv.top_k(entry, teacher, student, 3).dtype == dv.sampled_kl(teacher, student, 3).dtype == torch.float64


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


# ---- claims ------------------------------------------------------------------------------------------------------------


def far_apart() -> tuple[torch.Tensor, torch.Tensor]:
    """Two all but certain distributions that disagree: where a bounded divergence meets its bound."""
    teacher, student = torch.full((1, V), -40.0), torch.full((1, V), -40.0)
    teacher[0, 0], student[0, 1] = 40.0, 40.0
    return teacher, student


def test_the_claimed_bound_is_reached_and_not_passed(entry: dv.Divergence):
    teacher, student = far_apart()
    value = float(entry(teacher, student))
    if math.isinf(entry.bound(**entry.parameters)):
        assert value > 30, "no bound"
    else:
        assert value == pytest.approx(entry.bound(**entry.parameters), rel=1e-5)
    for seed in range(20):
        assert float(entry(logits(seed, 9.0), logits(seed + 100, 9.0)).max()) <= entry.bound(**entry.parameters) + 1e-6


def test_the_claimed_power_of_t_keeps_the_gradient_s_size(entry: dv.Divergence):
    def gradient(temperature: float) -> float:
        moving = logits(2).requires_grad_()
        value = entry.of((logits(1) / temperature).log_softmax(-1), (moving / temperature).log_softmax(-1))
        (value.sum() * temperature**entry.temperature_power).backward()
        return float(moving.grad.norm())

    assert gradient(1e4) == pytest.approx(gradient(1e3), rel=0.01)
    assert gradient(1e4) > 1e-3


# ---- identities between them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.7])
def test_jsd_is_symmetric_under_swapping_both_sides_and_beta(beta: float):
    teacher, student = logits(1), logits(2)
    one, other = divergence("jsd", beta=beta), divergence("jsd", beta=1 - beta)
    torch.testing.assert_close(one(teacher, student), other(student, teacher))
    np.testing.assert_allclose(one(teacher, student).numpy(), jsd(softmax(teacher.numpy()), softmax(student.numpy()), beta), rtol=1e-5)


def test_jsd_jumps_at_its_ends():
    """JSD / beta tends to KL, so JSD itself to 0; exactly at 0 libraries switch to KL. Near an end beta scales the learning rate."""
    teacher, student = logits(1), logits(2)
    forward, reverse = divergence("forward_kl")(teacher, student), divergence("reverse_kl")(teacher, student)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    torch.testing.assert_close(divergence("jsd", beta=1e-4).of(p, q) / 1e-4, forward.double(), rtol=2e-3, atol=0)
    torch.testing.assert_close(divergence("jsd", beta=1 - 1e-4).of(p, q) / 1e-4, reverse.double(), rtol=2e-3, atol=0)
    torch.testing.assert_close(divergence("jsd", beta=0)(teacher, student), forward)
    torch.testing.assert_close(divergence("jsd", beta=1)(teacher, student), reverse)
    assert (divergence("jsd", beta=0.001)(teacher, student) < 0.01 * divergence("jsd", beta=0)(teacher, student)).all(), "the jump"


@pytest.mark.parametrize("beta", [0.2, 0.5])
def test_averaging_log_probabilities_makes_another_and_unbounded_loss(beta: float):
    p, q = logits(1).log_softmax(-1), logits(2).log_softmax(-1)
    geometric = beta * p + (1 - beta) * q
    slip = beta * dv.forward_kl(p, geometric) + (1 - beta) * dv.forward_kl(q, geometric)
    torch.testing.assert_close(slip, beta * (1 - beta) * (dv.forward_kl(p, q) + dv.forward_kl(q, p)))
    assert (slip > dv.jsd(p, q, beta)).all()
    p, q = (z.double().log_softmax(-1) for z in far_apart())
    assert float(beta * (1 - beta) * (dv.forward_kl(p, q) + dv.forward_kl(q, p))) > 10 > divergence("jsd").bound(beta)


def test_skewing_runs_from_kl_to_nothing():
    teacher, student = logits(1), logits(2)
    for name, whole in (("skew_forward_kl", "forward_kl"), ("skew_reverse_kl", "reverse_kl")):
        torch.testing.assert_close(divergence(name, skew=0)(teacher, student), divergence(whole)(teacher, student))
        assert divergence(name, skew=1)(teacher, student).abs().max() < 1e-6
        values = [float(divergence(name, skew=a)(teacher, student).sum()) for a in (0, 0.1, 0.5, 0.9)]
        assert values == sorted(values, reverse=True)


def test_pinsker_bounds_total_variation():
    for seed in range(30):
        teacher, student = logits(seed, 4.0), logits(seed + 50, 4.0)
        tv, nats = divergence("total_variation")(teacher, student), divergence("forward_kl")(teacher, student)
        assert (tv <= (nats / 2).sqrt() + 1e-6).all()


# ---- acceptance: what speculative decoding lives on ---------------------------------------------------------------------


def test_one_less_total_variation_is_the_chance_of_acceptance():
    """By the rule itself (Leviathan et al. 2022, appendix A.1): the student draws v, which is kept with chance min(1, p/q)."""
    teacher, student = logits(1), logits(2)
    p, q = softmax(teacher.numpy()), softmax(student.numpy())
    by_the_rule = [math.fsum(b * min(1.0, a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)]
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    np.testing.assert_allclose(1 - dv.total_variation(p, q).numpy(), by_the_rule, atol=1e-12)
    np.testing.assert_allclose((-dv.acceptance(p, q)).exp().numpy(), by_the_rule, atol=1e-12)


def test_its_gradient_is_that_of_total_variation_over_the_chance():
    teacher, student = logits(1).log_softmax(-1), logits(2).requires_grad_()
    (mine,) = torch.autograd.grad(dv.acceptance(teacher, student.log_softmax(-1)).sum(), student)
    variation = dv.total_variation(teacher, student.log_softmax(-1))
    (other,) = torch.autograd.grad(variation.sum(), student)
    torch.testing.assert_close(mine, other / (1 - variation.detach())[:, None])


@pytest.mark.parametrize("gap", [10.0, 40.0, 300.0])
def test_where_overlap_is_tiny_it_still_teaches_and_total_variation_does_not(gap: float):
    """Both are sure, of different tokens: alpha is about exp(-gap), which single precision rounds to 0 at the last of these."""
    teacher, student = logits(1, 0.5).float(), logits(2, 0.5).float()
    teacher[:, 0] += gap
    student[:, 1] += gap
    student.requires_grad_()
    value = divergence("acceptance")(teacher, student)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert ((value - gap).abs() < 4).all()
    assert gradient.isfinite().all()
    assert ((gradient.norm(dim=-1) > 0.3) & (gradient.norm(dim=-1) < 2)).all()
    (vanishing,) = torch.autograd.grad(divergence("total_variation")(teacher, student).sum(), student)
    assert float(vanishing.norm()) < 100 * math.exp(-min(gap, 80))


def test_against_a_certain_teacher_acceptance_is_the_hard_label_loss():
    labels = torch.arange(N) % V
    teacher = torch.full((N, V), -200.0)
    teacher[torch.arange(N), labels] = 0.0
    student = logits(2).float()
    torch.testing.assert_close(divergence("acceptance")(teacher, student), F.cross_entropy(student, labels, reduction="none"))


def test_logit_matching_is_the_hot_limit_of_hinton_s_scaled_loss():
    teacher, student = logits(1), logits(2)
    hot = dv.forward_kl((teacher / 1e4).log_softmax(-1), (student / 1e4).log_softmax(-1)) * 1e8
    torch.testing.assert_close(hot, dv.logit_mse(teacher.log_softmax(-1), student.log_softmax(-1)), rtol=1e-3, atol=0)
    scaled = divergence("logit_mse")(teacher, student, 7.0) * 7.0**2
    torch.testing.assert_close(scaled, divergence("logit_mse")(teacher, student), rtol=1e-4, atol=1e-5)


# ---- top k and samples -------------------------------------------------------------------------------------------------


def by_hand(tail: str, p: np.ndarray, q: np.ndarray, k: int) -> np.ndarray:
    """Forward KL by each tail rule, in plain loops."""
    out = []
    for a, b in zip(p, q, strict=True):
        kept = sorted(range(len(a)), key=lambda i: -a[i])[:k]
        a_mass, b_mass = sum(a[i] for i in kept), sum(b[i] for i in kept)
        a_scale = a_mass if tail in ("teacher_renormalised", "both_renormalised") else 1.0
        b_scale = b_mass if tail == "both_renormalised" else 1.0
        value = math.fsum(a[i] / a_scale * (math.log(a[i] / a_scale) - math.log(b[i] / b_scale)) for i in kept)
        if tail == "bucket":
            value += (1 - a_mass) * (math.log(1 - a_mass) - math.log(1 - b_mass))
        out.append(max(0.0, value) if tail == "clamped" else value)
    return np.array(out)


@pytest.mark.parametrize("tail", sorted(dv.TAILS))
@pytest.mark.parametrize("k", [1, 3, 6])
def test_every_tail_rule_is_what_its_library_computes(tail: str, k: int):
    assert tail in names.TAILS
    teacher, student = logits(1), logits(2)
    found = dv.top_k(divergence("forward_kl"), teacher, student, k, tail)
    np.testing.assert_allclose(found.numpy(), by_hand(tail, softmax(teacher.numpy()), softmax(student.numpy()), k), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tail", sorted(dv.TAILS))
def test_all_tokens_kept_is_the_full_value(tail: str):
    teacher, student = logits(1), logits(2)
    torch.testing.assert_close(
        dv.top_k(divergence("forward_kl"), teacher, student, V, tail), divergence("forward_kl")(teacher, student), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd", "total_variation", "acceptance"])
def test_the_bucket_is_a_lower_bound_that_rises_with_k(name: str):
    teacher, student = logits(1), logits(2)
    values = [dv.top_k(divergence(name), teacher, student, k) for k in range(1, V + 1)]
    for less, more in itertools.pairwise(values):
        assert (less <= more + 1e-5).all()
    assert dv.top_k(divergence(name), teacher, teacher, 3).abs().max() < 1e-5


def test_renormalising_the_teacher_alone_asks_the_student_to_drop_its_tail():
    teacher = logits(1)
    kept = teacher.softmax(-1).topk(3).values.sum(-1)
    found = dv.top_k(divergence("forward_kl"), teacher, teacher, 3, "teacher_renormalised")
    torch.testing.assert_close(found.double(), -kept.log(), rtol=1e-4, atol=1e-5)


def test_samples_are_right_on_average_in_value_and_gradient():
    teacher, student = logits(1, n=2).float(), logits(2, n=2).float().requires_grad_()
    whole = divergence("forward_kl")(teacher, student)
    (wanted,) = torch.autograd.grad(whole.sum(), student)
    generator = torch.Generator().manual_seed(0)
    many = 4000
    found = dv.sampled_kl(teacher.repeat(many, 1), student.repeat(many, 1), 8, generator)
    (gradient,) = torch.autograd.grad(found.sum() / many, student)
    error = found.detach().view(many, 2).std(0) / math.sqrt(many)
    assert ((found.view(many, 2).mean(0) - whole).abs() < 4 * error).all()
    torch.testing.assert_close(gradient, wanted, atol=0.01, rtol=0)
    biased = dv.top_k(divergence("forward_kl"), teacher, student, 2)
    assert ((biased - whole).abs() > 4 * error).all(), "the test would see a biased estimate"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: divergence("jsd", beta=1.2), "beta=1.2 is out of range"),
        (lambda: divergence("jsd", bate=0.2), "it takes beta"),
        (lambda: divergence("forward_kl", beta=0.2), "takes no parameter"),
        (lambda: dv.top_k(divergence("forward_kl"), logits(1), logits(2), V + 1), f"k={V + 1} is out of range"),
        (lambda: dv.top_k(divergence("forward_kl"), logits(1), logits(2), 0), "k=0"),
        (lambda: dv.top_k(divergence("forward_kl"), logits(1), logits(2), 2, "bukcet"), "Did you mean 'bucket'"),
        (lambda: dv.top_k(divergence("logit_mse"), logits(1), logits(2), 2), "whole vocabulary"),
        (lambda: dv.sampled_kl(logits(1), logits(2), 0), "draws=0"),
    ],
)
def test_bad_input_is_told(call, words: str):
    with pytest.raises(LabError, match=words):
        call()


# ---- peers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.filterwarnings("ignore")  # trl's own
def test_jsd_agrees_with_trl_in_value_and_gradient(beta: float, temperature: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer

    teacher, student = logits(1).float(), logits(2).float().requires_grad_()
    theirs = GKDTrainer.generalized_jsd_loss(student[None], teacher[None], beta=beta, temperature=temperature, reduction="sum")
    ours = divergence("jsd", beta=beta)(teacher, student, temperature).sum()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, student)[0] for loss in (ours, theirs)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_jsd_agrees_with_liger(beta: float):
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    teacher, student, head = logits(1).float(), logits(2).float(), torch.eye(V)
    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, temperature=2.0, compiled=False)
    theirs = loss(student, head, teacher, head, torch.zeros(N, dtype=torch.long))
    torch.testing.assert_close(divergence("jsd", beta=beta)(teacher, student, 2.0).mean(), theirs)
