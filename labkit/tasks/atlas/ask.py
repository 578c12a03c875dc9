"""Ask a model any question: `ask(model, "What is the capital of Peru?")`."""

from __future__ import annotations

import math
from typing import NamedTuple

from transformers import LlamaForCausalLM

from labkit.base.kinds import kinds_checked
from labkit.models import ids_of, refuse_long, tokenizer_of, write
from labkit.tasks.atlas.exam import listed
from labkit.tasks.atlas.facts import Question, whole_world


class Answer(NamedTuple):
    """A model's answer to one question; see `ask`."""

    answer: str
    probability: float
    right: bool | None  # None if Atlas does not know the question
    truth: str | None  # None if Atlas does not know the question


@kinds_checked
def ask(model: LlamaForCausalLM, text: str) -> Answer:
    """Ask a model any question; it answers greedily.

    text: the question.

    Returns the answer, its probability, and the truth if Atlas knows the question. Raises `LabError` for an empty text, or a long one.
    """
    ids, tokens = ids_of(model, text), tokenizer_of(model)
    refuse_long(model, len(ids), tokens.longest)
    written = write(model, [ids])[0]
    world = whole_world()
    question: Question | None = world.find(text)
    answer = tokens.text(written.ids)
    right, truth = (world.is_right(question, answer), listed(question.answers)) if question else (None, None)
    return Answer(answer, math.exp(sum(written.logprobs)), right, truth)
