"""Lesson 10's parts: acceptance drawn as it rises, the speed-up over tokens and cost, and theory beside what was decoded."""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
import re

import pytest
from stories import record
from strokes import Strokes

import labkit
from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.record import Record
from labkit.speculative import measure, theory
from labkit.speculative.decode import speculate
from labkit.speculative.result import Round, Speculation
from labkit.views import figures
from labkit.views.figures import drafts


def accepted(first: float, last: float) -> Record:
    """A story whose exams took acceptance, from the first to the last; greedy guesses a tenth more often."""
    rec = record(60)
    exams = [e.step for e in rec.evaluations]

    def told(e: ev.Event) -> ev.Event:
        if not isinstance(e, ev.Evaluated):
            return e
        share = first + (last - first) * (e.step - exams[0]) / (exams[-1] - exams[0])
        return dataclasses.replace(e, fidelity={**e.fidelity, "acceptance": share, "agreement": share + 0.1})

    return Record([told(e) for e in rec.events])


# ---- figures


def test_acceptance_is_drawn_at_every_exam_and_the_run_before_beside_it():
    pen = Strokes()
    drafts.draw_acceptance(pen, accepted(0.5, 0.75), accepted(0.25, 0.5))
    lines = {kwargs["name"]: args[1] for args, kwargs in pen.of("line") if kwargs.get("name")}
    exams = len(record(60).evaluations)
    assert {name: (len(ys), ys[0], ys[-1]) for name, ys in lines.items()} == {
        "previous run": (exams, 0.25, 0.5),
        "greedy": (exams, 0.6, 0.85),
        "sampled": (exams, 0.5, 0.75),
    }
    assert {"sampled 0.75", "greedy 0.85", "previous run 0.50"} <= set(pen.texts)


def test_a_record_from_before_acceptance_was_taken_says_so():
    bare = Record([e for e in record(60).events if not isinstance(e, ev.Evaluated)])
    assert figures.acceptance(bare).alt == "No exam has taken acceptance yet."
    pen = Strokes()
    drafts.draw_acceptance(pen, bare)
    assert "no acceptance on record yet" in pen.texts


def test_the_page_has_acceptance_in_place_of_the_waterfall():
    rec = accepted(0.5, 0.75)
    assert "75% would be accepted at step 60" in figures.snapshot(rec, unit="acceptance").alt
    assert "four arms" not in figures.snapshot(rec, unit="acceptance").alt
    assert "four arms" in figures.snapshot(rec).alt


@pytest.mark.parametrize("backend", figures.BACKENDS)
def test_both_libraries_draw_them(backend):
    def drawn(drawing) -> set[str]:
        if backend == "plotly":
            return {re.sub(r"</?b>", "", note.text) for note in drawing.figure.layout.annotations}
        return {text.get_text() for text in drawing.figure.axes[0].texts}

    rise, table = figures.acceptance(accepted(0.5, 0.75), backend=backend), figures.speedups(0.8, 4, 0.25, backend=backend)
    assert {"sampled 0.75", "greedy 0.85"} <= drawn(rise)
    assert rise.bundles()[0][0]["text/plain"] == (
        "Of its sampled guesses 75% would be accepted at step 60, 50% at its first exam; of greedy ones 85%."
    )
    assert {f"{theory.speedup(0.8, g, cost):.2f}" for g in drafts.GAMMAS for cost in (*drafts.COSTS, 0.25)} <= drawn(table)
    best, gain = theory.best_gamma(0.8, 0.0, most=drafts.GAMMAS[-1])
    told = table.bundles()[0][0]["text/plain"]
    assert f"The highest is {gain:.2f} with {best} at cost 0" in told
    assert f"With 4 at cost 0.25: {theory.speedup(0.8, 4, 0.25):.2f}." in told


@pytest.mark.parametrize(("alpha", "verify"), [(0.8, 0.0), (0.5, 0.05), (0.0, 0.0), (0.99, 0.0)])
def test_the_table_of_speedups_frames_the_best_of_every_row(alpha, verify):
    pen = Strokes()
    drafts.draw_speedups(pen, alpha, verify=verify)
    framed = [args for args, kwargs in pen.of("bar") if kwargs["edge"] == figures.pen.INK]
    pays = [cost for cost in drafts.COSTS if max(theory.speedup(alpha, g, cost, verify) for g in drafts.GAMMAS) > 1]
    assert len(framed) == len(pays), "no row is framed where no draft pays"
    bold = [args[2] for args, kwargs in pen.of("text") if kwargs.get("bold")]
    assert bold == [f"{max(theory.speedup(alpha, g, cost, verify) for g in drafts.GAMMAS):.2f}" for cost in pays]


def test_the_place_asked_about_gets_a_row_of_its_own_and_a_box():
    pen = Strokes()
    drafts.draw_speedups(pen, 0.8, 4, 0.27)
    assert "c = 0.27" in pen.texts
    assert len([args for args, _ in pen.of("line") if len(args[0]) == 5]) == 1
    assert f"{theory.speedup(0.8, 4, 0.27):.2f} times as fast" in drafts.say_speedups(0.8, 4, 0.27)


# ---- the lens


