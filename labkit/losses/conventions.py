"""Conventions: what libraries compute under the name of "the KL loss", and the effect of known bugs.

    for report in loss_reports(teacher_logits_B_T_V, student_logits_B_T_V, is_answer_B_T, temperature=2.0):
        print(report.name, report.value, report.at_match, report.gradient_ratio, report.cosine)

Each convention is a decorated function that returns one number, so its gradient can be compared with that of the reference: KL(teacher ||
student) at temperature T, times T squared, summed over answer tokens and divided once by their number. A *definition* is a deliberate
choice; a *bug* was reported, or can be seen in the code of a published version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from labkit.base.errors import LabError
from labkit.base.registry import Registry
from labkit.losses.divergences import divergence, forward_kl

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor", "Tensor", float], "Tensor"]
PADDED = 128  # rows that a vocabulary is padded by, as for a multiple of 128


class Convention(NamedTuple):
    """One way to compute the loss."""

    name: str
    kind: str  # "reference", "definition" or "bug"
    used_by: str
    source: str
    symptom: str  # how it can be noticed
    loss: Loss  # from teacher logits, student logits, answer mask and T to a scalar
    against: str = "the lab's"  # the convention that its gradient is compared with


class LossReport(NamedTuple):
    """The loss and gradient of one convention on given logits."""

    name: str
    value: float  # the loss
    at_match: float  # the loss of a student equal to its teacher
    gradient_ratio: float  # norm of the gradient by the student's logits, divided by that of the convention it is compared with
    cosine: float  # cosine between these two gradients
    per_token_B_T: Tensor  # norm of the gradient at each position


CONVENTIONS = Registry("convention", Convention, "loss")
register = CONVENTIONS.register


def loss_reports(
    teacher_logits_B_T_V: Tensor, student_logits_B_T_V: Tensor, is_answer_B_T: Tensor, temperature: float = 1.0
) -> list[LossReport]:
    """All conventions on the same logits.

    is_answer_B_T: True at the positions whose next token belongs to an answer.

    Raises `LabError` for shapes that do not agree, or a mask without an answer token.
    """
    return [loss_report(name, teacher_logits_B_T_V, student_logits_B_T_V, is_answer_B_T, temperature) for name in CONVENTIONS]


def loss_report(name: str, teacher_B_T_V: Tensor, student_B_T_V: Tensor, is_answer_B_T: Tensor, temperature: float) -> LossReport:
    """The report of one convention (see `loss_reports`)."""
    convention = CONVENTIONS[name]
    _check(teacher_B_T_V, student_B_T_V, is_answer_B_T, temperature)
    value, gradient = _value_and_gradient(convention.loss, teacher_B_T_V, student_B_T_V, is_answer_B_T, temperature)
    _, right = _value_and_gradient(CONVENTIONS[convention.against].loss, teacher_B_T_V, student_B_T_V, is_answer_B_T, temperature)
    at_match = float(convention.loss(teacher_B_T_V, teacher_B_T_V, is_answer_B_T, temperature))
    ratio = float(gradient.norm() / right.norm())
    cosine = float((gradient * right).sum() / (gradient.norm() * right.norm()))
    return LossReport(name, value, at_match, ratio, cosine, gradient.norm(dim=-1))


def _check(teacher: Tensor, student: Tensor, mask: Tensor, temperature: float) -> None:
    if teacher.ndim != 3 or teacher.shape != student.shape or teacher.shape[:2] != mask.shape:
        shapes = [tuple(x.shape) for x in (teacher, student, mask)]
        raise LabError(f"logits {shapes[0]} and {shapes[1]} and the mask {shapes[2]} must be (B, T, V), (B, T, V) and (B, T).")
    if str(mask.dtype) != "torch.bool":
        raise LabError(f"the mask has dtype {mask.dtype}, which would select rows by number: give True or False, as in mask.bool().")
    if not bool(mask.any()):
        raise LabError("the mask marks no answer token: set True where the next token belongs to an answer.")
    if not 0 < temperature < float("inf"):
        raise LabError(f"temperature={temperature:g} must be a number above 0.")
    if not (teacher.is_floating_point() and student.is_floating_point()):
        raise LabError(f"the logits have dtypes {teacher.dtype} and {student.dtype}: give floating-point logits, as a model does.")


def _value_and_gradient(loss: Loss, teacher: Tensor, student: Tensor, mask: Tensor, temperature: float) -> tuple[float, Tensor]:
    """The loss, and its gradient by the student's logits; nothing is trained."""
    import torch

    logits = student.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = loss(teacher.detach(), logits, mask, temperature)
        (gradient,) = torch.autograd.grad(value, logits)
    return float(value.detach()), gradient


