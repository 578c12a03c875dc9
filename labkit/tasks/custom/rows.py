"""The learner's own data: prompts, with or without answers, from a file or a hub data set, and a split that does not leak.

    rows = read_rows("tickets.jsonl")     # or .csv, .tsv, .json, .parquet, a shipped example, a hub id with network=True
    print(rows.summary)                   # how many, how many twice, which lines could not be used and why
    train, held_out = split(rows)         # by a hash of the prompt

A broken line costs that line only. To accept another name for a column, add it to `PROMPTS` or `RESPONSES`.
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

PROMPTS = ("prompt", "question", "instruction", "query", "input", "text")  # the first that a row has
RESPONSES = ("response", "completion", "answer", "output", "label")
CHATS = ("messages", "conversations")
ROLES = {"human": "user", "gpt": "assistant", "developer": "system"}  # other names of the three


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A prompt and, where there is one, the answer wanted. `line` is where it began in its file (of a table: which row, from 1); `fields`
    are all columns but the prompt's, as they were read."""

    prompt: str
    response: str | None
    line: int
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)


class Problem(NamedTuple):
    """A line that could not be used, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class CustomRows(Sequence[Row]):
    """The usable rows of a source in their order, and what was seen on the way. `unused`: columns that went into no row."""

    source: str
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    unused: tuple[str, ...] = ()

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
        """How many rows have an answer."""
        return sum(row.response is not None for row in self.rows)

    @property
    def duplicates(self) -> int:
        """How many rows repeat the prompt of an earlier one; they are kept, and always fall on one side of a split."""
        return len(self) - len({same(row.prompt) for row in self.rows})

    @property
    def conflicts(self) -> int:
        """How many prompts have answers that differ."""
        answers: dict[str, set[str]] = {}
        for row in self.rows:
            if row.response is not None:
                answers.setdefault(same(row.prompt), set()).add(same(row.response))
        return sum(len(found) > 1 for found in answers.values())

    @property
    def fingerprint(self) -> str:
        """Equal for equal prompts and answers in the same order, wherever they were read from."""
        digest = hashlib.blake2b(digest_size=8)
        for row in self.rows:
            digest.update(json.dumps([row.prompt, row.response]).encode())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """What was read, in a few lines: the first problems by name, the rest counted."""
        lines = [f"{self.source}: {len(self):,} rows, {self.answered:,} with an answer."]
        if self.duplicates:
            differing = f"; {self.conflicts:,} prompts have answers that differ" if self.conflicts else ""
            lines.append(f"{self.duplicates:,} rows repeat an earlier prompt (kept{differing}).")
        if self.unused:
            lines.append(f"Columns not used: {', '.join(self.unused)}.")
        if self.problems:
            lines.append(f"{len(self.problems):,} could not be used:")
            lines += [f"  {problem}" for problem in self.problems[:5]]
            lines += [f"  and {len(self.problems) - 5:,} more"] if len(self.problems) > 5 else []
        return "\n".join(lines)


class Split(NamedTuple):
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
    """Rows of a file, of a shipped example ("tickets", "orders"), of `part` of a hub data set, which only `network=True` may fetch, or of
    a list of prompts or objects.

    Columns are found by name: `PROMPTS` and `RESPONSES` in that order, an instruction with its input, chats (messages; the last
    turn is the answer if it is the assistant's), or the two named here. Raises `LabError` if no row can be used.
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
        what = f"{len(problems):,} lines were read, and none can be used; {problems[0]}" if problems else "it is empty"
        fix = 'Give each row a prompt and, if you have it, an answer: {"prompt": "...", "response": "..."}; or name the columns.'
        raise LabError(f"{name} holds no usable row: {what.rstrip('.')}. {fix}")
    return CustomRows(name, tuple(rows), tuple(problems), tuple(column for column in seen if column not in used))


def write_rows(rows: CustomRows, path: Path) -> Path:
    """The same rows as a JSONL file with `prompt` and `response`, which anything here reads without being told its columns."""
    lines = [{"prompt": row.prompt} | ({} if row.response is None else {"response": row.response}) for row in rows]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_whole(path, lambda to: to.write_text(text, encoding="utf-8", newline="\n"))
    return path


def split(rows: CustomRows, held_out: float = 0.2, seed: int = 0) -> Split:
    """Two sides, told apart by a hash of the prompt: a prompt that comes twice (capitals and spaces aside) never lands on both, and
    no row changes sides when others are added. `held_out` is therefore only about the share that is held out.
    """
    if not 0 < held_out < 1:
        raise LabError(f"held_out={held_out} must be a share above 0 and below 1: write 0.2 for a fifth of the prompts.")
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        digest = hashlib.blake2b(f"{seed} {same(row.prompt)}".encode(), digest_size=8).digest()
        sides[int.from_bytes(digest) < held_out * 2**64].append(row)
    for side, name in zip(sides, ("to train on", "held out")):
        if not side:
            some = f"{len(rows) - rows.duplicates} different prompts"
            raise LabError(f"held_out={held_out} of {some} leaves none {name}: add rows, or try another share or seed.")
    train, rest = (dataclasses.replace(rows, rows=tuple(side), problems=()) for side in sides)
    return Split(train, rest)


def same(text: str) -> str:
    """What two spellings of one prompt share: capitals, kinds of spaces and composed accents do not matter."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


# ---- one row -----------------------------------------------------------------------------------------------------------


def _read(cells: Any, prompt_column: str | None, response_column: str | None) -> tuple[str, str | None, list[str]]:
    """Prompt, response or None, and the columns they came from."""
    if isinstance(cells, Unusable):
        raise cells
    if not isinstance(cells, dict):
        raise Unusable(f"a row must be an object with named fields, and this is {_kind(cells)}")
    wanted = _column(prompt_column, cells) or next((name for name in PROMPTS if cells.get(name) is not None), None)
    answer = _column(response_column, cells) or next((name for name in RESPONSES if cells.get(name) is not None), None)
    chat = next((name for name in CHATS if isinstance(cells.get(name), list)), None)
    if chat and prompt_column is None and "prompt" not in cells:
        prompt, response = _turns(cells[chat])
        return _full(prompt), response, [chat]
    if wanted is None:
        names = ", ".join(map(repr, cells)) or "no column at all"
        raise Unusable(f"no prompt: it has {names}, and none of {', '.join((*PROMPTS, *CHATS))} with a text in it")
    if isinstance(cells[wanted], list):  # a chat in two halves
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
    """A cell as text: an object as JSON, so that data to extract may be written as what it is."""
    if isinstance(value, Unusable):
        raise Unusable(f"{column!r} {value}")
    if isinstance(value, dict) and column not in PROMPTS:
        value = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float) and math.isnan(value):
        value = ""  # how tables write a cell with nothing in it
    elif isinstance(value, int | float):
        value = str(value)
    elif value is None:
        value = ""
    if not isinstance(value, str):
        raise Unusable(f"{column!r} must be a text, and is {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{column!r} holds bytes that are not UTF-8: save the file as UTF-8") from None
    return value


def _full(prompt: str) -> str:
    if not prompt.strip():
        raise Unusable("the prompt is empty")
    return prompt.strip()


def _turns(messages: list[Any]) -> tuple[str, str | None]:
    """A chat as one prompt and its answer. One user's turn is itself, after what the system says; of several, each is named."""
    turns: list[tuple[str, str]] = []
    for message in messages:
        if not isinstance(message, dict):
            raise Unusable(f"a message must be an object with role and content, and one is {_kind(message)}")
        role = str(message.get("role", message.get("from", ""))).lower()
        role = ROLES.get(role, role)
        if role not in ("system", "user", "assistant"):
            raise Unusable(f"role {role!r} of a message is none of system, user, assistant")
        content = message.get("content", message.get("value"))
        if isinstance(content, list):
            if any(not isinstance(piece, dict) or piece.get("type", "text") != "text" for piece in content):
                raise Unusable("a message holds more than text, and only text can be used")
            content = "".join(_text(piece.get("text"), "text") for piece in content)
        turns.append((role, _text(content, "content").strip()))
    response = turns.pop()[1] if turns and turns[-1][0] == "assistant" else None
    if not turns or turns[-1][0] != "user" or not turns[-1][1]:
        raise Unusable("the chat has no user's turn that waits for an answer")
    opening = [text for role, text in turns if role == "system" and text]
    said = [(role, text) for role, text in turns if role != "system"]
    if len(said) > 1:
        return "\n\n".join([*opening, *(f"{role.capitalize()}: {text}" for role, text in said)]), response or None
    return "\n\n".join([*opening, said[0][1]]), response or None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null", bytes: "bytes"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")
