"""The parts of a run, put together once before its first step: teacher, student, reader, optimiser."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from transformers import LlamaForCausalLM

from labkit.losses.divergences import Divergence
from labkit.models import config_of, lora
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
    """The parts of a run. A part that the recipe does not have is None."""

    accelerator: Accelerator
    method: Method
    divergence: Divergence
    teacher: LlamaForCausalLM | None  # the model that the student is compared with
    source: LlamaForCausalLM | None  # the model that answers the questions: the teacher, or a student in its place
    pool: Signals | None  # the answers and signals of the source
    rows: Signals | CrossTokenizerPool | None  # the same in the student's tokens
    student: LanguageModel
    peer: LanguageModel | None
    reader: Reader
    learner: nn.Module  # all modules that are trained
    own_parameters: list[nn.Parameter]  # its parameters, without those of a peer
    optimiser: Any
    plain: bool  # whether at temperature 1 the soft loss equals the reported KL


def assemble(task: Task, prerequisites: Prerequisites) -> Parts:
    """Load or make all parts of a run, including the runs that must come before it.

    Raises `LabError` for a recipe that breaks a rule about its models, which can be checked only now.
    """
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
    """The teacher on a device: one made for this run, or the task's.

    On another device than the CPU it is a copy, because `labkit.teacher()` gives the same cached model to all callers.
    """
    exp = task.experiment
    if exp.teacher in MADE_TEACHERS:
        return prerequisites.successor(exp, [made_teacher_recipe(exp, task.settings)], device)
    teacher: Any = task.teacher()
    return teacher if teacher is None or device.type == "cpu" else copy.deepcopy(teacher).to(device)


def _students(task: Task, teacher: LlamaForCausalLM | None, device: torch.device) -> tuple[LanguageModel, LanguageModel | None]:
    """The untrained student, and its peer if the method has one."""
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
    config = config_of(model)
    return Size(config.hidden_size, config.num_hidden_layers, getattr(config, "num_attention_heads", 0))
