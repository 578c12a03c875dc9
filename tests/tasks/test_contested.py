"""Contested facts are asked in the exam and shown on no board; each row of the list has a use, and the exam's marks do not follow it."""

from __future__ import annotations

import itertools
import re

import pytest

from labkit.lessons.catalogue import LESSONS
from labkit.records import events as ev
from labkit.records.names import SKILLS, WORLDS
from labkit.records.store import shipped
from labkit.tasks.atlas.contested import CONTESTED, also_right, contested, for_show, rows_for_show
from labkit.tasks.atlas.exam import Exam, Graded
from labkit.tasks.atlas.facts import RELATIONS, Atlas, Question, ask_about, normalise
from labkit.tasks.atlas.tables import tables
from labkit.tasks.heads_exam import HeadsExam

WORLD = Atlas()
# Written without the list: what a reader would not want to see first, and names that mean another place to most readers.
UNWANTED = re.compile(
    r"Jerusalem|Israel|Palestin|Gaza|Hebron|Ramallah|Taiwan|Taipei|Kosovo|Pristina|Sahara|Laayoune|Crimea|Sevastopol|Simferopol|Donetsk"
    r"|Sokhumi|Tiraspol|Hargeysa|Famagusta|Kyrenia|is Liberia|Georgia|Timor|Santa Clara|San Miguel|Birmingham|Micronesia"
)


def every_question() -> list[Question]:
    return [ask_about(fact) for relation in RELATIONS if relation not in ("add", "chain", "compare") for fact in WORLD.facts(relation)]


def asked(text: str) -> Question:
    question = WORLD.find(text)
    assert question is not None, text
    return question


@pytest.mark.parametrize("scale", WORLDS)
def test_the_twelve_that_are_shown(scale):
    exam = Exam(Atlas(scale), None, 40)
    answers = [Graded(q.answers[0], 0.5, True) for q in exam.questions]
    rows = exam.sample(answers)
    assert len(rows) == 12 and [row["skill"] for row in rows[:10]] == list(SKILLS)
    assert not [row for row in rows if UNWANTED.search(row["question"]) or UNWANTED.search(row["truth"])]
    assert not any(contested(asked(row["question"])) for row in rows)
    assert rows_for_show(rows) == rows


def test_the_exam_still_asks_what_is_not_shown():
    texts = {q.text for q in Atlas("half").exam(40)}
    assert {"Jerusalem is the capital of which country?", "Think: on which continent is Santa Clara?"} <= texts
    assert not WORLD.is_right(asked("On which continent is Liberia?"), "Africa"), "the exam marks by Atlas alone"
    assert not WORLD.is_right(asked("Which continent is Timor Leste in?"), "Asia")


def test_the_answers_of_draft_heads_that_are_shown(tiny_teacher):
    asked_first = [asked("Which continent is Turkey in?"), *Atlas("Asia").exam(2)]
    exam = HeadsExam(asked_first, tiny_teacher, 2)
    rows = exam.sample(exam.teacher_answers)
    assert len(rows) == 12 and not any(contested(asked(row["question"])) for row in rows)
    assert rows_for_show([{**rows[0], "question": asked_first[0].text}, *rows]) == rows


@pytest.mark.parametrize("scale", ["half", "whole", "Asia", "Africa"])
def test_the_probe_asks_a_plain_question(scale, tiny_teacher):
    assert contested(asked(Exam(Atlas(scale), None, 12).probe(tiny_teacher)[0])) == ""


def test_a_world_of_contested_questions_shows_none_and_is_probed_all_the_same(tiny_teacher):
    exam = Exam(WORLD, None, questions=[asked("Name a city in Israel."), asked("What is the capital of Israel?")])
    assert exam.sample(exam.grade(tiny_teacher).answers) == []
    assert exam.probe(tiny_teacher)[0] == "Name a city in Israel."


# ---- the list ----------------------------------------------------------------------------------------------------------------------------


def test_every_row_has_a_reason_and_a_question():
    questions = every_question()
    for row in CONTESTED:
        assert len(row.reason) > 10 and set(row.relations) <= set(RELATIONS), row
        about = [
            q
            for q in questions
            if row.name in {part for text in (*q.fact.subjects, *q.answers) for part in text.split(", ")}
            and (not row.relations or q.fact.relation.removesuffix("_steps") in row.relations)
        ]
        assert about and all(contested(q) for q in about if row.name in q.fact.subjects), row
        if row.also:
            new = [(q, a) for q in about for a in row.also if normalise(a) in also_right(q) and not WORLD.is_right(q, a)]
            assert new, f"{row} adds no answer to Atlas"


