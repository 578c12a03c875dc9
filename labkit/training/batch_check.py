"""The batch check: numbers about one batch before a step, which reveal most bugs of a distillation loss."""

from __future__ import annotations

import torch

from labkit.losses.batch import Batch, Compare
from labkit.models import EOS
from labkit.training.assembly import Parts
from labkit.training.batches import StepRows
from labkit.training.faults import Faults


@torch.no_grad()
def check_batch(parts: Parts, compare: Compare, step_rows: StepRows, temperature: float, faults: Faults, again: Faults) -> dict[str, float]:
    """Check one batch.

    compare: the divergence.
    temperature: of the loss.
    faults, again: the same faults in two random draws; the teacher is read with each.

    Returns numbers by name:
    - scored: tokens in the loss per answer token
    - after_end: share of the scored tokens that stand after the end token
    - own: share of the rows that the student answered
    - ends: share of the rows whose end token is in the loss

    with a teacher's signal, over the answers:
    - hits: how often its most likely token is the label; hits_before, hits_after: how often it is the label before or after that
    - entropy: of the signal, in nats per token; target: the same at the temperature of the loss
    - noise: KL between the two readings, in nats per token

    with a soft term:
    - scale: its mean, divided by the mean KL at T = 1 between the same logits
    - pull: the probability mass that its gradient moves in a student equal to the teacher; 0 for a divergence

    and for a student with another vocabulary, instead of the last two groups:
    - aimed: how often the token that the soft term raises most, from uniform logits, is the label
    """
    rows = list(range(len(step_rows.prompts)))
    batch = parts.reader.batch(step_rows, rows, faults)
    prompts, strays = faults.strays(step_rows.prompts, step_rows.answers)
    count, extra = len(batch.labels_N), sum(map(len, strays))
    behind = sum(len(stray) for prompt, stray in zip(prompts, strays, strict=True) if prompt[-1] == EOS and len(prompt) > 1)
    numbers = {
        "scored": (count + extra) / sum(map(len, step_rows.answers)),
        "after_end": behind / (count + extra),
        "own": step_rows.own / len(step_rows.prompts),
        "ends": _share(int((batch.labels_N == EOS).sum()), sum(row[-1] == EOS for row in step_rows.answers)),
    }
    if batch.aligned is not None:
        numbers["aimed"] = _aimed(parts, batch, faults.compare(compare), temperature)
    teacher = batch.teacher_logits_M_V
    if teacher is None:
        return numbers
    teacher = teacher.log_softmax(-1)
    labels, lengths = batch.pool(batch.labels_N), faults.lengths(step_rows.answers[: len(step_rows.pool_rows)])
    numbers |= {
        "hits": _hits(teacher, labels, lengths, 0),
        "hits_before": _hits(teacher, labels, lengths, -1),
        "hits_after": _hits(teacher, labels, lengths, 1),
        "entropy": _entropy(teacher),
        "target": _entropy((teacher / temperature).log_softmax(-1)),
    }
    second = parts.reader.batch(step_rows, rows, again).teacher_logits_M_V
    assert second is not None
    numbers["noise"] = float((teacher.exp() * (teacher - second.log_softmax(-1))).sum(-1).mean())
    terms = parts.method.terms(batch, faults.compare(compare), temperature)
    if "kl" in terms:
        student = batch.pool(batch.student_logits_N_V).log_softmax(-1)
        numbers["pull"] = _pull(faults.compare(compare), teacher, temperature)
        numbers["scale"] = float(terms["kl"].mean()) / max(1e-6, float((teacher.exp() * (teacher - student)).sum(-1).mean()))
    return numbers


@torch.enable_grad()
def _pull(compare: Compare, teacher_logprobs_N_V: torch.Tensor, temperature: float) -> float:
    student = teacher_logprobs_N_V.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(compare(teacher_logprobs_N_V.detach(), student, temperature).sum(), student)
    return float(gradient.abs().sum(-1).mean()) / 2


@torch.enable_grad()
def _aimed(parts: Parts, batch: Batch, compare: Compare, temperature: float) -> float:
    even = torch.zeros_like(batch.student_logits_N_V, requires_grad=True)
    terms = parts.method.terms(batch._replace(student_logits_N_V=even), compare, temperature)
    (gradient,) = torch.autograd.grad([terms[name].sum() for name in ("crossed", "hard") if name in terms], even)
    reached = gradient.abs().sum(-1) > 1e-6  # a token inside a span may have no gradient
    return float(((-gradient).argmax(-1) == batch.labels_N)[reached].float().mean())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0  # nothing can be missing


def _entropy(logprobs_N_V: torch.Tensor) -> float:
    return float(-(logprobs_N_V.exp() * logprobs_N_V).sum(-1).mean())


def _hits(teacher_logprobs_M_V: torch.Tensor, labels_M: torch.Tensor, lengths: list[int], lag: int) -> float:
    """How often the signal's most likely token is the label `lag` positions later in the same row."""
    right = total = 0
    for top, label in zip(teacher_logprobs_M_V.argmax(-1).split(lengths), labels_M.split(lengths), strict=True):
        if lag:
            top, label = (top[:-1], label[1:]) if lag > 0 else (top[1:], label[:-1])
        right, total = right + int((top == label).sum()), total + len(label)
    return right / max(1, total)
