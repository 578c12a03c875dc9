"""Your answers to cases, kept on this machine and counted as a confusion matrix.

    keep(Answer(...)); mistakes()        # displays itself; mistakes().table is a DataFrame

The file is `incidents.jsonl` in the lab's home folder, one row an answer; rows are only added. The first answer to a case counts.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import UNREADABLE
from labkit.base.files import append_row, home_dir, left_out, rows_of
from labkit.base.html import Html, listed, table, tag
from labkit.base.palette import css
from labkit.diagnosis.failures import FAILURES

if TYPE_CHECKING:
    import pandas

NO_FAULT = "no fault"


@dataclasses.dataclass(frozen=True)
class IncidentAnswer:
    """Your answer to a case."""

    case: str  # its number, after "live" if its run was trained for it
    truth: tuple[str, ...]
    named: tuple[str, ...]
    detectors: tuple[str, ...]  # the failures that `diagnose` finds
    probes: tuple[str, ...]
    minutes: int
    cures: int = 0  # cures given for failures that were rightly named
    cured: int = 0  # how many of them are right
    made: str = ""  # when, as an ISO date and time


def score(truth: Sequence[str], named: Sequence[str]) -> float:
    """The failures both true and named, as a share of those true or named; 1 if there are neither."""
    both = set(truth) | set(named)
    return len(set(truth) & set(named)) / len(both) if both else 1.0


def keep(answer: IncidentAnswer) -> str:
    """Store an answer. Returns why that failed, or ""."""
    try:
        append_row(ledger(), dataclasses.asdict(answer))
    except OSError as error:
        return f"Your answer could not be stored: {error}."
    return ""


def answers(rows: Mapping[int, Mapping[str, Any] | None] | None = None) -> tuple[list[IncidentAnswer], list[int]]:
    """The first answer to each case, and the lines that cannot be read.

    rows: of a ledger, by their line; those of this machine if None.
    """
    first: dict[str, IncidentAnswer] = {}
    damaged = []
    for line, row in (rows_of(ledger()) if rows is None else rows).items():
        try:
            if row is None:
                raise ValueError("damaged")
            lists = {name: _texts(row[name]) for name in ("truth", "named", "detectors", "probes")}
            numbers = {name: int(row[name]) for name in ("minutes", "cures", "cured")}
            answer = IncidentAnswer(str(row["case"]), **lists, **numbers, made=str(row["made"]))  # type: ignore[arg-type]
            if not 0 <= answer.cured <= answer.cures <= 2 or not 0 <= answer.minutes <= 1_000:
                raise ValueError("numbers out of range")
            first.setdefault(answer.case, answer)
        except UNREADABLE:
            damaged.append(line)
    return list(first.values()), damaged


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("must be a list")
    return tuple(map(str, values))


def ledger() -> Path:
    """The file of all answers."""
    return home_dir() / "incidents.jsonl"


def mistakes() -> Mistakes:
    """Truth and answer over all your cases, and how to tell apart what you mixed up."""
    return Mistakes(*answers())


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """The confusion matrix of your answers; displays itself."""

    answers: Sequence[IncidentAnswer]
    damaged: Sequence[int] = ()  # lines of the ledger that are left out

    @property
    def cells(self) -> dict[tuple[str, str], float]:
        """How often each (truth, answer) occurred. A missed failure is counted under what was wrongly named instead."""
        counts: dict[tuple[str, str], float] = collections.defaultdict(float)
        for answer in self.answers:
            right = [name for name in answer.truth if name in answer.named]
            missed = [name for name in answer.truth if name not in answer.named]
            wrong = [name for name in answer.named if name not in answer.truth]
            for name in right:
                counts[name, name] += 1
            for name in missed:
                for other in wrong or [NO_FAULT]:
                    counts[name, other] += 1 / max(1, len(wrong))
            for name in wrong if not missed else ():
                counts[NO_FAULT, name] += 1
            if not answer.truth and not answer.named:
                counts[NO_FAULT, NO_FAULT] += 1
        return dict(counts)

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
        """(truth, answer, count) of the mistakes, the most frequent first."""
        wrong = [(truth, named, count) for (truth, named), count in self.cells.items() if truth != named]
        return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))

    @property
    def sentence(self) -> str:
        """Your points and the detectors', on the same cases."""
        odd = left_out(ledger(), self.damaged)
        if not self.answers:
            return f"No case has been named yet. {odd}".rstrip()
        n = len(self.answers)
        yours = sum(score(a.truth, a.named) for a in self.answers)
        detectors = sum(score(a.truth, a.detectors) for a in self.answers)
        spent = sum(a.minutes for a in self.answers) / n
        cures = sum(a.cures for a in self.answers)
        cured = f" Cures given for failures rightly named: {sum(a.cured for a in self.answers)} of {cures} right." if cures else ""
        return (
            f"You: {yours:.1f} of {n} points, in {spent:.0f} minutes a case; the detectors, which see everything: {detectors:.1f}. Two "
            f"failures are half a point each; a wrong one costs as much.{cured} {odd}"
        ).rstrip()

    def _names(self, side: int) -> list[str]:
        there = {pair[side] for pair in self.cells}
        return [name for name in (NO_FAULT, *FAILURES) if name in there] + sorted(there - {NO_FAULT, *FAILURES})

    def __repr__(self) -> str:
        lines = [f"  {truth} taken for {named}: {count:g}" for truth, named, count in self.confused]
        return "\n".join([self.sentence, *lines])

    def _repr_html_(self) -> str:
        if not self.answers:
            return tag("p", self.sentence, role="status")
        rows, columns, cells = self._names(0), self._names(1), self.cells
        body = ([label(row), *(_cell(cells.get((row, column), 0.0), row == column) for column in columns)] for row in rows)
        hints = tag("div", *(_how(truth, named, count) for truth, named, count in self.confused))
        caption = "rows: what it was; columns: what you named"
        colours = tag("style", Html(css(".labkit-matrix")))
        grid = table(["", *map(label, columns)], body, caption, class_="labkit-matrix")
        return colours + tag("p", self.sentence, role="status") + grid + hints


def label(name: str) -> str:
    """A failure's label; any other text as it is."""
    return FAILURES[name].label if name in FAILURES else name


def steps(name: str) -> Html:
    """How to look for a failure, as an HTML list."""
    return listed(FAILURES[name].procedure, "ol")


def _cell(count: float, right: bool) -> Html:
    """A count: in the colour of the truth if the answer is right, else in that of an alarm."""
    if not count:
        return tag("div", "\u00b7", style="opacity:0.45")
    share = round(100 * min(0.45, 0.12 + 0.08 * count))
    colour = f"color-mix(in srgb, var(--dlab-{'truth' if right else 'alarm'}) {share}%, transparent)"
    return tag("div", f"{count:g}", style=f"background:{colour}")


def _how(truth: str, named: str, count: float) -> Html:
    often = "once" if count == 1 else f"{count:g} times"
    head = tag("summary", tag("b", label(truth)), ", named ", tag("b", label(named)), f", {often}: how to tell")
    return tag("details", head, *(tag("p", f"{label(name)}:") + steps(name) for name in (truth, named) if name in FAILURES))
