"""How far a student's distribution is from the teacher's: pure functions on logits, unreduced, in nats.

A column with logit -inf on both sides, such as padding of the vocabulary, changes nothing: 0 log 0 = 0. A token that one side alone gives
probability 0 makes a divergence infinite where its formula says so.

    jsd = divergence("jsd", beta=0.1)
    loss_N = jsd(teacher_logits_N_V, student_logits_N_V, temperature=2.0) * 2.0**jsd.temperature_power

To add one, write a function of two `(N, V)` tensors of log-probabilities and decorate it. The property tests, the dropdowns and the
tables read `DIVERGENCES`, and the tests check every property that the decorator claims.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.base.errors import LabError
from labkit.base.kinds import kinds_checked
from labkit.base.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Divergence(NamedTuple):
    """A divergence: its name, formula, source and properties."""

    name: str
    label: str
    formula: str
    source: str
    per_token: Callable[..., Tensor]  # from teacher and student log-probabilities (N, V) to (N,)
    temperature_power: int = 2  # T to this power, times the divergence at T, keeps the size of its gradient as T grows
    bound: Callable[..., float] = lambda **_: math.inf  # the largest value with these parameters, in nats (infinite for most)
    on_distributions: bool = True  # whether it can also be computed of coarser distributions, as top-k signals need
    parameters: Mapping[str, float] = MappingProxyType({})  # values of its parameters, each between 0 and 1

    def __call__(self, teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, temperature: float = 1.0) -> Tensor:
        """Unreduced `(N,)` divergence in nats of the two distributions softened at `temperature`, without any power of T."""
        return self.of(*softened(teacher_logits_N_V, student_logits_N_V, temperature))

    def of(self, teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor) -> Tensor:
        """Unreduced `(N,)` divergence in nats of two distributions given as log-probabilities."""
        return self.per_token(teacher_logprobs_N_V, student_logprobs_N_V, **self.parameters)


DIVERGENCES = Registry("divergence", Divergence, "per_token")
register = DIVERGENCES.register
MOST = 1e4  # nats; a probability below exp(-MOST) is 0 in every precision
LEAST = 1e-7  # lower bound of the mass outside the top k, about the size of rounding errors


@kinds_checked
def divergence(name: str, **parameters: float) -> Divergence:
    """The divergence of that name, with values for its parameters.

    name: a key of `DIVERGENCES`.
    parameters: such as beta=0.1; the others have their defaults.

    Raises `LabError` for an unknown name or parameter, or a parameter outside [0, 1].
    """
    entry = DIVERGENCES[name]
    for parameter, value in parameters.items():
        if parameter not in entry.parameters:
            takes = f"takes {', '.join(entry.parameters)}" if entry.parameters else "takes no parameter"
            raise LabError(f"{name} has no parameter {parameter!r}: it {takes}.")
        if not 0 <= value <= 1:
            raise LabError(f"{parameter}={value:g} is out of range: in {entry.label} it is a weight from 0 to 1.")
    return entry._replace(parameters={**entry.parameters, **parameters})


def softened(teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, temperature: float) -> list[Tensor]:
    """Log-probabilities of both sides at a temperature, in at least single precision. Raises `LabError` for logits of different shapes."""
    if (teacher := tuple(teacher_logits_N_V.shape)) != (student := tuple(student_logits_N_V.shape)):
        raise LabError(
            f"teacher logits have shape {teacher} and student logits {student}: both must have the same rows and the same vocabulary. "
            "Different tokenizers cannot be compared token by token."
        )
    both = teacher_logits_N_V, student_logits_N_V
    return [((side.float() if side.dtype.itemsize < 4 else side) / temperature).log_softmax(-1) for side in both]


def _entropy_of(beta: float) -> float:
    """The entropy of a coin with probability beta, in nats."""
    return -sum(b * math.log(b) for b in (beta, 1 - beta) if b > 0)


@register(
    "forward_kl",
    label="forward KL",
    formula="KL(teacher || student) = sum p (log p - log q)",
    source="Hinton, Vinyals & Dean 2015, arXiv 1503.02531",
)
def forward_kl(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor) -> Tensor:
    p, gap = teacher_logprobs_N_V.exp(), teacher_logprobs_N_V - student_logprobs_N_V
    value = (p * gap).sum(-1)
    return value if _settled(value) else (p * gap.where(p.bool(), 0.0)).sum(-1)


@register(
    "reverse_kl",
    label="reverse KL",
    formula="KL(student || teacher) = sum q (log q - log p)",
    source="Gu et al. 2023 (MiniLLM), arXiv 2306.08543",
)
def reverse_kl(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor) -> Tensor:
    return forward_kl(student_logprobs_N_V, teacher_logprobs_N_V)


@register(
    "jsd",
    label="generalised Jensen-Shannon",
    formula="JSD(beta) = beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q; at 0 and 1: KL(p || q), KL(q || p)",
    source="Agarwal et al. 2023 (GKD), arXiv 2306.13649, eq. 1; the ends as TRL and Liger have them",
    bound=lambda beta: _entropy_of(beta) if 0 < beta < 1 else math.inf,
    parameters={"beta": 0.5},
)
def jsd(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor, beta: float) -> Tensor:
    # The formula itself is 0 at both ends and about beta KL near them, so the value jumps at the ends (tested, and shown in a lesson).
    if beta == 0:
        return forward_kl(teacher_logprobs_N_V, student_logprobs_N_V)
    if beta == 1:
        return reverse_kl(teacher_logprobs_N_V, student_logprobs_N_V)
    mixture = blend(teacher_logprobs_N_V, student_logprobs_N_V, beta)
    return beta * forward_kl(teacher_logprobs_N_V, mixture) + (1 - beta) * forward_kl(student_logprobs_N_V, mixture)


@register(
    "skew_forward_kl",
    label="skew forward KL",
    formula="KL(p || skew p + (1 - skew) q) = sum p (log p - log m)",
    source="Ko et al. 2024 (DistiLLM), arXiv 2402.03898, eq. 5",
    bound=lambda skew: -math.log(skew) if skew else math.inf,
    parameters={"skew": 0.1},
)
def skew_forward_kl(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor, skew: float) -> Tensor:
    return forward_kl(teacher_logprobs_N_V, blend(teacher_logprobs_N_V, student_logprobs_N_V, skew))


@register(
    "skew_reverse_kl",
    label="skew reverse KL",
    formula="KL(q || (1 - skew) p + skew q) = sum q (log q - log m)",
    source="Ko et al. 2024 (DistiLLM), arXiv 2402.03898, section 3.1",
    bound=lambda skew: -math.log(skew) if skew else math.inf,
    parameters={"skew": 0.1},
)
def skew_reverse_kl(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor, skew: float) -> Tensor:
    return forward_kl(student_logprobs_N_V, blend(teacher_logprobs_N_V, student_logprobs_N_V, 1 - skew))


@register(
    "total_variation",
    label="total variation",
    formula="TV = 1/2 sum |p - q| = 1 - sum min(p, q)",
    source="Wen et al. 2023 (f-distill), arXiv 2307.15190",
    temperature_power=1,
    bound=lambda: 1.0,
)
def total_variation(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor) -> Tensor:
    return (teacher_logprobs_N_V.exp() - student_logprobs_N_V.exp()).abs().sum(-1) / 2


@register(
    "acceptance",
    label="acceptance",
    formula="-log alpha, alpha = sum min(p, q): the chance that a token drawn from the student is accepted in speculative decoding",
    source="Samarin et al. 2026 (LK losses), arXiv 2602.23881; alpha: Leviathan et al. 2022, arXiv 2211.17192",
    temperature_power=1,
)
def acceptance(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor) -> Tensor:
    # In logs throughout: alpha itself would round to 0 for distant distributions. The gradient is that of total variation over alpha.
    return -teacher_logprobs_N_V.minimum(student_logprobs_N_V).logsumexp(-1)


@register(
    "logit_mse",
    label="logit matching",
    formula="1/2 Var over the vocabulary of (log p - log q) = lim T^2 KL, T -> infinity",
    source="Ba & Caruana 2014, arXiv 1312.6184; as a limit: Hinton et al. 2015, arXiv 1503.02531, eq. 4",
    on_distributions=False,
)
def logit_mse(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor) -> Tensor:
    gap = student_logprobs_N_V - teacher_logprobs_N_V
    value = gap.var(-1, correction=0) / 2
    if _settled(value):
        return value
    seen = teacher_logprobs_N_V.maximum(student_logprobs_N_V) > -math.inf  # by at least one side; the others are no part of the vocabulary
    gap, columns = gap.where(seen, 0.0), seen.sum(-1, keepdim=True)
    mean = gap.clamp(-MOST, MOST).sum(-1, keepdim=True) / columns  # finite, so that an infinite gap gives infinity and not NaN
    return (gap - mean).where(seen, 0.0).square().sum(-1) / columns[:, 0] / 2


def blend(teacher_logprobs_N_V: Tensor, student_logprobs_N_V: Tensor, share: float) -> Tensor:
    """Log of the mixture of *probabilities*, with `share` of the teacher's.

    Mixing log-probabilities instead is a known bug: the geometric mean is not a distribution, and JSD becomes beta (1 - beta) times the
    Jeffreys divergence, which has no bound.
    """
    if share in (0, 1):
        return teacher_logprobs_N_V if share else student_logprobs_N_V
    teacher = (teacher_logprobs_N_V + math.log(share)).clamp(min=-MOST)  # with -inf on both sides torch's gradient is NaN
    return teacher.logaddexp(student_logprobs_N_V + math.log(1 - share))


def _settled(value_N: Tensor) -> bool:
    """Whether these values need no care for columns with logit -inf, where a term may be 0 times infinity instead of 0.

    It looks only where that costs nothing: not on a GPU, which would have to wait, and not while the step is traced.
    """
    from torch.utils._python_dispatch import is_in_torch_dispatch_mode

    return value_N.is_cpu and not is_in_torch_dispatch_mode() and not bool(value_N.isnan().any())


# ---- signals smaller than a vocabulary -----------------------------------------------------------------------------------


class Tail(NamedTuple):
    """A rule for the probability outside the teacher's top k: which libraries use it, and its effect."""

    name: str
    used_by: str
    effect: str
    reduce: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


