"""Probes of a model, against counting by hand."""

from __future__ import annotations

import pytest
import torch
from oracles import answer_logprob

from labkit import models
from labkit.base.errors import LabError
from labkit.records.names import CONTINENTS
from labkit.studies import behaviour
from labkit.studies.behaviour import LeftOut, Variety, beside_the_top, lacks, left_out, papers, share_right, variety
from labkit.tasks.atlas.ask import ask
from labkit.tasks.atlas.facts import Atlas


@pytest.fixture
def questions():
    return [q for q in Atlas("half").exam(4) if q.skill == "open"]


def test_variety_counts_different_answers_and_right_ones(monkeypatch, questions):
    """Of a model that writes what this test says: two right answers of which one comes twice, and then nothing right."""
    first, second = questions[:2]
    texts = [first.answers[0], first.answers[0].upper() + " ", first.answers[1], "nowhere", "nowhere", *["nothing"] * 5]
    own = models.tokenizer()

    def write(model, prompts, *, temperature: float, seed: int) -> list[models.Written]:
        assert prompts == [p for p in own.prompts([first.text, second.text]) for _ in range(5)] and (temperature, seed) == (0.7, 3)
        return [models.Written(ids, [], None) for ids in own.answers(texts)]

    monkeypatch.setattr(behaviour, "write", write)
    assert variety(models.student("3.3k"), [first, second], 0.7, samples=5, seed=3) == [Variety(3 / 5, 3 / 5), Variety(1 / 5, 0.0)]


def test_at_temperature_nought_there_is_one_answer(tiny_teacher, questions):
    assert all(v.distinct == 1 / 5 and v.valid in (0.0, 1.0) for v in variety(tiny_teacher, questions, 0.0, samples=5))


def test_beside_the_top_leaves_the_top_out(tiny_teacher, questions):
    for T in (1.0, 3.0):
        for question, share in zip(questions, beside_the_top(tiny_teacher, questions, T), strict=True):
            prompt = torch.tensor(models.tokenizer().prompts([question.text]))
            p = (tiny_teacher(prompt).logits[0, -1].double() / T).softmax(-1)
            first = {ids[0] for ids in models.tokenizer().answers(question.answers)} - {int(p.argmax())}
            assert share == pytest.approx(float(sum(p[t] for t in first) / (1 - p.max())), abs=1e-4)


def test_a_bias_moves_answers_to_the_left_out_class_and_to_nothing_else(tiny_teacher):
    found = left_out(tiny_teacher, Atlas("half"), "Europe", biases=(-100, 0, 5, 100))
    assert [type(row) for row in found] == [LeftOut] * 4
    recall, others = [row.recall for row in found], [row.others for row in found]
    assert recall == sorted(recall)
    assert others == sorted(others, reverse=True)
    assert (recall[0], recall[-1], others[-1]) == (0.0, 1.0, 0.0)


def test_no_bias_is_the_likeliest_continent(tiny_teacher):
    world, right = Atlas("half"), []
    for fact in (fact for fact in world.facts("continent") if fact.answers == ("Asia",)):
        prompt = models.tokenizer().prompts([f"Which continent is {fact.subjects[0]} in?"])[0]
        scores = [answer_logprob(tiny_teacher, prompt, ids) for ids in models.tokenizer().answers(CONTINENTS)]
        right.append(CONTINENTS[scores.index(max(scores))] == "Asia")
    assert left_out(tiny_teacher, world, "Asia", biases=(0,))[0].recall == pytest.approx(sum(right) / len(right))


def test_bad_input(tiny_teacher):
    with pytest.raises(LabError, match="unknown continent"):
        left_out(tiny_teacher, Atlas("half"), "Atlantis")
    with pytest.raises(LabError, match="one continent only"):
        left_out(tiny_teacher, Atlas("Africa"), "Africa")


@pytest.mark.parametrize("left_out", ["compare", "Africa", "paraphrases"])
def test_papers_ask_what_was_left_out_and_the_rest(left_out: str):
    missing, rest = papers(Atlas("half"), left_out)
    asked = {q.text for q in Atlas("half").questions(4_000, 7, left_out=left_out)}
    assert missing
    assert rest
    assert not asked & {q.text for q in missing}, "none of it was in the transfer set"
    pool = Atlas("half").questions(4_000, 7)
    kept = [q for q in pool if not lacks(q, left_out)]
    assert 0.02 < 1 - len(kept) / len(pool) < 0.25
    assert not [q for q in Atlas("half").questions(4_000, 7, left_out=left_out) if lacks(q, left_out)]
    assert all(len(q.answers) == 1 for q in missing + rest)
    match left_out:
        case "compare":
            assert {q.skill for q in missing} == {"compare"}
            assert "compare" not in {q.skill for q in rest}
        case "Africa":
            assert all("Africa" in q.answers[0] for q in missing)
            assert not any("Africa" in q.answers[0] for q in rest)
            assert {q.fact.relation for q in missing} == {q.fact.relation for q in rest}
        case _:
            assert [q.fact for q in missing] == [q.fact for q in rest]
            assert not {q.text for q in missing} & {q.text for q in rest}


def test_share_right_is_what_asking_one_by_one_gives(tiny_teacher):
    asked, _ = papers(Atlas("half"), "reverse", per_skill=8)
    right = [ask(tiny_teacher, q.text).right for q in asked]
    assert share_right(tiny_teacher, asked) == sum(right) / len(right)


def test_papers_on_nothing_are_refused():
    with pytest.raises(LabError, match="left_out"):
        papers(Atlas("half"), "nothing")
    with pytest.raises(LabError, match="larger world"):
        papers(Atlas("Africa"), "Africa")
