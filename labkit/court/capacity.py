"""Claims on what a student has room for: the floor of facts, ratios of size, reasoning, and who teaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit import measurements
from labkit.court.judging import Finding, claim
from labkit.court.readings import ONE_ANSWER, runs_of
from labkit.records import Record, mean
from labkit.sweeps import sweep
from labkit.verdicts import Band, band

REASONING = ("add", "chain", "two_hop", "two_hop_steps")
RATIOS = {"3.5 times smaller": "815k", "10 times smaller": "284k"}  # than atlas-3m


def seeds_of(table: str, column: str, **where: Any) -> dict[int, float]:
    """A column of a measurement by seed, in the rows where the other columns have these values."""
    found = [row for row in measurements.rows(table) if all(row[name] == value for name, value in where.items())]
    return {row["seed"]: row[column] for row in found}


def less(more: Mapping[int, float], fewer: Mapping[int, float]) -> Band:
    """The difference of two columns over the seeds they share."""
    return band([more[seed] - fewer[seed] for seed in sorted(more.keys() & fewer.keys())])


def what_moves_the_limit() -> dict[str, Band]:
    """Share of a store's facts right, with something changed, less without."""

    def right(arm: str, size: str, facts: int) -> dict[int, float]:
        return seeds_of("stores", "right", arm=arm, student=size, facts=facts)

    hard = "hard labels"
    return {
        "7k, 512 facts: 4 x the exposures": less(right("hard labels, 4 x the exposures", "7k", 512), right(hard, "7k", 512)),
        "7k, 512 facts: a teacher's soft labels": less(right("soft labels", "7k", 512), right(hard, "7k", 512)),
        "12k, 1,024 facts: a teacher's soft labels": less(right("soft labels", "12k", 1_024), right(hard, "12k", 1_024)),
        "12k, 1,024 facts: made up": less(right("made-up labels", "12k", 1_024), right(hard, "12k", 1_024)),
        "512 facts: 12k instead of 7k": less(right(hard, "12k", 512), right(hard, "7k", 512)),
        "1,024 facts: 22k instead of 12k": less(right(hard, "22k", 1_024), right(hard, "12k", 1_024)),
    }


@claim(
    "capacity floor",
    "There is a hard floor: a student too small cannot learn it, regardless of how much data it gets.",
    measured="512 facts: share right in a student 1.8 times the size of the 7k, less in the 7k with four times the exposures; and mean "
    "core skill of the next size less that with ten times the questions, or ten times the steps",
    published="about 1 bit a parameter at 100 exposures, 2 at 1,000, and not more (Allen-Zhu & Li 2024, arXiv 2404.05405)",
)
def capacity_floor() -> Finding:
    def right(arm: str, size: str) -> dict[int, float]:
        return seeds_of("stores", "right", arm=arm, student=size, facts=512)

    def core(size: str, budget: str) -> dict[int, float]:
        return seeds_of("budgets", "core", student=size, budget=budget)

    usual, few, long = "20,000 questions, 300 steps", "2,000 questions, 300 steps", "20,000 questions, 3,000 steps"
    small, longer, larger = right("hard labels", "7k"), right("hard labels, 4 x the exposures", "7k"), right("hard labels", "12k")
    effects = {
        "facts, 12k against 7k with 4 x the exposures": less(larger, longer),
        "skills, 22k against 7k with 10 x the questions": less(core("22k", few), core("7k", usual)),
        "skills, 57k against 22k with 10 x the questions": less(core("57k", few), core("22k", usual)),
        "skills, 57k against 22k with 10 x the steps": less(core("57k", usual), core("22k", long)),
    }
    facts, steps = less(longer, small), less(core("22k", long), core("22k", usual))
    beside = (
        f"Four times the exposures took the 7k from {mean_of(small):.2f} of its facts to {mean_of(longer):.2f} ({facts.verdict}); ten "
        f"times the steps took the 22k's core skill from {mean_of(core('22k', usual)):.2f} by {steps.middle:+.2f} ({steps.verdict})."
    )
    return Finding(effects, "share of 1", beside)


def mean_of(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)


@claim(
    "another loss",
    "A better loss gets more into the same size.",
    measured="bits of a store of facts held a parameter, soft labels of a teacher that knows them all less hard labels, 100 exposures",
    published="capacity is a matter of size, exposures and precision (Allen-Zhu & Li 2024); 3.5 to 3.8 bits for random strings "
    "(Morris et al. 2025, arXiv 2505.24832)",
)
def another_loss() -> Finding:
    effects, told = {}, []
    for size, facts in (("7k", 512), ("12k", 1_024)):
        soft, hard = (seeds_of("stores", "held_a_parameter", arm=arm, student=size, facts=facts) for arm in ("soft labels", "hard labels"))
        effects[f"{size}, {facts:,} facts"] = less(soft, hard)
        told.append(f"{mean_of(hard):.2f} for the {size}")
    return Finding(effects, "bits a parameter", f"On hard labels {' and '.join(told)}.")


