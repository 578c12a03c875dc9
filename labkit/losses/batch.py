"""A micro-batch at its answer tokens: what a loss is worked out from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from labkit.losses.cross_tokenizer.losses import Aligned

Compare = Callable[[Tensor, Tensor, float], Tensor]  # teacher and student logits and T to an unreduced loss


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
