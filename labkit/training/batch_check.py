"""A look at one batch before the step: what is in the loss, and what the teacher's signal says. It finds most bugs there are."""

from __future__ import annotations

import torch

from labkit.losses.batch import Batch, Compare
from labkit.models import EOS
from labkit.training.assembly import Parts
from labkit.training.batches import StepRows
from labkit.training.faults import Faults


@torch.no_grad()
def check_batch(parts: Parts, compare: Compare, step_rows: StepRows, temperature: float, faults: Faults, again: Faults) -> dict[str, float]:
    """Numbers about one batch; `again` are the same faults, drawn anew, for a second reading of the teacher.

    scored: tokens in the loss for every answer token. after_end: share of them behind the end mark. ends: share of rows whose end
    mark is in the loss.

    With a teacher's signal, over the answers: hits (how often its first choice is the very token it wrote), hits_before and hits_after
    (the token before that, and after), entropy (of the signal, nats a token), target (its entropy at the loss's T), noise (KL between
    two readings, nats a token).

    With a soft term: scale (its mean, in mean KLs at T = 1 between the same logits) and pull (the mass by which its gradient would move a
    student equal to the teacher: 0 for a divergence).

    Across vocabularies, instead of these: aimed (how often the token that the soft term raises most, from an even start, is the one that
    stands there in the student's row).
    """
    rows = list(range(len(step_rows.prompts)))
    batch = parts.reader.batch(step_rows, rows, faults)  # own: the share of the answers that the student wrote
    prompts, strays = faults.strays(step_rows.prompts, step_rows.answers)
    count, extra = len(batch.labels_N), sum(map(len, strays))
    behind = sum(len(stray) for prompt, stray in zip(prompts, strays, strict=True) if prompt[-1] == EOS and len(prompt) > 1)
    found = {
        "scored": (count + extra) / sum(map(len, step_rows.answers)),
        "after_end": behind / (count + extra),
        "own": step_rows.own / len(step_rows.prompts),
        "ends": _share(int((batch.labels_N == EOS).sum()), sum(row[-1] == EOS for row in step_rows.answers)),
    }
    if batch.aligned is not None:
        found["aimed"] = _aimed(parts, batch, faults.compare(compare), temperature)
    teacher = batch.teacher_logits_M_V
    if teacher is None:
        return found
    teacher = teacher.log_softmax(-1)
    labels, lengths = batch.pool(batch.labels_N), faults.lengths(step_rows.answers[: len(step_rows.pool_rows)])
    found |= {
        "hits": _hits(teacher, labels, lengths, 0),
        "hits_before": _hits(teacher, labels, lengths, -1),
        "hits_after": _hits(teacher, labels, lengths, 1),
        "entropy": _entropy(teacher),
        "target": _entropy((teacher / temperature).log_softmax(-1)),
    }
    second = parts.reader.batch(step_rows, rows, again).teacher_logits_M_V
    assert second is not None
    found["noise"] = float((teacher.exp() * (teacher - second.log_softmax(-1))).sum(-1).mean())
    terms = parts.method.terms(batch, faults.compare(compare), temperature)
    if "kl" in terms:
        student = batch.pool(batch.student_logits_N_V).log_softmax(-1)
        found["pull"] = _pull(faults.compare(compare), teacher, temperature)
        found["scale"] = float(terms["kl"].mean()) / max(1e-6, float((teacher.exp() * (teacher - student)).sum(-1).mean()))
    return found


@torch.enable_grad()
def _pull(compare: Compare, teacher_logprobs_N_V: torch.Tensor, temperature: float) -> float:
    own = teacher_logprobs_N_V.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(compare(teacher_logprobs_N_V.detach(), own, temperature).sum(), own)
    return float(gradient.abs().sum(-1).mean()) / 2


@torch.enable_grad()
def _aimed(parts: Parts, batch: Batch, compare: Compare, temperature: float) -> float:
    even = torch.zeros_like(batch.student_logits_N_V, requires_grad=True)
    terms = parts.method.terms(batch._replace(student_logits_N_V=even), compare, temperature)
    (gradient,) = torch.autograd.grad([terms[name].sum() for name in ("crossed", "hard") if name in terms], even)
    told = gradient.abs().sum(-1) > 1e-6  # a token inside a span may be told nothing
    return float(((-gradient).argmax(-1) == batch.labels_N)[told].float().mean())


def _share(some: int, of: int) -> float:
    return some / of if of else 1.0  # nothing that could be missing


def _entropy(logprobs_N_V: torch.Tensor) -> float:
    return float(-(logprobs_N_V.exp() * logprobs_N_V).sum(-1).mean())


def _hits(teacher_logprobs_M_V: torch.Tensor, labels_M: torch.Tensor, lengths: list[int], lag: int) -> float:
    """How often the signal's first choice is the label `lag` positions on, within each row."""
    right = total = 0
    for said, wanted in zip(teacher_logprobs_M_V.argmax(-1).split(lengths), labels_M.split(lengths), strict=True):
        if lag:
            said, wanted = (said[:-1], wanted[1:]) if lag > 0 else (said[1:], wanted[:-1])
        right, total = right + int((said == wanted).sum()), total + len(wanted)
    return right / max(1, total)
