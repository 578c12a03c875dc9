"""Failures that are bugs between the teacher's signal and the loss. One batch check finds nearly all of them."""

from __future__ import annotations

import math

from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures.registry import (
    core_lost,
    failure,
    shrunk,
    with_fault,
    without_fault,
)


@failure(
    "swapped_roles",
    "Teacher and student swapped",
    provoke=with_fault("swapped_roles"),
    cure=without_fault("swapped_roles"),
    remedy="Give the student to the optimiser and to the side of the loss that has a gradient.",
    needs=("soft labels alone", "soft labels"),
    symptom=core_lost,
    unit="1 minus the mean core skill",
    procedure=(
        "Look at the gradient's norm at the first steps: is it 0?",
        "Does the KL move at all?",
        "Which model's weights does the optimiser hold?",
    ),
    cited="keras-team/keras-io issue 257: the two were assigned to each other's names",
)
def swapped_roles(seen: Evidence) -> str:
    if seen.training.get("grad_norm", math.nan) < 1e-6:
        return "no gradient reaches the student at any step: the loss does not depend on what is trained."
    return ""


@failure(
    "shifted_labels",
    "Signal shifted by one token",
    provoke=with_fault("shifted_labels"),
    cure=without_fault("shifted_labels"),
    remedy="Compare position by position: the logits at token t speak of token t + 1 on both sides.",
    needs=("soft labels",),
    symptom=core_lost,
    unit="1 minus the mean core skill",
    procedure=(
        "Compare the teacher's first choice with the token it wrote, at the same position and at the next one.",
        "Shift by one, and count again.",
    ),
    cited="WrinkleFree issue 13: teacher and student off by one position",
)
def shifted_labels(seen: Evidence) -> str:
    if seen.read("hits") < 0.5 and seen.read("hits_after") > 0.7:
        return (
            f"the teacher's first choice is the token it wrote {seen.read('hits'):.0%} of the time, and the next token "
            f"{seen.read('hits_after'):.0%} of the time: the signal is one position ahead."
        )
    return ""


@failure(
    "shuffled_cache",
    "Cached signal in another order",
    provoke=with_fault("shuffled_cache"),
    cure=without_fault("shuffled_cache"),
    remedy="Key what is cached by the text itself, never by its place in a batch.",
    needs=("soft labels",),
    symptom=core_lost,
    unit="1 minus the mean core skill",
    procedure=("Take one row: is the signal's first choice the answer in that row?", "Count over a batch how often it is."),
    cited="haitongli/knowledge-distillation-pytorch issues 4 and 9, fixed in pull request 17",
)
def shuffled_cache(seen: Evidence) -> str:
    if seen.read("hits") < 0.5 and seen.read("hits_after") <= 0.7 and not seen.on_policy:
        return (
            f"the teacher's first choice is the token it wrote only {seen.read('hits'):.0%} of the time: the signal belongs to other rows."
        )
    return ""


@failure(
    "teacher_dropout",
    "Teacher in training mode",
    provoke=with_fault("teacher_dropout"),
    cure=without_fault("teacher_dropout"),
    remedy="Put the teacher in evaluation mode, after every call that may have switched it back.",
    needs=("soft labels",),
    symptom=lambda seen: seen.read("noise"),
    unit="nats a token between two passes over one batch",
    procedure=("Run the teacher twice on the same batch: are the logits bit-identical?",),
    cited="TaCL issue 11: the teacher was left in train mode",
)
def teacher_dropout(seen: Evidence) -> str:
    if seen.read("noise") > 1e-3:
        return (
            f"two passes of the teacher over the same batch differ by {seen.read('noise'):.2f} nats a token: it is not in evaluation mode."
        )
    return ""


@failure(
    "padding_loss",
    "Loss on padding",
    provoke=with_fault("padding_loss"),
    cure=without_fault("padding_loss"),
    remedy="Mask what stands behind the end mark, and divide by what is left.",
    symptom=lambda seen: seen.read("after_end"),
    unit="share of the tokens in the loss that come after the end mark",
    procedure=("Decode the tokens the loss reads, for one short row.", "Count those after the end mark."),
    cited="optipfair issue 34; Fast-LLM issue 344",
)
def padding_loss(seen: Evidence) -> str:
    if seen.read("after_end") > 0.02:
        return f"{seen.read('after_end'):.0%} of the tokens in the loss come after the end mark of their row."
    return ""


