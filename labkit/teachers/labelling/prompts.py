"""The prompts of a job: rows `{"prompt": ...}`, one a line, of which the broken ones are told by line and the rest kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base.errors import LabError

OURS = ("response", "logprobs", "reasoning", "provenance")  # the fields that labelling adds to a row


class Prompt(NamedTuple):
    """One row: its line (from 1), the text to ask, and its other fields, which are never sent but stand in the answer again."""

    line: int
    text: str
    fields: Mapping[str, Any]


class Prompts(NamedTuple):
    """The rows that can be asked, and for each of the others its line and what is wrong with it."""

    rows: Sequence[Prompt]
    broken: Sequence[tuple[int, str]]
    source: str


def read(source: str | Path | Iterable[str | Mapping[str, Any]]) -> Prompts:
    """Prompts from a JSONL file, or from a list of texts or rows. Raises `LabError` if there is nothing to ask."""
    rows: list[Prompt] = []
    broken: list[tuple[int, str]] = []
    lines: Iterable[tuple[int, object]]
    if isinstance(source, str | Path):
        name, lines = str(source), _lines(Path(source))
    else:
        name, lines = "the list", ((n, {"prompt": row} if isinstance(row, str) else row) for n, row in enumerate(source, 1))
    for line, row in lines:
        try:
            rows.append(_prompt(line, _parsed(row) if isinstance(row, bytes) else row))
        except ValueError as error:
            broken.append((line, str(error)))
    if not rows:
        first = f" Line {broken[0][0]}: {broken[0][1]}." if broken else ""
        raise LabError(f'{name} holds no prompt: each line must be a JSON object such as {{"prompt": "What is 2 + 2?"}}.{first}')
    return Prompts(rows, broken, name)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except OSError as error:
        raise LabError(f"cannot read the prompts in {path}: {error.strerror or error}.") from None


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}, column {error.colno})") from None


def _no_number(name: str) -> object:
    raise ValueError(f"not JSON ({name} is no number)")


def _prompt(line: int, row: object) -> Prompt:
    if not isinstance(row, Mapping):
        raise ValueError("not an object with a prompt")
    if "prompt" not in row:
        raise ValueError("no field 'prompt'")
    text = row["prompt"]
    if not isinstance(text, str):
        raise ValueError(f"the prompt is {type(text).__name__}, not text")
    if not text.strip():
        raise ValueError("the prompt is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the prompt holds half of a character pair") from None
    return Prompt(line, text, {name: value for name, value in row.items() if name != "prompt" and name not in OURS})
