"""Sources of custom data: JSON lines, tables, parquet files, and hub data sets. `shapes.read` interprets their cells.

Each source yields pairs (line, cells); cells is an `Unusable` if the line cannot be parsed.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.base.chat import to_json
from labkit.base.errors import DataError, LabError, nearest, need, reason, shown, suggest
from labkit.base.files import data_dir, expanded
from labkit.base.manifest import checked

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
BYTE_ORDER_MARKS = {  # UTF-32's begins with UTF-16's
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "UTF-16"),
}
EXAMPLES = ("tickets", "orders", "facts", "faq", "questions")  # shipped in `data/examples`


Source = str | Path | Iterable[str | Mapping[str, Any]]  # name of a file, an example or a hub data set; or a list of prompts or rows


class Unusable(Exception):
    """Why a row cannot be used."""


class Repeating(dict):
    """A row, or an object in it, in which some names stand several times. It has the last value of each."""

    def __init__(self, pairs: Iterable[tuple[str, Any]], repeated: tuple[str, ...]) -> None:
        super().__init__(pairs)
        self.repeated = repeated


def named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A row, or another object of JSON, from its names and values; a `Repeating` if a name stands in it several times."""
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    return Repeating(pairs, tuple(name for name, times in Counter(name for name, _ in pairs).items() if times > 1))


def cells_of(source: Source, part: str, network: bool) -> Iterator[tuple[int, Any]]:
    """Rows of a source as pairs (line where the row begins, cells).

    source: a file, a shipped example, the name of a hub data set, a list, or a data frame of pandas.
    part: part of a hub data set.
    network: whether a hub data set may be fetched.

    Raises `LabError` if the source does not exist or cannot be read.
    """
    if isinstance(source, Mapping):
        raise LabError(
            f"data must be a list of rows, but is one object with {', '.join(map(repr, source)) or 'no fields'}: give [row, ...]."
        )
    if not isinstance(source, str | Path):
        try:
            return enumerate(map(_plain, iter(_records(source))), 1)
        except TypeError:
            raise LabError(f"data is {shown(source)}: give a file, a list of rows, or a data frame.") from None
    name = str(source)
    if not name.strip():
        raise LabError(f"data is empty: give a file ({', '.join(SUFFIXES)}), as in data=mine.jsonl, or an example: {', '.join(EXAMPLES)}.")
    path = expanded(source)
    if not path.exists() and name in EXAMPLES:
        path = checked(data_dir() / "examples" / f"{name}.jsonl")
    if path.is_file():
        return _file(path)
    if path.suffix.lower() not in SUFFIXES and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return _hub(name, part, network)
    raise _missing(path, name)


def _records(table: Any) -> Iterable[Any]:
    """The rows of a list, or of a data frame of pandas, whose empty cells become None."""
    return table.astype(object).where(table.notna(), None).to_dict("records") if hasattr(table, "notna") else table


def _plain(row: Any) -> Any:
    """A row with its cells as Python's values, not numpy's. A text is a prompt."""
    if isinstance(row, str):
        return {"prompt": to_json(row)}
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()} if isinstance(row, Mapping) else row


