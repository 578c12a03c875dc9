"""Plans: what a distillation too large for this machine would take in storage, hours and money (no torch, no records).

    plan = Plan()                             # 70B -> 7B, a million prompts; Plan(prompts=52_000, teacher=8e9) ...
    plan.bytes_a_token()                      # of the teacher's signal, by what is kept
    plan.hours(Machine(), reached=0.4)        # GPU-hours of writing, reading and training

Hours are lower bounds from arithmetic and memory traffic, divided by `reached`, the share of the machine's peak speed that is reached.
Measure that share with the real software and a hundred prompts before any money is spent.
"""

from __future__ import annotations

import dataclasses
import math

from labkit.base.errors import LabError
from labkit.records.cost import BOTH_WAYS, FORWARD


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """One accelerator. The defaults are from an H100 SXM's data sheet (bf16, dense), with a round price of 2026; give your own."""

    flops: float = 989e12  # operations per second at peak
    bandwidth: float = 3.35e12  # bytes per second at peak
    hour: float = 2.50  # price of an hour

    def __post_init__(self) -> None:
        _positive(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A teacher that writes an answer to every prompt, and a student trained on both. The default teacher is Llama 3.1 70B."""

    prompts: int = 1_000_000
    prompt_tokens: int = 200  # of each prompt
    answer_tokens: int = 500  # of each answer
    teacher: float = 70e9  # parameters
    student: float = 7e9  # parameters
    vocabulary: int = 128_256
    width: int = 8_192  # of the teacher's hidden states
    layers: int = 80  # of the teacher
    kept_bytes: int = 4_096  # of keys and values for each token and layer (8 heads of 128, bf16)
    k: int = 32  # of the top-k signal
    passes: int = 3  # of the student over all tokens
    gpus: int = 4  # over which the teacher is spread
    together: int = 256  # answers that the teacher writes at a time

    def __post_init__(self) -> None:
        _positive(self)

    @property
    def answers(self) -> int:
        """Tokens that the teacher writes; each has a signal."""
        return self.prompts * self.answer_tokens

    @property
    def tokens(self) -> int:
        """Tokens of all prompts and answers."""
        return self.prompts * (self.prompt_tokens + self.answer_tokens)

    def bytes_a_token(self) -> dict[str, float]:
        """Bytes of one answer token, by what is kept of the teacher. Top k is as in `TopKStore`, without row numbers and headers; hidden
        states and logits have 16 bits; text is token ids."""
        small = 2 if self.vocabulary <= 2**16 else 4
        return {
            "text": small,
            f"top {self.k}": (small + 2) * self.k + 1,
            "hidden states": 2 * self.width,
            "full logits": 2 * self.vocabulary,
        }

    def storage(self) -> dict[str, float]:
        """Bytes of all answers, by what is kept."""
        return {name: size * self.answers for name, size in self.bytes_a_token().items()}

    def writing_hours(self, machine: Machine, reached: float = 1.0) -> float:
        """GPU-hours for the teacher to write all answers. It reads the prompts once; then each step writes one token of `together` answers,
        and is bound by arithmetic, or by reading the weights and the keys and values so far."""
        prompts = FORWARD * self.teacher * self.prompts * self.prompt_tokens / machine.flops
        context = self.prompt_tokens + self.answer_tokens / 2  # tokens, on average
        traffic = 2 * self.teacher + self.together * context * self.layers * self.kept_bytes
        step = max(FORWARD * self.teacher * self.together / machine.flops, traffic / machine.bandwidth)  # GPU-seconds
        return self._hours(prompts + step * self.answers / self.together, reached)

    def reading_hours(self, machine: Machine, reached: float = 1.0) -> float:
        """GPU-hours for the teacher to read given prompts and answers once, to make a signal for them."""
        return self._hours(FORWARD * self.teacher * self.tokens / machine.flops, reached)

    def training_hours(self, machine: Machine, reached: float = 1.0) -> float:
        """GPU-hours of the student's passes. With a live teacher each pass takes `reading_hours` too."""
        return self._hours(BOTH_WAYS * self.student * self.tokens * self.passes / machine.flops, reached)

    def gigabytes_a_gpu(self) -> float:
        """Gigabytes that each of `gpus` holds while the teacher writes: its part of the weights, and of the keys and values."""
        cache = self.together * (self.prompt_tokens + self.answer_tokens) * self.layers * self.kept_bytes
        return (2 * self.teacher + cache) / self.gpus / 1e9

    def hours(self, machine: Machine, reached: float = 1.0) -> dict[str, float]:
        """GPU-hours by part of the work."""
        return {
            "the teacher writes": self.writing_hours(machine, reached),
            "the teacher reads once": self.reading_hours(machine, reached),
            "the student trains": self.training_hours(machine, reached),
        }

    def loading_gigabytes_a_second(self, machine: Machine, gpus: int = 8, reached: float = 1.0) -> dict[str, float]:
        """Gigabytes per second that the disk must deliver, by signal, so that a student on `gpus` GPUs never waits for it."""
        seconds = self.training_hours(machine, reached) * 3600 / gpus
        return {name: size * self.passes / seconds / 1e9 for name, size in self.storage().items()}

    @staticmethod
    def _hours(seconds: float, reached: float) -> float:
        if not 0 < reached <= 1:
            raise LabError(f"reached={reached:g} must be a share of the machine's peak speed, above 0 and at most 1.")
        return seconds / 3600 / reached


def _positive(numbers: Machine | Plan) -> None:
    for field in dataclasses.fields(numbers):
        value = getattr(numbers, field.name)
        if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
            raise LabError(f"{field.name}={value!r} must be a number above 0.")
