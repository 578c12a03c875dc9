"""What a real model says of Atlas: a fixed paper of 3,000 questions, the answers on record, and what they are worth.

    said = recorded()                  # SmolLM2's answers; `labkit build answers` asked it
    table(said)                        # a row a skill: right, wrong, no answer, confidence, calibration
    confident_errors(said)             # what it is surest of, and wrong

Confidence is the probability the model gave the words that *name* the answer ("Lima" in "The capital is Lima."), at the place where it
wrote them: how it phrases the rest is not counted. What an answer names, `labkit.tasks.atlas.extraction` says.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import DataError, unknown
from labkit.base.files import data_dir
from labkit.base.manifest import checked
from labkit.tasks.atlas.extraction import read
from labkit.tasks.atlas.facts import RELATIONS, Atlas, Question, ask_about
from labkit.tasks.calibration import calibration_error

if TYPE_CHECKING:
    import pandas

ASKED = {  # questions of each skill; all there are of recall, reverse and element
    "recall": 585,
    "reverse": 195,
    "city": 450,
    "element": 236,
    "open": 300,
    "two_hop": 350,
    "add": 300,
    "chain": 234,
    "compare": 350,
}


def paper() -> list[Question]:
    """The fixed audit: 3,000 questions of the whole world in their canonical wording, `ASKED` of each skill, spread evenly over its
    relations. The step-by-step forms are left out: their "Think:" is a habit of the lab's own teachers."""
    world, asked = Atlas("whole"), list[Question]()
    for skill, many in ASKED.items():
        rng = random.Random(f"audit {skill}")
        piles = []
        for relation in (name for name, kind in RELATIONS.items() if kind.skill == skill):
            facts = {fact.key: fact for fact in world.facts(relation)}  # 2 + 3 or 3 + 2, not both
            piles.append(rng.sample(list(facts.values()), len(facts)))
        drawn = [pile[i] for i in range(max(map(len, piles))) for pile in piles if i < len(pile)]
        asked += [ask_about(fact) for fact in drawn[:many]]
    return asked


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One recorded answer. named: what it names as the answer, None for nothing. probability: of the tokens that name it (NaN for
    nothing). logprobs: of every token, in nats. tops: at every token, the likeliest ones with their log-probabilities. ended: it came to
    its end and was not cut off."""

    question: Question
    text: str
    named: str | None
    right: bool
    probability: float
    logprobs: tuple[float, ...]
    tops: tuple[tuple[tuple[str, float], ...], ...]
    ended: bool

    @property
    def logprob(self) -> float:
        """Of the whole answer, in nats."""
        return sum(self.logprobs)


def recorded(name: str = "smollm2") -> list[RecordedAnswer]:
    """The answers of a model to the audit. Raises `LabError` for a model that has none, `DataError` if the file is damaged."""
    folder = data_dir() / "answers"
    names = sorted(path.name.removesuffix(".jsonl.gz") for path in folder.glob("*.jsonl.gz"))
    if name not in names:
        raise unknown("recorded answers", name, names)
    with gzip.open(checked(folder / f"{name}.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    questions = {question.text: question for question in paper()}
    if missing := [row["question"] for row in rows if row["question"] not in questions]:
        raise DataError(f"the answers of {name} are to another audit ({missing[0]!r} is not on it). Make them anew: labkit build answers.")
    return [_said(questions[row["question"]], row) for row in rows]


def _said(question: Question, row: dict[str, Any]) -> RecordedAnswer:
    reading = read(question, row["answer"], cut=not row["ended"])
    starts = [0, *row["ends"][:-1]]
    naming = [x for x, a, b in zip(row["logprobs"], starts, row["ends"], strict=True) if a < reading.end and b > reading.start]
    probability = math.exp(sum(naming)) if reading.named else math.nan
    tops = tuple(tuple((piece, value) for piece, value in top) for top in row["tops"])
    return RecordedAnswer(question, row["answer"], reading.named, reading.right, probability, tuple(row["logprobs"]), tops, row["ended"])


def table(said: Sequence[RecordedAnswer]) -> pandas.DataFrame:
    """A row a skill, and one for all. right, wrong, none: shares of the answers (none: it names nothing). confidence: mean probability
    of what is named; when_right and when_wrong: the same apart; ece: expected calibration error of the answers that name something."""
    import pandas

    skills = [*dict.fromkeys(s.question.skill for s in said), "all"]
    parts = {skill: [s for s in said if skill in ("all", s.question.skill)] for skill in skills}
    return pandas.DataFrame({skill: _row(part) for skill, part in parts.items()}).T.astype({"n": int}).rename_axis("skill")


def _row(part: Sequence[RecordedAnswer]) -> dict[str, float]:
    named = [s for s in part if s.named is not None]
    right, wrong = [s for s in named if s.right], [s for s in named if not s.right]
    return {
        "n": len(part),
        "right": len(right) / len(part),
        "wrong": len(wrong) / len(part),
        "none": 1 - len(named) / len(part),
        "confidence": _confidence(named),
        "when_right": _confidence(right),
        "when_wrong": _confidence(wrong),
        "ece": calibration_error(named) if named else math.nan,
    }


def _confidence(part: Sequence[RecordedAnswer]) -> float:
    return sum(s.probability for s in part) / len(part) if part else math.nan


def answered(said: Sequence[RecordedAnswer]) -> list[RecordedAnswer]:
    """Those that name something: for `labkit.tasks.calibration.reliability`."""
    return [s for s in said if s.named is not None]


def confident_errors(said: Sequence[RecordedAnswer], n: int = 10, each: int = 2) -> pandas.DataFrame:
    """The `n` wrong answers the model is surest of, at most `each` of a relation, with what it named and the truth."""
    import pandas

    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for s in sorted((s for s in said if s.named is not None and not s.right), key=lambda s: -s.probability):
        relation = s.question.fact.relation
        seen[relation] = seen.get(relation, 0) + 1
        if seen[relation] <= each and len(rows) < n:
            truth = " or ".join(s.question.answers[:3])
            rows.append({"question": s.question.text, "said": s.text, "named": s.named, "probability": s.probability, "truth": truth})
    return pandas.DataFrame(rows, columns=["question", "said", "named", "probability", "truth"])
