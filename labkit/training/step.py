"""The gradient of one step and its learning rate: read the batch, weight its loss terms, back-propagate through the student.

`gradients` is the only function that calls `backward()`. The training loop in `training/loop.py` calls it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from labkit import models
from labkit.losses.batch import Compare, Knobs, Objective
from labkit.records.record import TERMS
from labkit.training.assembly import Parts
from labkit.training.batches import StepRows
from labkit.training.faults import Faults, stray_loss
from labkit.training.methods import weights
from labkit.training.readers import Reader

WARMUP = 30  # steps


def gradients(parts: Parts, compare: Compare, step_rows: StepRows, knobs: Mapping[str, Any], faults: Faults) -> dict[str, float]:
    """Add d loss / d parameter of the whole batch to `.grad` of all trained parameters.

    Each term is divided by the number of answer tokens of the whole batch, so the result does not depend on micro-batches or processes. The
    exceptions are losses that compare tokens with one another, and what is random: sampled tails, and a teacher with dropout.

    Returns the loss and its terms, in nats per answer token.
    """
    accelerator, reader, temperature = parts.accelerator, parts.reader, knobs["temperature"]
    parts.learner.train()
    objective = Objective(reader.read, parts.method.terms, faults.compare(compare), parts.plain and not faults and temperature == 1)
    pool_tokens, gold_tokens = reader.tokens(step_rows, faults)
    strays = list(zip(*faults.strays(step_rows.prompts, step_rows.answers), strict=True))
    thinned = 1 + sum(len(labels) for _, labels in strays) / (pool_tokens + gold_tokens)  # the mean is also over the strays
    numbers = Knobs(temperature, weights(knobs["mix"], knobs["feature"]), pool_tokens, gold_tokens, thinned)
    mine = range(accelerator.process_index, len(step_rows.prompts), accelerator.num_processes)
    sums: dict[str, Tensor] = {}

    def losses() -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        for rows in reader.passes([(len(step_rows.prompts[i]), len(step_rows.answers[i])) for i in mine]):
            yield from reader.losses(step_rows, [mine[i] for i in rows], faults, numbers, objective)
        yield from _of_strays(reader, [strays[i] for i in mine if i < len(strays)], numbers)

    for loss, values in losses():
        accelerator.backward(loss)
        sums |= {name: sums.get(name, 0.0) + value for name, value in values.items()}
    if accelerator.num_processes > 1:
        sums = _sum_of_processes(accelerator, parts.learner, sums)
    return {name: float(sums[name]) for name in TERMS if name in sums}


def _of_strays(reader: Reader, strays: Sequence[tuple[list[int], list[int]]], knobs: Knobs) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The loss of the rows (prompt, labels) that a fault wrongly adds to the answers. Yields nothing if there are none."""
    if strays:
        stray = models.pad(*zip(*strays, strict=True))
        logits_S_V = models.logits_of(reader.student, models.answer_states(reader.student, stray)).float()
        summed = stray_loss(logits_S_V, stray.labels_N.to(logits_S_V.device))
        loss = summed / ((knobs.pool_tokens + knobs.gold_tokens) * knobs.thinned)
        yield loss, {"loss": loss.detach()}


def _sum_of_processes(accelerator: Accelerator, learner: nn.Module, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum gradients and metrics over all processes, with one all-reduce each; the gradients are put back on the parameters.

    Every process has already divided by the counts of the whole batch. A metric that is 0 in all processes is left out.
    """
    parameters = [p for p in learner.parameters() if p.requires_grad]
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in own]), "sum")
    for p, g in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = g.view_as(p).clone()
    row = torch.tensor([float(sums.get(name, 0.0)) for name in TERMS], device=accelerator.device)
    reduced = accelerator.reduce(row, "sum")
    return {name: value for name, value in zip(TERMS, reduced, strict=True) if name == "loss" or value}


def schedule(step: int, steps: int) -> float:
    """The factor on the learning rate at a step (the first is 1): linear warm-up, times a cosine from 1 down to a twentieth."""
    return min(1.0, step / WARMUP) * (0.05 + 0.475 * (1 + math.cos(math.pi * (step - 1) / steps)))
