"""Claims on capacity: the floor of facts, ratios of size, reasoning, and the strength of the teacher."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.base.stats import Band, band
from labkit.records.record import Record, mean, paired
from labkit.studies.claims.data import less, mean_of, runs_of, scores, seeds_of
from labkit.studies.claims.verdicts import ClaimFinding, claim
from labkit.studies.sweep import sweep
from labkit.tasks.atlas.questions import ONE_ANSWER

REASONING = ("add", "chain", "two_hop", "two_hop_steps")


def ratios() -> dict[str, list[Record]]:
    """Runs by how many times smaller than its teacher the student is, and by the number of steps."""
    return {
        "3.5 times, 300 steps": runs_of(sweep("sizes"), "815k"),
        "3.75 times, a small teacher, 300 steps": runs_of(sweep("ratio"), "57k"),
        "9.5 times, a small teacher, 300 steps": runs_of(sweep("ratio"), "22k"),
        "10 times, 300 steps": runs_of(sweep("sizes"), "284k"),
        "13.5 times, 300 steps": runs_of(sweep("sizes"), "200k"),
        "13.5 times, 600 steps": runs_of(sweep("minute"), "soft labels"),
    }


def right(arm: str, size: str, facts: int) -> dict[int, float]:
    """Share of a store's facts that a student has right, by seed."""
    return seeds_of("stores", "right", arm=arm, student=size, facts=facts)


def what_moves_the_limit() -> dict[str, Band]:
    """Share of a store's facts that a student has right: with one change, minus without it."""
    hard, longer, longest = "hard labels", "hard labels, 4 x the exposures", "hard labels, 16 x the exposures"
    return {
        "7k, 512 facts: 4 x the exposures": less(right(longer, "7k", 512), right(hard, "7k", 512)),
        "7k, 1,024 facts: 4 times more": less(right(longest, "7k", 1_024), right(longer, "7k", 1_024)),
        "7k, 512 facts: soft labels": less(right("soft labels", "7k", 512), right(hard, "7k", 512)),
        "7k, 512 facts: 12k instead": less(right(hard, "12k", 512), right(hard, "7k", 512)),
        "12k, 1,024 facts: 22k instead": less(right(hard, "22k", 1_024), right(hard, "12k", 1_024)),
    }


@claim(
    "capacity floor",
    "There is a hard floor: a student too small cannot learn it, regardless of how much data it gets.",
    tested="A larger student gains more than the small one gains from more data.",
    measured="gain from a larger student minus gain from more data: share right of the facts of a store, or mean core skill",
    published="about 1 bit a parameter at 100 exposures, 2 at 1,000, and never over 2.3 (Allen-Zhu & Li 2024, arXiv 2404.05405)",
)
def capacity_floor() -> ClaimFinding:
    small, larger, longer = (
        right("hard labels", "7k", 512),
        right("hard labels", "12k", 512),
        right("hard labels, 4 x the exposures", "7k", 512),
    )
    sizes = {size: scores(runs_of(sweep("sizes"), size)) for size in ("22k", "57k", "200k")}
    few, many = scores(runs_of(sweep("soft"), "soft labels")), scores(runs_of(sweep("ladder"), "output, random"))
    long = seeds_of("budgets", "core", student="22k", steps=3_000)
    data = {seed: sizes["57k"][seed] + many[seed] - few[seed] for seed in sizes["57k"]}
    most = right("hard labels, 16 x the exposures", "7k", 1_024)
    effects = {
        "512 facts: 1.8 x the size less 4 x the exposures": less(larger, longer),
        "1,024 facts: 1.8 x the size less 16 x the exposures": less(right("hard labels", "12k", 1_024), most),
        "skills: 57k to 200k less 10 x the questions": less(sizes["200k"], data),
        "skills: 22k to 57k less 10 x the steps": less(sizes["57k"], long),
    }
    beside = (
        f"The 7k student has {mean_of(small):.2f} of 512 facts right after 100 exposures and {mean_of(longer):.2f} after 400. Of 1,024 "
        f"facts it has {mean_of(most):.2f} right after 1,600 exposures. Ten times the steps take the core skill of the 22k student from "
        f"{mean_of(sizes['22k']):.2f} to {mean_of(long):.2f}: at 300 steps it was not at its floor."
    )
    return ClaimFinding(effects, "share of 1", beside, fits=False)


@claim(
    "another loss",
    "A better loss gets more into the same size.",
    tested="Soft labels get more facts into a student of 7k parameters than hard labels.",
    measured="share of the bits of 512 facts that a student holds: on soft labels of a teacher that knows them all, minus on hard labels",
    published="what counts is size, exposures and precision (Allen-Zhu & Li 2024); 3.5 to 3.8 bits a parameter for random strings "
    "(Morris et al. 2025, arXiv 2505.24832)",
)
def another_loss() -> ClaimFinding:
    asked = mean_of(seeds_of("stores", "asked", arm="hard labels", student="7k", facts=512))
    soft, hard = (
        {seed: bits / asked for seed, bits in seeds_of("stores", "bits", arm=f"{kind} labels", student="7k", facts=512).items()}
        for kind in ("soft", "hard")
    )
    beside = f"On hard labels it holds {mean_of(hard):.2f} of the bits."
    return ClaimFinding({"7k, 512 facts": less(soft, hard)}, "share of the bits asked", beside)


