"""Recorded answers of a pretrained model to a fixed audit of 3,000 Atlas questions, and their evaluation.

    said = recorded()                  # SmolLM2's answers; recorded by `labkit build answers`
    table(said)                        # one row per skill: right, wrong, no answer, confidence, calibration
    confident_errors(said)             # the wrong answers with the highest confidence

Confidence is the model's probability of the tokens that *name* the answer ("Lima" in "The capital is Lima."), where it wrote them. The
rest of the sentence does not count. `labkit.tasks.atlas.extraction` finds the name.
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
from labkit.tasks.atlas.contested import contested
from labkit.tasks.atlas.extraction import read
from labkit.tasks.atlas.facts import RELATIONS, Atlas, Question, ask_about
from labkit.tasks.calibration import calibration_error

if TYPE_CHECKING:
    import pandas

ASKED = {  # number of questions of each skill; of recall, reverse and element these are all
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
    """The fixed audit: 3,000 questions of the whole world in canonical wording, `ASKED` of each skill, spread evenly over its relations.
    The step-by-step questions are left out, because only the lab's own teachers know what "Think:" means."""
    world, asked = Atlas("whole"), list[Question]()
    for skill, many in ASKED.items():
        rng = random.Random(f"audit {skill}")
        piles = []
        for relation in (name for name, kind in RELATIONS.items() if kind.skill == skill):
            facts = {fact.key: fact for fact in world.facts(relation)}  # either 2 + 3 or 3 + 2
            piles.append(rng.sample(list(facts.values()), len(facts)))
        drawn = [pile[i] for i in range(max(map(len, piles))) for pile in piles if i < len(pile)]
        asked += [ask_about(fact) for fact in drawn[:many]]
    return asked


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One recorded answer."""

    question: Question
    text: str
    named: str | None  # what the text names as the answer; None if nothing
    right: bool
    probability: float  # of the tokens that name the answer; NaN if none do
    logprobs: tuple[float, ...]  # of each token, in nats
    tops: tuple[tuple[tuple[str, float], ...], ...]  # at each token, the likeliest ones with their log-probabilities
    ended: bool  # False if the text was cut off

    @property
    def logprob(self) -> float:
        """Log-probability of the whole answer, in nats."""
        return sum(self.logprobs)


def recorded(name: str = "smollm2") -> list[RecordedAnswer]:
    """A model's answers to the audit. Raises `LabError` if it has none, `DataError` if the file is damaged."""
    folder = data_dir() / "answers"
    names = sorted(path.name.removesuffix(".jsonl.gz") for path in folder.glob("*.jsonl.gz"))
    if name not in names:
        raise unknown("recorded answers", name, names)
    with gzip.open(checked(folder / f"{name}.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    questions = {question.text: question for question in paper()}
    if missing := [row["question"] for row in rows if row["question"] not in questions]:
        raise DataError(f"the answers of {name} are to another audit ({missing[0]!r} is not on it). Record them: labkit build answers.")
    return [_recorded(questions[row["question"]], row) for row in rows]


def _recorded(question: Question, row: dict[str, Any]) -> RecordedAnswer:
    answer = read(question, row["answer"], cut=not row["ended"])
    starts = [0, *row["ends"][:-1]]
    naming = [x for x, a, b in zip(row["logprobs"], starts, row["ends"], strict=True) if a < answer.end and b > answer.start]
    probability = math.exp(sum(naming)) if answer.named else math.nan
    tops = tuple(tuple((piece, value) for piece, value in top) for top in row["tops"])
    return RecordedAnswer(question, row["answer"], answer.named, answer.right, probability, tuple(row["logprobs"]), tops, row["ended"])


def table(said: Sequence[RecordedAnswer]) -> pandas.DataFrame:
    """Evaluate recorded answers: one row per skill, and one for all.

    Columns: `right`, `wrong` and `none` (names nothing) are shares of the answers; `confidence` is the mean probability of what is named,
    also for right (`when_right`) and wrong answers (`when_wrong`); `ece` is the calibration error of the answers that name something.
    """
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
    """The answers that name something; the input of `labkit.tasks.calibration.reliability`."""
    return [s for s in said if s.named is not None]


def confident_errors(said: Sequence[RecordedAnswer], n: int = 10, each: int = 2) -> pandas.DataFrame:
    """The `n` wrong answers with the highest confidence, at most `each` per relation, with what they name and the truth.

    Only plain facts are listed: on contested ones sources differ.
    """
    import pandas

    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    wrong = [s for s in said if s.named is not None and not s.right and not contested(s.question)]
    for s in sorted(wrong, key=lambda s: -s.probability):
        relation = s.question.fact.relation
        seen[relation] = seen.get(relation, 0) + 1
        if seen[relation] <= each and len(rows) < n:
            truth = " or ".join(s.question.answers[:3])
            rows.append({"question": s.question.text, "said": s.text, "named": s.named, "probability": s.probability, "truth": truth})
    return pandas.DataFrame(rows, columns=["question", "said", "named", "probability", "truth"])
