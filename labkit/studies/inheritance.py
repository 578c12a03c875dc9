"""Hallucination inheritance: which of a teacher's wrong answers its student gives too, how sure of them it is, and what prevents it.

    paper = Facts(Atlas("half"))                          # every plain fact, asked once
    teacher, student, control = (paper.ask(m) for m in models)
    inheritance(student, teacher, control)                # rates, confidence, calibration
    flip_point(0.95, 0.02)                                # how much truth has to be mixed in before a lie is no longer the first guess

*Inherited* is the very wrong answer the teacher gave; the control is the same student, taught by the honest teacher. (Dankers & Raunak 2025
measure such rates for memorised text against students of the same size; Behrens & Zdeborova 2025 for facts that were never asked.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.base.errors import LabError
from labkit.models import tokenizer
from labkit.models.score_answers import score_answers
from labkit.tasks.atlas.exam import Exam, Graded
from labkit.tasks.atlas.facts import Atlas, Question, normalise
from labkit.tasks.atlas.questions import ONE_ANSWER
from labkit.tasks.calibration import calibration_error
from labkit.teachers.signals import Signals

EVERY = 1_000_000
POINTS = tuple(i / 20 for i in range(1, 21))  # coverages of a risk-coverage curve


class Facts:
    """Every plain fact of a world (one right answer, known by heart) as a question in its canonical wording, in a fixed order.

    skills: only facts of these. Raises `LabError` for skills without such facts.
    """

    def __init__(self, world: Atlas, skills: Sequence[str] = ONE_ANSWER) -> None:
        if other := set(skills) - set(ONE_ANSWER):
            raise LabError(f"{', '.join(sorted(other))} has no plain facts: choose among {', '.join(ONE_ANSWER)}.")
        self.world = world
        self._exam = Exam(world, None, EVERY, skills=skills)
        self.questions: Sequence[Question] = self._exam.questions

    def __len__(self) -> int:
        return len(self.questions)

    def ask(self, model: LlamaForCausalLM) -> list[Graded]:
        """The model's greedy answer to each, with its probability and whether it is right."""
        return list(self._exam.grade(model).answers)

    def mark(self, texts: Sequence[str]) -> list[Graded]:
        """Answers from elsewhere, marked; their probability is not known (NaN)."""
        return [Graded(text, math.nan, self.world.is_right(q, text)) for q, text in zip(self.questions, texts, strict=True)]

    def taught(self, pool: Signals, asked: Sequence[Question]) -> list[Graded | None]:
        """The answers a student was taught: what the teacher of `pool` sampled when it was asked each fact, None for one never `asked`."""
        row = {question.text: number for number, question in reversed(list(enumerate(asked)))}
        rows = [row.get(question.text) for question in self.questions]
        list(pool.prepare([r for r in rows if r is not None]))
        marked = self.mark(["" if r is None else tokenizer().text(pool.answer(r)) for r in rows])
        return [None if r is None else answer for r, answer in zip(rows, marked, strict=True)]

    def lies(self, lying: Atlas) -> list[str | None]:
        """The wrong answer planted for each fact in a lying world of the same scale, None where it is honest."""
        return [lying.falsehood(question.fact) for question in self.questions]

    def logprobs(self, model: LlamaForCausalLM, answers: Sequence[str | None]) -> list[float | None]:
        """What the model gives each of these answers, in nats of the whole answer with its end; None stays None."""
        rows = [i for i, answer in enumerate(answers) if answer is not None]
        prompts = tokenizer().prompts([self.questions[i].text for i in rows])
        ids = tokenizer().answers([answers[i] or "" for i in rows])
        found: list[float | None] = [None] * len(answers)
        for i, score in zip(rows, score_answers(model, prompts, ids), strict=True):
            found[i] = float(score.sum())
        return found


class Inheritance(NamedTuple):
    """Shares of the facts the teacher got wrong, but for `kept`; NaN where there is nothing to take a share of.

    wrong: how many those are.  inherited: the student gives the teacher's own wrong answer.  control: so does the control student.
    denoised: the student is right where the teacher was wrong.  kept: the student is right where the teacher was right.
    confidence_...: mean probability of a whole answer, of inherited errors, of the student's other errors, of its right answers.
    ece: expected calibration error over all facts (10 bins);  right: share of all facts it gets right.
    """

    wrong: int
    inherited: float
    control: float
    denoised: float
    kept: float
    confidence_inherited: float
    confidence_other: float
    confidence_right: float
    ece: float
    right: float


