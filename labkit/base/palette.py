"""The colours of the lab. One colour has one meaning, on the board, in figures and in tables, on light and on dark pages.

    PALETTE["student"], PALETTE["student"].dark     # on light and on dark paper
    tint(PALETTE["student"], 0.3)                   # mixed with the paper, on both
    css(".my-box")                                  # style sheet: --dlab-student and the others for that box, light and dark

Teacher, student, baseline, truth and alarm can be told apart without red-green vision: their lightness differs too. Where they stand side
by side, teacher and student also have shapes (`SHAPES`). views/board/board.css has the same colours; a test compares them.
"""

from __future__ import annotations

import re

TWINS: dict[str, str] = {}  # light to dark, of every colour that was made


class Colour(str):
    """The code of a colour on light paper, such as "#6b3fa0", and in `dark` its code on dark paper."""

    dark: str

    def __new__(cls, light: str, dark: str) -> Colour:
        made = super().__new__(cls, light)
        made.dark = TWINS[light] = dark
        return made

    def __reduce__(self) -> tuple[type[Colour], tuple[str, str]]:  # for copies, which plotly makes
        return Colour, (str(self), self.dark)


PALETTE = {
    "teacher": Colour("#3f088f", "#e0cbff"),
    "student": Colour("#0a78c9", "#3988ff"),
    "baseline": Colour("#b75b00", "#ff9e27"),
    "truth": Colour("#0f7b6e", "#a6ffc5"),
    "alarm": Colour("#7e0b0d", "#ca797b"),
    "ghost": Colour("#868f9a", "#7d8691"),
}
SHAPES = {"teacher": "D", "student": "o", "baseline": "s", "truth": "^", "alarm": "X", "ghost": "v"}  # diamond, circle, square, triangles
GLYPHS = {"teacher": "\u25c6", "student": "\u25cf", "baseline": "\u25a0", "truth": "\u25b2", "alarm": "\u2716", "ghost": "\u25bc"}
PAPER, INK, MUTED = Colour("#ffffff", "#111111"), Colour("#1b1f24", "#e8eaed"), Colour("#59626d", "#a3acb7")
HAIR, HATCH = Colour("#e3e6ea", "#2e343b"), Colour("#c3c9d0", "#4a525b")

# Pages with a dark theme: JupyterLab and Notebook, VS Code, Colab and sites with a switch of their own; others follow the system.
_DARK = (
    'body[data-jp-theme-light="false"]',
    "body.vscode-dark",
    "body.vscode-high-contrast:not(.vscode-high-contrast-light)",
    "html[theme=dark]",
    "html[data-theme=dark]",
)
_UNNAMED = "html:not([theme],[data-theme]) body:not([data-jp-theme-light],[class*=vscode-])"


def tint(colour: Colour, share: float) -> Colour:
    """The colour mixed with that of the paper: it is opaque, so nothing below it shows.

    share: of the colour, 0 to 1.
    """
    return Colour(_mixed(colour, PAPER, share), _mixed(colour.dark, PAPER.dark, share))


def shade(colour: Colour, share: float) -> Colour:
    """The colour of a cell with a number in it, which can be read at any share.

    share: of the strongest shade, 0 to 1.
    """
    return tint(colour, 0.06 + 0.44 * share)


def _mixed(colour: str, paper: str, share: float) -> str:
    return "#" + "".join(f"{round(share * c + (1 - share) * p):02x}" for c, p in zip(_parts(colour), _parts(paper), strict=True))


def _parts(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def darkened(text: str) -> str:
    """A picture in SVG with each colour of the lab replaced by its twin on dark paper."""
    return re.sub("#[0-9a-f]{6}", lambda found: TWINS.get(found[0], found[0]), text)


def on_dark_pages(selector: str, rules: str) -> str:
    """CSS: the rules for what the selector finds, on pages with a dark theme, but not on printed paper."""
    named = ", ".join(f"{page} {selector}" for page in _DARK)
    others = f"@media screen and (prefers-color-scheme: dark) {{ {_UNNAMED} {selector} {{ {rules} }} }}"
    return f"@media screen {{ {named} {{ {rules} }} }} {others}"


def css(selector: str) -> str:
    """CSS that gives what the selector finds the variables --dlab-teacher, --dlab-student, and so on, for light and for dark pages."""
    named = {**PALETTE, "muted": MUTED, "hair": HAIR}
    light = "; ".join(f"--dlab-{role}: {colour}" for role, colour in named.items())
    dark = "; ".join(f"--dlab-{role}: {colour.dark}" for role, colour in named.items())
    return f"{selector} {{ {light} }} {on_dark_pages(selector, dark)}"
