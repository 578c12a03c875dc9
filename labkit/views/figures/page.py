"""A page of a run's charts, one above the other, with its outcome over them and its recipe under them.

figure = draw_page(record, previous, "recovery")      # matplotlib's
"""

from __future__ import annotations

from typing import Any

from labkit.base.errors import LabError
from labkit.base.palette import MUTED
from labkit.records.record import Record
from labkit.views.figures.axes import EDGE, TICK
from labkit.views.figures.drafts import draw_acceptance
from labkit.views.figures.letters import tall, wrapped
from labkit.views.figures.pen import MatplotlibPen, Pen
from labkit.views.figures.run_charts import draw_curves, draw_recovery, draw_waterfall, say_outcome
from labkit.views.figures.scales import shown

PAGE = 8.5  # inches across: as wide as JupyterLab's output on a laptop, so that letters are not made smaller there
PARTS = (4.0, 3.1, 4.7)  # inches, of the charts


def draw_page(record: Record, previous: Record | None = None, unit: str = "recovery") -> Any:
    """Curves, waterfall and recovery. With unit="acceptance", acceptance in place of the waterfall.

    Raises `LabError` for an empty record.
    """
    over, recipe = _headline(record)
    top, foot = sum(tall(text, size) + 0.06 for text, size, _ in over) + 0.15, tall(recipe, TICK) + 0.15
    height = top + sum(PARTS) + foot
    figure = MatplotlibPen.canvas(PAGE, height)
    _draw_headline(MatplotlibPen(figure, head=0.0), over, recipe)
    pens, left = [], height - top
    for part in PARTS:
        left -= part
        pens.append(MatplotlibPen(figure, (0.0, left / height, 1.0, part / height)))
    draw_curves(pens[0], record, previous)
    if unit == "acceptance":
        draw_acceptance(pens[1], record, previous)
    else:
        draw_waterfall(pens[1], record)
    draw_recovery(pens[2], record)
    return figure


def _headline(record: Record) -> tuple[list[tuple[str, float, bool]], str]:
    """The title and the outcome, each with its size in points and whether it is bold, and the recipe and the machine."""
    if record.started is None:
        raise LabError("this record is empty, so there is nothing to draw: give one that begins with a 'started' event.")
    room = PAGE - 2 * EDGE
    title, outcome = wrapped(shown(record.started.title, 110), room, 15, bold=True), wrapped(say_outcome(record), room, 10.5)
    recipe = wrapped(shown(f"{record.experiment.recipe}  \u00b7  {record.started.machine}", 190), room, TICK)
    return [(title, 15, True), (outcome, 10.5, False)], recipe


def _draw_headline(pen: Pen, over: list[tuple[str, float, bool]], recipe: str) -> None:
    pen.frame((0, pen.width), (0, pen.height))
    top = pen.height - EDGE
    for text, size, bold in over:
        pen.text(EDGE, top - tall(text, size) / 2, text, size=size, bold=bold)
        top -= tall(text, size) + 0.06
    pen.text(EDGE, EDGE / 2 + tall(recipe, TICK) / 2, recipe, MUTED, size=TICK)
