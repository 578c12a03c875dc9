"""Verdicts of claims: bands of differences become one of some fixed phrases, and a list shows all claims."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from labkit.base.errors import LabError, unknown
from labkit.base.html import WIDE, Html, table, tag
from labkit.base.kinds import kinds_checked
from labkit.base.registry import Registry
from labkit.base.stats import Band
from labkit.studies.expected import Expected

if TYPE_CHECKING:
    import pandas


NOT_TRIED, NOT_TESTED = "not tried", "not what was tested"
# What a band says of a claim under one condition, its sign, and the colour of its mark.
CONDITIONS = {
    "holds": ("\u2713", "#00766a"),
    "the opposite": ("\u2717", "#b3261e"),
    "no practical effect": ("=", "#757575"),
    "not distinguishable": ("?", "#757575"),
    "not testable at this scale": ("?", "#757575"),
}
_BANDS = {"better": "holds", "worse": "the opposite", "one seed: no band": "not testable at this scale"}
# What a verdict begins with, and its sign.
VERDICTS = {
    "holds": "\u2713",
    "true": "\u2713",
    "holds in part": "~",
    "true in part": "~",
    "mixed": "~",
    "does not hold": "\u2717",
    "false": "\u2717",
    "no practical effect": "=",
    "not distinguishable": "?",
    "not testable at this scale": "?",
    NOT_TESTED: "?",
}
UNITS = {"points of 1": "score, 0 to 1", "share of 1": "share, 0 to 1"}


class ClaimFinding(NamedTuple):
    """What was measured of a claim."""

    effects: Mapping[str, Band]  # by condition; above 0 where the sentence that was tested holds
    unit: str
    beside: str = ""  # further numbers, in one or more sentences
    expected: Mapping[str, Expected] = MappingProxyType({})  # by condition, what its grid expected before the runs
    fits: bool = True  # whether the sentence that was tested is the claim: a yes to one is a yes to the other
    answers: Mapping[str, bool] = MappingProxyType({})  # of a claim that is true or false whatever the size of an effect: by case

    @property
    def measured(self) -> str:
        """The verdict of `judge` on the sentence that was tested."""
        return judge(self.effects)

    @property
    def verdict(self) -> str:
        """The verdict on the claim: that of `measured`, "true" or "false", or that something else was tested."""
        if self.answers:
            return true_or_false(self.answers)
        return self.measured if self.fits else NOT_TESTED

    def conditions(self) -> dict[str, str]:
        """What each condition says, in a word of `CONDITIONS`."""
        return {condition: word_of(effect) for condition, effect in self.effects.items()}


class Claim(NamedTuple):
    """A sentence about distillation, and how it is tested."""

    name: str
    text: str  # the sentence, as people say it
    measured: str  # the difference that is measured
    published: str  # results in the literature, with sources
    measure: Callable[[], ClaimFinding]
    on: str = "Atlas"  # or "SmolLM2": where it is measured
    tested: str = ""  # the sentence that the measurement tests, if it says more or less than the claim


_IN_ORDER = ("ways", "temperature", "capacity", "mismatch", "inheritance", "online", "imitation", "real", "speculation")
_PARTS = tuple(f"{__package__}.{part}" for part in _IN_ORDER)
CLAIMS = Registry("claim", Claim, "measure", *_PARTS)
TRIED = Registry("claim on a real model", lambda name, measure: measure, "measure", *_PARTS)  # effects have the sign of the claim's
claim, tried = CLAIMS.register, TRIED.register


def word_of(effect: Band) -> str:
    """What a band says under its condition: a word of `CONDITIONS`."""
    return _BANDS.get(effect.verdict, effect.verdict)


def judge(effects: Mapping[str, Band]) -> str:
    """The verdict on a sentence.

    effects: bands by condition, above 0 where the sentence holds.

    Returns "holds" if it holds under all conditions, "holds in part" if it holds under some, "mixed" if the opposite holds under others;
    "does not hold" if it holds under none and at least one band shows so; otherwise what all bands say. Of several conditions the verdict
    says how many there are of each kind. Raises `LabError` without any effect.
    """
    if not effects:
        raise LabError("a claim without a measured effect has no verdict: give at least one condition.")
    n, found = len(effects), Counter(map(word_of, effects.values()))
    if len(found) == 1:
        (word,) = found
        under = "" if n == 1 else f" under {'both' if n == 2 else f'all {n}'} conditions"
        return f"{'does not hold: ' * (word == 'the opposite')}{word}{under}"
    kind = _kind(found)
    counts = [f"{word} under {found[word]}" for word in CONDITIONS if found[word]]
    counts[0] += f" of {n} conditions"
    return f"{kind}: {', '.join(counts).removeprefix('holds ' if kind == 'holds in part' else '')}"


def _kind(found: Counter[str]) -> str:
    if found["holds"]:
        return "mixed" if found["the opposite"] else "holds in part"
    return "does not hold" if found["the opposite"] or found["no practical effect"] else "not distinguishable"


def true_or_false(answers: Mapping[str, bool]) -> str:
    """The verdict on a claim that is true or false in each of some cases."""
    if len(set(answers.values())) == 1:
        return "true" if all(answers.values()) else "false"
    of = {which: " and ".join(case for case, answer in answers.items() if answer is which) for which in (True, False)}
    return f"true in part: of {of[True]}, not of {of[False]}"


class Claims:
    """Claims with their verdicts. A notebook shows a list, with the numbers folded; `.table()` and `.effects()` are DataFrames."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.found = {name: CLAIMS[name].measure() for name in names or CLAIMS}
        self.real = {name: TRIED[name]() for name in self.found if name in TRIED}

    def table(self) -> pandas.DataFrame:
        """One row for each claim: its verdict, the sentence that was tested with its verdict, and the verdict on SmolLM2."""
        import pandas

        return pandas.DataFrame(
            {
                "claim": CLAIMS[name].text,
                "verdict": finding.verdict,
                "tested": CLAIMS[name].tested or CLAIMS[name].text,
                "Atlas": finding.measured if CLAIMS[name].on == "Atlas" else NOT_TRIED,
                "SmolLM2": self.on_smollm2(name),
            }
            for name, finding in self.found.items()
        )

    def effects(self) -> pandas.DataFrame:
        """One row for each claim and condition: the difference, its band, and what it says."""
        import pandas

        return pandas.DataFrame(
            {"claim": name, "on": on, "condition": condition, **effect._asdict(), "says": word_of(effect)}
            for name, finding in self.found.items()
            for on, one in ((CLAIMS[name].on, finding), ("SmolLM2", self.real.get(name)))
            if one
            for condition, effect in one.effects.items()
        )

    def on_smollm2(self, name: str) -> str:
        """The verdict on what was tested on SmolLM2, or that nothing was."""
        if CLAIMS[name].on == "SmolLM2":
            return self.found[name].measured
        return self.real[name].measured if name in self.real else NOT_TRIED

    def _repr_html_(self) -> str:
        return tag("div", *(self._shown(name) for name in self.found), style=WIDE)

    def _shown(self, name: str) -> Html:
        entry, finding, real = CLAIMS[name], self.found[name], self.real.get(name)
        claim = tag("strong", f"{sign(finding.verdict)} {entry.text}")
        head = tag("summary", claim, tag("div", told(entry, finding)), tag("div", *map(_chip, finding.conditions().items())))
        rows = [_cells(condition, effect, finding) for condition, effect in finding.effects.items()]
        parts = [tag("p", f"Measured on {entry.on} ({UNITS.get(finding.unit, finding.unit)}): {entry.measured}."), _numbers(rows)]
        parts += [tag("p", plain(finding.beside))] if finding.beside else []
        if real:
            parts += [tag("p", f"On SmolLM2: {real.measured}. Measured: {real.unit}. {plain(real.beside)}")]
            parts += [_numbers([_cells(condition, effect, real) for condition, effect in real.effects.items()])]
        return tag("details", head, *parts, tag("p", f"Published: {entry.published}."), style="margin:6px 0;line-height:1.5")

    def __repr__(self) -> str:
        return "\n".join(
            f"{sign(finding.verdict)} {CLAIMS[name].text}\n{textwrap.indent(textwrap.fill(told(CLAIMS[name], finding), 96), '    ')}"
            for name, finding in self.found.items()
        )


