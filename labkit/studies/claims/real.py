"""The same claims on a real model: SmolLM2-135M, and a student with half of its layers, on 600 facts (the sweep "smollm2").

Effects have the sign of the claim's: above 0 where it holds. Runs are short. A claim that is not here was not tried.
"""

from __future__ import annotations

from labkit.base.stats import Band
from labkit.records.record import Record, paired
from labkit.records.store import Store
from labkit.studies.claims.data import less, runs_of, scores
from labkit.studies.claims.verdicts import ClaimFinding, tried
from labkit.studies.sweep import sweep

PLAIN = "soft labels"


def _arm(name: str) -> list[Record]:
    return runs_of(sweep("smollm2"), name)


def _gold() -> list[Record]:
    """Runs of the same student on gold labels, one for each seed."""
    return [gold for run in _arm(PLAIN) if (gold := Store().judged(run.experiment.baseline()))]


def _kl(run: Record) -> float:
    return run.exam.fidelity["kl"]


def _against(better: list[Record], worse: list[Record]) -> dict[str, Band]:
    """Differences in right answers, and in KL to the teacher."""
    return {"answers that hold the truth": paired(better, worse), "nats nearer the teacher": paired(worse, better, _kl)}


def _share(runs: list[Record]) -> str:
    return f"{sum(run.skills['contains'] for run in runs) / len(runs):.2f}"


@tried("T from 2 to 4")
def temperature() -> ClaimFinding:
    return ClaimFinding(_against(_arm("hot"), _arm(PLAIN)), "T = 2 minus T = 1")


@tried("direction")
def direction() -> ClaimFinding:
    return ClaimFinding(_against(_arm("reverse"), _arm(PLAIN)), "reverse KL minus forward KL")


@tried("soft targets")
def soft_targets() -> ClaimFinding:
    soft, hard = _arm(PLAIN), _arm("hard answers")
    beside = f"Share of right answers: soft labels {_share(soft)}, hard labels {_share(hard)}, gold labels {_share(_gold())}."
    return ClaimFinding(_against(soft, hard), "soft labels minus the same answers as hard labels", beside)


@tried("sequence")
def sequence() -> ClaimFinding:
    text = _arm("sampled text")
    told = "; ".join(f"{name} {found.middle:+.2f} ({found.verdict})" for name, found in _against(text, _arm(PLAIN)).items())
    effects = {"answers that hold the truth, against gold labels of all questions": paired(text, _gold())}
    beside = f"The same text minus soft labels on greedy text: {told}."
    return ClaimFinding(effects, "text sampled at T = 1 minus gold labels of the same questions", beside)


@tried("hallucination inheritance")
def inherited() -> ClaimFinding:
    """Share of the teacher's wrong answers that the student gives word for word, minus that of the same student on gold labels."""

    def share(run: Record) -> float:
        return run.exam.truth["inherited"] / (1 - run.scores["teacher"]["contains"])

    gold, teacher = scores(_gold(), lambda run: run.exam.truth["inherited"]), _arm(PLAIN)[0].scores["teacher"]
    wrong = 1 - teacher["contains"]
    control = {seed: value / wrong for seed, value in gold.items()}
    effects = {name: less(scores(_arm(name), share), control) for name in (PLAIN, "hard answers")}
    beside = f"The teacher is wrong about {wrong:.0%} of these facts."
    return ClaimFinding(effects, "share of the teacher's wrong answers that the student gives, minus on gold labels", beside)
