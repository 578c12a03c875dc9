"""What a step over a large vocabulary takes: the lab, all logits at once, and Liger."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from rows import HERE, row


def large(way: str, rows: int = 8, length: int = 512, size: int = 49_152, width: int = 576, repeats: int = 4) -> dict:
    """Output distillation over a large vocabulary, `rows` answers of `length` tokens: the loss and its gradient as a training step has
    them ("ours"), from all logits at once ("naive"), or by Liger's fused kernel ("liger"). The student's body is one layer, so that the
    rest is its head. Returns peak memory above the inputs in MB, seconds (the median but for the first), the loss and norms of gradients.
    """
    import resource
    from types import SimpleNamespace

    import torch
    from accelerate import Accelerator
    from transformers import LlamaConfig, LlamaForCausalLM

    from labkit import models
    from labkit.base.settings import default
    from labkit.records.experiment import Experiment
    from labkit.training.batches import StepRows
    from labkit.training.faults import Faults
    from labkit.training.methods import comparison, method
    from labkit.training.readers import Chunked
    from labkit.training.step import gradients

    generator, exp = torch.Generator().manual_seed(0), Experiment()
    config = LlamaConfig(
        vocab_size=size, hidden_size=width, num_hidden_layers=1, num_attention_heads=max(1, width // 64), intermediate_size=width
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = LlamaForCausalLM(config)
    teacher_head = torch.randn(size, width, generator=generator) * 0.05
    states = [torch.randn(length, width, generator=generator) for _ in range(rows)]
    answers = torch.randint(size, (rows, length), generator=generator).tolist()
    step_rows = StepRows([[1]] * rows, answers, list(range(rows)))
    pool: Any = SimpleNamespace(hidden=lambda numbers: torch.cat([states[i] for i in numbers]), logits=lambda found: found @ teacher_head.T)
    compare, knobs = comparison(exp), {name: getattr(exp, name) for name in ("mix", "feature", "temperature")}
    accelerator = Accelerator(cpu=True)
    reader: Any = Chunked(student, pool, default())
    parts: Any = SimpleNamespace(accelerator=accelerator, method=method("output"), reader=reader, learner=student, plain=True)

    def once() -> float:
        if way == "ours":
            return gradients(parts, compare, step_rows, knobs, Faults(exp.faults, 0))["loss"]
        found = models.answer_states(student, models.pad(step_rows.prompts, step_rows.answers))
        if way == "liger":
            from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

            fused = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=False)
            loss = fused(found, student.lm_head.weight, torch.cat(states), teacher_head, torch.zeros(len(found), dtype=torch.long))
        else:
            loss = compare(pool.logits(torch.cat(states)), student.lm_head(found), 1.0).mean()
        loss.backward()
        return float(loss.detach())

    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)  # there from the first step on in any training
    before, times, value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [], 0.0
    for _ in range(repeats):
        student.zero_grad(set_to_none=False)
        began = time.perf_counter()
        value = once()
        times.append(time.perf_counter() - began)
    norms = {name: float(p.grad.norm()) for name, p in student.named_parameters() if p.grad is not None}
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"mb": peak, "seconds": statistics.median(times[1:] or times), "value": value, "norms": norms}


def vocabulary() -> list[dict]:
    """A step's loss and gradient at 4,096 answer tokens over a vocabulary of 49,152, each way in a process of its own."""
    found = {}
    for way in ("naive", "ours", *(["liger"] if importlib.util.find_spec("liger_kernel") else [])):
        code = f"import json, vocabulary; print(json.dumps(vocabulary.large({way!r})))"
        ran = subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True, capture_output=True, text=True)
        found[way] = json.loads(ran.stdout.splitlines()[-1])
    ours, work = found["ours"], "A step on 4,096 answer tokens over a vocabulary of 49,152, a piece at a time"
    peers = {"naive": ("all logits at once", ()), "liger": ("Liger's fused kernel", ("liger-kernel",))}
    rows = []
    for way, (against, packages) in peers.items():
        if peer := found.get(way):
            for what, unit, key in (("peak memory above the inputs", "MB", "mb"), ("time", "s", "seconds")):
                rows.append(
                    row(f"{work}: {what}, against {against}", unit, ours[key], peer[key], ours[key] / peer[key],
                        against=against, packages=packages)
                )  # fmt: skip
    rows.append(
        row(f"{work}: largest relative difference of loss and gradients from all logits at once", "share",
            *(difference(found[way], found["naive"]) if way in found else None for way in ("ours", "liger")),
            against="Liger's fused kernel", packages=("liger-kernel",) if "liger" in found else ())
    )  # fmt: skip
    return rows


def difference(one: dict, naive: dict) -> float:
    """The largest relative difference of the loss and of the norms of gradients."""
    pairs = [(one["value"], naive["value"]), *((one["norms"][name], norm) for name, norm in naive["norms"].items())]
    return max(abs(a / b - 1) for a, b in pairs if b)
