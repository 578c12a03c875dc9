"""Probes: what an engineer measures in a run that went wrong, and the price in minutes.

    PROBES["signal against text"].minutes

Each probe opens some fields of `Evidence`. To add a probe, add a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from labkit.base.errors import unknown
from labkit.diagnosis.evidence import Evidence
from labkit.records.names import SKILLS

UNTOLD = "not measured"


class Measure(NamedTuple):
    """A number of a run."""

    words: str  # what it is
    read: Callable[[Evidence], float]
    form: str = ".2f"  # its number format


class Probe(NamedTuple):
    """One thing to look at."""

    name: str
    minutes: int  # its price
    tells: str  # the question that it answers
    opens: tuple[str, ...]  # the fields of the evidence that it reads
    measures: tuple[Measure, ...]
    curve: str = ""  # a training number to draw
    samples: bool = False  # whether it shows the student's answers


def _teacher(*skills: str) -> Callable[[Evidence], float]:
    return lambda seen: sum(seen.teacher.get(skill, math.nan) for skill in skills) / len(skills)


def _at(name: str, place: int) -> Callable[[Evidence], float]:
    def read(seen: Evidence) -> float:
        value = seen.steps[place].get(name)
        return math.nan if value is None else value

    return read


def _last(name: str) -> Callable[[Evidence], float]:
    return lambda seen: seen.mean(name)


def _look(name: str) -> Callable[[Evidence], float]:
    return lambda seen: seen.read(name)


def _fidelity(name: str, exam: int = -1) -> Callable[[Evidence], float]:
    return lambda seen: seen.exams[exam].fidelity.get(name, math.nan)


def _habit(name: str) -> Callable[[Evidence], float]:
    return lambda seen: seen.exam.habits.get(name, math.nan)


def _skill(name: str) -> Callable[[Evidence], float]:
    return lambda seen: seen.exam.skills.get(name, math.nan)


def _a_question(*names: str) -> Callable[[Evidence], float]:
    return lambda seen: sum(seen.cost.get(name, 0.0) for name in names) / max(1.0, seen.cost.get("questions", math.nan))


PROBES = {
    probe.name: probe
    for probe in (
        Probe(
            "loss curve",
            1,
            "Does it fall, and from what value?",
            ("loss", "ce"),
            (
                Measure("loss, first step", _at("loss", 0)),
                Measure("loss, last 20 steps", _last("loss")),
                Measure("loss on gold labels, last 20 steps", _last("ce")),
            ),
            curve="loss",
        ),
        Probe(
            "gradient norms",
            2,
            "Does any gradient reach the student?",
            ("grad_norm",),
            (
                Measure("gradient norm, first step", _at("grad_norm", 0)),
                Measure("gradient norm, last 20 steps", _last("grad_norm")),
            ),
            curve="grad_norm",
        ),
        Probe(
            "sample answers",
            3,
            "What does the student say, and does it stop?",
            ("unended",),
            (
                Measure("answers without an end", _habit("unended"), ".0%"),
                Measure("mean probability that it gives its own answers", _habit("confidence")),
            ),
            samples=True,
        ),
        Probe(
            "counters",
            4,
            "How many questions, how often each, and how many tokens were written and read?",
            ("exposures", "cost"),
            (
                Measure("uses of each different question", lambda seen: seen.exposures, ".1f"),
                Measure("tokens the student wrote, for each question", _a_question("student_written_tokens"), ".1f"),
                Measure("tokens the teacher read in training, for each question", _a_question("teacher_tokens"), ".1f"),
            ),
        ),
        Probe(
            "skill by skill",
            5,
            "Are all skills weak, or one?",
            ("skills", "asked", "fresh"),
            (
                *(Measure(name.replace("_", "-"), _skill(name)) for name in SKILLS),
                Measure("mean of add, chain and other held-out skills, on the exam's questions", _habit("asked")),
                Measure("the same on as many fresh questions", _habit("fresh")),
            ),
        ),
        Probe(
            "teacher examined",
            6,
            "Is the teacher right, and does the student repeat its mistakes?",
            ("teacher", "inherited"),
            (
                Measure("teacher, plain facts right", _teacher("recall", "reverse", "city", "element"), ".0%"),
                Measure("teacher, sums right", _teacher("add"), ".0%"),
                Measure(
                    "student's answers that repeat the teacher's mistake", lambda seen: seen.exam.truth.get("inherited", math.nan), ".0%"
                ),
            ),
        ),
        Probe(
            "KL in training and on the exam",
            5,
            "Does it learn its training questions, and does that transfer to the exam?",
            ("kl",),
            (
                Measure("KL in training, first step", _at("kl", 0)),
                Measure("KL in training, last 20 steps", _last("kl")),
                Measure("KL on the first exam", _fidelity("kl", 0)),
                Measure("KL on the last exam", _fidelity("kl")),
            ),
            curve="kl",
        ),
        Probe(
            "teacher read twice",
            8,
            "Does the same batch get the same signal?",
            ("noise",),
            (Measure("KL between two passes over one batch, nats a token", _look("noise"), ".4f"),),
        ),
        Probe(
            "entropies",
            8,
            "How soft are the signal, the target made from it, and the teacher?",
            ("entropy", "target", "teacher_entropy"),
            (
                Measure("entropy of the signal, mean over all batch checks", lambda seen: seen.entropy, ".3f"),
                Measure("entropy of the signal, first batch", _look("entropy"), ".3f"),
                Measure("entropy of the target in the loss, first batch", _look("target"), ".3f"),
                Measure("entropy of the teacher, on the exam", _fidelity("teacher_entropy"), ".3f"),
            ),
        ),
        Probe(
            "one batch decoded",
            10,
            "Which tokens does the loss read: question, answer, end mark, padding?",
            ("scored", "after_end", "ends"),
            (
                Measure("tokens in the loss for each answer token", _look("scored")),
                Measure("share of them after the end mark of their row", _look("after_end"), ".0%"),
                Measure("share of the end marks that are in the loss", _look("ends"), ".0%"),
            ),
        ),
        Probe(
            "signal against text",
            10,
            "Does the signal match the text, position by position?",
            ("hits", "hits_before", "hits_after", "aimed"),
            (
                Measure("the signal's first choice is the token at its position", _look("hits"), ".0%"),
                Measure("it is the token before", _look("hits_before"), ".0%"),
                Measure("it is the token after", _look("hits_after"), ".0%"),
                Measure("into another vocabulary: the loss raises the token at its position most", _look("aimed"), ".0%"),
            ),
        ),
        Probe(
            "soft term by hand",
            12,
            "Is the soft term as large as a KL computed by hand?",
            ("scale",),
            (Measure("soft term over the KL at T = 1 of the same logits", _look("scale"), ".3f"),),
        ),
        Probe(
            "perfect student",
            12,
            "Does the loss leave a student unchanged that equals the teacher?",
            ("pull",),
            (Measure("probability mass that the loss would move", _look("pull"), ".4f"),),
        ),
    )
}


def probe(name: str) -> Probe:
    """The probe of this name.

    Raises `LabError` for an unknown one.
    """
    if not isinstance(name, str) or name not in PROBES:
        raise unknown("probe", name, PROBES)
    return PROBES[name]


def minutes(names: Iterable[str]) -> int:
    """The price of some probes together."""
    return sum(PROBES[name].minutes for name in names)
