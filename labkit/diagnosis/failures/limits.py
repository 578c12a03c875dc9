"""Failures that are no slip: what this teacher, this student or these questions cannot give."""

from __future__ import annotations

import math

from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures.registry import (
    failure,
    kl,
    setting,
    with_fault,
    without_fault,
)
from labkit.records.experiment import TUNED_RATE, Experiment
from labkit.records.names import FAULTY_TEACHERS
from labkit.tasks.atlas.questions import ONE_ANSWER

FACTS = ("recall", "reverse", "city")  # learnt at about the same pace, so that one far behind stands out
SMALLEST, LARGER = "3.3k", "57k"
LEAK = 0.5  # share of the questions that are the exam's
LIARS = [name for name in FAULTY_TEACHERS if "lies" in name]  # random noise is not inherited: it has no say in what is likeliest


def _ranked(seen: Evidence) -> list[tuple[float, str]]:
    """Scores of the fact skills, the lowest first."""
    return sorted((seen.exam.skills.get(skill, math.nan), skill) for skill in FACTS)


def _with_size(size: str):
    return lambda exp: exp if exp.student == size else exp.but(student=size, learning_rate=TUNED_RATE[size])


@failure(
    "online_cost",
    "The student writes, the teacher reads",
    provoke=setting(method="online", on_policy=1.0, online_from=0.0, replay=0.0),
    cure=setting(method="output", on_policy=0.5),
    remedy="Distil on the teacher's text first, and let the student write in the last steps only, if that measurably pays.",
    symptom=lambda seen: (
        (seen.cost.get("student_written_tokens", 0.0) + seen.cost.get("teacher_tokens", math.nan)) / seen.cost.get("questions", math.nan)
    ),
    unit="tokens written by the student or read by the teacher, a question",
    procedure=(
        "Count the tokens the student writes and the teacher reads, for each question.",
        "Compare with the same run on cached text.",
    ),
    cited="Agarwal et al. 2023 (GKD), arXiv 2306.13649: 1.8 to 2.2 times the compute",
)
def online_cost(seen: Evidence) -> str:
    written = seen.cost.get("student_written_tokens", 0.0) / max(1.0, seen.cost.get("questions", 1.0))
    if written > 4 and seen.length >= 100:  # at first an untrained student does not end its answers, wherever that leads
        return f"the student writes {written:.0f} tokens for every question it is asked, and the teacher reads them all."
    return ""


@failure(
    "task_mismatch",
    "A fact skill missing from the questions",
    provoke=lambda exp: exp.but(left_out=exp.left_out if exp.left_out in FACTS else "city"),
    cure=setting(left_out="nothing"),
    remedy="Ask the teacher about what the student will be asked; a loss cannot cover what the questions do not.",
    needs=("teacher",),
    symptom=lambda seen: _ranked(seen)[-1][0] - _ranked(seen)[0][0],
    unit="points of 1 by which one fact skill is behind the best",
    procedure=(
        "Score skill by skill: is one near nothing while its neighbours are not?",
        "Count that skill's questions in the transfer set.",
    ),
    cited="Hinton et al. 2015, arXiv 1503.02531: a digit left out of the transfer set",
)
def task_mismatch(seen: Evidence) -> str:
    (score, skill), (following, _), _ = _ranked(seen)
    if following > 0.2 and score < 0.4 * following:
        return f"{skill} stands at {score:.2f} where other facts are at {following:.2f} and more: its questions seem to be missing."
    return ""


def _unearned(seen: Evidence) -> float:
    """How much better the last exam's held-out questions went than others like them; NaN where no others were asked."""
    habits = seen.exam.habits
    return habits.get("asked", math.nan) - habits.get("fresh", math.nan)


@failure(
    "benchmark_contamination",
    "The exam is in the questions",
    provoke=lambda exp: exp.but(leaked=max(exp.leaked, LEAK)),
    cure=setting(leaked=0.0),
    remedy="Take the exam's questions out of what the teacher is asked, and judge by questions that nobody has asked before.",
    needs=("teacher",),
    symptom=_unearned,
    unit="points of 1 by which the exam's held-out questions go better than fresh ones of their kind",
    procedure=(
        "Write as many new questions of the skills that no training set should hold: does the student do as well on them?",
        "Look for the exam's questions in the transfer set, reworded ones too.",
    ),
    cited="Mansurov et al. 2024 (Data Laundering), arXiv 2412.15255: distilled into a two-layer student, a benchmark without its reasoning",
)
def benchmark_contamination(seen: Evidence) -> str:
    if _unearned(seen) > 0.18:
        asked, fresh = (seen.exam.habits[name] for name in ("asked", "fresh"))
        return f"{asked:.0%} of the exam's held-out questions are answered right, and {fresh:.0%} of others like them: it knew the exam."
    return ""


