"""The registry of failures, and what its entries share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from labkit.base.errors import LabError
from labkit.base.registry import Registry
from labkit.diagnosis.evidence import Evidence
from labkit.records.experiment import Experiment
from labkit.records.record import Record, mean
from labkit.records.rules import broken

Change = Callable[[Experiment], Experiment]


class Failure(NamedTuple):
    """symptom: a number read off a record, in `unit`, the larger the worse. needs: rules that hold only where it shows (see
    `rules.RULES`). detect: what it finds, in words, or "". procedure: how to look for it by hand, step by step. cited: where it bit
    somebody."""

    name: str
    label: str
    provoke: Change
    cure: Change
    remedy: str
    symptom: Callable[[Evidence], float]
    unit: str
    detect: Callable[[Evidence], str]
    procedure: tuple[str, ...]
    cited: str
    needs: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Which of the three it is, by the file it stands in: bugs, settings or limits."""
        return self.detect.__module__.rpartition(".")[2]

    def obstacle(self, experiment: Experiment) -> str:
        """Why a recipe cannot have the failure, or "": the first rule that it would break with it."""
        return next((sentence for _, sentence in broken(self.provoke(experiment), "run", *self.needs)), "")

    def within(self, experiment: Experiment) -> bool:
        """Whether a recipe has the failure in it already, so that provoking it would change nothing."""
        return self.provoke(experiment) == experiment and not self.obstacle(experiment)


class Diagnosis(NamedTuple):
    """A failure somebody believes to see, and why."""

    failure: str
    finding: str


# The surest to be recognised come first.
FAILURES = Registry("failure", Failure, "detect", *(f"{__package__}.{part}" for part in ("bugs", "settings", "limits")))
failure, named = FAILURES.register, FAILURES.__getitem__


def diagnose(record: Record) -> list[Diagnosis]:
    """What can be seen in a run, the surest first; an empty list where nothing looks wrong. The recipe is not looked at."""
    seen = Evidence(record)
    return [Diagnosis(entry.name, finding) for entry in FAILURES.values() if (finding := entry.detect(seen))]


def provoke(experiment: Experiment, *names: str) -> Experiment:
    """A recipe with these failures in it. Raises `LabError` where one cannot apply, or two contradict each other."""
    for name in names:
        entry = named(name)
        if reason := entry.obstacle(experiment):
            raise LabError(f"{entry.label!r} cannot be provoked here: {reason}")
        changed = entry.provoke(experiment)
        if lost := [other for other in names if other != name and named(other).within(experiment) and not named(other).within(changed)]:
            reason = named(lost[0]).obstacle(changed) or "they set the same knobs."
            raise LabError(f"{entry.label!r} and {named(lost[0]).label!r} contradict each other: {reason} Take one of them away.")
        experiment = changed
    return experiment


# ---- the parts they share ----------------------------------------------------------------------------------------------------------


def with_fault(fault: str, **changes) -> Change:
    return lambda exp: exp.but(faults=f"{exp.faults}+{fault}", **changes)


def without_fault(fault: str) -> Change:
    return lambda exp: exp.but(faults="+".join(name for name in exp.faults.split("+") if name != fault))


def setting(**changes) -> Change:
    return lambda exp: exp.but(**changes)


def core_lost(seen: Evidence) -> float:
    """How far the mean core skill is below 1."""
    return 1 - mean(seen.exam.skills)


def kl(seen: Evidence) -> float:
    return seen.exam.fidelity.get("kl", math.nan)


def shrunk(seen: Evidence) -> float:
    """How many times smaller than a KL the soft term is, in powers of ten."""
    scale = seen.read("scale")
    return -math.log10(scale) if scale > 0 else math.nan
