"""Figures of a record, in matplotlib or plotly, each with its content in words.

    figures.waterfall(rec)                            # gold labels -> hard answers -> soft labels -> teacher
    figures.curves(rec, previous=old).save("kl.png")  # a Drawing: shows itself with its alt text, and saves
    figures.recovery(rec, backend="plotly")           # shows its numbers under the pointer; .figure is plotly's
    figures.snapshot(rec)                             # all on one page; figures.describe(rec) is the same in words

Each chart is written once, in `charts.py`, `run_charts.py` or `drafts.py`, for a pen of `pen.py` that draws with either library. No figure
reads matplotlib's global state, so a notebook's style does not change it, and any thread may draw it.
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
from labkit.base.files import to_write, write_whole
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
CONFIG = {"displayModeBar": False, "plotlyServerURL": ""}  # plotly's default has an address of its own server


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A finished figure, and its content in words for people who do not see it."""

    figure: Any  # matplotlib's or plotly's
    alt: str  # one or two sentences
    paper: Any = None  # with plotly: matplotlib's figure of the same strokes, for PNGs
    words: str = ""  # all numbers, if `alt` does not have them

    def __repr__(self) -> str:
        return f"Drawing({self.alt!r})"

    def png(self, dpi: float = 144) -> bytes:
        """The figure as PNG."""
        return MatplotlibPen.png(self.paper or self.figure, dpi)

    def save(self, path: str | Path) -> Path:
        """Write a PNG; with plotly also a page that needs no network, if the name ends in .html.

        Returns the path. Raises `LabError` for another ending, or if the file cannot be written; then an older one stays.
        """
        path = to_write(path)
        if path.suffix not in ((".png", ".html") if self.paper else (".png",)):
            raise LabError(f"cannot save a figure as {path.name!r}: use a name that ends in .png{' or .html' * bool(self.paper)}.")
        page = '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
        data = f"{page}{script()}{self.live_html()}</html>".encode() if path.suffix == ".html" else self.png()
        write_whole(path, lambda to: to.write_bytes(data))
        return path

    def live_html(self) -> Html:
        """The interactive figure as HTML, for a page that has `script()` once."""
        from plotly.io import to_html

        page = Html(to_html(self.figure, full_html=False, include_plotlyjs=False, config=CONFIG))
        return tag("div", page, role="img", aria_label=self.alt)

    def _repr_html_(self) -> str:
        width, data = round((self.paper or self.figure).get_figwidth() * 100), base64.b64encode(self.png()).decode()
        look = f'width="{width}" style="max-width:100%"'
        return f'<img alt="{html.escape(self.alt)}" {look} src="data:image/png;base64,{data}">{self._in_words()}'

    def _in_words(self) -> str:
        """The words, folded under the picture. Plotly's picture has no alt text, so the summary has it."""
        name = f"In words: {self.alt}" if self.paper else ""
        return tag("details", tag("summary", "In words", aria_label=name), self.words) if self.words else ""

    def bundles(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Data and metadata of each output in a notebook.

        With plotly these are its JSON, with a PNG for front ends without plotly (JupyterLab shows it until the pointer is over the
        figure), and then the words, because no front end gives plotly's picture a name for screen readers.
        """
        if not self.paper:
            return [({"text/html": self._repr_html_(), "text/plain": self.alt}, {})]
        png = base64.b64encode(self.png(100)).decode()  # the size of plotly's figure, so that the page does not move
        shown = {PLOTLY: {**json.loads(self.figure.to_json()), "config": CONFIG}, "image/png": png, "text/plain": self.alt}
        return [(shown, {"image/png": {"alt": self.alt}}), ({"text/html": self._in_words(), "text/plain": self.words}, {})]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for data, metadata in self.bundles():
            display(data, metadata=metadata, raw=True)


def script() -> str:
    """Plotly's script as HTML (4.8 MB), for a page with interactive figures that loads nothing from elsewhere."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


# ---- the figures -----------------------------------------------------------------------------------------------------


def waterfall(record: Record, backend: str = "matplotlib") -> Drawing:
    """Mean core skill of four arms in a fixed order, each with its difference from the one before."""
    return _finish(backend, 7.4, 3.3, lambda pen: draw_waterfall(pen, record), say_waterfall(record))


def curves(record: Record, *, previous: Record | None = None, backend: str = "matplotlib") -> Drawing:
    """KL to the teacher by step: training, held-out exams, baselines, the `previous` run, and turned knobs."""
    return _finish(backend, 7.4, 4.2, lambda pen: draw_curves(pen, record, previous), say_curves(record, previous))


def recovery(record: Record, baseline: str = LABEL_BUDGET, *, backend: str = "matplotlib") -> Drawing:
    """Scores of baseline, student and teacher in each skill, and the recovery.

    Raises `LabError` for an unknown baseline.
    """
    if baseline not in BASELINES:
        raise unknown("baseline", baseline, BASELINES)
    return _finish(backend, 7.4, 4.6, lambda pen: draw_recovery(pen, record, baseline), say_recovery(record, baseline))


def acceptance(record: Record, *, previous: Record | None = None, backend: str = "matplotlib") -> Drawing:
    """Acceptance in speculative decoding by step, at each exam, of sampled and of greedy tokens."""
    return _finish(backend, 7.4, 3.3, lambda pen: draw_acceptance(pen, record, previous), say_acceptance(record))


def speedups(alpha: float, gamma: int = 0, cost: float = 0.0, verify: float = 0.0, backend: str = "matplotlib") -> Drawing:
    """The speed-up by a draft, for 1 to 12 tokens a round and several costs of a token, with the best of each row framed.

    alpha: acceptance, the probability that the target keeps a token.
    gamma, cost: tokens a round and cost of a token (in passes of the target) to mark; 0 for none.
    verify: cost of judging a token, in passes of the target.
    """
    place = (alpha, gamma, cost, verify)
    return _finish(backend, 7.4, 4.4, lambda pen: draw_speedups(pen, *place), alt_speedups(*place), say_speedups(*place))


def snapshot(record: Record, *, previous: Record | None = None, unit: str = "recovery") -> Drawing:
    """Curves, waterfall and recovery on one page (matplotlib). With unit="acceptance", acceptance in place of the waterfall."""
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
    """One row for each name, with a bar for each group.

    groups: values by role: "teacher", "student", "baseline", "truth" or "ghost".

    Raises `LabError` for an unknown role, or unequal numbers of names and values.
    """
    height = 1.0 + len(names) * max(0.26, 0.2 * len(groups))
    return _finish(backend, 7.4, height, lambda pen: draw_bars(pen, title, note, names, groups), say_bars(title, note, names, groups))


def intervals(title: str, note: str, rows: Sequence[Interval], zero: float | None = None, backend: str = "matplotlib") -> Drawing:
    """One row for each number: a dot, its band, and both as text.

    zero: where to draw a line to compare with, if given.

    Raises `LabError` for rows without a number, or an unknown role.
    """
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
    """Named lines over one axis.

    across: name of the horizontal axis.
    log, log_across: whether the vertical, or the horizontal, axis is logarithmic.
    marks: named places on the horizontal axis.

    Raises `LabError` for lines without points, or values that an axis cannot show.
    """
    words = alt_lines(title, note, series, across, log), say_lines(title, note, series, across, log)
    return _finish(backend, 7.4, 3.8, lambda pen: draw_lines(pen, title, note, series, across, log, log_across, marks), *words)


def heat(
    title: str,
    note: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell | None]],
    corner: str = "",
    backend: str = "matplotlib",
) -> Drawing:
    """A table with bands, where a larger value is darker, and the best cell of each row is framed.

    cells: by row and column; None for one that was not measured.
    corner: name of the columns.

    Raises `LabError` if the cells do not fit rows and columns.
    """
    words = alt_heat(title, note, rows, columns, cells), say_heat(title, note, rows, columns, cells)
    height = 1.1 + 0.52 * len(rows)
    return _finish(backend, 7.4, height, lambda pen: draw_heat(pen, title, note, rows, columns, cells, corner), *words)


def describe(record: Record, previous: Record | None = None, unit: str = "recovery") -> str:
    """The snapshot in words."""
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
