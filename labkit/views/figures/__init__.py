"""A record as finished figures, in matplotlib or plotly, each with the same in words.

    figures.waterfall(rec)                            # gold labels -> hard answers -> soft labels -> teacher
    figures.curves(rec, previous=old).save("kl.png")  # a Drawing: shows itself with its alt text, and saves
    figures.recovery(rec, backend="plotly")           # tells its numbers under the pointer; .figure is plotly's own
    figures.snapshot(rec)                             # all on one page; figures.describe(rec) says them in words

Each chart is written once, in `charts.py` or `run_charts.py`, for a pen of `pen.py` that draws with either library. Nothing is read from
matplotlib's global state, so a notebook's style cannot change a figure and any thread may draw one.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from labkit.base.errors import LabError, need, unknown
from labkit.base.html import Html, tag
from labkit.records.record import BASELINES, Record
from labkit.views.figures.charts import (
    Cell,
    Interval,
    Line,
    alt_heat,
    alt_lines,
    draw_bars,
    draw_heat,
    draw_intervals,
    draw_lines,
    say_bars,
    say_heat,
    say_intervals,
    say_lines,
)
from labkit.views.figures.drafts import GAMMAS, alt_speedups, draw_acceptance, draw_speedups, say_acceptance, say_speedups
from labkit.views.figures.pen import PALETTE, MatplotlibPen, Pen, PlotlyPen
from labkit.views.figures.run_charts import (
    LABEL_BUDGET,
    draw_curves,
    draw_headline,
    draw_recovery,
    draw_waterfall,
    say_curves,
    say_outcome,
    say_recovery,
    say_waterfall,
)
from labkit.views.figures.token_table import Cuts, cuts

BACKENDS = ("matplotlib", "plotly")
PLOTLY = "application/vnd.plotly.v1+json"
CONFIG = {"displayModeBar": False, "plotlyServerURL": ""}  # plotly's default names an address of its own


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A finished figure (matplotlib's, or plotly's to explore) and the same in words, for whoever does not see it. `alt`: one or two
    sentences; `words`: every number, if that is more. `paper` is matplotlib's figure of the same strokes: what a PNG is made of."""

    figure: Any
    alt: str
    paper: Any = None
    words: str = ""

    def __repr__(self) -> str:
        return f"Drawing({self.alt!r})"

    def png(self, dpi: float = 144) -> bytes:
        return MatplotlibPen.png(self.paper or self.figure, dpi)

    def save(self, path: str | Path) -> Path:
        """Write a PNG, or for plotly a page that needs no network if the name ends in .html."""
        path = Path(path)
        if path.suffix not in ((".png", ".html") if self.paper else (".png",)):
            raise LabError(f"cannot save a figure as {path.name!r}: use a name that ends in .png{' or .html' * bool(self.paper)}.")
        page = '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
        path.write_bytes(f"{page}{script()}{self.live_html()}</html>".encode() if path.suffix == ".html" else self.png())
        return path

    def live_html(self) -> Html:
        """To explore, in a page that holds `script()` once."""
        from plotly.io import to_html

        page = Html(to_html(self.figure, full_html=False, include_plotlyjs=False, config=CONFIG))
        return tag("div", page, role="img", aria_label=self.alt)

    def _repr_html_(self) -> str:
        width, data = round((self.paper or self.figure).get_figwidth() * 100), base64.b64encode(self.png()).decode()
        look = f'width="{width}" style="max-width:100%"'
        return f'<img alt="{html.escape(self.alt)}" {look} src="data:image/png;base64,{data}">{self._in_words()}'

    def _in_words(self) -> str:
        """To open under a picture. What explores has no alt text where it is drawn, so the summary says it there."""
        name = f"In words: {self.alt}" if self.paper else ""
        return tag("details", tag("summary", "In words", aria_label=name), self.words) if self.words else ""

    def bundles(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Data and metadata of each output in a notebook. To explore: plotly's JSON with the PNG that stands for it elsewhere (JupyterLab
        shows that too, until the pointer is over it), and then the words: no front end names plotly's picture to a screen reader."""
        if not self.paper:
            return [({"text/html": self._repr_html_(), "text/plain": self.alt}, {})]
        png = base64.b64encode(self.png(100)).decode()  # as large as plotly's, so that nothing jumps
        shown = {PLOTLY: {**json.loads(self.figure.to_json()), "config": CONFIG}, "image/png": png, "text/plain": self.alt}
        return [(shown, {"image/png": {"alt": self.alt}}), ({"text/html": self._in_words(), "text/plain": self.words}, {})]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for data, metadata in self.bundles():
            display(data, metadata=metadata, raw=True)


