"""Answers in steps are marked as a teacher marks them: a right end does not hide a wrong step. The score stays that of the last step."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit import models
from labkit.lessons.catalogue import LESSONS
from labkit.records import events as ev
from labkit.records.names import SKILLS, STEPS
from labkit.records.record import Record
from labkit.records.store import shipped
from labkit.tasks.atlas.exam import Exam, Graded, shares
from labkit.tasks.atlas.facts import RELATIONS, Atlas, Question, normalise
from labkit.tasks.atlas.tables import tables
from labkit.views.report import report

WORLD = Atlas("half")
ASKED = [q for q in WORLD.exam(20) if q.skill in STEPS]


def asked(text: str) -> Question:
    question = WORLD.find(text)
    assert question is not None, text
    return question


def oracle(question: Question, answer: str) -> bool:
    """Right working, by listing every text that is: all orders of a sum, and all paths of a two-hop question, in all spellings."""
    if question.skill == "chain":
        right = set()
        for a, b, c in itertools.permutations(map(int, question.fact.subjects)):
            for second in ((a + b, c), (c, a + b)):
                right.add(f"{a}+{b}={a + b}, {second[0]}+{second[1]}={a + b + c}")
        return answer in right
    countries, cities, *_ = tables()
    if question.fact.relation == "city_continent_steps":
        (city,) = (c for c in cities if c.name == question.fact.subjects[0])
        ends = [(countries[iso].name, countries[iso].continent) for iso in (city.iso, *city.also_in)]
    else:
        ends = [(c.name, c.currency) for c in countries.values() if c.capital == question.fact.subjects[0]]
    right = {f"{one}, {two}" for a, b in ends for one in WORLD.spellings(a) for two in WORLD.spellings(b)}
    return ", ".join(map(normalise, answer.split(", "))) in right


@pytest.mark.parametrize(
    ("question", "answer", "right", "working"),
    [
        ("Add 17, 12 and 2.", "17+12=29, 29+2=31", True, True),
        ("Add 17, 12 and 2.", "17+12=30, 30+2=31", True, False),
        ("Add 17, 12 and 2.", "12+17=29, 2+29=31", True, True),
        ("Add 17, 12 and 2.", "17+12=29, 29+3=31", True, False),
        ("Add 17, 12 and 2.", "16+15=31", True, False),
        ("Add 17, 12 and 2.", "31", True, False),
        ("Add 17, 12 and 2.", "17+12=29, 29+2=32", False, False),
        ("Add 17, 12 and 2.", "17+12=29", False, False),
        ("Add 17, 12 and 2.", "", False, False),
        ("Think: on which continent is Santa Clara?", "Cuba, North America", True, True),
        ("Think: on which continent is Santa Clara?", "Democratic Republic of the Congo, North America", True, False),
        ("Think: on which continent is Santa Clara?", "Angola, Africa", True, True),  # there is one too
        ("Think: on which continent is Santa Clara?", "Angola, North America", True, False),  # each is right, the path is not
        ("Think: on which continent is Santa Clara?", "North America", True, False),
        ("Think: what currency is used where Kyiv is the capital?", "ukraine, hryvnia.", True, True),
        ("Think: what currency is used where Kyiv is the capital?", "Russia, Hryvnia", True, False),
        ("What is 17 + 2?", "19", True, None),
        ("On which continent is Santa Clara?", "North America", True, None),
    ],
)
def test_by_hand(question, answer, right, working):
    found = asked(question)
    assert (WORLD.is_right(found, answer), WORLD.working(found, answer)) == (right, working)
    assert working is None or working == oracle(found, answer.casefold() if found.skill == "chain" else answer.rstrip("."))


def test_every_relation_with_steps_is_among_the_skills_with_steps():
    skills = {kind.skill for name, kind in RELATIONS.items() if name.endswith("_steps") or name == "chain"}
    assert skills == set(STEPS)
    for name, kind in RELATIONS.items():
        fact = WORLD.facts(name)[0]
        found = WORLD.working(asked(kind.wordings[0].format(*fact.subjects)), fact.answers[0])
        assert found is (True if kind.skill in STEPS else None)


@given(st.sampled_from(ASKED), st.data())
def test_a_planted_wrong_step_is_found(question, data):
    """One number or one name of the taught answer is exchanged; if it was not the last, the answer is still right."""
    truth = question.answers[0]
    assert WORLD.working(question, truth) and WORLD.is_right(question, truth)
    parts = re.split(r"(\d+|, )", truth)
    places = [i for i, part in enumerate(parts) if part.strip(", ") and part not in "+="]
    place = data.draw(st.sampled_from(places))
    other = data.draw(st.integers(0, 99).map(str) if question.skill == "chain" else st.sampled_from(["Atlantis", "Peru", "Chad", "Asia"]))
    wrong = "".join([*parts[:place], other, *parts[place + 1 :]])
    if not oracle(question, wrong):
        assert WORLD.working(question, wrong) is False
        assert WORLD.is_right(question, wrong) == (place != places[-1] or normalise(other) in WORLD.spellings(parts[places[-1]]))


@given(st.sampled_from(ASKED), st.text("0123456789+=, .", max_size=24) | st.text(max_size=30))
def test_right_working_ends_in_a_right_answer(question, answer):
    assert WORLD.working(question, answer) in (True, False)
    assert WORLD.is_right(question, answer) or not WORLD.working(question, answer)


@pytest.mark.parametrize("name", ["atlas-200k", "atlas-3m-early", "atlas-3m-lies-30"])
def test_real_answers_as_an_oracle_reads_them(name):
    """The teachers write right and wrong steps; the exam's shares are those of a reader who lists all right texts."""
    exam = Exam(WORLD, None, 40, skills=STEPS)
    grades = exam.grade(labkit.teacher(name))
    for question, answer in zip(exam.questions, grades.answers, strict=True):
        assert answer.working == oracle(question, answer.text), (question.text, answer.text)
        assert answer.right or not answer.working
    for skill in STEPS:
        marks = [oracle(q, a.text) for q, a in zip(exam.questions, grades.answers, strict=True) if q.skill == skill]
        assert grades.working[skill] == sum(marks) / len(marks) <= grades.skills[skill]


