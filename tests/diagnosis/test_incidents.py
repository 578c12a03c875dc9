"""The incident room, as a learner uses it: what is drawn, that nothing tells on it, what looking costs, and how answers are counted."""

from __future__ import annotations

import html
import itertools
import json
import re
import subprocess
import sys
import threading
from unittest import mock

import ipywidgets as widgets
import numpy as np
import pytest
from conftest import TEACHER

import labkit
from labkit.base.errors import LabError
from labkit.diagnosis import incidents
from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures import FAILURES, diagnose
from labkit.diagnosis.incidents import NO_FAULT, PROBES, cases, mistakes
from labkit.diagnosis.incidents import history as kept
from labkit.diagnosis.incidents.cases import SOURCES, draw, ordered, recorded, truth
from labkit.diagnosis.incidents.findings import Glimpse, cheapest
from labkit.diagnosis.incidents.history import IncidentAnswer, Mistakes, answers, keep, ledger, score
from labkit.diagnosis.incidents.probes import minutes
from labkit.diagnosis.incidents.widget import IncidentRoom
from labkit.records.experiment import Experiment
from labkit.records.store import Store
from labkit.views.figures.pen import MatplotlibPen

TINY = Experiment(student="22k", teacher=TEACHER, questions=512, gold=40, batch=8, steps=4)


def number_of(*names: str) -> int:
    """The first case with just these failures."""
    return next(n for n in range(10_000) if set(recorded()[next(cases._order(n))]) == set(names))


ONE, TWO, NONE = number_of("shuffled_cache"), number_of("missing_t2", "wrong_temperature"), number_of()
EVERY = sorted(set(recorded().values()))


# ---- what is drawn -----------------------------------------------------------------------------------------------------------------


def test_the_odds_are_a_quarter_a_half_and_a_quarter_and_every_set_comes_up():
    drawn = [recorded()[next(cases._order(n))] for n in range(600)]
    counts = [sum(len(names) == many for names in drawn) / len(drawn) for many in range(3)]
    assert counts == pytest.approx([0.25, 0.5, 0.25], abs=0.06)
    assert set(drawn) == set(EVERY)


def test_no_run_is_one_that_detectors_were_set_on_and_every_one_is_on_record():
    failing = set(labkit.sweep("failures").recipes())
    for recipe in recorded():
        assert any(recipe.seed in seeds for seeds in SOURCES.values())
        if recipe.but(seed=0) in failing:
            assert recipe.seed >= 2
    told = {"subliminal_transfer"}  # its order says who teaches
    assert {name for names in EVERY for name in names} >= set(FAILURES) & set(labkit.sweep("failures").arms) - told


def test_a_case_is_its_number():
    assert draw(ONE)._recipe == draw(ONE)._recipe
    assert {draw(n)._recipe for n in range(8)} != {draw(0)._recipe}


def test_a_damaged_record_is_passed_over_without_a_word(home):
    first = draw(ONE)._recipe
    own = Store().own / f"{first.key}.jsonl.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"rubbish")
    case = draw(ONE)
    assert case._recipe != first
    assert truth(case._recipe) == truth(first)


def test_what_was_ordered_does_not_tell():
    """For every order there are cases with no failure, with one and with two."""
    by_order = {}
    for recipe in recorded():
        by_order.setdefault(cases.brief(ordered(recipe)), set()).add(len(recorded()[recipe]))
    assert len(by_order) == 6
    assert all(many == {0, 1, 2} for many in by_order.values())


def test_every_case_has_sound_runs_of_its_order_to_compare_with_and_itself_is_none_of_them():
    for n in (ONE, TWO, NONE):
        case = draw(n)
        assert case.healthy
        assert case.evidence.steps not in [other.steps for other in case.healthy]


def test_failures_of_a_trained_case_do_not_contradict_each_other():
    made = [cases._invented(n) for n in range(60)]
    assert {len(truth(recipe)) for recipe in made} == {0, 1, 2}
    assert all(recipe.seed >= 1_000 for recipe in made)
    assert not {recipe.key for recipe in made} & {recipe.key for recipe in recorded()}


# ---- secrecy -----------------------------------------------------------------------------------------------------------------------


def telling(case) -> list[str]:
    """What must not be read anywhere before the case is named."""
    entries = [FAILURES[name] for name in truth(case._recipe)]
    words = [text for entry in entries for text in (entry.name, entry.label, entry.remedy, entry.unit)]
    return [*words, case._recipe.recipe, case._recipe.key, *([case._recipe.faults] if case._recipe.faults != "none" else [])]


