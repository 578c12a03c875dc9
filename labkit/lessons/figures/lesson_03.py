"""Figures of lesson 03: the pull of each divergence, both directions, the ends of JSD, conventions, and what stands for the tail."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from labkit.base.stats import band
from labkit.lessons.figures.tables import Table
from labkit.studies.claims import STARTS, runs_of
from labkit.studies.sweep import sweep
from labkit.views import figures

if TYPE_CHECKING:
    from torch import Tensor

    from labkit.losses.divergences import Divergence

SHOWN = ("forward_kl", "reverse_kl", "jsd", "skew_forward_kl", "skew_reverse_kl", "total_variation", "acceptance")
BETAS = (0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)


@functools.cache
def _logits() -> dict[str, Tensor]:
    """Logits at the answer tokens of one batch, by model: the teacher, a fresh student, and a half-trained one."""
    import torch

    import labkit

    models = {"teacher": labkit.teacher("atlas-3m"), "fresh": labkit.student("200k"), "half-trained": labkit.teacher("atlas-3m-early")}
    tokens, is_answer, _ = labkit.first_batch()
    with torch.no_grad():
        return {name: model(tokens).logits[is_answer] for name, model in models.items()}


def pull(divergence: Divergence, teacher_logits: Tensor, student_logits: Tensor) -> float:
    """How strongly a divergence pushes up the student's logit of the teacher's first choice, mean over the answer tokens.

    divergence: as `labkit.divergence` gives it.
    teacher_logits, student_logits: `(N, V)`.
    """
    import torch

    logits = student_logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(divergence(teacher_logits, logits).sum(), logits)
    return float(-slope.gather(1, teacher_logits.argmax(-1, keepdim=True)).mean())


def pulls() -> figures.Drawing:
    """The pull of seven divergences towards the teacher's first choice, for a fresh and for a half-trained student."""
    import labkit

    logits = _logits()
    found = {
        role: [pull(labkit.divergence(name), logits["teacher"], logits[who]) for name in SHOWN]
        for role, who in (("ghost", "fresh"), ("student", "half-trained"))
    }
    note = "push on its logit, mean over answer tokens; upper bars (grey): a fresh student, lower bars: a half-trained one"
    return figures.bars("Pull towards the teacher's first choice", note, [labkit.divergence(n).label for n in SHOWN], found)


def directions() -> Table:
    """Open questions, after training in either direction from either start."""
    grid, rows = sweep("temperature"), []
    for start in STARTS:
        for name, said in (("forward_kl", "forward KL"), ("reverse_kl", "reverse KL")):
            runs = runs_of(grid, "57k", start=start, temperature=1.0, divergence=name)
            recovered = band([r.recovery().mean for r in runs])
            found = [sum(r.exam.open[key] for r in runs) / len(runs) for key in ("validity", "coverage")]
            rows.append([f"{start} start, {said}", recovered.middle, f"{recovered.low:.2f} to {recovered.high:.2f}", *found])
    return Table(["57k student", "recovery", "95% band", "open questions: mass on right answers", "share of them found"], rows)


def jsd_ends() -> Table:
    """The Jensen-Shannon divergence of one batch by its weight beta."""
    import labkit

    logits = _logits()
    rows = []
    for beta in BETAS:
        value = labkit.divergence("jsd", beta=beta)(logits["teacher"], logits["half-trained"]).mean().item()
        plain = {0.0: "forward KL", 1.0: "reverse KL"}.get(beta, "")
        rows.append([f"{beta:g}", value, plain])
    return Table(["beta", "JSD, nats an answer token", "by definition"], rows, digits=4)


def conventions(temperature: float = 3.0) -> Table:
    """What each convention does with the same logits: its kind, the direction of its gradient, and a perfect student's loss."""
    from labkit.losses.conventions import CONVENTIONS, loss_reports
    from labkit.views.lenses.loss import LossLens

    lens = LossLens()
    rows = []
    for found in loss_reports(lens.teacher_logits, lens.student_logits, lens.rows.mask_B_T, temperature):
        entry = CONVENTIONS[found.name]
        aim = "same" if found.cosine > 0.999 else "another"
        floor = "0" if found.at_match < 1e-4 else f"{found.at_match:.2f}"
        rows.append([found.name, entry.kind, entry.against, aim, f"{found.gradient_ratio:.3g}", floor])
    return Table(["convention", "kind", "compared with", "gradient's direction", "gradient's size", "loss of a perfect student"], rows)


def tails(k: int = 4) -> Table:
    """The five rules for what the teacher does not tell beyond its top k: the loss of a half-trained and of a perfect student."""
    from labkit.losses.divergences import TAILS, divergence, top_k

    logits, kl = _logits(), divergence("forward_kl")
    rows = [["all tokens", *(kl(logits["teacher"], logits[who]).mean().item() for who in ("half-trained", "teacher")), "the whole KL"]]
    for name, tail in TAILS.items():
        found = [top_k(kl, logits["teacher"], logits[who], k, name, 1.0).mean().item() for who in ("half-trained", "teacher")]
        rows.append([name, *found, tail.effect])
    return Table([f"rule beyond the top {k}", "half-trained student", "perfect student", "effect"], rows, digits=4)
