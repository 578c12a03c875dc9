"""Claims on students that cut text into other tokens than their teacher."""

from __future__ import annotations

from labkit.court.judging import Finding, claim
from labkit.court.readings import runs_of
from labkit.records import Record, paired
from labkit.sweeps import sweep

WAYS = {
    "ids": "by token number",
    "mapped": "shared tokens, and the text",
    "uld": "sorted probabilities, and the text",
    "spans": "shared spans and tokens",
    "chunks": "likelihoods of shared spans",
    "exact": "summed over all segmentations",
}


def bits(record: Record) -> float:
    """What the teacher's answers cost a student to spell, bits per byte."""
    return record.evaluations[-1].fidelity["bits_per_byte"]


@claim(
    "tokenizers",
    "Different tokenizers break distillation.",
    measured="mean core skill, into 1,024 other tokens: the teacher's text alone less each way across (above 0 where crossing costs)",
    published="ALM, 8B to 2B on mathematics: 49.0 against the teacher's 74.6 (Minixhofer et al. 2025, arXiv 2503.20083)",
)
def tokenizers() -> Finding:
    grid = sweep("vocabulary")
    text = runs_of(grid, "text")
    effects = {words: paired(text, runs_of(grid, arm)) for arm, words in WAYS.items()}
    cost = paired(runs_of(grid, "exact"), runs_of(grid, "same vocabulary"))
    beside = f"Exact crossing less the teacher's own vocabulary: {cost.middle:+.2f} ({cost.verdict})."
    return Finding(effects, "points of 1", beside)


@claim(
    "sorted",
    "Sorted probabilities carry a teacher across any two tokenizers (ULD).",
    measured="ULD and the text less the text alone, 1,024 other tokens",
    published="2.3 points above teacher-written text on extractive questions (Boizard et al. 2024, arXiv 2402.12030)",
)
def universal() -> Finding:
    grid = sweep("vocabulary")
    uld, text = runs_of(grid, "uld"), runs_of(grid, "text")
    fidelity = paired(text, uld, bits)
    effects = {"mean core skill": paired(uld, text)}
    beside = f"Bits per byte of the teacher's answers saved: {fidelity.middle:+.3f} ({fidelity.low:+.3f} to {fidelity.high:+.3f})."
    return Finding(effects, "points of 1", beside)
