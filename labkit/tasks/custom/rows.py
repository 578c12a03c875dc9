"""Custom data: prompts with or without answers, from a file or a hub data set, and a split without leaks.

    rows = read_rows("tickets.jsonl")     # or .csv, .tsv, .json, .parquet, a shipped example, a hub id with network=True
    print(rows.summary)                   # number of rows and duplicates, and the lines that cannot be used, with reasons
    train, held_out = split(rows)         # by a hash of the prompt

Invalid lines are reported and skipped. To accept another name for a column, add it to `PROMPTS` or `RESPONSES`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from labkit.base.errors import LabError, suggest
from labkit.base.files import write_whole
from labkit.tasks.custom.sources import Source, Unusable, cells_of

PROMPTS = ("prompt", "question", "instruction", "query", "input", "text")  # the first one that a row has is used
RESPONSES = ("response", "completion", "answer", "output", "label")
CHATS = ("messages", "conversations")
ROLES = {"human": "user", "gpt": "assistant", "developer": "system"}  # other names for user, assistant and system


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A prompt and its answer, if it has one."""

    prompt: str
    response: str | None
    line: int  # where it begins in its file, from 1; in a table without lines the number of the row
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)  # all columns but the prompt's


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

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> CustomRows: ...
    def __getitem__(self, index: int | slice) -> Row | CustomRows:
        if isinstance(index, slice):
            return dataclasses.replace(self, rows=self.rows[index], problems=())
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
        """A hash of all prompts and answers in order. Their source does not matter."""
        digest = hashlib.blake2b(digest_size=8)
        for row in self.rows:
            digest.update(json.dumps([row.prompt, row.response]).encode())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """A few lines about what was read, with the first five problems."""
        lines = [f"{self.source}: {len(self):,} rows, {self.answered:,} with an answer."]
        if self.duplicates:
            differing = f"; {self.conflicts:,} prompts have different answers" if self.conflicts else ""
            lines.append(f"{self.duplicates:,} rows repeat an earlier prompt (kept{differing}).")
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


def read_rows(
    source: Source,
    *,
    prompt_column: str | None = None,
    response_column: str | None = None,
    network: bool = False,
    part: str = "train",
) -> CustomRows:
    """Read prompts and answers.

    source: a file, a shipped example ("tickets", "orders"), the name of a hub data set, or a list of prompts or objects.
    prompt_column, response_column: names of the columns. By default the first of `PROMPTS` and of `RESPONSES` that a row has; an
        instruction is joined with its input. In a chat (messages) the last turn is the answer if it is the assistant's.
    network: whether a hub data set may be fetched.
    part: which part of a hub data set to read.

    Raises `LabError` if no row can be used.
    """
    name = str(source) if isinstance(source, str | Path) else "the list"
    rows: list[Row] = []
    problems: list[Problem] = []
    used: set[str] = set()
    seen: dict[str, None] = {}
    for line, given in cells_of(source, part, network):
        cells = given
        if isinstance(given, Mapping):
            cells = {str(key).strip().lower(): value for key, value in given.items() if key is not None}
            seen.update(dict.fromkeys(cells))
        try:
            prompt, response, columns = _read(cells, prompt_column, response_column)
            taken = set(columns) - set(RESPONSES)
            fields = {str(key): value for key, value in given.items() if key is not None and str(key).strip().lower() not in taken}
            rows.append(Row(prompt, response, line, fields))
            used.update(columns)
        except Unusable as reason:
            problems.append(Problem(line, str(reason)))
    if not rows:
        what = f"none of its {len(problems):,} lines can be used; {problems[0]}" if problems else "it is empty"
        fix = 'Give each row a prompt and, if you have it, an answer: {"prompt": "...", "response": "..."}; or name the columns.'
        raise LabError(f"{name} has no usable row: {what.rstrip('.')}. {fix}")
    return CustomRows(name, tuple(rows), tuple(problems), tuple(column for column in seen if column not in used))


def write_rows(rows: CustomRows, path: Path) -> Path:
    """Write the rows as a JSONL file with the columns `prompt` and `response`, which `read_rows` finds by default. Returns the path."""
    lines = [{"prompt": row.prompt} | ({} if row.response is None else {"response": row.response}) for row in rows]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
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
            raise LabError(f"held_out={held_out} of {some} leaves none {name}: add rows, or use another share or seed.")
    train, rest = (dataclasses.replace(rows, rows=tuple(side), problems=()) for side in sides)
    return Split(train, rest)


