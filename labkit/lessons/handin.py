"""What a learner hands in: one page with predictions, exercises, runs and incidents. `labkit grade` reads it.

    labkit.handin("ada.html", name="Ada")      # writes the page
    read("ada.html")                           # what it says, as a `Handin`; a page that was changed by hand is found

The page shows what it holds and has it as data, too, with a checksum. A checksum is no signature: it finds a page that somebody has edited,
but who knows the lab can write another page.
"""

from __future__ import annotations

import datetime
import hashlib
import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import labkit
from labkit.base.errors import DataError, LabError, half_a_character, reading, unknown
from labkit.base.files import expanded, home_dir, rows_in, rows_of, sealed_row, to_write, write_whole
from labkit.base.kinds import kinds_checked
from labkit.diagnosis.incidents import history
from labkit.lessons.catalogue import LESSONS
from labkit.lessons.handin_page import HandedRun, Handin, page
from labkit.lessons.predictions import ledger
from labkit.records import events as ev
from labkit.records.record import load, mean

INCIDENTS = "11"  # the lesson of the incident room
_DATA = re.compile(r'<pre[^<>]*\bid="labkit-handin"[^<>]*>([^<]*)</pre>')
_AGAIN = "Give pages that `labkit handin` wrote."


class Changed(DataError):
    """A page whose data was edited after it was written."""


@kinds_checked
def handin(path: str | Path = "handin.html", name: str = "", lesson: str = "") -> Handin:
    """Write what you have done on this machine as one page, to hand in.

    path: the file to write.
    name: yours, for the teacher's table.
    lesson: its number, as in "00", if only its predictions and exercises are asked for; runs belong to no lesson, and all are in it.

    Returns what the page says. Raises `LabError` for an unknown lesson, and if there is nothing to hand in.
    """
    to = to_write(path)
    if lesson and lesson not in LESSONS:
        raise unknown("lesson", lesson, LESSONS)
    if half_a_character(name):
        raise LabError("name has a character that no file can hold: write it with other letters.")
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = {line: row for line, row in rows_of(ledger()).items() if row is None or _of(row, lesson)}
    cases = rows_of(history.ledger()) if lesson in ("", INCIDENTS) else {}
    said = Handin(name, lesson, labkit.__version__, made, kept, cases, tuple(_runs()), to)
    if not (said.predictions or said.incidents or said.runs):
        raise LabError(
            f"there is nothing to hand in in {home_dir()}: save a prediction, pass an exercise or train a student there first, "
            "or set LABKIT_HOME to the folder where you did."
        )
    row = {name: value for name, value in vars(said).items() if name != "path"} | {"runs": [run._asdict() for run in said.runs]}
    text = page(said, sealed_row(row).decode())
    write_whole(to, lambda part: part.write_text(text, encoding="utf-8"))
    return said


@kinds_checked
def read(path: str | Path) -> Handin:
    """What a page says that `handin` has written. Nothing in it is run.

    Raises `Changed` if its data was edited, `DataError` if it is no such page.
    """
    with reading(path, _AGAIN, "is no hand-in"):
        found = _DATA.findall(expanded(path).read_text(encoding="utf-8"))
        if len(found) != 1:
            raise ValueError("it holds no data of `labkit handin`")
        (row,) = rows_in([html.unescape(found[0]).encode()], newer=True)
        if not row:
            raise Changed(
                f"{path} was changed by hand, or damaged: its data does not match its checksum. Ask for the page as it was written."
            )
        name, lesson, version, made = (_kind(row[key], str) for key in ("name", "lesson", "version", "made"))
        guesses, cases = (_ledger(row[key]) for key in ("predictions", "incidents"))
        return Handin(name, lesson, version, made, guesses, cases, tuple(map(_run, _kind(row["runs"], list))), Path(path))


def _ledger(rows: Any) -> dict[int, Any]:
    """The rows of a ledger as they are in the data of a page."""
    return {int(line): None if row is None else _kind(row, dict) for line, row in _kind(rows, dict).items()}


def _of(row: Mapping[str, Any], lesson: str) -> bool:
    """Whether a row of the ledger belongs to a lesson."""
    return str(row.get("question_id", row.get("exercise", ""))).partition(".")[0].startswith(lesson)


def _runs() -> Sequence[HandedRun]:
    """The records that this machine has made, with any version of the data."""
    found = []
    for path in sorted(home_dir().glob("*/records/[!.]*.jsonl.gz")):
        try:
            data = path.read_bytes()
            record = load(path)
            budget = {"label budget", "teacher"} <= record.references.keys() and record.evaluations
            recovery = record.recovery().mean if budget else math.nan
            knobs = {event.name for event in record.events if isinstance(event, ev.KnobTurned)} - {"threads"}
            turned = f", {', '.join(sorted(knobs))} changed during the run" if knobs else ""
            done = HandedRun(
                path.name,
                hashlib.sha256(data).hexdigest(),
                record.experiment.recipe,
                getattr(record.finished, "reason", "failed" if record.finished else "unfinished") + turned,
                record.steps[-1].step if record.steps else 0,
                mean(record.skills) if record.evaluations else None,
                recovery if math.isfinite(recovery) else None,
            )
        except (LabError, OSError):
            done = HandedRun(path.name, "", "", "cannot be read")
        found.append(done)
    return found


def _run(row: Any) -> HandedRun:
    """A run as it is in the data of a page."""
    file, sha256, recipe, ended = (_kind(row[name], str) for name in ("file", "sha256", "recipe", "ended"))
    skill, recovery = (None if row[name] is None else float(_kind(row[name], int, float)) for name in ("skill", "recovery"))
    return HandedRun(file, sha256, recipe, ended, _kind(row["steps"], int), skill, recovery)


def _kind(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(f"{value!r:.40} where a {kinds[-1].__name__} must be")
    return value
