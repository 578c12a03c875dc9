"""Failures of choice: a setting that is legal, and wrong for the student at hand."""

from __future__ import annotations

import math

from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures.registry import failure, kl, setting

HOT, FEW, MANY = 4.0, 256, 3  # a temperature, and numbers of questions and of generations, with which it is sure to go wrong
SOFTER = 5.0  # times as much entropy as the teacher has; sound signals have up to 2.3


def _softness(seen: Evidence) -> float:
    """Entropy of the signal, as a multiple of the teacher's own on the exam; text a student wrote itself says nothing of its teacher."""
    own = seen.exam.fidelity.get("teacher_entropy", math.nan)
    return math.nan if seen.on_policy else seen.entropy / max(1e-9, own)


@failure(
    "top_k_bias",
    "Truncated to the teacher's first guesses",
    provoke=setting(top_k=1, tail="teacher_renormalised"),
    cure=setting(top_k=0, tail="bucket"),
    remedy="Keep a bucket for the mass that was cut off, or sample tokens instead of cutting.",
    needs=("soft labels",),
    symptom=lambda seen: seen.read("pull"),
    unit="mass the loss moves in a student that is the teacher already",
    procedure=(
        "Put the teacher's own logits in the student's place.",
        "Is the gradient 0? A loss that pulls a perfect student away is biased.",
    ),
    cited="Anshumann et al. 2025, arXiv 2503.16870: top-k targets scale what they keep by 1/mass",
)
def top_k_bias(seen: Evidence) -> str:
    if seen.read("pull") > 1e-3:
        moved = seen.read("pull")
        return f"a student equal to the teacher would be moved by {moved:.3f} of its mass: the target is not the teacher's distribution."
    return ""


@failure(
    "wrong_temperature",
    "Too hot for the budget",
    provoke=lambda exp: exp.but(temperature=max(exp.temperature, HOT)),
    cure=setting(temperature=1.0),
    remedy="Go back to T = 1, and raise it only where a tuned run says it pays.",
    needs=("soft labels",),
    symptom=kl,
    unit="KL to the teacher on the exam, nats a token",
    procedure=("Compare the entropy of the target with the teacher's own.", "Is the loss falling while the KL at T = 1 is not?"),
    cited="Hinton et al. 2015, arXiv 1503.02531: with 30 units a layer T above 4 did worse than 2.5 to 4",
)
def wrong_temperature(seen: Evidence) -> str:
    if seen.read("target") > max(1.0, 3 * seen.read("entropy")) and seen.read("scale") >= 0.9:
        return (
            f"the student is asked for {seen.read('target'):.2f} nats of entropy a token where the teacher has {seen.read('entropy'):.2f}."
        )
    return ""


@failure(
    "reverse_kl_collapse",
    "Reverse KL from a random start",
    provoke=setting(divergence="reverse_kl", start="random", temperature=1.0),
    cure=setting(divergence="forward_kl"),
    remedy="Begin with forward KL or a warm start; reverse KL refines a student that already gives the teacher's answers some mass.",
    needs=("soft labels",),
    symptom=kl,
    unit="KL to the teacher on the exam, nats a token",
    procedure=(
        "Is the signal in order, and the gradient not 0?",
        "Is the KL from teacher to student still high, on training and exam alike, when the run ends?",
    ),
    cited="Gu et al. 2023 (MiniLLM), arXiv 2306.08543, starts from a fine-tuned student and mixes the teacher in",
)
def reverse_kl_collapse(seen: Evidence) -> str:
    sound = seen.read("hits") > 0.5 and seen.read("target") < 1.5 * seen.read("entropy")
    if sound and seen.read("scale") > 1.3 and kl(seen) > 2.5 and seen.mean("kl") > 0.6 * kl(seen) and seen.length >= 100:
        return (
            f"the loss starts at {seen.read('scale'):.1f} KLs and falls, while the KL from the teacher stays at {kl(seen):.1f} nats on "
            "training and exam alike: the divergence leaves what the student does not say untouched."
        )
    return ""


@failure(
    "recursive_self_distillation",
    "A student taught by its own kind",
    provoke=lambda exp: exp.but(generations=max(exp.generations, MANY)),
    cure=setting(generations=1),
    remedy="Let every student learn from the teacher itself, and check whose weights answer the questions.",
    needs=("teacher",),
    symptom=kl,
    unit="KL to the teacher on the exam, nats a token",
    procedure=(
        "Examine the teacher that was ordered: how much entropy has it a token?",
        "Compare with the entropy of the signal, as it is, before any temperature: is it many times as much?",
        "Is the KL to the signal near 0 while the KL to the teacher is not?",
    ),
    cited="Shumailov et al. 2023, arXiv 2305.17493: models that learn from what models before them wrote forget more with each generation",
)
def recursive_self_distillation(seen: Evidence) -> str:
    if _softness(seen) > SOFTER:  # each student adds the doubt it was left with
        return (
            f"the signal has {_softness(seen):.0f} times the entropy of the teacher that is examined; KL is {seen.mean('kl'):.2f} to the "
            f"signal and {kl(seen):.2f} to that teacher: somebody who knows less answers in its place."
        )
    return ""


@failure(
    "low_diversity",
    "Too few different questions",
    provoke=lambda exp: exp.but(questions=min(exp.questions, FEW)),
    cure=lambda exp: exp.but(questions=max(exp.questions, 5_000)),
    remedy="Ask more different questions; the same ones again teach the questions, not the world.",
    needs=("soft labels", "questions"),
    symptom=lambda seen: kl(seen) - seen.mean("kl"),
    unit="KL on the exam less that in training, nats a token",
    procedure=("Is the training KL near 0 while the exam's is not?", "Count the distinct questions, and how often each was seen."),
    cited="Taori et al. 2023 (Alpaca) filter generated instructions for likeness; model collapse, Shumailov et al. 2023, arXiv 2305.17493",
)
def low_diversity(seen: Evidence) -> str:
    told, exam = seen.mean("kl"), kl(seen)
    own = not _softness(seen) > SOFTER  # else the two KLs are to two teachers
    if own and exam > 4 * told and exam - told > 1.0 and seen.read("hits") > 0.5:
        return f"KL is {told:.2f} on what it trains on and {exam:.2f} on the exam; each question was seen {seen.exposures:.0f} times."
    return ""
