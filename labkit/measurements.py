"""Measurements that are not runs, as tables of plain numbers that ship in `data/measurements` (`labkit build measurements`).

measured("sampling")      # a DataFrame; also "beneath", "left_out"
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from labkit.errors import unknown
from labkit.paths import checked, data_dir

if TYPE_CHECKING:
    import pandas


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a shipped measurement. Raises `LabError` for a name that is not there, `DataError` if its file is damaged."""
    names = sorted(path.stem for path in (data_dir() / "measurements").glob("*.json") if path.stem != "manifest")
    if name not in names:
        raise unknown("measurement", name, names)
    return json.loads(checked(data_dir() / "measurements" / f"{name}.json", "build measurements").read_text(encoding="utf-8"))


def measured(name: str) -> pandas.DataFrame:
    """The same as a table."""
    import pandas

    return pandas.DataFrame(rows(name))
