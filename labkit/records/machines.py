"""The machine of a run, as its record names it, and how far the same recipe differs on two machines (no torch until one is described).

    Machine.of("x86_64, AVX512 kernels, 2 threads, torch 2.13.0")     # the text of a record; older ones name no kernels
    tolerance(then, now, experiment, 60)                              # `labkit build measurements kernels`

The order in which a sum is added decides its last bits. It depends on the threads and on the kernels: PyTorch's own ("AVX512") and those of
MKL, which computes products of matrices. Either follows the processor, unless a variable limits it. oneDNN's kernels, and with them AMX,
matter to precision='bf16' and to models of half precision alone.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from labkit.records.experiment import Experiment
from labkit.records.measurements import rows
from labkit.records.names import STUDENTS

LIMITS = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA")  # variables that change the bits of a run
TEXT = re.compile(r"(.*?)(?:, (.*) kernels)?, (\d+) threads, torch (.*)")
GPU = "GPU "


class Machine(NamedTuple):
    """What of a machine decides the last bits of a run."""

    processor: str  # its architecture, or all that a record says in other words
    kernels: str  # for which instructions, with the variables that limit them; a GPU's name; "" where a record does not say
    threads: int  # 0 where a record does not say
    torch: str

    @classmethod
    def of(cls, text: str) -> Machine:
        """The machine that a record names, in the words of any version."""
        found = TEXT.fullmatch(text)
        return cls(found[1], found[2] or "", int(found[3]), found[4]) if found else cls(text, "", 0, "")

    @classmethod
    def here(cls, threads: int, device: Any) -> Machine:
        """This machine, for a run with so many threads whose student is on a device of torch."""
        import torch

        if device.type != "cpu":
            return cls(platform.machine(), GPU + torch.cuda.get_device_name(device), threads, torch.__version__)
        offered: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch lack it
        limits = " ".join(f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ)
        kernels = torch.backends.cpu.get_cpu_capability() + "+AMX" * bool(offered.get("amx_tile")) + (f" ({limits})" if limits else "")
        return cls(platform.machine(), kernels, threads, torch.__version__)

    def __str__(self) -> str:
        if not self.threads:  # other words, which are kept
            return self.processor
        kernels = f"{self.kernels} kernels, " if self.kernels else ""
        return f"{self.processor}, {kernels}{self.threads} threads, torch {self.torch}"

    @property
    def instructions(self) -> str:
        """The instructions of its kernels alone: a larger processor that a variable limits stands for the one that it imitates."""
        return self.kernels.partition(" (")[0]


class Tolerance(NamedTuple):
    """How far the same recipe differed on two machines, as it was measured."""

    steps: int  # over the first of them
    loss: float  # the largest relative difference of the losses of a step
    largest: float  # the same between any two that were measured: such differences grow from the last bits, so they vary by chance
    score: float | None  # of the final mean core skill; None for a part of the run
    recipe: str  # that was measured


def tolerance(then: Machine, now: Machine, experiment: Experiment, steps: int) -> Tolerance | None:
    """What was measured for two machines and the way to distil of a recipe; None if it was not, as in half precision.

    then: if it does not name its kernels, they may be any that were measured, and the largest difference counts.
    steps: those that were run. The measured number of steps is the largest one that is not above them, or else the smallest.
    """
    if (then.processor, then.torch) != (now.processor, now.torch) or experiment.precision != "fp32" or experiment.student not in STUDENTS:
        return None

    def measured(row: dict[str, Any]) -> bool:
        ends = [(row[end], row[f"{end}_threads"]) for end in "ab"]
        return any(
            mine == (now.instructions, now.threads) and threads == then.threads and then.instructions in (instructions, "")
            for mine, (instructions, threads) in (ends, ends[::-1])
        )

    alike = [row for row in rows("kernels") if (row["method"], row["architecture"]) == (experiment.method, now.processor)]
    lengths = sorted({row["steps"] for row in alike})
    length = max((length for length in lengths if length <= steps), default=min(lengths, default=0))
    alike = [row for row in alike if row["steps"] == length]
    found = [row for row in alike if measured(row)]
    if not found:
        return None
    loss, largest = (max(row["loss_millionths"] for row in several) / 1e6 for several in (found, alike))
    scores = [row["score"] for row in found if row["score"] is not None]
    return Tolerance(length, loss, largest, max(scores, default=None), found[0]["recipe"])
