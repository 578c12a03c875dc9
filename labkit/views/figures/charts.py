"""Charts of plain numbers: bars, intervals, lines and a heat map, for measurements beside a run.

draw_bars(pen, "T = 2", "probability", [Bar("Peru", 0.7, "teacher"), ...])
draw_heat(pen, "Recovery", "note", rows, columns, cells)      # cells[row][column] is a `Cell` or None: not measured
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from labkit.base.errors import LabError, unknown
from labkit.views.figures.pen import HAIR, INK, MUTED, PALETTE, PAPER, Pen, tint
from labkit.views.figures.scales import apart, even_ticks, log_domain, number, short, spread, ticks


class Interval(NamedTuple):
    """A named number with its band, if it has one."""

    name: str
    middle: float
    low: float = math.nan
    high: float = math.nan
    role: str = "student"  # its colour in `PALETTE`
    note: str = ""


class Cell(NamedTuple):
    """One cell of a heat map."""

    value: float
    half: float = math.nan  # half of the width of its band


class Line(NamedTuple):
    """One line of a chart."""

    points: Sequence[tuple[float, float]]
    role: str = "student"  # its colour in `PALETTE`
    dash: str = ""  # "", "dash" or "dot"
    bands: Sequence[tuple[float, float]] = ()  # the ends of each point's band


WIDTH = 7.4  # inches, of all these figures


def draw_intervals(pen: Pen, title: str, note: str, rows: Sequence[Interval], zero: float | None = None) -> None:
    """Draw one row for each number: a dot, its band as a line, and both as text.

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
    wide = right - left
    most, numbers = (34, 3.1) if any(row.note for row in rows) else (46, 2.0)  # letters on one line of a name; inches for the numbers
    names = [textwrap.fill(row.name, most) for row in rows]
    room = 0.25 + 0.082 * max(len(part) for name in names for part in name.split("\n"))
    inch = wide / (WIDTH - room - numbers)
    pen.frame((left - room * inch, right + numbers * inch), (-len(rows) + 0.2, 0.9))
    pen.title(title, note)
    if zero is not None:
        pen.line([zero, zero], [0.5, -len(rows) + 0.5], MUTED, 1.0, "dot")
    for i, row in enumerate(rows):
        if row.role not in PALETTE:
            raise unknown("role", row.role, PALETTE)
        y, colour = -float(i), PALETTE[row.role]
        pen.line([left, right], [y, y], HAIR, 0.8)
        if math.isfinite(row.low):
            pen.line([row.low, row.high], [y, y], colour, 3.0, alpha=0.45)
        pen.dots([row.middle], [y], colour, "o", 7, row.name)
        pen.text(left, y, names[i], INK, "right", 8 if "\n" in names[i] else 9, dx=-8)
        band = f"  {_rounded(row.low)} to {_rounded(row.high)}" if math.isfinite(row.low) else ""
        pen.text(right, y, f"{_rounded(row.middle)}{band}", colour, "left", 9, bold=True, dx=8)
        if row.note:
            pen.text(right, y, row.note, MUTED, "left", 8, dx=140)