def walk(thing, depth: int = 3) -> str:
    """All that printing a thing and its public attributes shows."""
    shown = [repr(thing), str(thing), str(vars(thing) if hasattr(thing, "__dict__") else "")]
    if depth:
        for name in dir(thing):
            if not name.startswith("_"):
                value = getattr(thing, name)
                ours = type(value).__module__.startswith("labkit")
                shown.append(walk(value, depth - 1) if ours else str(value))
    return "\n".join(shown)


def states(view: widgets.Widget) -> str:
    """Everything that is sent to the page."""
    below = [states(child) for child in getattr(view, "children", ())]
    return "\n".join([json.dumps(view.get_state(), default=str), *below])


def shown(number: int) -> str:
    """All there is to read of a case once every probe has been bought."""
    with mock.patch.object(MatplotlibPen, "png", staticmethod(lambda figure, dpi: b"")):  # pixels spell no word
        room = labkit.incident(seed=number, budget=100)
        view = IncidentRoom(room)
        for name in PROBES:
            view.probes[name].click()
        assert len(room.findings) == len(PROBES)
        parts = [walk(room), room._repr_html_(), states(view), *map(walk, room.findings.values()), repr(room._case), str(vars(room))]
    return "\n".join(parts)


@pytest.fixture(scope="module")
def sound() -> str:
    return shown(NONE)


@pytest.mark.parametrize("number", [number_of(*names) for names in EVERY], ids=["+".join(names) or "none" for names in EVERY])
def test_nothing_shown_tells_what_is_wrong(number: int, sound: str):
    """A word that tells stands there no more often than in a sound case: in the list of what may be named, and nowhere else."""
    text, words = shown(number), telling(draw(number))
    assert {word: text.count(word) for word in words} == {word: sound.count(word) for word in words}


def test_errors_do_not_tell_either():
    room = labkit.incident(seed=ONE, budget=1)
    room.probe("loss curve")
    for wrong in (
        lambda: room.probe("entropies"),
        lambda: room.probe("gradient norm"),
        lambda: room.name(),
        lambda: room.name("shuffled cahce"),
        lambda: room.name("shifted_labels", "shuffled_cache"),
    ):
        with pytest.raises(LabError) as told:
            wrong()
        if "Choose from" not in str(told.value) and "cannot both" not in str(told.value):
            assert not [word for word in telling(room._case) if word in str(told.value)]
    assert room.verdict is None


def test_a_trained_case_leaves_no_file_that_tells(quick, home, monkeypatch):
    recipe = TINY.but(faults="shuffled_cache+missing_end")
    monkeypatch.setattr(cases, "_invented", lambda number: recipe)
    monkeypatch.setattr(cases, "_sound", lambda kind, but: (Evidence(labkit.record(TINY)),))
    steps = []
    case = cases.train(3, lambda step, of: steps.append((step, of)))
    assert truth(case._recipe) == ("shuffled_cache", "missing_end")
    assert steps[-1] == (4, 4)
    for path in home.rglob("*"):
        assert recipe.key not in path.name
        assert path.is_dir() or b"shuffled_cache" not in path.read_bytes()


def test_a_trained_case_that_fails_does_not_say_why(quick, monkeypatch):
    monkeypatch.setattr(cases, "_invented", lambda number: TINY.but(teacher="atlas-900k", faults="missing_end"))
    with pytest.raises(LabError, match="Draw another") as told:
        labkit.incident(live=True)
    assert "missing_end" not in str(told.value)
    assert told.value.__cause__ is None


# ---- looking -----------------------------------------------------------------------------------------------------------------------


def test_probes_cost_their_minutes_once_and_no_more_than_there_are():
    room = labkit.incident(seed=ONE, budget=13)
    assert room.left == 13
    first = room.probe("signal against text")
    assert room.probe("signal against text") is first
    assert room.left == 3
    with pytest.raises(LabError, match=r"'skill by skill' takes 5 minutes and 3 of 13 .*loss curve"):
        room.probe("skill by skill")
    room.probe("sample answers")
    with pytest.raises(LabError, match=r"0 of 13 .*: name the fault"):
        room.probe("loss curve")
    assert list(room.probes.query("bought").index) == ["sample answers", "signal against text"]
    assert room.name("shuffled_cache").spent == 13
    assert room.probe("skill by skill").rows, "after the verdict one may look at everything"
    assert room.left == 0, "and it costs nothing"
    assert answers()[0][0].probes == ("signal against text", "sample answers")