@kinds_checked
def claims(*names: str) -> Claims:
    """Claims with their verdicts, from the records and measurements that ship with the lab; that of "heads" is from cited trainers.

    names: of the claims, as `labkit.catalogue("claims")` lists them. Without any, all.

    Raises `LabError` for an unknown claim.
    """
    if strange := [name for name in names if not isinstance(name, str)]:
        raise unknown("claim", strange[0], CLAIMS)
    return Claims(names)


def told(entry: Claim, finding: ClaimFinding) -> str:
    """The verdict on a claim in one or two sentences, with what was tested if that is another sentence."""
    verdict = f"{finding.verdict[0].upper()}{finding.verdict[1:]}."
    if not entry.tested:
        return verdict
    also = "" if finding.verdict == finding.measured else f" This {_said(finding.measured)}."
    return f"{verdict} Tested: {entry.tested}{also}"


def _said(verdict: str) -> str:
    return f"is {verdict}" if verdict.startswith(("not", "mixed")) else f"has {verdict}" if verdict.startswith("no ") else verdict


def sign(verdict: str) -> str:
    """The sign of a verdict."""
    return VERDICTS[verdict.partition(":")[0].partition(" under ")[0]]


def plain(text: str) -> str:
    """A finding's further numbers for readers: signs as minus, and bands in words."""
    return re.sub(r"(?<!\w)-(?=\d)", "\u2212", text.replace("(better)", "(above 0)").replace("(worse)", "(below 0)"))


def difference(condition: str, effect: Band, finding: ClaimFinding) -> str:
    """A difference with its band, and what its grid expected."""
    also = f"; expected {finding.expected[condition]}" if condition in finding.expected else ""
    return plain(f"{effect.middle:+.3f} ({effect.low:+.3f} to {effect.high:+.3f}){also}")


def _cells(condition: str, effect: Band, finding: ClaimFinding) -> tuple[str, str, int, str]:
    return condition, difference(condition, effect, finding), effect.n, word_of(effect)


def _numbers(rows: Sequence[tuple[str, str, int, str]]) -> Html:
    return table(("condition", "difference (band)", "n", "says"), rows)


def _chip(condition: tuple[str, str]) -> Html:
    name, word = condition
    mark, colour = CONDITIONS[word]
    look = f"display:inline-block;border:1px solid {colour};border-left-width:5px;border-radius:4px;padding:0 6px;margin:2px 6px 2px 0"
    return tag("span", f"{mark} {name}", title=word, aria_label=f"{name}: {word}", style=look)
