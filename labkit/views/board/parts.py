"""The widgets of a lesson as a whole: their style, which board it gets, and their end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ipywidgets as widgets

from labkit.base.errors import unknown

STYLE = """<style>
.labkit-lab { container-type: inline-size; }
.labkit-body { display: grid !important; grid-template-columns: minmax(0, 1fr) minmax(210px, 250px); gap: 16px; align-items: start; }
@container (max-width: 700px) { .labkit-body { grid-template-columns: minmax(0, 1fr); } }
.labkit-buttons .widget-html-content { line-height: 1.35; }
.labkit-controls .widget-inline-hbox { flex-wrap: wrap; height: auto; }
.labkit-controls .widget-label { flex: 1 0 100%; max-width: none; line-height: 20px; height: 20px; text-align: left; }
.labkit-controls .widget-inline-hbox :is(select, input) { height: 28px; }
.labkit-controls .widget-readout { min-width: 48px; }
.labkit-prediction .widget-label { text-align: left; }
.labkit-fold { text-align: left; background: none; padding: 0 4px; }
.labkit-fold.mod-active { box-shadow: none; background: none; color: inherit; }
.labkit-lab :is(button, select, input, .noUi-handle):focus-visible {
  outline: 2px solid var(--jp-brand-color1, #0a66ad); outline-offset: 2px; }
.labkit-failures .widget-toggle-button { flex: none; margin: 1px 0; padding: 3px 8px; font-size: 12px; line-height: 1.25;
  white-space: normal; text-align: left; }
.labkit-failures h4, .labkit-controls h4 { margin: 6px 0 2px; font-size: 12px; }
.labkit-breakage .widget-html-content { line-height: 1.35; white-space: normal; }
.labkit-breakage ol { margin: 0; padding-left: 1.4em; }
.labkit-prediction .widget-html-content { line-height: 1.35; white-space: normal; }
</style>"""


def board_of(kind: str, title: str, unit: str) -> Any:
    """The live board, or the image board if the live one cannot load or `kind` is "image".

    Raises `LabError` for another kind, and `ImportError` if only the live board would do and anywidget is missing.
    """
    if kind not in ("auto", "live", "image"):
        raise unknown("board", kind, ("auto", "live", "image"))
    if kind != "image":
        try:
            from labkit.views.board.widget import Board

            return Board(title, unit)
        except ImportError:
            if kind == "live":
                raise
    from labkit.views.board.image import ImageBoard

    return ImageBoard(title, unit)


def access() -> widgets.Widget:
    """What makes the widgets beside the live board reachable."""
    from labkit.views.board.access import Access

    return Access()


def close_all(widget: widgets.Widget) -> None:
    """Close a widget and those in it. An open one is never freed, since ipywidgets holds it for the page."""
    for part in [*_parts(widget)]:
        part.close()


def _parts(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    yield widget
    for name in widget.keys:
        value = getattr(widget, name)
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, widgets.Widget):
                yield from _parts(part)