def same(text: str) -> str:
    """Normal form of a prompt. Capitals, kinds of spaces and the encoding of accents do not matter."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


# ---- one row -----------------------------------------------------------------------------------------------------------


def _read(cells: Any, prompt_column: str | None, response_column: str | None) -> tuple[str, str | None, list[str]]:
    """Returns prompt, response or None, and the columns that they are from. Raises `Unusable`."""
    if isinstance(cells, Unusable):
        raise cells
    if not isinstance(cells, dict):
        raise Unusable(f"a row must be an object with named fields, but this is {_kind(cells)}")
    wanted = _column(prompt_column, cells) or next((name for name in PROMPTS if cells.get(name) is not None), None)
    answer = _column(response_column, cells) or next((name for name in RESPONSES if cells.get(name) is not None), None)
    chat = next((name for name in CHATS if isinstance(cells.get(name), list)), None)
    if chat and prompt_column is None and "prompt" not in cells:
        prompt, response = _turns(cells[chat])
        return _full(prompt), response, [chat]
    if wanted is None:
        names = ", ".join(map(repr, cells)) or "none"
        raise Unusable(f"no prompt: its columns are {names}, but a prompt needs one of {', '.join((*PROMPTS, *CHATS))} that is not empty")
    if isinstance(cells[wanted], list):  # a chat: the prompt's turns, and the answer's in another column
        after = cells.get(answer) if answer else None
        prompt, response = _turns([*cells[wanted], *(after if isinstance(after, list) else [])])
        response = response if isinstance(after, list) or answer is None else _text(after, answer)
        return _full(prompt), response, [wanted, answer or wanted]
    prompt, columns = _text(cells[wanted], wanted), [wanted]
    if wanted == "instruction" and cells.get("input") is not None and answer != "input":
        extra, columns = _text(cells["input"], "input"), [wanted, "input"]
        prompt = f"{prompt}\n\n{extra}" if extra.strip() else prompt
    response = _text(cells[answer], answer) if answer and cells[answer] is not None else ""
    return _full(prompt), response.strip() or None, [*columns, *([answer] if answer else [])]


def _column(name: str | None, cells: dict[str, Any]) -> str | None:
    if name is None:
        return None
    if name.strip().lower() not in cells:
        raise Unusable(suggest("no column", name, cells))
    return name.strip().lower()


def _text(value: Any, column: str) -> str:
    """A cell as text. An object becomes JSON, so that the reference of an extraction task may be an object."""
    if isinstance(value, Unusable):
        raise Unusable(f"{column!r} {value}")
    if isinstance(value, dict) and column not in PROMPTS:
        value = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float) and math.isnan(value):
        value = ""  # an empty cell of a table
    elif isinstance(value, int | float):
        value = str(value)
    elif value is None:
        value = ""
    if not isinstance(value, str):
        raise Unusable(f"{column!r} must be a text, but is {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{column!r} has bytes that are not UTF-8: save the file as UTF-8") from None
    return value


def _full(prompt: str) -> str:
    if not prompt.strip():
        raise Unusable("the prompt is empty")
    return prompt.strip()


def _turns(messages: list[Any]) -> tuple[str, str | None]:
    """A chat as prompt and answer. The prompt is the system's text and the user's turn. If there are several turns, each begins with its
    role."""
    turns: list[tuple[str, str]] = []
    for message in messages:
        if not isinstance(message, dict):
            raise Unusable(f"a message must be an object with role and content, but one is {_kind(message)}")
        role = str(message.get("role", message.get("from", ""))).lower()
        role = ROLES.get(role, role)
        if role not in ("system", "user", "assistant"):
            raise Unusable(f"the role of a message must be system, user or assistant, but one is {role!r}")
        content = message.get("content", message.get("value"))
        if isinstance(content, list):
            if any(not isinstance(piece, dict) or piece.get("type", "text") != "text" for piece in content):
                raise Unusable("a message must have only text, but one has other content")
            content = "".join(_text(piece.get("text"), "text") for piece in content)
        turns.append((role, _text(content, "content").strip()))
    response = turns.pop()[1] if turns and turns[-1][0] == "assistant" else None
    if not turns or turns[-1][0] != "user" or not turns[-1][1]:
        raise Unusable("the chat must have a user's turn last, or last before the answer")
    opening = [text for role, text in turns if role == "system" and text]
    dialogue = [(role, text) for role, text in turns if role != "system"]
    if len(dialogue) > 1:
        return "\n\n".join([*opening, *(f"{role.capitalize()}: {text}" for role, text in dialogue)]), response or None
    return "\n\n".join([*opening, dialogue[0][1]]), response or None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null", bytes: "bytes"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")
