"""Charts of plain numbers: bars, intervals and a heat map, for measurements beside a run. `line_chart` draws lines.

draw_bars(pen, "T = 2", "probability", ["Peru"], {"teacher": [0.7]})
draw_heat(pen, "Recovery", "note", rows, columns, cells)      # cells[row][column] is a `Cell` or None: not measured
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from labkit.base.errors import LabError, unknown
from labkit.base.palette import HAIR, INK, MUTED, PALETTE, PAPER, SHAPES, shade
from labkit.views.figures.axes import EDGE, LINE, TICK, number_axis
from labkit.views.figures.letters import tall, wide, wrapped
from labkit.views.figures.pen import Pen, Room
from labkit.views.figures.scales import digits, even_ticks, fixed, minus, number


class Interval(NamedTuple):
    """A named number with its band, if it has one."""

    name: str
    middle: float
    low: float = math.nan
    high: float = math.nan
    role: str = "student"  # its colour in `PALETTE`, and its shape in `SHAPES`
    note: str = ""


class Cell(NamedTuple):
    """One cell of a heat map."""

    value: float
    half: float = math.nan  # half of the width of its band


class Line(NamedTuple):
    """One line of a chart."""

    points: Sequence[tuple[float, float]]
    role: str = "student"  # its colour in `PALETTE`, and its shape in `SHAPES`
    dash: str = ""  # "", "dash" or "dot"
    bands: Sequence[tuple[float, float]] = ()  # the ends of each point's band


WIDTH = 7.4  # inches, of all these figures


# ---- intervals -------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """The texts of a row of intervals, in lines."""

    name: str
    numbers: str
    note: str
    tall: float  # inches


def _rows(rows: Sequence[Interval]) -> list[_Row]:
    most = 2.1 if any(row.note for row in rows) else 3.2  # inches, of a name
    made = []
    for row in rows:
        middle, ends = _told(row)
        numbers = minus(middle + (f"  {' to '.join(ends)}" if ends else ""))
        name, note = wrapped(row.name, most, 9), wrapped(row.note, 1.45, TICK)
        made.append(_Row(name, numbers, note, max(0.3, tall(name, 9) + 0.06, tall(note, TICK) + 0.06)))
    return made


def tall_intervals(rows: Sequence[Interval]) -> float:
    """The height of `draw_intervals` in inches, without the title."""
    return sum(row.tall for row in _rows(rows)) + 0.06 + LINE + EDGE / 2


def draw_intervals(pen: Pen, title: str, note: str, rows: Sequence[Interval], zero: float | None = None) -> None:
    """Draw one row for each number: a dot, its band as a line, and both as text, over an axis.

    Raises `LabError` for rows without a number, or an unknown role.
    """
    if not rows:
        raise LabError("there is nothing to draw: give at least one row.")
    known = [v for row in rows for v in (row.middle, row.low, row.high) if math.isfinite(v)] + ([zero] if zero is not None else [])
    if not any(math.isfinite(row.middle) for row in rows):
        raise LabError("there is nothing to draw: no row has a number.")
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    left, right = low - 0.06 * span, high + 0.06 * span
    texts = _rows(rows)
    numbers = max(wide(row.numbers, 9, bold=True) for row in texts)
    notes = max(wide(row.note, TICK) for row in texts)
    room = Room(
        max(wide(row.name, 9) for row in texts) + 8 / 72 + EDGE,
        numbers + 8 / 72 + EDGE + (notes + 0.2 if notes > 0.1 else 0.0),
        0.06 + LINE + EDGE / 2,
    )
    foot = -sum(row.tall for row in texts)
    pen.frame((left, right), (foot, 0.0), room=room)
    pen.title(title, note)
    axis = [tick for tick in even_ticks(left, right) if left <= tick <= right]
    for tick in axis:
        pen.line([tick, tick], [0.0, foot], HAIR, 0.8)
    number_axis(pen, pen.width - room.left - room.right, (left, right), axis, [minus(number(tick)) for tick in axis], foot)
    if zero is not None:
        pen.line([zero, zero], [0.0, foot], MUTED, 1.0, "dot")
    top = 0.0
    for row, (name, says, aside, high_row) in zip(rows, texts, strict=True):
        if row.role not in PALETTE:
            raise unknown("role", row.role, PALETTE)
        y, colour = top - high_row / 2, PALETTE[row.role]
        top -= high_row
        pen.line([left, right], [y, y], HAIR, 0.8)
        if math.isfinite(row.low):
            pen.line([row.low, row.high], [y, y], colour, 3.0, alpha=0.45)
        pen.dots([row.middle], [y], colour, SHAPES[row.role], 7, row.name)
        pen.text(left, y, name, INK, "right", 9, dx=-8)
        pen.text(right, y, says, MUTED if row.role == "ghost" else colour, "left", 9, bold=True, dx=8)
        if row.note:
            pen.text(right, y, aside, MUTED, "left", TICK, dx=8 + 72 * (numbers + 0.2))


def _told(row: Interval) -> tuple[str, tuple[str, ...]]:
    """A row's number, and the ends of its band, with as many decimals as it takes to see how wide the band is and on which side of 0."""
    if not math.isfinite(row.low):
        return fixed(row.middle, digits(0.0, row.middle)), ()
    most = max(digits(row.low, row.middle, row.high), digits(0.0, row.low), digits(0.0, row.high))
    return fixed(row.middle, most), (fixed(row.low, most), fixed(row.high, most))


