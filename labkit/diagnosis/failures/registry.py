"""The registry of failures, and the functions that its entries share."""

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
    """A way for distillation to go wrong."""

    name: str
    label: str
    provoke: Change  # puts it into a recipe
    cure: Change  # takes it out of a recipe
    remedy: str  # the cure in words
    symptom: Callable[[Evidence], float]  # the larger, the worse
    unit: str  # of the symptom
    detect: Callable[[Evidence], str]  # the finding in words; "" where there is none
    procedure: tuple[str, ...]  # how to look for it by hand, step by step
    cited: str  # where it happened, in public
    needs: tuple[str, ...] = ()  # kinds of rules that a recipe must also keep for it to show (see `rules.RULES`)

    @property
    def kind(self) -> str:
        """`bugs`, `settings` or `limits`: the name of its file."""
        return self.detect.__module__.rpartition(".")[2]

    def obstacle(self, experiment: Experiment) -> str:
        """Why a recipe cannot have the failure: the first rule that it would then break. "" if it can."""
        return next((sentence for _, sentence in broken(self.provoke(experiment), "run", *self.needs)), "")

    def within(self, experiment: Experiment) -> bool:
        """Whether a recipe already has the failure, so that provoking it changes nothing."""
        return self.provoke(experiment) == experiment and not self.obstacle(experiment)


class Diagnosis(NamedTuple):
    """A failure that a detector finds, and its reason."""

    failure: str
    finding: str


# The most reliable detectors come first.
FAILURES = Registry("failure", Failure, "detect", *(f"{__package__}.{part}" for part in ("bugs", "settings", "limits")))
failure, named = FAILURES.register, FAILURES.__getitem__


def diagnose(record: Record) -> list[Diagnosis]:
    """What the detectors find in a run, the most reliable first; an empty list if nothing looks wrong. They do not see the recipe."""
    seen = Evidence(record)
    return [Diagnosis(entry.name, finding) for entry in FAILURES.values() if (finding := entry.detect(seen))]


def provoke(experiment: Experiment, *names: str) -> Experiment:
    """A recipe with these failures in it.

    names: of failures, as in `FAILURES`.

    Raises `LabError` where one cannot apply, or two contradict each other.
    """
    for name in names:
        entry = named(name)
        if reason := entry.obstacle(experiment):
            raise LabError(f"{entry.label!r} cannot be provoked here: {reason}")
        changed = entry.provoke(experiment)
        if lost := [other for other in names if other != name and named(other).within(experiment) and not named(other).within(changed)]:
            reason = named(lost[0]).obstacle(changed) or "they set the same knobs."
            raise LabError(f"{entry.label!r} and {named(lost[0]).label!r} contradict each other: {reason} Leave one of them out.")
        experiment = changed
    return experiment


# ---- what the entries share ------------------------------------------------------------------------------------------------------


def with_fault(fault: str, **changes) -> Change:
    """Adds a fault of `training/faults.py` to a recipe, and makes other changes."""
    return lambda exp: exp.but(faults=f"{exp.faults}+{fault}", **changes)


def without_fault(fault: str) -> Change:
    """Takes a fault out of a recipe."""
    return lambda exp: exp.but(faults="+".join(name for name in exp.faults.split("+") if name != fault))


def setting(**changes) -> Change:
    """Sets fields of a recipe."""
    return lambda exp: exp.but(**changes)


def core_lost(seen: Evidence) -> float:
    """1 minus the mean core skill."""
    return 1 - mean(seen.exam.skills)


def kl(seen: Evidence) -> float:
    """KL to the teacher on the last exam, in nats a token."""
    return seen.exam.fidelity.get("kl", math.nan)


def shrunk(seen: Evidence) -> float:
    """How much smaller than a KL the soft term is, in powers of ten."""
    scale = seen.read("scale")
    return -math.log10(scale) if scale > 0 else math.nan
