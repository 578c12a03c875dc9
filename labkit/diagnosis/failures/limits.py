"""Failures without a bug: limits of the teacher, the student or the questions."""

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

FACTS = ("recall", "reverse", "city")  # learnt at about the same pace, so one that is far behind is noticed
SMALLEST, LARGER = "3.3k", "57k"
LEAK = 0.5  # share of the questions that are from the exam
LIARS = [name for name in FAULTY_TEACHERS if "lies" in name]  # random noise is not inherited: it does not change the likeliest answer


def _ranked(seen: Evidence) -> list[tuple[float, str]]:
    """Scores of the fact skills, the lowest first."""
    return sorted((seen.exam.skills.get(skill, math.nan), skill) for skill in FACTS)


def _with_size(size: str):
    return lambda exp: exp if exp.student == size else exp.but(student=size, learning_rate=TUNED_RATE[size])


@failure(
    "online_cost",
    "Costly on-policy text",
    provoke=setting(method="online", on_policy=1.0, online_from=0.0, replay=0.0),
    cure=setting(method="output", on_policy=0.5),
    remedy="Distil on the teacher's text first, and let the student write in the last steps only, if that measurably pays.",
    symptom=lambda seen: (
        (seen.cost.get("student_written_tokens", 0.0) + seen.cost.get("teacher_tokens", math.nan)) / seen.cost.get("questions", math.nan)
    ),
    unit="tokens that the student writes or the teacher reads, for each question",
    procedure=(
        "Count the tokens the student writes and the teacher reads, for each question.",
        "Compare with the same run on cached text.",
    ),
    cited="Agarwal et al. 2023 (GKD), arXiv 2306.13649: 1.8 to 2.2 times the compute",
)
def online_cost(seen: Evidence) -> str:
    written = seen.cost.get("student_written_tokens", 0.0) / max(1.0, seen.cost.get("questions", 1.0))
    if written > 4 and seen.length >= 100:  # at first an untrained student does not end its answers, in any run
        return f"the student writes {written:.0f} tokens for each question, and the teacher reads all of them."
    return ""


@failure(
    "task_mismatch",
    "A fact skill missing from the questions",
    provoke=lambda exp: exp.but(left_out=exp.left_out if exp.left_out in FACTS else "city"),
    cure=setting(left_out="nothing"),
    remedy="Ask the teacher about what the student will be asked; a loss cannot cover what the questions do not.",
    needs=("teacher",),
    symptom=lambda seen: _ranked(seen)[-1][0] - _ranked(seen)[0][0],
    unit="score of the best fact skill minus that of the worst",
    procedure=(
        "Score each skill: is one near 0 while similar ones are not?",
        "Count that skill's questions in the transfer set.",
    ),
    cited="Hinton et al. 2015, arXiv 1503.02531: a digit left out of the transfer set",
)
def task_mismatch(seen: Evidence) -> str:
    (score, skill), (following, _), _ = _ranked(seen)
    if following > 0.2 and score < 0.4 * following:
        return f"{skill} scores {score:.2f}, other facts {following:.2f} or more: its questions seem to be missing."
    return ""


def _unearned(seen: Evidence) -> float:
    """Score on the last exam's held-out questions minus that on fresh ones like them; NaN if no fresh ones were asked."""
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
    unit="score on the exam's held-out questions minus that on fresh ones like them",
    procedure=(
        "Write as many new questions of the held-out skills: does the student score as well on them?",
        "Look for the exam's questions in the transfer set, reworded ones too.",
    ),
    cited="Mansurov et al. 2024 (Data Laundering), arXiv 2412.15255: a benchmark distilled into a two-layer student, without the reasoning",
)
def benchmark_contamination(seen: Evidence) -> str:
    if _unearned(seen) > 0.18:
        asked, fresh = (seen.exam.habits[name] for name in ("asked", "fresh"))
        return f"{asked:.0%} of the exam's held-out questions are right, but only {fresh:.0%} of fresh ones like them: it knew the exam."
    return ""


