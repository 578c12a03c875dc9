"""Hallucination inheritance: which of a teacher's wrong answers its student gives too, with which confidence, and what prevents it.

    facts = Facts(Atlas("half"))                          # every plain fact, asked once
    teacher, student, control = (facts.ask(m) for m in models)
    inheritance(student, teacher, control)                # rates, confidence, calibration
    flip_point(0.95, 0.02)                                # weight of the truth from which a lie is no longer the most likely answer

An answer is inherited if it is the same wrong answer that the teacher gave. The control is the same student, taught by an honest teacher.

Sources: Dankers & Raunak 2025 measure such rates for memorised text, against students of the same size; Behrens & Zdeborova 2025 for facts
that were never asked.
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

EVERY = 1_000_000  # more questions of a skill than there are
POINTS = tuple(i / 20 for i in range(1, 21))  # coverages of a risk-coverage curve


class Facts:
    """Every plain fact of a world (one right answer, no reasoning) as a question in its canonical wording, in a fixed order.

    skills: only facts of these.

    Raises `LabError` for skills without plain facts.
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
        """The model's greedy answer to each question, with its probability and whether it is right."""
        return list(self._exam.grade(model).answers)

    def mark(self, texts: Sequence[str]) -> list[Graded]:
        """Grade answers from another source; their probability is unknown (NaN)."""
        return [Graded(text, math.nan, self.world.is_right(q, text)) for q, text in zip(self.questions, texts, strict=True)]

    def taught(self, pool: Signals, asked: Sequence[Question]) -> list[Graded | None]:
        """The answers that a student was taught: those that the teacher of `pool` sampled, graded.

        asked: the questions of the pool.

        Returns one answer for each fact; None for a fact that is not in `asked`.
        """
        row = {question.text: number for number, question in reversed(list(enumerate(asked)))}
        rows = [row.get(question.text) for question in self.questions]
        list(pool.prepare([r for r in rows if r is not None]))
        graded = self.mark(["" if r is None else tokenizer().text(pool.answer(r)) for r in rows])
        return [None if r is None else answer for r, answer in zip(rows, graded, strict=True)]

    def lies(self, lying: Atlas) -> list[str | None]:
        """The wrong answer that a lying world of the same scale has for each fact; None for a true one."""
        return [lying.falsehood(question.fact) for question in self.questions]

    def logprobs(self, model: LlamaForCausalLM, answers: Sequence[str | None]) -> list[float | None]:
        """The model's log-probability of each whole answer with its end token, in nats; None stays None."""
        rows = [i for i, answer in enumerate(answers) if answer is not None]
        prompts = tokenizer().prompts([self.questions[i].text for i in rows])
        ids = tokenizer().answers([answers[i] or "" for i in rows])
        scores: list[float | None] = [None] * len(answers)
        for i, score in zip(rows, score_answers(model, prompts, ids), strict=True):
            scores[i] = float(score.sum())
        return scores


class Inheritance(NamedTuple):
    """Rates and confidences of inherited answers. A share or a mean of nothing is NaN."""

    wrong: int  # facts that the teacher got wrong
    inherited: float  # share of `wrong` to which the student gives the teacher's wrong answer
    control: float  # the same of the control student
    denoised: float  # share of `wrong` that the student gets right
    kept: float  # share of the facts that the teacher got right that the student gets right too
    confidence_inherited: float  # mean probability of a whole answer: of inherited errors
    confidence_other: float  # of the student's other errors
    confidence_right: float  # of its right answers
    ece: float  # expected calibration error over all facts (10 bins)
    right: float  # share of all facts that the student gets right


