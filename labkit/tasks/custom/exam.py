"""The exam of a run on a learner's own data: held-out prompts, answered greedily and scored by a metric of their choice; and beside it
fidelity to the teacher, and whose mistakes the wrong answers are.

    exam = CustomExam(held, teacher, "exact")
    exam.grade(student).skills               # {"exact": 0.62}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from labkit.models import Written, answer_states, pad, tokenizer_of, write
from labkit.models.architectures import LanguageModel
from labkit.models.score_answers import of_like_length
from labkit.tasks.atlas.exam import Graded, Grades, calibration_error, first_token, shares, verdict
from labkit.tasks.custom.rows import Row
from labkit.tasks.metrics import Score, metric

ROWS = 32  # answered at a time
TOKENS = 256  # answer tokens compared at a time: two vocabularies of 49,152 are then 100 MB
HALF = 0.5  # a row's score from which on its answer counts as right


class Questioned(Protocol):
    """A prompt with the response that is wanted; see `setup.Prompt` of `labkit.training`."""

    @property
    def text(self) -> str: ...
    @property
    def gold(self) -> str: ...
    @property
    def line(self) -> int: ...


class CustomExam:
    """Held-out questions under one metric (see `labkit.tasks.metrics`). Raises `LabError` for a metric that does not fit them, before
    anything is asked. best: the score of the responses that are wanted, which an answer equal to them gets."""

    def __init__(self, questions: Sequence[Questioned], teacher: LanguageModel | None, score: str) -> None:
        self.questions, self.score = questions, metric(score)
        self.name = score.partition(":")[0]
        self.rows = [Row(q.text, q.gold, q.line) for q in questions]
        self.best = self.score.check(self.rows).mean
        self._teacher = teacher
        self.teacher_answers: Sequence[Graded] = ()
        if teacher is not None:
            written = self._write(teacher)
            self.teacher_answers, _ = self._mark(teacher, written)
            self._teacher_ids = [w.ids for w in written]
            self._teacher_states = [states.clone() for states in self._states(teacher)]
            self.teacher_grades = self.grade(teacher, written)

    def grade(self, model: LanguageModel, written: Sequence[Written] | None = None) -> Grades:
        """Examine `model`, which is left as it was found; `written` are its greedy answers, if they are at hand."""
        training = model.training
        model.eval()
        written = written or self._write(model)
        answers, found = self._mark(model, written)
        fidelity = self._fidelity(model)
        model.train(training)
        truth = shares([self.verdict(i, answer) for i, answer in enumerate(answers)])
        end = tokenizer_of(model).end
        habits = {
            "unended": sum(w.ids[-1] != end for w in written) / len(written),
            "confidence": sum(a.probability for a in answers) / len(answers),
        }
        return Grades({self.name: found.mean}, fidelity, {}, truth, calibration_error(answers), answers, habits)

    def beside(self, model: LanguageModel, answers: Sequence[Graded]) -> dict[str, float]:
        """Nothing: there are no other questions."""
        return {}

    def scored(self, answers: Sequence[Graded]) -> Score:
        """The score of answers with its band, to compare two students by (`metrics.better`)."""
        return self.score([answer.text for answer in answers], self.rows)

    def verdict(self, number: int, answer: Graded) -> str:
        return verdict(answer, self.teacher_answers[number] if self.teacher_answers else None)

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """The first `n` rows to look at, always the same."""
        return [
            {
                "question": self.rows[i].prompt,
                "skill": self.name,
                "student": answers[i].text,
                "teacher": self.teacher_answers[i].text if self.teacher_answers else "",
                "truth": self.rows[i].response or "",
                "verdict": self.verdict(i, answers[i]),
            }
            for i in range(min(n, len(answers)))
        ]

    @torch.no_grad()
    def probe(self, model: LanguageModel, most: int = 8) -> tuple[str, list[str], list[float], list[float]]:
        """The first question: what teacher and student find likeliest to begin its answer, and how likely. Of the student alone where
        their tokens differ."""
        own, text = tokenizer_of(model), self.rows[0].prompt
        mine = first_token(model, own.prompts([text])[0])
        theirs = first_token(self._teacher, own.prompts([text])[0]) if self._teacher is not None and self._alike(model) else None
        both = mine if theirs is None else torch.maximum(mine, theirs)
        top = both.topk(most).indices.tolist()
        return text, [own.token(t).strip() for t in top], [] if theirs is None else theirs[top].tolist(), mine[top].tolist()

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _alike(self, model: LanguageModel) -> bool:
        return self._teacher is not None and tokenizer_of(model).fingerprint == tokenizer_of(self._teacher).fingerprint

    def _write(self, model: LanguageModel) -> list[Written]:
        prompts = tokenizer_of(model).prompts([row.prompt for row in self.rows])
        found: dict[int, Written] = {}
        for part in of_like_length(prompts, ROWS):
            found |= zip(part, write(model, [prompts[i] for i in part]), strict=True)
        return [found[i] for i in range(len(prompts))]

    def _mark(self, model: LanguageModel, written: Sequence[Written]) -> tuple[list[Graded], Score]:
        texts = [tokenizer_of(model).text(w.ids) for w in written]
        found = self.score(texts, self.rows)
        return [
            Graded(text, math.exp(sum(w.logprobs)), bool(points >= HALF))
            for text, w, points in zip(texts, written, found.per_row, strict=True)
        ], found

    @torch.no_grad()
    def _fidelity(self, model: LanguageModel) -> Mapping[str, float]:
        """On the teacher's own answers, in nats a token; nothing where the tokens differ."""
        if self._teacher is None or not self._alike(model):
            return {}
        totals, tokens = torch.zeros(5, dtype=torch.float64), 0
        for own, theirs in zip(self._states(model), self._teacher_states, strict=True):
            student = model.lm_head(own).float().log_softmax(-1)
            teacher = self._teacher.lm_head(theirs).float().log_softmax(-1)
            totals += torch.stack(
                [
                    (teacher.exp() * (teacher - student)).sum(),
                    (teacher.argmax(-1) == student.argmax(-1)).sum(),
                    teacher.minimum(student).exp().sum(),
                    -(student.exp() * student).sum(),
                    -(teacher.exp() * teacher).sum(),
                ]
            ).double()
            tokens += len(teacher)
        return dict(zip(("kl", "agreement", "acceptance", "entropy", "teacher_entropy"), (totals / tokens).tolist(), strict=True))

    @torch.no_grad()
    def _states(self, model: LanguageModel) -> Iterator[Tensor]:
        """Final states `(n, hidden)` of a model at the tokens of the teacher's answers, some at a time."""
        prompts = tokenizer_of(model).prompts([row.prompt for row in self.rows])
        for start in range(0, len(prompts), ROWS):
            rows = pad(prompts[start : start + ROWS], self._teacher_ids[start : start + ROWS])
            yield from answer_states(model, rows).split(TOKENS)