@failure(
    "prompt_loss",
    "Loss on the prompt",
    provoke=with_fault("prompt_loss"),
    cure=without_fault("prompt_loss"),
    remedy="Mask the prompt: the student is to answer questions, and need not ask them.",
    symptom=lambda seen: seen.read("scored") * (1 - seen.read("after_end")) - 1,
    unit="tokens in the loss outside the answer, for each answer token",
    procedure=(
        "Decode the tokens the loss reads, for one row: is the question among them?",
        "Divide their number by the number of answer tokens.",
    ),
    cited="huggingface/trl pull request 445, which added a collator that masks the prompt",
)
def prompt_loss(seen: Evidence) -> str:
    before = seen.read("scored") * (1 - seen.read("after_end"))
    if before > 1.2:
        return f"the loss reads {before:.1f} tokens for each answer token: the questions are in it."
    return ""


@failure(
    "missing_end",
    "End mark left out of the loss",
    provoke=with_fault("missing_end"),
    cure=without_fault("missing_end"),
    remedy="Let the end mark be a label; where it doubles as padding, mask by position and not by token.",
    symptom=lambda seen: seen.exam.habits.get("unended", math.nan),
    unit="share of answers without an end mark",
    procedure=("Read some answers in full: do they stop?", "Is the end mark among the labels, or masked with the padding?"),
    cited="tatsu-lab/stanford_alpaca issue 126; huggingface/trl issue 1623",
)
def missing_end(seen: Evidence) -> str:
    unended = seen.exam.habits.get("unended", math.nan)
    if seen.read("ends") < 0.5 and not seen.on_policy:
        return f"{unended:.0%} of the answers do not stop, and only {seen.read('ends'):.0%} of the end marks are in the loss."
    return ""


@failure(
    "mean_over_vocabulary",
    "Averaged over the vocabulary",
    provoke=with_fault("mean_over_vocabulary"),
    cure=without_fault("mean_over_vocabulary"),
    remedy="Sum a KL over the vocabulary and average over tokens; in PyTorch reduction='batchmean', and mind the time axis.",
    needs=("mix", "soft labels"),
    symptom=shrunk,
    unit="powers of ten by which the soft term is smaller than a KL",
    procedure=("Work out one token's KL by hand, as a sum over the vocabulary.", "Divide the printed soft term by it."),
    cited="facebookresearch/deit issue 61; HikariTJU/LD issue 74",
)
def mean_over_vocabulary(seen: Evidence) -> str:
    if seen.read("scale") < 0.01:
        times = 1 / max(1e-9, seen.read("scale"))
        return f"the soft term is {times:,.0f} times smaller than a KL: it was averaged over the vocabulary, not summed."
    return ""


@failure(
    "missing_t2",
    "T squared missing",
    provoke=with_fault("missing_t2"),
    cure=without_fault("missing_t2"),
    remedy="Multiply the soft term by T squared where it is mixed with a hard one, so that its gradient keeps its size.",
    needs=("heat", "mix", "soft labels"),
    symptom=shrunk,
    unit="powers of ten by which the soft term is smaller than a KL",
    procedure=("Is the target softened?", "If so, is the soft term smaller than at T = 1 by about T squared?"),
    cited="IntelLabs/distiller issue 122; keras-io issue 869",
)
def missing_t2(seen: Evidence) -> str:
    if 0.01 <= seen.read("scale") < 0.9 and seen.read("target") > 1.5 * seen.read("entropy"):
        return f"the target is softened, yet the soft term is only {seen.read('scale'):.2f} of a KL at T = 1: T squared is missing."
    return ""


@failure(
    "overconfident_teacher",
    "Over-confident teacher",
    provoke=with_fault("overconfident_teacher"),
    cure=without_fault("overconfident_teacher"),
    remedy="Use a calibrated teacher, or soften this one until its confidence is the share it gets right.",
    needs=("soft labels",),
    symptom=lambda seen: seen.exam.fidelity.get("teacher_entropy", math.nan) - seen.entropy,
    unit="nats a token by which the signal's entropy is below the teacher's",
    procedure=("Measure the signal's entropy on questions with many right answers.", "Compare it with the teacher's entropy on the exam."),
    cited="Guo et al. 2017, arXiv 1706.04599; label smoothing looks opposite and has the same effect, Müller et al. 2019, arXiv 1906.02629",
)
def overconfident_teacher(seen: Evidence) -> str:
    teacher = seen.exam.fidelity.get("teacher_entropy", math.nan)
    if seen.entropy < 0.9 * teacher and seen.read("hits") >= 0.5:
        return f"the signal has {seen.entropy:.3f} nats of entropy a token, and the teacher {teacher:.3f}: the signal is too sharp."
    return ""