def words(view) -> str:
    assert 'role="alert"' not in view.words.value, view.words.value
    return re.sub(r"<[^>]+>", "", view.words.value)


def test_the_speculation_lens_says_what_the_formulas_give():
    view = labkit.lens("speculation", alpha=0.8, gamma=4, cost=0.1)
    for alpha, gamma, cost, verify in ((0.8, 4, 0.1, 0.0), (0.6, 2, 0.3, 0.1), (0.2, 7, 0.5, 0.0)):
        view.alpha.value, view.gamma.value, view.cost.value, view.verify.value = alpha, gamma, cost, verify
        said = words(view)
        assert f"{theory.tokens_per_round(alpha, gamma):.2f} tokens a round" in said
        assert f"{theory.speedup(alpha, gamma, cost, verify):.2f} times as fast" in said
        best, _ = theory.best_gamma(alpha, cost, verify, most=12)
        assert (f"best: \u03b3 = {best}" if best else "no number of tokens pays") in said
        assert f"at acceptance {alpha:.2f}" in view.picture.outputs[0]["data"]["text/plain"]
    assert all(control.description and control.tooltip for control in view.children[:4])


def test_the_lens_takes_what_was_measured_and_keeps_it_on_its_sliders():
    assert labkit.lens("speculation", alpha=1.0, cost=1.7).cost.value == 1.0
    for wrong in ({"alpha": 7}, {"alpha": float("nan")}, {"gamma": 0}, {"cost": -1}):
        with pytest.raises(LabError, match="is out of range"):
            labkit.lens("speculation", **wrong)


# ---- theory beside decoding


@pytest.fixture(scope="module")
def teacher():
    return labkit.teacher("atlas-3m")


@pytest.fixture(scope="module")
def half_taught():
    return labkit.teacher("atlas-3m-early")


QUESTIONS = ("What is the capital of Chad?", "Name a city in Kenya.", "Add 14, 2 and 9.", "Think: on which continent is Zaragoza?")


def test_every_judged_token_is_accounted_for(teacher, half_taught):
    done = [speculate(teacher, half_taught, text, 3, temperature=1.0, seed=seed) for text in QUESTIONS for seed in range(2)]
    found = measure.judged(teacher, half_taught, done)
    assert len(found) == sum(r.judged for one in done for r in one.rounds if r.proposed)
    assert sum(x.taken for x in found) == sum(one.accepted for one in done)
    assert {x.place for x in found} <= {1, 2, 3}


def test_a_draft_that_is_its_target_is_certain_of_every_token(teacher):
    done = [speculate(teacher, teacher, text, 3, temperature=1.0, seed=1) for text in QUESTIONS]
    found = measure.judged(teacher, teacher, done)
    assert all(x.taken and x.chance == pytest.approx(1, abs=1e-4) for x in found)


def test_chances_on_paper_are_the_shares_that_are_seen(teacher, half_taught):
    done = [speculate(teacher, half_taught, text, 3, temperature=1.0, seed=seed) for text in QUESTIONS for seed in range(10)]
    found = measure.judged(teacher, half_taught, done)
    mean = sum(x.chance for x in found) / len(found)
    spread = math.sqrt(sum(x.chance * (1 - x.chance) for x in found)) / len(found)
    assert abs(measure.share(found).middle - mean) < 4 * spread
    assert 4 * spread < 0.2, "few enough to be quick, and enough to see a fifth that is missing"


def test_by_place_gives_tokens_a_round_exactly_where_no_answer_ends(teacher, half_taught):
    done = [speculate(teacher, half_taught, text, 2, temperature=1.0, seed=seed) for text in QUESTIONS for seed in range(3)]
    roomy = [x for x in measure.judged(teacher, half_taught, done) if x.roomy]
    rounds = sum(x.place == 1 for x in roomy)
    reached = itertools.accumulate(measure.by_place(roomy), operator.mul)
    assert 1 + sum(reached) == pytest.approx(1 + sum(x.taken for x in roomy) / rounds)


def test_a_round_that_the_end_cut_short_is_not_roomy(teacher):
    ids = [5, 6, 7, 8, 0]
    rounds = [Round([6, 7], [-1, 0], [0, 1], 8, True), Round([0, 3], [-1, 0], [0], None, True)]
    told = Speculation(QUESTIONS[0], "", ids, rounds, {}, 0.0, 3, 4)
    found = measure.judged(teacher, teacher, [told])
    assert [(x.place, x.taken, x.roomy) for x in found] == [(1, True, True), (2, True, True), (1, True, False)]


def test_wilson_s_interval_against_the_textbook():
    found = [measure.Judged(1, 0.5, i < 8, True) for i in range(10)]
    assert measure.share(found)[1:3] == pytest.approx((0.4902, 0.9433), abs=1e-3)  # Newcombe 1998: 8 of 10
    assert measure.share([x._replace(taken=True) for x in found]).high == pytest.approx(1)


def test_what_cannot_be_measured_is_told(teacher):
    with pytest.raises(LabError, match="no token was judged"):
        measure.share([])
    with pytest.raises(LabError, match="heads"):
        measure.judged(teacher, object(), [])
