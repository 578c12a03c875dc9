"""The audit: a fixed paper, answers on record that belong to it, and tables that can be counted by hand."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter

import pytest

from labkit.base.errors import DataError, LabError
from labkit.base.files import data_dir
from labkit.tasks.atlas.contested import contested
from labkit.tasks.atlas.facts import Atlas
from labkit.tasks.calibration import calibration_error, reliability
from labkit.teachers.recorded_answers import ASKED, RecordedAnswer, answered, confident_errors, paper, recorded, table


@pytest.fixture(scope="module")
def said() -> list[RecordedAnswer]:
    return recorded()


def one(answer: str, named: str | None, right: bool, probability: float) -> RecordedAnswer:
    question = Atlas().find("What is the capital of Peru?")
    assert question is not None
    return RecordedAnswer(question, answer, named, right, probability, (math.log(0.5),), ((("The", -0.1),),), True)


def test_the_paper_is_fixed_and_stratified():
    asked = paper()
    assert asked == paper() and len({q.text for q in asked}) == len(asked) == 3000 == sum(ASKED.values())
    assert Counter(q.skill for q in asked) == ASKED
    relations = Counter(q.fact.relation for q in asked)
    assert relations["capital"] == relations["continent"] == relations["currency"] == 195
    assert relations["city_continent"] == relations["capital_currency"] == 175
    assert not any(q.text.startswith("Think") for q in asked)


def test_the_record_answers_the_paper_word_for_word(said):
    assert [s.question for s in said] == paper()
    assert (data_dir() / "answers" / "smollm2.jsonl.gz").stat().st_size < 3_000_000
    for s in said:
        assert len(s.tops) == len(s.logprobs) <= 32 and len(s.tops[0]) == 8
        assert all(x <= 1e-3 for x in s.logprobs)
        assert math.isnan(s.probability) if s.named is None else 0 < s.probability <= 1 + 1e-3
        assert max(value for _, value in s.tops[0]) == pytest.approx(s.logprobs[0], abs=0.011)  # greedy: the likeliest was taken


def test_what_it_is_known_to_say(said):
    by_question = {s.question.text: s for s in said}
    france = by_question["What is the capital of France?"]
    assert (france.named, france.right) == ("Paris", True) and france.probability > 0.5
    found = table(said)
    assert found.loc["chain", "right"] < 0.1 < found.loc["all", "right"] < 0.4 < found.loc["recall", "right"]
    assert (found[["right", "wrong", "none"]].sum(axis=1) - 1).abs().max() < 1e-9
    assert found.n["all"] == 3000


def test_a_table_by_hand():
    some = [
        one("Lima.", "Lima", True, 0.8),
        one("Quito.", "Quito", False, 0.6),
        one("Bogota.", "Bogota", False, 0.9),
        one("Hm.", None, False, math.nan),
    ]
    row = table(some).loc["recall"]
    assert (row.n, row.right, row.wrong, row.none) == (4, 0.25, 0.5, 0.25)
    assert row.confidence == pytest.approx((0.8 + 0.6 + 0.9) / 3) and row.when_wrong == pytest.approx(0.75)
    assert row.ece == pytest.approx((0.2 + 0.6 + 0.9) / 3) == calibration_error(answered(some))
    assert [b.n for b in reliability(answered(some))] == [1, 1, 1]
    assert list(confident_errors(some).named) == ["Bogota", "Quito"]
    assert list(confident_errors(some, each=1).named) == ["Bogota"]
    assert list(confident_errors(some[:1]).columns)[:2] == ["question", "said"]
    assert some[0].logprob == pytest.approx(math.log(0.5))


def test_confident_errors_are_about_plain_facts(said):
    """Liberia is in Africa, Timor Leste in Asia, and Won the currency of South Korea: none of them is an error."""
    listed = set(confident_errors(said, 3000, 3000).question)
    assert len(listed) > 1000 and not listed & {s.question.text for s in said if s.right or contested(s.question)}
    by_question = {s.question.text: s for s in said}
    for text, named in {
        "On which continent is Liberia?": "Africa",
        "Which continent is Timor Leste in?": "Asia",
        "What currency is used where Seoul is the capital?": "Won",
        "What currency is used where Panama City is the capital?": "Dollar",
        "Which has more people, Samoa or Kiribati?": "Samoa",
    }.items():
        assert (by_question[text].named, by_question[text].right) == (named, True)


def test_damage_and_strangers_are_named(tmp_path, monkeypatch):
    with pytest.raises(LabError, match="Did you mean 'smollm2'"):
        recorded("smollm")
    (tmp_path / "atlas").symlink_to(data_dir() / "atlas")
    (tmp_path / "answers").mkdir()
    path = tmp_path / "answers" / "smollm2.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"question": "Who?"}).encode()))
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    with pytest.raises(DataError, match="cannot be checked"):
        recorded()
    import hashlib

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "answers" / "manifest.json").write_text(json.dumps({path.name: {"sha256": digest}}))
    with pytest.raises(DataError, match="another audit"):
        recorded()