def say_intervals(title: str, note: str, rows: Sequence[Interval]) -> str:
    """The same in words."""
    told = [(row.name, *_told(row)) for row in rows]
    parts = [f"{name} {middle}" + (f" ({' to '.join(ends)})" if ends else "") for name, middle, ends in told]
    return f"{title}, {note}: {'; '.join(parts)}."


# ---- bars ------------------------------------------------------------------------------------------------------------


def _check_bars(names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> None:
    for role, values in groups.items():
        if role not in PALETTE:
            raise unknown("role", role, PALETTE)
        if len(values) != len(names):
            raise LabError(f"{role} has {len(values)} values for {len(names)} names: give one for each.")
    if not names or not groups:
        raise LabError("there is nothing to draw: give at least one name and one group of values.")


def _row_of_bars(name: str, groups: Mapping[str, Sequence[float]]) -> tuple[str, float]:
    """The name in lines, and the height of its row in inches."""
    name = wrapped(name, 2.6, 9)
    return name, max(0.26, 0.2 * len(groups), tall(name, 9) + 0.06)


def tall_bars(names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> float:
    """The height of `draw_bars` in inches, without the title."""
    return sum(_row_of_bars(name, groups)[1] for name in names) + EDGE


def draw_bars(pen: Pen, title: str, note: str, names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> None:
    """Draw one row of bars for each name. The end of a bar has the shape of its group.

    groups: values by role, which gives colour and shape.

    Raises `LabError` for an unknown role, or unequal numbers of names and values.
    """
    _check_bars(names, groups)
    rows = [_row_of_bars(name, groups) for name in names]
    known = [v for values in groups.values() for v in values if math.isfinite(v)]
    low, high, foot = min([0.0, *known]), max([1e-9, *known]), -sum(row[1] for row in rows)
    numbers = max(wide(_three(value), TICK) for values in groups.values() for value in values) + 8 / 72
    below = numbers if low < 0 else 0.0
    pen.frame((low, high), (foot, 0.0), room=Room(max(wide(row[0], 9) for row in rows) + 6 / 72 + EDGE + below, numbers + EDGE, EDGE))
    pen.title(title, note)
    top = 0.0
    for i, (name, high_row) in enumerate(rows):
        pen.text(low, top - high_row / 2, name, INK, "right", 9, dx=-6 - 72 * below)
        height = 0.86 * high_row / len(groups)
        for j, (role, values) in enumerate(groups.items()):
            y, value, colour = top - 0.07 * high_row - height * (j + 0.5), values[i], PALETTE[role]
            pen.bar(0, value, y, height * 0.84, colour, f"{names[i]}, {role}", says=f"{value:.3f}")
            pen.dots([value], [y], colour, SHAPES[role], 7)
            side, away = ("right", -8) if value < 0 else ("left", 8)
            pen.text(value, y, _three(value), MUTED if role == "ghost" else colour, side, TICK, dx=away)
        top -= high_row
    pen.line([0, 0], [0.0, foot], MUTED, 0.8)


def _three(value: float) -> str:
    return minus(f"{value:.3f}")


def say_bars(title: str, note: str, names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> str:
    """The same in words."""
    _check_bars(names, groups)
    rows = [f"{name}: " + ", ".join(f"{role} {values[i]:.3f}" for role, values in groups.items()) for i, name in enumerate(names)]
    return f"{title}, {note}. {'; '.join(rows)}."


def _check_heat(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]]) -> None:
    if not rows or not columns:
        raise LabError("there is nothing to draw: give at least one row and one column.")
    if len(cells) != len(rows) or any(len(line) != len(columns) for line in cells):
        raise LabError(f"the cells do not fit {len(rows)} rows and {len(columns)} columns: give one for each row and column.")
    if any(cell is not None and not math.isfinite(cell.value) for line in cells for cell in line):
        raise LabError("a cell has no finite number: give None for a cell that was not measured.")


# ---- heat maps -------------------------------------------------------------------------------------------------------


class _HeatNames(NamedTuple):
    """Names of rows and columns in lines, and sizes in inches: of the names of rows, of a cell, of the names of columns, of each row."""

    rows: list[str]
    columns: list[str]
    room: float
    cell: float
    top: float
    tall: list[float]


CELL = 0.5  # inches, of the narrowest cell


def _heat_names(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]], left: str) -> _HeatNames:
    names = [wrapped(name, 2.3, 9.5) for name in rows]
    room = max([*(wide(name, 9.5) for name in names), wide(left, 8.5)]) + 5 / 72 + EDGE
    told = [_told_cell(cell) for line in cells for cell in line if cell is not None]
    least = max([CELL, *(0.1 + max(wide(minus(value), 10.5, bold=True), wide(f"\u00b1 {half}", TICK)) for value, half in told)])
    least = max(least, 0.66) if any(cell is None for line in cells for cell in line) else least
    cell = max(least, (WIDTH - room - EDGE) / len(columns))
    heads = [wrapped(name, cell - 0.06, 9) for name in columns]
    return _HeatNames(
        names, heads, room, cell, max(tall(text, 9) for text in (*heads, left)) + 0.12, [max(0.52, tall(n, 9.5) + 0.06) for n in names]
    )


