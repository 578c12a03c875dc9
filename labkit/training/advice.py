"""What to do about a run that failed: advice on an error, and on a loss that is not finite."""

from __future__ import annotations

import torch

from labkit.base.errors import LabError, outside
from labkit.losses.batch import Compare
from labkit.models.damage import not_finite, usable
from labkit.training.assembly import Parts
from labkit.training.batches import StepRows
from labkit.training.faults import Faults

KEPT = "The last checkpoint is kept, if there was one."


def on_error(error: Exception) -> tuple[str, str]:
    """What an error says, and what to do about it."""
    if isinstance(error, LabError):
        return str(error), "Nothing that was finished is lost. Mend what the message says and run again."
    what, fix = outside(error)
    if what:
        return what, f"{fix} {KEPT}"
    fix = f"This is a fault of the lab, not yours: please report the message above. {KEPT}"
    return f"{type(error).__name__}: {error}", fix


@torch.no_grad()
def on_loss(parts: Parts, compare: Compare, step_rows: StepRows, temperature: float) -> str:
    """What to do about a loss that is not finite, or too large, for these rows.

    It looks for the cause in this order: the teacher's logits, the last good student's weights, a token that one of the two gives
    probability 0. The learning rate is to blame only if it is none of these.
    """
    for row in range(len(step_rows.prompts)):
        batch = parts.reader.batch(step_rows, [row], Faults())
        teacher_N_V, student_N_V = batch.teacher_logits_M_V, batch.pool(batch.student_logits_N_V)
        if teacher_N_V is None and batch.aligned is not None:
            teacher_N_V = batch.aligned.teacher_logits_L_V
        if teacher_N_V is not None and not usable(teacher_N_V):
            return _sentence(not_finite(parts.source, "the teacher"))
        if not usable(batch.student_logits_N_V):
            return _sentence(not_finite(parts.student, "the student"))
        if batch.teacher_logits_M_V is not None and compare(batch.teacher_logits_M_V, student_N_V, temperature).isposinf().any():
            side = "teacher" if batch.teacher_logits_M_V.isneginf().any() else "student"
            name = parts.divergence.label
            return f"The {side} gives some token probability 0, and {name} is infinite there: set divergence='jsd' or a skew divergence."
    return "The last good student was kept. Lower the learning rate, or the temperature if the loss is far above 20."


def _sentence(error: LabError) -> str:
    return f"{str(error)[0].upper()}{str(error)[1:]}"
