"""Claims on the temperature of the loss, and on that of sampling."""

from __future__ import annotations

from labkit.base.stats import band
from labkit.records import measurements
from labkit.records.record import Record, paired
from labkit.studies.claims.data import STARTS, runs_of
from labkit.studies.claims.verdicts import ClaimFinding, claim
from labkit.studies.sweep import sweep


@claim(
    "T from 2 to 4",
    "T = 2 to 4 is typical.",
    tested="T = 2 or T = 4 does better than T = 1.",
    measured="mean core skill at T = 2, and at T = 4, minus that at T = 1, with forward KL: above 0 where a higher temperature pays",
    published="MNIST 20, speech 2, 30-unit nets 2.5 to 4 (Hinton et al. 2015, arXiv 1503.02531); language models mostly 1",
)
def typical() -> ClaimFinding:
    grid = sweep("temperature")

    def at(size: str, start: str, temperature: float) -> list[Record]:
        return runs_of(grid, size, start=start, temperature=temperature, divergence="forward_kl")

    conditions = [(T, size, start) for T in (2.0, 4.0) for size in grid.arms for start in STARTS]
    return ClaimFinding(
        {f"T = {T:g}, {z}, {s} start": paired(at(z, s, T), at(z, s, 1.0)) for T, z, s in conditions}, "points of 1", fits=False
    )


@claim(
    "direction",
    "From a warm start, reverse KL does better than forward KL.",
    measured="mean core skill with reverse KL minus that with forward KL, from a warm start, at T = 1",
    published="GPT-2 on Dolly: MiniLLM 24.6 ROUGE-L, word-level KD 22.8, from a fine-tuned student (Gu et al. 2023, arXiv 2306.08543)",
)
def direction() -> ClaimFinding:
    grid = sweep("temperature")

    def at(size: str, divergence: str) -> list[Record]:
        return runs_of(grid, size, start="warm", temperature=1.0, divergence=divergence)

    return ClaimFinding({f"{size} student": paired(at(size, "reverse_kl"), at(size, "forward_kl")) for size in grid.arms}, "points of 1")


@claim(
    "higher T",
    "A higher temperature reveals the model's uncertainty.",
    tested="At T = 4 more of the probability beside the first guess is on valid answers than at T = 1.",
    measured="the teacher's probability beside its first guess: the share of it on tokens that begin other answers it was taught, at T = 4 "
    "minus at T = 1",
    published="Hinton et al. 2015: very small probabilities carry the similarity structure, and noise, since little constrains them",
)
def higher_temperature() -> ClaimFinding:
    at = {T: {row["question"]: row["valid"] for row in measurements.rows("beneath") if row["T"] == T} for T in (1.0, 4.0)}
    effect = band([at[4.0][q] - at[1.0][q] for q in at[1.0]])
    middle = {T: sum(values.values()) / len(values) for T, values in at.items()}
    beside = (
        f"The mean share is {middle[1.0]:.2f} at T = 1 and {middle[4.0]:.2f} at T = 4. Entropy grows with T in any case: that is a theorem."
    )
    return ClaimFinding({"the teacher, question by question": effect}, "share of 1", beside)


@claim(
    "diversity",
    "Temperature controls response diversity.",
    tested="Samples at T = 1.5 differ more often than samples at T = 0.5.",
    measured="share of different answers among 16 samples a question, at a sampling temperature of 1.5 minus at 0.5",
    published="Kim & Rush 2016 train on the mode; Alpaca samples its 52,000 answers",
)
def diversity() -> ClaimFinding:
    rows = measurements.rows("sampling")
    effects, lost = {}, []
    for kind in ("open", "one answer"):
        at = {T: {r["question"]: r for r in rows if r["T"] == T and r["questions"] == kind} for T in (0.5, 1.5)}
        effects[f"{kind} questions"] = band([at[1.5][q]["distinct"] - at[0.5][q]["distinct"] for q in at[0.5]])
        lost.append(sum(at[1.5][q]["valid"] - at[0.5][q]["valid"] for q in at[0.5]) / len(at[0.5]))
    beside = (
        f"The share of right answers changes by {lost[0]:+.2f} (open questions) and {lost[1]:+.2f} (questions with one answer). The "
        "sampling temperature trades right answers for variety. It is not the temperature of the loss."
    )
    return ClaimFinding(effects, "share of 1", beside)
