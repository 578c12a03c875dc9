"""What you took for what: every case named is kept on this machine, and counted as a matrix of truths and answers.

    keep(Answer(...)); mistakes()        # shows itself; mistakes().table is a DataFrame

Kept in `incidents.jsonl` in the lab's home folder, one row a case; none is rewritten. Only the first answer to a case counts.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.files import append_row, home_dir, rows_of
from labkit.base.html import Html, listed, table, tag
from labkit.diagnosis.failures import FAILURES

if TYPE_CHECKING:
    import pandas

NO_FAULT = "no fault"


@dataclasses.dataclass(frozen=True)
class IncidentAnswer:
    """A case as it was named. case: its number, with "live" before it where it was trained. detectors: what `diagnose` said of it.
    cured: how many of the failures rightly named were also rightly cured, by the cures given."""

    case: str
    truth: tuple[str, ...]
    named: tuple[str, ...]
    detectors: tuple[str, ...]
    probes: tuple[str, ...]
    minutes: int
    cures: int = 0
    cured: int = 0
    made: str = ""


def score(truth: Sequence[str], named: Sequence[str]) -> float:
    """Of all that is there or was named, the share that is both; 1 for a "no fault" that is right."""
    both = set(truth) | set(named)
    return len(set(truth) & set(named)) / len(both) if both else 1.0


def keep(answer: IncidentAnswer) -> str:
    """Put an answer on record. Returns why it could not be, or ""."""
    try:
        append_row(ledger(), dataclasses.asdict(answer))
    except OSError as error:
        return f"This could not be kept: {error}."
    return ""


def answers() -> tuple[list[IncidentAnswer], int]:
    """The first answer to every case, and how many rows could not be read."""
    rows, unreadable = rows_of(ledger())
    found: dict[str, IncidentAnswer] = {}
    for row in rows:
        try:
            lists = {name: _texts(row[name]) for name in ("truth", "named", "detectors", "probes")}
            numbers = {name: int(row[name]) for name in ("minutes", "cures", "cured")}
            answer = IncidentAnswer(str(row["case"]), **lists, **numbers, made=str(row["made"]))  # type: ignore[arg-type]
            if not 0 <= answer.cured <= answer.cures <= 2 or not 0 <= answer.minutes <= 1_000:
                raise ValueError("no such answer could be given")
            found.setdefault(answer.case, answer)
        except (TypeError, KeyError, ValueError, OverflowError):
            unreadable += 1
    return list(found.values()), unreadable


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("a list of texts is wanted")
    return tuple(map(str, values))


def ledger() -> Path:
    return home_dir() / "incidents.jsonl"


def mistakes() -> Mistakes:
    """Over all your cases: truth against answer, and how to look for what you mixed up."""
    return Mistakes(*answers())


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """The matrix of one's own answers; shows itself."""

    answers: Sequence[IncidentAnswer]
    unreadable: int = 0

    @property
    def cells(self) -> dict[tuple[str, str], float]:
        """How often (truth, answer) went together. A failure that was missed counts for what was wrongly named beside it."""
        found: dict[tuple[str, str], float] = collections.defaultdict(float)
        for answer in self.answers:
            right = [name for name in answer.truth if name in answer.named]
            missed = [name for name in answer.truth if name not in answer.named]
            wrong = [name for name in answer.named if name not in answer.truth]
            for name in right:
                found[name, name] += 1
            for name in missed:
                for other in wrong or [NO_FAULT]:
                    found[name, other] += 1 / max(1, len(wrong))
            for name in wrong if not missed else ():
                found[NO_FAULT, name] += 1
            if not answer.truth and not answer.named:
                found[NO_FAULT, NO_FAULT] += 1
        return dict(found)

    @property
    def table(self) -> pandas.DataFrame:
        """Rows are truths, columns answers."""
        import pandas

        table = pandas.DataFrame(0.0, index=self._names(0), columns=self._names(1))
        for (truth, named), count in self.cells.items():
            table.loc[truth, named] = count
        return table.rename_axis(index="truth", columns="named")

    @property
    def confused(self) -> list[tuple[str, str, float]]:
        """(truth, answer, how often) of the mistakes, the commonest first."""
        wrong = [(truth, named, count) for (truth, named), count in self.cells.items() if truth != named]
        return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))

    @property
    def sentence(self) -> str:
        """You beside the detectors, on the same cases."""
        if not self.answers:
            return "No case has been named yet."
        n = len(self.answers)
        yours, theirs = (sum(score(a.truth, said) for a, said in pairs) for pairs in self._said())
        spent = sum(a.minutes for a in self.answers) / n
        cures = sum(a.cures for a in self.answers)
        cured = f" Cures given for what was rightly named: {sum(a.cured for a in self.answers)} of {cures} right." if cures else ""
        odd = f" {self.unreadable} damaged rows are left out." if self.unreadable else ""
        return (
            f"You: {yours:.1f} of {n} points, in {spent:.0f} minutes a case; the detectors, which see everything: {theirs:.1f}. Two "
            f"failures are half a point each, and a false one costs as much.{cured}{odd}"
        )

    def _said(self):
        return [(a, a.named) for a in self.answers], [(a, a.detectors) for a in self.answers]

    def _names(self, side: int) -> list[str]:
        there = {pair[side] for pair in self.cells}
        return [name for name in (NO_FAULT, *FAILURES) if name in there] + sorted(there - {NO_FAULT, *FAILURES})

    def __repr__(self) -> str:
        mixed = [f"  {truth} taken for {named}: {count:g}" for truth, named, count in self.confused]
        return "\n".join([self.sentence, *mixed])

    def _repr_html_(self) -> str:
        if not self.answers:
            return tag("p", self.sentence, role="status")
        rows, columns, cells = self._names(0), self._names(1), self.cells
        body = ([label(row), *(_cell(cells.get((row, column), 0.0), row == column) for column in columns)] for row in rows)
        told = tag("div", *(_how(truth, named, count) for truth, named, count in self.confused))
        caption = "down: what it was; across: what you named"
        return tag("p", self.sentence, role="status") + table(["", *map(label, columns)], body, caption, class_="labkit-matrix") + told


def label(name: str) -> str:
    return FAILURES[name].label if name in FAILURES else name


def steps(name: str) -> Html:
    """How to look for a failure, as a list."""
    return listed(FAILURES[name].procedure, "ol")


def _cell(count: float, right: bool) -> Html:
    """Right answers green, wrong ones red, and both said in figures."""
    if not count:
        return tag("div", "\u00b7", style="opacity:0.45")
    colour = "0, 118, 106" if right else "179, 38, 30"
    return tag("div", f"{count:g}", style=f"background:rgba({colour}, {min(0.45, 0.12 + 0.08 * count):.2f})")


def _how(truth: str, named: str, count: float) -> Html:
    often = "once" if count == 1 else f"{count:g} times"
    head = tag("summary", tag("b", label(truth)), ", named ", tag("b", label(named)), f", {often}: how to tell")
    return tag("details", head, *(tag("p", f"{label(name)}:") + steps(name) for name in (truth, named) if name in FAILURES))
