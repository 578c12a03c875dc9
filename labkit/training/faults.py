"""Bugs that real training code has had, each at the place where it was: between the teacher's signal and the loss.

    run(Experiment(faults="shuffled_cache+missing_end"))

A fault changes one thing only. `labkit.diagnosis.failures` gives its symptom and its cure. To add one, add its name to `names.FAULTS` and a
row here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.losses.batch import Compare
from labkit.models import EOS
from labkit.training.batches import StepRows

DROPPED = 0.3  # share of the teacher's final states that dropout sets to 0
SHARPENED = 4.0  # factor on the logits of an over-confident teacher

Rows = tuple[list[list[int]], list[list[int]]]  # prompts, and the tokens to predict after each


class Fault(NamedTuple):
    """One bug, as its effects at each place; None where it has no effect."""

    label: str
    source: str  # where it was reported
    states: Callable[[Tensor, torch.Generator], Tensor] | None = None  # on the teacher's final states `(M, hidden)`
    logits: Callable[[Tensor, Sequence[int]], Tensor] | None = None  # on its logits `(M, V)`, given the lengths of the rows
    factor: Callable[[float, int], float] | None = None  # on the soft term, given the temperature and the vocabulary's size
    strays: Callable[[Sequence[list[int]], Sequence[list[int]]], Rows] | None = None  # rows that are wrongly scored too
    blind: bool = False  # the loss has no gradient for the student
    endless: bool = False  # the end token is left out of the loss
    foreign: bool = False  # token ids of one vocabulary may be used as ids of another (`across="ids"`)


def _dropout(states_M_D: Tensor, generator: torch.Generator) -> Tensor:
    kept = torch.rand(states_M_D.shape, generator=generator) >= DROPPED
    return states_M_D * kept.to(states_M_D.device) / (1 - DROPPED)


def _shift(logits_M_V: Tensor, lengths: Sequence[int]) -> Tensor:
    """Compare every token with the teacher's signal for the next one, and the last with that for the first."""
    return torch.cat([row.roll(-1, 0) for row in logits_M_V.split(list(lengths))])


def _shuffle(logits_M_V: Tensor, lengths: Sequence[int]) -> Tensor:
    """Give each row the signal of another question, repeated from its start if that answer is shorter."""
    rows = logits_M_V.split(list(lengths))
    half = max(1, len(rows) // 2)
    others = [rows[(i + half) % len(rows)] for i in range(len(rows))]
    return torch.cat([other[torch.arange(n) % len(other)] for other, n in zip(others, lengths, strict=True)])


def _prompts(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Rows:
    return [prompt[:1] for prompt in prompts], [prompt[1:] for prompt in prompts]


def _padding(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Rows:
    """The rows of the batch, and the padding after each."""
    full = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    width = max(map(len, full))
    padded = [(row, [EOS] * (width - len(row))) for row in full if len(row) < width]
    return [row for row, _ in padded], [pads for _, pads in padded]


FAULTS: dict[str, Fault] = {
    "missing_t2": Fault("T² missing", "IntelLabs/distiller issue 122; keras-io issue 869", factor=lambda T, V: T**-2),
    "mean_over_vocabulary": Fault("mean, not batchmean", "facebookresearch/deit issue 61; HikariTJU/LD 74", factor=lambda T, V: 1 / V),
    "shifted_labels": Fault("signal shifted by one", "WrinkleFree issue 13", logits=_shift),
    "shuffled_cache": Fault(
        "cache in another order", "haitongli/knowledge-distillation-pytorch issues 4 and 9, fixed in pull request 17", logits=_shuffle
    ),
    "swapped_roles": Fault("teacher and student swapped", "keras-team/keras-io issue 257", blind=True),
    "missing_end": Fault("end mark left out", "tatsu-lab/stanford_alpaca issue 126; huggingface/trl issue 1623", endless=True),
    "prompt_loss": Fault("loss on the prompt", "huggingface/trl pull request 445", strays=_prompts),
    "padding_loss": Fault("loss on padding", "optipfair issue 34; Fast-LLM issue 344", strays=_padding),
    "teacher_dropout": Fault("teacher in train mode", "TaCL issue 11", states=_dropout),
    "overconfident_teacher": Fault(
        "over-confident teacher",
        "Guo et al. 2017, arXiv 1706.04599",
        logits=lambda logits_M_V, lengths: logits_M_V * SHARPENED,
    ),
    "wrong_ids": Fault("numbers of another vocabulary", "DistillKit issue 7", foreign=True),
}


class Faults:
    """The faults of one step together.

    names: joined by "+", or "none".
    seed: of the random faults.
    """

    def __init__(self, names: str = "none", seed: int = 0) -> None:
        self._faults = [FAULTS[name] for name in names.split("+") if name != "none"]
        self._generator = torch.Generator().manual_seed(seed)
        self.endless = any(fault.endless for fault in self._faults)

    def __bool__(self) -> bool:
        return bool(self._faults)

    def states(self, states_M_D: Tensor) -> Tensor:
        for fault in self._faults:
            if fault.states:
                states_M_D = fault.states(states_M_D.float(), self._generator)
        return states_M_D

    def logits(self, logits_M_V: Tensor, lengths: Sequence[int]) -> Tensor:
        for fault in self._faults:
            if fault.logits:
                logits_M_V = fault.logits(logits_M_V, lengths)
        return logits_M_V

    def compare(self, compare: Compare) -> Compare:
        """The divergence `compare` with these faults in it."""

        def compared(teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, temperature: float) -> Tensor:
            seen = student_logits_N_V
            if any(fault.blind for fault in self._faults):
                seen = seen.detach() + 0 * student_logits_N_V.sum()  # back-propagation works, and gives a gradient of 0
            value = compare(teacher_logits_N_V, seen, temperature)
            for fault in self._faults:
                if fault.factor:
                    value = value * fault.factor(temperature, teacher_logits_N_V.shape[-1])
            return value

        return compared if self._faults else compare

    def strays(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Rows:
        """Rows that are wrongly scored too."""
        rows: Rows = ([], [])
        for fault in self._faults:
            if fault.strays:
                for all_of, more in zip(rows, fault.strays(prompts, answers), strict=True):
                    all_of += more
        return rows

    def scored(self, step_rows: StepRows, gold: bool) -> int:
        """Number of scored answer tokens of the gold rows, or of the pool rows: the divisor of their mean."""
        n = len(step_rows.pool_rows)
        return sum(self.lengths(step_rows.answers[n:] if gold else step_rows.answers[:n]))

    def lengths(self, answers: Sequence[list[int]]) -> list[int]:
        """Number of tokens of each answer in the loss."""
        return [len(answer) - (self.endless and answer[-1] == EOS) for answer in answers]


def stray_loss(student_logits_S_V: Tensor, labels_S: Tensor) -> Tensor:
    """Summed cross-entropy, in nats, of tokens that should not be in the loss."""
    return F.cross_entropy(student_logits_S_V, labels_S, reduction="sum")