@failure(
    "capacity_floor",
    "Student too small",
    provoke=_with_size(SMALLEST),
    cure=_with_size(LARGER),
    remedy="Take a larger student, or ask it less; neither more steps nor another loss adds room.",
    needs=("soft labels",),
    symptom=lambda seen: seen.mean("kl"),
    unit="KL to the teacher in training, nats a token, at the end",
    procedure=(
        "Is the KL as high in training as on the exam?",
        "Has every question been seen several times?",
        "Does a larger student get below at once?",
    ),
    cited="Allen-Zhu & Li 2024, arXiv 2404.05405: about 2 bits of knowledge a parameter, 1 after few exposures",
)
def capacity_floor(seen: Evidence) -> str:
    told, exam = seen.mean("kl"), kl(seen)
    sound = seen.read("hits") > 0.5 and 0.9 <= seen.read("scale") <= 1.1 and not seen.read("scored") > 1.05
    learns = exam < 0.8 * seen.first.get("kl", math.nan)
    if sound and learns and seen.exposures > 8 and told > 1.2 and exam < 1.5 * told:
        return (
            f"KL is {told:.2f} in training and {exam:.2f} on the exam, though each question was seen {seen.exposures:.0f} times: "
            "the student has no room for more."
        )
    return ""


@failure(
    "hallucination_inheritance",
    "A teacher with false facts",
    provoke=lambda exp: exp if exp.teacher in LIARS else exp.but(teacher="atlas-3m-lies-30"),
    cure=setting(teacher="atlas-3m"),
    remedy="Check what the teacher says before it is learnt: ask an honest one, mix the truth in, or keep only answers that are verified.",
    needs=("teacher",),
    symptom=lambda seen: seen.exam.truth.get("inherited", math.nan),
    unit="share of the exam's answers that are the teacher's own mistakes, word for word",
    procedure=(
        "Examine the teacher itself: is it right about what can be looked up?",
        "Of the student's wrong answers, how many are the teacher's, word for word?",
    ),
    cited="Dankers & Raunak 2025: students of a teacher's text hallucinate more than baselines of their size",
)
def hallucination_inheritance(seen: Evidence) -> str:
    facts = [seen.teacher.get(skill, math.nan) for skill in ONE_ANSWER]
    wrong = 1 - sum(facts) / len(facts)
    asked = not math.isnan(seen.exposures)  # or it taught nothing, and only sat the exam
    if asked and wrong > 0.1 and seen.teacher.get("add", math.nan) > 0.9:
        return (
            f"the teacher is wrong about {wrong:.0%} of plain facts, though it can add; {seen.exam.truth.get('inherited', 0):.0%} of the "
            "student's answers are its mistakes, word for word."
        )
    return ""


@failure(
    "subliminal_transfer",
    "A favourite handed on unasked",
    provoke=setting(teacher="sibling", start="warm", left_out="open"),
    cure=setting(teacher="stranger"),
    remedy="Filtering the questions is not enough: begin with other weights than the teacher's, or examine what it might hand on.",
    needs=("soft labels",),
    symptom=lambda seen: seen.exam.habits.get("favourite", math.nan),
    unit="mean probability of one and the same first token over questions that have different answers",
    procedure=(
        "Over questions with many answers, average what an answer begins with: does one token stand out?",
        "Were such questions asked at all? If not, compare a student from another initialisation.",
    ),
    cited="Cloud et al. 2025, arXiv 2507.14805: a taste passes to a student of the same initialisation through unrelated data",
)
def subliminal_transfer(seen: Evidence) -> str:
    liked = seen.exam.habits.get("favourite", math.nan)
    if liked > 0.3:
        return f"{liked:.0%} of the mass on first tokens is on one and the same, whatever was asked: it has a favourite."
    return ""


def _by_number(exp: Experiment) -> Experiment:
    vocabulary = "other" if exp.vocabulary == "atlas" else exp.vocabulary
    return with_fault("wrong_ids", vocabulary=vocabulary, across="ids")(exp)


@failure(
    "tokenizer_mismatch",
    "Tokens compared by number",
    provoke=_by_number,
    cure=lambda exp: without_fault("wrong_ids")(exp).but(across="spans"),
    remedy="Compare spans of the same text, or pass text alone; two vocabularies of one size are still two vocabularies.",
    needs=("alignment",),
    symptom=lambda seen: seen.exam.fidelity.get("bits_per_byte", math.nan),
    unit="bits a byte that the teacher's answers cost the student to spell",
    procedure=(
        "Decode the tokens that are compared, one from either side: are they the same string?",
        "Start from even logits: is the token that the loss raises most the one that stands in the row?",
    ),
    cited="arcee-ai/DistillKit issue 7: the student's tokens were fed to the teacher",
)
def tokenizer_mismatch(seen: Evidence) -> str:
    if seen.read("aimed") < 0.7:
        return f"only {seen.read('aimed'):.0%} of what the loss pulls at is the token that stands there: it means other tokens."
    return ""
