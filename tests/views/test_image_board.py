"""The picture board: the same calls as the live one, few pictures, escaped text, and no run harmed."""

from __future__ import annotations

import inspect
import itertools
import threading
import time

import ipywidgets as widgets
import pytest
from stories import events, record

from labkit.base.errors import LabError
from labkit.lessons.prediction_widget import prediction_widget
from labkit.lessons.predictions import calibration, score
from labkit.records import events as ev
from labkit.views.board import image
from labkit.views.board.image import DPI, EVERY, SHARE, ImageBoard
from labkit.views.figures import snapshot

PNG = b"\x89PNG\r\n\x1a\n"
EVIL = '<img src=x onerror="alert(1)">'


class Clock:
    """Time that passes only when told to, and pictures that take `cost` seconds."""

    def __init__(self, monkeypatch, cost=0.0):
        self.now, self.cost, self.pictures = 1000.0, cost, []
        monkeypatch.setattr(image.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(image, "snapshot", self.snapshot)

    def snapshot(self, rec, previous=None, unit="recovery"):
        self.pictures.append((self.now, threading.current_thread(), len(rec.steps), previous))
        self.now += self.cost
        return type("Picture", (), {"png": lambda _, dpi: PNG + str(len(self.pictures)).encode()})()


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_the_picture_is_the_snapshot_of_the_events():
    board, story = ImageBoard("Distil"), events(60)
    assert board.image.layout.display == "none", "no broken picture before the first one"
    board.push(story)
    assert board.image.value == snapshot(record(60)).png(DPI)
    assert board.image.layout.display is None


def test_it_has_the_calls_of_the_live_board():
    from labkit.views.board.widget import Board

    for name in ("push", "reset", "set_state"):
        wanted, own = (list(inspect.signature(getattr(cls, name)).parameters) for cls in (Board, ImageBoard))
        assert own == wanted
    assert isinstance(ImageBoard("x").widget, widgets.VBox)


def test_at_most_two_pictures_a_second(clock):
    board = ImageBoard()
    for event in events(600, end=False, gold=None):
        board.push([event])
        clock.now += 0.01
    times = [t for t, *_ in clock.pictures]
    assert 8 <= len(times) <= 6 / EVERY + 1
    assert min(b - a for a, b in itertools.pairwise(times)) >= EVERY - 1e-9


def test_a_slow_machine_draws_less_often(monkeypatch):
    clock = Clock(monkeypatch, cost=0.4)
    board, began = ImageBoard(), clock.now
    for event in events(2000, end=False, student=None):
        board.push([event])
        clock.now += 0.01
    assert len(clock.pictures) * 0.4 <= SHARE * (clock.now - began) + 0.8


def test_the_end_and_a_late_baseline_are_always_drawn(clock):
    board, story = ImageBoard(), events(30, gold=None)
    board.push(story[:20])
    board.push(story[20:])
    assert clock.pictures[-1][2] == 30, "the last picture holds the last step, however soon it came"
    before = len(clock.pictures)
    board.push([e for e in events(30) if isinstance(e, ev.Reference) and e.name == "label budget"])
    assert len(clock.pictures) == before + 1
    assert "label budget" in board.sentence.value


def test_drawing_happens_in_the_thread_that_pushes_and_nowhere_else(clock):
    board = ImageBoard()
    thread = threading.Thread(target=board.push, args=(events(20, end=False),))
    thread.start()
    thread.join()
    assert [t for _, t, *_ in clock.pictures] == [thread]
    board.set_state("paused", "You paused it.")
    board.reset()
    assert len(clock.pictures) == 1, "callbacks draw nothing"


def test_the_run_before_stays_as_a_ghost_until_reset(clock):
    board = ImageBoard()
    board.push(events(20))
    board.push(events(30, noise=1))
    assert len(clock.pictures[-1][3].steps) == 20
    assert clock.pictures[-1][2] == 30
    board.reset()
    assert board.image.value == b""
    assert board.image.layout.display == "none"
    assert board.sentence.value == ""
    board.push(events(10))
    assert clock.pictures[-1][3] is None


def test_between_run_and_the_first_event_no_number_is_of_the_run_before(clock):
    board = ImageBoard()
    board.push(events(20), recorded=True)
    assert "a recorded run" in board.status.value
    board.set_state("loading", "Loading the teacher.")
    assert "Loading the teacher." in board.status.value and "\u25cc" in board.status.value
    assert "step" not in board.status.value and "recorded" not in board.status.value
    assert (board.sentence.value, board.answers.value, board.image.layout.display) == ("", "", "none")
    board.push(events(30, noise=1))
    assert len(clock.pictures[-1][3].steps) == 20, "the run before is the ghost"


def test_wrong_working_is_a_verdict_of_its_own():
    board = ImageBoard()
    board.push([*events(20), ev.Sampled(20, ({"question": "Add 17, 12 and 2.", "student": "17+12=30, 30+2=31", "verdict": "working"},))])
    assert "\u2260 wrong working" in board.answers.value and "17+12=30, 30+2=31" in board.answers.value


def test_steps_left_over_after_a_reset_become_no_ghost(clock):
    board, story = ImageBoard(), events(20, end=False)
    board.push(story[:10])
    board.reset()
    board.push(story[10:])
    assert len(clock.pictures) == 1
    board.push(events(20))
    assert board.previous is None
    assert board.record.steps[0].step == 1


def test_status_tells_state_step_and_pace(clock):
    board = ImageBoard("x")
    board.push(events(100, end=False))
    board.set_state("training", "Going well.")
    assert "\u25cf" in board.status.value
    assert "<strong>training</strong>" in board.status.value
    assert "step 100 of 100" in board.status.value
    assert "questions/s" in board.status.value
    assert "Going well." in board.status.value
    assert repr(board) == "ImageBoard('x', training)"
    board.push([ev.Finished(100, 6.0, "completed")])
    assert "Finished at step 100" in board.sentence.value
    assert "of the way from the label budget" in board.sentence.value


def test_the_spoken_sentence_changes_at_most_every_ten_seconds(clock):
    board, said = ImageBoard(), set()
    for event in events(600, end=False):
        board.push([event])
        clock.now += 0.05
        said.add(board.sentence.value)
    assert 2 <= len(said) <= 600 * 0.05 / image.POLITE + 2
    assert 'role="status"' in board.sentence.value


def test_nothing_a_model_or_a_file_says_becomes_markup(clock):
    board = ImageBoard(EVIL)
    story = events(20, title=EVIL, end=False)
    answer = {"question": EVIL, "student": EVIL, "teacher": EVIL + "\u202e", "truth": "Lima", "verdict": EVIL}
    board.push([*story, ev.Sampled(20, (answer, {"verdict": "inherited"})), ev.Warned(20, EVIL), ev.Failed(20, EVIL, EVIL)])
    board.set_state(EVIL, EVIL)
    for part in (board.status, board.sentence, board.answers):
        assert "<img" not in part.value
        assert "\u202e" not in part.value
    assert board.answers.value.count("&lt;img") == 4
    assert "\u26a0\ufe0e inherited" in board.answers.value
    assert 'role="alert"' in board.status.value


def test_a_picture_that_fails_is_reported_and_harms_no_run(clock, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("<b>no fonts</b>")

    board = ImageBoard()
    monkeypatch.setattr(image, "snapshot", broken)
    board.push(events(20))
    assert "&lt;b&gt;no fonts&lt;/b&gt;" in board.status.value
    assert "could not be drawn" in board.status.value
    monkeypatch.setattr(image, "snapshot", clock.snapshot)
    board.push(events(20))
    assert "could not be drawn" not in board.status.value


def test_pushing_is_quick_enough_to_train_beside():
    board, story = ImageBoard(), events(400, end=False)
    board.push(story[:2])  # the first picture, and matplotlib's own start
    board._next_picture = float("inf")
    began = time.thread_time()
    for event in story[2:]:
        board.push([event])
    assert (time.thread_time() - began) / len(story) < 0.01


# ---- the prediction widget -------------------------------------------------------------------------------------------


def test_saving_keeps_the_prediction_and_hands_it_on():
    kept = []
    box = prediction_widget("How far?", "recovery", 0.0, 1.0, kept.append, question_id="00")
    box.low.value, box.high.value, box.confidence.value = 0.75, 0.55, 0.9  # upside down: put in order, and told
    box.save.click()
    (prediction,) = kept
    assert (prediction.question_id, prediction.low, prediction.high) == ("00", 0.55, 0.75)
    assert (prediction.confidence, prediction.unit) == (0.9, "recovery")
    assert "Kept: 0.55 to 0.75, 90% sure. The ends are put in order." in box.message.value
    assert 'role="status"' in box.message.value
    assert score(prediction, 0.6).counts
    assert calibration()["n"] == 1


def test_the_choices_and_descriptions_are_set():
    box = prediction_widget("How far?", low=0, high=10)
    assert (box.low.min, box.high.max) == (0, 10)
    assert dict(box.confidence.options) == {"50%": 0.5, "80%": 0.8, "90%": 0.9, "95%": 0.95}
    for part in (box.low, box.high, box.confidence, box.save):
        assert part.description
        assert part.tooltip
    box.save.click()
    assert "Kept" in box.message.value, "works without anyone listening"
    box.low.value = box.high.value
    box.save.click()
    assert "a single number" in box.message.value


@pytest.mark.parametrize("error", [LabError(f"no room {EVIL}"), RuntimeError(EVIL), ValueError()])
def test_errors_are_shown_escaped_and_nothing_is_raised(error):
    def refuses(_):
        raise error

    box = prediction_widget(f"How far {EVIL}?", on_save=refuses)
    box.save.click()
    assert "<img" not in box.message.value
    assert "<img" not in box.children[0].value
    assert ("&lt;img" in box.message.value) or "ValueError" in box.message.value


def test_a_starved_run_s_button_stands_until_it_is_used_or_the_run_is_over():
    story = [event for event in events(60) if not isinstance(event, ev.Finished)]
    starved = ev.Warned(20, "Other programs take the processors.", "threads=1")
    for end in (
        ev.KnobTurned(21, 1.0, "threads", 2, 1),
        ev.Finished(60, 9.0, "completed"),
        ev.Failed(60, "a", "b"),
        "reset",
        "stopped",
        "loading",
    ):
        board, pressed = ImageBoard("Distil"), []
        board.one_thread = lambda pressed=pressed: pressed.append(1)
        board.push(story)
        assert board.offer.layout.display == "none"
        board.push([starved, ev.Warned(21, "careful")])
        assert board.offer.layout.display is None
        assert board.offer in board.widget.children
        if end == "reset":
            board.reset()
        elif end in ("stopped", "loading"):
            board.set_state(end, "A sentence.")
        else:
            board.push([end])
        assert board.offer.layout.display == "none"
        assert not pressed
    board.push([story[0], starved])
    board.offer.click()
    assert (pressed, board.offer.layout.display) == ([1], "none")