def _kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    return forward_kl((teacher / temperature).log_softmax(-1), (student / temperature).log_softmax(-1))


# ---- definitions -------------------------------------------------------------------------------------------------------------------


@register(
    "the lab's",
    kind="reference",
    used_by="this lab, DistillKit, torchdistill with a hard-label term",
    source="Hinton, Vinyals & Dean 2015, arXiv 1503.02531",
    symptom="0 when student and teacher agree; nats per answer token; for large T the gradient no longer depends on it",
)
def _reference(teacher, student, mask, temperature):
    return temperature**2 * _kl(teacher, student, temperature)[mask].mean()


@register(
    "without T squared",
    kind="definition",
    used_by="the losses of TRL's GKDTrainer and DistillationTrainer, Model-Optimizer's Megatron class",
    source="trl/experimental/gkd; trl/trainer/distillation_trainer.py; modelopt/torch/distill/plugins/megatron.py",
    symptom="the gradient shrinks as T grows: beside a hard-label term the soft one fades; alone, under Adam, nothing changes",
)
def _unscaled(teacher, student, mask, temperature):
    return _kl(teacher, student, temperature)[mask].mean()


@register(
    "cross-entropy",
    kind="definition",
    used_by="torchtune, MiniLLM's fine-tuning, DistiLLM",
    source="torchtune/modules/loss/kd_losses.py; LMOps minillm/finetune.py",
    symptom="the same gradient, but the value never falls below the teacher's own entropy",
)
def _cross_entropy(teacher, student, mask, temperature):
    teacher, student = teacher / temperature, student / temperature
    return temperature**2 * -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)[mask].mean()


@register(
    "mean of row means",
    kind="definition",
    used_by="per-sequence losses; micro-batch means under gradient accumulation",
    source="distillkit/trainer.py",
    symptom="a token of a short answer weighs more than one of a long answer, and the size of the micro-batch matters",
)
def _row_means(teacher, student, mask, temperature):
    kl = _kl(teacher, student, temperature) * mask
    scored = mask.any(1)
    return temperature**2 * (kl.sum(1)[scored] / mask.sum(1)[scored]).mean()


@register(
    "per row",
    kind="definition",
    used_by="sums over a row's tokens divided by the batch size, as reduction='batchmean' does after masking",
    source="PyTorch, KLDivLoss, reduction='batchmean'",
    symptom="larger by the answer tokens per row: the same learning rate has another effect when answers are longer",
)
def _per_row(teacher, student, mask, temperature):
    return temperature**2 * _kl(teacher, student, temperature)[mask].sum() / len(mask)


@register(
    "mean over the vocabulary too",
    kind="definition",
    used_by="reduction='mean' in PyTorch's KLDivLoss; Model-Optimizer's default",
    source="modelopt/torch/distill/losses.py (some versions say batchmean)",
    symptom="smaller by the size of the vocabulary, so that it vanishes beside any other term",
)
def _over_vocabulary(teacher, student, mask, temperature):
    return _reference(teacher, student, mask, temperature) / teacher.shape[-1]


# ---- bugs --------------------------------------------------------------------------------------------------------------------------