def script() -> str:
    """plotly's own code, for the head of a page with figures to explore: 4.8 MB, and nothing is loaded."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


# ---- the figures -----------------------------------------------------------------------------------------------------


def waterfall(record: Record, backend: str = "matplotlib") -> Drawing:
    """Mean core skill of the four arms, in their fixed order, each with its step from the arm before it."""
    return _finish(backend, 7.4, 3.3, lambda pen: draw_waterfall(pen, record), say_waterfall(record))


def curves(record: Record, *, previous: Record | None = None, backend: str = "matplotlib") -> Drawing:
    """KL to the teacher against step: training, held-out exams, baselines, the `previous` run and the knobs turned."""
    return _finish(backend, 7.4, 4.2, lambda pen: draw_curves(pen, record, previous), say_curves(record, previous))


def recovery(record: Record, baseline: str = LABEL_BUDGET, *, backend: str = "matplotlib") -> Drawing:
    """Baseline, student and teacher on every skill, and how much of the way between them the student went."""
    if baseline not in BASELINES:
        raise unknown("baseline", baseline, BASELINES)
    return _finish(backend, 7.4, 4.6, lambda pen: draw_recovery(pen, record, baseline), say_recovery(record, baseline))


def acceptance(record: Record, *, previous: Record | None = None, backend: str = "matplotlib") -> Drawing:
    """Acceptance by speculative decoding against step, as every exam has it: of sampled guesses, and of greedy ones."""
    return _finish(backend, 7.4, 3.3, lambda pen: draw_acceptance(pen, record, previous), say_acceptance(record))


def speedups(alpha: float, gamma: int = 0, cost: float = 0.0, verify: float = 0.0, backend: str = "matplotlib") -> Drawing:
    """What a draft that is accepted with chance `alpha` gains, for 1 to 12 tokens a round and what each costs to draft, with the best
    of every row framed; `gamma` and `cost` mark a place in it (0: none)."""
    asked = (alpha, gamma, cost, verify)
    return _finish(backend, 7.4, 4.4, lambda pen: draw_speedups(pen, *asked), alt_speedups(*asked), say_speedups(*asked))


def snapshot(record: Record, *, previous: Record | None = None, unit: str = "recovery") -> Drawing:
    """The three on one page (matplotlib): what a lesson ends with. With unit="acceptance", that in place of the waterfall."""
    figure = _need_matplotlib(MatplotlibPen.canvas, 13.0, 7.6)
    draw_headline(MatplotlibPen(figure, head=0.0), record)
    draw_curves(MatplotlibPen(figure, (0.0, 0.405, 0.52, 0.50)), record, previous)
    low = MatplotlibPen(figure, (0.0, 0.04, 0.52, 0.35))
    if unit == "acceptance":
        draw_acceptance(low, record, previous)
    else:
        draw_waterfall(low, record)
    draw_recovery(MatplotlibPen(figure, (0.545, 0.04, 0.455, 0.865)), record)
    return Drawing(figure, describe(record, previous, unit))


def bars(title: str, note: str, names: Sequence[str], groups: Mapping[str, Sequence[float]], backend: str = "matplotlib") -> Drawing:
    """A row a name, a bar for each of `groups`, which are values by whose they are: "teacher", "student", "baseline", "truth"."""
    height = 1.0 + len(names) * max(0.26, 0.2 * len(groups))
    return _finish(backend, 7.4, height, lambda pen: draw_bars(pen, title, note, names, groups), say_bars(title, note, names, groups))


def intervals(title: str, note: str, rows: Sequence[Interval], zero: float | None = None, backend: str = "matplotlib") -> Drawing:
    """A row a number: a dot, its band, and both in figures; `zero` is a line to compare with."""
    height = 0.9 + 0.3 * len(rows)
    return _finish(backend, 7.4, height, lambda pen: draw_intervals(pen, title, note, rows, zero), say_intervals(title, note, rows))


def lines(
    title: str,
    note: str,
    series: Mapping[str, Line],
    across: str,
    log: bool = False,
    *,
    log_across: bool = False,
    marks: Mapping[str, float] = MappingProxyType({}),
    backend: str = "matplotlib",
) -> Drawing:
    """Named lines over one axis; `log`, `log_across`: a logarithmic axis upwards, or across; `marks`: named places across."""
    said = alt_lines(title, note, series, across, log), say_lines(title, note, series, across, log)
    return _finish(backend, 7.4, 3.8, lambda pen: draw_lines(pen, title, note, series, across, log, log_across, marks), *said)


def heat(
    title: str,
    note: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell | None]],
    corner: str = "",
    backend: str = "matplotlib",
) -> Drawing:
    """A table in which more is darker, with bands; the best cell of every row is framed."""
    said = alt_heat(title, note, rows, columns, cells), say_heat(title, note, rows, columns, cells)
    height = 1.1 + 0.52 * len(rows)
    return _finish(backend, 7.4, height, lambda pen: draw_heat(pen, title, note, rows, columns, cells, corner), *said)


def describe(record: Record, previous: Record | None = None, unit: str = "recovery") -> str:
    """The snapshot in sentences."""
    low = say_acceptance(record) if unit == "acceptance" else say_waterfall(record)
    return " ".join((say_outcome(record), say_curves(record, previous), low, say_recovery(record)))


def _finish(backend: str, width: float, height: float, draw: Callable[[Pen], None], alt: str, words: str = "") -> Drawing:
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    live = None
    if backend == "plotly":
        pen = PlotlyPen(width, height, alt)
        draw(pen)
        try:
            live = pen.figure
        except ImportError:
            raise need("plotly", "a figure with backend='plotly'") from None
    paper = MatplotlibPen(_need_matplotlib(MatplotlibPen.canvas, width, height))
    draw(paper)
    return Drawing(paper.figure, alt, words=words) if live is None else Drawing(live, alt, paper.figure, words or alt)


def _need_matplotlib(make: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return make(*arguments)
    except ImportError:
        raise need("matplotlib", "a figure") from None
