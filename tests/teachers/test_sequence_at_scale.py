"""Lesson 05: filters of recorded answers, style beside facts, and a model of this machine behind an endpoint."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from oracles import answer_logprob

import labkit
from labkit.base.errors import LabError
from labkit.models import pretrained, tokenizer_of
from labkit.studies.imitation import beside, likeness, shared_words, surprise
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers import filters, labelling, recorded_answers
from labkit.teachers.labelling.local import again, serving

QUESTIONS = {q.text: q for q in Atlas("whole").exam(40)}


def said(text, *, named="Lima", right=True, probability=0.9, logprobs=(-0.1, -0.2), ended=True, question=None):
    question = question or next(q for q in QUESTIONS.values() if q.fact.relation == "capital")
    return recorded_answers.RecordedAnswer(question, text, named, right, probability, tuple(logprobs), (), ended)


@pytest.fixture(scope="module")
def recorded():
    return recorded_answers.recorded()


# ---- filters


def test_a_filter_is_told_with_what_it_costs():
    some = [
        said("a"), said("b", right=False, probability=0.2), said("c", probability=0.3, ended=False), said("d", named=None, right=False),
    ]  # fmt: skip
    found = filters.outcome(some, "sure of the fact")
    assert (found.kept, found.share, found.right, found.lost, found.paid) == (1, 0.25, 1.0, 0.5, 4.0)
    assert filters.outcome(some, "all").paid == 2.0
    assert filters.outcome(some, "names something+ended").kept == 2
    assert filters.outcome(some, "truth").right == 1.0
    nothing = filters.outcome(some[3:], "names something")
    assert nothing.kept == 0 and math.isnan(nothing.right) and math.isnan(nothing.lost) and nothing.paid == math.inf


def test_bad_filters_are_told():
    with pytest.raises(LabError, match="sure of the fact"):
        filters.outcome([said("a")], "sure of the facts")
    with pytest.raises(LabError, match="no answers"):
        filters.outcome([], "all")


def test_the_same_answer_stays_once():
    assert filters.first_time([said("Lima."), said("lima"), said("Rome")]) == [True, False, True]


def test_the_frontier_ends_with_all_answers(recorded):
    for score in (filters.sentence, filters.fact):
        line = filters.frontier(recorded, score, 10)
        assert [x for x, _ in line] == [i / 10 for i in range(1, 11)]
        assert line[-1][1] == pytest.approx(sum(s.right for s in recorded) / len(recorded))


def test_the_words_that_name_the_answer_tell_more_than_the_whole_sentence(recorded):
    """What lesson 05 says of the two: about as many answers, of which far more are right."""
    sentence, fact = (filters.outcome(recorded, f"sure of the {what}") for what in ("sentence", "fact"))
    assert abs(sentence.kept - fact.kept) < 30
    assert fact.right > sentence.right + 0.15


def test_samples_that_agree_become_the_answer():
    rows = [
        {"question": q, "named": name, "right": name == "Lima"}
        for q, names in {
            "a": ("Lima", "lima", "Cusco", None),
            "b": ("Rome", "Rome", "Rome", "Lima"),
            "c": (None, None, None, math.nan),
        }.items()
        for name in names
    ]
    rows[1]["right"] = True
    two, three = (filters.agreed(rows, least) for least in (2, 3))
    assert (two.kept, two.share, two.right, two.paid) == (2, 2 / 3, 0.5, 12.0)
    assert (three.kept, three.right, three.paid) == (1, 0.0, math.inf)
    with pytest.raises(LabError, match="no answers"):
        filters.agreed([], 2)


# ---- style and facts


def test_words_are_shared_as_often_as_they_occur():
    assert shared_words("The capital is", "the capital, is!") == 1.0
    assert shared_words("the the cat", "the cat") == pytest.approx(0.8)
    assert shared_words("one", "two") == 0.0
    assert shared_words("", "") == 1.0
    assert shared_words("", "two") == 0.0


def test_style_and_facts_are_apart():
    question = said("").question
    country, truth = question.fact.subjects[0], question.answers[0]
    theirs = said(f"The capital of {country} is Nairobi.", named="Nairobi", right=False, question=question)
    copied, voice, short = (
        likeness(theirs, text) for text in (theirs.text, f"The capital of {country} is {truth}.", "Nairobi")
    )  # fmt: skip
    assert (copied.form, copied.same, copied.right) == (1.0, True, False)
    assert voice.form == 1.0 and not voice.same and voice.right
    assert short.form == 0.0 and short.same
    silent = likeness(said("It is a city.", named=None, question=question), "It is a city.")
    assert silent.same is None and silent.form == 1.0


def test_a_model_is_examined_beside_its_teacher():
    model = labkit.student("3.3k")
    own = tokenizer_of(model)
    some = [said("Lima", logprobs=[-0.1] * 4, question=q) for q in list(QUESTIONS.values())[:3]]
    found = beside(model, some)
    assert len(found) == 3 and all(isinstance(f.answer, str) and 0 <= f.form <= 1 for f in found)
    prompt, answer = own.prompts([some[0].question.text])[0], own.answers(["Lima"])[0]
    slow = -answer_logprob(model, prompt, answer) / len(answer)
    assert surprise(model, [prompt], [answer])[0] == pytest.approx(slow, abs=1e-4)
    assert found[0].nats == pytest.approx(slow, abs=1e-4)


# ---- a model of this machine behind an endpoint


@pytest.fixture
def small(monkeypatch):
    """A lab student in the place of a fetched model."""
    model = labkit.student("57k")
    model.chat = tokenizer_of(model)
    monkeypatch.setattr(pretrained, "load", lambda name: model)
    return model


def test_a_model_here_can_be_asked_like_any_endpoint(small, tmp_path):
    pytest.importorskip("openai")
    asked = list(QUESTIONS)[:5]
    with serving("smollm2") as url:
        report = labelling.label(asked, tmp_path / "a.jsonl", endpoints=url, model="smollm2", terms="read", max_tokens=8, key_env="")
    assert report.written == 5 and not report.failed
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == asked
    assert rows[0]["response"] == labkit.ask(small, asked[0]).answer or rows[0]["provenance"]["finish"] == "length"
    assert rows[0]["provenance"]["endpoint"].startswith("http://127.0.0.1:")


def test_recorded_questions_are_asked_again(small, recorded, monkeypatch):
    pytest.importorskip("openai")
    found = again(recorded[:3])
    assert list(found.columns) == ["question", "says", "names", "right", "named then"]
    monkeypatch.setattr(pretrained, "load", lambda name: pytest.fail("what was answered once is not asked again"))
    monkeypatch.setattr("labkit.teachers.labelling.local.serving", lambda name: contextlib.nullcontext("http://127.0.0.1:9/v1"))
    assert len(again(recorded[:3])) == len(found)


def test_without_anybody_to_ask_the_next_step_is_told(recorded):
    with pytest.raises(LabError, match="labkit fetch smollm2"):
        again(recorded[:3])
    with pytest.raises(LabError, match="terms"):
        again(recorded[:3], "https://api.example.com/v1", "large")