def inheritance(student: Sequence[Graded], teacher: Sequence[Graded | None], control: Sequence[Graded]) -> Inheritance:
    """Compare answers to the same questions, in the same order.

    student, teacher, control: answers of each. A teacher's None, for a fact that it was not asked, is neither right nor wrong.

    Raises `LabError` if the numbers of answers differ.
    """
    if not len(student) == len(teacher) == len(control):
        raise LabError(f"{len(student)}, {len(teacher)} and {len(control)} answers cannot be compared: ask all three the same questions.")
    wrong = {i: answer for i, answer in enumerate(teacher) if answer and not answer.right}
    right = [i for i, answer in enumerate(teacher) if answer and answer.right]
    inherited = [i for i, answer in wrong.items() if same(student[i], answer)]
    others = set(range(len(student))) - set(inherited)
    return Inheritance(
        len(wrong),
        _share(len(inherited), len(wrong)),
        _share(sum(same(control[i], answer) for i, answer in wrong.items()), len(wrong)),
        _share(sum(student[i].right for i in wrong), len(wrong)),
        _share(sum(student[i].right for i in right), len(right)),
        _confidence([student[i] for i in inherited]),
        _confidence([student[i] for i in others if not student[i].right]),
        _confidence([answer for answer in student if answer.right]),
        calibration_error(student),
        _share(sum(answer.right for answer in student), len(student)),
    )


def same(one: Graded, other: Graded) -> bool:
    """Whether two answers have the same text, after `normalise`."""
    return normalise(one.text) == normalise(other.text)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _confidence(answers: Sequence[Graded]) -> float:
    return sum(a.probability for a in answers) / len(answers) if answers else math.nan


# ---- mixing truth in ---------------------------------------------------------------------------------------------------------------


def mixture(truth_V: Tensor, teacher_V: Tensor, a: float) -> Tensor:
    """The distribution q that minimises a*CE(truth, q) + (1-a)*CE(teacher, q): the mixture a*truth + (1-a)*teacher.

    Cross-entropy is linear in its target, so the sum is CE(mixture, q), which is smallest at q = mixture (Gibbs' inequality).

    truth_V, teacher_V: distributions over the vocabulary.
    a: weight of the truth, 0 to 1.
    """
    return a * truth_V + (1 - a) * teacher_V


def flip_point(wrong: float, true: float) -> float:
    """The weight a of the truth from which the wrong token is no longer more likely than the true one.

    (1-a)*wrong < a + (1-a)*true  exactly when  a > (wrong-true) / (1+wrong-true).

    wrong, true: the teacher's probabilities of both.

    Returns the weight; 0 if the wrong token never was more likely. Raises `LabError` for values that are not probabilities.
    """
    if not (0 <= wrong <= 1 and 0 <= true <= 1 and wrong + true <= 1 + 1e-6):
        raise LabError(f"wrong={wrong:g} and true={true:g} must be probabilities of two answers: each in 0 to 1, and together at most 1.")
    return (wrong - true) / (1 + wrong - true) if wrong > true else 0.0


def flip_points(facts: Facts, teacher: LlamaForCausalLM, lies: Sequence[str | None]) -> list[float]:
    """The flip point of each lie, from the teacher's probabilities of lie and truth as whole answers."""
    truths = [question.answers[0] if lie is not None else None for question, lie in zip(facts.questions, lies, strict=True)]
    pairs = zip(facts.logprobs(teacher, lies), facts.logprobs(teacher, truths), strict=True)
    return [flip_point(math.exp(wrong), math.exp(true)) for wrong, true in pairs if wrong is not None and true is not None]


# ---- abstaining --------------------------------------------------------------------------------------------------------------------


class Coverage(NamedTuple):
    """A student that abstains below a threshold.

    Source: selective risk, Geifman & El-Yaniv 2017, arXiv 1705.08500.
    """

    threshold: float  # the lowest probability of an answer that it gives
    coverage: float  # share of the questions that it answers
    risk: float  # share of these answers that are wrong


def risk_coverage(answers: Sequence[Graded], coverages: Sequence[float] = POINTS) -> list[Coverage]:
    """The risk at each coverage, with the most confident answers first.

    coverages: shares of the questions, above 0 and at most 1.

    Raises `LabError` for no answers, or answers without a probability.
    """
    if not answers or any(math.isnan(a.probability) for a in answers):
        raise LabError("a risk-coverage curve needs answers with probabilities: use Facts.ask(student).")
    ranked = sorted(answers, key=lambda a: -a.probability)
    curve = []
    for coverage in coverages:
        given = ranked[: max(1, round(coverage * len(ranked)))]
        curve.append(Coverage(given[-1].probability, len(given) / len(ranked), sum(not a.right for a in given) / len(given)))
    return curve
