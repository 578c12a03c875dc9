"""Which of a teacher's recorded answers to teach: filters, what each leaves, and at what price (no torch: it reads answers).

    outcome(said, "sure of the fact")     # how many are left, the share of them that is right, answers paid for per right one
    frontier(said, sentence)              # validity against quantity as a threshold on a score moves

A filter is a row of `FILTERS`: which answers stay. All but "truth" use only what comes with an answer.
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

CONFIDENT = 0.5  # least probability of the words that name the answer
FLUENT = math.log(0.6)  # least mean log-probability of a token: leaves as many of SmolLM2's answers as `CONFIDENT` does
SHORT = 16  # most tokens of a short answer


class Outcome(NamedTuple):
    """kept: answers left. share: of all. right: the share of those left that is right. lost: the share of the right answers that was thrown
    away with the wrong. paid: answers paid for per right one that is left."""

    filter: str
    kept: int
    share: float
    right: float
    lost: float
    paid: float


def sentence(s: RecordedAnswer) -> float:
    """How sure the model was of its whole answer: mean log-probability of a token."""
    return s.logprob / max(1, len(s.logprobs))


def fact(s: RecordedAnswer) -> float:
    """How sure it was of the words that name the answer; -1 if none do."""
    return -1.0 if s.named is None else s.probability


def each(holds: Callable[[RecordedAnswer], bool]) -> Callable[[Sequence[RecordedAnswer]], list[bool]]:
    return lambda said: [holds(s) for s in said]


def first_time(said: Sequence[RecordedAnswer]) -> list[bool]:
    """Each answer once, however many questions it was given to."""
    seen: set[str] = set()
    return [not (text in seen or seen.add(text)) for text in (normalise(s.text) for s in said)]  # type: ignore[func-returns-value]


FILTERS: dict[str, Callable[[Sequence[RecordedAnswer]], list[bool]]] = {
    "all": each(lambda s: True),
    "names something": each(lambda s: s.named is not None),  # of the kind that was asked for
    "ended": each(lambda s: s.ended),  # not cut off
    "short": each(lambda s: len(s.logprobs) <= SHORT),
    "distinct": first_time,
    "sure of the sentence": each(lambda s: sentence(s) >= FLUENT),
    "sure of the fact": each(lambda s: fact(s) >= CONFIDENT),
    "truth": each(lambda s: s.right),  # by Atlas: what no buyer of answers has
}


def outcome(said: Sequence[RecordedAnswer], name: str) -> Outcome:
    """What a filter leaves, or several joined by "+". Raises `LabError` for an unknown one."""
    stays = [True] * len(said)
    for part in name.split("+"):
        if part not in FILTERS:
            raise unknown("filter", part, FILTERS)
        stays = list(map(all, zip(stays, FILTERS[part](said), strict=True)))
    return of(said, stays, name)


def of(said: Sequence[RecordedAnswer], stays: Sequence[bool], name: str = "") -> Outcome:
    """The same of any choice of answers. Raises `LabError` if there is none to choose from."""
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
    """Of questions that were asked several times, those where at least `least` answers name the same thing; it is then the answer. `rows`
    are answers with question, named and right, as in the measurement "warmth". `lost` is not known: nothing was chosen before."""
    votes: dict[str, Counter[str]] = {row["question"]: Counter() for row in rows}
    right: dict[tuple[str, str], bool] = {}
    for row in rows:
        if isinstance(row["named"], str):  # None, or NaN where the rows went through a table
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
    """A row a filter."""
    import pandas

    return pandas.DataFrame([outcome(said, name)._asdict() for name in names]).set_index("filter")


def frontier(said: Sequence[RecordedAnswer], score: Callable[[RecordedAnswer], float], points: int = 20) -> list[tuple[float, float]]:
    """Share kept and share right, for the surest 1/points, 2/points ... of the answers by this score."""
    order = sorted(said, key=score, reverse=True)
    found = []
    for point in range(1, points + 1):
        some = order[: max(1, round(len(order) * point / points))]
        found.append((point / points, sum(s.right for s in some) / len(some)))
    return found
