"""The text lens: one text, coloured token by token by what teacher and student say of it.

labkit.lens("text", "atlas-3m", student, ("What is the capital of Chad?", "N'Djamena"))     # the answer, by two models
labkit.lens("text", "./teacher", "./student")                                               # the teacher's own answer
labkit.lens("text", row, "./student")                    # a row of `labkit label --logprobs 5`, beside a student on the same tokens
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ipywidgets as widgets

from labkit.base.html import Html, table, tag
from labkit.views import figures
from labkit.views.figures.token_line import Marked, token_line
from labkit.views.figures.token_table import END_NAME, shown
from labkit.views.lenses.base import STYLE, WIDE, Lens
from labkit.views.lenses.reading import Reading, ReadToken, read_text


class Shade(NamedTuple):
    """What the colour of a token stands for."""

    value: Callable[[ReadToken], float | None]
    share: Callable[[float | None, float], float]  # of the strongest colour, of a value and the largest one in the text
    means: str  # of a stronger colour


class TextLens(Lens):
    """Control: what the colour is. Picture: the text, with all numbers of a token under the pointer, and as a table.

    Raises `LabError` as `read_text` does.
    """

    def __init__(self, teacher: Any = "atlas-3m", student: Any = None, text: str | Sequence[str] | None = None) -> None:
        self.reading = read_text(teacher, student, text)
        self._shades = _shades(self.reading)
        self.colour = widgets.Dropdown(options=list(self._shades), description="Colour", style=STYLE, layout=WIDE)
        super().__init__(self.colour)

    def look(self) -> tuple[figures.Cuts, str]:
        reading, shade = self.reading, self._shades[self.colour.value]
        values = [shade.value(token) for token in reading.tokens]
        largest = max((value for value in values if value is not None and math.isfinite(value)), default=0.0)
        marked = [
            Marked(f" {END_NAME}" if token.text == END_NAME else token.text, _says(reading, token), min(1.0, shade.share(value, largest)))
            for token, value in zip(reading.tokens, values, strict=True)
        ]
        title = f"{len(values)} tokens, coloured by {self.colour.value}"
        key = f"Stronger colour and thicker line: {shade.means}."
        return token_line(title, reading.before, marked, key, _table(reading)), _summary(reading)


def _shades(reading: Reading) -> dict[str, Shade]:
    """What a learner can choose, by name."""

    def nats(value: float | None, largest: float) -> float:
        return (value or 0.0) / max(1.0, largest)  # so that differences far below one nat stay pale

    def rank(value: float | None, largest: float) -> float:
        return 1.0 if value is None else math.log(value) / math.log(max(10.0, largest))

    def unlikely(value: float | None, largest: float) -> float:
        return 1 - (value or 0.0)

    def of(side: int, name: str) -> Callable[[ReadToken], float | None]:
        return lambda token: getattr(token.sides[side], name)

    shades = {}
    if len(reading.sides) > 1:
        shades["KL(teacher || student)"] = Shade(lambda token: token.kl, nats, "the student differs more from the teacher")
    for i, side in enumerate(reading.sides):
        shades[f"entropy of the {side}"] = Shade(of(i, "entropy"), nats, f"the {side} is less sure")
        shades[f"rank under the {side}"] = Shade(of(i, "rank"), rank, f"the {side} prefers more other tokens")
        shades[f"probability under the {side}"] = Shade(of(i, "probability"), unlikely, f"the {side} gives the token less")
    return shades


def _says(reading: Reading, token: ReadToken) -> str:
    """All numbers of a token in words, one side a line."""
    lines = [_name(token.text) + (f": KL {token.kl:.3f} nats" if token.kl is not None else "")]
    for side, seen in zip(reading.sides, token.sides, strict=True):
        rank = f"rank {seen.rank:,}" if seen.rank else "not among the recorded tokens"
        lines.append(f"{side}: probability {seen.probability:.3f}, {rank}, entropy {seen.entropy:.3f} nats; first {_choices(seen.first)}")
    return "\n".join(lines)


def _table(reading: Reading) -> Html:
    columns, two = ["token"], len(reading.sides) > 1
    columns += ["KL, nats"] * two
    for side in reading.sides:
        columns += [f"{side}: entropy, nats", f"{side}: rank", f"{side}: probability", f"{side}: first choices"]
    rows = []
    for number, token in enumerate(reading.tokens, 1):
        row: list[Any] = [f"{number}. {_name(token.text)}", *[token.kl] * two]
        for seen in token.sides:
            row += [seen.entropy, seen.rank or "not recorded", seen.probability, _choices(seen.first)]
        rows.append(row)
    return table(columns, rows, caption="Each token of the text")


def _summary(reading: Reading) -> Html:
    """The text in a sentence or two, as HTML."""
    kls = [token.kl for token in reading.tokens if token.kl is not None]
    parts = [f"{len(reading.tokens)} tokens."]
    if kls:
        worst = max(reading.tokens, key=lambda token: token.kl or 0.0)
        same = sum(token.sides[0].first[0][0] == token.sides[1].first[0][0] for token in reading.tokens)
        parts.append(f"KL(teacher || student): {sum(kls) / len(kls):.3f} nats a token, most at {_name(worst.text)} ({worst.kl:.3f}).")
        parts.append(f"Both choose the same token first at {same} of {len(kls)}.")
    return tag("span", " ".join([*parts, reading.note]).strip())


def _choices(first: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{_name(text)} {chance:.2f}" for text, chance in first)


def _name(text: str) -> str:
    """A token for display; see `shown`."""
    return text if text == END_NAME else shown(text.encode(errors="replace"))
