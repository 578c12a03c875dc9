"""Claims on the four ways to distil, on soft targets, and on how good a student can be."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.base.stats import Band, band
from labkit.records.names import CORE
from labkit.records.record import Record, core, mean, paired
from labkit.studies.claims.data import above_gold, cost_ratio, ladder, runs_of
from labkit.studies.claims.verdicts import ClaimFinding, claim
from labkit.studies.sweep import sweep
from labkit.tasks.atlas.questions import ONE_ANSWER


@claim(
    "output",
    "Output distillation: low cost, good quality.",
    tested="Soft labels give more skill than 300 gold labels.",
    measured="mean core skill of a student on soft labels minus that of the same student on 300 gold labels",
    published="GPT-2 on Dolly: word-level KD 22.8 ROUGE-L, plain fine-tuning 23.3 (Gu et al. 2023, arXiv 2306.08543)",
)
def output() -> ClaimFinding:
    beside = f"{cost_ratio('output', 'hard answers')} as a step on hard labels. Whether the cost is low was not tested."
    return ClaimFinding(above_gold("output"), "points of 1", beside, fits=False)


@claim(
    "feature",
    "Feature distillation: medium cost, better quality.",
    tested="Hidden states beside the soft labels give more skill than soft labels alone.",
    measured="mean core skill on soft labels and hidden states minus that on soft labels alone",
    published="ResNets on CIFAR-10: level with or above logit KD in two of three pairs, by fractions of a point (arXiv 2605.31191)",
)
def feature() -> ClaimFinding:
    beside = (
        f"{cost_ratio('hidden states', 'output')} as a step on soft labels. That counts the teacher's reading of each new question: its "
        "soft labels lie in a cache, its hidden states do not. Whether the cost is medium was not tested."
    )
    return ClaimFinding(ladder("hidden states", "output"), "points of 1", beside, fits=False)


@claim(
    "sequence",
    "Sequence-level distillation: low cost, good quality.",
    tested="The teacher's text gives more skill than 300 gold labels.",
    measured="mean core skill of a student on the teacher's greedy text minus that of the same student on 300 gold labels",
    published="En-De, greedy: word-level KD 15.4 BLEU, sequence-level 18.9 (Kim & Rush 2016, arXiv 1606.07947)",
)
def sequence() -> ClaimFinding:
    closed, grid = [skill for skill in CORE if skill != "open"], sweep("ladder")
    text, soft = (runs_of(grid, f"{arm}, warm") for arm in ("teacher's text", "output"))
    without = paired(text, soft, lambda r: mean(r.skills, closed))
    cost = cost_ratio("teacher's text", "output")
    less_soft = "; ".join(f"{where} {b.middle:+.2f} ({b.verdict})" for where, b in ladder("teacher's text", "output").items())
    beside = (
        f"{cost} as a step on soft labels. The text minus soft labels: {less_soft}; from a warm start on equal questions, without open "
        f"ones, {without.middle:+.2f} ({without.verdict}). Whether the cost is low was not tested."
    )
    return ClaimFinding(above_gold("teacher's text"), "points of 1", beside, fits=False)


@claim(
    "online",
    "Online distillation: high cost, best quality.",
    tested="Writing half of its training answers itself gives a student more skill than the teacher's answers alone.",
    measured="mean core skill of online runs (the student writes half of the answers) minus that on soft labels for the teacher's answers",
    published="GKD: 1.7 to 2.1 times the gain of KD on fixed text, at 1.8 to 2.2 times the compute (Agarwal et al. 2023, arXiv 2306.13649)",
)
def online() -> ClaimFinding:
    return ClaimFinding(ladder("online", "output"), "points of 1", f"{cost_ratio('online', 'output')} as a step on soft labels.")


@claim(
    "a tenth of the cost",
    "80% of its quality at 10% of the cost.",
    tested="A student with 7% of the teacher's parameters reaches more than 80% of it.",
    measured="what a student with 7% of the teacher's parameters reaches, minus 0.80",
    published="DistilBERT: 97% of BERT on GLUE with 60% of its parameters (Sanh et al. 2019, arXiv 1910.01108)",
)
def a_tenth_of_the_cost() -> ClaimFinding:
    runs = runs_of(sweep("minute"), "soft labels")
    effects = {
        "as student / teacher": band([r.recovery().ratio - 0.8 for r in runs]),
        "as recovery over 300 gold labels": band([r.recovery().mean - 0.8 for r in runs]),
    }
    ratio, share = (band([score(r.recovery()) for r in runs]) for score in (lambda r: r.ratio, lambda r: r.mean))
    chains = sum(r.skills["chain"] / r.scores["teacher"]["chain"] for r in runs) / len(runs)
    beside = (
        f"The student reaches {ratio.middle:.0%} of the teacher's score ({ratio.low:.0%} to {ratio.high:.0%}), and {share.middle:.0%} of "
        f"the way from 300 gold labels to it ({share.low:.0%} to {share.high:.0%}); on chains of sums {chains:.0%} of the score."
    )
    return ClaimFinding(effects, "share of 1", beside)


@claim(
    "soft targets",
    "Soft targets contain more information than hard labels.",
    tested="A student learns more from a soft label than from one sampled answer to the same question.",
    measured="soft labels minus one sampled answer a question as a hard label, on the same 2,000 questions and steps",
    published="Hinton et al. 2015, arXiv 1503.02531: 3% of speech data with soft targets nearly reaches the accuracy of all of it",
)
def soft_targets() -> ClaimFinding:
    grid = sweep("soft")
    soft, hard, many = (runs_of(grid, arm) for arm in ("soft labels", "1 answer", "16 answers"))
    effects = {
        "questions with one right answer": paired(soft, hard, lambda r: mean(r.skills, ONE_ANSWER)),
        "questions with many: mass on right answers": paired(soft, hard, lambda r: r.exam.open["validity"]),
        "agreement with the teacher": paired(soft, hard, lambda r: r.exam.fidelity["agreement"]),
    }
    kl = paired(soft, hard, lambda r: r.exam.fidelity["kl"])
    left = paired(soft, many, lambda r: r.exam.open["validity"])
    beside = (
        f"Soft labels change the KL to the teacher by {kl.middle:+.2f} nats. Soft labels minus 16 sampled answers a question, mass on "
        f"right answers to open questions: {left.middle:+.2f} ({left.verdict})."
    )
    return ClaimFinding(effects, "points of 1", beside)


def below(runs: Sequence[Record], of: Sequence[str] = CORE) -> Band:
    """How much higher the teacher of each run scores than its student, in the mean of some skills."""
    return band([mean(run.scores["teacher"], of) - mean(run.skills, of) for run in runs])


@claim(
    "bounded",
    "The student's quality is bounded by the teacher.",
    tested="A student stays below its teacher.",
    measured="mean core skill of a teacher minus that of its student",
    published="born-again networks of the same size pass their teachers (Furlanello et al. 2018, arXiv 1805.04770)",
)
def bounded() -> ClaimFinding:
    grid, failures = sweep("bounded"), sweep("failures")
    words = {0.0: "soft labels alone", 0.25: "a quarter of the loss on 300 gold labels"}
    effects = {f"teacher wrong half of the time, {words[mix]}": below(runs_of(grid, mix=mix)) for mix in grid.grid["mix"]}
    arms = {"the same start": "subliminal_transfer", "another start": "healthy, taught by a stranger"}
    peers = {start: runs_of(failures, arm) for start, arm in arms.items()}
    effects |= {f"teacher of the student's size, from {start}": below(runs) for start, runs in peers.items()}
    all_of_them = [run for runs in peers.values() for run in runs]
    reached = sum(core(run) >= mean(run.scores["teacher"]) for run in all_of_them)
    closed = [skill for skill in CORE if skill != "open"]
    without = ", ".join(f"{b.middle:+.3f} from {start} ({b.verdict})" for start, runs in peers.items() for b in [below(runs, closed)])
    beside = (
        f"Of the {len(all_of_them)} students of a teacher of their size, {reached} are level with it or above. That teacher was taught one "
        f"favourite answer to each open question, and its student learns without them. Leaving them out, the differences are {without}."
    )
    return ClaimFinding(effects, "points of 1", beside)
