"""Where a job stands, and what came of it, as numbers and as words."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from labkit.teachers.labelling.plan import Spent


class Progress(NamedTuple):
    """Where a job stands. rate: answers a second, of late. left: seconds to go at that rate. trouble: why a request was last sent again.
    note: something to be told once."""

    done: int
    total: int
    failed: int
    again: int
    spent: Spent
    money: float | None
    rate: float
    left: float | None
    trouble: str = ""
    note: str = ""

    def __str__(self) -> str:
        if self.note:
            return self.note
        left = "" if self.left is None else f"  {int(self.left) // 60}:{int(self.left) % 60:02d} to go"
        told = f"{self.done:,}/{self.total:,} answered  {self.rate:.1f}/s{left}  {self.spent.tokens:,} tokens"
        told += "" if self.money is None else f"  {self.money:,.4f} in money"
        told += f"  {self.failed:,} failed" if self.failed else ""
        return told + (f"  {self.again:,} sent again (last: {self.trouble})" if self.again else "")


class Report(NamedTuple):
    """What came of a job. cut: answers that ran into max_tokens. failed: line, sample and reason of every request without an answer to
    learn from. left: requests not asked yet, and stopped: why not, or ''."""

    answers: Path
    total: int
    written: int
    cut: int
    failed: tuple[tuple[int, int, str], ...]
    left: int
    stopped: str
    spent: Spent
    money: float | None
    again: int
    seconds: float

    def __str__(self) -> str:
        stopped = f" Stopped: {self.stopped}; run the same again to send the {self.left:,} that are left." if self.stopped else ""
        none = f"None of {self.total:,} requests has an answer to write, and {self.answers} was left as it is."
        told = [(f"{self.written:,} of {self.total:,} answers are in {self.answers}." if self.written else none) + stopped]
        money = "" if self.money is None else f", {self.money:,.4f} in money"
        lost = self.spent.lost_in + self.spent.lost_out
        at_risk = f", up to {lost:,} of them for requests that came to nothing but may have been charged" if lost else ""
        told.append(f"Used up in all: {self.spent.tokens:,} tokens{at_risk}{money}. Sent again: {self.again:,}.")
        if self.cut:
            told.append(
                f"{self.cut:,} answers were cut off at max_tokens (their provenance has finish 'length'): raise it, or filter them."
            )
        if self.failed:
            told.append(f"{len(self.failed):,} without an answer:")
            told += [f"  line {line}{f', sample {sample}' if sample else ''}: {reason}" for line, sample, reason in self.failed[:20]]
            told += ["  ..."] if len(self.failed) > 20 else []
        return "\n".join(told)
