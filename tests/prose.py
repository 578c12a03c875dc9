"""Numbers in prose, and where each comes from.

A Markdown cell or document says of every number in it what it is, in comments that a reader of the page does not see:

    Ten times smaller recovers 0.55 (band 0.48 to 0.62), where the literature has 60 to 80%.

    <!-- numbers
    0.55 0.48 0.62 = recovered("sizes", "284k")
    60 80% : cited arXiv 1503.02531
    -->

A block binds the numbers between the block before it (or the beginning) and itself, in their order. A line is one of

    NUMBERS = EXPRESSION     worked out by a test, with the names of `tests/sources.py`; rounded as printed, it must agree
    NUMBERS : chosen         a setting that the text repeats: it stands in the code of the same notebook or document
    NUMBERS : cited SOURCE   somebody else's number

A line that begins with a space goes on with the line before. No number: code, formulas, targets of links, quoted text, names such as 57k,
years, arXiv's numbers, the numbers of lessons, the 95% of a band, licences, and whole numbers below 10.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = re.compile(r"<!-- numbers\n(.*?)\n?-->", re.S)
NO_PROSE = re.compile(
    r"<!--.*?-->|```.*?```|``.*?``|`[^`\n]*`|\$\$.*?\$\$|\$(?!\d+\.?\d*\s)[^$\n]*\$|\]\([^)]*\)|https?://\S+|<[a-zA-Z/][^>]*>"
    r"|(?<![\d.])\"[^\"\n]*(?:\n[^\"\n]+)?\"|“[^”]*”|arXiv:? ?\d+\.\d+|\b(?:19|20)\d\d\b(?![,.]\d|%|\s+[a-z])"
    r"|\b95%(?=\s+(?:bands?|t-intervals?|intervals?)\b)|(?<![.,])\b0\d\b(?!\.)|\b[Ll]essons? \d+(?:(?:,| and| or) \d+)*"
    r"|\[\d\d (?=[^\]]*\]\((?:\.\./)?notebooks/)|\bApache-2\.0|\b(?:CC BY|Attribution) \d\.\d|\bSHA-256|^ {4}(?![-*+]|\d+\. )\S[^\n]*$",
    re.S | re.M,
)
UNITS = "ms|s|kB|MB|GB|KiB|MiB|GiB|x|×"  # may stand right behind a number; any other letter makes a name of it, such as 57k
NUMBER = re.compile(
    rf"(?<![^\W_])(?<![.\d])(?:(?<![\w)])[−+-])?(?>(?:\d{{1,3}}(?:,\d{{3}})+|\d+)?(?:(?:(?<=\d)|(?<![\w,]))\.\d+)?(?:(?<=\d)e[-−]?\d+)?)(?<=\d)"
    rf"(?:%|(?=(?:{UNITS})(?![^\W_]))|(?![^\W_]))"
)
CITED = re.compile(r"arXiv|doi|https?://|\b(?:19|20)\d\d\b(?!\s+[a-z])")


class Bound(NamedTuple):
    """A line of a block: the numbers as printed, and `=`, `chosen` or `cited` with what it says."""

    printed: list[str]
    how: str
    what: str


class Part(NamedTuple):
    """A piece of prose up to the end of its block, and the code beside it."""

    where: str
    text: str
    bound: list[Bound]
    code: str


def parts(path: Path) -> Iterator[Part]:
    """The prose of a notebook or a Markdown document, piece by piece."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for number, cell in enumerate(cells):
            if cell["cell_type"] == "markdown":
                yield from _split(f"{path.name}, cell {number}", "".join(cell["source"]), code)
    else:
        text = path.read_text(encoding="utf-8")
        yield from _split(path.name, text, "\n".join(re.findall(r"```.*?```|`[^`\n]*`", BLOCK.sub("", text), re.S)))


def _split(where: str, text: str, code: str) -> Iterator[Part]:
    *pieces, rest = BLOCK.split(text)
    for prose, block in zip(pieces[::2], pieces[1::2], strict=True):
        yield Part(where, prose, list(_lines(where, block)), code)
    yield Part(where, rest, [], code)


