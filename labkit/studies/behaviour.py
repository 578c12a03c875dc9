"""What is measured of a model beside its exam: how varied and valid its samples are, what lies under its first guess, and what it
knows of a class, a skill or a format that was left out of its transfer set.

    variety(teacher, open_questions, temperature=1.5)      # a `Variety` a question
    beside_the_top(teacher, open_questions, 4.0)           # share of the mass beside the first guess that is on valid answers
    left_out(student, Atlas("half"), "Africa")             # recall of it over a bias on its name
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
from labkit.models.score_answers import score_answers
from labkit.records.names import CONTINENTS, CORE, FORMATS, SKILLS
from labkit.tasks.atlas.exam import PER_SKILL, whole_world
from labkit.tasks.atlas.facts import Atlas, Question, ask_about, normalise

SAMPLES = 16
BIASES = tuple(range(0, 25))


class Variety(NamedTuple):
    """Of several sampled answers to one question: the share that are different from each other, and the share that are right."""

    distinct: float
    valid: float


def variety(
    model: LlamaForCausalLM, questions: Sequence[Question], temperature: float, samples: int = SAMPLES, seed: int = 0
) -> list[Variety]:
    """Sample `samples` answers to every question at this *sampling* temperature; one `Variety` a question."""
    own = tokenizer_of(model)
    prompts = [p for p in own.prompts([q.text for q in questions]) for _ in range(samples)]
    texts = [own.text(w.ids) for w in write(model, prompts, temperature=temperature, seed=seed)]
    found = []
    for i, question in enumerate(questions):
        said = texts[i * samples : (i + 1) * samples]
        right = sum(whole_world().is_right(question, text) for text in said)
        found.append(Variety(len({normalise(text) for text in said}) / samples, right / samples))
    return found


@torch.no_grad()
def beside_the_top(model: LlamaForCausalLM, questions: Sequence[Question], temperature: float) -> list[float]:
    """For each question with many right answers: of the probability beside the first token the model likes best, softened at
    `temperature`, the share on tokens that begin another answer it was taught. Chance is the share of the vocabulary that does."""
    found = []
    own = tokenizer_of(model)
    for question, prompt in zip(questions, own.prompts([q.text for q in questions]), strict=True):
        soft = soften(model(torch.tensor([prompt], device=model.device)).logits[0, -1].float(), temperature)
        top = int(soft.argmax())
        valid = {ids[0] for ids in own.answers(question.answers)} - {top}
        rest = 1 - float(soft[top])
        found.append(float(soft[sorted(valid)].sum()) / rest if rest > 0 and valid else 0.0)
    return found


class LeftOut(NamedTuple):
    """With a bias on the left-out continent: the share of its own countries called by its name, and of the others called by theirs."""

    bias: float
    recall: float
    others: float


@torch.no_grad()
def left_out(model: LlamaForCausalLM, world: Atlas, continent: str, biases: Sequence[float] = BIASES) -> list[LeftOut]:
    """Which continent a model says each country is in, choosing among the continents by log-probability, with each bias (in nats)
    added to the one that was left out (after Hinton, Vinyals & Dean 2015, section 3). Raises `LabError` for no such continent here."""
    if continent not in CONTINENTS:
        raise unknown("continent", continent, CONTINENTS)
    facts = [fact for fact in world.facts("continent") if fact.answers[0] in CONTINENTS]
    truth = torch.tensor([CONTINENTS.index(fact.answers[0]) for fact in facts])
    mine = truth == CONTINENTS.index(continent)
    if not bool(mine.any()) or bool(mine.all()):
        raise LabError(f"{world!r} has countries of one continent only, or none of {continent}: use a world with several.")
    scores_F_C = _continent_scores(model, [ask_about(fact) for fact in facts])
    found = []
    for bias in biases:
        biased = scores_F_C.clone()
        biased[:, CONTINENTS.index(continent)] += bias
        right = biased.argmax(-1) == truth
        found.append(LeftOut(float(bias), float(right[mine].float().mean()), float(right[~mine].float().mean())))
    return found


def _continent_scores(model: LlamaForCausalLM, questions: Sequence[Question]) -> Tensor:
    """Log-probability of each continent's name as the answer to each question, `(questions, continents)`."""
    own = tokenizer_of(model)
    prompts = [p for p in own.prompts([q.text for q in questions]) for _ in CONTINENTS]
    answers = own.answers(CONTINENTS) * len(questions)
    return torch.stack([score.sum() for score in score_answers(model, prompts, answers)]).view(len(questions), len(CONTINENTS)).cpu()


def lacks(question: Question, left_out: str) -> bool:
    """Whether a transfer set without this would not have asked the question. Raises `LabError` for a name that is not there."""
    if left_out in FORMATS:
        return question.text != ask_about(question.fact).text
    if left_out not in (*SKILLS, *CONTINENTS):
        raise unknown("left_out", left_out, (*SKILLS, *CONTINENTS, *FORMATS))
    return question.skill == left_out or question.fact.says(left_out)


def papers(world: Atlas, left_out: str, per_skill: int = PER_SKILL) -> tuple[list[Question], list[Question]]:
    """Questions on what a transfer set lacked, and the rest, for comparison; all with one right answer and compositions
    are from the held-out fifth.

    A skill: the exam's questions of it, and of the other core skills. A continent: the questions whose answer says its name, and the same
    questions about elsewhere. "paraphrases": the core exam in its other wordings, and in the first.
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
    """Share of these questions that a model's greedy answers get right."""
    own = tokenizer_of(model)
    said = write(model, own.prompts([q.text for q in questions]))
    return sum(whole_world().is_right(q, own.text(w.ids)) for q, w in zip(questions, said, strict=True)) / len(questions)