@claim(
    "three to four times smaller",
    "A student 3 to 4 times smaller recovers most of the gap.",
    tested="It recovers more than half of the gap.",
    measured="share recovered, minus one half: an 815k student of atlas-3m (1 : 3.5) and a 57k student of atlas-200k (1 : 3.75)",
    published="no primary source; DistilBERT, 1.7 times smaller, 97% of GLUE (arXiv 1910.01108); 4 times smaller on mathematics 66% (ALM, "
    "arXiv 2503.20083)",
)
def most_of_the_gap() -> ClaimFinding:
    effects = {}
    for name, runs in ratios().items():
        if name.startswith("3"):
            effects[f"{name}, recovery over 300 gold labels"] = band([run.recovery().mean - 0.5 for run in runs])
            effects[f"{name}, student / teacher"] = band([run.recovery().ratio - 0.5 for run in runs])
    same = less(scores(runs_of(sweep("ratio"), "57k")), scores(runs_of(sweep("sizes"), "57k")))
    beside = f"The 57k student of atlas-200k minus the same of atlas-3m, 51 times its size: core skill {same.middle:+.2f} ({same.verdict})."
    return ClaimFinding(effects, "share of 1", beside)


@claim(
    "ten times smaller",
    "A student 10 times smaller recovers 60 to 80%.",
    measured="how far the recovery over 300 gold labels lies inside the range of 0.60 to 0.80; below 0 it lies outside",
    published="no primary source; TinyBERT, 7.5 times smaller, 96.8% of GLUE (arXiv 1909.10351)",
)
def sixty_to_eighty() -> ClaimFinding:
    effects, told = {}, []
    for name, runs in ratios().items():
        if name.startswith("3"):
            continue
        shares = [run.recovery().mean for run in runs]
        effects[name] = band([min(share - 0.6, 0.8 - share) for share in shares])
        told.append(f"{sum(shares) / len(shares):.2f} ({name})")
    return ClaimFinding(effects, "share of 1", f"Recovery: {'; '.join(told)}. The number of steps changes it as much as the size does.")


@claim(
    "reasoning suffers most",
    "The hardest reasoning suffers most.",
    tested="Of the teacher's score a student keeps less on sums, chains and two-hop questions than on facts.",
    measured="the student's score divided by the teacher's: on facts with one answer, minus on sums, chains and two-hop questions",
    published="general knowledge falls before narrow skills do as size shrinks (arXiv 2606.24747)",
)
def reasoning_suffers_most() -> ClaimFinding:
    def share(run: Record, skills: Sequence[str]) -> float:
        return mean(run.skills, skills) / mean(run.scores["teacher"], skills)

    found = ratios()
    effects = {name: band([share(r, ONE_ANSWER) - share(r, REASONING) for r in runs]) for name, runs in found.items()}
    last = found["13.5 times, 600 steps"]
    told = ", ".join(f"{skill.replace('_', ' ')} {sum(share(r, (skill,)) for r in last) / len(last):.2f}" for skill in REASONING)
    return ClaimFinding(effects, "share of 1", f"The student's score divided by the teacher's, at 13.5 times and 600 steps: {told}.")


@claim(
    "stronger teacher",
    "A stronger teacher makes a better student.",
    tested="The same student does better under atlas-3m than under a weaker teacher.",
    measured="mean core skill under atlas-3m minus that under a weaker teacher, with the same student and steps",
    published="a gap too wide can hurt (Cho & Hariharan 2019, arXiv 1910.01348; Mirzadeh et al. 2019, arXiv 1902.03393); best about 2.5 "
    "times the student (arXiv 2311.07052); none under reverse KL (arXiv 2306.08543)",
)
def stronger_teacher() -> ClaimFinding:
    early = runs_of(sweep("bounded"), mix=0.0)
    effects = {
        f"{size} student, atlas-200k": paired(runs_of(sweep("sizes"), size), runs_of(sweep("ratio"), size)) for size in ("22k", "57k")
    }
    effects["200k student, atlas-3m early in its training"] = less(scores(runs_of(sweep("minute"), "soft labels")), scores(early))
    told = [mean(runs[0].scores["teacher"]) for runs in (runs_of(sweep("ratio"), "57k"), early, runs_of(sweep("sizes"), "57k"))]
    return ClaimFinding(
        effects, "points of 1", "The teachers' own core skill: atlas-200k {:.2f}, atlas-3m early {:.2f}, atlas-3m {:.2f}.".format(*told)
    )
