"""Where the labels of a finished figure are, and which of them touch, are cut off, or are too small: for both libraries.

A box is (left, bottom, right, top) in pixels of a figure of 100 pixels an inch, which is the size at which notebooks show it.
"""

from __future__ import annotations

import html
import itertools
import math
import re
from typing import NamedTuple

from labkit.views.figures import Drawing
from labkit.views.figures.letters import wide

SMALLEST = 11.0  # pixels
EDGE = 1.0  # pixels by which two boxes may reach into one another: letters never fill their box


class Label(NamedTuple):
    """A text and its box."""

    text: str
    box: tuple[float, float, float, float]
    size: float  # pixels of its letters
    boxed: bool = False  # whether it has paper under it, so marks may be under it too


def problems(drawing: Drawing) -> list[str]:
    """What is wrong with the labels of a figure, in both libraries if it has both."""
    found = [f"matplotlib: {said}" for said in _wrong(*_printed(drawing.paper or drawing.figure))]
    return found + [f"plotly: {said}" for said in (_wrong(*_live(drawing.figure)) if drawing.paper else [])]


def _wrong(labels: list[Label], marks: list[tuple[float, ...]], width: float, height: float) -> list[str]:
    found = []
    for label in labels:
        left, low, right, high = label.box
        if left < -0.5 or low < -0.5 or right > width + 0.5 or high > height + 0.5:
            found.append(f"{label.text!r} is cut off: {[round(v) for v in label.box]} of {width:.0f} x {height:.0f}")
        if label.size < SMALLEST:
            found.append(f"{label.text!r} has letters of {label.size:.1f} pixels")
        if not label.boxed and any(_touch(label.box, mark) for mark in marks):
            found.append(f"{label.text!r} is over a dot")
    for one, other in itertools.combinations(labels, 2):
        if _touch(one.box, other.box):
            found.append(f"{one.text!r} and {other.text!r} overlap")
    return found


def _touch(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(min(one[i + 2], other[i + 2]) - max(one[i], other[i]) > EDGE for i in (0, 1))


def _printed(figure) -> tuple[list[Label], list[tuple[float, ...]], float, float]:
    """Of matplotlib's figure, as matplotlib measures it."""
    figure.canvas.draw()
    scale = 100 / figure.dpi
    labels, marks = [], []
    for axes in figure.axes:
        for text in axes.texts:
            if text.get_text():
                box = text.get_window_extent()
                boxed = text.get_bbox_patch() is not None
                edges = tuple(scale * v for v in (box.x0, box.y0, box.x1, box.y1))
                labels.append(Label(text.get_text(), edges, text.get_fontsize() * 100 / 72, boxed))
        for line in axes.lines:
            reach = scale * line.get_markersize() * figure.dpi / 72 / 2
            for x, y in line.get_transform().transform(line.get_xydata()) * scale if line.get_marker() not in ("", "None") else []:
                marks.append((x - reach, y - reach, x + reach, y + reach))
    width, height = figure.get_size_inches()
    return labels, marks, 100 * width, 100 * height


def _live(figure) -> tuple[list[Label], list[tuple[float, ...]], float, float]:
    """Of plotly's figure, from the places and shifts that it was given and the widths of its texts."""
    layout = figure.layout
    head = layout.margin.t
    width, height = layout.width, layout.height - head

    def place(axis, value: float, size: float) -> float:
        low, high = axis.range
        return (value - low) / (high - low) * size

    def share(anchor: str) -> float:
        return {"left": 0.0, "bottom": 0.0, "center": 0.5, "middle": 0.5, "right": 1.0, "top": 1.0}[anchor]

    labels, marks = [], []
    for note in layout.annotations:
        text = html.unescape(re.sub(r"</?b>", "", note.text).replace("<br>", "\n"))
        points = note.font.size * 72 / 100
        long, high = 100 * wide(text, points, note.text.startswith("<b>")), (1.17 + 1.3 * text.count("\n")) * note.font.size
        paper = note.xref == "paper"
        x = note.x * width if paper else place(layout.xaxis, note.x, width)
        y = note.y * height if paper else place(layout.yaxis, note.y, height)
        left = x + (note.xshift or 0) - share(note.xanchor) * long
        low = y + (note.yshift or 0) - share(note.yanchor) * high
        if text:
            labels.append(Label(text, (left, low, left + long, low + high), note.font.size, note.bgcolor is not None))
    for trace in figure.data:
        if trace.type == "scatter" and trace.mode == "markers":
            reach = trace.marker.size / 2
            for x, y in zip(trace.x, trace.y, strict=True):
                up = math.log10(y) if layout.yaxis.type == "log" else y
                x, y = place(layout.xaxis, x, width), place(layout.yaxis, up, height)
                marks.append((x - reach, y - reach, x + reach, y + reach))
    return labels, marks, width, height + head
