"""Claims on speculative decoding: what a draft learns from verification, and what distillation adds."""

from __future__ import annotations

from labkit.base.stats import Band, band
from labkit.records.record import Record, paired
from labkit.studies.claims.data import less, mean_of, runs_of, scores, seeds_of
from labkit.studies.claims.verdicts import ClaimFinding, claim, tried
from labkit.studies.sweep import sweep

DISTILLED = ("forward KL", "reverse KL", "total variation", "acceptance")
HARD = {"gold labels": "gold labels", "the target's text": "target's text"}  # other training data of a draft, and the arm
# Whether the published trainer reads the target's distribution or states (sources: the claim's `published`).
TAUGHT_BY_THE_TARGET = {"EAGLE-1": True, "EAGLE-3": True, "Medusa-1": False}
BAR = 0.2  # share of rejections that a distilled draft was expected to save


def accepted(run: Record) -> float:
    """Acceptance of a draft, on the teacher's answers at temperature 1."""
    return run.exam.fidelity["acceptance"]


def a_round(run: Record) -> float:
    """Tokens per pass of the teacher, in a run's last exam."""
    return run.exam.fidelity["tokens_per_round"]


def saved(better: list[Record], worse: list[Record]) -> Band:
    """The share of the rejections of the `worse` drafts that the `better` ones save, over seeds that both have."""
    high, low = scores(better, accepted), scores(worse, accepted)
    return band([1 - (1 - high[seed]) / (1 - low[seed]) for seed in sorted(high.keys() & low.keys())])


def rejections_saved(against: str) -> dict[str, Band]:
    """The share of rejections that soft labels save against hard labels with equal steps, by divergence."""
    grid = sweep("drafts")
    return {arm: saved(runs_of(grid, arm), runs_of(grid, HARD[against])) for arm in DISTILLED}


def _told(found: dict[str, Band]) -> str:
    return ", ".join(f"{arm} {b.middle:+.1%} ({b.low:+.1%} to {b.high:+.1%})" for arm, b in found.items()).replace("-", "\u2212")


@claim(
    "draft",
    "In speculative decoding, the draft learns the teacher's distribution through verification.",
    tested="More of a draft's guesses are accepted after it has served.",
    measured="acceptance of a draft on the exam after it has served to decode all answers (transformers' assisted generation) minus before",
    published="a draft has to be distilled for it: 10 to 45% faster then (DistillSpec, Zhou et al. 2023, arXiv 2310.08461)",
)
def draft() -> ClaimFinding:
    before, after = (seeds_of("drafts", when) for when in ("before", "after"))
    found = {against: rejections_saved(against) for against in HARD}
    reached = [f"{arm} against {against}" for against, bands in found.items() for arm, b in bands.items() if b.low >= BAR]
    told = " ".join(
        f"Share of the rejections spared by soft labels, against {against}: {_told(bands)}." for against, bands in found.items()
    )
    grid = sweep("drafts")
    hard = ", ".join(f"{mean_of(scores(runs_of(grid, arm), accepted)):.3f} on {name}" for name, arm in HARD.items())
    beside = (
        f"Verification changes no weight. Acceptance is {mean_of(before):.3f} before and {mean_of(after):.3f} after. "
        f"The same drafts, trained for {grid.base.steps} steps, reach {hard}. {told} "
        f"{BAR:.0%} is reached by {', '.join(reached) or 'none'}."
    )
    answers = {"verification": all(after[seed] > before[seed] for seed in before)}
    return ClaimFinding({"verification alone": less(after, before)}, "points of 1", beside, answers=answers)


@claim(
    "heads",
    "Medusa and EAGLE use distillation losses.",
    tested="Soft labels get more of a head's guesses accepted than the same text as hard labels.",
    measured="acceptance of a head's guess of the next token: on soft labels minus on the same text as hard labels, at equal steps",
    published="Medusa-1's trainer: cross-entropy on the data's tokens, no teacher in it (Cai et al. 2024, arXiv 2401.10774); EAGLE-1's: "
    "SmoothL1 on the target's next state, and a tenth of soft cross-entropy (Li et al. 2024, arXiv 2401.15077); EAGLE-3's: soft "
    "cross-entropy alone, over rolled-out steps (arXiv 2503.01840)",
)
def heads() -> ClaimFinding:
    grid = sweep("heads")
    runs = {arm: runs_of(grid, arm) for arm in grid.arms}
    effects = {
        "Medusa": paired(runs["medusa, soft labels"], runs["medusa, target's text"], accepted),
        "EAGLE": paired(runs["eagle, soft labels"], runs["eagle, target's text"], accepted),
    }
    data = paired(runs["medusa, target's text"], runs["medusa, gold text"], accepted)
    state = paired(runs["eagle, next state and soft labels"], runs["eagle, soft labels"], accepted)
    rounds = "; ".join(f"{arm}: {mean_of(scores(found, a_round)):.2f}" for arm, found in runs.items())
    beside = (
        f"Medusa on the target's text minus on gold text, which is what its trainer reads: {data.middle:+.3f} ({data.verdict}). EAGLE with "
        f"the next state minus without: {state.middle:+.3f} ({state.verdict}). Tokens a round: {rounds}."
    )
    return ClaimFinding(effects, "points of 1", beside, answers=TAUGHT_BY_THE_TARGET)


@tried("heads")
def heads_on_smollm2() -> ClaimFinding:
    grid = sweep("smollm2_heads")
    text, soft = (runs_of(grid, arm) for arm in ("eagle, target's text", "eagle, next state and soft labels"))
    gold = runs_of(sweep("smollm2_medusa"), "eagle, gold text")
    spared, first = saved(soft, text), saved(soft, gold)
    on_text, on_soft, on_gold = (mean_of(scores(found, accepted)) for found in (text, soft, gold))
    others = sweep("smollm2_eagle")
    longer, third = (mean_of(scores(runs_of(others, arm), accepted)) for arm in ("eagle, all questions", "eagle3, soft labels"))
    beside = (
        f"Acceptance is {on_text:.3f} on the target's text and {on_soft:.3f} on its next state and soft labels, which spare "
        f"{spared.middle:.0%} of the rejections ({spared.low:.0%} to {spared.high:.0%}). It is {on_gold:.3f} on gold text, of whose "
        f"rejections they spare {first.middle:.0%}. One seed each: {longer:.3f} with all questions and 6 x the steps, EAGLE-3 {third:.3f}."
    )
    effects = {"EAGLE": paired(soft, text, accepted)}
    return ClaimFinding(effects, "acceptance on the target's next state and soft labels, minus on its text as hard labels", beside)
