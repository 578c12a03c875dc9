"""Custom data: prompts with or without answers, from a file or a hub data set, and a split without leaks.

    rows = read_rows("tickets.jsonl")     # or .csv, .tsv, .json, .parquet, a shipped example, a hub id with network=True
    print(rows.summary)                   # number of rows and duplicates, and the lines that cannot be used, with reasons
    train, held_out = split(rows)         # by a hash of the prompt

Invalid lines are reported and skipped. `shapes` reads a single row.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from labkit.base.chat import to_json
from labkit.base.errors import LabError, unknown
from labkit.base.files import write_whole
from labkit.base.kinds import kinds_checked
from labkit.base.thinking import join_thinking
from labkit.records.names import LEARN
from labkit.tasks.custom import shapes
from labkit.tasks.custom.cells import finite
from labkit.tasks.custom.sources import Repeating, Source, Unusable, cells_of

LEARNED = {  # for the summary, by what is learned
    "answer": "it is not learned (learn=both learns it too)",
    "reasoning": "it alone is learned (learn=reasoning)",
    "both": "it is learned before the answer (learn=both)",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A prompt and its answer, if it has one."""

    prompt: str  # with several turns a `Chat`
    response: str | None
    line: int  # where it begins in its file, from 1; in a table without lines the number of the row
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)  # all columns but the prompt's
    reasoning: str = ""  # what was thought before the response
    learn: str = dataclasses.field(default="answer", compare=False)  # of `names.LEARN`

    @property
    def learned(self) -> str | None:
        """The text that a student is trained to write, if there is one; an exam scores by `response`."""
        if self.learn == "reasoning":
            return self.reasoning or None
        return join_thinking(self.reasoning, self.response) if self.learn == "both" and self.response is not None else self.response


