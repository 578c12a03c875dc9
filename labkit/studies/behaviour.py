"""Measurements of a model in addition to its exam: variety and validity of its samples, the mass behind its most likely token, and what
it knows of a class, a skill or a format that was left out of its transfer set.

    variety(teacher, open_questions, temperature=1.5)      # one `Variety` for each question
    beside_the_top(teacher, open_questions, 4.0)           # share of valid answers in the mass that is not on the most likely token
    left_out(student, Atlas("half"), "Africa")             # recall of it, for several biases on its name
    papers(Atlas("half"), "compare")                       # questions on what was left out, and on the rest
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.base.errors import LabError, unknown
from labkit.losses.temperature import soften
from labkit.models import tokenizer_of, write
from labkit.models.architectures import LanguageModel
from labkit.models.parts import row_logits
from labkit.models.score_answers import score_answers
from labkit.records.names import CONTINENTS, CORE, FORMATS, SKILLS
from labkit.tasks.atlas.exam import PER_SKILL
from labkit.tasks.atlas.facts import Atlas, Question, ask_about, normalise, whole_world

SAMPLES = 16
BIASES = tuple(range(0, 25))


class Variety(NamedTuple):
    """Several sampled answers to one question."""

    distinct: float  # number of different answers, divided by the number of samples
    valid: float  # share of right answers


def variety(
    model: LlamaForCausalLM, questions: Sequence[Question], temperature: float, samples: int = SAMPLES, seed: int = 0
) -> list[Variety]:
    """Sample several answers to every question.

    temperature: of the sampling, not of a loss.
    samples: answers for each question.

    Returns one `Variety` for each question.
    """
    tokenizer = tokenizer_of(model)
    prompts = [p for p in tokenizer.prompts([q.text for q in questions]) for _ in range(samples)]
    texts = [tokenizer.text(w.ids) for w in write(model, prompts, temperature=temperature, seed=seed)]
    varieties = []
    for i, question in enumerate(questions):
        answers = texts[i * samples : (i + 1) * samples]
        right = sum(whole_world().is_right(question, text) for text in answers)
        varieties.append(Variety(len({normalise(text) for text in answers}) / samples, right / samples))
    return varieties


@torch.no_grad()
def beside_the_top(model: LlamaForCausalLM, questions: Sequence[Question], temperature: float) -> list[float]:
    """For each question with many right answers: of the probability that is not on the most likely first token, the share on tokens that
    begin another answer that the model was taught. Chance is the share of such tokens in the vocabulary.

    temperature: softens the distribution.
    """
    shares = []
    tokenizer = tokenizer_of(model)
    for question, prompt in zip(questions, tokenizer.prompts([q.text for q in questions]), strict=True):
        soft = soften(row_logits(model, prompt)[-1], temperature)
        top = int(soft.argmax())
        valid = {ids[0] for ids in tokenizer.answers(question.answers)} - {top}
        rest = 1 - float(soft[top])
        shares.append(float(soft[sorted(valid)].sum()) / rest if rest > 0 and valid else 0.0)
    return shares


class LeftOut(NamedTuple):
    """Recall with a bias on the left-out continent."""

    bias: float  # in nats
    recall: float  # share of its countries that the model places in it
    others: float  # share of the other countries that the model places right


@torch.no_grad()
def left_out(model: LlamaForCausalLM, world: Atlas, continent: str, biases: Sequence[float] = BIASES) -> list[LeftOut]:
    """Let a model choose the continent of each country by log-probability, with each bias added to the continent that was left out.

    biases: in nats.

    Raises `LabError` for an unknown continent, or a world that does not have it and others. Source: after Hinton, Vinyals & Dean 2015,
    section 3.
    """
    if continent not in CONTINENTS:
        raise unknown("continent", continent, CONTINENTS)
    facts = [fact for fact in world.facts("continent") if fact.answers[0] in CONTINENTS]
    truth = torch.tensor([CONTINENTS.index(fact.answers[0]) for fact in facts])
    inside = truth == CONTINENTS.index(continent)
    if not bool(inside.any()) or bool(inside.all()):
        raise LabError(f"{world!r} has countries of one continent only, or none of {continent}: use a world with several.")
    scores_F_C = _continent_scores(model, [ask_about(fact) for fact in facts])
    recalls = []
    for bias in biases:
        biased = scores_F_C.clone()
        biased[:, CONTINENTS.index(continent)] += bias
        right = biased.argmax(-1) == truth
        recalls.append(LeftOut(float(bias), float(right[inside].float().mean()), float(right[~inside].float().mean())))
    return recalls


def _continent_scores(model: LlamaForCausalLM, questions: Sequence[Question]) -> Tensor:
    """Log-probability of each continent's name as the answer to each question, `(questions, continents)`."""
    tokenizer = tokenizer_of(model)
    prompts = [p for p in tokenizer.prompts([q.text for q in questions]) for _ in CONTINENTS]
    answers = tokenizer.answers(CONTINENTS) * len(questions)
    return torch.stack([score.sum() for score in score_answers(model, prompts, answers)]).view(len(questions), len(CONTINENTS)).cpu()


def lacks(question: Question, left_out: str) -> bool:
    """Whether a transfer set without `left_out` lacks the question.

    Raises `LabError` for an unknown name.
    """
    if left_out in FORMATS:
        return question.text != ask_about(question.fact).text
    if left_out not in (*SKILLS, *CONTINENTS):
        raise unknown("left_out", left_out, (*SKILLS, *CONTINENTS, *FORMATS))
    return question.skill == left_out or question.fact.says(left_out)


def papers(world: Atlas, left_out: str, per_skill: int = PER_SKILL) -> tuple[list[Question], list[Question]]:
    """Questions on what a transfer set lacked, and other questions for comparison. All have one right answer; compositions are from the
    held-out fifth.

    left_out: a skill (exam questions of it, and of the other core skills), a continent (questions whose answer has its name, and the same
        questions about other places), or "paraphrases" (the core exam in its other wordings, and in the first).
    per_skill: exam questions of each skill.

    Returns both lists. Raises `LabError` if one of them is empty.
    """
    closed = [skill for skill in CORE if skill != "open"]
    if left_out in CONTINENTS:
        facts = [f for name in ("continent", "city_continent", "city_continent_steps") for f in world.facts(name)]
        asked = [ask_about(f) for f in facts if f.held_out or f.relation == "continent"]
    else:
        wordings = (0, 1) if left_out in FORMATS else (0,)
        asked = [q for w in wordings for q in world.exam(per_skill, wording=w) if q.skill in closed or q.skill == left_out]
    missing, rest = ([q for q in asked if lacks(q, left_out) == which] for which in (True, False))
    if not (missing and rest):
        raise LabError(f"{world!r} has nothing to ask on {left_out!r}, or nothing else: use a larger world.")
    return missing, rest


def share_right(model: LanguageModel, questions: Sequence[Question]) -> float:
    """Share of the questions that a model's greedy answers get right."""
    tokenizer = tokenizer_of(model)
    answers = write(model, tokenizer.prompts([q.text for q in questions]))
    return sum(whole_world().is_right(q, tokenizer.text(w.ids)) for q, w in zip(questions, answers, strict=True)) / len(questions)
