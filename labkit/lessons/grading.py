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
from labkit.lessons.catalogue import LESSONS
from labkit.lessons.exercises import EXERCISES
from labkit.lessons.handin import Changed, Handin, read
from labkit.lessons.predictions import entries, interval_score
from labkit.views.figures.scales import shown

if TYPE_CHECKING:
    import pandas

CHECKSUM = (
    "A checksum finds data that was edited. It is no signature: it does not prove who wrote a page, or that the work was done.\n"
    "Penalty: mean interval score of the predictions with a result, in the lab's lessons alone; lower is better."
)
BRIEF = ("file", "name", "made", "lesson", "scored", "inside", "penalty", "exercises", "runs", "best recovery", "incidents", "note")
COLUMNS = (*BRIEF, "labkit", "predictions", "passed", "recipes")
LONGEST = 40  # characters of a cell in a terminal; file and note are whole
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
    asked = {question: entry for question, entry in said.asked.items() if question in LESSONS}  # a page may hold any others
    scored = [(e.prediction, e.truth) for e in asked.values() if e.prediction and e.truth is not None]
    solved = [name for name in EXERCISES if name in said.solved and name.startswith(said.lesson)]
    exercises = sum(name.startswith(said.lesson) for name in EXERCISES)
    recoveries = [run.recovery for run in said.runs if run.recovery is not None]
    incidents = [history.score(case.truth, case.named) for case in said.cases]
    return {
        "file": path,
        "name": _line(said.name),
        "made": _line(said.made),
        "labkit": _line(said.version),
        "lesson": _line(said.lesson) or "all",
        "predictions": sum(entry.prediction is not None for entry in asked.values()),
        "scored": len(scored),
        "inside": sum(guess.contains(truth) for guess, truth in scored),
        "penalty": _mean([interval_score(guess, truth) for guess, truth in scored]),
        "exercises": f"{len(solved)} of {exercises}",
        "runs": sum(run.ended.startswith("completed") for run in said.runs),
        "best recovery": max(recoveries, default=None),
        "incidents": _mean(incidents),
        "note": _note(said),
        "passed": " ".join(solved),
        "recipes": _line("; ".join(run.recipe for run in said.runs if run.recipe)),
    }


def _note(said: Handin) -> str:
    """What a teacher should know of a page, besides its numbers."""
    foreign = len(entries(said.predictions)[2])
    notes = [_line(said.remark)]
    notes += [f"{said.damaged} damaged line{'s' * (said.damaged > 1)} in the learner's files"] if said.damaged else []
    notes += [f"{foreign} line{'s' * (foreign > 1)} of another version of the lab, not counted"] if foreign else []
    return "; ".join(filter(None, notes))


def _line(text: str) -> str:
    """A text of a page in one line, without characters that change how a terminal shows what is beside them."""
    return shown(text, len(text) + 1).strip()


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _same_records(pages: Sequence[tuple[Row, Handin]]) -> None:
    """Note which pages of different names hold the very same record. One learner may hand in several pages."""
    holders = collections.defaultdict(set)
    for row, said in pages:
        for run in said.runs:
            if run.sha256:
                holders[run.sha256].add((row["file"], row["name"]))
    for row, said in pages:
        own = row["name"]
        others = sorted({file for run in said.runs for file, name in holders[run.sha256] if not (name == own != "")} - {row["file"]})
        if others:
            row["note"] = "; ".join(filter(None, [row["note"], f"same record of a run as in {', '.join(others)}"]))


def as_text(table: pandas.DataFrame) -> str:
    """The table for a terminal, without the long columns."""
    cut = table[list(BRIEF)].copy()
    for column in cut.columns.difference(["file", "note"]):
        cut[column] = cut[column].map(lambda cell: shown(cell, LONGEST) if isinstance(cell, str) else cell)
    return cut.to_string(index=False, float_format=lambda x: f"{x:.3g}", justify="left")


def as_csv(table: pandas.DataFrame) -> str:
    """The table as CSV, every column. A text that a spreadsheet would take for a formula begins with an apostrophe."""
    return table.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.lstrip()[:1] in tuple("=+-@") else cell).to_csv(index=False)