def _file(path: Path) -> Iterator[tuple[int, Any]]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        near = nearest(suffix, SUFFIXES, cutoff=0.75)
        hint = f" Did you mean {near!r}?" if near else ""
        row = '{"prompt": "...", "response": "..."}'
        raise LabError(
            f"{path.name} ends in {shown(suffix)}, and a file of data in one of {', '.join(SUFFIXES)}.{hint} "
            f"Write each prompt as a line {row} of {path.stem}.jsonl."
        )
    if suffix == ".parquet":
        return _parquet(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Check the path and its permissions.") from None
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            raise LabError(f"{path} is {encoding}, but must be UTF-8: save it again as UTF-8.")
    text = data.decode("utf-8-sig", errors="surrogateescape")  # so that bytes that are not UTF-8 make only their own row unusable
    if suffix in (".csv", ".tsv"):
        return _table(text, suffix)
    if suffix == ".json":
        try:
            whole = json.loads(text, object_pairs_hook=named)
            return iter(enumerate(whole if isinstance(whole, list) else [whole], 1))
        except (ValueError, RecursionError):
            pass  # JSON lines, or invalid; `_lines` finds out
    elif _whole(text):
        raise LabError(f"{path} is one JSON document, and {suffix} has one JSON object a line: name it {path.stem}.json.")
    return _lines(text)


def _whole(text: str) -> bool:
    """Whether a text is JSON as a whole, and not line by line: a list with something in it, or an object on several lines."""
    begins = text.lstrip()[:1]
    if begins == "[" or (begins == "{" and "\n" in text.strip()):
        with contextlib.suppress(ValueError, RecursionError):  # mostly at once, behind the object of the first line
            return bool(json.loads(text))
    return False


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    """JSON objects, one a line. Only a line feed ends a line, because texts may contain other line separators."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line, object_pairs_hook=named)
        except json.JSONDecodeError as error:
            yield number, Unusable(f"not JSON: {error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError) as error:  # too many digits in a number, or too deep nesting
            yield number, Unusable(f"JSON that cannot be read: {error}")


def _table(text: str, suffix: str) -> Iterator[tuple[int, Any]]:
    """Rows of a table; its first line names the columns. A cell may have several lines. "NA" is text, not an empty cell."""
    first = text.split("\n", 1)[0]
    separator = "\t" if suffix == ".tsv" else max(",;\t", key=first.count)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            open_quote = "a quotation mark opens here and is never closed, so the rest of the file is one cell: close it"
            yield start, Unusable(open_quote if "end of data" in str(error) else f"not a row of a table: {error}")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = cells
        elif len(cells) != len(header):
            yield start, Unusable(f"{len(cells)} cells, but the header has {len(header)}: put a text with {separator!r} in quotes")
        else:
            yield start, named(list(zip(header, map(_cell, cells))))


def _cell(text: str) -> Any:
    """A cell of a table. The messages of a chat, written as JSON, become a list; any other cell is text."""
    if text.lstrip()[:1] == "[" and text.rstrip()[-1:] == "]":
        try:
            messages = json.loads(text, object_pairs_hook=named)
        except (ValueError, RecursionError):
            return text
        if messages and all(isinstance(message, dict) and {"role", "from"} & message.keys() for message in messages):
            return messages
    return text


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise need("pyarrow", f"reading {path.name}") from None
    try:
        batches = list(pyarrow.parquet.ParquetFile(path).iter_batches())
    except (pyarrow.ArrowException, OSError) as error:
        raise LabError(f"{path} cannot be read as parquet ({reason(error)}). Write it again, or use JSONL or CSV.") from None
    names = batches[0].schema.names if batches else []
    make: Any = dict if len({*names}) == len(names) else lambda cells: named(list(cells))
    return enumerate((make(zip(names, row)) for batch in batches for row in zip(*map(_values, batch.columns))), 1)


def _values(column: Any) -> list[Any]:
    """A column as Python values. A value that Python does not have, such as a time after the year 9999, becomes `Unusable`."""
    values: list[Any] = []
    for cell in column:
        try:
            value = cell.as_py()
            values.append(None if value != value else value)  # NaN: an empty cell, as pandas writes it
        except Exception as error:  # of many types: years, time zones, missing packages
            values.append(Unusable(f"has a value that cannot be read: {str(error) or type(error).__name__}".split("\n")[0]))
    return values


def _hub(name: str, part: str, network: bool) -> Iterator[tuple[int, Any]]:
    if not network:
        raise LabError(
            f"{name} is not a file. If it is a data set on the Hugging Face hub, allow the network (network=True, or --network); "
            "otherwise check the path."
        )
    try:
        import datasets
    except ModuleNotFoundError:
        raise need("datasets", f"fetching {name} from the hub") from None
    try:
        table = datasets.load_dataset(name, split=part)
    except Exception as error:  # the client raises many types of error
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LabError(f"the data set {name} ({part}) cannot be fetched: {why} Check the name, the part and the network.") from None
    names = {column: kind.names for column, kind in (table.features or {}).items() if hasattr(kind, "names")}
    return enumerate((_named(row, names) for row in table), 1)


def _named(row: dict[str, Any], names: dict[str, Sequence[str]]) -> dict[str, Any]:
    """A hub row with class names in place of class numbers; -1 becomes None."""
    picked = {column: words[row[column]] if row[column] >= 0 else None for column, words in names.items() if row.get(column) is not None}
    return {**row, **picked}


def _missing(path: Path, name: str) -> LabError:
    if path.is_dir():
        return LabError(f"{name} is a folder: give one file in it ({', '.join(SUFFIXES)}).")
    near: Iterable[str] = ()
    if path.parent.is_dir():
        near = sorted(str(p) for p in path.parent.iterdir() if p.suffix.lower() in SUFFIXES)[:20]
    return LabError(suggest("no such file or example:", name, [*near, *EXAMPLES]))