TAILS = Registry("tail rule", Tail, "reduce")


def top_k(
    entry: Divergence, teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, k: int, tail: str = "bucket", temperature: float = 1.0
) -> Tensor:
    """`(N,)` divergence in nats from the teacher's `k` likeliest tokens of each row alone.

    entry: the divergence (see `divergence`).
    tail: a key of `TAILS`, the rules that libraries have for the rest.

    Raises `LabError` for k outside 1 to V, an unknown rule, or a divergence that is not a function of distributions.
    """
    teacher, student = softened(teacher_logits_N_V, student_logits_N_V, temperature)
    if not 1 <= k <= teacher_logits_N_V.shape[-1]:
        raise LabError(f"k={k} is out of range: there are {teacher_logits_N_V.shape[-1]} tokens to choose from.")
    if not entry.on_distributions:
        raise LabError(f"{entry.label} needs the logits of the whole vocabulary, and k={k} keeps fewer: use forward_kl.")
    kept, ids_N_K = teacher.topk(k, dim=-1)
    value = entry.of(*TAILS[tail].reduce(kept, student.gather(-1, ids_N_K)))
    return value.clamp(min=0) if tail == "clamped" else value


def sampled_kl(
    teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, draws: int, generator: Any = None, temperature: float = 1.0
) -> Tensor:
    """`(N,)` forward KL in nats, estimated from `draws` tokens of each row, drawn from the teacher with replacement.

    Unlike a top k it is unbiased, in value and in gradient.

    generator: a torch generator for the draws.

    Raises `LabError` for fewer than 1 draw, or logits of different shapes.

    Source: random sampling KD, Anshumann et al. 2025, arXiv 2503.16870, with proposal p.
    """
    if draws < 1:
        raise LabError(f"draws={draws} must be at least 1.")
    teacher, student = softened(teacher_logits_N_V, student_logits_N_V, temperature)
    ids_N_K = teacher.exp().multinomial(draws, replacement=True, generator=generator)
    return (teacher.gather(-1, ids_N_K) - student.gather(-1, ids_N_K)).mean(-1)


