"""The exercises that were passed, with the answers, kept in the file of predictions.

keep("00.kl", my_function)       # what `labkit.check` does with a right answer
passed()["00.kl"].answer         # the function's source
"""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from labkit.base.errors import UNREADABLE, DataError, shown
from labkit.base.files import append_row, rows_of
from labkit.lessons.predictions import ledger

LONGEST = 4_000  # characters of an answer that are kept


class Passed(NamedTuple):
    """A right answer, as text, and when it was given."""

    answer: str
    made: str


def keep(exercise: str, answer: Any) -> str:
    """Store a right answer. Returns why that failed, as a sentence behind another; or ""."""
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        append_row(ledger(), {"kind": "pass", "exercise": exercise, "answer": _written(answer), "made": made})
    except (OSError, DataError) as error:
        return f" This could not be kept: {str(error).rstrip(chr(46))}."
    return ""


def passed(rows: Mapping[int, Mapping[str, Any] | None] | None = None) -> dict[str, Passed]:
    """The last right answer to each exercise. Rows of another kind, and what cannot be read, is left out.

    rows: of a ledger, by their line; those of this machine if None.
    """
    found = {}
    for row in (rows_of(ledger()) if rows is None else rows).values():
        try:
            if row and row["kind"] == "pass":
                exercise, *kept = (_text(row[name]) for name in ("exercise", "answer", "made"))
                found[exercise] = Passed(*kept)
        except UNREADABLE:
            continue
    return found


def _written(answer: Any) -> str:
    """An answer as text: a function's source, a text itself, and anything else as Python writes it."""
    try:
        text = answer if isinstance(answer, str) else inspect.getsource(answer) if callable(answer) else shown(answer)
    except (OSError, TypeError):  # it was not written in a cell or file
        text = shown(answer)
    return text[:LONGEST].encode(errors="replace").decode()  # a half character has no place in a file


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("must be a text")
    return value
