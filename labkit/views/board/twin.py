"""The static twin of a board: a picture and a table of the run on it, for pages without a kernel (saved HTML, nbviewer, GitHub, PDF).

It is an output of its own beside the board, hidden by a style rule where the live one is on the page. A saved notebook that is opened again
shows it too, since no kernel knows the old board: "Run the cell above" instead of an error.
"""

from __future__ import annotations

import base64
import functools
import html
import re
import threading
import uuid
from typing import Any

from labkit.base.errors import LabError
from labkit.base.html import Html, table, tag
from labkit.records import events as ev
from labkit.records.record import Record
from labkit.views.figures import describe, snapshot
from labkit.views.figures.pen import MatplotlibPen, in_tags
from labkit.views.figures.run_charts import measure, recovery_rows, row_name, say_outcome

MOST = 45_000  # bytes of a picture, which is a third longer in a notebook
STEPS = 400  # of a curve; its neighbours are drawn as means anyway
_SMALLER = (  # in tags
    (re.compile(r"(\d\.\d)\d+"), r"\1"),  # a tenth of a point
    (re.compile(r"'?DejaVu Sans'?"), "Verdana, sans-serif"),  # letters of the same width, on more machines
)
_STYLE = """:root:has(.{mark}) .labkit-twin.{mark}-twin { display: none; }
.jp-OutputArea:has(.{mark}-twin) .jp-OutputArea-output.jupyter-widgets:not(:has(*)) { display: none; }
@media screen { .{mark}-twin { overflow: hidden; animation: labkit-twin 1ms 3s backwards; } }
@keyframes labkit-twin { from { max-height: 0; padding: 0; } }"""  # 3 s: the live board has come by then, or never will


class Twin:
    """The twin of one board. `display` shows it in a cell, `draw` adds the picture, `take` and `draw` show another run.

    title, unit: as for `Board`.

    `mark` is the class that the live board must have.
    """

    def __init__(self, title: str, unit: str = "recovery") -> None:
        self.title, self.unit = title, unit
        self.mark = f"labkit-{uuid.uuid4().hex[:8]}"
        self._record: Record | None = None
        self._handle: Any = None
        self._lock = threading.Lock()

    def display(self, record: Record | None) -> None:
        """Show the words and the table of a record; its picture takes longer. Shows nothing without a record or outside a notebook."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        self._record = record
        if record is None or get_ipython() is None:
            return
        self._handle = display(self._bundle(record, ""), raw=True, display_id=True)

    def draw(self) -> None:
        """Show the run with its picture, or nothing if there is no run. Any thread may call it; of two, the later run stays."""
        record = self._record
        if self._handle is None:
            return
        try:
            picture = svg(record, self.unit) if record else ""
        except LabError:  # without matplotlib: words and table alone
            picture = ""
        with self._lock:
            if record is self._record:  # else another thread shows a later one
                self._handle.update(self._bundle(record, picture) if record else dict.fromkeys(("text/html", "text/plain"), ""), raw=True)

    def take(self, record: Record | None) -> None:
        """Take another run for the next `draw`; nothing is shown of one without an event, as on the board."""
        self._record = record if record and record.started else None

    def _bundle(self, record: Record, picture: str) -> dict[str, str]:
        style = tag("style", Html(_STYLE.replace("{mark}", self.mark)))
        return bundle(record, self.title, self.unit, picture, style, f"{self.mark}-twin")


def bundle(record: Record, title: str, unit: str, picture: str, style: Html | None = None, mark: str = "") -> dict[str, str]:
    """Data of the output, by MIME type.

    picture: SVG, or "" for none.
    style, mark: the rules of a page with the live board, and the class they are about.
    """
    words = describe(record, unit=unit)
    told = tag(
        "p", tag("strong", title), ": a picture of the board. For the live one, run this cell (Shift+Enter) in a notebook with a kernel."
    )
    data = base64.b64encode(picture.encode()).decode()
    alt = html.escape(f"The board of a run. {say_outcome(record)} The table below has its scores.")
    image = Html(f'<img width="1100" style="max-width:100%" alt="{alt}" src="data:image/svg+xml;base64,{data}">')
    inside = [
        style or Html(),
        told,
        image if picture else Html(),
        scores(record),
        tag("details", tag("summary", "In words"), tag("p", words)),
    ]
    return {"text/html": tag("div", *inside, class_=f"labkit-twin {mark}".strip()), "text/plain": words}


def scores(record: Record) -> Html:
    """The table of scores and recovery by skill."""
    rows, note = recovery_rows(record)
    cells = [[row_name(record, name), low, student, high, share or None] for name, low, student, high, share in rows]
    caption = f"{measure(record).capitalize()} and each skill, at {record.experiment.recipe}; {note}"
    return table(["skill", "baseline", "student", "teacher", "recovery"], cells, caption, digits=2)


def _thinned(record: Record) -> Record:
    """The record with at most about `STEPS` steps, the last one among them."""
    every = -(-len(record.steps) // STEPS)
    kept = {id(step) for step in [*record.steps[::every], record.steps[-1]]} if every > 1 else None
    return record if kept is None else Record(e for e in record.events if not isinstance(e, ev.Step) or id(e) in kept)


def svg(record: Record, unit: str = "recovery") -> str:
    """The picture of a board as SVG, its text as text. Raises `LabError` without matplotlib, or for a picture that is too large."""
    text = MatplotlibPen.svg(snapshot(_thinned(record), unit=unit).figure, paths=False)
    for pattern, by in _SMALLER:
        text = in_tags(functools.partial(pattern.sub, by), text)
    if len(text.encode()) > MOST:
        raise LabError(f"the picture of this run has {len(text.encode()):,} bytes, and {MOST:,} are allowed: draw fewer points.")
    return text