def _rounded(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\u2212")  # never -0.00


def say_intervals(title: str, note: str, rows: Sequence[Interval]) -> str:
    """The same in words."""
    parts = [f"{r.name} {r.middle:.2f}" + (f" ({r.low:.2f} to {r.high:.2f})" if math.isfinite(r.low) else "") for r in rows]
    return f"{title}, {note}: {'; '.join(parts)}."


def _check_bars(names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> None:
    for role, values in groups.items():
        if role not in PALETTE:
            raise unknown("role", role, PALETTE)
        if len(values) != len(names):
            raise LabError(f"{role} has {len(values)} values for {len(names)} names: give one for each.")
    if not names or not groups:
        raise LabError("there is nothing to draw: give at least one name and one group of values.")


def draw_bars(pen: Pen, title: str, note: str, names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> None:
    """Draw one row of bars for each name.

    groups: values by role, which gives the colour.

    Raises `LabError` for an unknown role, or unequal numbers of names and values.
    """
    _check_bars(names, groups)
    longest = max([1e-9, *(v for values in groups.values() for v in values if math.isfinite(v))])
    pen.frame((-0.42 * longest, 1.22 * longest), (-len(names) + 0.3, 0.75))
    pen.title(title, note)
    height = 0.76 / len(groups)
    for i, name in enumerate(names):
        pen.text(0, -float(i), name, INK, "right", 9, dx=-6)
        for j, (role, values) in enumerate(groups.items()):
            y = -i + 0.38 - height * (j + 0.5)
            pen.bar(0, values[i], y, height * 0.9, PALETTE[role], f"{name}, {role}", says=f"{values[i]:.3f}")
            pen.text(values[i], y, f"{values[i]:.3f}", MUTED if role == "ghost" else PALETTE[role], "left", 8, dx=4)
    pen.line([0, 0], [0.5, -len(names) + 0.5], MUTED, 0.8)


def say_bars(title: str, note: str, names: Sequence[str], groups: Mapping[str, Sequence[float]]) -> str:
    """The same in words."""
    _check_bars(names, groups)
    rows = [f"{name}: " + ", ".join(f"{role} {values[i]:.3f}" for role, values in groups.items()) for i, name in enumerate(names)]
    return f"{title}, {note}. {'; '.join(rows)}."


def _seen(lines: Mapping[str, Line], log: bool) -> dict[str, list[tuple[float, float, tuple[float, ...]]]]:
    """The points that are drawn, by line: x, y, and the ends of the band, or () without a band."""
    kept, floor = {}, 0.0 if log else -math.inf
    for name, line in lines.items():
        if line.role not in PALETTE:
            raise unknown("role", line.role, PALETTE)
        bands: Sequence[tuple[float, ...]] = line.bands or [()] * len(line.points)
        if len(bands) != len(line.points):
            raise LabError(f"{name!r} has {len(bands)} bands for {len(line.points)} points: give one for each, or none.")
        drawn = [(x, y, band if all(floor < v < math.inf for v in band) else ()) for (x, y), band in zip(line.points, bands, strict=True)]
        kept[name] = [point for point in drawn if math.isfinite(point[0]) and floor < point[1] < math.inf]
    return {name: points for name, points in kept.items() if points}


def _with_band(y: float, band: tuple[float, ...]) -> str:
    return f"{y:.3g}" + (f" ({band[0]:.3g} to {band[1]:.3g})" if band else "")


def draw_lines(
    pen: Pen,
    title: str,
    note: str,
    lines: Mapping[str, Line],
    across: str,
    log: bool = False,
    log_across: bool = False,
    marks: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Draw named lines over one axis.

    across: name of the horizontal axis.
    log, log_across: whether the vertical, or the horizontal, axis is logarithmic.
    marks: named places on the horizontal axis.

    Raises `LabError` for lines without points, or values that an axis cannot show.
    """
    points = [p for kept in _seen(lines, log).values() for p in kept]
    if not points:
        raise LabError("there is nothing to draw: give at least one point.")
    if log_across and min(p[0] for p in points) <= 0:
        raise LabError(f"a logarithmic axis across cannot show {min(p[0] for p in points):g}: leave out values that are not above 0.")
    place = math.log if log_across else float
    numbers = sorted({p[0] for p in points})
    ys = [v for _, y, band in points for v in (y, *band)]
    left, right = place(numbers[0]), place(numbers[-1])
    wide = (right - left) or 1.0
    low, high = log_domain(ys) if log else (min(0.0, *ys), max(1e-9, *ys))
    rungs = ticks(low, high) if log else even_ticks(low, high)
    low, high = (low, high) if log else (rungs[0], rungs[-1])

    def level(share: float) -> float:
        return low * (high / low) ** share if log else low + share * (high - low)

    pen.frame((left - 0.12 * wide, right + 0.36 * wide), (level(-0.2), level(1.1)), log=log)
    pen.title(title, note)
    for tick in rungs:
        pen.line([left, right], [tick, tick], HAIR, 0.8)
        pen.text(left, tick, number(tick), MUTED, "right", 8, dx=-6)
    clear = apart(numbers, [(place(x) - left) / wide for x in numbers])
    each = len(clear) == len(numbers) <= 9 and max(len(number(x)) for x in numbers) <= 5  # ticks at the points, if there are few and short
    even = [tick for tick in even_ticks(numbers[0], numbers[-1]) if numbers[0] <= tick <= numbers[-1]]
    for x in clear if log_across else numbers if each else even:
        pen.text(place(x), level(-0.075), short(x) if log_across else number(x), MUTED, "center", 8)
    pen.text(left + wide / 2, level(-0.16), across, MUTED, "center", 8.5)
    for name, x in marks.items():
        pen.line([place(x), place(x)], [level(0), level(1.02)], MUTED, 1.0, "dot")
        pen.text(place(x), level(1.06), name, MUTED, "center", 8)
    ends = []
    for name, kept in _seen(lines, log).items():
        role, dash = lines[name].role, lines[name].dash
        for x, _, band in (p for p in kept if p[2]):
            pen.line([place(x), place(x)], list(band), PALETTE[role], 3.0, alpha=0.35)
        labels = [f"{across} {short(x)}: {_with_band(y, band)}" for x, y, band in kept]
        pen.line([place(p[0]) for p in kept], [p[1] for p in kept], PALETTE[role], 2.0, dash, name=name, says=labels)
        pen.dots([place(p[0]) for p in kept], [p[1] for p in kept], PALETTE[role], "o", 4)
        share = math.log(kept[-1][1] / low) / math.log(high / low) if log else (kept[-1][1] - low) / ((high - low) or 1.0)
        ends.append((share, name, role))
    for at, (_, name, role) in zip(spread([e[0] for e in sorted(ends)], 0.075, -0.02, 1.0), sorted(ends), strict=True):
        pen.text(right, level(at), name, PALETTE[role], "left", 9, dx=8)


def alt_lines(title: str, note: str, lines: Mapping[str, Line], across: str, log: bool = False) -> str:
    """Two sentences: what the axes are, and where each line begins, ends and is highest."""
    parts = []
    for name, points in _seen(lines, log).items():
        (left, first, _), (right, last, _), (top, most, _) = points[0], points[-1], max(points, key=lambda p: p[1])
        inside = f", at most {most:.3g} at {short(top)}" if most > max(first, last) else ""
        parts.append(f"{name} from {first:.3g} at {short(left)} to {last:.3g} at {short(right)}{inside}")
    return f"{title}, {note}, over {across}. {'; '.join(parts)}."


def say_lines(title: str, note: str, lines: Mapping[str, Line], across: str, log: bool = False) -> str:
    """All points that are drawn, with their bands, in words."""
    rows = [f"{name}: " + ", ".join(f"{_with_band(y, b)} at {x:g}" for x, y, b in kept) for name, kept in _seen(lines, log).items()]
    return f"{title}, {note}, over {across}. {'; '.join(rows)}."


def _check_heat(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]]) -> None:
    if not rows or not columns:
        raise LabError("there is nothing to draw: give at least one row and one column.")
    if len(cells) != len(rows) or any(len(line) != len(columns) for line in cells):
        raise LabError(f"the cells do not fit {len(rows)} rows and {len(columns)} columns: give one for each row and column.")
    if any(cell is not None and not math.isfinite(cell.value) for line in cells for cell in line):
        raise LabError("a cell has no finite number: give None for a cell that was not measured.")


def draw_heat(
    pen: Pen, title: str, note: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]], left: str = ""
) -> None:
    """Draw a table where a larger value is darker, and the best cell of each row is framed.

    cells: by row and column; None for one that was not measured.
    left: name of the columns.

    Raises `LabError` if the cells do not fit rows and columns.
    """
    _check_heat(rows, columns, cells)
    values = [c.value for line in cells for c in line if c is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pen.frame((-1.35, len(columns) + 0.1), (-len(rows) - 0.1, 1.0))
    pen.title(title, note)
    pen.text(-0.05, 0.35, left, MUTED, "right", 8.5)
    for j, name in enumerate(columns):
        pen.text(j + 0.5, 0.35, name, MUTED, "center", 9)
    for i, (name, line) in enumerate(zip(rows, cells, strict=True)):
        y, best = -i - 0.5, max((c.value for c in line if c is not None), default=math.nan)
        pen.text(-0.05, y, name, INK, "right", 9.5)
        for j, cell in enumerate(line):
            if cell is None:
                pen.hatch(j + 0.03, j + 0.97, y, 0.92, f"{name}, {columns[j]}")
                pen.text(j + 0.5, y, "not measured", MUTED, "center", 7.5, boxed=True)
                continue
            share = (cell.value - low) / ((high - low) or 1.0)
            chosen = cell.value == best
            edge = INK if chosen else PAPER
            value, band = _rounded(cell.value), f"\u00b1 {cell.half:.2f}" if math.isfinite(cell.half) else ""
            colour = tint(PALETTE["student"], 0.06 + 0.5 * share)
            pen.bar(j + 0.03, j + 0.97, y, 0.92, colour, f"{name}, {columns[j]}", edge=edge, says=f"{value} {band}".strip())
            pen.text(j + 0.5, y, value, INK, "center", 10.5, bold=chosen, dy=5)
            if band:
                pen.text(j + 0.5, y, band, INK, "center", 8, dy=-8)


def _say_cell(cell: Cell | None) -> str:
    if cell is None:
        return "not measured"
    return f"{cell.value:.2f}" + (f" plus or minus {cell.half:.2f}" if math.isfinite(cell.half) else "")


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
