"""Figures of a record, in matplotlib or plotly, each with its content in words.

    figures.waterfall(rec)                            # gold labels -> hard answers -> soft labels -> teacher
    figures.curves(rec, previous=old).save("kl.png")  # a Drawing: shows itself with its alt text, and saves
    figures.recovery(rec, backend="plotly")           # shows its numbers under the pointer; .figure is plotly's
    figures.snapshot(rec)                             # all on one page; figures.describe(rec) is the same in words

Each chart is written once, in `charts.py`, `line_chart.py`, `run_charts.py` or `drafts.py`, for a pen of `pen.py` that draws with either
library. Charts measure their labels, so none is cut off or lies on another. A notebook's style (colours, sizes, TeX, sketches, effects)
changes no figure, no figure changes that style, and any thread may draw one. A page with a dark theme gets a dark picture.
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
from labkit.base.palette import PALETTE, darkened, on_dark_pages
from labkit.records.record import BASELINES, Record
from labkit.views.figures.charts import (
    WIDTH,
    Cell,
    Interval,
    Line,
    alt_heat,
    draw_bars,
    draw_heat,
    draw_intervals,
    say_bars,
    say_heat,
    say_intervals,
    size_heat,
    tall_bars,
    tall_intervals,
)
from labkit.views.figures.drafts import (
    GAMMAS,
    alt_speedups,
    draw_acceptance,
    draw_speedups,
    say_acceptance,
    say_speedups,
    titled_speedups,
)
from labkit.views.figures.line_chart import alt_lines, draw_lines, say_lines, tall_lines
from labkit.views.figures.page import draw_page
from labkit.views.figures.pen import MatplotlibPen, Pen, PlotlyPen, headed
from labkit.views.figures.run_charts import (
    LABEL_BUDGET,
    draw_curves,
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
# A figure has two pictures, and one is shown. Without this style sheet it is the one for light pages.
STYLE = on_dark_pages(".dlab-light", "display: none !important") + on_dark_pages(".dlab-dark", "display: inline !important")
# Plotly's picture has one set of colours. JupyterLab shows it right above the words that follow it.
_LIVE = (".dlab-live", ".jp-OutputArea-child:has(+ .jp-OutputArea-child .dlab-words) .jp-OutputArea-output > *")
LIVE_STYLE = "".join(on_dark_pages(where, "filter: invert(0.93) hue-rotate(180deg)") for where in _LIVE)


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
        page = '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        data = f"{page}{script()}{self.live_html()}</html>".encode() if path.suffix == ".html" else self.png()
        write_whole(path, lambda to: to.write_bytes(data))
        return path

    def live_html(self) -> Html:
        """The interactive figure as HTML, for a page that has `script()` once."""
        from plotly.io import to_html

        page = Html(to_html(self.figure, full_html=False, include_plotlyjs=False, config=CONFIG))
        return tag("style", Html(LIVE_STYLE)) + tag("div", page, class_="dlab-live", role="img", aria_label=self.alt)

    def _repr_html_(self) -> str:
        return f"<style>{STYLE}</style>{self.pictures()}{self._in_words()}"

    def pictures(self) -> Html:
        """The figure as HTML: a picture for light and one for dark pages, of which `STYLE` shows one."""
        figure = self.paper or self.figure
        svg, width = MatplotlibPen.svg(figure), round(figure.get_figwidth() * 100)
        return Html(
            "".join(
                tag("img", alt=self.alt, width=width, style=f"max-width:100%;height:auto{hides}", class_=look, src=_data(picture))
                for look, hides, picture in (("dlab-light", "", svg), ("dlab-dark", ";display:none", darkened(svg)))
            ).replace("</img>", "")
        )

    def _in_words(self) -> str:
        """The words, folded under the picture. Plotly's picture has no alt text, so the summary has it."""
        if not self.words:
            return ""
        name = f"In words: {self.alt}" if self.paper else ""
        dark = tag("style", Html(LIVE_STYLE)) if self.paper else ""
        return dark + tag("details", tag("summary", "In words", aria_label=name), self.words, class_="dlab-words" if self.paper else "")

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


