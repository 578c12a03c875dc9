"""Tables of lesson 11: what every failure does to a loss curve, what the detectors find, and what a detector sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures import FAILURES, diagnose
from labkit.diagnosis.failures.trials import pair
from labkit.lessons.figures.tables import Table
from labkit.records.record import Record, mean
from labkit.studies.sweep import sweep

if TYPE_CHECKING:
    import pandas

SEED = 2  # of the recorded runs


def evidence(arm: str, seed: int = 0) -> Evidence:
    """What a detector sees of a recorded run: "healthy", or with a failure by its name in `FAILURES`."""
    return next(Evidence(run) for run in sweep("failures").records(arm) if run.experiment.seed == seed)


def curves() -> Table:
    """First and last loss of a recorded run with each failure, and core skill with it and cured of it; the lowest last loss comes last."""
    rows = []
    for name, entry in FAILURES.items():
        broken, cured = (next(Evidence(run) for run in runs if run.experiment.seed == SEED) for runs in pair(name))
        skills = (mean(seen.exam.skills) for seen in (broken, cured))
        rows.append([entry.label, broken.steps[0]["loss"], broken.mean("loss"), *skills])
    return Table(["failure", "first loss", "last loss", "core skill", "cured"], sorted(rows, key=lambda row: -row[2]))


def found(record: Record) -> Table:
    """What the detectors find in a run. They do not see its recipe."""
    rows = [[FAILURES[name].label, finding] for name, finding in diagnose(record)]
    return Table(["failure", "what gives it away"], rows or [["none", "no detector finds anything in this run"]])


def cures(case: Any, *names: str) -> Table:
    """For each failure four cures by letter, of which one is its own.

    case: of `labkit.incident`.
    """
    offered = [case.cures(name) for name in names]
    return Table(["", *(FAILURES[name].label for name in names)], [[letter, *(of[letter] for of in offered)] for letter in offered[0]])


def looks(*arms: str) -> pandas.DataFrame:
    """What runs of some arms look like to a detector of a shuffled cache."""
    import pandas

    rows = {}
    for arm in arms:
        seen = evidence(arm)
        rows[arm] = {
            'read("hits")': seen.read("hits"),
            'read("hits_after")': seen.read("hits_after"),
            "KL on the exam": seen.exam.fidelity["kl"],
        }
    return pandas.DataFrame(rows).T.round(2)
