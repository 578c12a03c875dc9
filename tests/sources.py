"""What an expression behind a number in prose may name (see `tests/prose.py`): what is on record, read as the lessons read it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import labkit
from labkit.base.stats import Band, band
from labkit.lessons.catalogue import LESSONS
from labkit.records.record import Record, core, mean, paired  # noqa: F401
from labkit.studies.claims import CLAIMS, runs_of
from labkit.studies.sweep import sweep as _sweep

ROOT = Path(__file__).resolve().parent.parent
sweep = functools.cache(_sweep)
measured = functools.cache(labkit.measured)


@functools.cache
def claim(name: str) -> Any:
    """What was found about a claim: `.effects["condition"]` is a band with `.middle`, `.low`, `.high` and `.verdict`."""
    return CLAIMS[name].measure()


@functools.cache
def runs(grid: str, arm: str) -> list[Record]:
    """The recorded runs of an arm, a seed each."""
    return runs_of(sweep(grid), arm)


def skill(grid: str, arm: str, *skills: str) -> Band:
    """Mean over seeds, and its band, of an arm's score in some skills (the core skills if none is named)."""
    return band([mean(run.skills, skills) if skills else core(run) for run in runs(grid, arm)])


def recovered(grid: str, arm: str) -> tuple[float, float, float]:
    """Share of the gap to the teacher that an arm recovers: mean over seeds, and both ends of its band."""
    found = band([run.recovery().mean for run in runs(grid, arm)])
    return found.middle, found.low, found.high


def lesson(number: str) -> Any:
    """A lesson of the catalogue: `.minutes`, `.experiment`."""
    return LESSONS[number]


@functools.cache
def bench(work: str) -> Any:
    """The row of `benchmarks/results.json` whose work begins so, as a dict."""
    rows = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    (row,) = [row for row in rows if row["work"].startswith(work)]
    return row


NAMES = {name: value for name, value in globals().items() if not name.startswith("_") and name != "annotations"}
