"""Bugs that real training code has had, each put where it sat: between the teacher's signal and the loss.

    run(Experiment(faults="shuffled_cache+missing_end"))

A fault changes one thing and nothing else; `failures` says by which symptom it is known and what cures it. To add one, add its name
to `names.FAULTS` and a row here.
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

DROPPED = 0.3  # of the states in front of the teacher's head, where it was left in training mode
SHARPENED = 4.0  # times the logits of a teacher that is too sure of itself

Rows = tuple[list[list[int]], list[list[int]]]  # prompts, and what is to be predicted after each


class Fault(NamedTuple):
    """label: in a few words. source: where it bit somebody. The rest is what it does, each None if it does nothing there:

    states: to the teacher's final states `(M, hidden)`.  logits: to its logits `(M, V)`, given the rows' lengths.
    factor: on the soft term, given T and the number of tokens.  strays: rows that are wrongly scored beside the answers.
    blind: the loss has no gradient for the student.  endless: the end mark is left out of the loss.  foreign: token
    numbers may be taken from one vocabulary for those of another (`across="ids"`).
    """

    label: str
    source: str
    states: Callable[[Tensor, torch.Generator], Tensor] | None = None
    logits: Callable[[Tensor, Sequence[int]], Tensor] | None = None
    factor: Callable[[float, int], float] | None = None
    strays: Callable[[Sequence[list[int]], Sequence[list[int]]], Rows] | None = None
    blind: bool = False
    endless: bool = False
    foreign: bool = False


def _dropout(states_M_D: Tensor, generator: torch.Generator) -> Tensor:
    kept = torch.rand(states_M_D.shape, generator=generator) >= DROPPED
    return states_M_D * kept.to(states_M_D.device) / (1 - DROPPED)


def _shift(logits_M_V: Tensor, lengths: Sequence[int]) -> Tensor:
    """Every token is compared with what the teacher says of the next one; the last, with what it says of the first."""
    return torch.cat([row.roll(-1, 0) for row in logits_M_V.split(list(lengths))])


def _shuffle(logits_M_V: Tensor, lengths: Sequence[int]) -> Tensor:
    """Row by row the teacher's words on another question; where that answer is shorter, it is read again from its start."""
    rows = logits_M_V.split(list(lengths))
    half = max(1, len(rows) // 2)
    others = [rows[(i + half) % len(rows)] for i in range(len(rows))]
    return torch.cat([other[torch.arange(n) % len(other)] for other, n in zip(others, lengths, strict=True)])


def _prompts(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Rows:
    return [prompt[:1] for prompt in prompts], [prompt[1:] for prompt in prompts]


def _padding(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Rows:
    """Rows as they stand in the batch, and the padding behind each of them."""
    full = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    width = max(map(len, full))
    padded = [(row, [EOS] * (width - len(row))) for row in full if len(row) < width]
    return [row for row, _ in padded], [pads for _, pads in padded]


FAULTS: dict[str, Fault] = {
    "missing_t2": Fault("T² missing", "IntelLabs/distiller issue 122; keras-io issue 869", factor=lambda T, V: T**-2),
    "mean_over_vocabulary": Fault("mean, not batchmean", "facebookresearch/deit issue 61; HikariTJU/LD 74", factor=lambda T, V: 1 / V),
    "shifted_labels": Fault("signal shifted by one", "WrinkleFree issue 13", logits=_shift),
    "shuffled_cache": Fault(
        "cache in another order", "haitongli/knowledge-distillation-pytorch issues 4 and 9, mended in pull request 17", logits=_shuffle
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
    """The faults of one step, as what they do together. Random ones are a function of `seed`."""

    def __init__(self, names: str = "none", seed: int = 0) -> None:
        self._at_work = [FAULTS[name] for name in names.split("+") if name != "none"]
        self._generator = torch.Generator().manual_seed(seed)
        self.endless = any(fault.endless for fault in self._at_work)

    def __bool__(self) -> bool:
        return bool(self._at_work)

    def states(self, states_M_D: Tensor) -> Tensor:
        for fault in self._at_work:
            if fault.states:
                states_M_D = fault.states(states_M_D.float(), self._generator)
        return states_M_D

    def logits(self, logits_M_V: Tensor, lengths: Sequence[int]) -> Tensor:
        for fault in self._at_work:
            if fault.logits:
                logits_M_V = fault.logits(logits_M_V, lengths)
        return logits_M_V

    def compare(self, compare: Compare) -> Compare:
        """The comparison as these faults make it."""

        def compared(teacher_logits_N_V: Tensor, student_logits_N_V: Tensor, temperature: float) -> Tensor:
            seen = student_logits_N_V
            if any(fault.blind for fault in self._at_work):
                seen = seen.detach() + 0 * student_logits_N_V.sum()  # there is something to go back through, and nothing comes of it
            value = compare(teacher_logits_N_V, seen, temperature)
            for fault in self._at_work:
                if fault.factor:
                    value = value * fault.factor(temperature, teacher_logits_N_V.shape[-1])
            return value

        return compared if self._at_work else compare

    def strays(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> Rows:
        """Rows wrongly scored beside the answers."""
        found: Rows = ([], [])
        for fault in self._at_work:
            if fault.strays:
                for all_of, more in zip(found, fault.strays(prompts, answers), strict=True):
                    all_of += more
        return found

    def scored(self, step_rows: StepRows, gold: bool) -> int:
        """Answer tokens a mean over the gold rows, or the others, is divided by."""
        n = len(step_rows.pool_rows)
        return sum(self.lengths(step_rows.answers[n:] if gold else step_rows.answers[:n]))

    def lengths(self, answers: Sequence[list[int]]) -> list[int]:
        """How many tokens of each answer are in the loss."""
        return [len(answer) - (self.endless and answer[-1] == EOS) for answer in answers]


def stray_loss(student_logits_S_V: Tensor, labels_S: Tensor) -> Tensor:
    """Summed cross-entropy, in nats, of tokens that should not be in the loss."""
    return F.cross_entropy(student_logits_S_V, labels_S, reduction="sum")
