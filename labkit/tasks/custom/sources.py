"""Where a learner's rows come from: lines, tables, parquet files, and data sets of the hub. What they mean is for `rows.read_rows`.

Each source gives (line, cells) pairs; cells is an `Unusable` where the line cannot even be taken apart.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.base.errors import DataError, LabError, need, suggest, unknown
from labkit.base.files import data_dir
from labkit.base.manifest import checked

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
EXAMPLES = ("tickets", "orders", "facts", "faq", "questions")  # shipped in `data/examples`


Source = str | Path | Iterable[str | Mapping[str, Any]]  # a file, an example or a hub data set by name; or prompts or rows themselves


class Unusable(Exception):
    """Why a row cannot be used."""


def cells_of(source: Source, part: str, network: bool) -> Iterator[tuple[int, Any]]:
    """The rows of a file, of a shipped example, of a part of a hub data set, or of a list, with the lines they begin on."""
    if not isinstance(source, str | Path):
        return enumerate(({"prompt": row} if isinstance(row, str) else row for row in source), 1)
    name, path = str(source), Path(source).expanduser()
    if not name.strip():
        raise LabError(
            f"no data is named: give a file ({', '.join(SUFFIXES)}), as in data=mine.jsonl, or an example: {', '.join(EXAMPLES)}."
        )
    if not path.exists() and name in EXAMPLES:
        path = checked(data_dir() / "examples" / f"{name}.jsonl")
    if path.is_file():
        return _file(path)
    if path.suffix.lower() not in SUFFIXES and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return _hub(name, part, network)
    raise _missing(path, name)


def _file(path: Path) -> Iterator[tuple[int, Any]]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise unknown(f"kind of data file: {path.name} ends in", suffix, SUFFIXES)
    if suffix == ".parquet":
        return _parquet(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Check the path and its permissions.") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise LabError(f"{path} is written in UTF-16, and must be UTF-8: save it again with that encoding.")
    text = data.decode("utf-8-sig", errors="surrogateescape")  # bytes that are not UTF-8 then cost their own row only
    if suffix in (".csv", ".tsv"):
        return _table(text, suffix)
    if suffix == ".json":
        try:
            whole = _json(text)
            return iter(enumerate(whole if isinstance(whole, list) else [whole], 1))
        except (ValueError, RecursionError):
            pass  # then it is lines, or broken
    return _lines(text)


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: None)  # NaN: how tables write a cell with nothing in it


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    """JSON objects, one a line. Only a line feed ends a line: texts may hold other separators."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, _json(line)
        except json.JSONDecodeError as error:
            yield number, Unusable(f"not JSON: {error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError) as error:  # a number of too many digits, or nested too deeply
            yield number, Unusable(f"not JSON that can be read: {error}")


def _table(text: str, suffix: str) -> Iterator[tuple[int, Any]]:
    """Rows of a table whose first line names the columns. A cell may run over several lines; "NA" is a text."""
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
            open_quote = "a quotation mark that opens here is never closed, so the rest of the file is one cell"
            yield start, Unusable(open_quote if "end of data" in str(error) else f"not a row of a table: {error}")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = cells
        elif len(cells) != len(header):
            yield start, Unusable(f"{len(cells)} cells, and the header has {len(header)}: a text with {separator!r} in it needs quotes")
        else:
            yield start, dict(zip(header, cells))


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise need("pyarrow", f"reading {path.name}") from None
    try:
        batches = list(pyarrow.parquet.ParquetFile(path).iter_batches())
    except (pyarrow.ArrowException, OSError) as error:
        raise LabError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]} Write it again, or give JSONL or CSV.") from None
    names = batches[0].schema.names if batches else []
    return enumerate((dict(zip(names, row)) for batch in batches for row in zip(*map(_values, batch.columns))), 1)


def _values(column: Any) -> list[Any]:
    """A column as Python's values; `Unusable` for those that Python has none for, such as a time after the year 9999."""
    found: list[Any] = []
    for cell in column:
        try:
            found.append(cell.as_py())
        except Exception as error:  # of many kinds: years, time zones, packages for them
            found.append(Unusable(f"holds a value that cannot be read: {str(error) or type(error).__name__}".split("\n")[0]))
    return found


def _hub(name: str, part: str, network: bool) -> Iterator[tuple[int, Any]]:
    if not network:
        raise LabError(
            f"{name} is no file here. If it is a data set on the Hugging Face hub, allow the network (network=True, or --network); "
            "else check the path."
        )
    try:
        import datasets
    except ModuleNotFoundError:
        raise need("datasets", f"fetching {name} from the hub") from None
    try:
        table = datasets.load_dataset(name, split=part)
    except Exception as error:  # the client raises many kinds, all of which mean the same here
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LabError(f"the data set {name} ({part}) cannot be fetched: {why} Check the name, the part and the network.") from None
    names = {column: kind.names for column, kind in (table.features or {}).items() if hasattr(kind, "names")}
    return enumerate((_named(row, names) for row in table), 1)


def _named(row: dict[str, Any], names: dict[str, Sequence[str]]) -> dict[str, Any]:
    """A hub row with the names of its classes in place of their numbers; -1 stands for none."""
    picked = {column: words[row[column]] if row[column] >= 0 else None for column, words in names.items() if row.get(column) is not None}
    return {**row, **picked}


def _missing(path: Path, name: str) -> LabError:
    if path.is_dir():
        return LabError(f"{name} is a folder: give one file of it ({', '.join(SUFFIXES)}).")
    near: Iterable[str] = ()
    if path.parent.is_dir():
        near = sorted(str(p) for p in path.parent.iterdir() if p.suffix.lower() in SUFFIXES)[:20]
    return LabError(suggest("no such file or example:", name, [*near, *EXAMPLES]))
