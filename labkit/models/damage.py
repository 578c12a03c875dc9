"""Models whose logits are not finite: how it is noticed, and the error that names the model and its damaged weight."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from labkit.base.errors import LabError


def usable(logits_N_V: Tensor) -> bool:
    """Whether each row is a distribution: no NaN, no +inf, and not -inf alone. A single -inf is probability 0."""
    return bool(logits_N_V.amax(-1).isfinite().all())


def refuse_damaged(teacher: Any, logprobs: Iterable[float]) -> None:
    """Check what a teacher has written, before it is kept or scored.

    logprobs: log-probabilities of its tokens or of its answers, which no finite logits make NaN or infinite.

    Raises `LabError` for a teacher whose logits are not finite.
    """
    if not all(map(math.isfinite, logprobs)):
        raise not_finite(teacher, "the teacher")


def not_finite(model: Any, role: str) -> LabError:
    """The error for a model whose logits are not finite.

    role: "the teacher" or "the student".
    """
    name = getattr(model, "name_or_path", "") or role
    broken = [part for part, weight in model.named_parameters() if not bool(weight.isfinite().all())]
    if broken:
        return LabError(
            f"{role}'s logits are not finite: its weights are damaged, as {broken[0]} has NaN or infinity. Fetch or save {name} again."
        )
    return LabError(f"{role}'s logits are not finite, though its weights are: it overflows in 16 bits. Use another model than {name}.")