def size_heat(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]], left: str = "") -> tuple[float, float]:
    """Width and height of `draw_heat` in inches, without the title."""
    _check_heat(rows, columns, cells)
    sizes = _heat_names(rows, columns, cells, left)
    return max(WIDTH, sizes.room + len(columns) * sizes.cell + EDGE), sizes.top + sum(sizes.tall) + EDGE


def draw_heat(
    pen: Pen,
    title: str,
    note: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell | None]],
    left: str = "",
    scale: tuple[float, float] | None = None,
) -> None:
    """Draw a table where a larger value is darker on light paper, and the best cell of each row is framed.

    cells: by row and column; None for one that was not measured.
    left: name of the columns.
    scale: the values of the palest and the strongest colour, for maps that are compared; the ends of the values if not given.

    Raises `LabError` if the cells do not fit rows and columns, or the ends of the scale are in the wrong order.
    """
    _check_heat(rows, columns, cells)
    values = [c.value for line in cells for c in line if c is not None]
    low, high = scale or ((min(values), max(values)) if values else (0.0, 1.0))
    if scale and not low < high:
        raise LabError(f"the scale of colours goes from {low:g} to {high:g}: the first end must be the smaller one.")
    sizes = _heat_names(rows, columns, cells, left)
    pen.frame((0, len(columns)), (-sum(sizes.tall), 0.0), room=Room(sizes.room, EDGE, EDGE, sizes.top))
    pen.title(title, note)
    pen.text(0, 0, left, MUTED, "right", 8.5, dx=-5, dy=36 * sizes.top)
    for j, head in enumerate(sizes.columns):
        pen.text(j + 0.5, 0, head, MUTED, "center", 9, dy=36 * sizes.top)
    top = 0.0
    for name, shown, high_row, line in zip(rows, sizes.rows, sizes.tall, cells, strict=True):
        y, best = top - high_row / 2, max((c.value for c in line if c is not None), default=math.nan)
        top -= high_row
        pen.text(0, y, shown, INK, "right", 9.5, dx=-5)
        for j, cell in enumerate(line):
            if cell is None:
                pen.hatch(j + 0.03, j + 0.97, y, high_row - 0.04, f"{name}, {columns[j]}")
                words = "not measured" if wide("not measured", TICK) < sizes.cell - 0.12 else "not\nmeasured"
                pen.text(j + 0.5, y, words, MUTED, "center", TICK, boxed=True)
                continue
            share = min(1.0, max(0.0, (cell.value - low) / ((high - low) or 1.0)))
            chosen = cell.value == best
            value, half = map(minus, _told_cell(cell))
            band = f"\u00b1 {half}" if half else ""
            colour, edge = shade(PALETTE["student"], share), INK if chosen else PAPER
            pen.bar(j + 0.03, j + 0.97, y, high_row - 0.04, colour, f"{name}, {columns[j]}", edge=edge, says=f"{value} {band}".strip())
            pen.text(j + 0.5, y, value, INK, "center", 10.5, bold=chosen, dy=6.5 if band else 0)
            if band:
                pen.text(j + 0.5, y, band, INK, "center", TICK, dy=-8)


