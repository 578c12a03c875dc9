"""A chart of named lines over one axis.

draw_lines(pen, "Bits held", "bits a parameter", {"7k": Line([(0.3, 0.3), (3.0, 1.9)])}, "bits asked", log_across=True)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from labkit.base.errors import LabError, unknown
from labkit.base.palette import MUTED, PALETTE, SHAPES
from labkit.views.figures.axes import (
    EDGE,
    GAP,
    LINE,
    LONGEST,
    NAME,
    TICK,
    End,
    mark_places,
    name_ends,
    number_axis,
    room_for,
    rows_of,
    rule_rungs,
)
from labkit.views.figures.charts import Line
from labkit.views.figures.letters import tall, wrapped
from labkit.views.figures.pen import Pen
from labkit.views.figures.scales import even_ticks, log_domain, minus, number, short, ticks

TALL = 2.35  # inches, of the data

Points = list[tuple[float, float, tuple[float, ...]]]


def _seen(lines: Mapping[str, Line], log: bool) -> dict[str, Points]:
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
    return short(y) + (f" ({short(band[0])} to {short(band[1])})" if band else "")


def tall_lines(lines: Mapping[str, Line], across: str, marks: Mapping[str, float]) -> float:
    """The height of `draw_lines` in inches, without the title."""
    names = sum(tall(wrapped(name, LONGEST, NAME), NAME) + GAP for name in lines)
    return max(TALL, names) + 0.1 + LINE * min(len(marks), 3) + 0.1 + 0.06 + LINE + 0.04 + tall(wrapped(across, 4.0, 8.5), 8.5) + EDGE / 2


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
    seen = _seen(lines, log)
    points = [p for kept in seen.values() for p in kept]
    if not points:
        raise LabError("there is nothing to draw: give at least one point.")
    if log_across and min(p[0] for p in points) <= 0:
        raise LabError(f"a logarithmic axis across cannot show {min(p[0] for p in points):g}: leave out values that are not above 0.")
    place = math.log if log_across else float
    xs = sorted({p[0] for p in points})
    ys = [v for _, y, band in points for v in (y, *band)]
    left, right = place(xs[0]), place(xs[-1])
    low, high = log_domain(ys) if log else (min(0.0, *ys), max(1e-9, *ys))
    rungs = ticks(low, high) if log else even_ticks(low, high)
    low, high = (low, high) if log else (rungs[0], rungs[-1])

    def share(y: float) -> float:
        return math.log(y / low) / math.log(high / low) if log else (y - low) / ((high - low) or 1.0)

    names, numbers = [minus(number(rung)) for rung in rungs], _numbers(xs, log_across)
    words = [minus(short(x) if log_across else number(x)) for x in numbers]
    ends = [
        End(share(kept[-1][1]), name, MUTED if lines[name].role == "ghost" else PALETTE[lines[name].role]) for name, kept in seen.items()
    ]
    across = wrapped(across, 4.0, TICK + 0.5)
    room = room_for(names, words, ends, across)
    width = pen.width - room.left - room.right
    marked = sorted(marks.items(), key=lambda mark: mark[1])
    inches = [(place(x) - left) / ((right - left) or 1.0) * width for _, x in marked]
    rows = rows_of(inches, [name for name, _ in marked], TICK, width + room.right - EDGE)
    room = room._replace(top=0.1 + (0.06 + LINE * (max(row for row, _ in rows) + 1) if rows else 0.0))
    pen.frame((left, right), (low, high), log=log, room=room)
    pen.title(title, note)
    rule_rungs(pen, (left, right), rungs, names)
    number_axis(pen, width, (left, right), [place(x) for x in numbers], words, low, across)
    mark_places(pen, [place(x) for _, x in marked], [name for name, _ in marked], rows, low, high)
    for name, kept in seen.items():
        role, dash = lines[name].role, lines[name].dash
        for x, _, band in (p for p in kept if p[2]):
            pen.line([place(x), place(x)], list(band), PALETTE[role], 3.0, dash, alpha=0.35)
        labels = [f"{across} {short(x)}: {_with_band(y, band)}".replace("\n", " ") for x, y, band in kept]
        pen.line([place(p[0]) for p in kept], [p[1] for p in kept], PALETTE[role], 2.0, dash, name=name, says=labels)
        pen.dots([place(p[0]) for p in kept], [p[1] for p in kept], PALETTE[role], SHAPES[role], 4)
    name_ends(pen, right, low, pen.height - room.top - room.bottom, ends, below=room.bottom - EDGE)


def _numbers(xs: Sequence[float], log_across: bool) -> list[float]:
    """The numbers of an axis across: the points' own, if there are few and short ones or the axis is logarithmic; else even ones."""
    if log_across or (len(xs) <= 9 and max(len(number(x)) for x in xs) <= 5):
        return list(xs)
    return [tick for tick in even_ticks(xs[0], xs[-1]) if xs[0] <= tick <= xs[-1]]


def alt_lines(title: str, note: str, lines: Mapping[str, Line], across: str, log: bool = False) -> str:
    """Two sentences: what the axes are, and where each line begins, ends and is highest."""
    parts = []
    for name, points in _seen(lines, log).items():
        (left, first, _), (right, last, _), (top, most, _) = points[0], points[-1], max(points, key=lambda p: p[1])
        inside = f", at most {short(most)} at {short(top)}" if most > max(first, last) else ""
        parts.append(f"{name} from {short(first)} at {short(left)} to {short(last)} at {short(right)}{inside}")
    return f"{title}, {note}, over {across}. {'; '.join(parts)}."


def say_lines(title: str, note: str, lines: Mapping[str, Line], across: str, log: bool = False) -> str:
    """All points that are drawn, with their bands, in words."""
    rows = [f"{name}: " + ", ".join(f"{_with_band(y, b)} at {x:g}" for x, y, b in kept) for name, kept in _seen(lines, log).items()]
    return f"{title}, {note}, over {across}. {'; '.join(rows)}."
