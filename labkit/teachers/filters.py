"""Filters for recorded teacher answers: how many remain, how many of these are right, and the cost per right answer (no torch).

    outcome(said, "sure of the fact")     # answers kept, share of these that is right, answers paid for per right one
    frontier(said, sentence)              # share right against share kept, for all thresholds on a score

A filter is a row of `FILTERS`: it returns which answers to keep. All but "truth" use only what comes with an answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.base.errors import LabError, unknown
from labkit.tasks.atlas.facts import normalise
from labkit.teachers.recorded_answers import RecordedAnswer

if TYPE_CHECKING:
    import pandas

CONFIDENT = 0.5  # lowest probability of the tokens that name the answer
FLUENT = math.log(0.6)  # lowest mean log-probability of a token; keeps as many of SmolLM2's answers as `CONFIDENT`
SHORT = 16  # most tokens of a short answer


class Outcome(NamedTuple):
    """The result of a filter."""

    filter: str
    kept: int  # answers kept
    share: float  # their share of all answers
    right: float  # share of the kept answers that is right
    lost: float  # share of the right answers that was not kept
    paid: float  # answers paid for per right one that is kept


def sentence(s: RecordedAnswer) -> float:
    """Confidence in the whole answer: mean log-probability of a token, in nats."""
    return s.logprob / max(1, len(s.logprobs))


def fact(s: RecordedAnswer) -> float:
    """Confidence in the fact: probability of the tokens that name the answer; -1 if none do."""
    return -1.0 if s.named is None else s.probability


def each(holds: Callable[[RecordedAnswer], bool]) -> Callable[[Sequence[RecordedAnswer]], list[bool]]:
    """Turn a test of one answer into a filter."""
    return lambda said: [holds(s) for s in said]


def first_time(said: Sequence[RecordedAnswer]) -> list[bool]:
    """Keep the first of all answers with the same text, also if the questions differ."""
    seen: set[str] = set()
    return [not (text in seen or seen.add(text)) for text in (normalise(s.text) for s in said)]  # type: ignore[func-returns-value]


FILTERS: dict[str, Callable[[Sequence[RecordedAnswer]], list[bool]]] = {
    "all": each(lambda s: True),
    "names something": each(lambda s: s.named is not None),  # of the kind that the question asks for
    "ended": each(lambda s: s.ended),  # not cut off
    "short": each(lambda s: len(s.logprobs) <= SHORT),
    "distinct": first_time,
    "sure of the sentence": each(lambda s: sentence(s) >= FLUENT),
    "sure of the fact": each(lambda s: fact(s) >= CONFIDENT),
    "truth": each(lambda s: s.right),  # by Atlas; not known in practice
}


def outcome(said: Sequence[RecordedAnswer], name: str) -> Outcome:
    """The result of a filter, or of several joined by "+". Raises `LabError` for an unknown filter or if there are no answers."""
    stays = [True] * len(said)
    for part in name.split("+"):
        if part not in FILTERS:
            raise unknown("filter", part, FILTERS)
        stays = list(map(all, zip(stays, FILTERS[part](said), strict=True)))
    return of(said, stays, name)


def of(said: Sequence[RecordedAnswer], stays: Sequence[bool], name: str = "") -> Outcome:
    """The result of any selection of answers: `stays[i]` keeps answer i. Raises `LabError` if there are no answers."""
    if not said:
        raise LabError("no answers to filter: read some with labkit.teachers.recorded_answers.recorded().")
    kept = sum(stays)
    right = sum(s.right for s, stay in zip(said, stays, strict=True) if stay)
    all_right = sum(s.right for s in said)
    return Outcome(
        name,
        kept,
        kept / len(said),
        right / kept if kept else math.nan,
        1 - right / all_right if all_right else math.nan,
        len(said) / right if right else math.inf,
    )


def agreed(rows: Sequence[Mapping[str, Any]], least: int) -> Outcome:
    """Majority vote: keep the questions where at least `least` of several answers name the same thing, which is then the answer.

    rows: answers with question, named and right, as in the measurement "warmth".

    Returns the outcome; its `lost` is NaN.

    Raises `LabError` if there are no answers.
    """
    votes: dict[str, Counter[str]] = {row["question"]: Counter() for row in rows}
    right: dict[tuple[str, str], bool] = {}
    for row in rows:
        if isinstance(row["named"], str):  # None, or NaN if the rows come from a table
            name = normalise(row["named"])
            votes[row["question"]][name] += 1
            right[row["question"], name] = row["right"]
    if not votes:
        raise LabError("no answers to compare: give rows with question, named and right.")
    first = {question: names.most_common(1)[0] for question, names in votes.items() if names}
    kept = [(question, name) for question, (name, times) in first.items() if times >= least]
    good = sum(right[choice] for choice in kept)
    return Outcome(
        f"{least} agree",
        len(kept),
        len(kept) / len(votes),
        good / len(kept) if kept else math.nan,
        math.nan,
        len(rows) / good if good else math.inf,
    )


def table(said: Sequence[RecordedAnswer], names: Sequence[str]) -> pandas.DataFrame:
    """The outcomes of several filters, one row each."""
    import pandas

    return pandas.DataFrame([outcome(said, name)._asdict() for name in names]).set_index("filter")


def frontier(said: Sequence[RecordedAnswer], score: Callable[[RecordedAnswer], float], points: int = 20) -> list[tuple[float, float]]:
    """Pairs (share kept, share right) for the top 1/points, 2/points, ... of the answers by a score, such as `sentence` or `fact`."""
    order = sorted(said, key=score, reverse=True)
    result = []
    for point in range(1, points + 1):
        some = order[: max(1, round(len(order) * point / points))]
        result.append((point / points, sum(s.right for s in some) / len(some)))
    return result
