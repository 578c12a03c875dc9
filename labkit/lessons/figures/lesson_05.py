"""What lesson 05 shows: the price of a right answer, filters, warmer samples, and style and facts of a real student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import labkit
from labkit.base.stats import band
from labkit.lessons.figures.tables import Table
from labkit.studies.claims.imitation import STEPS, pupil
from labkit.teachers import filters, labelling
from labkit.teachers.recorded_answers import RecordedAnswer
from labkit.views import figures

if TYPE_CHECKING:
    import pandas

NUMBERS = {"form": "words of the teacher", "same": "names what the teacher names", "right": "is right"}


def gained() -> figures.Drawing:
    """What two students learned: form, the teacher's names and right answers, each minus the untouched student's."""
    rows, before = [], pupil("untouched", 0)
    for who, role in (("teacher's text", "student"), ("gold labels", "baseline")):
        for number, words in NUMBERS.items():
            pairs = zip(pupil(who, STEPS[-1]), before, strict=True)
            found = band([now[number] - then[number] for now, then in pairs if now[number] is not None])
            rows.append(figures.Interval(f"{who}: {words}", *found[:3], role))
    return figures.intervals("What was learned", "minus the untouched student; 95% bands over questions", rows, zero=0)


def heard(questions: int = 3) -> Table:
    """The first answers of the three students, word for word."""
    students = {"untouched": 0, "teacher's text": STEPS[-1], "gold labels": STEPS[-1]}
    rows = zip(*(pupil(who, step)[:questions] for who, step in students.items()), strict=True)
    return Table(["question", *students], [[said[0]["question"], *(one["answer"][:90] for one in said)] for said in rows])


def bill(
    said: Sequence[RecordedAnswer], examples: int, tokens_in: int, tokens_out: int, price_in: float, price_out: float, training: float
) -> Table:
    """What a teacher's answers cost, and its right answers.

    said: recorded answers, for the share that is right.
    examples, tokens_in, tokens_out: how many answers, and the tokens that the teacher reads and writes for each.
    price_in, price_out: of a million tokens.
    training: price of the fine-tuning.
    """
    prices = labelling.Settings(endpoints=("https://api.example.com/v1",), model="a-teacher", price_in=price_in, price_out=price_out)
    labels = prices.money(examples * tokens_in, examples * tokens_out) or 0.0
    right = sum(s.right for s in said) / len(said)
    rows = [
        (f"{examples:,} answers", labels),
        ("the fine-tuning", float(training)),
        ("a million answers", 1e6 * labels / examples),
        (f"a million right answers, if {right:.0%} are right", 1e6 * labels / examples / right),
    ]
    return Table(["what you pay for", "cost"], rows)


def frontier(said: Sequence[RecordedAnswer]) -> figures.Drawing:
    """Share right of the answers that two measures of confidence keep, against how many they keep."""
    lines = {
        "sure of the fact": figures.Line(filters.frontier(said, filters.fact), "teacher"),
        "sure of the sentence": figures.Line(filters.frontier(said, filters.sentence), "baseline", "dash"),
    }
    note = "share right of the answers kept, surest first"
    return figures.lines("Right answers against all answers", note, lines, f"share of the {len(said):,} answers kept", backend="plotly")


def warmer() -> pandas.DataFrame:
    """By kind of question and temperature: share right, share that names nothing, different things named, and different right ones."""
    warm = labkit.measured("warmth")
    named, asked = warm.dropna(subset="named"), warm.groupby(["questions", "T"])
    kinds: Mapping[str, pandas.DataFrame] = {"different": named, "different and right": named[named.right]}
    counts = {
        words: part.groupby(["questions", "T", "question"]).named.nunique().groupby(["questions", "T"]).sum()
        for words, part in kinds.items()
    }
    shares = asked.agg(right=("right", "mean"), silent=("named", lambda names: names.isna().mean()))
    return shares.assign(**counts).round(2)


def votes() -> Table:
    """Questions with one answer: kept if so many of four samples name the same thing, by temperature."""
    warm = labkit.measured("warmth")
    rows: list[list[object]] = []
    for heat, part in warm[warm.questions == "one answer"].groupby("T"):
        for least in (2, 3):
            found = filters.agreed(part.to_dict("records"), least)
            right, paid = (found.right, found.paid) if found.kept else ("none kept", "")
            rows.append([f"T = {heat}, {least} of 4 agree", found.kept, right, paid])
    return Table(["vote", "questions kept", "right of these", "paid for a right one"], rows)
