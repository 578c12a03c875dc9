"""Names for sliders, and a page that moves to its board when a run begins: what ipywidgets leaves out, added in the page."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class Access(anywidget.AnyWidget):
    """Stands unseen among the widgets of a lesson, and looks after those around it (see access.js)."""

    _esm = traitlets.Unicode().tag(sync=True)

    def __init__(self) -> None:
        super().__init__(_esm=(Path(__file__).parent / "access.js").read_text(encoding="utf-8"), layout={"display": "none"})
