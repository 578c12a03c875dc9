"""What the figures and tables of lessons 09 to 13 say, beside what they are made from."""

from __future__ import annotations

import pytest

import labkit
from labkit.diagnosis.failures import FAILURES
from labkit.lessons.figures import lesson_09, lesson_10, lesson_11, lesson_13
from labkit.tasks.custom.rows import read_rows, split
from labkit.tasks.metrics import metric


@pytest.fixture(autouse=True)
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_DATA", raising=False)


@pytest.mark.parametrize("skill", ["two_hop_steps", "chain"])
@pytest.mark.parametrize("arm", ["teacher's answers", "half online throughout"])
def test_both_curves_begin_at_the_question_and_no_band_is_below_0(skill, arm, monkeypatch):
    drawn = {}
    monkeypatch.setattr(lesson_09.figures, "lines", lambda title, note, series, across: drawn.update(series))
    lesson_09.strays(skill, arm)
    teacher, own = drawn.values()
    assert teacher.points[0] == pytest.approx(own.points[0]), "at the first token there is only the question"
    assert all(low >= 0 for line in drawn.values() for low, _ in line.bands)


def test_the_meter_and_the_figure_tell_the_same_costs():
    meter = lesson_09.meter()
    assert list(meter.index) == list(labkit.sweep("online_finish").arms)
    assert meter["k tokens the student wrote"]["teacher's answers"] == 0
    longer = meter["core skill"][lesson_09.LONGER]
    assert f"{longer:.2f}" in lesson_09.by_cost().words
    assert lesson_09.gains().alt.count(" to ") >= 2 * (len(meter) - 1)


@pytest.mark.parametrize("figure", ["by_share", "by_cost"])
def test_what_students_score_is_drawn_as_students_or_a_baseline(figure, monkeypatch):
    drawn = {}
    monkeypatch.setattr(lesson_09.figures, "lines", lambda title, note, series, across, **also: drawn.update(series))
    getattr(lesson_09, figure)()
    assert {line.role for line in drawn.values()} <= {"student", "baseline"}
    assert len({(line.role, line.dash) for line in drawn.values()}) == len(drawn), "and each can be told from the others"


def test_a_draft_that_serves_has_the_same_weights_after_it():
    (row,) = lesson_10.corrected(labkit.student("22k"), [q.text for q in labkit.Atlas("half").exam(1)][:4]).rows
    rejected, before, after = row
    assert rejected > 0
    assert before == after


def test_recorded_guessers_are_drawn():
    assert "gold labels 0.75" in lesson_10.ways_to_train().alt
    assert lesson_10.heads().alt.count(";") >= 4
    assert list(lesson_10.heads_by_depth().index) == list(labkit.sweep("heads").arms)
    assert "eagle, gold text 0.84" in lesson_10.real().alt


def test_each_failure_stands_beside_its_cured_run_and_no_low_loss_shows_it():
    rows = lesson_11.curves().rows
    assert sorted(row[0] for row in rows) == sorted(entry.label for entry in FAILURES.values())
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    quiet = {"Over-confident teacher", "Teacher in training mode", "Truncated to the teacher's top tokens", "T squared missing"}
    assert all(cured - broken < 0.02 for label, _, _, broken, cured in rows if label in quiet)
    rising = [label for label, first, last, *_ in rows if last > 0.99 * first]
    assert rising == ["Teacher and student swapped"]


def test_cures_and_looks_are_those_of_the_case():
    case = labkit.incident(seed=72)
    table = lesson_11.cures(case, "shuffled_cache", "missing_end")
    assert [row[1] for row in table.rows] == list(case.cures("shuffled_cache").values())
    seen = lesson_11.looks("healthy", "shuffled_cache")['read("hits")']
    assert seen["healthy"] > 0.8 > 0.5 > seen["shuffled_cache"]


def test_a_run_without_a_finding_says_so():
    (run, *_) = labkit.sweep("failures").records("healthy")
    assert lesson_11.found(run).rows == [["none", "no detector finds anything in this run"]]
    (broken, *_) = labkit.sweep("failures").records("shuffled_cache")
    assert FAILURES["shuffled_cache"].label in [row[0] for row in lesson_11.found(broken).rows]


def test_a_file_is_told_without_the_place_it_was_read_from():
    told = lesson_13.read(['{"question": "a?", "answer": "b"}', "{", '{"answer": "c"}']).rows
    assert told[0][1].startswith("1 rows")
    assert [where for where, _ in told[2:]] == ["line 2", "line 3"]
    assert not any("/" in cell for row in told for cell in row)


def test_a_score_is_checked_on_references_and_on_one_answer_to_all():
    references, always = lesson_13.scored(metric("label_f1"), split(read_rows("tickets")).held_out).rows
    assert references[1] == 1
    assert always[1] < 0.1


def test_what_distilling_added_to_the_tickets_is_paired():
    added = {row[0]: row for row in lesson_13.tickets_added().rows}
    assert list(added) == ["distilled minus untouched", "distilled minus gold labels"]
    for _, middle, low, high, says, near, far in added.values():
        assert low < middle < high
        assert (says, near < far) == ("higher", True)
    assert lesson_13.ways().alt.count("(") == 3
