"""Two pens for `figures.py`: the same few strokes (line, dots, bar, text), on a matplotlib axes or a plotly figure.

    pen = MatplotlibPen(MatplotlibPen.canvas(7, 3)); pen.frame((0, 1), (0, 1)); pen.text(0.5, 0.5, "hello"); pen.figure

Ticks and labels are strokes too, so nothing depends on either library's defaults, and both draw the same picture.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Sequence
from typing import Any, Protocol

# One colour, one meaning, as in the light theme of live/board.css.
PALETTE = {"teacher": "#6b3fa0", "student": "#0a66ad", "baseline": "#ad5200", "truth": "#00766a", "ghost": "#868f9a"}
PAPER, INK, MUTED, HAIR, HATCH = "#ffffff", "#1b1f24", "#59626d", "#e3e6ea", "#c3c9d0"
FONT = "DejaVu Sans"  # comes with matplotlib, so that a figure is the same everywhere


def tint(colour: str, share: float) -> str:
    """The colour mixed with paper: opaque, so that nothing shines through it."""
    parts = [(int(colour[i : i + 2], 16), int(PAPER[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * c + (1 - share) * p):02x}" for c, p in parts)


Range = tuple[float, float]
Numbers = Sequence[float]


class Pen(Protocol):
    """Strokes in data coordinates; `dx`, `dy` move a text by points; `name` is what a stroke stands for."""

    figure: Any

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
    ) -> None: ...
    def dots(self, xs: Numbers, ys: Numbers, colour: str, marker: str, size: float, name: str = "", hollow: bool = False) -> None: ...
    def bar(self, x0: float, x1: float, y: float, height: float, colour: str, name: str = "", edge: str = "") -> None: ...
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
    """Draws on an axes of its own: `place` is left, bottom, width, height as shares of the figure, `head` the inches
    kept free in it for the title."""

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

    def frame(self, xlim: Range, ylim: Range, log: bool = False) -> None:
        self.axes.set_yscale("log" if log else "linear")
        self.axes.set(xlim=xlim, ylim=ylim)

    def title(self, text: str, note: str) -> None:
        for words, colour, size, up, weight in ((text, INK, 11.5, 22, "bold"), (note, MUTED, 8.5, 8, "normal")):
            self.axes.annotate(
                words, (0, 1), (12, up), xycoords="axes fraction", textcoords="offset points", color=colour,
                fontsize=size, fontfamily=FONT, fontweight=weight, va="bottom", ha="left", parse_math=False,
            )  # fmt: skip

    def line(self, xs, ys, colour, width=1.5, dash="", alpha=1.0, name=""):
        style = {"": "-", "dash": (0, (5, 2.5)), "dot": (0, (1.2, 2))}[dash]
        self.axes.plot(
            xs,
            ys,
            color=colour,
            linewidth=width,
            linestyle=style,
            alpha=alpha,
            label=name or "_",
            marker="",
            solid_capstyle="butt",
        )

    def dots(self, xs, ys, colour, marker, size, name="", hollow=False):
        self.axes.plot(
            xs, ys, linestyle="none", marker=marker, markersize=size, markeredgecolor=colour, markeredgewidth=1.4,
            label=name or "_", markerfacecolor=PAPER if hollow else colour, clip_on=False, zorder=3,
        )  # fmt: skip

    def bar(self, x0, x1, y, height, colour, name="", edge=""):
        self.axes.barh(
            y,
            x1 - x0,
            height,
            left=x0,
            color=colour,
            edgecolor=edge or "none",
            linewidth=0.9,
            label=name or "_",
            zorder=2,
        )

    def hatch(self, x0, x1, y, height, name=""):
        self.axes.barh(
            y,
            x1 - x0,
            height,
            left=x0,
            color=PAPER,
            edgecolor=HATCH,
            linewidth=0.0,
            hatch="////",
            label=name or "_",
            zorder=2,
        )

    def text(self, x, y, text, colour=INK, align="left", size=9, bold=False, dx=0, dy=0, boxed=False):
        self.axes.annotate(
            text, (x, y), (dx, dy), textcoords="offset points", color=colour, fontsize=size, fontfamily=FONT, ha=align,
            va="center", fontweight="bold" if bold else "normal", parse_math=False, annotation_clip=False, zorder=4,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 2.5} if boxed else None,
        )  # fmt: skip


class PlotlyPen:
    """Draws on a plotly figure; what has a name says it, with its numbers, when the pointer is over it."""

    def __init__(self, width: float, height: float, alt: str = "") -> None:
        from plotly import graph_objects

        self._go, self._log = graph_objects, False
        self.figure = graph_objects.Figure()
        self.figure.update_layout(
            template="none", width=width * 100, height=height * 100, paper_bgcolor=PAPER, plot_bgcolor=PAPER,
            margin={"l": 0, "r": 0, "t": 62, "b": 0}, barmode="overlay", showlegend=False, dragmode=False,
            font={"family": f"{FONT}, Verdana, sans-serif", "color": INK}, meta={"alt": alt},
            hoverlabel={"bgcolor": PAPER, "font": {"color": INK}},
        )  # fmt: skip

    def frame(self, xlim: Range, ylim: Range, log: bool = False) -> None:
        self._log = log
        hidden = {"visible": False, "fixedrange": True}
        ends = [math.log10(v) for v in ylim] if log else list(ylim)
        self.figure.update_xaxes(range=list(xlim), **hidden)
        self.figure.update_yaxes(range=ends, type="log" if log else "linear", **hidden)

    def title(self, text: str, note: str) -> None:
        for words, colour, size, up, bold in ((text, INK, 11.5, 28, True), (note, MUTED, 8.5, 8, False)):
            self._write(
                words,
                colour,
                size,
                bold,
                x=0,
                y=1,
                xref="paper",
                yref="paper",
                xshift=12,
                yshift=up,
                xanchor="left",
                yanchor="bottom",
            )

    def line(self, xs, ys, colour, width=1.5, dash="", alpha=1.0, name=""):
        if not name and len(xs) == 2:  # a rule or a stem; as a trace it would lie over the bars
            style = {"color": colour, "width": width * 1.3, "dash": dash or "solid"}
            ends = {"x0": xs[0], "x1": xs[1], "y0": ys[0], "y1": ys[1]}
            self.figure.add_shape(type="line", layer="below", opacity=alpha, line=style, **ends)
            return
        self.figure.add_scatter(
            x=list(xs), y=list(ys), mode="lines", opacity=alpha,
            line={"color": colour, "width": width * 1.3, "dash": dash or "solid"},
            **self._hover(name, "step %{x:,}: %{y:.3g}" if self._log else "%{x:.2f}"),
        )  # fmt: skip

    def dots(self, xs, ys, colour, marker, size, name="", hollow=False):
        shape = {"o": "circle", "s": "square", "D": "diamond"}[marker]
        rim = {"color": colour, "width": 1.8}
        self.figure.add_scatter(
            x=list(xs), y=list(ys), mode="markers", cliponaxis=False,
            marker={"symbol": shape, "size": size * 1.3, "color": PAPER if hollow else colour, "line": rim},
            **self._hover(name, "step %{x:,}: %{y:.3g}" if self._log else "%{x:.2f}"),
        )  # fmt: skip

    def bar(self, x0, x1, y, height, colour, name="", edge=""):
        look = {"color": colour, "line": {"color": edge or colour, "width": 1.2 if edge else 0}}
        self.figure.add_bar(x=[x1 - x0], base=[x0], y=[y], width=height, orientation="h", marker=look, **self._hover(name, f"{x1:.2f}"))

    def hatch(self, x0, x1, y, height, name=""):
        look = {
            "color": PAPER,
            "line": {"width": 0},
            "pattern": {"shape": "/", "fgcolor": HATCH, "bgcolor": PAPER, "size": 7},
        }
        self.figure.add_bar(
            x=[x1 - x0],
            base=[x0],
            y=[y],
            width=height,
            orientation="h",
            marker=look,
            **self._hover(name, "not measured"),
        )

    def text(self, x, y, text, colour=INK, align="left", size=9, bold=False, dx=0, dy=0, boxed=False):
        self._write(
            text, colour, size, bold, x=x, y=math.log10(y) if self._log else y, xref="x", yref="y",
            xanchor=align, yanchor="middle", xshift=dx * 1.39, yshift=dy * 1.39,
            **({"bgcolor": PAPER} if boxed else {}),
        )  # fmt: skip

    def _write(self, text: str, colour: str, size: float, bold: bool, **place: Any) -> None:
        words = html.escape(text)
        font = {"color": colour, "size": size * 1.39}
        self.figure.add_annotation(text=f"<b>{words}</b>" if bold else words, showarrow=False, font=font, borderpad=0, **place)

    @staticmethod
    def _hover(name: str, numbers: str) -> dict[str, Any]:
        if not name:
            return {"hoverinfo": "skip", "name": ""}
        return {"name": name, "hovertemplate": f"{html.escape(name)}<br>{numbers}<extra></extra>"}
