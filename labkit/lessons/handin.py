"""What a learner hands in: one page with predictions, exercises, runs and incidents. `labkit grade` reads it.

    labkit.handin("ada.html", name="Ada")      # writes the page
    read("ada.html")                           # what it says, as a `Handin`

The page shows what it holds and has it as data, too, with a checksum. The checksum finds data that somebody has edited. The text that the
page shows is compared with its data, if this version of the lab wrote it. Neither is a signature: who knows the lab can write another page.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import html
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import labkit
from labkit.base.errors import UNREADABLE, DataError, LabError, half_a_character, reading, shown, unknown
from labkit.base.files import expanded, home_dir, rows_in, rows_of, sealed_row, to_write, write_whole
from labkit.base.kinds import kinds_checked
from labkit.diagnosis.incidents import history
from labkit.lessons.catalogue import LESSONS
from labkit.lessons.handin_page import HandedRun, Handin, page
from labkit.lessons.predictions import ledger
from labkit.records import events as ev
from labkit.records.record import load, mean

INCIDENTS = "11"  # the lesson of the incident room
LARGEST = 20_000_000  # bytes of a page that is read; a course takes less than one million
_TAG = re.compile("(<[^<>]*>)")  # it ends at the next < or >, so that a page of any content is split in one pass
_AGAIN = "Give pages that `labkit handin` wrote."


class Changed(DataError):
    """A page whose data was edited after it was written."""


@kinds_checked
def handin(path: str | Path = "handin.html", name: str = "", lesson: str = "") -> Handin:
    """Write what you have done on this machine as one page, to hand in.

    path: the file to write.
    name: yours, for the teacher's table.
    lesson: its number, as in "00", if only its predictions and exercises are asked for; runs belong to no lesson, and all are in it.

    Returns what the page says. Raises `LabError` for an unknown lesson, if there is nothing to hand in, and if `path` is a file that
    `handin` has not written.
    """
    to = _free(path)
    if lesson and lesson not in LESSONS:
        raise unknown("lesson", lesson, LESSONS)
    if half_a_character(name):
        raise LabError("name has a character that no file can hold: write it with other letters.")
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = {line: row for line, row in _whole(rows_of(ledger())).items() if row is None or _of(row, lesson)}
    cases = _whole(rows_of(history.ledger())) if lesson in ("", INCIDENTS) else {}
    said = Handin(name, lesson, labkit.__version__, made, kept, cases, tuple(_runs()), to)
    if not (said.predictions or said.incidents or said.runs):
        raise LabError(
            f"there is nothing to hand in in {home_dir()}: save a prediction, pass an exercise or train a student there first, "
            "or set LABKIT_HOME to the folder where you did."
        )
    row = vars(said) | {"runs": [run._asdict() for run in said.runs]}
    row = {name: value for name, value in row.items() if name not in ("path", "remark")}
    text = page(said, sealed_row(row).decode())
    write_whole(to, lambda part: part.write_text(text, encoding="utf-8"))
    return said


@kinds_checked
def read(path: str | Path) -> Handin:
    """What a page says that `handin` has written. Nothing in it is run.

    Raises `Changed` if its data was edited, `DataError` if it is no such page.
    """
    with reading(path, _AGAIN, "is no hand-in"):
        with expanded(path).open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it has more than {LARGEST // 1_000_000} MB")
        found, texts = _parts(content.decode())
        if len(found) != 1:
            raise ValueError("it holds no data of `labkit handin`")
        (row,) = rows_in([html.unescape(found[0]).encode()], newer=True)
        if not row:
            raise Changed(
                f"{path} was changed by hand, or damaged: its data does not match its checksum. Ask for the page as it was written."
            )
        name, lesson, version, made = (_kind(row[key], str) for key in ("name", "lesson", "version", "made"))
        guesses, cases = (_ledger(row[key]) for key in ("predictions", "incidents"))
        said = Handin(name, lesson, version, made, guesses, cases, tuple(map(_run, _kind(row["runs"], list))), Path(path))
        return dataclasses.replace(said, remark=_remark(said, texts))


def _parts(text: str) -> tuple[list[str], list[str]]:
    """The data in a page, of which there should be one, and the texts that it shows, each in one line. A browser that saves a page may
    change white space, characters that cannot be seen, and its head: these do not count."""
    pieces, hidden = _TAG.split(text), False
    data, texts = list[str](), list[str]()
    for tag, content in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        hidden = (hidden or tag == "<head>") and tag != "</head>"
        if tag.startswith("<pre ") and 'id="labkit-handin"' in tag:
            data.append(content)
        elif not hidden and (
            line := " ".join("".join(c if c.isprintable() and c != "\ufffd" else " " for c in html.unescape(content)).split())
        ):
            texts.append(line)
    return data, texts


def _remark(said: Handin, texts: list[str]) -> str:
    """What is to be said of the texts that a page shows; "" if they are those of its data."""
    if said.version != labkit.__version__:
        return f"written by labkit {said.version:.20}: the text that it shows was not checked"
    for here, made in itertools.zip_longest(texts, _parts(page(said, ""))[1], fillvalue="nothing"):
        if here != made:
            return f"CHANGED by hand: the page shows {shown(here)}, and its data says {shown(made)}"
    return ""


def _free(path: str | Path) -> Path:
    """The file for a page. Raises `LabError` for a folder, and for a file that `handin` has not written."""
    to = to_write(path)
    if to.exists():
        try:
            if not to.is_file():
                raise DataError("no file")
            read(to)
        except Changed:
            pass
        except DataError:
            raise LabError(
                f"{to} exists and is no page of `labkit handin`, so it is not overwritten: choose another --out, or move it away."
            ) from None
    return to


def _whole(rows: Mapping[int, Mapping[str, Any] | None]) -> dict[int, Mapping[str, Any] | None]:
    """The rows of a ledger, with None for one that a page cannot hold: an older row without a checksum may have NaN or half a character."""
    return {line: row if row is not None and _held(row) else None for line, row in rows.items()}


def _held(row: Mapping[str, Any]) -> bool:
    try:
        sealed_row(row)
    except UNREADABLE:
        return False
    return True


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
        name = path.name.encode(errors="replace").decode()
        try:
            data = path.read_bytes()
            record = load(path)
            budget = {"label budget", "teacher"} <= record.references.keys() and record.evaluations
            recovery = record.recovery().mean if budget else math.nan
            knobs = {event.name for event in record.events if isinstance(event, ev.KnobTurned)} - {"threads"}
            turned = f", {', '.join(sorted(knobs))} changed during the run" if knobs else ""
            done = HandedRun(
                name,
                hashlib.sha256(data).hexdigest(),
                record.experiment.recipe,
                getattr(record.finished, "reason", "failed" if record.finished else "unfinished") + turned,
                record.steps[-1].step if record.steps else 0,
                mean(record.skills) if record.evaluations else None,
                recovery if math.isfinite(recovery) else None,
            )
            readable = _held(done._asdict())
        except UNREADABLE:
            readable = False
        found.append(done if readable else HandedRun(name, "", "", "cannot be read"))
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
