"""The token line: one text whose tokens are coloured by a number, with every number under the pointer and in a table below.

Colours are transparent, for light and dark pages, and never the only mark: the line below a token grows with its number. A token can be
reached with the Tab key, and says its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from labkit.base.html import WIDE, Html, tag
from labkit.views.figures.token_table import Cuts

HUE, STRONGEST = (204, 121, 0), 0.45  # the colour of the largest number, and its opacity: text on it can be read on any page
THICKEST = 4  # pixels, of the line below it
STYLE = f"""
.dlab-marked {{ line-height: 2; {WIDE}; color: inherit }}
.dlab-marked > span {{ position: relative; white-space: pre-wrap; border-bottom: 0 solid currentColor; padding-bottom: 1px }}
.dlab-marked > span:focus-visible {{ outline: 2px solid currentColor; outline-offset: 1px }}
.dlab-marked > span > span {{ display: none; position: absolute; left: 0; top: 1.6em; z-index: 9; width: max-content; max-width: 44ch;
  padding: 4px 8px; border: 1px solid; line-height: 1.4; white-space: pre-line; background: Canvas; color: CanvasText }}
.dlab-marked > span:hover > span, .dlab-marked > span:focus > span {{ display: block }}
"""


class Marked(NamedTuple):
    """A token of the line."""

    text: str
    says: str  # its numbers in words
    share: float  # of the strongest colour, 0 to 1


def token_line(title: str, before: str, tokens: Sequence[Marked], key: str, table: Html) -> Cuts:
    """Make the line.

    title: its name for a screen reader.
    before: text that the tokens follow, which is shown without colour.
    key: what the colour stands for.
    table: the numbers of all tokens.
    """
    marked = [_token(token) for token in tokens]
    line = tag("div", tag("i", before), *marked, class_="dlab-marked", role="group", aria_label=title)
    words = tag("details", tag("summary", "All numbers as a table"), tag("div", table, style="overflow-x:auto"))
    page = tag("div", tag("style", Html(STYLE)), line, tag("small", key), words, style="line-height:1.35;max-width:100%")
    return Cuts(page, f"{title}. {key} {' '.join(token.says.replace(chr(10), '; ') + '.' for token in tokens)}")


def tint_of(share: float) -> str:
    """The colour of a number, as CSS."""
    return f"rgba({','.join(map(str, HUE))},{STRONGEST * share:.2f})"


def _token(token: Marked) -> Html:
    look = f"background:{tint_of(token.share)};border-bottom-width:{THICKEST * token.share:.0f}px"
    tip = tag("span", token.says, aria_hidden="true")
    return tag("span", token.text.replace("\n", "\u23ce\n"), tip, tabindex="0", role="img", aria_label=token.says, style=look)