def test_the_budget_does_not_buy_everything():
    assert minutes(PROBES) > 1.5 * incidents.BUDGET


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_shows_numbers_beside_those_of_sound_runs(name):
    room = labkit.incident(seed=NONE, budget=100)
    found = room.probe(name)
    assert found.rows
    assert list(found.table.columns) == ["value", "healthy"]
    assert all(row.healthy != "not measured" for row in found.rows)
    assert found.probe in repr(found)
    assert "</table>" in found._repr_html_()
    assert (found.figure is not None) == bool(PROBES[name].curve)
    assert bool(found.samples) == PROBES[name].samples


def test_text_of_a_student_is_escaped():
    found = incidents.ProbeFinding("sample answers", 3, (), (("<b>q</b>", "<script>x</script>", ""),))
    assert "<script>" not in found._repr_html_()


def test_the_probes_bought_are_all_that_a_detector_gets():
    for names in EVERY:
        if len(names) != 1:
            continue
        seen = draw(number_of(*names)).evidence
        least = cheapest(seen, names)
        everything = Glimpse(seen, {field for probe in PROBES.values() for field in probe.opens})
        assert bool(FAILURES[names[0]].detect(everything)) == bool(FAILURES[names[0]].detect(seen))
        assert (least is not None) == bool(FAILURES[names[0]].detect(seen))
        assert not FAILURES[names[0]].detect(Glimpse(seen, ()))


def test_the_least_that_tells_is_the_cheapest():
    seen = draw(ONE).evidence
    assert cheapest(seen, ["shuffled_cache"]) == ("signal against text",)
    other = draw(TWO).evidence
    two = cheapest(other, ["missing_t2"])
    cheaper = [some for many in (1, 2, 3) for some in itertools.combinations(PROBES, many) if minutes(some) < minutes(two)]
    for some in cheaper:
        glimpse = Glimpse(other, {field for name in some for field in PROBES[name].opens})
        assert not FAILURES["missing_t2"].detect(glimpse)


# ---- naming ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "said", "points"),
    [
        ((), (), 1.0),
        ((), ("a",), 0.0),
        (("a",), (), 0.0),
        (("a",), ("a",), 1.0),
        (("a",), ("b",), 0.0),
        (("a",), ("a", "b"), 0.5),
        (("a", "b"), ("b", "a"), 1.0),
        (("a", "b"), ("a",), 0.5),
        (("a", "b"), ("a", "c"), 1 / 3),
        (("a", "b"), ("c", "d"), 0.0),
    ],
)
def test_points(was, said, points):
    assert score(was, said) == pytest.approx(points)


def test_a_right_answer_shows_truth_procedure_cure_and_that_it_works():
    room = labkit.incident(seed=ONE)
    letter = next(k for k, v in room.cures("shuffled_cache").items() if v == FAILURES["shuffled_cache"].remedy)
    told = room.name("shuffled_cache", cure=letter)
    assert room.verdict is told
    assert told.score == 1
    page = told._repr_html_()
    entry = FAILURES["shuffled_cache"]
    for text in (entry.label, entry.remedy, *entry.procedure, "as you said", "signal against text"):
        assert html.escape(text) in page
    with_it, cured = float(told.entries[0].symptom), float(told.entries[0].cured.split()[0])
    assert with_it > cured
    assert [d.failure for d in told.detectors] == [d.failure for d in diagnose(room._case._record)]


@pytest.mark.parametrize(
    "words", ["B", "b)", "key the cache by the text", "Key what is cached by the text itself, never by its place in a batch."]
)
def test_cures_are_given_by_letter_or_by_their_words(words):
    room = labkit.incident(seed=ONE)
    right = FAILURES["shuffled_cache"].remedy
    chosen = room._cure("shuffled_cache", words)
    assert chosen == (room.cures("shuffled_cache")["B"] if len(words) < 3 else right)


def test_what_cures_are_offered_does_not_depend_on_the_case():
    rooms = [labkit.incident(seed=n) for n in (ONE, TWO, NONE)]
    for name, entry in FAILURES.items():
        offered = [room.cures(name) for room in rooms]
        assert offered[0] == offered[1] == offered[2]
        assert entry.remedy in offered[0].values()
        assert len(set(offered[0].values())) == 4