def test_what_is_disputed_most_is_in_no_question():
    said = {part for q in every_question() for text in (*q.fact.subjects, *q.answers) for part in text.split(", ")}
    absent = {"Taiwan", "Taipei", "Kosovo", "Pristina", "Western Sahara", "Laayoune", "El Aaiun", "Sevastopol", "Simferopol", "Crimea"}
    assert not said & absent
    open_ended = asked("Name a city in Ukraine.")
    assert all(WORLD.is_right(open_ended, city) for city in ("Sevastopol", "Simferopol")), "as the module's docstring says"


def test_names_of_other_places_are_found_in_the_tables():
    """Every city with the name of a country that it is not in, and every city whose name places of other countries have."""
    countries, cities, *_ = tables()
    named = {spelling: c.iso for c in countries.values() for spelling in WORLD.spellings(c.name)}
    other = [city for city in cities if named.get(normalise(city.name), city.iso) != city.iso]
    assert [city.name for city in other] == ["Liberia"]
    for city in itertools.chain(other, (c for c in cities if c.also_in)):
        assert contested(asked(f"In which country is {city.name}?")) and contested(asked(f"Think: on which continent is {city.name}?"))


@pytest.mark.parametrize(
    ("question", "also"),
    [
        ("On which continent is Liberia?", {"africa", "liberia"}),
        ("Which continent is Liberia in?", set()),
        ("Which continent is Timor Leste in?", {"asia"}),
        ("On which continent is Dili?", {"asia"}),
        ("On which continent is Baku?", {"europe"}),
        ("On which continent is Novosibirsk?", {"asia"}),
        ("On which continent is Moscow?", set()),  # Russia lies on two continents, Moscow on one
        ("What currency is used in Panama?", {"us dollar", "american dollar"}),
        ("What currency is used where Panama City is the capital?", {"us dollar", "american dollar"}),
        ("What is the capital of Panama?", set()),
        ("What is the capital of Palestine?", {"jerusalem"}),
        ("What is the capital of Peru?", set()),
    ],
)
def test_answers_of_other_sources(question, also):
    assert also_right(asked(question)) == also


def test_plain_facts_are_plain():
    for text in ("What is the capital of Peru?", "On which continent is Arequipa?", "Name a neighbour of France.", "What is 2 + 3?"):
        assert contested(asked(text)) == ""
    plain = [q for q in every_question() if not contested(q)]
    assert len(plain) > 0.75 * len(every_question())


# ---- recorded runs -----------------------------------------------------------------------------------------------------------------------


def test_a_recorded_run_is_shown_without_them():
    """The run that lesson 00 opens with was recorded before: its record stays as it is, and the board gets the other rows."""
    record = shipped().whole(LESSONS["00"].recorded)
    assert record is not None
    for event in record.events:
        shown = for_show(event)
        assert for_show(shown) == shown
        if not isinstance(event, ev.Sampled):
            assert shown is event
            continue
        assert isinstance(shown, ev.Sampled) and shown.step == event.step
        assert [r["question"] for r in shown.rows] == [r["question"] for r in event.rows if not UNWANTED.search(r["question"])]
        assert len(event.rows) == 12 and len(shown.rows) == 10


def test_wrong_working_in_a_record_is_shown_as_such():
    row = {"question": "Add 17, 12 and 2.", "skill": "chain", "student": "17+12=30, 30+2=31", "verdict": "right"}
    assert rows_for_show([row]) == [{**row, "verdict": "working"}]
    for other in ({"student": "17+12=29, 29+2=31"}, {"verdict": "wrong"}, {"skill": "exact"}, {"question": "Add some."}):
        assert rows_for_show([row | other]) == [row | other]
    assert rows_for_show([{}, {"skill": "chain"}]) == [{}, {"skill": "chain"}], "rows of strangers pass as they are"


def test_both_boards_show_the_same():
    pytest.importorskip("anywidget")
    from labkit.views.board.image import ImageBoard
    from labkit.views.board.widget import Board

    rows = [
        {"question": f"{city} is the capital of which country?", "skill": "reverse", "verdict": "right"} for city in ("Jerusalem", "Lima")
    ]
    event = ev.Sampled(7, tuple(rows))
    board, image = Board(), ImageBoard()
    board.push([event])
    image.push([event])
    assert "Lima" in str(board._story) and "Jerusalem" not in str(board._story)
    assert "Lima" in image.answers.value and "Jerusalem" not in image.answers.value