@register(
    "temperature ignored",
    kind="bug",
    used_by="TRL's GKDTrainer: its temperature is for sampling only, the loss is computed at 1",
    source="trl/experimental/gkd/gkd_trainer.py",
    symptom="the loss does not change with T",
    against="without T squared",
)
def _ignored(teacher, student, mask, temperature):
    return _kl(teacher, student, 1.0)[mask].mean()


@register(
    "mask not shifted",
    kind="bug",
    used_by="a mask made for labels, applied to logits that predict the next token",
    source="distillkit/trainer.py, as its code shows",
    symptom="the first answer token is never trained, and one position after the end is",
)
def _not_shifted(teacher, student, mask, temperature):
    late = mask.roll(1, dims=1)
    late[:, 0] = False
    return _reference(teacher, student, late, temperature)


@register(
    "prompt and padding scored",
    kind="bug",
    used_by="losses without a mask, such as TextBrewer's mean over positions",
    source="textbrewer/losses.py",
    symptom="most of the gradient lies on tokens of prompts and padding; worse for longer prompts and more padding",
)
def _unmasked(teacher, student, mask, temperature):
    return temperature**2 * _kl(teacher, student, temperature).mean()


@register(
    "divided twice",
    kind="bug",
    used_by="EasyDistill 1.0",
    source="modelscope/easydistill issues 34 and 37",
    symptom="the soft loss is 100 to 1,000 times smaller than the hard one: the teacher has no effect",
)
def _twice(teacher, student, mask, temperature):
    return _reference(teacher, student, mask, temperature) / mask.sum()


@register(
    "softmax over positions",
    kind="bug",
    used_by="a loss written for (N, classes), given (B, T, V): torchdistill's softmax runs over axis 1",
    source="torchdistill/losses/mid_level.py",
    symptom="the value falls in training, but the softmax of each token is over the text's positions, not over the other tokens",
)
def _over_positions(teacher, student, mask, temperature):
    log_p, log_q = ((x / temperature).log_softmax(1) for x in (teacher, student))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)[mask].mean()


@register(
    "vocabulary padded with zeros",
    kind="bug",
    used_by="students and teachers whose vocabularies are padded to different sizes, the shorter one filled with logit 0",
    source="liger_kernel/chunked_loss; Qwen2.5 has 151,936 and 152,064 rows with one tokenizer",
    symptom="logit 0 has a probability above 0, so the loss of a perfect student is above 0. Truncate both instead",
)
def _zero_padded(teacher, student, mask, temperature):
    import torch.nn.functional as F

    wide_teacher, wide_student = F.pad(teacher, (0, PADDED), value=-1e4), F.pad(student, (0, PADDED), value=0.0)
    return _reference(wide_teacher, wide_student, mask, temperature)


@register(
    "JSD, as in the paper",
    kind="reference",
    used_by="TRL, Liger, this lab's jsd",
    source="Agarwal et al. 2023 (GKD), arXiv 2306.13649",
    symptom="never above log 2 nats at beta 0.5",
    against="JSD, as in the paper",
)
def _jsd(teacher, student, mask, temperature):
    return temperature**2 * divergence("jsd", beta=0.5)(teacher, student, temperature)[mask].mean()


@register(
    "JSD of averaged log-probabilities",
    kind="bug",
    used_by="TRL's GKDTrainer until October 2024",
    source="huggingface/trl issue 2202, fixed in pull request 2204",
    symptom="log-probabilities are mixed instead of probabilities: the value exceeds the bound of log 2",
    against="JSD, as in the paper",
)
def _geometric(teacher, student, mask, temperature):
    log_p, log_q = ((x / temperature).log_softmax(-1) for x in (teacher, student))
    mixed = 0.5 * log_p + 0.5 * log_q
    return temperature**2 * (0.5 * forward_kl(log_p, mixed) + 0.5 * forward_kl(log_q, mixed))[mask].mean()
