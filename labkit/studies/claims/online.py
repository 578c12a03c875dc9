"""Claims on exposure bias, and on gain and cost of online training."""

from __future__ import annotations

from labkit.base.stats import Band, band
from labkit.records import measurements
from labkit.records.cost import cost
from labkit.records.record import mean, paired
from labkit.studies.claims.data import runs_of
from labkit.studies.claims.verdicts import ClaimFinding, claim
from labkit.studies.sweep import sweep

STEPPED = {"two_hop_steps": "two-hop in steps", "chain": "chains of sums"}
OFFLINE, HALF, TENTH, QUARTER = "teacher's answers", "half online throughout", "last tenth online", "last quarter online"


def excess_kl(arm: str, skill: str, first: int = 2) -> dict[int, float]:
    """KL to the teacher on the student's own prefixes minus that on the teacher's, mean over positions from `first` on, by seed."""
    rows = [r for r in measurements.rows("exposure") if r["arm"] == arm and r["skill"] == skill and r["position"] >= first]
    excess = {seed: [r["own"] - r["teacher"] for r in rows if r["seed"] == seed] for seed in sorted({r["seed"] for r in rows})}
    return {seed: sum(values) / len(values) for seed, values in excess.items()}


def excess_error(arm: str, skill: str) -> dict[int, float]:
    """Share of last steps that are right after the right first step, minus that after the student's own, by seed."""
    rows = [r for r in measurements.rows("stepwise") if r["arm"] == arm and r["skill"] == skill]
    return {r["seed"]: r["given"] - r["own"] for r in rows}


@claim(
    "exposure bias",
    "A student taught on its teacher's text strays on its own.",
    tested="The student is further from its teacher on its own answers than on the teacher's.",
    measured="KL to the teacher on the student's own prefixes minus that on the teacher's, mean over positions after the first",
    published="the premise of GKD (Agarwal et al. 2023, arXiv 2306.13649)",
)
def exposure_bias() -> ClaimFinding:
    effects = {name: band(list(excess_kl(OFFLINE, skill).values())) for skill, name in STEPPED.items()}
    error = {name: band(list(excess_error(OFFLINE, skill).values())) for skill, name in STEPPED.items()}
    told = "; ".join(f"{name} {found.middle:+.2f} ({found.verdict})" for name, found in error.items())
    return ClaimFinding(effects, "nats", f"Share of right last steps after a right first step, minus after the student's own: {told}.")


@claim(
    "online cure",
    "Training on its own answers cures it.",
    tested="With half of the answers its own, the student strays less.",
    measured="excess KL (on the student's own prefixes minus on the teacher's): taught on the teacher's answers alone, minus with half "
    "of the answers its own",
    published="GKD: a quarter of the student's own answers already helps (Agarwal et al. 2023, arXiv 2306.13649)",
)
def online_cure() -> ClaimFinding:
    effects = {}
    for skill, name in STEPPED.items():
        alone, online = excess_kl(OFFLINE, skill), excess_kl(HALF, skill)
        effects[name] = band([alone[seed] - online[seed] for seed in alone])
    return ClaimFinding(effects, "nats")


@claim(
    "online cost",
    "A last few online steps are worth their cost.",
    tested="Ending with online steps adds skill.",
    measured="mean core skill with the last of 200 steps online, minus that on the teacher's answers alone, from a warm start",
    published="GKD: 1.8 to 2.2 times the compute when online throughout, from a student that already writes adequate text",
)
def online_cost() -> ClaimFinding:
    grid = sweep("online_finish")
    offline = runs_of(grid, OFFLINE)
    effects: dict[str, Band] = {
        "the last tenth, equal steps": paired(runs_of(grid, TENTH), offline),
        "the last quarter, equal steps": paired(runs_of(grid, QUARTER), offline),
    }
    steps = paired(runs_of(grid, TENTH), offline, lambda r: mean(r.skills, tuple(STEPPED)))
    beside = f"The last tenth online changes the score on answers in steps by {steps.middle:+.3f} ({steps.verdict}). {written()}."
    return ClaimFinding(effects, "points of 1", beside)


def written() -> str:
    """Tokens that the students of the last tenth wrote, as a share of those with half online throughout, in words."""
    grid = sweep("online_finish")
    tenth, half = (sum(cost(r).written_tokens for r in runs_of(grid, arm)) for arm in (TENTH, HALF))
    return f"Its students write {tenth / half:.0%} of the tokens of those that write half of the answers in every step"
