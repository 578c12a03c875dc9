"""Probes: what an engineer would look at in a run gone wrong, and what that costs in minutes.

    PROBES["signal against text"].minutes

A probe opens some fields of `Evidence`. To add one, add a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from labkit.base.errors import unknown
from labkit.diagnosis.evidence import Evidence
from labkit.records.names import SKILLS

UNTOLD = "not told"


class Measure(NamedTuple):
    """A number read off a run: what it is, how to read it, and how it is written."""

    words: str
    read: Callable[[Evidence], float]
    form: str = ".2f"


class Probe(NamedTuple):
    """minutes: what it costs. tells: what one would learn. opens: the fields of the evidence that it reads. curve: a training number to
    draw. samples: whether it shows the student's answers."""

    name: str
    minutes: int
    tells: str
    opens: tuple[str, ...]
    measures: tuple[Measure, ...]
    curve: str = ""
    samples: bool = False


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
            "Does it fall, and from where?",
            ("loss", "ce"),
            (
                Measure("loss, first step", _at("loss", 0)),
                Measure("loss, last 20 steps", _last("loss")),
                Measure("its gold part, last 20 steps", _last("ce")),
            ),
            curve="loss",
        ),
        Probe(
            "gradient norms",
            2,
            "Does anything reach the student?",
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
                Measure("mean probability of its own answers", _habit("confidence")),
            ),
            samples=True,
        ),
        Probe(
            "counters",
            4,
            "How many questions, how often each, and who wrote and read how much?",
            ("exposures", "cost"),
            (
                Measure("times each different question was seen", lambda seen: seen.exposures, ".1f"),
                Measure("tokens the student wrote, a question", _a_question("student_written_tokens"), ".1f"),
                Measure("tokens the teacher read in training, a question", _a_question("teacher_tokens"), ".1f"),
            ),
        ),
        Probe(
            "skill by skill",
            5,
            "Is all of it weak, or one thing?",
            ("skills", "asked", "fresh"),
            (
                *(Measure(name.replace("_", "-"), _skill(name)) for name in SKILLS),
                Measure("mean of add, chain and other skills held out, on the exam's questions", _habit("asked")),
                Measure("the same on as many questions that no exam had asked", _habit("fresh")),
            ),
        ),
        Probe(
            "teacher examined",
            6,
            "Is the teacher itself right, and whose are the student's mistakes?",
            ("teacher", "inherited"),
            (
                Measure("teacher, plain facts right", _teacher("recall", "reverse", "city", "element"), ".0%"),
                Measure("teacher, sums right", _teacher("add"), ".0%"),
                Measure(
                    "student's answers that are the teacher's mistakes", lambda seen: seen.exam.truth.get("inherited", math.nan), ".0%"
                ),
            ),
        ),
        Probe(
            "KL in training and on the exam",
            5,
            "Does it learn what it trains on, and does that carry over?",
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
            (Measure("KL between two readings of one batch, nats a token", _look("noise"), ".4f"),),
        ),
        Probe(
            "entropies",
            8,
            "How soft are the signal, the target made of it, and the teacher itself?",
            ("entropy", "target", "teacher_entropy"),
            (
                Measure("entropy of the signal, mean of all batches looked at", lambda seen: seen.entropy, ".3f"),
                Measure("entropy of the signal, first batch", _look("entropy"), ".3f"),
                Measure("entropy of the target in the loss, first batch", _look("target"), ".3f"),
                Measure("entropy of the teacher itself, on the exam", _fidelity("teacher_entropy"), ".3f"),
            ),
        ),
        Probe(
            "one batch decoded",
            10,
            "Which tokens does the loss read: question, answer, end mark, padding?",
            ("scored", "after_end", "ends"),
            (
                Measure("tokens in the loss for each token of an answer", _look("scored")),
                Measure("share of them behind the end of their row", _look("after_end"), ".0%"),
                Measure("share of the end marks that are in the loss", _look("ends"), ".0%"),
            ),
        ),
        Probe(
            "signal against text",
            10,
            "Does the signal speak of the token that stands there?",
            ("hits", "hits_before", "hits_after", "aimed"),
            (
                Measure("the signal's first choice is the token at its place", _look("hits"), ".0%"),
                Measure("it is the token before", _look("hits_before"), ".0%"),
                Measure("it is the token after", _look("hits_after"), ".0%"),
                Measure("into another vocabulary: what the loss raises most is the token at its place", _look("aimed"), ".0%"),
            ),
        ),
        Probe(
            "soft term by hand",
            12,
            "Is the soft term as large as a KL worked out by hand?",
            ("scale",),
            (Measure("soft term, in KLs at T = 1 of the same logits", _look("scale"), ".3f"),),
        ),
        Probe(
            "perfect student",
            12,
            "Does the loss leave a student alone that is the teacher already?",
            ("pull",),
            (Measure("mass by which it would be moved", _look("pull"), ".4f"),),
        ),
    )
}


def probe(name: str) -> Probe:
    if not isinstance(name, str) or name not in PROBES:
        raise unknown("probe", name, PROBES)
    return PROBES[name]


def minutes(names: Iterable[str]) -> int:
    return sum(PROBES[name].minutes for name in names)