@failure(
    "capacity_floor",
    "Student too small",
    provoke=_with_size(SMALLEST),
    cure=_with_size(LARGER),
    remedy="Take a larger student, or ask it less; neither more steps nor another loss adds room.",
    needs=("soft labels",),
    symptom=lambda seen: seen.mean("kl"),
    unit="KL to the teacher at the end of training, nats a token",
    procedure=(
        "Is the KL as high in training as on the exam?",
        "Was every question used several times?",
        "Does a larger student get a lower KL at once?",
    ),
    cited="Allen-Zhu & Li 2024, arXiv 2404.05405: about 2 bits of knowledge a parameter, 1 after few exposures",
)
def capacity_floor(seen: Evidence) -> str:
    training, exam = seen.mean("kl"), kl(seen)
    sound = seen.read("hits") > 0.5 and 0.9 <= seen.read("scale") <= 1.1 and not seen.read("scored") > 1.05
    learns = exam < 0.8 * seen.first.get("kl", math.nan)
    if sound and learns and seen.exposures > 8 and training > 1.2 and exam < 1.5 * training:
        return (
            f"KL is {training:.2f} in training and {exam:.2f} on the exam, though each question was used {seen.exposures:.0f} times: "
            "the student is too small to hold more."
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
    unit="share of the exam's answers that repeat the teacher's mistake, word for word",
    procedure=(
        "Examine the teacher: is it right about facts that you can look up?",
        "Of the student's wrong answers, how many does the teacher give too, word for word?",
    ),
    cited="Dankers & Raunak 2025: students of a teacher's text hallucinate more than baselines of their size",
)
def hallucination_inheritance(seen: Evidence) -> str:
    facts = [seen.teacher.get(skill, math.nan) for skill in ONE_ANSWER]
    wrong = 1 - sum(facts) / len(facts)
    asked = not math.isnan(seen.exposures)  # else the teacher gave no signal, and was only examined
    if asked and wrong > 0.1 and seen.teacher.get("add", math.nan) > 0.9:
        return (
            f"the teacher is wrong about {wrong:.0%} of plain facts, though it can add; {seen.exam.truth.get('inherited', 0):.0%} of the "
            "student's answers repeat its mistakes, word for word."
        )
    return ""


@failure(
    "subliminal_transfer",
    "A hidden preference passed on",
    provoke=setting(teacher="sibling", start="warm", left_out="open"),
    cure=setting(teacher="stranger"),
    remedy="Filtering the questions is not enough: begin with other weights than the teacher's, or examine what it might hand on.",
    needs=("soft labels",),
    symptom=lambda seen: seen.exam.habits.get("favourite", math.nan),
    unit="mean probability of the commonest first token, over questions with different answers",
    procedure=(
        "Average the first-token distribution over questions with many answers: does one token stand out?",
        "Were such questions in the transfer set? If not, compare with a student of another initialisation.",
    ),
    cited="Cloud et al. 2025, arXiv 2507.14805: a preference passes to a student of the same initialisation through unrelated data",
)
def subliminal_transfer(seen: Evidence) -> str:
    share = seen.exam.habits.get("favourite", math.nan)
    if share > 0.3:
        return f"{share:.0%} of the mass on first tokens is on one token, whatever the question: the student has a favourite."
    return ""


def _by_number(exp: Experiment) -> Experiment:
    vocabulary = "other" if exp.vocabulary == "atlas" else exp.vocabulary
    return with_fault("wrong_ids", vocabulary=vocabulary, across="ids")(exp)


@failure(
    "tokenizer_mismatch",
    "Tokens compared by id",
    provoke=_by_number,
    cure=lambda exp: without_fault("wrong_ids")(exp).but(across="spans"),
    remedy="Compare spans of the same text, or pass text alone; two vocabularies of one size are still two vocabularies.",
    needs=("alignment",),
    symptom=lambda seen: seen.exam.fidelity.get("bits_per_byte", math.nan),
    unit="bits a byte that the student needs for the teacher's answers",
    procedure=(
        "Decode the two tokens that are compared: are they the same string?",
        "Start from uniform logits: does the loss raise the token in the row most?",
    ),
    cited="arcee-ai/DistillKit issue 7: the student's tokens were fed to the teacher",
)
def tokenizer_mismatch(seen: Evidence) -> str:
    if seen.read("aimed") < 0.7:
        return f"the loss raises the token in the text most only {seen.read('aimed'):.0%} of the time: its ids mean other tokens."
    return ""
