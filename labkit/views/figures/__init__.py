"""A record as finished figures, in matplotlib or plotly, each with the same in words.

    figures.waterfall(rec)                            # gold labels -> hard answers -> soft labels -> teacher
    figures.curves(rec, previous=old).save("kl.png")  # a Drawing: shows itself with its alt text, and saves
    figures.recovery(rec, backend="plotly").figure    # the plotly figure itself
    figures.snapshot(rec)                             # all on one page; figures.describe(rec) says them in words

Each chart is written once, in `charts.py`, for a pen of `pens.py` that draws with either library. Nothing is read from
matplotlib's global state, so a notebook's style cannot change a figure and any thread may draw one.
"""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from labkit.base.errors import LabError, need, unknown
from labkit.records.record import BASELINES, Record
from labkit.views.figures.charts import (
    Cell,
    Interval,
    Line,
    draw_bars,
    draw_heat,
    draw_intervals,
    draw_lines,
    say_bars,
    say_heat,
    say_intervals,
    say_lines,
)
from labkit.views.figures.drafts import GAMMAS, draw_acceptance, draw_speedups, say_acceptance, say_speedups
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

__all__ = [
    "BACKENDS",
    "GAMMAS",
    "PALETTE",
    "Cell",
    "Cuts",
    "Drawing",
    "Interval",
    "Line",
    "acceptance",
    "bars",
    "curves",
    "cuts",
    "describe",
    "heat",
    "intervals",
    "lines",
    "recovery",
    "snapshot",
    "speedups",
    "waterfall",
]

BACKENDS = ("matplotlib", "plotly")


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A finished figure (matplotlib's or plotly's) and the same in words, for whoever does not see it."""

    figure: Any
    alt: str

    def __repr__(self) -> str:
        return f"Drawing({self.alt!r})"

    def png(self, dpi: float = 144) -> bytes:
        if hasattr(self.figure, "to_plotly_json"):
            try:
                return self.figure.to_image("png", scale=dpi / 96)
            except (ImportError, ValueError, RuntimeError):
                raise need("kaleido", "a PNG of a plotly figure") from None
        return MatplotlibPen.png(self.figure, dpi)

    def save(self, path: str | Path) -> Path:
        """Write a PNG, or for plotly an HTML page if the name ends in .html."""
        path = Path(path)
        plotly = hasattr(self.figure, "to_plotly_json")
        if path.suffix not in ((".png", ".html") if plotly else (".png",)):
            raise LabError(f"cannot save a figure as {path.name!r}: use a name that ends in .png{' or .html' * plotly}.")
        path.write_bytes(self.figure.to_html().encode() if path.suffix == ".html" else self.png())
        return path

    def _repr_html_(self) -> str:
        if hasattr(self.figure, "to_plotly_json"):
            page = self.figure.to_html(full_html=False, include_plotlyjs="cdn")
            return f'<div role="img" aria-label="{html.escape(self.alt)}">{page}</div>'
        width, data = round(self.figure.get_figwidth() * 100), base64.b64encode(self.png()).decode()
        look = f'width="{width}" style="max-width:100%"'
        return f'<img alt="{html.escape(self.alt)}" {look} src="data:image/png;base64,{data}">'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        if hasattr(self.figure, "to_plotly_json"):
            shown = self.figure._repr_mimebundle_() or {"text/html": self._repr_html_()}  # empty outside a notebook
            return {**shown, "text/plain": self.alt}
        return {"text/html": self._repr_html_(), "text/plain": self.alt}


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
    alt = say_speedups(alpha, gamma, cost, verify)
    return _finish(backend, 7.4, 4.4, lambda pen: draw_speedups(pen, alpha, gamma, cost, verify), alt)


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
    alt = say_lines(title, note, series, across)
    return _finish(backend, 7.4, 3.8, lambda pen: draw_lines(pen, title, note, series, across, log, log_across, marks), alt)


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
    alt = say_heat(title, note, rows, columns, cells)
    height = 1.1 + 0.52 * len(rows)
    return _finish(backend, 7.4, height, lambda pen: draw_heat(pen, title, note, rows, columns, cells, corner), alt)


def describe(record: Record, previous: Record | None = None, unit: str = "recovery") -> str:
    """The snapshot in sentences."""
    low = say_acceptance(record) if unit == "acceptance" else say_waterfall(record)
    return " ".join((say_outcome(record), say_curves(record, previous), low, say_recovery(record)))


def _finish(backend: str, width: float, height: float, draw: Callable[[Pen], None], alt: str) -> Drawing:
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "plotly":
        try:
            pen: Pen = PlotlyPen(width, height, alt)
        except ImportError:
            raise need("plotly", "a figure with backend='plotly'") from None
    else:
        pen = MatplotlibPen(_need_matplotlib(MatplotlibPen.canvas, width, height))
    draw(pen)
    return Drawing(pen.figure, alt)


def _need_matplotlib(make: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return make(*arguments)
    except ImportError:
        raise need("matplotlib", "a figure") from None