def _lines(where: str, block: str) -> Iterator[Bound]:
    for line in re.sub(r"\n[ \t]+", " ", block).splitlines():
        found = re.fullmatch(r"(\S.*?) (?:= (?P<expression>.+)|: (?P<how>chosen|cited)(?P<source>.*))", line)
        assert found, f"{where}: {line!r} is none of NUMBERS = EXPRESSION, NUMBERS : chosen, NUMBERS : cited SOURCE."
        yield Bound(found[1].split(), found["how"] or "=", (found["expression"] or found["source"]).strip())


def blanked(text: str) -> str:
    """The text with what is no prose written over with spaces, so that places stay."""
    return NO_PROSE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def numbers(text: str) -> Iterator[tuple[int, str]]:
    """Where each number that needs a source begins in a text, and how it is printed."""
    for found in NUMBER.finditer(blanked(text)):
        printed = found[0].rstrip(",")
        if not re.fullmatch(r"[−+-]?\d", printed):
            yield found.start(), printed


def sentence(text: str, place: int) -> str:
    """The sentence (or row of a table) around a place."""
    begin = max(text.rfind(mark, 0, place) + len(mark) for mark in (". ", ".\n", "? ", ": ", "\n\n", "\n|", "|\n", "\n- ")) if place else 0
    ends = [end for mark in (". ", ".\n", "\n\n", "|\n") if (end := text.find(mark, place)) >= 0]
    return " ".join(text[begin : min(ends, default=len(text)) + 1].split())


def rounds_to(printed: str, value: float) -> bool:
    digits = len(printed.rstrip("%").partition("e")[0].partition(".")[2]) + 2 * printed.endswith("%")
    digits -= int(printed.replace("−", "-").partition("e")[2] or 0)
    return abs(_value(printed) - value) <= 0.5000001 * 10**-digits


def _value(printed: str) -> float:
    return float(printed.rstrip("%").replace(",", "").replace("−", "-")) / (100 if printed.endswith("%") else 1)


def faults(part: Part, names: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a piece of prose: each number that is bound to nothing, and each that is not what its source says."""
    told = list(numbers(part.text))
    listed = [printed for line in part.bound for printed in line.printed]
    if [printed for _, printed in told] != listed:
        missing = next(
            (i for i, (have, want) in enumerate(zip(told, listed, strict=False)) if have[1] != want), min(len(told), len(listed))
        )
        place = f"“{sentence(part.text, told[missing][0])}”" if missing < len(told) else "the end"
        yield f"{part.where}: at {place} the text has {[n for _, n in told[missing:]]}, its block has {listed[missing:]}."
        return
    place = iter(told)
    for line in part.bound:
        at = [next(place)[0] for _ in line.printed]
        says = f"{part.where}: “{sentence(part.text, at[0])}” says"
        if line.how == "chosen":
            for printed in line.printed:
                plain = printed.lstrip("+−-").rstrip("%").replace(",", "")
                code = re.sub(r"(?<=\d)[_,](?=\d{3}(?!\d))", "", part.code)
                if not re.search(rf"(?<![\d.]){re.escape(plain)}(?![\d]|\.\d)", code):
                    yield f"{says} {printed} is chosen, but no code of this document has {plain}."
        elif line.how == "cited":
            if not CITED.search(line.what):
                yield f"{says} {line.printed} is cited, but names no source with a year, arXiv number, DOI or address."
        else:
            yield from _worked_out(line, says, names)


def _worked_out(line: Bound, says: str, names: Mapping[str, Any]) -> Iterator[str]:
    tree = ast.parse(line.what, mode="eval")
    if not any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(tree)):
        yield f"{says} {line.printed} is {line.what}, which reads nothing that was measured."
        return
    values = list(_flat(eval(compile(tree, "<source>", "eval"), dict(names))))
    if len(values) != len(line.printed):
        yield f"{says} {line.printed}, {len(line.printed)} numbers; {line.what} gives {values}."
        return
    for printed, value in zip(line.printed, values, strict=True):
        if not rounds_to(printed, float(value)):
            yield f"{says} {printed}, but {line.what} is {float(value):.6g}."


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, Iterable):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value