def _rest(kept_N_K: Tensor) -> Tensor:
    """Log of the remaining probability, `(N, 1)`; at least log `LEAST`."""
    return (1 - kept_N_K.exp().sum(-1, keepdim=True)).clamp(min=LEAST).log()


@TAILS.register(
    "bucket", used_by="DistillKit symmetric_uniform, TRL loss_add_tail", effect="all other tokens as one: a lower bound of the full value"
)
def _bucket(teacher_N_K: Tensor, student_N_K: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    return torch.cat([teacher_N_K, _rest(teacher_N_K)], -1), torch.cat([student_N_K, _rest(student_N_K)], -1)


@TAILS.register(
    "teacher_renormalised",
    used_by="DistillKit's default, axolotl",
    effect="-log of the kept mass at best: the student learns to drop its tail",
)
def _teacher_renormalised(teacher_N_K: Tensor, student_N_K: Tensor) -> tuple[Tensor, Tensor]:
    return teacher_N_K.log_softmax(-1), student_N_K


@TAILS.register("both_renormalised", used_by="Model-Optimizer, TRL SDFT", effect="blind to how much mass lies in the tail")
def _both_renormalised(teacher_N_K: Tensor, student_N_K: Tensor) -> tuple[Tensor, Tensor]:
    return teacher_N_K.log_softmax(-1), student_N_K.log_softmax(-1)


@TAILS.register("raw", used_by="EasyDistill 1.0", effect="not a divergence: it can be negative, and is smallest with no mass in the tail")
def _raw(teacher_N_K: Tensor, student_N_K: Tensor) -> tuple[Tensor, Tensor]:
    return teacher_N_K, student_N_K


@TAILS.register("clamped", used_by="verl forward_kl_topk", effect="as raw, and no gradient at all where it is negative")
def _clamped(teacher_N_K: Tensor, student_N_K: Tensor) -> tuple[Tensor, Tensor]:
    return teacher_N_K, student_N_K
