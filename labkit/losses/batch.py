"""The loss of one step as a pure function of tensors: the student reads its rows, the method names its terms, and they are weighed.

    loss, values = step_loss(student, rows, signal, knobs, objective)

It keeps no state. It reads only its arguments, and the modules that its reader trains beside the student (projectors, a peer). So a step
can be differentiated, traced with `make_fx` and exported. The readers (`training/readers.py`) call it for each micro-batch; those that have
a batch without a forward pass of the whole student call its second half, `weigh`. Sampled tails are drawn anew in each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit.losses.cross_tokenizer.losses import Aligned
from labkit.losses.divergences import forward_kl

Compare = Callable[[Tensor, Tensor, float], Tensor]  # from teacher logits, student logits and T to an unreduced loss
GOLD_TERMS = ("ce", "gold", "mutual", "peer")  # means over the tokens with a gold label


class Batch(NamedTuple):
    """A micro-batch at its N answer tokens: M tokens of questions that the teacher answered, and G of questions with a gold label.

    Tokens are selected by index, not by a mask: the shape of an indexed tensor is known before its values, so a step can be traced.
    """

    student_logits_N_V: Tensor
    labels_N: Tensor
    pool_M: Tensor  # indices of the tokens that have a teacher's signal, in order
    gold_G: Tensor  # indices of the tokens with a gold label
    teacher_logits_M_V: Tensor | None = None
    peer_logits_N_V: Tensor | None = None
    student_features_M: Tensor | None = None  # (M, ...), as the method needs
    teacher_features_M: Tensor | None = None
    aligned: Aligned | None = None  # instead of the teacher's logits, if the student has another vocabulary
    weights_N: Tensor | None = None  # of each token in the loss, if they differ

    def pool(self, of_N: Tensor) -> Tensor:
        """The rows of `(N, ...)` at the M tokens that have a teacher's signal."""
        return of_N[self.pool_M] if len(self.gold_G) else of_N

    def gold(self, of_N: Tensor) -> Tensor:
        """The rows of `(N, ...)` at the G tokens with a gold label."""
        return of_N[self.gold_G] if len(self.pool_M) else of_N


class MicroBatch(NamedTuple):
    """Rows that go through the student together, and their positions in the loss. Tokens and positions are int64."""

    tokens_B_T: Tensor
    at_N: Tensor  # positions whose next token is in the loss, in the flattened batch: b T + t
    labels_N: Tensor  # that next token
    pool_M: Tensor  # indices of the positions that have a teacher's signal
    gold_G: Tensor  # indices of the positions with a gold label
    attend_1_1_T_T: Tensor | None = None  # an explicit causal mask; None if the model makes its own
    weights_N: Tensor | None = None  # of each position in the loss; 0 for padding of a fixed shape

    def to(self, device: torch.device) -> MicroBatch:
        """All tensors on this device."""
        return MicroBatch(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


class Signal(NamedTuple):
    """The teacher's signal at the M positions of its pool. A part that the method does not need is None."""

    logits_M_V: Tensor | None = None
    features_M: Tensor | None = None
    aligned: Aligned | None = None

    def only(self, kept_M: Tensor) -> Signal:
        """The signal at some of the positions, by index; not for `aligned`, which is not per token."""
        logits_M_V, features_M = (None if x is None else x[kept_M.to(x.device)] for x in self[:2])
        return self._replace(logits_M_V=logits_M_V, features_M=features_M)


class Knobs(NamedTuple):
    """Values that may change from step to step: numbers, or tensors of one number."""

    temperature: float
    share: Mapping[str, float]  # weight of each term in the loss
    pool_tokens: float  # tokens of the whole batch that have a teacher's signal: the divisor of a mean over them
    gold_tokens: float  # tokens of the whole batch with a gold label, likewise
    thinned: float = 1.0  # factor on both, for a fault that also counts other tokens


class Objective(NamedTuple):
    """Functions and settings that stay the same in a trace."""

    read: Callable[[Any, MicroBatch, Signal], Batch]  # the reader's forward pass
    terms: Callable[[Batch, Compare, float], Mapping[str, Tensor]]  # the method: named, unreduced loss terms
    compare: Compare
    kl_is_told: bool = False  # the term "kl" is the KL at temperature 1, so it is not computed again


def step_loss(student: Any, batch: MicroBatch, signal: Signal, knobs: Knobs, objective: Objective) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the loss of one micro-batch, a scalar in nats to back-propagate from, and its values for display (see `weigh`)."""
    return weigh(objective.read(student, batch, signal), knobs, objective)


def weigh(batch: Batch, knobs: Knobs, objective: Objective) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch after the student's forward pass, in nats per answer token.

    Each mean is divided by the tokens of the whole batch, so the losses of its micro-batches add up to the batch's loss.

    Returns the loss and detached values: "loss", the mean of each term, and "kl" to the teacher at temperature 1.
    """
    loss = torch.zeros((), device=batch.student_logits_N_V.device)
    values: dict[str, Tensor] = {}
    for name, term_N in objective.terms(batch, objective.compare, knobs.temperature).items():
        gold = name in GOLD_TERMS
        if batch.weights_N is not None:
            term_N = term_N * (batch.gold if gold else batch.pool)(batch.weights_N)
        mean = term_N.sum() / ((knobs.gold_tokens if gold else knobs.pool_tokens) * knobs.thinned)
        loss = loss + knobs.share[name] * mean
        values["ce" if name == "gold" else name] = mean.detach()
    softened = values.pop("kl", None)
    if batch.teacher_logits_M_V is not None:
        exact = softened is not None and objective.kl_is_told
        values["kl"] = softened if exact else _kl_at_one(batch) / knobs.pool_tokens  # type: ignore[assignment]
    return loss, {"loss": loss.detach(), **values}


@torch.no_grad()
def _kl_at_one(batch: Batch) -> Tensor:
    """Summed KL to the teacher at temperature 1, in nats. The KL curve shows it, whatever the loss is."""
    assert batch.teacher_logits_M_V is not None
    kl_M = forward_kl(batch.teacher_logits_M_V.log_softmax(-1), batch.pool(batch.student_logits_N_V).log_softmax(-1))
    return (kl_M if batch.weights_N is None else kl_M * batch.pool(batch.weights_N)).sum()