def _of_sizes(score: Callable[[Record], float], less: float = 0.0) -> dict[str, Band]:
    grid = sweep("sizes")
    return {name: band([score(run) - less for run in runs_of(grid, size)]) for name, size in RATIOS.items()}


def _ratio(run: Record, skills: Sequence[str]) -> float:
    return mean(run.skills, skills) / mean(run.references["teacher"].skills, skills)


@claim(
    "three to four times smaller",
    "A student 3 to 4 times smaller recovers most of the gap.",
    measured="a student 3.5 times smaller, 300 steps: its share less one half",
    published="no primary source; DistilBERT, 1.7 times smaller, 97% of GLUE (arXiv 1910.01108); 4 times smaller on mathematics 66% (ALM, "
    "arXiv 2503.20083)",
)
def most_of_the_gap() -> Finding:
    runs = runs_of(sweep("sizes"), "815k")
    effects = {
        "recovery over 300 gold labels": band([r.recovery().mean - 0.5 for r in runs]),
        "student / teacher": band([r.recovery().ratio - 0.5 for r in runs]),
        "student / teacher, reasoning": band([_ratio(r, REASONING) - 0.5 for r in runs]),
    }
    return Finding(effects, "share of 1")


@claim(
    "ten times smaller",
    "A student 10 times smaller recovers 60 to 80%.",
    measured="a student 10 times smaller, 300 steps: its share less 0.60, and 0.80 less its share",
    published="no primary source; TinyBERT, 7.5 times smaller, 96.8% of GLUE (arXiv 1909.10351)",
)
def sixty_to_eighty() -> Finding:
    runs = runs_of(sweep("sizes"), "284k")
    shares = {"recovery": [r.recovery().mean for r in runs], "student / teacher": [r.recovery().ratio for r in runs]}
    effects = {}
    for name, values in shares.items():
        effects[f"{name}, at least 0.60"] = band([value - 0.6 for value in values])
        effects[f"{name}, at most 0.80"] = band([0.8 - value for value in values])
    reached = ", ".join(f"{name} {sum(values) / len(values):.2f}" for name, values in shares.items())
    return Finding(effects, "share of 1", f"Reached: {reached}.")


@claim(
    "reasoning suffers most",
    "The hardest reasoning suffers most.",
    measured="student / teacher on facts with one answer, less that on sums, chains and two-hop questions",
    published="general knowledge falls before narrow skills do as size shrinks (arXiv 2606.24747)",
)
def reasoning_suffers_most() -> Finding:
    effects = _of_sizes(lambda run: _ratio(run, ONE_ANSWER) - _ratio(run, REASONING))
    grid = sweep("sizes")
    effects["50 times smaller"] = band([_ratio(r, ONE_ANSWER) - _ratio(r, REASONING) for r in runs_of(grid, "57k")])
    shares = [[_ratio(r, (skill,)) for r in runs_of(grid, "284k")] for skill in REASONING]
    told = ", ".join(f"{skill} {sum(values) / len(values):.2f}" for skill, values in zip(REASONING, shares, strict=True))
    return Finding(effects, "share of 1", f"Student / teacher at 10 times smaller: {told}.")


@claim(
    "stronger teacher",
    "A stronger teacher makes a better student.",
    measured="mean core skill of a 57k student under atlas-3m, less that under another teacher, the same 300 steps",
    published="a gap too wide can hurt (Cho & Hariharan 2019, arXiv 1910.01348; Mirzadeh et al. 2019, arXiv 1902.03393); best about 2.5 "
    "times the student (arXiv 2311.07052); none under reverse KL (arXiv 2306.08543)",
)
def stronger_teacher() -> Finding:
    def under(teacher: str) -> dict[int, float]:
        return seeds_of("teachers", "core", teacher=teacher, assistant="none")

    others = ("atlas-900k", "atlas-200k", "atlas-3m-early", "atlas-3m-late")
    told = ", ".join(f"{name} {mean_of(seeds_of('teachers', 'teacher_core', teacher=name, assistant='none')):.2f}" for name in others)
    return Finding({f"against {name}": less(under("atlas-3m"), under(name)) for name in others}, "points of 1", f"The teachers: {told}.")


@claim(
    "assistant",
    "A teacher assistant of a size in between bridges the gap.",
    measured="mean core skill of a 57k student taught by a 200k student of atlas-3m, less that taught by atlas-3m, the same 300 steps",
    published="+0.35 to +0.94 points on CIFAR and ImageNet (Mirzadeh et al. 2019, arXiv 1902.03393)",
)
def assistant() -> Finding:
    with_it, without = (seeds_of("teachers", "core", teacher="atlas-3m", assistant=size) for size in ("200k", "none"))
    return Finding({"through a 200k student": less(with_it, without)}, "points of 1", "The assistant's own 300 steps come on top.")