def test_two_failures_and_partial_credit():
    room = labkit.incident(seed=TWO)
    told = room.name("Too hot for the budget", "padding_loss", cure=["A", "B"])
    assert told.score == pytest.approx(1 / 3)
    states = {entry.name: (entry.there, entry.named) for entry in told.entries}
    assert states == {"missing_t2": (True, False), "wrong_temperature": (True, True), "padding_loss": (False, True)}
    for name in states:
        for step in FAILURES[name].procedure:
            assert step in repr(told), "how to look for what was missed and what was wrongly named"
    assert mistakes().cells == {("wrong_temperature", "wrong_temperature"): 1, ("missing_t2", "padding_loss"): 1}


def test_the_case_that_the_notebook_solves_is_the_one_it_speaks_of():
    room = labkit.incident(seed=72)
    found = {name: {row.words: row.value for row in room.probe(name).rows} for name in PROBES if PROBES[name].minutes <= room.left}
    assert room.left >= 0
    assert found["sample answers"]["answers without an end"] == "0%"
    told = room.name("shuffled_cache", "missing_end", cure=["key the cache by the text", "let the end mark be a label"])
    assert told.score == 1
    assert all(entry.cure_right for entry in told.entries)
    assert [entry.hidden for entry in told.entries] == [False, True]
    assert "the other failure hides it" in told._repr_html_()
    assert sorted(told.cheapest) == ["one batch decoded", "signal against text"]


def test_no_fault_is_an_answer():
    told = labkit.incident(seed=NONE).name("no fault")
    assert told.score == 1
    assert "Right: no fault" in told.sentence
    assert mistakes().cells == {(NO_FAULT, NO_FAULT): 1}


def test_a_case_is_named_once_and_the_next_one_is_another():
    room = labkit.incident(seed=NONE)
    room.name(NO_FAULT)
    with pytest.raises(LabError, match="has been named"):
        room.name(NO_FAULT)
    room.next(ONE)
    assert room.number == ONE
    assert room.left == room.budget
    assert room.verdict is None
    assert not room.findings


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda room: room.name(), "name one or two failures"),
        (lambda room: room.name("shufled_cache"), "Did you mean 'shuffled_cache'"),
        (lambda room: room.name("a<script>"), "unknown failure"),
        (lambda room: room.name("no fault", "missing_end"), "contradict"),
        (lambda room: room.name("missing_end", "padding_loss", "prompt_loss"), "at most two"),
        (lambda room: room.name("shifted_labels", "shuffled_cache"), "cannot both be"),
        (lambda room: room.name("missing_end", cure="Q"), "give a letter. A: "),
        (lambda room: room.name("missing_end", cure="drink more coffee"), "not clearly one of the four"),
        (lambda room: room.name("missing_end", cure=""), "not clearly one of the four"),
        (lambda room: room.name("missing_end", cure=["A", "B"]), "one letter or text for each"),
        (lambda room: room.name("missing_end", cure=7), "one letter or text for each"),
        (lambda room: room.probe("loss"), "'loss'.* 'loss curve'"),
        (lambda room: room.probe(["loss curve"]), "unknown probe"),
        (lambda room: room.cures("x"), "unknown failure"),
        (lambda room: room.next(-1), "whole number"),
        (lambda room: labkit.incident(seed="seven"), "whole number"),
        (lambda room: labkit.incident(seed=True), "whole number"),
        (lambda room: labkit.incident(budget=0), "minutes"),
        (lambda room: labkit.incident(budget="1h"), "minutes"),
    ],
)
def test_bad_input_is_told_and_counts_nothing(call, words):
    room = labkit.incident(seed=ONE)
    with pytest.raises(LabError, match=f"(?s){words}"):
        call(room)
    assert room.verdict is None
    assert not ledger().exists()


# ---- what is kept ------------------------------------------------------------------------------------------------------------------


def answer(case="1", was=(), said=(), detectors=()) -> IncidentAnswer:
    return IncidentAnswer(case, tuple(was), tuple(said), tuple(detectors), (), 10)


