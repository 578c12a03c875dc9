"""On-policy rows: the student writes answers itself, and the teacher corrects them, so it learns from its own mistakes.

No gradient flows through the sampling: a row that the student wrote is trained on like any other (section 3 of the source).

Source: GKD, Agarwal et al. 2023, arXiv 2306.13649.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from labkit.models import write
from labkit.models.architectures import LanguageModel
from labkit.records.experiment import Experiment
from labkit.training.batches import StepRows

BUFFER = 1_024  # rows kept for replay


class OnPolicy:
    """Replaces the teacher's answers in some rows by the student's own, written now or, for a share `replay` of them, earlier."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.kept: list[tuple[list[int], list[int]]] = []
        self.generated = 0  # tokens that the student has written

    def replace_answers(self, student: LanguageModel, step_rows: StepRows, step: int, share: float) -> StepRows:
        """Replace the answers in the first `share` of the pool rows.

        share: between 0 and 1.

        Returns `step_rows` with these rows in place of its first ones.
        """
        exp = self.experiment
        count = round(share * len(step_rows.pool_rows))
        replayed = min(round(exp.replay * count), len(self.kept))
        new = count - replayed
        seed = exp.seed * 1_000_003 + step
        prompts = step_rows.prompts[:new]
        answers: list[list[int]] = []
        if prompts:
            answers = [w.ids for w in write(student, prompts, temperature=exp.sampling_temperature, seed=seed)]
            self.generated += sum(map(len, answers))
        fresh = list(zip(prompts, answers, strict=True))
        picks = torch.randint(len(self.kept), (replayed,), generator=torch.Generator().manual_seed(seed)).tolist() if replayed else []
        rows = fresh + [self.kept[i] for i in picks]
        if exp.replay:
            self.kept = (self.kept + fresh)[-BUFFER:]
        return StepRows(
            [prompt for prompt, _ in rows] + step_rows.prompts[count:],
            [answer for _, answer in rows] + step_rows.answers[count:],
            step_rows.pool_rows,
            count,
        )

    def state(self) -> dict[str, Any]:
        """The whole state, for `restore`."""
        return {"kept": self.kept, "generated": self.generated}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set the state; an empty one is that of a new run."""
        rows: Sequence[tuple[list[int], list[int]]] = state.get("kept", ())
        self.kept, self.generated = [(prompt, answer) for prompt, answer in rows], state.get("generated", 0)