def _told_cell(cell: Cell) -> tuple[str, str]:
    """A cell's number and half of its band, with as many decimals as it takes for neither the band nor a lone number to be 0."""
    banded = math.isfinite(cell.half)
    most = digits(0.0, cell.half if banded else cell.value)
    return fixed(cell.value, most), fixed(cell.half, most) if banded else ""


def _say_cell(cell: Cell | None) -> str:
    if cell is None:
        return "not measured"
    value, half = _told_cell(cell)
    return value + (f" plus or minus {half}" if half else "")


def alt_heat(title: str, note: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]]) -> str:
    """Two sentences: the rows and columns of the map, and where it is highest and lowest."""
    _check_heat(rows, columns, cells)
    known = [(cell, f"{name}, {column}") for name, line in zip(rows, cells) for column, cell in zip(columns, line) if cell is not None]
    head = (
        f"{title}, {note}: a map of {len(rows)} rows, {rows[0]} to {rows[-1]}, and {len(columns)} columns, {columns[0]} to {columns[-1]}."
    )
    if not known:
        return f"{head} Nothing was measured."
    (high, there), (low, here) = (end(known, key=lambda k: k[0].value) for end in (max, min))
    return f"{head} The highest is {_say_cell(high)} ({there}), the lowest {_say_cell(low)} ({here})."


def say_heat(title: str, note: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]]) -> str:
    """All cells in words."""
    lines = [
        f"{name}: " + ", ".join(f"{_say_cell(c)} at {column}" for c, column in zip(line, columns, strict=True))
        for name, line in zip(rows, cells, strict=True)
    ]
    return f"{title}, {note}. {'; '.join(lines)}."
