"""A micro-batch at its answer tokens: what a loss is worked out from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from labkit.losses.cross_tokenizer.losses import Aligned

Compare = Callable[[Tensor, Tensor, float], Tensor]  # teacher and student logits and T to an unreduced loss
CHUNK = 2**24  # logits held at a time: 64 MB in float32; smaller blocks (below glibc's 32 MB) are not given back when freed, and pile up


class Batch(NamedTuple):
    """A micro-batch at its answer tokens. `gold_N` marks tokens of questions whose true label was paid for; teacher logits
    `(M, V)` and both sides' features `(M, ...)` are there for the M other tokens only, in order (None if not asked for)."""

    student_logits_N_V: Tensor
    labels_N: Tensor
    gold_N: Tensor
    teacher_logits_M_V: Tensor | None
    peer_logits_N_V: Tensor | None = None
    student_features_M: Tensor | None = None
    teacher_features_M: Tensor | None = None
    aligned: Aligned | None = None  # instead of the teacher's logits, where the student has another vocabulary
    weights_N: Tensor | None = None  # of each token in the loss, where they are not all alike
