"""Capacity: how many bits of a store of facts a model holds, and how many that is per parameter.

    world = Atlas("whole")
    held(student, world, world.store(1_000))      # Held(facts=1000, asked=6021.4, bits=4310.2, right=0.71)

Bits are summed over all facts: the code length of the answers given only how often each answer occurs, minus their code length under the
model. Source: "bit complexity", Allen-Zhu & Li 2024, arXiv 2404.05405.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from transformers import LlamaForCausalLM

from labkit.base.errors import LabError
from labkit.models import answer_states, logits_of, pad, parameters, tokenizer_of
from labkit.tasks.atlas.facts import Atlas, Question

ROWS = 512  # that the model reads at a time


class Held(NamedTuple):
    """What a model holds of a store of facts."""

    facts: int  # number of questions
    asked: float  # bits in their labels, given how often each answer occurs
    bits: float  # how many of them the model holds; below 0 if it is confident of wrong answers
    right: float  # share of labels that it writes greedily


@torch.no_grad()
def held(model: LlamaForCausalLM, world: Atlas, questions: Sequence[Question]) -> Held:
    """Measure what a model holds of the labels (`gold`) of questions, true or planted.

    world: the world of the questions.

    Raises `LabError` without any question.
    """
    if not questions:
        raise LabError("there are no facts to hold: give at least one question, as in world.store(100).")
    tokenizer = tokenizer_of(model)
    prompts, answers = tokenizer.prompts([q.text for q in questions]), tokenizer.answers([q.gold for q in questions])
    order = sorted(range(len(questions)), key=lambda i: len(prompts[i]) + len(answers[i]))
    nats, right = 0.0, 0
    for start in range(0, len(order), ROWS):
        part = order[start : start + ROWS]
        rows = pad([prompts[i] for i in part], [answers[i] for i in part])
        logprobs_N_V = logits_of(model, answer_states(model, rows)).float().log_softmax(-1)
        labels_N = rows.labels_N.to(logprobs_N_V.device)
        nats -= float(logprobs_N_V.gather(1, labels_N[:, None]).double().sum())
        hits = (logprobs_N_V.argmax(-1) == labels_N).split([len(answers[i]) for i in part])
        right += sum(bool(hit.all()) for hit in hits)  # every token is the most likely: greedy decoding would write it
    asked = sum(information(world, questions))
    return Held(len(questions), asked, asked - nats / math.log(2), right / len(questions))


def information(world: Atlas, questions: Sequence[Question]) -> list[float]:
    """Bits in the label of each question: -log2 of the share of its relation's facts in this world that have this answer."""
    answers = {r: Counter(f.answers[0] for f in world.facts(r)) for r in {q.fact.relation for q in questions}}
    return [math.log2((known := answers[q.fact.relation]).total() / max(1, known[q.gold])) for q in questions]


def per_parameter(found: Held, model: LlamaForCausalLM) -> float:
    """Bits held per parameter, embedding included."""
    return found.bits / parameters(model)


def knee(held_of: Mapping[float, float], share: float = 0.9) -> float:
    """The size of the largest store of which a model still holds a given share, interpolated on a logarithmic scale.

    held_of: how much the model holds, by the size of the store; both in the same unit.
    share: above 0 and below 1.

    Returns infinity if the model holds that share of all stores, and 0 if of none. Raises `LabError` for no stores, or another share.
    """
    if not held_of or not 0 < share < 1:
        raise LabError(f"{len(held_of)} stores and share={share!r}: give at least one store, and a share between 0 and 1 such as 0.9.")
    before: tuple[float, float] | None = None
    for asked, held in sorted(held_of.items()):
        now = held / asked
        if now < share:
            if before is None:
                return 0.0
            way = (before[1] - share) / (before[1] - now)
            return math.exp(math.log(before[0]) + way * math.log(asked / before[0]))
        before = asked, now
    return math.inf
