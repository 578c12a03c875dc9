"""What a learner hands in, and the page on which a person reads it: on a phone or a screen, light or dark, without a script."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base.html import Html, listed, table, tag
from labkit.diagnosis.incidents import history
from labkit.lessons.catalogue import LESSONS
from labkit.lessons.exercises import EXERCISES
from labkit.lessons.passed import Passed, passed
from labkit.lessons.predictions import Entry, entries, interval_score

Rows = Mapping[int, Mapping[str, Any] | None]  # of a ledger, by their line; None for a damaged one
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 56rem; margin: 1.5rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
div { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
tr + tr { border-top: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
pre { white-space: pre-wrap; font-size: .9em; } code { font-size: .92em; } li { margin: .4rem 0; } details { margin-top: 2rem; }
th[scope=row] { font-weight: 500; min-width: 7rem; }
"""


class HandedRun(NamedTuple):
    """A run that the learner's machine has on record."""

    file: str  # the record's name in the folder of records
    sha256: str  # of that file
    recipe: str  # "" if the file cannot be read
    ended: str  # "completed", or how else; and the knobs that were changed meanwhile, so that the recipe alone does not give the result
    steps: int = 0
    skill: float | None = None  # mean score at the last exam; None before the first
    recovery: float | None = None  # over the label budget; None if that was not measured, or there is no gap


@dataclasses.dataclass(frozen=True)
class Handin:
    """What a learner hands in. Everything else follows from these."""

    name: str
    lesson: str  # the only one, or "" for all
    version: str  # of the lab
    made: str
    predictions: Rows
    incidents: Rows
    runs: tuple[HandedRun, ...]
    path: Path | None = dataclasses.field(default=None, compare=False)  # where the page is
    remark: str = dataclasses.field(default="", compare=False)  # on a page that was read: how the text it shows differs from its data

    @property
    def asked(self) -> dict[str, Entry]:
        """For each question, the prediction that counts and its truth."""
        return entries(self.predictions)[0]

    @property
    def solved(self) -> dict[str, Passed]:
        """The exercises that were passed."""
        return passed(self.predictions)

    @property
    def cases(self) -> list[history.IncidentAnswer]:
        """The first answer to each case of the incident room."""
        return history.answers(self.incidents)[0]

    @property
    def damaged(self) -> int:
        """Lines of the learner's files that were damaged or edited, and are left out."""
        return len(entries(self.predictions)[1]) + len(history.answers(self.incidents)[1])

    @property
    def sentence(self) -> str:
        """How much there is of each."""
        counts = (
            ("prediction", "predictions", sum(entry.prediction is not None for entry in self.asked.values())),
            ("exercise passed", "exercises passed", len(self.solved)),
            ("run", "runs", len(self.runs)),
            ("incident", "incidents", len(self.cases)),
        )
        told = ", ".join(f"{n} {what if n == 1 else several}" for what, several, n in counts)
        lost = f" {self.damaged} damaged line{'s' if self.damaged > 1 else ''} left out." if self.damaged else ""
        return f"{told}.{lost}"

    def __repr__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence


def page(said: Handin, data: str) -> str:
    """The page as HTML.

    said: what is handed in.
    data: the same, as it is read again.
    """
    of = f"lesson {said.lesson}" if said.lesson else "all lessons"
    title = f"Handed in: {said.name or 'no name'}, {of}"
    seal = "The data of this page, with its checksum, for labkit grade"
    body = tag(
        "body",
        tag("h1", title),
        tag("p", f"Distillation Lab {said.version}, {_when(said.made)}. {said.sentence}"),
        *_predictions(said),
        *_exercises(said),
        *_runs(said),
        *_incidents(said),
        tag("details", tag("summary", seal), tag("pre", _one_text(data), id="labkit-handin")),
    )
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{tag("title", _one_text(title))}<style>{_STYLE}</style>'
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>{body}</html>\n'


def _one_text(text: str) -> Html:
    """A text without the marks around $ and \\ that `tag` adds: what reads the data, or shows the title, takes no marks."""
    return Html(html.escape(text))


def _predictions(said: Handin) -> Iterator[Html]:
    guesses = [(question, entry.prediction, entry.truth) for question, entry in said.asked.items() if entry.prediction]
    yield tag("h2", "Predictions")
    if not guesses:
        yield tag("p", "No prediction yet.")
        return
    rows = []
    for question, guess, truth in guesses:
        asks = f"{question}: {LESSONS[question].asks}" if question in LESSONS else question
        scored = ("waiting", None) if truth is None else ("inside" if guess.contains(truth) else "missed", interval_score(guess, truth))
        rows.append([asks, f"{guess.low:.3g} to {guess.high:.3g}", f"{guess.confidence:.0%}", truth, *scored])
    yield tag("div", table(["question", "guess", "sure", "result", "", "penalty"], rows))
    yield tag(
        "p",
        "The last prediction before the first result counts. The penalty is the interval score: the width, and for a miss 2 / (1 - sure) "
        "times the distance. Lower is better.",
    )


def _exercises(said: Handin) -> Iterator[Html]:
    yield tag("h2", "Exercises passed")
    rows = [
        tag("strong", name) + f" {EXERCISES[name].asks if name in EXERCISES else ''} ({_when(found.made)})" + tag("pre", found.answer)
        for name, found in said.solved.items()
    ]
    yield listed(rows) if rows else tag("p", "No exercise passed yet.")


def _runs(said: Handin) -> Iterator[Html]:
    yield tag("h2", "Runs")
    columns = ["recipe", "ended", "steps", "mean skill", "recovery", "record, its SHA-256 begins"]
    rows = [
        [tag("code", run.recipe or run.file), run.ended, run.steps, run.skill, run.recovery, tag("code", run.sha256[:12])]
        for run in said.runs
    ]
    yield tag("div", table(columns, rows)) if rows else tag("p", "No run yet.")


def _incidents(said: Handin) -> Iterator[Html]:
    if said.cases:
        yield tag("h2", "Incidents")
        rows = [
            [case.case, ", ".join(case.named) or "no fault", ", ".join(case.truth) or "no fault", ", ".join(case.probes), case.minutes]
            for case in said.cases
        ]
        yield tag("div", table(["case", "named", "true", "probes", "minutes"], rows))


def _when(made: str) -> str:
    """A time as people write it; it is in UTC."""
    return f"{made[:16].replace('T', ' ')} UTC"
