"""Many pages that learners handed in, as one table: what `labkit grade` prints.

    table, refused = grade(["ada.html", "bob.html"])      # a DataFrame, and a sentence for each file that is no such page
    print(as_text(table))

Nothing in a page is run or believed that can be worked out: scores are computed here from the predictions and results that a page holds.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import DataError
from labkit.diagnosis.incidents import history
from labkit.lessons.exercises import EXERCISES
from labkit.lessons.handin import Changed, Handin, read
from labkit.lessons.predictions import interval_score

if TYPE_CHECKING:
    import pandas

CHECKSUM = (
    "A checksum finds a page that was edited. It is no signature: it does not prove who wrote a page, or that the work was done.\n"
    "Penalty: mean interval score of the predictions with a result; lower is better."
)
BRIEF = ("file", "name", "made", "lesson", "scored", "inside", "penalty", "exercises", "runs", "best recovery", "incidents", "note")
COLUMNS = (*BRIEF, "labkit", "predictions", "passed", "recipes")
Row = dict[str, Any]  # by column: text, numbers, or None where there is none


def grade(paths: Iterable[str]) -> tuple[pandas.DataFrame, list[str]]:
    """A row for each page, in the order given, and a sentence for each file that is no such page.

    paths: of the pages.
    """
    import pandas

    rows: list[Row] = []
    refused: list[str] = []
    pages: list[tuple[Row, Handin]] = []
    for path in paths:
        try:
            said = read(path)
        except Changed:
            rows.append({"file": path, "note": "CHANGED by hand, or damaged: its data does not match its checksum"})
        except DataError as error:
            refused.append(str(error))
        else:
            rows.append(_row(path, said))
            pages.append((rows[-1], said))
    _same_records(pages)
    return pandas.DataFrame(rows, columns=list(COLUMNS), dtype=object).fillna(""), refused


def _row(path: str, said: Handin) -> Row:
    scored = [(e.prediction, e.truth) for e in said.asked.values() if e.prediction and e.truth is not None]
    solved = [name for name in EXERCISES if name in said.solved and name.startswith(said.lesson)]
    asked = sum(name.startswith(said.lesson) for name in EXERCISES)
    recoveries = [run.recovery for run in said.runs if run.recovery is not None]
    incidents = [history.score(case.truth, case.named) for case in said.cases]
    return {
        "file": path,
        "name": said.name,
        "made": said.made,
        "labkit": said.version,
        "lesson": said.lesson or "all",
        "predictions": sum(entry.prediction is not None for entry in said.asked.values()),
        "scored": len(scored),
        "inside": sum(guess.contains(truth) for guess, truth in scored),
        "penalty": _mean([interval_score(guess, truth) for guess, truth in scored]),
        "exercises": f"{len(solved)} of {asked}",
        "runs": sum(run.ended.startswith("completed") for run in said.runs),
        "best recovery": max(recoveries, default=None),
        "incidents": _mean(incidents),
        "note": f"{said.damaged} damaged line{'s' * (said.damaged > 1)} in the learner's files" if said.damaged else "",
        "passed": " ".join(solved),
        "recipes": "; ".join(run.recipe for run in said.runs if run.recipe),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _same_records(pages: Sequence[tuple[Row, Handin]]) -> None:
    """Note which pages hold the very same record: times differ from run to run, so one is a copy of the other."""
    holders = collections.defaultdict(set)
    for row, said in pages:
        for run in said.runs:
            if run.sha256:
                holders[run.sha256].add(row["file"])
    for row, said in pages:
        others = sorted({other for run in said.runs for other in holders[run.sha256]} - {row["file"]})
        if others:
            row["note"] = "; ".join(filter(None, [row["note"], f"same record of a run as in {', '.join(others)}"]))


def as_text(table: pandas.DataFrame) -> str:
    """The table for a terminal, without the long columns."""
    return table[list(BRIEF)].to_string(index=False, float_format=lambda x: f"{x:.2f}", justify="left")


def as_csv(table: pandas.DataFrame) -> str:
    """The table as CSV, every column. A text that a spreadsheet would take for a formula begins with an apostrophe."""
    return table.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.lstrip()[:1] in tuple("=+-@") else cell).to_csv(index=False)
