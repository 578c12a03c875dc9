"""Verdicts of claims: bands of differences become one of some fixed phrases, and a table shows all claims."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from labkit.base.errors import LabError
from labkit.base.html import table
from labkit.base.kinds import kinds_checked
from labkit.base.registry import Registry
from labkit.base.stats import Band
from labkit.studies.expected import Expected

if TYPE_CHECKING:
    import pandas


NOT_TRIED = "not tried"


class ClaimFinding(NamedTuple):
    """What was measured of a claim."""

    effects: Mapping[str, Band]  # by condition; above 0 where the claim holds
    unit: str
    beside: str = ""  # further numbers, in one or more sentences
    expected: Mapping[str, Expected] = MappingProxyType({})  # by condition, what its grid expected before the runs

    @property
    def verdict(self) -> str:
        """The verdict of `judge`."""
        return judge(self.effects)


class Claim(NamedTuple):
    """A sentence about distillation, and how it is tested."""

    name: str
    text: str  # the sentence, as people say it
    measured: str  # the difference that is measured
    published: str  # results in the literature, with sources
    measure: Callable[[], ClaimFinding]
    on: str = "Atlas"  # or "SmolLM2": where it is measured


_IN_ORDER = ("ways", "temperature", "capacity", "mismatch", "inheritance", "online", "imitation", "real", "speculation")
_PARTS = tuple(f"{__package__}.{part}" for part in _IN_ORDER)
CLAIMS = Registry("claim", Claim, "measure", *_PARTS)
TRIED = Registry("claim on a real model", lambda name, measure: measure, "measure", *_PARTS)  # effects have the sign of the claim's
claim, tried = CLAIMS.register, TRIED.register


def judge(effects: Mapping[str, Band]) -> str:
    """The verdict on a claim.

    effects: bands by condition, above 0 where the claim holds.

    Returns "holds" if it holds under all conditions, "holds when: ..." with the conditions if it holds under some; otherwise "no practical
    effect", "does not hold", "not distinguishable" or "not testable at this scale". Raises `LabError` without any effect.
    """
    if not effects:
        raise LabError("a claim without a measured effect has no verdict: give at least one condition.")
    verdicts = {condition: effect.verdict for condition, effect in effects.items()}
    better, worse = ([condition for condition, verdict in verdicts.items() if verdict == which] for which in ("better", "worse"))
    if len(better) == len(verdicts):
        return "holds"
    if better:
        return f"holds when: {'; '.join(better)}" + (f" (the opposite when: {'; '.join(worse)})" if worse else "")
    if all(verdict == "no practical effect" for verdict in verdicts.values()):
        return "no practical effect"
    if worse or "no practical effect" in verdicts.values():
        return "does not hold"
    return "not distinguishable" if "not distinguishable" in verdicts.values() else "not testable at this scale"


class Claims:
    """The table of all verdicts: as a DataFrame (`.table()`), as Markdown (`.markdown()`), or in a notebook."""

    def __init__(self) -> None:
        self.found = {name: entry.measure() for name, entry in CLAIMS.items()}
        self.real = {name: measure() for name, measure in TRIED.items()}

    def table(self) -> pandas.DataFrame:
        import pandas

        return pandas.DataFrame(self._rows())

    def markdown(self) -> str:
        rows = self._rows()
        lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        return "\n".join(lines + ["| " + " | ".join(row.values()) + " |" for row in rows]) + "\n"

    def _rows(self) -> list[dict[str, str]]:
        return [
            {
                "claim": CLAIMS[name].text,
                "Atlas": finding.verdict if CLAIMS[name].on == "Atlas" else NOT_TRIED,
                "measured": f"{CLAIMS[name].measured}, {_all(finding)}",
                "SmolLM2": self._on_smollm2(name),
                "published": CLAIMS[name].published,
            }
            for name, finding in self.found.items()
        ]

    def _on_smollm2(self, name: str) -> str:
        if CLAIMS[name].on == "SmolLM2":
            return self.found[name].verdict
        return f"{self.real[name].verdict}. {_all(self.real[name])}" if name in self.real else NOT_TRIED

    def _repr_html_(self) -> str:
        rows = self._rows()
        return table(list(rows[0]), [row.values() for row in rows])

    def __repr__(self) -> str:
        return "\n".join(f"{finding.verdict:24} {CLAIMS[name].text}" for name, finding in self.found.items())


@kinds_checked
def claims() -> Claims:
    """All claims with their verdicts, from the records and measurements that ship with the lab."""
    return Claims()


def _all(finding: ClaimFinding) -> str:
    return f"{finding.unit}: {_told(finding)}." + (f" {finding.beside}" * bool(finding.beside))


def _told(finding: ClaimFinding) -> str:
    def one(condition: str, effect: Band) -> str:
        middle, low, high = (f"{value:+.3f}".replace("-", "\u2212") for value in effect[:3])
        told = f"; expected {finding.expected[condition]}" if condition in finding.expected else ""
        return f"{condition}: {middle} ({low} to {high}, n = {effect.n}{told})"

    return "; ".join(itertools.starmap(one, finding.effects.items()))
