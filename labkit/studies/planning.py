"""What a distillation too big for this machine would take, on paper: storage, hours and money (no torch, no records).

    plan = Plan()                             # 70B -> 7B, a million prompts; Plan(prompts=52_000, teacher=8e9) ...
    plan.bytes_a_token()                      # of the teacher's signal, by what is kept
    plan.hours(Machine(), reached=0.4)        # GPU-hours of writing, reading and training

Hours are floors of arithmetic and memory traffic, divided by the share of that floor's speed that is `reached`: it is the one number
to measure before any money is spent, with the real engine and a hundred prompts.
"""

from __future__ import annotations

import dataclasses
import math

from labkit.base.errors import LabError
from labkit.records.cost import BOTH_WAYS, FORWARD


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """One accelerator: operations and bytes a second at best, and its rent. The defaults are an H100 SXM's data sheet (bf16, dense) and
    a round price of 2026: replace them with your own."""

    flops: float = 989e12
    bandwidth: float = 3.35e12
    hour: float = 2.50

    def __post_init__(self) -> None:
        _positive(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A teacher that writes an answer to every prompt, and a student trained on prompts and answers in so many passes.

    The teacher's shape is that of Llama 3.1 70B: `width`, `layers`, and bytes of keys and values a token and layer (8 heads of 128, bf16).
    It is spread over `gpus`, and writes `together` answers at a time.
    """

    prompts: int = 1_000_000
    prompt_tokens: int = 200
    answer_tokens: int = 500
    teacher: float = 70e9
    student: float = 7e9
    vocabulary: int = 128_256
    width: int = 8_192
    layers: int = 80
    kept_bytes: int = 4_096
    k: int = 32
    passes: int = 3
    gpus: int = 4
    together: int = 256

    def __post_init__(self) -> None:
        _positive(self)

    @property
    def answers(self) -> int:
        """Tokens the teacher writes, which are those with a signal."""
        return self.prompts * self.answer_tokens

    @property
    def tokens(self) -> int:
        return self.prompts * (self.prompt_tokens + self.answer_tokens)

    def bytes_a_token(self) -> dict[str, float]:
        """Of one answer token, by what is kept of the teacher. Top-k as `TopKStore` keeps it, without row numbers and headers; hidden
        states and logits in 16 bits; text as token ids."""
        small = 2 if self.vocabulary <= 2**16 else 4
        return {
            "text": small,
            f"top {self.k}": (small + 2) * self.k + 1,
            "hidden states": 2 * self.width,
            "full logits": 2 * self.vocabulary,
        }

    def storage(self) -> dict[str, float]:
        """The same for all answers, in bytes."""
        return {name: size * self.answers for name, size in self.bytes_a_token().items()}

    def writing_hours(self, machine: Machine, reached: float = 1.0) -> float:
        """GPU-hours in which the teacher writes all answers: the prompts read once, then a step a token for `together` answers at a time,
        each bound by arithmetic or by reading weights and the keys and values so far."""
        prompts = FORWARD * self.teacher * self.prompts * self.prompt_tokens / machine.flops
        behind = self.prompt_tokens + self.answer_tokens / 2  # tokens, on average
        traffic = 2 * self.teacher + self.together * behind * self.layers * self.kept_bytes
        step = max(FORWARD * self.teacher * self.together / machine.flops, traffic / machine.bandwidth)  # GPU-seconds
        return self._hours(prompts + step * self.answers / self.together, reached)

    def reading_hours(self, machine: Machine, reached: float = 1.0) -> float:
        """GPU-hours in which the teacher reads prompts and answers that are there already, once: what a signal for given text takes."""
        return self._hours(FORWARD * self.teacher * self.tokens / machine.flops, reached)

    def training_hours(self, machine: Machine, reached: float = 1.0) -> float:
        """GPU-hours of the student's passes. With a live teacher each pass takes `reading_hours` besides."""
        return self._hours(BOTH_WAYS * self.student * self.tokens * self.passes / machine.flops, reached)

    def gigabytes_a_gpu(self) -> float:
        """What each of `gpus` holds while the teacher writes: its part of the weights, and of the keys and values of whole answers."""
        behind = self.together * (self.prompt_tokens + self.answer_tokens) * self.layers * self.kept_bytes
        return (2 * self.teacher + behind) / self.gpus / 1e9

    def hours(self, machine: Machine, reached: float = 1.0) -> dict[str, float]:
        return {
            "the teacher writes": self.writing_hours(machine, reached),
            "the teacher reads once": self.reading_hours(machine, reached),
            "the student trains": self.training_hours(machine, reached),
        }

    def loading_gigabytes_a_second(self, machine: Machine, gpus: int = 8, reached: float = 1.0) -> dict[str, float]:
        """What the disk must deliver so that a student on so many GPUs never waits for its signal."""
        seconds = self.training_hours(machine, reached) * 3600 / gpus
        return {name: size * self.passes / seconds / 1e9 for name, size in self.storage().items()}

    @staticmethod
    def _hours(seconds: float, reached: float) -> float:
        if not 0 < reached <= 1:
            raise LabError(f"reached={reached:g} must be a share of the machine's best, above 0 and up to 1.")
        return seconds / 3600 / reached


def _positive(numbers: Machine | Plan) -> None:
    for field in dataclasses.fields(numbers):
        value = getattr(numbers, field.name)
        if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
            raise LabError(f"{field.name}={value!r} must be a number above 0.")
