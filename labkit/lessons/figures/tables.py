"""Tables of text for lessons: long cells are wrapped, not cut, and a screen reader finds the head of each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from labkit.base.html import table


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table that a notebook shows. rows: cells in the order of `columns`; the first is the row's name."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    digits: int = 2  # decimals of a float

    def __repr__(self) -> str:
        return "\n".join(" | ".join(str(cell) for cell in row) for row in (self.columns, *self.rows))

    def _repr_html_(self) -> str:
        return table(self.columns, self.rows, digits=self.digits)