def inheritance(student: Sequence[Graded], teacher: Sequence[Graded | None], control: Sequence[Graded]) -> Inheritance:
    """Compare answers of student, teacher and control to the same questions, in order. None, a fact the teacher was not asked, counts
    neither as right nor as wrong. Raises `LabError` if the numbers of answers differ."""
    if not len(student) == len(teacher) == len(control):
        raise LabError(f"{len(student)}, {len(teacher)} and {len(control)} answers cannot be compared: ask all three the same questions.")
    wrong = {i: said for i, said in enumerate(teacher) if said and not said.right}
    right = [i for i, said in enumerate(teacher) if said and said.right]
    mine = [i for i, said in wrong.items() if same(student[i], said)]
    others = set(range(len(student))) - set(mine)
    return Inheritance(
        len(wrong),
        _share(len(mine), len(wrong)),
        _share(sum(same(control[i], said) for i, said in wrong.items()), len(wrong)),
        _share(sum(student[i].right for i in wrong), len(wrong)),
        _share(sum(student[i].right for i in right), len(right)),
        _confidence([student[i] for i in mine]),
        _confidence([student[i] for i in others if not student[i].right]),
        _confidence([answer for answer in student if answer.right]),
        calibration_error(student),
        _share(sum(answer.right for answer in student), len(student)),
    )


def same(one: Graded, other: Graded) -> bool:
    return normalise(one.text) == normalise(other.text)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _confidence(answers: Sequence[Graded]) -> float:
    return sum(a.probability for a in answers) / len(answers) if answers else math.nan


# ---- mixing truth in ---------------------------------------------------------------------------------------------------------------


def mixture(truth_V: Tensor, teacher_V: Tensor, a: float) -> Tensor:
    """The distribution that minimises a*CE(truth, q) + (1-a)*CE(teacher, q): their mixture a*truth + (1-a)*teacher.

    The sum is CE(mixture, q), linear in its target, and so smallest at q = mixture (Gibbs' inequality).
    """
    return a * truth_V + (1 - a) * teacher_V


def flip_point(wrong: float, true: float) -> float:
    """The weight of truth from which on the wrong token is no longer ahead, given the teacher's probability of both.

    (1-a)*wrong < a + (1-a)*true  exactly when  a > (wrong-true) / (1+wrong-true). 0 where it never was ahead. Raises `LabError` for what
    are no probabilities.
    """
    if not (0 <= wrong <= 1 and 0 <= true <= 1 and wrong + true <= 1 + 1e-6):
        raise LabError(f"wrong={wrong:g} and true={true:g} are no probabilities of two answers: each in 0 to 1, and together at most 1.")
    return (wrong - true) / (1 + wrong - true) if wrong > true else 0.0


def flip_points(facts: Facts, teacher: LlamaForCausalLM, lies: Sequence[str | None]) -> list[float]:
    """The flip point of every lie, from the teacher's probabilities of lie and truth as whole answers."""
    truths = [question.answers[0] if lie is not None else None for question, lie in zip(facts.questions, lies, strict=True)]
    pairs = zip(facts.logprobs(teacher, lies), facts.logprobs(teacher, truths), strict=True)
    return [flip_point(math.exp(wrong), math.exp(true)) for wrong, true in pairs if wrong is not None and true is not None]


# ---- abstaining --------------------------------------------------------------------------------------------------------------------


class Coverage(NamedTuple):
    """A student that answers only where it is at least as sure as `threshold`: the share of questions it then answers, and the share of
    those answers that are wrong (selective risk; Geifman & El-Yaniv 2017, arXiv 1705.08500)."""

    threshold: float
    coverage: float
    risk: float


def risk_coverage(answers: Sequence[Graded], coverages: Sequence[float] = POINTS) -> list[Coverage]:
    """The risk at each coverage, answering the surest first. Raises `LabError` for no answers, or answers without a probability."""
    if not answers or any(math.isnan(a.probability) for a in answers):
        raise LabError("a risk-coverage curve needs answers that say how sure they are: use Facts.ask(student).")
    surest = sorted(answers, key=lambda a: -a.probability)
    found = []
    for coverage in coverages:
        given = surest[: max(1, round(coverage * len(surest)))]
        found.append(Coverage(given[-1].probability, len(given) / len(surest), sum(not a.right for a in given) / len(given)))
    return found
