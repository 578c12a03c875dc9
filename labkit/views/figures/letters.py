"""How much room a text takes, in inches, so that charts leave that much, and break long texts into lines.

wide("label budget baseline", 9)                # 1.5
wrapped("the teacher's answers, 330 steps", 1.2, 9)
"""

from __future__ import annotations

import functools
from typing import Any

FONT = "DejaVu Sans"  # comes with matplotlib, so a figure is the same everywhere
LEADING = 1.3  # height of a line, in font sizes: plotly's, whose lines are higher than matplotlib's


DPIS = (100, 144, 720)  # of notebooks, of saved pictures, and of paths: letters are rounded to pixels, and wider in one than in another


@functools.cache
def _scales() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    return [RendererAgg(8, 8, dpi) for dpi in DPIS]


@functools.lru_cache(maxsize=4096)
def wide(text: str, size: float, bold: bool = False) -> float:
    """The width of a text in inches, of its longest line, at most: in whichever picture it is widest.

    size: of the letters, in points.
    """
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
    lines = text.split("\n")
    return max(max(scale.get_text_width_height_descent(line or " ", font, False)[0] for line in lines) / scale.dpi for scale in _scales())


def tall(text: str, size: float) -> float:
    """The height of a text in inches."""
    return (text.count("\n") + 1) * LEADING * size / 72


def wrapped(text: str, room: float, size: float, bold: bool = False) -> str:
    """The text in lines of at most `room` inches, broken between words, or within one that is wider than that."""
    lines = [""]
    for word in text.replace("\n", " ").split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if wide(joined, size, bold) <= room:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and wide(lines[-1] + letter, size, bold) > room:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)
