"""Sounds like the teacher, or knows what it knows? A student's answers beside its teacher's, the words that name a fact apart.

    found = beside(student, said)          # said: some of the teacher's answers (`recorded_answers.recorded()`); a `Likeness` an answer

Form is how the rest of the sentence is put; facts are what it names (`labkit.tasks.atlas.extraction`). A student can have either without
the other: Gudibande et al. 2023, arXiv 2305.15717, called the first without the second a false promise.
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

ROWS = 32  # answered at a time


class Likeness(NamedTuple):
    """One answer. right: by Atlas. same: it names what the teacher names, right or wrong; None where the teacher names nothing. form: the
    words both answers share, those that name something left out (F1). nats: the model's surprise at a token of the teacher's answer."""

    answer: str
    named: str | None
    right: bool
    same: bool | None
    form: float
    nats: float


def beside(model: LanguageModel, said: Sequence[RecordedAnswer]) -> list[Likeness]:
    """How like the teacher's the model's own greedy answers are, question by question."""
    own, found = tokenizer_of(model), []
    for start in range(0, len(said), ROWS):
        part = said[start : start + ROWS]
        prompts = own.prompts([s.question.text for s in part])
        answers = write(model, prompts, limit=max(len(s.logprobs) for s in part))
        nats = surprise(model, prompts, own.answers([s.text for s in part]))
        for theirs, written, surprised in zip(part, answers, nats, strict=True):
            found.append(likeness(theirs, own.text(written.ids), surprised, cut=written.ids[-1] != own.end))
    return found


def likeness(theirs: RecordedAnswer, text: str, nats: float = math.nan, *, cut: bool = False) -> Likeness:
    """The same of an answer that is at hand."""
    mine, other = read(theirs.question, text, cut=cut), read(theirs.question, theirs.text, cut=not theirs.ended)
    same = None if other.named is None else mine.named is not None and normalise(mine.named) == normalise(other.named)
    return Likeness(text, mine.named, mine.right, same, shared_words(_rest(text, mine), _rest(theirs.text, other)), nats)


def surprise(model: LanguageModel, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[float]:
    """Mean of -log p over the tokens of each answer, in nats."""
    return [-float(score.mean()) for score in score_answers(model, prompts, answers)]


def shared_words(one: str, other: str) -> float:
    """F1 of the words of two texts, counted as often as they occur; capitals and punctuation do not matter. Two empty texts are alike."""
    a, b = (Counter(re.findall(r"\w+", text.casefold())) for text in (one, other))
    if not a and not b:
        return 1.0
    return 2 * (a & b).total() / (a.total() + b.total())


def _rest(text: str, found) -> str:
    """An answer without the words that name something."""
    return text if found.named is None else f"{text[: found.start]} {text[found.end :]}"
