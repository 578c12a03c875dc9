"""Imitation: compares a student's answers with its teacher's in form and in facts, separately.

    beside(student, said)          # said: answers of the teacher (`recorded_answers.recorded()`); one `Likeness` for each

The facts are what an answer names (`labkit.tasks.atlas.extraction`); the form is its other words. A student can have one without the other:
Gudibande et al. 2023, arXiv 2305.15717, call form without facts a false promise.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from labkit.models import tokenizer_of, write
from labkit.models.architectures import LanguageModel
from labkit.models.score_answers import score_answers
from labkit.tasks.atlas.extraction import read
from labkit.tasks.atlas.facts import normalise
from labkit.teachers.recorded_answers import RecordedAnswer

ROWS = 32  # that the model answers at a time


class Likeness(NamedTuple):
    """One answer of the student, compared with the teacher's."""

    answer: str
    named: str | None  # what it names
    right: bool  # by Atlas
    same: bool | None  # whether it names what the teacher names, right or wrong; None if the teacher names nothing
    form: float  # F1 of the words that both answers share, without those that name something
    nats: float  # mean of -log p over the tokens of the teacher's answer


def beside(model: LanguageModel, said: Sequence[RecordedAnswer]) -> list[Likeness]:
    """Compare the model's greedy answers with the teacher's, question by question.

    said: the teacher's answers.
    """
    tokenizer, compared = tokenizer_of(model), []
    for start in range(0, len(said), ROWS):
        part = said[start : start + ROWS]
        prompts = tokenizer.prompts([s.question.text for s in part])
        answers = write(model, prompts, limit=max(len(s.logprobs) for s in part))
        nats = surprise(model, prompts, tokenizer.answers([s.text for s in part]))
        for taught, written, surprised in zip(part, answers, nats, strict=True):
            compared.append(likeness(taught, tokenizer.text(written.ids), surprised, cut=written.ids[-1] not in tokenizer.ends))
    return compared


def likeness(theirs: RecordedAnswer, text: str, nats: float = math.nan, *, cut: bool = False) -> Likeness:
    """Compare one given answer with the teacher's.

    theirs: the teacher's answer.
    cut: whether the given answer stopped at the limit of tokens.
    """
    student, teacher = read(theirs.question, text, cut=cut), read(theirs.question, theirs.text, cut=not theirs.ended)
    same = None if teacher.named is None else student.named is not None and normalise(student.named) == normalise(teacher.named)
    return Likeness(text, student.named, student.right, same, shared_words(_rest(text, student), _rest(theirs.text, teacher)), nats)


def surprise(model: LanguageModel, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[float]:
    """Mean of -log p over the tokens of each answer, in nats."""
    return [-float(score.mean()) for score in score_answers(model, prompts, answers)]


def shared_words(one: str, other: str) -> float:
    """F1 of the words of two texts, with their counts, without case and punctuation; 1 for two empty texts."""
    a, b = (Counter(re.findall(r"\w+", text.casefold())) for text in (one, other))
    if not a and not b:
        return 1.0
    return 2 * (a & b).total() / (a.total() + b.total())


def _rest(text: str, found) -> str:
    """An answer without the words that name a fact."""
    return text if found.named is None else f"{text[: found.start]} {text[found.end :]}"