def test_answers_outlive_the_room_and_only_the_first_to_a_case_counts():
    labkit.incident(seed=ONE).name("shifted_labels")
    labkit.incident(seed=ONE).name("shuffled_cache")
    assert len(ledger().read_text().splitlines()) == 2, "nothing is rewritten"
    found = mistakes()
    assert len(found.answers) == 1
    assert found.confused == [("shuffled_cache", "shifted_labels", 1)]
    for step in (*FAILURES["shuffled_cache"].procedure, *FAILURES["shifted_labels"].procedure):
        assert html.escape(step) in found._repr_html_()


def test_damaged_rows_are_left_out_and_nothing_else_is_lost():
    keep(answer("1"))
    with ledger().open("ab") as file:
        file.write(b'{"case": "2", "tru')
    keep(answer("3"))
    with ledger().open("ab") as file:
        file.write(b'\xff\xfe\n[]\n{"case": 5}\n{"case": "6", "truth": 3, "named": [], "detectors": [], "probes": [], "minutes": 1}\n')
    keep(answer("7"))
    found, damaged = answers()
    assert [a.case for a in found] == ["1", "3", "7"]
    assert damaged == [2, 4, 5, 6, 7]
    assert f"Lines 2, 4, 5, 6, 7 of {ledger()} are damaged, cut short or edited, and are left out: put them back" in mistakes().sentence


def test_an_answer_with_another_digit_is_not_believed():
    keep(answer("1", was=["missing_end"], said=["missing_end"]))
    keep(answer("2"))
    ledger().write_text(ledger().read_text().replace('"minutes": 10', '"minutes": 40', 1))
    found = mistakes()
    assert [a.case for a in found.answers] == ["2"]
    assert f"Line 1 of {ledger()} is damaged" in found.sentence
    keep(answer("3"))
    assert [a.case for a in mistakes().answers] == ["2", "3"], "and the file is still of use"


def test_an_answer_of_before_without_a_checksum_is_read():
    keep(answer("1"))
    ledger().write_text(re.sub(',"seal":"[0-9a-f]+"', "", ledger().read_text()))
    assert len(mistakes().answers) == 1 and "seal" not in ledger().read_text()


def test_a_full_disk_is_a_sentence(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "append_row", full)
    told = labkit.incident(seed=NONE).name(NO_FAULT)
    assert told.score == 1
    assert "No space left" in repr(told)
    assert "No space left" in told._repr_html_()


def test_threads_lose_no_answer():
    threads = [threading.Thread(target=lambda k=k: [keep(answer(f"{k} {i}")) for i in range(25)]) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers()[0]) == 100


def test_the_matrix_counts_every_truth_once():
    found = Mistakes(
        [
            answer("1", ["missing_end", "prompt_loss"], ["missing_end"]),
            answer("2", ["missing_end"], ["prompt_loss", "padding_loss"], ["missing_end"]),
            answer("3", [], ["low_diversity"]),
            answer("4", [], [], ["low_diversity"]),
        ]
    )
    table = found.table
    assert table.loc["missing_end", "missing_end"] == 1
    assert table.loc["prompt_loss", NO_FAULT] == 1
    assert table.loc["missing_end", "prompt_loss"] == table.loc["missing_end", "padding_loss"] == 0.5
    assert table.loc[NO_FAULT].sum() == 2
    assert table.loc["missing_end"].sum() == 2
    assert re.findall(r"\d+\.?\d*", found.sentence)[:4] == ["1.5", "4", "10", "2.0"]
    assert list(table.index) == [NO_FAULT, *[name for name in FAILURES if name in ("missing_end", "prompt_loss")]]


def test_before_the_first_case_there_is_a_sentence():
    assert mistakes().table.empty
    assert "No case has been named yet" in mistakes()._repr_html_()


# ---- on the screen -----------------------------------------------------------------------------------------------------------------


def plain(widget: widgets.HTML) -> str:
    return re.sub(r"<[^>]+>", " ", widget.value)


