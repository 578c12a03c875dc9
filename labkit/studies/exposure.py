"""Exposure bias: a student that learned on its teacher's answers meets its own when it writes. How far is it from the teacher there?

    exposure(teacher, student, questions)     # KL by answer position, on prefixes by the teacher and by the student itself
    stepwise(student, questions)              # right in the end, after a right first step and after its own

The KL of whole answers is a sum over positions, KL(P || Q) = sum_t E[KL_t over prefixes ~ P], so the teacher's prefixes tell all of it;
on the student's own prefixes the same KL is what an online run trains on (Agarwal et al. 2023, GKD, arXiv 2306.13649, eq. 2 and 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from labkit.base.errors import LabError
from labkit.models import answer_states, pad, tokenizer, tokenizer_of, write
from labkit.models.architectures import LanguageModel
from labkit.tasks.atlas.exam import whole_world
from labkit.tasks.atlas.facts import Question


class AtPosition(NamedTuple):
    """At one position of the answer, 1 being its first token: KL(teacher || student) in nats, the mean over the answers that reach it, on
    prefixes the teacher wrote and on the student's own; and how many answers do reach it."""

    position: int
    teacher: float
    own: float
    teacher_rows: int
    own_rows: int


def exposure(teacher: LanguageModel, student: LanguageModel, questions: Sequence[Question], seed: int = 0) -> list[AtPosition]:
    """Both write one answer to every question, sampled at temperature 1, and are compared at each position of either. Raises `LabError` for
    models that cut text into different tokens."""
    if tokenizer_of(teacher) is not tokenizer_of(student):
        raise LabError(
            "these two models cut text into different tokens, so there is no KL by position: take a student with vocabulary='atlas'."
        )
    prompts = tokenizer().prompts([q.text for q in questions])
    sides = []
    for writer in (teacher, student):
        answers = [w.ids for w in write(writer, prompts, temperature=1.0, seed=seed)]
        rows = kl_along(teacher, student, prompts, answers)
        longest = max(map(len, rows))
        sides.append([torch.stack([row[t] for row in rows if len(row) > t]) for t in range(longest)])
    theirs, own = sides
    return [AtPosition(t + 1, float(a.mean()), float(b.mean()), len(a), len(b)) for t, (a, b) in enumerate(zip(theirs, own, strict=False))]


@torch.no_grad()
def kl_along(
    teacher: LanguageModel, student: LanguageModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[Tensor]:
    """KL(teacher || student) in nats of the next token, at every position of each answer: one tensor `(len(answer),)` a row."""
    rows = pad(prompts, answers)
    teacher_N_V, student_N_V = (m.lm_head(answer_states(m, rows)).float().log_softmax(-1) for m in (teacher, student))
    kl_N = (teacher_N_V.exp() * (teacher_N_V - student_N_V)).sum(-1)
    return list(kl_N.cpu().split([len(answer) for answer in answers]))


class Stepwise(NamedTuple):
    """Shares of questions in several steps whose last step comes out right: given the right first step, and after the student's own; and
    the share whose own first step is right. The first two differ by the error that earlier errors make."""

    given: float
    own: float
    first: float


def stepwise(student: LanguageModel, questions: Sequence[Question]) -> Stepwise:
    """Greedy answers to questions that are answered step by step. Raises `LabError` if one of them has no steps."""
    prompts = tokenizer().prompts([q.text for q in questions])
    begun = [first_step(q) for q in questions]
    own = [w.ids for w in write(student, prompts)]
    rest = write(student, [[*p, *b] for p, b in zip(prompts, begun, strict=True)])
    given = [b + w.ids for b, w in zip(begun, rest, strict=True)]
    right = [[_right(q, ids) for q, ids in zip(questions, said, strict=True)] for said in (given, own)]
    first = [ids[: len(b)] == b for ids, b in zip(own, begun, strict=True)]
    n = len(questions)
    return Stepwise(sum(right[0]) / n, sum(right[1]) / n, sum(first) / n)


def first_step(question: Question) -> list[int]:
    """The tokens of the right answer up to and with the comma behind its first step."""
    answer = question.answers[0]
    if ", " not in answer or question.skill not in ("two_hop_steps", "chain"):
        raise LabError(f"{question.text!r} is not answered in steps: ask questions of the skills two_hop_steps or chain.")
    ids, step = tokenizer().answers([answer])[0], answer.partition(", ")[0] + ","
    return next(ids[:k] for k in range(1, len(ids)) if tokenizer().text(ids[:k]).startswith(step))


def _right(question: Question, ids: Sequence[int]) -> bool:
    return whole_world().is_right(question, tokenizer().text(ids))
