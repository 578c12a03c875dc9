"""What else an expression behind a number in a document may name, beside those of `tests/sources.py`."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import labkit
from labkit.base.files import data_dir
from labkit.diagnosis.failures import FAILURES
from labkit.diagnosis.failures.trials import alarms, sightings
from labkit.lessons.catalogue import LESSONS
from labkit.records.store import shipped
from labkit.studies.claims.speculation import rejections_saved, saved
from labkit.tasks.atlas.facts import Atlas


def stated(row: dict[str, Any]) -> list[float]:
    """The numbers in the sentence of a row of the bench: how many tokens, steps, times."""
    return [float(number.replace(",", "")) for number in re.findall(r"(?<![\w.])\d[\d,]*(?![\w.])", row["work"])]


@functools.cache
def failures() -> tuple[int, int, float, int]:
    """Failures that are named in every unseen run, of how many; false alarms as a share of the healthy runs with looks, and how many."""
    seen, (looked, _) = [sightings(name) for name in FAILURES], alarms()
    return sum(found.right == found.runs for found in seen), len(seen), len(looked.false) / looked.runs, looked.runs


@functools.cache
def longest_live() -> float:
    """Seconds of work of the longest recorded run that a lesson begins with."""
    found = (shipped().find(lesson.experiment) for lesson in LESSONS.values())
    return max(run.finished.seconds for run in found if run and run.finished)


def minutes_on_record() -> float:
    """Of training, summed over the runs that ship."""
    return labkit.results()["run.seconds"].sum() / 60


def rows(path: str) -> int:
    """Of a table in `data`, without the head of a CSV."""
    return len((data_dir() / path).read_text(encoding="utf-8").splitlines()) - path.endswith(".csv")


def card(teacher: str, skill: str) -> float:
    """A skill of a shipped teacher, as measured for its card."""
    return json.loads((data_dir() / "teachers" / teacher / "manifest.json").read_text(encoding="utf-8"))["note"]["skills"][skill]


NAMES = {
    found.__name__: found
    for found in (Atlas, card, failures, longest_live, minutes_on_record, rejections_saved, rows, saved, stated)
}  # fmt: skip
