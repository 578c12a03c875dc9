"""The claim on imitation: whether a student of a real model's text takes over its form, its facts, or both."""

from __future__ import annotations

from typing import Any

from labkit.base.stats import Band, band
from labkit.records import measurements
from labkit.studies.claims.verdicts import ClaimFinding, claim

STEPS = (20, 60)


def pupil(name: str, step: int) -> list[dict[str, Any]]:
    """The answers of one student to the held-out questions, in order."""
    return [row for row in measurements.rows("imitation") if row["student"] == name and row["step"] == step]


def share(rows: list[dict[str, Any]], number: str) -> float:
    """The mean of one number, over the answers that have it."""
    known = [row[number] for row in rows if row[number] is not None]
    return sum(known) / len(known)


def ahead(step: int, name: str = "teacher's text") -> Band:
    """Gain in form minus gain in facts, over the questions where the teacher's answer names something."""
    pairs = zip(pupil(name, step), pupil("untouched", 0), strict=True)
    return band([(now["form"] - then["form"]) - (now["same"] - then["same"]) for now, then in pairs if now["same"] is not None])


@claim(
    "style before facts",
    "A student of text learns how its teacher sounds before it learns what it knows.",
    measured="gain in words shared with the teacher's answers to other questions, minus gain in answers that name what the teacher names "
    "(both over the untouched student). The student has 15 of SmolLM2's 30 layers and learned 404 of SmolLM2's answers by LoRA",
    published="imitating ChatGPT: authoritative tone 57% to 98%, Natural Questions 20 to 15 (Gudibande et al. 2023, arXiv 2305.15717)",
    on="SmolLM2",
)
def style_before_facts() -> ClaimFinding:
    effects = {f"after {step} steps": ahead(step) for step in STEPS}
    rows = {
        "untouched": pupil("untouched", 0),
        "on text": pupil("teacher's text", STEPS[-1]),
        "on gold labels": pupil("gold labels", STEPS[-1]),
    }
    told = "; ".join(f"{who} {share(r, 'form'):.2f}, {share(r, 'same'):.2f}, {share(r, 'right'):.2f}" for who, r in rows.items())
    return ClaimFinding(effects, "points of 1", f"Shared words, same name, right answers: {told}.")
