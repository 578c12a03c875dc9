"""Pens: the same few strokes (line, dots, bar, text) on a matplotlib axes or a plotly figure.

    pen = MatplotlibPen(MatplotlibPen.canvas(7, 3)); pen.frame((0, 1), (0, 1)); pen.text(0.5, 0.5, "hello"); pen.figure

Ticks and labels are strokes too. So no figure depends on the defaults of a library, and both libraries draw the same picture.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Sequence
from typing import Any, Protocol

# Each colour has one meaning, as in the light theme of views/board/board.css.
PALETTE = {"teacher": "#6b3fa0", "student": "#0a66ad", "baseline": "#ad5200", "truth": "#00766a", "ghost": "#868f9a"}
PAPER, INK, MUTED, HAIR, HATCH = "#ffffff", "#1b1f24", "#59626d", "#e3e6ea", "#c3c9d0"
FONT = "DejaVu Sans"  # comes with matplotlib, so a figure is the same everywhere


def tint(colour: str, share: float) -> str:
    """The colour mixed with that of the paper: it is opaque, so nothing below it shows.

    share: of the colour, 0 to 1.
    """
    parts = [(int(colour[i : i + 2], 16), int(PAPER[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * c + (1 - share) * p):02x}" for c, p in parts)


Range = tuple[float, float]
Numbers = Sequence[float]


class Pen(Protocol):
    """Strokes in data coordinates.

    name: what a stroke stands for.
    says: what it shows under the pointer; for a line, at each of its points.
    dx, dy: move a text, in points.
    """

    @property
    def figure(self) -> Any: ...
    def frame(self, xlim: Range, ylim: Range, log: bool = False) -> None: ...
    def title(self, text: str, note: str) -> None: ...
    def line(
        self,
        xs: Numbers,
        ys: Numbers,
        colour: str,
        width: float = 1.5,
        dash: str = "",
        alpha: float = 1.0,
        name: str = "",
        says: Sequence[str] = (),
    ) -> None: ...
    def dots(self, xs: Numbers, ys: Numbers, colour: str, marker: str, size: float, name: str = "", hollow: bool = False) -> None: ...
    def bar(self, x0: float, x1: float, y: float, height: float, colour: str, name: str = "", edge: str = "", says: str = "") -> None: ...
    def hatch(self, x0: float, x1: float, y: float, height: float, name: str = "") -> None: ...
    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = INK,
        align: str = "left",
        size: float = 9,
        bold: bool = False,
        dx: float = 0,
        dy: float = 0,
        boxed: bool = False,
    ) -> None: ...


class MatplotlibPen:
    """Draws on a new axes of a matplotlib figure.

    place: left, bottom, width and height, as shares of the figure.
    head: inches of it that are kept free for the title.
    """

    def __init__(self, figure: Any, place: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0), head: float = 0.62) -> None:
        self.figure = figure
        left, bottom, width, height = place
        self.axes = figure.add_axes((left, bottom, width, height - head / figure.get_figheight()))
        self.axes.set_axis_off()

    @staticmethod
    def canvas(width: float, height: float) -> Any:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), dpi=100, facecolor=PAPER, edgecolor=PAPER)
        FigureCanvasAgg(figure)
        return figure

    @staticmethod
    def png(figure: Any, dpi: float) -> bytes:
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dpi, facecolor=PAPER, edgecolor=PAPER, bbox_inches=None, metadata={"Software": None})
        return out.getvalue()

    @staticmethod
    def svg(figure: Any) -> str:
        """The figure as SVG. Its letters are paths, so it is the same wherever it is shown, and no label is wider than was measured."""
        out, metadata = io.StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", facecolor=PAPER, edgecolor=PAPER, bbox_inches=None, metadata=metadata)
        return out.getvalue()

    def frame(self, xlim: Range, ylim: Range, log: bool = False) -> None:
        self.axes.set_yscale("log" if log else "linear")
        self.axes.set(xlim=xlim, ylim=ylim)

    def title(self, text: str, note: str) -> None:
        for words, colour, size, up, weight in ((text, INK, 11.5, 22, "bold"), (note, MUTED, 8.5, 8, "normal")):
            self.axes.annotate(
                words, (0, 1), (12, up), xycoords="axes fraction", textcoords="offset points", color=colour,
                fontsize=size, fontfamily=FONT, fontweight=weight, va="bottom", ha="left", parse_math=False,
            )  # fmt: skip

    def line(self, xs, ys, colour, width=1.5, dash="", alpha=1.0, name="", says=()):
        style = {"": "-", "dash": (0, (5, 2.5)), "dot": (0, (1.2, 2))}[dash]
        look = {"color": colour, "linewidth": width, "linestyle": style, "alpha": alpha, "marker": "", "solid_capstyle": "butt"}
        self.axes.plot(xs, ys, label=name or "_", **look)

    def dots(self, xs, ys, colour, marker, size, name="", hollow=False):
        self.axes.plot(
            xs, ys, linestyle="none", marker=marker, markersize=size, markeredgecolor=colour, markeredgewidth=1.4,
            label=name or "_", markerfacecolor=PAPER if hollow else colour, clip_on=False, zorder=3,
        )  # fmt: skip

    def bar(self, x0, x1, y, height, colour, name="", edge="", says=""):
        look = {"color": colour, "edgecolor": edge or "none", "linewidth": 0.9, "zorder": 2}
        self.axes.barh(y, x1 - x0, height, left=x0, label=name or "_", **look)

    def hatch(self, x0, x1, y, height, name=""):
        look = {"color": PAPER, "edgecolor": HATCH, "linewidth": 0.0, "hatch": "////", "zorder": 2}
        self.axes.barh(y, x1 - x0, height, left=x0, label=name or "_", **look)

    def text(self, x, y, text, colour=INK, align="left", size=9, bold=False, dx=0, dy=0, boxed=False):
        self.axes.annotate(
            text, (x, y), (dx, dy), textcoords="offset points", color=colour, fontsize=size, fontfamily=FONT, ha=align,
            va="center", fontweight="bold" if bold else "normal", parse_math=False, annotation_clip=False, zorder=4,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 2.5} if boxed else None,
        )  # fmt: skip


class PlotlyPen:
    """Draws on a plotly figure. A stroke with a name shows it, with its numbers, under the pointer.

    Strokes are collected, and checked once in `figure`, because plotly's `add_...` copies all earlier ones each time.
    """

    def __init__(self, width: float, height: float, alt: str = "") -> None:
        self._log, self._traces, self._rules, self._notes = False, [], [], []  # type: ignore[var-annotated]
        font = {"family": f"{FONT}, Verdana, sans-serif", "color": INK}
        self._layout: dict[str, Any] = {
            "width": width * 100, "height": height * 100, "paper_bgcolor": PAPER, "plot_bgcolor": PAPER,
            "margin": {"l": 0, "r": 0, "t": 62, "b": 0}, "barmode": "overlay", "showlegend": False, "dragmode": False,
            "font": font, "meta": {"alt": alt}, "hovermode": "closest", "hoverlabel": {"bgcolor": PAPER, "font": font},
        }  # fmt: skip

    @property
    def figure(self) -> Any:
        from plotly.graph_objects import Figure

        template = {"layout": {"annotationdefaults": {"showarrow": False, "borderpad": 0}}}  # nothing of plotly's own style
        return Figure(self._traces, {"template": template, **self._layout, "shapes": self._rules, "annotations": self._notes})

    def frame(self, xlim: Range, ylim: Range, log: bool = False) -> None:
        self._log = log
        hidden = {"visible": False, "fixedrange": True}
        ends = [math.log10(v) for v in ylim] if log else list(ylim)
        self._layout["xaxis"] = {"range": list(xlim), **hidden}
        self._layout["yaxis"] = {"range": ends, "type": "log" if log else "linear", **hidden}

    def title(self, text: str, note: str) -> None:
        place = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xshift": 16.7, "xanchor": "left", "yanchor": "bottom"}
        self._write(text, INK, 11.5, True, yshift=28, **place)
        self._write(note, MUTED, 8.5, False, yshift=8, **place)

    def line(self, xs, ys, colour, width=1.5, dash="", alpha=1.0, name="", says=()):
        style = {"color": colour, "width": width * 1.3, "dash": dash or "solid"}
        if not name and len(xs) == 2:  # a rule or a stem; as a trace it would lie over the bars
            ends = {"x0": xs[0], "x1": xs[1], "y0": ys[0], "y1": ys[1]}
            self._rules.append({"type": "line", "layer": "below", "opacity": alpha, "line": style, **ends})
            return
        self._points("lines", xs, ys, name, says, opacity=alpha, line=style)

    def dots(self, xs, ys, colour, marker, size, name="", hollow=False):
        shape, rim = {"o": "circle", "s": "square", "D": "diamond"}[marker], {"color": colour, "width": 1.8}
        look = {"symbol": shape, "size": size * 1.3, "color": PAPER if hollow else colour, "line": rim}
        self._points("markers", xs, ys, name, cliponaxis=False, marker=look)

    def _points(self, mode: str, xs: Numbers, ys: Numbers, name: str, says: Sequence[str] = (), **look: Any) -> None:
        texts = {"text": [html.escape(words) for words in says]} if says else {}
        numbers = "%{text}" if says else "step %{x:,}: %{y:.3g}" if self._log else "%{x:.2f}"
        place = {"type": "scatter", "mode": mode, "x": list(xs), "y": list(ys)}
        self._traces.append({**place, **texts, **look, **self._hover(name, numbers)})

    def bar(self, x0, x1, y, height, colour, name="", edge="", says=""):
        look = {"color": colour, "line": {"color": edge or colour, "width": 1.2 if edge else 0}}
        self._bar(x0, x1, y, height, look, name, says or f"{x1:.2f}")

    def hatch(self, x0, x1, y, height, name=""):
        pattern = {"shape": "/", "fgcolor": HATCH, "bgcolor": PAPER, "size": 7}
        self._bar(x0, x1, y, height, {"color": PAPER, "line": {"width": 0}, "pattern": pattern}, name, "not measured")

    def _bar(self, x0: float, x1: float, y: float, height: float, look: dict[str, Any], name: str, numbers: str) -> None:
        place = {"type": "bar", "orientation": "h", "x": [x1 - x0], "base": [x0], "y": [y], "width": height}
        self._traces.append({**place, "marker": look, **self._hover(name, html.escape(numbers))})

    def text(self, x, y, text, colour=INK, align="left", size=9, bold=False, dx=0, dy=0, boxed=False):
        place = {"x": x, "y": math.log10(y) if self._log else y, "xanchor": align, "yanchor": "middle"}
        moved = {name: round(by * 1.39, 1) for name, by in (("xshift", dx), ("yshift", dy)) if by}
        self._write(text, colour, size, bold, **place, **moved, **({"bgcolor": PAPER} if boxed else {}))

    def _write(self, text: str, colour: str, size: float, bold: bool, **place: Any) -> None:
        words, font = html.escape(text).replace("\n", "<br>"), {"color": colour, "size": round(size * 1.39, 1)}
        self._notes.append({"text": f"<b>{words}</b>" if bold else words, "font": font, **place})

    @staticmethod
    def _hover(name: str, numbers: str) -> dict[str, Any]:
        if not name:
            return {"hoverinfo": "skip", "name": ""}
        return {"name": name, "hovertemplate": f"{html.escape(name)}<br>{numbers}<extra></extra>"}
