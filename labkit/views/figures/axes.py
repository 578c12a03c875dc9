"""Parts of charts that measure their labels: numbers of an axis, names at the ends of lines, and named places.

Each has the room that it takes as a number of inches, for `Pen.frame`, and then its strokes. So no label leaves the figure, and none is
drawn over another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from labkit.base.palette import HAIR, INK, MUTED, Colour
from labkit.views.figures.letters import tall, wide, wrapped
from labkit.views.figures.pen import Pen, Room
from labkit.views.figures.scales import clear, spread

EDGE = 0.1  # inches between a label and the edge of the figure
TICK, NAME = 8.0, 9.0  # points: the least that can be read, and a name
LINE = tall("", TICK)
LONGEST = 2.0  # inches, of a name at the end of a line
GAP = 0.02  # inches, between two of them


class End(NamedTuple):
    """The name of a line, at its end."""

    at: float  # share of the height of the axis
    name: str
    colour: Colour
    bold: bool = False


def room_for(rungs: Sequence[str], numbers: Sequence[str], ends: Sequence[End], across: str = "", top: float = 0.1) -> Room:
    """The room around a chart with two axes.

    rungs, numbers: labels of the vertical and of the horizontal axis.
    ends: names at the ends of lines.
    across: name of the horizontal axis, under its numbers.
    top: inches above the data.
    """
    half = max((wide(text, TICK) / 2 for text in (numbers[0], numbers[-1])), default=0.0) if numbers else 0.0
    left = max([half, *(wide(text, TICK) + 7 / 72 for text in rungs)]) + EDGE
    right = max([half, *(min(wide(e.name, NAME, e.bold), LONGEST) + 8 / 72 for e in ends)]) + EDGE
    return Room(left, right, 0.06 + LINE + (0.04 + tall(across, TICK + 0.5) if across else 0.0) + EDGE / 2, top)


def rule_rungs(pen: Pen, ends: tuple[float, float], rungs: Sequence[float], names: Sequence[str]) -> None:
    """Draw the lines of a vertical axis and their numbers."""
    for rung, name in zip(rungs, names, strict=True):
        pen.line(list(ends), [rung, rung], HAIR, 0.8)
        pen.text(ends[0], rung, name, MUTED, "right", TICK, dx=-6)


def number_axis(
    pen: Pen, width: float, ends: tuple[float, float], places: Sequence[float], names: Sequence[str], foot: float, across: str = ""
) -> None:
    """Draw those numbers of a horizontal axis that have room, and its name.

    width: of the data, in inches.
    ends: of the axis, in data coordinates, as are `places`, those of the numbers.
    foot: the lower end of the data.
    """
    inches = [(place - ends[0]) / ((ends[1] - ends[0]) or 1.0) * width for place in places]
    for i in clear(inches, [wide(name, TICK) for name in names], 0.08):
        pen.text(places[i], foot, names[i], MUTED, "center", TICK, dy=-72 * (0.06 + LINE / 2))
    if across:
        down = 0.06 + LINE + 0.04 + tall(across, TICK + 0.5) / 2
        pen.text((ends[0] + ends[1]) / 2, foot, across, MUTED, "center", TICK + 0.5, dy=-72 * down)


def name_ends(pen: Pen, right: float, foot: float, height: float, ends: Sequence[End], below: float = 0.0) -> None:
    """Draw the names at the ends of lines, moved up or down until none touches another.

    right, foot: the lower right corner of the data.
    height: of the data, in inches.
    below: inches under the data that names may take.
    """
    ends = sorted(ends, key=lambda end: end.at)
    names = [wrapped(end.name, LONGEST, NAME, end.bold) for end in ends]
    sizes = [tall(name, NAME) + GAP for name in names]
    low, high = (sizes[0] / 2 - below, height - sizes[-1] / 2 + 0.1) if ends else (0.0, 0.0)
    for at, end, name in zip(spread([end.at * height for end in ends], sizes, low, high), ends, names, strict=True):
        pen.text(right, foot, name, end.colour, "left", NAME, bold=end.bold, dx=8, dy=72 * at)


def rows_of(places: Sequence[float], names: Sequence[str], size: float, width: float, left: bool = False) -> list[tuple[int, float]]:
    """For each label over a chart the row that is free for it, 0 the lowest, and how far to move it sideways, in inches.

    places: of the marks, in inches from the left end of the data, sorted.
    width: from the left end of the data to where labels must end.
    left: whether a label begins at its mark, or is centred on it.
    """
    taken: list[float] = []  # where each row is free
    found = []
    for place, name in zip(places, names, strict=True):
        long = wide(name, size)
        begin = min(place + 4 / 72 if left else place - long / 2, width - long)
        row = next((i for i, end in enumerate(taken) if begin >= end), len(taken))
        taken[row : row + 1] = [begin + long + 0.1]
        found.append((row, begin - place))
    return found


def mark_places(
    pen: Pen, places: Sequence[float], names: Sequence[str], rows: Sequence[tuple[int, float]], foot: float, top: float
) -> None:
    """Draw dotted lines at places of the horizontal axis, with their names above the data, in the rows of `rows_of`."""
    for place, name, (row, aside) in zip(places, names, rows, strict=True):
        pen.line([place, place], [foot, top], MUTED, 1.0, "dot")
        pen.text(place, top, name, INK, "left", TICK, dx=72 * aside, dy=72 * (0.06 + LINE * (row + 0.5)))
