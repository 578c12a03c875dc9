"""The base of all lenses: controls above a picture, and its content in words."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from labkit.base.errors import told
from labkit.base.html import Html, note
from labkit.views import figures

TEMPERATURES = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
ASKED = (
    "Name a neighbour of France.",
    "Name a city in Japan.",
    "Name a country in Africa.",
    "What is the capital of Chad?",
    "Which continent is Turkey in?",
    "Which has more people, Spain or Kenya?",
    "On which continent is Barcelona?",
)
STYLE = {"description_width": "110px"}
WIDE = {"width": "min(640px, 100%)"}


class Lens(widgets.VBox):
    """Controls above a picture; `words` says what it shows, also for people who do not see it."""

    def __init__(self, *controls: widgets.ValueWidget, picture: widgets.Widget | None = None) -> None:
        self.picture, self.words = picture or widgets.HTML(), widgets.HTML()
        for control in controls:
            control.observe(lambda _: self._redraw(), "value")
        super().__init__([*controls, self.picture, self.words])
        self._redraw()

    def _redraw(self) -> None:
        """Draw again. An error is shown in the box, because nobody sees errors of callbacks."""
        try:
            drawing, sentence = self.look()
            self._show(drawing)
            self.words.value = note(Html(sentence))
        except Exception as error:
            self.words.value = note(told(error), "alert")

    def _show(self, drawing: Any) -> None:
        self.picture.value = drawing._repr_html_()

    def look(self) -> tuple[figures.Drawing | figures.Cuts, str]:
        """The picture, and a comment on it as HTML."""
        raise NotImplementedError


def temperature_slider() -> widgets.SelectionSlider:
    """A slider over `TEMPERATURES`."""
    return widgets.SelectionSlider(
        options=[(f"{t:g}", t) for t in TEMPERATURES],
        value=1.0,
        description="Temperature",
        tooltip="Both models' logits are divided by it. Arrow keys move it.",
        style=STYLE,
        layout=WIDE,
    )