def test_a_case_solved_by_clicking():
    room = labkit.incident(seed=ONE)
    view = IncidentRoom(room)
    assert "40 of 40 minutes left" in plain(view.meter)
    assert view.another.disabled
    view.probes["signal against text"].click()
    assert "30 of 40" in plain(view.meter)
    assert all(html.escape(row.words) in view.notebook.value for row in room.probe("signal against text").rows)
    assert view.probes["signal against text"].disabled
    view.submit.click()
    assert "choose what it is" in plain(view.note)
    view.faults[0].value = "shuffled_cache"
    view.submit.click()
    assert "choose a cure" in plain(view.note)
    view.cures[0].value = next(k for k, v in room.cures("shuffled_cache").items() if v == FAILURES["shuffled_cache"].remedy)
    view.submit.click()
    assert view.note.value == ""
    assert room.verdict.score == 1
    assert FAILURES["shuffled_cache"].label in plain(view.result)
    assert "1.0 of 1 points" in plain(view.matrix)
    assert view.submit.disabled
    assert all(choice.disabled for choice in (*view.faults, *view.cures))
    view.probes["perfect student"].click()
    assert all(html.escape(row.words) in view.notebook.value for row in room.probe("perfect student").rows), (
        "one may look on, and pays nothing"
    )
    assert room.left == 30
    view.another.click()
    assert room.verdict is None
    assert view.faults[0].value == ""
    assert not view.submit.disabled
    assert view.result.value == ""
    assert not any(button.disabled for button in view.probes.values())


def test_two_failures_by_clicking():
    room = labkit.incident(seed=TWO)
    view = IncidentRoom(room)
    view.faults[0].value, view.faults[1].value = "missing_t2", "wrong_temperature"
    view.cures[0].value = view.cures[1].value = "A"
    view.submit.click()
    assert room.verdict.score == 1


def test_what_contradicts_is_told_and_can_be_named_again():
    room = labkit.incident(seed=ONE)
    view = IncidentRoom(room)
    view.faults[0].value, view.faults[1].value = NO_FAULT, "missing_end"
    view.cures[1].value = "A"
    view.submit.click()
    assert "contradict" in plain(view.note)
    view.faults[1].value = ""
    view.submit.click()
    assert room.verdict.named == ()


def test_a_probe_that_is_too_dear_is_greyed_out_with_the_reason():
    room = labkit.incident(seed=ONE, budget=9)
    view = IncidentRoom(room)
    assert {name for name, button in view.probes.items() if button.disabled} == {n for n, p in PROBES.items() if p.minutes > 9}
    assert "takes 12 minutes and 9 of 9 are left" in view.probes["perfect student"].tooltip
    assert all(button.description for button in view.probes.values())


def test_the_screen_follows_what_is_done_in_a_cell():
    room = labkit.incident(seed=ONE)
    view = IncidentRoom(room)
    room.probe("loss curve")
    assert "39 of 40" in plain(view.meter)
    assert 'alt="' in view.notebook.value
    room.name(NO_FAULT)
    assert "You named no fault" in plain(view.result)


def test_an_error_in_a_callback_is_told(monkeypatch):
    room = labkit.incident(seed=ONE)
    view = IncidentRoom(room)
    monkeypatch.setattr(type(room), "name", lambda *a, **k: 1 / 0)
    view.faults[0].value = NO_FAULT
    view.submit.click()
    assert "ZeroDivisionError" in plain(view.note)
    assert 'role="alert"' in view.note.value


def test_a_live_room_trains_the_next_case_in_a_thread(monkeypatch):
    made = []

    def train(number, watch):
        made.append(threading.current_thread())
        watch(10, 120)
        return draw(NONE)

    monkeypatch.setattr("labkit.diagnosis.incidents.room.train", train)
    room = labkit.incident(live=True)
    view = IncidentRoom(room)
    room.name(NO_FAULT)
    view.another.click()
    for thread in threading.enumerate():
        if thread.name == "labkit-case":
            thread.join(30)
    assert made[0] is threading.main_thread()
    assert made[1] is not threading.main_thread()
    assert room.verdict is None
    assert view.another.disabled


def test_it_shows_itself_once_and_without_widgets_as_text(monkeypatch, capsys):
    import builtins

    room = labkit.incident(seed=ONE)
    room._ipython_display_()
    view = room._view
    room._ipython_display_()
    assert room._view is view
    real = builtins.__import__

    def without(name, *rest):
        if name == "labkit.diagnosis.incidents.widget":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    other = labkit.incident(seed=ONE)
    other._ipython_display_()
    assert other._view is None


def test_recorded_cases_need_no_torch():
    code = (
        "import labkit, sys; room = labkit.incident(seed=1); room.probe('counters'); room.name('no fault'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_case_is_found_by_a_number_of_an_array_too():
    assert repr(labkit.incident(seed=np.int64(ONE))) == repr(labkit.incident(seed=ONE))
