"""Claims on hallucination inheritance: which of a teacher's wrong answers a student takes over, and what prevents it."""

from __future__ import annotations

from labkit.studies.claims.data import less, mean_of, seeds_of
from labkit.studies.claims.verdicts import ClaimFinding, claim

CURES = (  # the arm, and the arm of the same student without the cure
    ("truth mixed in, 0.25", "lies 30%"),
    ("truth mixed in, 0.5", "lies 30%"),
    ("truth mixed in, 0.75", "lies 30%"),
    ("text, verified", "text, all"),
    ("text, teachers vote", "text, all"),
    ("text, samples agree", "text, all"),
    ("text, confident", "text, all"),
)


def of(arm: str, number: str) -> dict[int, float]:
    """One number of an arm of the measurement of inheritance, by seed."""
    return seeds_of("inheritance", number, arm=arm)


@claim(
    "hallucination inheritance",
    "Students inherit the teacher's hallucinations.",
    tested="Students give a teacher's wrong answers more often than an honest teacher's students do.",
    measured="share of the teacher's wrong answers that the student gives too, minus that of the same student of an honest teacher",
    published="sequence-level students: 57% more extractive memorisation than baselines of their size, and more hallucination, but also "
    "more denoising on low-quality data (Dankers & Raunak 2025)",
)
def hallucination_inheritance() -> ClaimFinding:
    conditions = {
        "lies on 10% of facts, soft labels": "lies 10%",
        "lies on 30% of facts, soft labels": "lies 30%",
        "lies on 30% of facts, the teacher's text": "text, all",
        "random noise on 30% of labels, soft labels": "noise 30%",
        "random noise on 30% of labels, hard answers": "noise 30%, hard answers",
    }
    effects = {told: less(of(arm, "inherited"), of(arm, "control")) for told, arm in conditions.items()}
    sure = {name: mean_of(of("lies 30%", f"confidence_{name}")) for name in ("inherited", "right", "other")}
    beside = "Mean probability of an answer: {inherited:.2f} of an inherited lie, {right:.2f} of a right one, {other:.2f} of another error."
    return ClaimFinding(effects, "share of 1", beside.format(**sure))


@claim(
    "cures",
    "Mixing in truth, filters and thresholds stop inheritance.",
    tested="Each of them lowers the share of lies that the student gives.",
    measured="share of the teacher's lies that the student gives: without the cure, minus with it",
    published="a*CE(truth) + (1-a)*CE(teacher) is least at the mixture, so a lie is behind from a = (w-t)/(1+w-t) on (Gibbs' inequality)",
)
def cures() -> ClaimFinding:
    effects = {cure: less(of(without, "inherited"), of(cure, "inherited")) for cure, without in CURES}
    left = "; ".join(f"{cure}: {mean_of(of(cure, 'inherited')):.2f}" for cure, _ in CURES)
    return ClaimFinding(effects, "share of 1", f"Share of the lies that is left: {left}.")


@claim(
    "leakage",
    "Soft labels carry facts that were never asked.",
    tested="A student gives lies about elements that it was never asked about.",
    measured="share of a teacher's lies about elements that a student gives which was never asked about one, minus that of an honest "
    "teacher's student",
    published="held-out memorised facts leak through soft labels, up to all of them, depending on temperature (Behrens & Zdeborova 2025)",
)
def leakage() -> ClaimFinding:
    arm, honest = "not asked, lies 30%", "not asked, honest"
    nats = less(of(arm, "nats_lie"), of(honest, "nats_lie"))
    beside = f"The log-probability of the lies changes by {nats.middle:+.2f} nats ({nats.low:+.2f} to {nats.high:+.2f})."
    return ClaimFinding({"elements, T = 1": less(of(arm, "inherited"), of(arm, "control"))}, "share of 1", beside)