def _data(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def script() -> str:
    """Plotly's script as HTML (4.8 MB), for a page with interactive figures that loads nothing from elsewhere."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


# ---- the figures -----------------------------------------------------------------------------------------------------


def waterfall(record: Record, backend: str = "matplotlib") -> Drawing:
    """Mean core skill of four arms in a fixed order, each with its difference from the one before."""
    return _finish(backend, WIDTH, 2.7, lambda pen: draw_waterfall(pen, record), say_waterfall(record))


def curves(record: Record, *, previous: Record | None = None, backend: str = "matplotlib") -> Drawing:
    """KL to the teacher by step: training, held-out exams, baselines, the `previous` run, and turned knobs."""
    return _finish(backend, WIDTH, 3.5, lambda pen: draw_curves(pen, record, previous), say_curves(record, previous))


def recovery(record: Record, baseline: str = LABEL_BUDGET, *, backend: str = "matplotlib") -> Drawing:
    """Scores of baseline, student and teacher in each skill, and the recovery.

    Raises `LabError` for an unknown baseline.
    """
    if baseline not in BASELINES:
        raise unknown("baseline", baseline, BASELINES)
    return _finish(backend, WIDTH, 4.2, lambda pen: draw_recovery(pen, record, baseline), say_recovery(record, baseline))


def acceptance(record: Record, *, previous: Record | None = None, backend: str = "matplotlib") -> Drawing:
    """Acceptance in speculative decoding by step, at each exam, of sampled and of greedy tokens."""
    return _finish(backend, WIDTH, 2.7, lambda pen: draw_acceptance(pen, record, previous), say_acceptance(record))


def speedups(alpha: float, gamma: int = 0, cost: float = 0.0, verify: float = 0.0, backend: str = "matplotlib") -> Drawing:
    """The speed-up by a draft, for 1 to 12 tokens a round and several costs of a token, with the best of each row framed.

    alpha: acceptance, the probability that the target keeps a token.
    gamma, cost: tokens a round and cost of a token (in passes of the target) to mark; 0 for none.
    verify: cost of judging a token, in passes of the target.
    """
    place = (alpha, gamma, cost, verify)
    title = titled_speedups(alpha, verify)
    return _finish(backend, WIDTH, 3.8, lambda pen: draw_speedups(pen, *place), alt_speedups(*place), say_speedups(*place), title)


def snapshot(record: Record, *, previous: Record | None = None, unit: str = "recovery") -> Drawing:
    """Curves, waterfall and recovery on one page (matplotlib). With unit="acceptance", acceptance in place of the waterfall."""
    return Drawing(_need_matplotlib(draw_page, record, previous, unit), describe(record, previous, unit))


def bars(title: str, note: str, names: Sequence[str], groups: Mapping[str, Sequence[float]], backend: str = "matplotlib") -> Drawing:
    """One row for each name, with a bar for each group, whose end has the shape of its role.

    groups: values by role: "teacher", "student", "baseline", "truth", "alarm" or "ghost".

    Raises `LabError` for an unknown role, or unequal numbers of names and values.
    """
    said = say_bars(title, note, names, groups)
    height = _need_matplotlib(tall_bars, names, groups)
    return _finish(backend, WIDTH, height, lambda pen: draw_bars(pen, title, note, names, groups), said, "", (title, note))


def intervals(title: str, note: str, rows: Sequence[Interval], zero: float | None = None, backend: str = "matplotlib") -> Drawing:
    """One row for each number: a dot, its band, and both as text, over an axis.

    zero: where to draw a line to compare with, if given.

    Raises `LabError` for rows without a number, or an unknown role.
    """
    said, height = say_intervals(title, note, rows), _need_matplotlib(tall_intervals, rows)
    return _finish(backend, WIDTH, height, lambda pen: draw_intervals(pen, title, note, rows, zero), said, "", (title, note))


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
    height = _need_matplotlib(tall_lines, series, across, marks)
    given = (title, note, series, across, log, log_across, marks)
    return _finish(backend, WIDTH, height, lambda pen: draw_lines(pen, *given), *words, (title, note))


def heat(
    title: str,
    note: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell | None]],
    corner: str = "",
    backend: str = "matplotlib",
    scale: tuple[float, float] | None = None,
) -> Drawing:
    """A table with bands, where a larger value has a stronger colour, and the best cell of each row is framed.

    cells: by row and column; None for one that was not measured.
    corner: name of the columns.
    scale: the values of the palest and the strongest colour. Give the same to maps that are compared.

    Raises `LabError` if the cells do not fit rows and columns, or the first end of the scale is not the smaller one.
    """
    words = alt_heat(title, note, rows, columns, cells), say_heat(title, note, rows, columns, cells)
    width, height = _need_matplotlib(size_heat, rows, columns, cells, corner)
    given = (title, note, rows, columns, cells, corner, scale)
    return _finish(backend, width, height, lambda pen: draw_heat(pen, *given), *words, (title, note))


def describe(record: Record, previous: Record | None = None, unit: str = "recovery") -> str:
    """The snapshot in words."""
    low = say_acceptance(record) if unit == "acceptance" else say_waterfall(record)
    return " ".join((say_outcome(record), say_curves(record, previous), low, say_recovery(record)))


def _finish(
    backend: str,
    width: float,
    height: float,
    draw: Callable[[Pen], None],
    alt: str,
    words: str = "",
    title: tuple[str, str] = ("", ""),
) -> Drawing:
    """Draw with one library or with both.

    width, height: inches, without the title.
    title: the title and its note, to measure them.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "plotly":
        _need_plotly()
    head = _need_matplotlib(headed, *title, width)[2]
    paper = MatplotlibPen(_need_matplotlib(MatplotlibPen.canvas, width, height + head), head=head)
    draw(paper)
    if backend == "matplotlib":
        return Drawing(paper.figure, alt, words=words)
    pen = PlotlyPen(width, height + head, alt, head)
    draw(pen)
    return Drawing(pen.figure, alt, paper.figure, words or alt)


def _need_plotly() -> None:
    try:
        import plotly.graph_objects
    except ImportError:
        raise need("plotly", "a figure with backend='plotly'") from None


def _need_matplotlib(make: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return make(*arguments)
    except ImportError:
        raise need("matplotlib", "a figure") from None