# ---- the third verdict -------------------------------------------------------------------------------------------------------------------


def test_wrong_working_is_a_verdict_and_still_right_in_the_shares():
    exam = Exam(WORLD, None, 4)
    answers = [Graded(q.answers[0], 0.5, True, WORLD.working(q, q.answers[0])) for q in exam.questions]
    assert {row["verdict"] for row in exam.sample(answers)} == {"right"}
    slipped = [answer._replace(working=False) if answer.working else answer for answer in answers]
    found = {(row["skill"] in STEPS, row["verdict"]) for row in exam.sample(slipped)}
    assert found == {(True, "working"), (False, "right")}
    verdicts = [exam.verdict(i, answer) for i, answer in enumerate(slipped)]
    assert shares(verdicts) == {"right": 1.0, "inherited": 0.0, "wrong": 0.0}, "the score is of the last step"
    assert exam._skills(slipped) == exam._skills(answers)
    assert exam._working(answers) == dict.fromkeys(STEPS, 1.0) and exam._working(slipped) == dict.fromkeys(STEPS, 0.0)


def test_it_is_measured_in_every_exam_of_atlas():
    exam = Exam(WORLD, models.student("22k"), 2)
    assert list(exam.teacher_grades.working) == [s for s in SKILLS if s in STEPS]
    assert all(exam.teacher_grades.working[skill] <= exam.teacher_grades.skills[skill] for skill in STEPS)


# ---- records -----------------------------------------------------------------------------------------------------------------------------


def examined(**more) -> ev.Evaluated:
    return ev.Evaluated(7, 0.5, dict.fromkeys(SKILLS, 0.625), {"kl": 0.25}, {"validity": 0.5}, 0.125, {"right": 1.0}, True, **more)


def run(exam: ev.Evaluated) -> Record:
    started = ev.Started({"student": "57k", "steps": 7}, "57k student", 2_900_000, 57_000, 7, 20_000, SKILLS, "x86")
    return Record([started, exam, ev.Reference("teacher", dict.fromkeys(SKILLS, 1.0)), ev.Finished(7, 1.0, "completed")])


def test_the_table_has_it_beside_the_score():
    table = run(examined(working={"chain": 0.375, "two_hop_steps": 1 / 3})).table()
    assert list(table.columns) == ["student", "working right", "teacher"]
    assert table["working right"].dropna().to_dict() == {"chain": 0.375, "two_hop_steps": 1 / 3}
    assert table.round(2)["working right"]["two_hop_steps"] == 0.33
    assert (table["student"][list(SKILLS)] == 0.625).all()


def test_old_records_are_read_and_say_not_measured():
    row = json.loads(ev.dumps(examined(working={"chain": 0.5})))
    del row["working"]
    old = ev.from_json(row)
    assert old == examined() and old.working == {}
    record = run(old)
    assert record.numbers("working") == {} and "working" not in json.dumps(dict(record.numbers("skills")))
    assert record.table()["working right"].dropna().to_dict() == dict.fromkeys(STEPS, "not measured")
    assert record.table().round(2)["student"]["chain"] == 0.62
    assert report(record).count("not measured</td>") == len(STEPS)


def test_a_shipped_record_is_an_old_one():
    for record in (shipped().find(LESSONS["00"].recorded), shipped().whole(LESSONS["00"].recorded)):  # by the results table, and by events
        assert record is not None and record.table()["working right"].dropna().to_dict() == dict.fromkeys(STEPS, "not measured")
