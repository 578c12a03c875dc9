"""The exam of a run on custom data: held-out prompts, answered greedily and scored by a metric. It also measures fidelity to the
teacher, and how many wrong answers are inherited.

    exam = CustomExam(held, teacher, "exact")
    exam.grade(student).skills               # {"exact": 0.62}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from labkit.base.thinking import split_thinking
from labkit.losses.divergences import forward_kl
from labkit.models import Written, answer_states, logits_of, pad, tokenizer_of, write
from labkit.models.architectures import LanguageModel
from labkit.models.damage import refuse_damaged
from labkit.models.score_answers import of_like_length
from labkit.tasks.atlas.exam import Graded, Grades, calibration_error, first_token, shares, verdict
from labkit.tasks.custom.rows import Row
from labkit.tasks.metrics import Score, metric

ROWS = 32  # rows answered at a time
TOKENS = 256  # answer tokens compared at a time; logits of two models with 49,152 tokens are then 100 MB
HALF = 0.5  # an answer counts as right if its score is at least this


class Questioned(Protocol):
    """A prompt with its reference; see `setup.CustomPrompt` of `labkit.training`."""

    @property
    def text(self) -> str: ...
    @property
    def gold(self) -> str: ...
    @property
    def line(self) -> int: ...


class CustomExam:
    """Held-out questions scored by one metric.

    score: the metric, as in `labkit.tasks.metrics`. `best` is then the score of the references themselves.

    Raises `LabError` for a metric that does not fit the questions, before any model answers.
    """

    def __init__(self, questions: Sequence[Questioned], teacher: LanguageModel | None, score: str) -> None:
        self.questions, self.score = questions, metric(score)
        self.name = score.partition(":")[0]
        self.rows = [Row(q.text, q.gold, q.line) for q in questions]
        self.best = self.score.check(self.rows).mean
        self._teacher = teacher
        self.teacher_answers: Sequence[Graded] = ()
        self.thoughts = self.cut_thoughts = 0
        if teacher is not None:
            written = self._write(teacher)
            refuse_damaged(teacher, [sum(w.logprobs) for w in written])
            self.teacher_answers, _ = self._mark(teacher, written)
            self._teacher_ids = [w.ids for w in written]
            thoughts = [split_thinking(tokenizer_of(teacher).written(w.ids)) for w in written]
            self.thoughts = sum(bool(thought.reasoning) for thought in thoughts)  # answers of the teacher that begin with a thought
            self.cut_thoughts = sum(thought.cut for thought in thoughts)  # of these, those that ended before the answer
            self._teacher_states = [states.clone() for states in self._states(teacher)]
            self.teacher_grades = self.grade(teacher, written)

    def grade(self, model: LanguageModel, written: Sequence[Written] | None = None) -> Grades:
        """Grade `model`, which is left unchanged. `written` are its greedy answers, if they are known already."""
        training = model.training
        model.eval()
        written = written or self._write(model)
        answers, score = self._mark(model, written)
        fidelity = self._fidelity(model)
        model.train(training)
        truth = shares([self.verdict(i, answer) for i, answer in enumerate(answers)])
        ends = tokenizer_of(model).ends
        habits = {
            "unended": sum(w.ids[-1] not in ends for w in written) / len(written),
            "confidence": sum(a.probability for a in answers) / len(answers),
        }
        return Grades({self.name: score.mean}, fidelity, {}, truth, calibration_error(answers), answers, habits)

    def beside(self, model: LanguageModel, answers: Sequence[Graded]) -> dict[str, float]:
        """Empty: this exam has no other questions."""
        return {}

    def scored(self, answers: Sequence[Graded]) -> Score:
        """The score of answers with its band; `metrics.better` compares two of them."""
        return self._score([answer.text for answer in answers])

    def verdict(self, number: int, answer: Graded) -> str:
        return verdict(answer, self.teacher_answers[number] if self.teacher_answers else None)

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """The first `n` answers to look at; the questions are always the same."""
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
        """Returns the first question, the likeliest first tokens of its answer, and their probabilities under teacher and student.
        The teacher's list is empty if the vocabularies differ."""
        tokens, text = tokenizer_of(model), self.rows[0].prompt
        student = first_token(model, tokens.prompts([text])[0])
        teacher = first_token(self._teacher, tokens.prompts([text])[0]) if self._teacher is not None and self._alike(model) else None
        both = student if teacher is None else torch.maximum(student, teacher)
        top = both.topk(most).indices.tolist()
        return text, [tokens.token(t).strip() for t in top], [] if teacher is None else teacher[top].tolist(), student[top].tolist()

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _alike(self, model: LanguageModel) -> bool:
        """Whether model and teacher have the same vocabulary."""
        return self._teacher is not None and tokenizer_of(model).vocabulary == tokenizer_of(self._teacher).vocabulary

    def _write(self, model: LanguageModel) -> list[Written]:
        prompts = tokenizer_of(model).prompts([row.prompt for row in self.rows])
        result: dict[int, Written] = {}
        for part in of_like_length(prompts, ROWS):
            result |= zip(part, write(model, [prompts[i] for i in part]), strict=True)
        return [result[i] for i in range(len(prompts))]

    def _score(self, texts: Sequence[str]) -> Score:
        """The score of what follows a model's reasoning."""
        return self.score([split_thinking(text).answer for text in texts], self.rows)

    def _mark(self, model: LanguageModel, written: Sequence[Written]) -> tuple[list[Graded], Score]:
        texts = [tokenizer_of(model).text(w.ids) for w in written]
        score = self._score(texts)
        return [
            Graded(text, math.exp(sum(w.logprobs)), bool(points >= HALF))
            for text, w, points in zip(texts, written, score.per_row, strict=True)
        ], score

    @torch.no_grad()
    def _fidelity(self, model: LanguageModel) -> Mapping[str, float]:
        """Means over the tokens of the teacher's answers, in nats; empty if the vocabularies differ."""
        if self._teacher is None or not self._alike(model):
            return {}
        totals, tokens = torch.zeros(5, dtype=torch.float64), 0
        for student_states, teacher_states in zip(self._states(model), self._teacher_states, strict=True):
            student = logits_of(model, student_states).float().log_softmax(-1)
            teacher = logits_of(self._teacher, teacher_states).float().log_softmax(-1)
            totals += torch.stack(
                [
                    forward_kl(teacher, student).sum(),
                    (teacher.argmax(-1) == student.argmax(-1)).sum(),
                    teacher.minimum(student).exp().sum(),
                    torch.special.entr(student.exp()).sum(),
                    torch.special.entr(teacher.exp()).sum(),
                ]
            ).double()
            tokens += len(teacher)
        return dict(zip(("kl", "agreement", "acceptance", "entropy", "teacher_entropy"), (totals / tokens).tolist(), strict=True))

    @torch.no_grad()
    def _states(self, model: LanguageModel) -> Iterator[Tensor]:
        """Yields a model's final states at the tokens of the teacher's answers, `(n, D)` with n at most `TOKENS`."""
        prompts = tokenizer_of(model).prompts([row.prompt for row in self.rows])
        for start in range(0, len(prompts), ROWS):
            rows = pad(prompts[start : start + ROWS], self._teacher_ids[start : start + ROWS])
            yield from answer_states(model, rows).split(TOKENS)
