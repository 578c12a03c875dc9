"""Exposure bias: a student trained on its teacher's answers continues its own when it writes. How far is it from the teacher there?

    exposure(teacher, student, questions)     # KL by answer position, on the teacher's and on the student's prefixes
    stepwise(student, questions)              # share of right last steps, after the right first step and after its own

The KL of whole answers is a sum over positions, KL(P || Q) = sum_t E[KL_t over prefixes ~ P], so it needs only the teacher's prefixes.
An online run trains on the same KL on the student's own prefixes (Agarwal et al. 2023, GKD, arXiv 2306.13649, eq. 2 and 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.errors import LabError
from labkit.models import answer_states, logits_of, pad, tokenizer, tokenizer_of, write
from labkit.models.architectures import LanguageModel
from labkit.tasks.atlas.facts import Question, whole_world


class AtPosition(NamedTuple):
    """KL(teacher || student) at one position of the answer, in nats: means over the answers that are long enough."""

    position: int  # 1 is the first token
    teacher: float  # on prefixes that the teacher wrote
    own: float  # on prefixes that the student wrote
    teacher_rows: int  # how many of the teacher's answers are long enough
    own_rows: int  # how many of the student's


def exposure(teacher: LanguageModel, student: LanguageModel, questions: Sequence[Question], seed: int = 0) -> list[AtPosition]:
    """Let both models answer every question, sampled at temperature 1, and compare them at each position of both answers.

    seed: of the sampling.

    Returns one entry for each position that both models' answers reach. Raises `LabError` for models with different tokenizers.
    """
    if tokenizer_of(teacher) is not tokenizer_of(student):
        raise LabError("these two models have different tokenizers, so there is no KL by position: use a student with vocabulary='atlas'.")
    prompts = tokenizer().prompts([q.text for q in questions])
    sides = []
    for writer in (teacher, student):
        answers = [w.ids for w in write(writer, prompts, temperature=1.0, seed=seed)]
        rows = kl_along(teacher, student, prompts, answers)
        longest = max(map(len, rows))
        sides.append([torch.stack([row[t] for row in rows if len(row) > t]) for t in range(longest)])
    return [AtPosition(t + 1, float(a.mean()), float(b.mean()), len(a), len(b)) for t, (a, b) in enumerate(zip(*sides, strict=False))]


@torch.no_grad()
def kl_along(
    teacher: LanguageModel, student: LanguageModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[Tensor]:
    """KL(teacher || student) of the next token at every position of each answer, in nats: one tensor `(len(answer),)` for each row."""
    rows = pad(prompts, answers)
    teacher_N_V, student_N_V = (logits_of(m, answer_states(m, rows)).float().log_softmax(-1) for m in (teacher, student))
    kl_N = (teacher_N_V.exp() * (teacher_N_V - student_N_V)).sum(-1)
    return list(kl_N.cpu().split([len(answer) for answer in answers]))


class Stepwise(NamedTuple):
    """Shares of questions that are answered in steps. `given` minus `own` is the error that earlier errors cause."""

    given: float  # the last step is right, after the right first step
    own: float  # the last step is right, after the student's own first step
    first: float  # the student's first step is right


def stepwise(student: LanguageModel, questions: Sequence[Question]) -> Stepwise:
    """Score greedy answers to questions that are answered in steps.

    Raises `LabError` if a question has no steps.
    """
    prompts = tokenizer().prompts([q.text for q in questions])
    begun = [first_step(q) for q in questions]
    own = [w.ids for w in write(student, prompts)]
    rest = write(student, [[*p, *b] for p, b in zip(prompts, begun, strict=True)])
    given = [b + w.ids for b, w in zip(begun, rest, strict=True)]
    right = [[_right(q, ids) for q, ids in zip(questions, answers, strict=True)] for answers in (given, own)]
    first = [ids[: len(b)] == b for ids, b in zip(own, begun, strict=True)]
    n = len(questions)
    return Stepwise(sum(right[0]) / n, sum(right[1]) / n, sum(first) / n)


def first_step(question: Question) -> list[int]:
    """The tokens of the right answer's first step, with the comma after it.

    Raises `LabError` if the question has no steps.
    """
    answer = question.answers[0]
    if ", " not in answer or question.skill not in ("two_hop_steps", "chain"):
        raise LabError(f"{question.text!r} is not answered in steps: use questions of the skills two_hop_steps or chain.")
    ids, step = tokenizer().answers([answer])[0], answer.partition(", ")[0] + ","
    return next(ids[:k] for k in range(1, len(ids)) if tokenizer().text(ids[:k]).startswith(step))


def _right(question: Question, ids: Sequence[int]) -> bool:
    return whole_world().is_right(question, tokenizer().text(ids))
