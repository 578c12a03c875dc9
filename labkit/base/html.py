"""HTML whose text is always escaped, and the table that all results are shown in. And text of others in Markdown, where nothing of it is
markup.

tag("p", "1 < 2 & ", tag("b", "true"), role="status")   # <p role="status">1 &lt; 2 &amp; <b>true</b></p>
table(["recipe", "mean skill"], [["warm", 0.71234]], caption="Two seeds")
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

WIDE = "max-width:78ch"  # for running text
_PLAIN = r'<span class="tex2jax_ignore mathjax_ignore">\g<0></span>'  # JupyterLab and Colab read text between two of them as a formula
_CELL = "text-align:{};vertical-align:top;line-height:1.35;padding:2px 14px 2px 0"


class Html(str):
    """Text that is HTML already and is not escaped again. Other text is escaped when it is added."""

    def __add__(self, other: Any) -> Html:
        return Html(str(self) + _escaped(other))


def _escaped(part: Any) -> str:
    return str(part) if isinstance(part, Html) else re.sub(r"[$\\]", _PLAIN, html.escape(str(part)))


def tag(name: str, *inside: Any, **attributes: Any) -> Html:
    """An element.

    inside: its content; escaped unless it is `Html`.
    attributes: always escaped, and left out if empty; `class_` and `aria_label` become class and aria-label.
    """
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items() if value)
    return Html(f"<{name}{given}>{''.join(map(_escaped, inside))}</{name}>")


def code_span(text: object) -> str:
    """A text as a code span of Markdown, on one line: nothing in it becomes a link, a picture or HTML, and no bare address a link."""
    line = " ".join(str(text).splitlines())
    marks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))  # longer than any run of backticks in it
    return f"{marks} {line} {marks}" if "`" in line else f"{marks}{line}{marks}"


def with_code(text: str) -> Html:
    """A text whose parts in backticks are shown as code, and all of it escaped. A backtick without a partner stays."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = [f"{parts[-2]}`{parts[-1]}"]
    return Html("".join(tag("code", part) if i % 2 else _escaped(part) for i, part in enumerate(parts)))


def listed(items: Iterable[Any], kind: str = "ul", **attributes: Any) -> Html:
    """A list of items: `kind` is "ul", or "ol" if the order counts."""
    return tag(kind, *(tag("li", item) for item in items), **attributes)


def note(text: Any, role: str = "status") -> Html:
    """A message that a screen reader announces: `role` is "status" or "alert". Returns nothing for an empty text."""
    return tag("div", text, role=role, style=f"line-height:1.35;{WIDE}") if text else Html()


def table(columns: Sequence[Any], rows: Iterable[Iterable[Any]], caption: str = "", digits: int = 3, **attributes: Any) -> Html:
    """A table. The first cell of a row is its header, also for a screen reader. None and NaN are shown as empty cells.

    rows: cells in the order of `columns`; text is escaped, `Html` is not.
    caption: the table's title.
    digits: decimals of a float.
    """

    def cell(kind: str, value: Any, scope: str = "") -> Html:
        side = "right" if isinstance(value, float | int) and not isinstance(value, bool) else "left"
        shown = "" if value is None or value != value else f"{value:.{digits}f}" if isinstance(value, float) else value
        return tag(kind, shown, scope=scope, style=_CELL.format(side))

    head = tag("thead", tag("tr", *(cell("th", name, "col") for name in columns)))
    body = [tag("tr", *(cell("td", x) if i else cell("th", x, "row") for i, x in enumerate(row))) for row in rows]
    title = [tag("caption", caption, style=_CELL.format("left"))] if caption else []
    return tag("table", *title, head, tag("tbody", *body), **attributes)
