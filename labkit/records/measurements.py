"""Measurements that are not runs: tables of numbers in `data/measurements` (`labkit build measurements`).

measured("sampling")      # a DataFrame; also "beneath", "left_out"
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import unknown
from labkit.base.files import data_dir, write_whole
from labkit.base.kinds import kinds_checked
from labkit.base.manifest import checked, seal

if TYPE_CHECKING:
    import pandas


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a shipped measurement. Raises `LabError` for an unknown name, `DataError` if its file is damaged."""
    names = sorted(path.stem for path in (data_dir() / "measurements").glob("*.json") if path.stem != "manifest")
    if name not in names:
        raise unknown("measurement", name, names)
    return json.loads(checked(data_dir() / "measurements" / f"{name}.json").read_text(encoding="utf-8"))


@kinds_checked
def measured(name: str) -> pandas.DataFrame:
    """A shipped measurement as a table. name: of a file in `data/measurements`. Raises `LabError` for an unknown one, or damaged data."""
    import pandas

    return pandas.DataFrame(rows(name))


def write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], rebuild: str) -> None:
    """Write a table to the folder and enter it in the manifest: one row a line, numbers with six decimals, NaN as null.

    rebuild: the command that makes the table again.
    """
    rounded = [{key: _rounded(value) for key, value in row.items()} for row in rows]
    text = "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rounded) + "\n]\n"
    write_whole(folder / f"{name}.json", lambda to: to.write_text(text, encoding="utf-8"))
    seal(folder, rebuild, {f"{name}.json": {"licence": "Apache-2.0"}})


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else round(value, 6)
