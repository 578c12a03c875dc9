"""Pens: the same few strokes (line, dots, bar, text) on a matplotlib axes or a plotly figure.

    pen = MatplotlibPen(MatplotlibPen.canvas(7, 3)); pen.frame((0, 1), (0, 1)); pen.text(0.5, 0.5, "hello"); pen.figure

Ticks and labels are strokes too. So no figure depends on the defaults of a library, and both libraries draw the same picture.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from labkit.base.palette import HATCH, INK, MUTED, PAPER
from labkit.views.figures.letters import FONT, tall, wrapped

Range = tuple[float, float]
Numbers = Sequence[float]
INDENT = 12 / 72  # inches from the left edge to the title
TITLE, NOTE = 11.5, 8.5  # points
PIXELS = 100 / 72  # of plotly, in a point
_PLAIN = {"sketch_params": None, "path_effects": None}  # of every stroke, whatever the notebook's style says
_WORDS = {**_PLAIN, "usetex": False, "parse_math": False}  # of every text


class Room(NamedTuple):
    """Inches around the data that a frame keeps free for labels."""

    left: float = 0.0
    right: float = 0.0
    bottom: float = 0.0
    top: float = 0.0


TIGHT = Room()  # none


def headed(title: str, note: str, width: float) -> tuple[str, str, float]:
    """Title and note in lines that fit the width, and the height of both, in inches."""
    room = width - INDENT - 0.1
    title, note = wrapped(title, room, TITLE, bold=True), wrapped(note, room, NOTE)
    return title, note, 0.21 + tall(title, TITLE) + tall(note, NOTE) + 0.075


class Pen(Protocol):
    """Strokes in data coordinates.

    width, height: of the axes, in inches.
    name: what a stroke stands for.
    says: what it shows under the pointer; for a line, at each of its points.
    dx, dy: move a text, in points.
    """

    width: float
    height: float

    @property
    def figure(self) -> Any: ...
    def frame(self, xlim: Range, ylim: Range, log: bool = False, room: Room = TIGHT) -> None: ...
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


def _beyond(ends: Range, before: float, after: float, size: float, log: bool = False) -> Range:
    """The ends of an axis of `size` inches that has its data between `before` and `after` inches from its ends."""
    low, high = (math.log10(end) for end in ends) if log else ends
    low, high = (low, high) if low != high else (low - 0.5, high + 0.5)
    inch = (high - low) / max(size - before - after, 0.1)
    low, high = low - before * inch, high + after * inch
    return (10**low, 10**high) if log else (low, high)


class MatplotlibPen:
    """Draws on a new axes of a matplotlib figure.

    place: left, bottom, width and height, as shares of the figure.
    head: inches of it that are kept free for the title.
    """

    def __init__(self, figure: Any, place: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0), head: float = 0.62) -> None:
        self.figure = figure
        left, bottom, width, height = place
        self.width, self.height = width * figure.get_figwidth(), height * figure.get_figheight() - head
        self.axes = figure.add_axes((left, bottom, width, height - head / figure.get_figheight()))
        self.axes.set_axis_off()

    @staticmethod
    def canvas(width: float, height: float) -> Any:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, round(height * 100) / 100), dpi=100, facecolor=PAPER, edgecolor=PAPER)
        figure.patch.set(**_PLAIN)
        FigureCanvasAgg(figure)
        return figure

    @staticmethod
    def png(figure: Any, dpi: float) -> bytes:
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dpi, facecolor=PAPER, edgecolor=PAPER, bbox_inches=None, metadata={"Software": None})
        return out.getvalue()

    @staticmethod
    def svg(figure: Any, paths: bool = True) -> str:
        """The figure as SVG.

        paths: whether letters are paths: so it is the same wherever it is shown, and no label is wider than was measured. Else letters are
            text, and lines have fewer points, so the picture is much smaller.
        """
        from matplotlib.backend_bases import RendererBase
        from matplotlib.backends.backend_svg import RendererSVG
        from matplotlib.path import Path

        class Renderer(RendererSVG):  # does not ask the notebook's style, which it would else have to change for a moment
            def draw_text(self, gc: Any, *args: Any, **kwargs: Any) -> None:
                if paths:
                    RendererBase.draw_text(self, gc, *args, **kwargs)
                else:
                    self._draw_text_as_text(gc, *args, **kwargs)

            def draw_path(self, gc: Any, path: Any, transform: Any, rgbFace: Any = None) -> None:
                if not paths and path.codes is None:  # a line
                    path = Path(path.vertices, path.codes)
                    path.should_simplify, path.simplify_threshold = True, 0.5
                super().draw_path(gc, path, transform, rgbFace)

            def _make_id(self, type: str, content: Any) -> str:  # a new random name at each drawing, if the style has no salt
                return f"{type}{hashlib.sha256(str(content).encode()).hexdigest()[:10]}"

        out, dpi = io.StringIO(), figure.dpi
        figure.set_dpi(72)  # SVG's unit
        try:
            width, height = figure.get_size_inches() * 72
            renderer = Renderer(width, height, out, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
            figure.draw(renderer)
            renderer.finalize()
        finally:
            figure.set_dpi(dpi)
        return _smaller(out.getvalue())

    def frame(self, xlim, ylim, log=False, room=TIGHT):
        self.axes.set_yscale("log" if log else "linear")
        xlim = _beyond(xlim, room.left, room.right, self.width)
        self.axes.set(xlim=xlim, ylim=_beyond(ylim, room.bottom, room.top, self.height, log))

    def title(self, text: str, note: str) -> None:
        text, note, _ = headed(text, note, self.width)
        over = 8 + 72 * tall(note, NOTE) + 3
        for words, colour, size, up, weight in ((text, INK, TITLE, over, "bold"), (note, MUTED, NOTE, 8, "normal")):
            self.axes.annotate(
                words, (0, 1), (72 * INDENT, up), xycoords="axes fraction", textcoords="offset points", color=colour,
                fontsize=size, fontfamily=FONT, fontweight=weight, va="bottom", ha="left", **_WORDS,
            )  # fmt: skip

    def line(self, xs, ys, colour, width=1.5, dash="", alpha=1.0, name="", says=()):
        style = {"": "-", "dash": (0, (5, 2.5)), "dot": (0, (1.2, 2))}[dash]
        look = {"color": colour, "linewidth": width, "linestyle": style, "alpha": alpha, "marker": "", "solid_capstyle": "butt", **_PLAIN}
        self.axes.plot(xs, ys, label=name or "_", **look)

    def dots(self, xs, ys, colour, marker, size, name="", hollow=False):
        self.axes.plot(
            xs, ys, linestyle="none", marker=marker, markersize=size, markeredgecolor=colour, markeredgewidth=1.4,
            label=name or "_", markerfacecolor=PAPER if hollow else colour, clip_on=False, zorder=3, **_PLAIN,
        )  # fmt: skip

    def bar(self, x0, x1, y, height, colour, name="", edge="", says=""):
        look = {"color": colour, "edgecolor": edge or "none", "linewidth": 0.9, "zorder": 2, **_PLAIN}
        self.axes.barh(y, x1 - x0, height, left=x0, label=name or "_", **look)

    def hatch(self, x0, x1, y, height, name=""):
        look = {"color": PAPER, "edgecolor": HATCH, "linewidth": 0.0, "hatch": "////", "zorder": 2, **_PLAIN}
        self.axes.barh(y, x1 - x0, height, left=x0, label=name or "_", **look)

    def text(self, x, y, text, colour=INK, align="left", size=9, bold=False, dx=0, dy=0, boxed=False):
        self.axes.annotate(
            text, (x, y), (dx, dy), textcoords="offset points", color=colour, fontsize=size, fontfamily=FONT, ha=align,
            va="center", fontweight="bold" if bold else "normal", annotation_clip=False, zorder=4, **_WORDS,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 2.5, **_PLAIN} if boxed else None,
        )  # fmt: skip


def in_tags(change: Callable[[str], str], svg: str) -> str:
    """The SVG with a change to its tags, and its texts as they were: a number there is a number, not a place."""
    return re.sub(r"<[^>]*>", lambda found: change(found[0]), svg)


def _smaller(svg: str) -> str:
    """The same picture in fewer letters: without the head, comments, names that nothing uses, and line ends."""
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = {name: f"g{i:x}" for i, name in enumerate(dict.fromkeys(re.findall(r"#([\w.-]+)", svg)))}  # colours too, which no id is
    svg = re.sub(r' id="([\w.-]+)"', lambda found: f' id="{used[found[1]]}"' if found[1] in used else "", svg)
    svg = re.sub(r' xlink:href="#([\w.-]+)"', lambda found: f' href="#{used[found[1]]}"', svg)
    svg = re.sub(r"url\(#([\w.-]+)\)", lambda found: f"url(#{used[found[1]]})", svg)
    svg = in_tags(lambda inside: re.sub(r"(\.\d{3})\d+", r"\1", inside), svg)  # thousandths of a point
    svg = re.sub(r'transform="translate\((\S+) 0\)"/>', r'x="\1"/>', svg)  # of a letter
    return re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").strip()


class PlotlyPen:
    """Draws on a plotly figure. A stroke with a name shows it, with its numbers, under the pointer.

    Strokes are collected, and checked once in `figure`, because plotly's `add_...` copies all earlier ones each time.
    """

    def __init__(self, width: float, height: float, alt: str = "", head: float = 0.62) -> None:
        self._log, self._traces, self._rules, self._notes = False, [], [], []  # type: ignore[var-annotated]
        self.width, self.height = width, height - head
        font = {"family": f"{FONT}, Verdana, sans-serif", "color": INK}
        self._layout: dict[str, Any] = {
            "width": round(width * 100), "height": round(height * 100), "paper_bgcolor": PAPER, "plot_bgcolor": PAPER,
            "margin": {"l": 0, "r": 0, "t": 100 * head, "b": 0}, "barmode": "overlay", "showlegend": False, "dragmode": False,
            "font": font, "meta": {"alt": alt}, "hovermode": "closest", "hoverlabel": {"bgcolor": PAPER, "font": font},
        }  # fmt: skip

    @property
    def figure(self) -> Any:
        from plotly.graph_objects import Figure

        template = {"layout": {"annotationdefaults": {"showarrow": False, "borderpad": 0}}}  # nothing of plotly's own style
        return Figure(self._traces, {"template": template, **self._layout, "shapes": self._rules, "annotations": self._notes})

    def frame(self, xlim, ylim, log=False, room=TIGHT):
        self._log = log
        hidden = {"visible": False, "fixedrange": True}
        low, high = _beyond(ylim, room.bottom, room.top, self.height, log)
        self._layout["xaxis"] = {"range": list(_beyond(xlim, room.left, room.right, self.width)), **hidden}
        ends = [math.log10(low), math.log10(high)] if log else [low, high]
        self._layout["yaxis"] = {"range": ends, "type": "log" if log else "linear", **hidden}

    def title(self, text: str, note: str) -> None:
        text, note, _ = headed(text, note, self.width)
        up = round((8 + 72 * tall(note, NOTE) + 3) * PIXELS, 1)
        place = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xshift": 16.7, "xanchor": "left", "yanchor": "bottom", "align": "left"}
        self._write(text, INK, TITLE, True, yshift=up, **place)
        self._write(note, MUTED, NOTE, False, yshift=8 * PIXELS, **place)

    def line(self, xs, ys, colour, width=1.5, dash="", alpha=1.0, name="", says=()):
        style = {"color": colour, "width": width * 1.3, "dash": dash or "solid"}
        if not name and len(xs) == 2:  # a rule or a stem; as a trace it would lie over the bars
            ends = {"x0": xs[0], "x1": xs[1], "y0": ys[0], "y1": ys[1]}
            self._rules.append({"type": "line", "layer": "below", "opacity": alpha, "line": style, **ends})
            return
        self._points("lines", xs, ys, name, says, opacity=alpha, line=style)

    def dots(self, xs, ys, colour, marker, size, name="", hollow=False):
        symbols = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "X": "x"}
        look = {
            "symbol": symbols[marker],
            "size": size * 1.3,
            "color": PAPER if hollow else colour,
            "line": {"color": colour, "width": 1.8},
        }
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
        place = {"x": x, "y": math.log10(y) if self._log else y, "xanchor": align, "yanchor": "middle", "align": align}
        moved = {name: round(by * PIXELS, 1) for name, by in (("xshift", dx), ("yshift", dy)) if by}
        self._write(text, colour, size, bold, **place, **moved, **({"bgcolor": PAPER} if boxed else {}))

    def _write(self, text: str, colour: str, size: float, bold: bool, **place: Any) -> None:
        words, font = html.escape(text).replace("\n", "<br>"), {"color": colour, "size": round(size * PIXELS, 1)}
        self._notes.append({"text": f"<b>{words}</b>" if bold else words, "font": font, **place})

    @staticmethod
    def _hover(name: str, numbers: str) -> dict[str, Any]:
        if not name:
            return {"hoverinfo": "skip", "name": ""}
        return {"name": name, "hovertemplate": f"{html.escape(name)}<br>{numbers}<extra></extra>"}
