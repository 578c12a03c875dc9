"""What a student learns from a batch: each method turns logits into named, unreduced loss terms.

The loop weights the terms and divides each by its number of answer tokens. To add a method, write a function of a `Batch`, a divergence
and a temperature that returns terms by name, and decorate it with `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.base.registry import Registry
from labkit.losses.batch import Batch, Compare
from labkit.losses.cross_tokenizer.losses import cross_tokenizer_terms
from labkit.losses.divergences import DIVERGENCES, Divergence, divergence, sampled_kl, top_k
from labkit.losses.features import hidden_loss, next_state_loss, relation_loss, similarity_loss
from labkit.records.experiment import Experiment


class Method(NamedTuple):
    """A way to distil."""

    name: str
    label: str
    source: str
    needs_signal: bool  # whether it reads the teacher's signals
    gold_share: Callable[[float], float]  # share of gold rows in a batch, given the knob `mix`
    terms: Callable[[Batch, Compare, float], dict[str, Tensor]]  # unreduced loss terms by name, in nats per token
    features: str = ""  # which features it compares: "hidden" (projected states), "states" (unprojected) or "relations"
    on_policy: bool = False  # whether the student answers some of the questions itself
    text: bool = False  # whether it learns from the teacher's text alone
    peer: bool = False  # whether a second student of the same size, with another initialisation, is trained too


METHODS = Registry("method", Method, "terms")
register, method = METHODS.register, METHODS.__getitem__


def divergence_of(exp: Experiment) -> Divergence:
    """The divergence of a recipe, with its parameters."""
    return divergence(exp.divergence, **{name: getattr(exp, name) for name in DIVERGENCES[exp.divergence].parameters})


def comparison(exp: Experiment, step: int = 0, entry: Divergence | None = None) -> Compare:
    """The divergence of a recipe, over all tokens or the teacher's top k, times the power of T that keeps the size of its gradient.

    step: with the seed of the recipe, it determines which tokens a sampled signal has.
    entry: `divergence_of(exp)`, if the caller has it.
    """
    entry = entry or divergence_of(exp)
    sampled = exp.top_k > 0 and exp.tail == "sampled"
    generator = torch.Generator().manual_seed(exp.seed * 1_000_003 + step)

    def compare(teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, temperature: float) -> Tensor:
        if sampled:
            value = sampled_kl(teacher_logits_N_V, student_logits_N_V, exp.top_k, generator, temperature)
        elif exp.top_k:
            value = top_k(entry, teacher_logits_N_V, student_logits_N_V, exp.top_k, exp.tail, temperature)
        else:
            value = entry(teacher_logits_N_V, student_logits_N_V, temperature)
        return value * temperature**entry.temperature_power

    return compare


def weights(mix: float, feature: float) -> Mapping[str, float]:
    """The weight of each term in the loss (see `Experiment`)."""
    soft = {"kl": 1.0 - mix, "hard": 1.0 - mix, "crossed": 1.0 - mix, "feature": (1.0 - mix) * feature}
    return soft | {"ce": mix, "gold": 1.0, "mutual": 1.0, "peer": 1.0}


def quarter(mix: float) -> float:
    """Share of gold rows in a batch: a quarter, so that the variance of their mean does not depend on `mix`; 0 or 1 if `mix` is."""
    return mix if mix in (0.0, 1.0) else 0.25


@register(
    "output",
    label="soft labels (output distillation)",
    source="Hinton, Vinyals & Dean 2015, arXiv 1503.02531",
    needs_signal=True,
    gold_share=quarter,
)
def output(batch: Batch, compare: Compare, temperature: float) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    if batch.aligned is not None:
        terms |= cross_tokenizer_terms(batch.aligned, batch.pool(batch.student_logits_N_V), compare, temperature)
    elif batch.teacher_logits_M_V is not None:
        terms["kl"] = compare(batch.teacher_logits_M_V, batch.pool(batch.student_logits_N_V), temperature)
    return terms | _gold(batch)


@register(
    "answers",
    label="the teacher's answers as hard labels",
    source="Kim & Rush 2016, arXiv 1606.07947 (sampled rather than beam-searched answers)",
    needs_signal=True,
    gold_share=quarter,
)
def answers(batch: Batch, compare: Compare, temperature: float) -> dict[str, Tensor]:
    if not len(batch.pool_M):
        return _gold(batch)
    logits_M_V, labels_M = batch.pool(batch.student_logits_N_V), batch.pool(batch.labels_N)
    return {"hard": F.cross_entropy(logits_M_V, labels_M, reduction="none")} | _gold(batch)


@register("gold", label="gold labels only", source="the baseline", needs_signal=False, gold_share=lambda mix: 1.0)
def gold(batch: Batch, compare: Compare, temperature: float) -> dict[str, Tensor]:
    return {"gold": F.cross_entropy(batch.student_logits_N_V, batch.labels_N, reduction="none")}


@register(
    "mutual",
    label="two students that teach each other",
    source="Zhang et al. 2017 (deep mutual learning), arXiv 1706.00384, eqs. 5 and 6",
    needs_signal=False,
    gold_share=lambda mix: 1.0,
    peer=True,
)
def mutual(batch: Batch, compare: Compare, temperature: float) -> dict[str, Tensor]:
    own, peer = batch.student_logits_N_V, batch.peer_logits_N_V
    assert peer is not None
    return gold(batch, compare, temperature) | {
        "peer": F.cross_entropy(peer, batch.labels_N, reduction="none"),
        "mutual": compare(peer.detach(), own, temperature) + compare(own.detach(), peer, temperature),  # each learns from a constant
    }


register(
    "sequence",
    label="the teacher's text, decoded and filtered",
    source="Kim & Rush 2016, arXiv 1606.07947",
    needs_signal=False,
    gold_share=quarter,
    text=True,
)(answers)
register(
    "online",
    label="soft labels, partly on the student's own answers",
    source="Agarwal et al. 2023 (GKD), arXiv 2306.13649",
    needs_signal=True,
    gold_share=quarter,
    on_policy=True,
)(output)


def _with_features(distance: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Batch, Compare, float], dict[str, Tensor]]:
    def terms(batch: Batch, compare: Compare, temperature: float) -> dict[str, Tensor]:
        named = output(batch, compare, temperature)
        if batch.student_features_M is not None and batch.teacher_features_M is not None:
            named["feature"] = distance(batch.student_features_M, batch.teacher_features_M)
        return named

    return terms


for _name, _label, _source, _features, _distance in (
    ("hidden", "soft labels and hidden states", "Jiao et al. 2019 (TinyBERT), arXiv 1909.10351", "hidden", hidden_loss),
    ("similarity", "soft labels and similarities between tokens", "Tung & Mori 2019, arXiv 1907.09682", "states", similarity_loss),
    ("relations", "soft labels and self-attention relations", "Wang et al. 2020 (MiniLMv2), arXiv 2012.15828", "relations", relation_loss),
):
    register(_name, label=_label, source=_source, needs_signal=True, gold_share=quarter, features=_features)(_with_features(_distance))

register(
    "next_state",
    label="soft labels and the target's next state (EAGLE)",
    source="Li et al. 2024 (EAGLE), arXiv 2401.15077",
    needs_signal=True,
    gold_share=quarter,
)(_with_features(next_state_loss))


def _gold(batch: Batch) -> dict[str, Tensor]:
    if not len(batch.gold_G):
        return {}
    return {"ce": F.cross_entropy(batch.gold(batch.student_logits_N_V), batch.gold(batch.labels_N), reduction="none")}
