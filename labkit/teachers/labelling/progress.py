"""The progress and the report of a job, as numbers and as text."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from labkit.teachers.labelling.plan import Spent


class Progress(NamedTuple):
    """The progress of a job."""

    done: int  # requests answered
    total: int
    failed: int
    again: int  # requests sent again
    spent: Spent
    money: float | None
    rate: float  # answers a second in the last 30 seconds
    left: float | None  # seconds left at that rate
    trouble: str = ""  # why a request was last sent again
    note: str = ""  # a message that is shown once

    def __str__(self) -> str:
        if self.note:
            return self.note
        left = "" if self.left is None else f"  {int(self.left) // 60}:{int(self.left) % 60:02d} to go"
        text = f"{self.done:,}/{self.total:,} answered  {self.rate:.1f}/s{left}  {self.spent.tokens:,} tokens"
        text += "" if self.money is None else f"  {self.money:,.4f} in money"
        text += f"  {self.failed:,} failed" if self.failed else ""
        return text + (f"  {self.again:,} sent again (last: {self.trouble})" if self.again else "")


class Report(NamedTuple):
    """The result of a job."""

    answers: Path
    total: int  # requests
    written: int  # answers in the file
    cut: int  # of these, the answers that were cut off at max_tokens
    cut_thoughts: int  # requests without an answer, because the thought before it was cut off at max_tokens
    empty: int  # requests without an answer, because the model ended it before it had a text
    failed: tuple[tuple[int, int, str], ...]  # line, sample and reason of each request without a usable answer
    left: int  # requests not sent yet
    stopped: str  # why they were not sent, or ""
    spent: Spent
    money: float | None
    again: int  # requests sent again
    seconds: float
    damage: tuple[str, ...] = ()  # what was wrong in the journal

    def __str__(self) -> str:
        stopped = f" Stopped: {self.stopped}; run the same again to send the {self.left:,} requests left." if self.stopped else ""
        none = f"None of {self.total:,} requests has a usable answer, so {self.answers} was not changed."
        lines = [(f"{self.written:,} of {self.total:,} answers are in {self.answers}." if self.written else none) + stopped]
        money = "" if self.money is None else f", {self.money:,.4f} in money"
        lost = self.spent.lost_in + self.spent.lost_out
        at_risk = f", up to {lost:,} of them for requests without an answer that may have been billed" if lost else ""
        lines.append(f"Used in all: {self.spent.tokens:,} tokens{at_risk}{money}. Sent again: {self.again:,}.")
        if self.cut:
            lines.append(
                f"{self.cut:,} answers were cut off at max_tokens (their provenance has finish 'length'): raise it, or filter them."
            )
        if self.cut_thoughts:
            lines.append(
                f"{self.cut_thoughts:,} thoughts were cut off at max_tokens, before an answer: raise it; only they are asked again."
            )
        if self.empty:
            lines.append(f"{self.empty:,} answers are empty: --ask-again empty (ask_again='empty') asks for them again, and pays again.")
        if self.failed:
            lines.append(f"{len(self.failed):,} without an answer:")
            lines += [f"  line {line}{f', sample {sample}' if sample else ''}: {reason}" for line, sample, reason in self.failed[:20]]
            lines += ["  ..."] if len(self.failed) > 20 else []
        return "\n".join([*lines, *self.damage])
