"""A claim on transfer sets that lack what the student will be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit import measurements
from labkit.court.judging import Finding, claim
from labkit.verdicts import Band, band

LACKS = {
    "compare": "comparisons",
    "reverse": "reversed facts",
    "South America": "South America",
    "paraphrases": "other wordings",
}


def of_task(student: str, start: str, left_out: str, which: str = "missing") -> dict[int, float]:
    """By seed: share right of a kind of student ("left out", "all covered", "300 gold labels", "teacher"), on what was left out
    ("missing") or on the "rest"."""

    def wanted(row: Mapping[str, Any]) -> bool:
        return (row["student"], row["start"], row["left_out"]) == (student, start, left_out)

    return {row["seed"]: row[which] for row in measurements.rows("task") if wanted(row)}


def lost(start: str, left_out: str, which: str = "missing") -> Band:
    """What a student whose transfer set covers all gets right more often than one whose set lacks this."""
    whole, lacking = of_task("all covered", start, left_out, which), of_task("left out", start, left_out, which)
    return band([whole[seed] - lacking[seed] for seed in whole])


@claim(
    "task mismatch",
    "Distil on one task, and the student fails on another.",
    measured="share right on what the transfer set lacked: of students whose set had it, less of those whose set had not",
    published="a digit left out of the transfer set comes back once its bias is mended (Hinton et al. 2015, arXiv 1503.02531, section 3)",
)
def task_mismatch() -> Finding:
    found = {(row["start"], row["left_out"]) for row in measurements.rows("task") if row["student"] == "left out"}
    conditions = [(start, name) for start in ("random", "warm") for name in LACKS if (start, name) in found]
    rest = [lost(start, name, "rest") for start, name in conditions]
    beside = f"On the rest: {min(b.middle for b in rest):+.2f} to {max(b.middle for b in rest):+.2f}."
    return Finding({f"{LACKS[name]}, {start} start": lost(start, name) for start, name in conditions}, "points of 1", beside)
