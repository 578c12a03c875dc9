"""What lessons 05 to 08 show and say in words: numbers as their sources have them, and no empty or endless ones."""

from __future__ import annotations

import math

import pytest

import labkit
from labkit.lessons.figures import lesson_05, lesson_06, lesson_07, lesson_08
from labkit.lessons.figures.tables import Table
from labkit.records.record import core
from labkit.studies import scaling
from labkit.studies.claims.data import seeds_of
from labkit.teachers import recorded_answers


def cells(table: Table) -> dict[str, list[object]]:
    """The rows of a table by their names."""
    return {str(row[0]): list(row[1:]) for row in table.rows}


def test_a_table_is_escaped_and_says_its_cells_in_text():
    table = Table(["a", "<b>"], [["row", 0.126], ["<i>", None]])
    page = table._repr_html_()
    assert "<i>" not in page
    assert "&lt;b&gt;" in page
    assert "0.13" in page
    assert repr(table).splitlines()[0] == "a | <b>"


@pytest.mark.parametrize(
    ("examples", "tokens_in", "tokens_out", "price_in", "price_out"), [(52_000, 40, 60, 0.5, 2.0), (10, 1, 0, 3.0, 9.0)]
)
def test_a_bill_is_tokens_times_prices_and_a_right_answer_costs_more(examples, tokens_in, tokens_out, price_in, price_out):
    said = recorded_answers.recorded()
    bill = cells(lesson_05.bill(said, examples, tokens_in, tokens_out, price_in, price_out, 100.0))
    (labels,), (training,), (each,), (right,) = bill.values()
    assert labels == pytest.approx(examples * (tokens_in * price_in + tokens_out * price_out) / 1e6)
    assert training == 100.0
    assert each == pytest.approx(tokens_in * price_in + tokens_out * price_out)
    assert right * sum(s.right for s in said) == pytest.approx(each * len(said))


def test_a_vote_shows_no_infinity_and_no_missing_number():
    for kept, right, paid in cells(lesson_05.votes()).values():
        assert (kept == 0) == (right == "none kept")
        assert kept == 0 or (math.isfinite(paid) and 0 <= right <= 1)
    assert lesson_05.warmer().notna().all(axis=None)


def test_a_knee_outside_of_what_was_tried_is_said_in_words():
    knees = cells(lesson_06.knees())
    assert set(knees) == set(lesson_06.SIZES)
    assert not any(word in repr(knees) for word in ("inf", "nan", "'0.00'"))
    for name, held in lesson_06.stores().items():
        whole = [bits / asked >= 0.9 for asked, bits in held.items()]
        assert knees[name][0].startswith("all that were tried") == all(whole)
        assert knees[name][0].startswith("none that was tried") == (not whole[0])


def test_what_lesson_06_says_in_words():
    found = scaling.held_out("logistic", scaling.points(labkit.sweep("sizes"), core), draws=60)
    assert [round(h.parameters, -3) for h in found if not h.inside] == [56_000], "seven of eight, and 57k"
    assert len(found) == 8
    assert all(h.measured > h.predicted.high for h in found if not h.inside), "57k does better"
    assert cells(lesson_06.sizes_for([0.5, 0.9]))["0.9"][0] == "out of reach"


def test_a_spelling_that_is_unusual_adds_next_to_nothing_and_uld_is_blind_to_names():
    shown = lesson_07.spelled().rows
    assert float(shown[0][1]) > 0.9 > 1e-6 > float(shown[-1][1])
    blind = cells(lesson_07.false_zero())
    assert blind["ULD between both"] == ["0.000"]
    assert float(str(blind["KL between both"][0]).split()[0]) > 1
    assert len(lesson_07.exact_targets().rows) == 3


def test_what_architectures_gain_is_soft_labels_minus_gold():
    gains = cells(lesson_07.over_gold())
    assert list(gains) == ["Llama", "GPT-2", "recurrent units"]
    for gold, soft, gain, _ in gains.values():
        assert gain == pytest.approx(soft - gold)


def test_holes_are_lost_and_the_rest_is_not():
    for share, covered, left_out, *_ in cells(lesson_07.holes()).values():
        assert share in ("1%", "10%", "14%")
        assert left_out < covered


def test_what_lesson_08_says_in_words():
    arms = cells(lesson_08.copied())
    assert arms["noise, soft labels"][0] < arms["lies on 30% of facts"][0] < arms["honest teacher"][0], "noise is not free"
    cures = cells(lesson_08.cured())
    assert cures["text, confident"][0] > cures["no cure: the teacher's text"][0] > cures["text, verified"][0]
    assert set(seeds_of("inheritance", "inherited", arm="not asked, lies 30%").values()) == {0.0}, "not one lie about elements"
    assert len(lesson_08.surest_errors().rows) == 8


@pytest.mark.parametrize("lesson", [lesson_05, lesson_06, lesson_07, lesson_08], ids=lambda lesson: lesson.__name__[-2:])
def test_its_figures_have_words(lesson):
    said = recorded_answers.recorded()
    drawn = {
        lesson_05: [lesson_05.gained(), lesson_05.frontier(said)],
        lesson_06: [lesson_06.bend(), lesson_06.limit(), lesson_06.skill_by_size(), lesson_06.longer(), lesson_06.teachers()],
        lesson_07: [lesson_07.ways(), lesson_07.smaller_vocabularies(), lesson_07.losses(), lesson_07.architectures()],
        lesson_08: [lesson_08.inherited(), lesson_08.flips(), lesson_08.cures(), lesson_08.abstaining(), lesson_08.favourite()],
    }[lesson]
    assert all(len(drawing.alt) > 80 and "nan" not in drawing.alt for drawing in drawn)
