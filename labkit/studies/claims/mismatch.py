"""Claims on mismatch: a student with other tokens, other questions or another architecture than its teacher."""

from __future__ import annotations

from labkit.base.stats import Band, band
from labkit.records import measurements
from labkit.records.record import Record, core, mean, paired
from labkit.studies.claims.data import less, runs_of, seeds_of
from labkit.studies.claims.verdicts import ClaimFinding, claim
from labkit.studies.sweep import sweep

WAYS = {
    "ids": "by token number",
    "mapped": "shared tokens, and the text",
    "uld": "sorted probabilities, and the text",
    "spans": "shared spans and tokens",
    "chunks": "likelihoods of shared spans",
    "exact": "summed over all segmentations",
}
LACKS = {
    "compare": "comparisons",
    "South America": "South America",
    "paraphrases": "other wordings",
}
ARCHITECTURES = {"gpt2": "GPT-2", "recurrent": "recurrent units"}


def bits(record: Record) -> float:
    """Bits per byte of the teacher's answers under the student."""
    return record.exam.fidelity["bits_per_byte"]


@claim(
    "tokenizers",
    "Different tokenizers break distillation.",
    tested="Carrying the teacher's probabilities across does worse than its text alone.",
    measured="mean core skill of a student with 1,024 other tokens: on the teacher's text alone, minus with each way to carry the "
    "teacher's probabilities across; above 0 where the way costs skill",
    published="ALM, 8B to 2B on mathematics: 49.0 against the teacher's 74.6 (Minixhofer et al. 2025, arXiv 2503.20083)",
)
def tokenizers() -> ClaimFinding:
    grid = sweep("vocabulary")
    text = runs_of(grid, "text")
    effects = {words: paired(text, runs_of(grid, arm)) for arm, words in WAYS.items()}
    own, other = (paired(runs_of(grid, a), runs_of(grid, b)) for a, b in (("same vocabulary", "exact"), ("same vocabulary, text", "text")))
    beside = (
        f"The teacher's own vocabulary minus the exact way (all segmentations): {own.middle:+.2f}. "
        f"The teacher's own vocabulary minus the other, both on text alone: {other.middle:+.2f}."
    )
    return ClaimFinding(effects, "points of 1", beside)


@claim(
    "sorted",
    "Sorted probabilities carry a teacher across any two tokenizers (ULD).",
    tested="ULD adds skill to the text alone.",
    measured="ULD and the teacher's text minus the text alone, for a student with 1,024 other tokens",
    published="2.3 points above teacher-written text on extractive questions (Boizard et al. 2024, arXiv 2402.12030)",
)
def universal() -> ClaimFinding:
    grid = sweep("vocabulary")
    uld, text = runs_of(grid, "uld"), runs_of(grid, "text")
    fidelity = paired(text, uld, bits)
    effects = {"mean core skill": paired(uld, text)}
    beside = f"Bits per byte of the teacher's answers that ULD saves: {fidelity.middle:+.3f} ({fidelity.low:+.3f} to {fidelity.high:+.3f})."
    return ClaimFinding(effects, "points of 1", beside)


def of_task(student: str, start: str, left_out: str, which: str = "missing") -> dict[int, float]:
    """Share of questions that a kind of student gets right, by seed.

    student: "left out", "all covered", "300 gold labels" or "teacher".
    which: "missing" for questions on what was left out, or "rest".
    """
    return seeds_of("task", which, student=student, start=start, left_out=left_out)


def lost(start: str, left_out: str, which: str = "missing") -> Band:
    """Share right of students whose transfer set had `left_out`, minus that of students whose set lacked it."""
    return less(of_task("all covered", start, left_out, which), of_task("left out", start, left_out, which))


@claim(
    "task mismatch",
    "Distil on one task, and the student fails on another.",
    tested="What the transfer set lacks, the student gets right less often.",
    measured="share right on what a transfer set lacked: students whose set had it, minus students whose set lacked it",
    published="a digit left out of the transfer set comes back once its bias is mended (Hinton et al. 2015, arXiv 1503.02531, section 3)",
)
def task_mismatch() -> ClaimFinding:
    found = {(row["start"], row["left_out"]) for row in measurements.rows("task") if row["student"] == "left out"}
    conditions = [(start, name) for start in ("random", "warm") for name in LACKS if (start, name) in found]
    rest = [lost(start, name, "rest") for start, name in conditions]
    beside = f"On all other questions the difference is {min(b.middle for b in rest):+.2f} to {max(b.middle for b in rest):+.2f}."
    return ClaimFinding({f"{LACKS[name]}, {start} start": lost(start, name) for start, name in conditions}, "points of 1", beside)


@claim(
    "architecture",
    "The student has to be built like its teacher.",
    tested="On a Llama's soft labels a Llama does better than a GPT-2 or a recurrent net.",
    measured="mean core skill on the teacher's soft labels: a Llama, like the teacher, minus another architecture with as many parameters",
    published="BERT into a BiLSTM of one layer: level with ELMo, which is 100 times larger (Tang et al. 2019, arXiv 1903.12136); Phi-1.5 "
    "into Mamba-2 with 3 billion tokens (Bick et al. 2024, arXiv 2408.10189)",
)
def architecture() -> ClaimFinding:
    grid = sweep("architecture")
    effects = {words: paired(runs_of(grid, "llama"), runs_of(grid, arm)) for arm, words in ARCHITECTURES.items()}
    gained = [
        f"{words} {band([core(r) - mean(r.scores['label budget']) for r in runs_of(grid, arm)]).middle:+.2f}"
        for arm, words in ({"llama": "Llama"} | ARCHITECTURES).items()
    ]
    return ClaimFinding(
        effects,
        "points of 1",
        f"Gain over the same student on 300 gold labels: {', '.join(gained)}. No teacher of "
        "another architecture was tried: a Llama may just be the better student of any teacher.",
        fits=False,
    )
