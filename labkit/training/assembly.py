"""What a run is made of, put together once before its first step: who teaches, who learns, what is read, what is optimised."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from transformers import LlamaForCausalLM

from labkit.losses.divergences import Divergence
from labkit.models import lora
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads
from labkit.models.layers import copy_layers
from labkit.records.experiment import Experiment
from labkit.records.names import MADE_TEACHERS, Size
from labkit.records.rules import refuse
from labkit.teachers.cross_tokenizer_pool import CrossTokenizerPool
from labkit.teachers.signals import Signals
from labkit.training.methods import Method, divergence_of, method
from labkit.training.prerequisites import Prerequisites, earlier, made_teacher_recipe
from labkit.training.readers import Reader, reader_of
from labkit.training.setup import Task

PEER = 1_000_000  # added to a seed for the second student of a mutual run


class Parts(NamedTuple):
    """What a run works with. None where a recipe has no such thing."""

    accelerator: Accelerator
    method: Method
    divergence: Divergence
    teacher: LlamaForCausalLM | None  # whom the student is compared with
    source: LlamaForCausalLM | None  # who answers the questions: the teacher, or a student in its place
    pool: Signals | None  # what the source says to the questions
    rows: Signals | CrossTokenizerPool | None  # the same in the student's tokens
    student: LanguageModel
    peer: LanguageModel | None
    reader: Reader
    learner: nn.Module  # all that is trained
    own_parameters: list[nn.Parameter]  # the same, a peer left out
    optimiser: Any
    plain: bool  # whether at temperature 1 the loss is the very KL that is told


def assemble(task: Task, prerequisites: Prerequisites) -> Parts:
    """Load and make everything, the runs that come before this one included. Raises `LabError` for a recipe that breaks a rule about
    models that are loaded now."""
    exp, how = task.experiment, method(task.experiment.method)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    teacher = _teacher(task, prerequisites, accelerator.device)
    student, peer = _students(task, teacher, accelerator.device)
    before = earlier(exp)
    source = prerequisites.successor(exp, before, accelerator.device) if before else teacher
    pool = task.pool(source) if (how.needs_signal or isinstance(student, Heads)) and source is not None else None
    rows = CrossTokenizerPool(pool, exp.vocabulary, exp.across) if pool and exp.vocabulary != "atlas" else pool
    reader = reader_of(exp, how, student, rows, peer, task.settings)
    learner = nn.ModuleDict({"student": student, **reader.learns})
    optimiser = torch.optim.AdamW(learner.parameters(), exp.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    return Parts(
        accelerator,
        how,
        divergence_of(exp),
        teacher,
        source,
        pool,
        rows,
        student,
        peer,
        reader,
        learner,
        [p for name, p in learner.named_parameters() if not name.startswith("peer.")],
        accelerator.prepare(optimiser),
        plain=exp.divergence == "forward_kl" and not exp.top_k,
    )


def _teacher(task: Task, prerequisites: Prerequisites, device: torch.device) -> LlamaForCausalLM | None:
    """The teacher on a device: one that is made for the run, or the subject's own. A copy where that is not the CPU, since
    `labkit.teacher()` hands the cached one to everybody."""
    exp = task.experiment
    if exp.teacher in MADE_TEACHERS:
        return prerequisites.successor(exp, [made_teacher_recipe(exp, task.settings)], device)
    teacher: Any = task.teacher()
    return teacher if teacher is None or device.type == "cpu" else copy.deepcopy(teacher).to(device)


def _students(task: Task, teacher: LlamaForCausalLM | None, device: torch.device) -> tuple[LanguageModel, LanguageModel | None]:
    """The student as it is before any training, and its peer if it has one."""
    exp: Experiment = task.experiment
    student = task.student(exp.seed, teacher).to(device)
    if not isinstance(student, Heads):
        refuse(exp, own=_size(student), **({"theirs": _size(teacher)} if teacher is not None else {}))
    peer = task.student(exp.seed + PEER).to(device) if method(exp.method).peer else None
    if exp.start == "copied" and teacher is not None:
        copy_layers(student, teacher)
    if exp.adapter:
        lora.add(student, exp.adapter, exp.seed)
    return student, peer


def _size(model: LanguageModel) -> Size:
    return Size(model.config.hidden_size, model.config.num_hidden_layers, model.config.num_attention_heads)
