"""Failures of choice: settings that are allowed, but wrong for the student."""

from __future__ import annotations

import math

from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures.registry import failure, kl, setting

HOT, FEW, MANY = 4.0, 256, 3  # a temperature, a number of questions and one of generations that surely go wrong
SOFTER = 5.0  # times the teacher's entropy; healthy signals have up to 2.3 times


def _softness(seen: Evidence) -> float:
    """The signal's entropy over the teacher's on the exam; NaN on-policy, where the text is not the teacher's."""
    teacher = seen.exam.fidelity.get("teacher_entropy", math.nan)
    return math.nan if seen.on_policy else seen.entropy / max(1e-9, teacher)


@failure(
    "top_k_bias",
    "Truncated to the teacher's top tokens",
    provoke=setting(top_k=1, tail="teacher_renormalised"),
    cure=setting(top_k=0, tail="bucket"),
    remedy="Keep a bucket for the mass that was cut off, or sample tokens instead of cutting.",
    needs=("soft labels",),
    symptom=lambda seen: seen.read("pull"),
    unit="probability mass that the loss moves in a student equal to the teacher",
    procedure=(
        "Use the teacher's own logits as the student's.",
        "Is the gradient 0? A loss that moves a perfect student is biased.",
    ),
    cited="Anshumann et al. 2025, arXiv 2503.16870: top-k targets scale what they keep by 1/mass",
)
def top_k_bias(seen: Evidence) -> str:
    if seen.read("pull") > 1e-3:
        moved = seen.read("pull")
        return f"the loss would move {moved:.3f} of the mass of a student equal to the teacher: the target is not that of the teacher."
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
    procedure=("Compare the entropy of the target with the teacher's.", "Does the loss fall while the KL at T = 1 does not?"),
    cited="Hinton et al. 2015, arXiv 1503.02531: with 30 units a layer, T above 4 did worse than T from 2.5 to 4",
)
def wrong_temperature(seen: Evidence) -> str:
    if seen.read("target") > max(1.0, 3 * seen.read("entropy")) and seen.read("scale") >= 0.9:
        return f"the target has {seen.read('target'):.2f} nats of entropy a token, and the teacher's signal {seen.read('entropy'):.2f}."
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
        "Is the signal right, and the gradient not 0?",
        "Is the KL from teacher to student still high at the end, in training and on the exam?",
    ),
    cited="Gu et al. 2023 (MiniLLM), arXiv 2306.08543, starts from a fine-tuned student and mixes the teacher in",
)
def reverse_kl_collapse(seen: Evidence) -> str:
    sound = seen.read("hits") > 0.5 and seen.read("target") < 1.5 * seen.read("entropy")
    if sound and seen.read("scale") > 1.3 and kl(seen) > 2.5 and seen.mean("kl") > 0.6 * kl(seen) and seen.length >= 100:
        return (
            f"the loss starts at {seen.read('scale'):.1f} times the KL and falls, but the KL from the teacher stays at {kl(seen):.1f} nats "
            "in training and on the exam: the divergence has no effect on tokens that the student gives no mass."
        )
    return ""


@failure(
    "recursive_self_distillation",
    "A student taught by students",
    provoke=lambda exp: exp.but(generations=max(exp.generations, MANY)),
    cure=setting(generations=1),
    remedy="Let every student learn from the teacher itself, and check whose weights answer the questions.",
    needs=("teacher",),
    symptom=kl,
    unit="KL to the teacher on the exam, nats a token",
    procedure=(
        "Measure the entropy a token of the teacher in the recipe.",
        "Is the signal's entropy, before any temperature, many times as large?",
        "Is the KL to the signal near 0 while the KL to the teacher is not?",
    ),
    cited="Shumailov et al. 2023, arXiv 2305.17493: models trained on the text of earlier models forget more with each generation",
)
def recursive_self_distillation(seen: Evidence) -> str:
    if _softness(seen) > SOFTER:  # each student adds entropy of its own
        return (
            f"the signal has {_softness(seen):.0f} times the entropy of the examined teacher; KL is {seen.mean('kl'):.2f} to the "
            f"signal and {kl(seen):.2f} to that teacher: a model that knows less gives the signal."
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
    unit="KL on the exam minus KL in training, nats a token",
    procedure=("Is the KL near 0 in training and high on the exam?", "Count the distinct questions, and how often each was used."),
    cited="Taori et al. 2023 (Alpaca) drop generated instructions that are alike; model collapse, Shumailov et al. 2023, arXiv 2305.17493",
)
def low_diversity(seen: Evidence) -> str:
    training, exam = seen.mean("kl"), kl(seen)
    same_teacher = not _softness(seen) > SOFTER  # else the two KLs are to two teachers
    if same_teacher and exam > 4 * training and exam - training > 1.0 and seen.read("hits") > 0.5:
        return f"KL is {training:.2f} in training and {exam:.2f} on the exam; each question was used {seen.exposures:.0f} times."
    return ""
