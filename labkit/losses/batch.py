"""The loss of one step as a pure function of tensors: the student reads its rows, the method names its terms, and they are weighed.

    loss, told = step_loss(student, rows, signal, knobs, objective)

Nothing else is read and nothing is kept, so that a step can be differentiated, traced with `make_fx` and exported as it is. The engine
calls it for each micro-batch (`training/readers.py`); whoever exports it runs the same formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit.losses.cross_tokenizer.losses import Aligned

Compare = Callable[[Tensor, Tensor, float], Tensor]  # teacher and student logits and T to an unreduced loss
GOLD_TERMS = ("ce", "gold", "mutual", "peer")  # means over the tokens with a gold label


class Batch(NamedTuple):
    """A micro-batch at its N answer tokens: M of questions that the teacher answered, and G of questions with a gold label.

    Which token is which is told by index, not by a mask: the shape of what an index picks is known before its values are, so that a step
    can be traced.
    """

    student_logits_N_V: Tensor
    labels_N: Tensor
    pool_M: Tensor  # numbers of the tokens that the teacher speaks about, in order
    gold_G: Tensor  # numbers of the others
    teacher_logits_M_V: Tensor | None = None
    peer_logits_N_V: Tensor | None = None
    student_features_M: Tensor | None = None  # (M, ...), as the method asks
    teacher_features_M: Tensor | None = None
    aligned: Aligned | None = None  # instead of the teacher's logits, where the student has another vocabulary
    weights_N: Tensor | None = None  # of each token in the loss, where they are not all alike

    def pool(self, of_N: Tensor) -> Tensor:
        """What `(N, ...)` is at the M tokens that the teacher speaks about."""
        return of_N[self.pool_M] if len(self.gold_G) else of_N

    def gold(self, of_N: Tensor) -> Tensor:
        """What `(N, ...)` is at the G tokens with a gold label."""
        return of_N[self.gold_G] if len(self.pool_M) else of_N


class MicroBatch(NamedTuple):
    """Rows that the student reads together, and which of their positions are in the loss. Token and position numbers are int64."""

    tokens_B_T: Tensor
    at_N: Tensor  # positions whose next token is in the loss, in the flattened batch: b T + t
    labels_N: Tensor  # the token that stands there
    pool_M: Tensor  # numbers of the positions that the teacher speaks about
    gold_G: Tensor  # numbers of those with a gold label
    attend_1_1_T_T: Tensor | None = None  # an explicit causal mask; None where the model makes its own
    weights_N: Tensor | None = None  # of each position in the loss; 0 for one that only fills up a fixed shape

    def to(self, device: torch.device) -> MicroBatch:
        return MicroBatch(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


class Signal(NamedTuple):
    """What the teacher says at the M positions of its pool; None is not asked for."""

    logits_M_V: Tensor | None = None
    features_M: Tensor | None = None
    aligned: Aligned | None = None

    def only(self, kept_M: Tensor) -> Signal:
        """The same at some of the positions, token by token."""
        logits_M_V, features_M = (None if x is None else x[kept_M.to(x.device)] for x in self[:2])
        return self._replace(logits_M_V=logits_M_V, features_M=features_M)


class Knobs(NamedTuple):
    """What may differ from step to step: numbers, or tensors of one number each."""

    temperature: float
    share: Mapping[str, float]  # weight of each term in the loss
    pool_tokens: float  # what a mean over the whole batch's pool rows is divided by, and over its gold rows
    gold_tokens: float
    thinned: float = 1.0  # times as many, where a fault counts other tokens too


class Objective(NamedTuple):
    """What stays the same in a trace. read: the reader's forward pass. kl_is_told: the term "kl" is the plain KL at temperature 1, which
    then need not be worked out again."""

    read: Callable[[Any, MicroBatch, Signal], Batch]
    terms: Callable[[Batch, Compare, float], Mapping[str, Tensor]]
    compare: Compare
    kl_is_told: bool = False


def step_loss(student: Any, batch: MicroBatch, signal: Signal, knobs: Knobs, objective: Objective) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one micro-batch, a number in nats to go back from, and the values told of it (see `weigh`)."""
    return weigh(objective.read(student, batch, signal), knobs, objective)


def weigh(batch: Batch, knobs: Knobs, objective: Objective) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch that has been read, and its values, detached: "loss", each term's mean, and "kl" to the teacher at temperature 1.

    Every mean is divided by the tokens of the whole batch, so that the sums over its micro-batches are the batch's own.
    """
    loss = torch.zeros((), device=batch.student_logits_N_V.device)
    told: dict[str, Tensor] = {}
    for name, term_N in objective.terms(batch, objective.compare, knobs.temperature).items():
        gold = name in GOLD_TERMS
        if batch.weights_N is not None:
            term_N = term_N * (batch.gold if gold else batch.pool)(batch.weights_N)
        mean = term_N.sum() / ((knobs.gold_tokens if gold else knobs.pool_tokens) * knobs.thinned)
        loss = loss + knobs.share[name] * mean
        told["ce" if name == "gold" else name] = mean.detach()
    softened = told.pop("kl", None)
    if batch.teacher_logits_M_V is not None:
        exact = softened is not None and objective.kl_is_told
        told["kl"] = softened if exact else _kl_at_one(batch) / knobs.pool_tokens  # type: ignore[assignment]
    return loss, {"loss": loss.detach(), **told}


@torch.no_grad()
def _kl_at_one(batch: Batch) -> Tensor:
    """Summed KL to the teacher at temperature 1, which is what the KL curve shows whatever the loss is."""
    assert batch.teacher_logits_M_V is not None
    teacher = batch.teacher_logits_M_V.log_softmax(-1)
    student = batch.pool(batch.student_logits_N_V).log_softmax(-1)
    kl_M = (teacher.exp() * (teacher - student)).sum(-1)
    return (kl_M if batch.weights_N is None else kl_M * batch.pool(batch.weights_N)).sum()
