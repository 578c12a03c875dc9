"""The token table: one text in the teacher's and in the student's tokens, the spans that both share, and a number for each span.

It is a table, not a picture, so it can be read aloud, copied and enlarged. Colours are never the only mark, and they are transparent, for
light and dark pages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from labkit.base.errors import LabError
from labkit.base.html import Html, tag
from labkit.base.palette import css

TALLEST = 36  # pixels, of the bar of the largest number
END_NAME = "end \u23ce"
_EDGE = {"shared": "2px solid", "inner": "1px dotted"}
_TINT = {"": "transparent"} | {role: f"color-mix(in srgb, var(--dlab-{role}) 16%, transparent)" for role in ("teacher", "student")}


@dataclasses.dataclass(frozen=True)
class Cuts:
    """A table of two tokenizations of one text."""

    page: str  # HTML
    alt: str  # the same in a sentence

    def __repr__(self) -> str:
        return f"Cuts({self.alt!r})"

    def _repr_html_(self) -> str:
        return self.page


def shown(token: bytes) -> str:
    """A token for display (not escaped): spaces are marked, the end token has a name, part of a character is shown by its bytes."""
    if not token:
        return END_NAME
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return " ".join(f"{byte:02X}" for byte in token)
    return "".join("\u2423" if letter == " " else letter if letter.isprintable() else f"U+{ord(letter):04X}" for letter in text)


def cuts(
    title: str, teacher: Sequence[bytes], student: Sequence[bytes], spans: Sequence[tuple[range, range]], values: Sequence[float], name: str
) -> Cuts:
    """Make the table.

    teacher, student: the tokens of the text in both vocabularies, as bytes.
    spans: for each span, the numbers of its tokens on both sides.
    values: one number for each span.
    name: what the values are.

    Raises `LabError` unless there is one value for each span, and the spans have every token once.
    """
    held = [[i for span in spans for i in span[side]] for side in (0, 1)]
    if len(values) != len(spans) or held != [list(range(len(teacher))), list(range(len(student)))]:
        problem = f"{len(spans)} spans with {len(values)} values do not hold each token once"
        raise LabError(f"{problem}: take them from `labkit.losses.cross_tokenizer.spans.spans`.")
    largest = max([*(abs(v) for v in values), 1e-9])
    widths = [sum(len(teacher[i]) or 1 for i in span[0]) for span in spans]
    rows = [
        _row("teacher", [[(shown(teacher[i]), len(teacher[i]) or 1) for i in span[0]] for span in spans], "teacher"),
        _row("student", [[(shown(student[i]), len(student[i]) or 1) for i in span[1]] for span in spans], "student"),
        _row("shared span", [[(f"{len(a)} : {len(b)}", width)] for (a, b), width in zip(spans, widths, strict=True)], ""),
        _row(name, [[(_bar(value, largest), width)] for value, width in zip(values, widths, strict=True)], ""),
    ]
    single = sum(len(a) == len(b) == 1 for a, b in spans)
    parts = "; ".join(
        f"{' + '.join(shown(teacher[i]) for i in a)} against {' + '.join(shown(student[i]) for i in b)}: {value:.3f}"
        for (a, b), value in zip(spans, values, strict=True)
    )
    many = f"{len(teacher)} tokens against {len(student)}, {len(spans)} shared {'span' if len(spans) == 1 else 'spans'}"
    many += f", {single} of one token on either side"
    alt = f"{title}: {many}. {name[0].upper()}{name[1:]}: {parts}."
    head = tag("div", tag("b", title), f" \u00a0 {many}", style="padding-bottom:6px")
    note = "solid line: both cut here; dotted: one side alone; 1 : 2, one token of the teacher's against two of the student's"
    look = "color:inherit;border-collapse:collapse;font-variant-numeric:tabular-nums;margin:0"
    table = tag("div", tag("table", tag("tbody", *rows), aria_label=title, style=look), style="overflow-x:auto")
    colours = tag("style", Html(css(".dlab-cuts")))
    return Cuts(
        tag(
            "div",
            colours,
            head,
            table,
            tag("small", note, style="opacity:.75"),
            class_="dlab-cuts",
            style="line-height:1.35;max-width:100%",
        ),
        alt,
    )


def _bar(value: float, largest: float) -> Html:
    look = f"display:block;width:14px;height:{TALLEST * abs(value) / largest:.0f}px;margin:0 auto;background:currentColor;opacity:.6"
    return Html(f"{tag('span', aria_hidden='true', style=look)}{value:.2f}")


def _row(name: str, groups: Sequence[Sequence[tuple[str, int]]], role: str) -> Html:
    """One row of cells. Each is as many columns wide as it has bytes, so the tokens of both sides line up."""
    cells = []
    for group in groups:
        for place, (text, width) in enumerate(group):
            left, right = _EDGE["inner" if place else "shared"], _EDGE["shared" if place == len(group) - 1 else "inner"]
            style = (
                f"border-left:{left};border-right:{right};background:{_TINT[role]};text-align:center;vertical-align:bottom;padding:3px 5px"
            )
            cells.append(tag("td", text, colspan=width, style=f"{style};white-space:nowrap"))
    look = "text-align:right;vertical-align:bottom;padding:3px 8px 3px 0;font-weight:600;white-space:nowrap"
    return tag("tr", tag("th", name, scope="row", style=look), *cells, style="border-bottom:1px solid rgba(128,128,128,.35)")