class Problem(NamedTuple):
    """A line that cannot be used, and the reason."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class CustomRows(Sequence[Row]):
    """The usable rows of a source, in order."""

    source: str
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()  # the lines that cannot be used
    unused: tuple[str, ...] = ()  # columns that are part of no prompt and no answer
    remarks: tuple[str, ...] = ()  # how rows were understood, if that could surprise

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> CustomRows: ...
    def __getitem__(self, index: int | slice) -> Row | CustomRows:
        if isinstance(index, slice):
            return dataclasses.replace(self, rows=self.rows[index], problems=(), remarks=())
        return self.rows[index]

    def __repr__(self) -> str:
        return f"Rows({self.source!r}: {len(self)} rows, {len(self.problems)} problems)"

    @property
    def prompts(self) -> list[str]:
        return [row.prompt for row in self.rows]

    @property
    def answered(self) -> int:
        """Number of rows with an answer."""
        return sum(row.response is not None for row in self.rows)

    @property
    def duplicates(self) -> int:
        """Number of rows that repeat an earlier prompt. They are kept, and a split puts them on the same side."""
        return len(self) - len({same(row.prompt) for row in self.rows})

    @property
    def conflicts(self) -> int:
        """Number of prompts with different answers."""
        answers: dict[str, set[str]] = {}
        for row in self.rows:
            if row.response is not None:
                answers.setdefault(same(row.prompt), set()).add(same(row.response))
        return sum(len(responses) > 1 for responses in answers.values())

    @property
    def fingerprint(self) -> str:
        """A hash of all prompts, answers, and what else is learned, in order. Their source does not matter."""
        digest = hashlib.blake2b(digest_size=8)
        for row in self.rows:
            other = [] if row.learned == row.response else [row.learned]
            digest.update(json.dumps([to_json(row.prompt), row.response, *other]).encode())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """A few lines about what was read, with the first five problems."""
        lines = [f"{self.source}: {len(self):,} rows, {self.answered:,} with an answer."]
        if self.duplicates:
            differing = f"; {self.conflicts:,} prompts have different answers" if self.conflicts else ""
            lines.append(f"{self.duplicates:,} rows repeat an earlier prompt (kept{differing}).")
        lines += self.remarks
        if self.unused:
            lines.append(f"Columns not used: {', '.join(self.unused)}.")
        if self.problems:
            lines.append(f"{len(self.problems):,} could not be used:")
            lines += [f"  {problem}" for problem in self.problems[:5]]
            lines += [f"  and {len(self.problems) - 5:,} more"] if len(self.problems) > 5 else []
        return "\n".join(lines)


class Split(NamedTuple):
    """The two sides of `split`."""

    train: CustomRows
    held_out: CustomRows


@kinds_checked
def read_rows(
    source: Source,
    *,
    prompt_column: str | None = None,
    response_column: str | None = None,
    network: bool = False,
    part: str = "train",
    learn: str = "answer",
) -> CustomRows:
    """Read prompts and answers. Invalid rows are reported and skipped.

    source: a file, a shipped example ("tickets", "orders"), the name of a hub data set, a list of prompts or objects, or a
        data frame of pandas.
    prompt_column, response_column: names of the columns. By default the first of `shapes.PROMPTS` and of `shapes.RESPONSES` that a row
        has.
    network: whether a hub data set may be fetched.
    part: which part of a hub data set to read.
    learn: what a student learns of a row: "answer"; "reasoning", the column `reasoning` or the thought with which an answer begins; or
        "both". A row without reasoning then has no text to learn, or its answer.

    Raises `LabError` if no row can be used.
    """
    if learn not in LEARN:
        raise unknown("learn", learn, LEARN)
    name = str(source) if isinstance(source, str | Path) else "the list"
    rows: list[Row] = []
    problems: list[Problem] = []
    used = {"reasoning"} if learn != "answer" else set()
    seen: dict[str, None] = {}
    remarks: Counter[str] = Counter()
    for line, given in cells_of(source, part, network):
        cells = given
        if isinstance(given, Mapping):
            cells = {str(key).strip().lower(): value for key, value in given.items()}
            seen.update(dict.fromkeys(cells))
        try:
            row = shapes.read(cells, prompt_column, response_column)
            fields = {str(key): finite(value) for key, value in given.items() if str(key).strip().lower() not in row.asked}
        except (Unusable, RecursionError) as reason:
            problems.append(Problem(line, str(reason)))
            continue
        except LabError as error:
            raise LabError(f"{name}, line {line}: {error}") from None
        rows.append(Row(row.prompt, row.response, line, fields, row.reasoning, learn))
        used.update(row.asked, row.answered)
        remarks.update(row.remarks)
        if len(cells) < len(given) or isinstance(given, Repeating):
            remarks.update(shapes.SEVERAL_COLUMNS % name for name in sorted(_repeated(given)))
    if not rows:
        what = f"none of its {len(problems):,} lines can be used; {problems[0]}" if problems else "it is empty"
        fix = 'Give each row a prompt and, if you have it, an answer: {"prompt": "...", "response": "..."}; or name the columns.'
        raise LabError(f"{name} has no usable row: {what.rstrip('.')}. {fix} docs/data.md shows all rows that can be read.")
    told = [remark.replace("{n}", f"{n:,}") for remark, n in remarks.items()]
    if learn != "answer" or any(row.reasoning for row in rows):
        told.append(f"{sum(bool(row.reasoning) for row in rows):,} rows have reasoning: {LEARNED[learn]}.")
    return CustomRows(name, tuple(rows), tuple(problems), tuple(column for column in seen if column not in used), tuple(told))


def write_rows(rows: CustomRows, path: Path) -> Path:
    """Write the rows as a JSONL file with the columns `prompt`, `response` and `reasoning`, which `read_rows` finds by default.

    Returns the path.
    """
    lines = [{"prompt": to_json(row.prompt), "response": row.response, "reasoning": row.reasoning or None} for row in rows]
    full = [{name: value for name, value in line.items() if value is not None} for line in lines]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in full)
    write_whole(path, lambda to: to.write_text(text, encoding="utf-8", newline="\n"))
    return path


def split(rows: CustomRows, held_out: float = 0.2, seed: int = 0) -> Split:
    """Split rows into a training side and a held-out side by a hash of the prompt.

    Prompts that differ only in capitals and spaces are on the same side. A row stays on its side when others are added.

    held_out: share of the prompts to hold out, between 0 and 1; the hash meets it only approximately.

    Raises `LabError` if the share is out of range, or if a side is empty.
    """
    if not 0 < held_out < 1:
        raise LabError(f"held_out={held_out} must be above 0 and below 1: use 0.2 to hold out a fifth of the prompts.")
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        digest = hashlib.blake2b(f"{seed} {same(row.prompt)}".encode(), digest_size=8).digest()
        sides[int.from_bytes(digest) < held_out * 2**64].append(row)
    for side, name in zip(sides, ("to train on", "to hold out")):
        if not side:
            some = f"{len(rows) - rows.duplicates} different prompts"
            raise LabError(f"held_out={held_out} of {some} leaves none {name}: add prompts, or, in Python, split with another seed.")
    train, rest = (dataclasses.replace(rows, rows=tuple(side), problems=(), remarks=()) for side in sides)
    return Split(train, rest)


def _repeated(row: Mapping[str, Any]) -> set[str]:
    """Names of columns that a row has several times, with any capitals."""
    names = Counter(str(name).strip().lower() for name in row)
    again = {name.strip().lower() for name in row.repeated} if isinstance(row, Repeating) else set()
    return again | {name for name, times in names.items() if times > 1}


def same(text: str) -> str:
    """Normal form of a prompt. Capitals, kinds of spaces and the encoding of accents do not matter."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
