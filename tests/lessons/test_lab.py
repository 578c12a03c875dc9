"""The lesson on the screen, driven as a learner drives it: every control, every button, and what is said when something is wrong."""

from __future__ import annotations

import contextlib
import gc
import html
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from conftest import REPOSITORY
from ipywidgets.widgets.widget import _instances

from labkit.base.errors import LabError
from labkit.base.threads import Share
from labkit.lessons import lab as lab_module
from labkit.lessons import opening
from labkit.lessons.catalogue import LESSONS, PANEL, catalogue
from labkit.lessons.lab import Lab
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.recipe_text import GROUPS
from labkit.records.store import Store
from labkit.studies import run as runs
from labkit.tasks.atlas.facts import Atlas
from labkit.training import loop
from labkit.views.board import session as pump
from labkit.views.board import subshells
from labkit.views.board.controls import IN_SIGHT, Controls
from labkit.views.board.widget import Board

OTHER = {
    "temperature": 3.0,
    "mix": 0.5,
    "learning_rate": 1e-3,
    "student": "22k",
    "start": "warm",
    "gold": 1000,
    "questions": 5000,
    "seed": 4,
    "speed": "half",
    "method": "answers",
    "divergence": "jsd",
    "beta": 0.3,
    "skew": 0.2,
    "top_k": 8,
    "tail": "raw",
    "left_out": "Africa",
    "samples": 4,
    "on_policy": 0.8,
    "sampling_temperature": 2.0,
    "replay": 0.5,
    "feature": 3.0,
    "layers": "last",
    "decoding": "beam",
    "keep": "truth",
    "adapter": 4,
    "steps": 1000,
    "teacher": "atlas-200k",
    "assistant": "57k",
    "vocabulary": "bytes",
    "across": "chunks",
    "architecture": "gpt2",
    "online_from": 0.5,
    "data": "tickets",
    "score": "label_f1",
}
EVERY = tuple(dict.fromkeys(name for lesson in LESSONS.values() for name in lesson.controls))


def lesson(**changes):
    """Lesson 00 with the tiny teacher and few steps."""
    exp = Experiment(student="22k", teacher="atlas-200k", steps=12, batch=16, questions=256, gold=32).but(**changes)
    return LESSONS["00"]._replace(experiment=exp)


INLINE = "labkit.open('00').run(inline=True, teacher='atlas-200k', student='7k', steps=2, questions=128, gold=32)"
INTERRUPTED = """
import os, signal, sys
import labkit
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, as those of a test server, ignore it
what = sys.argv[1]

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "torch.nn":
            print("sent")
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
try:
    print(eval(what).session.state)
except KeyboardInterrupt:
    print("stopped")
again = eval(what)
if what != "labkit.record":
    again.result()
print("ready")
"""


@pytest.fixture
def interruptible():
    """Ctrl-C raises `KeyboardInterrupt`, also in the background jobs of a shell, which ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def lab(quick):
    lab = Lab(lesson())
    yield lab
    lab.stop()
    if lab.session:
        lab.session.wait_quietly()


def values(lab: Lab) -> list[ev.Event]:
    assert lab.record is not None
    return lab.record.events


class TestControls:
    def test_there_is_a_control_for_every_panel_field_with_label_and_help(self):
        controls = Controls(Experiment(), EVERY)
        assert set(controls.fields) == set(OTHER)
        for name, field in controls.fields.items():
            assert field.description == KNOBS[name].knob.label
            assert field.tooltip == KNOBS[name].knob.help

    @pytest.mark.parametrize("name", EVERY)
    def test_moving_a_control_changes_the_experiment_and_its_recipe(self, name):
        turned = []
        controls = Controls(Experiment(), EVERY, turned=lambda *change: turned.append(change))
        controls.fields[name].value = OTHER[name]
        assert getattr(controls.experiment, name) == OTHER[name]
        assert Experiment.from_recipe(controls.recipe.value) == controls.experiment
        assert turned == ([] if controls.experiment.problems() else [(name, OTHER[name])])

    def test_a_pasted_recipe_sets_every_control(self):
        controls = Controls(Experiment(), EVERY)
        controls.recipe.value = Experiment(**OTHER).recipe
        assert controls.experiment == Experiment(**OTHER)
        assert {name: field.value for name, field in controls.fields.items()} == OTHER

    @pytest.mark.parametrize("text", ["labkit temprature=2", "hello", "labkit temperature=hot", "labkit temperature=99", "labkit gold"])
    def test_a_bad_recipe_says_what_is_wrong_and_changes_nothing(self, text):
        controls = Controls(Experiment(), PANEL)
        controls.recipe.value = text
        assert controls.experiment == Experiment()
        assert len(controls.message.value) > 40

    def test_a_choice_that_breaks_a_rule_is_marked_with_what_it_does_not_go_with(self):
        controls = Controls(Experiment(vocabulary="bytes"), ("method", "start", "divergence", "vocabulary"))
        marked = {name: [label for label, _ in field.options if "(not with " in label] for name, field in controls.fields.items()}
        assert marked["method"] == [
            f"{m} (not with vocabulary=bytes)" for m in ("hidden", "similarity", "relations", "online", "next_state")
        ]
        assert marked["start"] == ["copied (not with vocabulary=bytes)"]
        assert marked["divergence"] == ["logit_mse (not with vocabulary=bytes)"]
        assert marked["vocabulary"] == []
        assert "Method, hidden: method=&#x27;hidden&#x27; compares both models token by token" in controls.reasons.value
        controls.fields["vocabulary"].value = "atlas"
        assert [value for label, value in controls.fields["method"].options if "(not with " in label] == ["next_state"]
        assert {name: field.value for name, field in controls.fields.items()} == {
            name: getattr(controls.experiment, name) for name in controls.fields
        }

    def test_a_contradiction_is_told_while_it_is_turned_and_given_to_no_run(self):
        turned, followed = [], []
        controls = Controls(Experiment(vocabulary="bytes"), ("method", "vocabulary"), turned=lambda *change: turned.append(change))
        controls.followers.append(followed.append)
        controls.fields["method"].value = "online"
        assert controls.experiment.method == "online", "a control may stand between two recipes"
        assert html.escape(controls.experiment.problems()[0]) in controls.message.value and 'role="alert"' in controls.message.value
        assert "online (not with vocabulary=bytes)" in dict(controls.fields["method"].options)
        assert Experiment.from_recipe(controls.recipe.value) == controls.experiment == followed[-1]
        assert turned == []
        controls.fields["vocabulary"].value = "atlas"
        assert controls.message.value == ""
        assert turned == [("method", "online"), ("vocabulary", "atlas")], "all that was turned since the last recipe that could be run"

    def test_a_pasted_contradiction_is_told_too(self):
        controls = Controls(Experiment(), PANEL)
        controls.recipe.value = "labkit vocabulary=bytes method=online"
        assert "compares both models token by token" in controls.message.value
        assert controls.experiment.vocabulary == "bytes"

    def test_the_other_knobs_are_there_when_asked_for_group_by_group(self):
        controls = Controls(Experiment(), PANEL)
        assert set(controls.fields) == set(PANEL)
        controls.lock(True)
        controls.more.title.value = True
        assert set(controls.fields) == set(KNOBS)
        assert all(field.disabled is not KNOBS[name].knob.hot for name, field in controls.fields.items())
        controls.lock(False)
        in_sight, rows = PANEL[:IN_SIGHT], controls.more.children[1].children
        assert rows[: len(PANEL) - IN_SIGHT] == tuple(controls.fields[name] for name in PANEL[IN_SIGHT:])
        heads = [row.value for row in rows if row.value in {f"<h4>{group.capitalize()}</h4>" for group in GROUPS}]
        others = {KNOBS[name].knob.group for name in KNOBS if name not in PANEL}
        assert heads == [f"<h4>{group.capitalize()}</h4>" for group in GROUPS if group in others]
        assert len(rows) == len(heads) + len(KNOBS) - len(in_sight)
        controls.fields["architecture"].value = "gpt2"
        assert controls.experiment.architecture == "gpt2"
        controls.experiment = Experiment(adapter=4)
        assert controls.fields["adapter"].value == 4

    def test_text_in_messages_is_escaped(self):
        controls = Controls(Experiment(), PANEL)
        controls.recipe.value = "<img src=x onerror=alert(1)>"
        assert "<img" not in controls.message.value

    def test_only_hot_controls_move_while_locked(self):
        controls = Controls(Experiment(), PANEL)
        controls.lock(True)
        assert {name for name, field in controls.fields.items() if not field.disabled} == {n for n in PANEL if KNOBS[n].knob.hot}
        controls.lock(False)
        assert not any(field.disabled for field in controls.fields.values())


class TestButtons:
    def test_run_waits_until_a_contradiction_is_mended(self, quick):
        lab = Lab(lesson())
        lab.controls.recipe.value = lesson(vocabulary="bytes", method="online").experiment.recipe
        assert lab.buttons["Run"].disabled
        with pytest.raises(LabError, match="compares both models token by token"):
            lab.run()
        assert lab.session is None
        lab.reset()
        assert not lab.buttons["Run"].disabled
        opened = Lab(lesson(vocabulary="bytes", method="online"))
        assert opened.buttons["Run"].disabled

    def test_run_trains_examines_and_measures_the_missing_baseline(self, lab):
        lab.buttons["Run"].click()
        record = lab.result()
        assert record.complete
        assert record.references.keys() >= {"teacher", "label budget"}
        assert isinstance(record.recovery().mean, float)
        assert lab.session.state == "finished"
        assert lab.buttons["Stop"].disabled

    def test_a_run_is_found_again_by_its_recipe(self, lab):
        lab.run().wait()
        again = Lab(lesson()._replace(recorded=lesson().experiment))
        assert again.record.curve()[1] == pytest.approx(lab.record.curve()[1], rel=1e-5)
        assert "label budget" in again.record.references, "the baseline measured after the run is kept with it"
        assert "a recorded run of a 22k student. Yours will have the same recipe." in again.note.value

    def test_pause_stands_still_and_resume_goes_on(self, lab):
        held = threading.Event()
        push = lab.board.push

        def watch(events):
            push(events)
            if any(isinstance(event, ev.Step) for event in events) and not held.is_set():
                lab.buttons["Pause"].click()
                held.set()

        lab.board.push = watch
        lab.run()
        assert held.wait(60)
        assert lab.session.state == "paused"
        assert lab.buttons["Pause"].description == "Resume"
        steps = len(lab.record.steps)
        lab.session._thread.join(0.3)
        assert len(lab.record.steps) == steps < 12
        lab.buttons["Pause"].click()
        lab.wait()
        assert len(lab.record.steps) == 12

    def test_stop_keeps_the_student_and_examines_it(self, quick):
        lab = Lab(lesson(steps=5000))
        began = threading.Event()
        push = lab.board.push
        lab.board.push = lambda events: (push(events), began.set() if any(isinstance(e, ev.Step) for e in events) else None)
        lab.buttons["Run"].click()
        assert began.wait(60)
        lab.buttons["Stop"].click()
        lab.wait()
        assert lab.session.state == "stopped"
        assert lab.record.finished.reason == "stopped"
        assert lab.record.evaluations[-1].final
        assert lab.student is not None

    def test_a_second_run_stops_the_first_in_order(self, quick):
        lab = Lab(lesson(steps=5000))
        lab.run()
        first = lab.session
        lab.controls.experiment = lab.controls.experiment.but(steps=12)
        lab.run()
        lab.wait()
        assert first.state == "stopped"
        assert not first._thread.is_alive()
        assert lab.session.state == "finished"
        assert len(lab.record.steps) == 12

    def test_an_interrupt_while_one_waits_stops_the_run_in_order(self, quick, interruptible):
        lab = Lab(lesson(steps=5000))
        waits, push = threading.Event(), lab.board.push
        sent: list[None] = []

        def watch(events):
            push(events)
            if any(isinstance(event, ev.Step) for event in events) and not sent:
                assert waits.wait(60)
                sent.append(os.kill(os.getpid(), signal.SIGINT))

        lab.board.push = watch
        lab.run()
        waits.set()
        made = lab.result()
        assert lab.session.state == "stopped"
        assert made.experiment.steps == 5000 and made.finished.reason == "stopped" and made.evaluations[-1].final

    def test_a_run_that_is_interrupted_before_its_first_event_has_no_result(self, quick, interruptible, monkeypatch):
        shown = runs.record(lesson(steps=2).experiment)
        lab = Lab(lesson()._replace(recorded=shown.experiment))
        assert lab.record.experiment == shown.experiment
        monkeypatch.setattr(runs, "begin", lambda experiment: os.kill(os.getpid(), signal.SIGINT))
        lab.run(inline=True)
        assert lab.session.state == "stopped"
        with pytest.raises(LabError, match="before its first exam"):
            lab.result()

    def test_a_run_that_is_interrupted_while_it_waits_for_another_leaves_that_to_the_next(self, quick, interruptible, monkeypatch):
        lab = Lab(lesson(steps=5000))
        began, free, seen, begin = threading.Event(), threading.Event(), [], runs.begin

        def held(experiment):
            if began.is_set():
                seen.append(first.over)
            else:
                began.set()
                assert free.wait(60)
            return begin(experiment)

        monkeypatch.setattr(runs, "begin", held)
        lab.run()
        first = lab.session
        assert began.wait(60)
        first.stop = lambda stop=first.stop: (stop(), threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start())
        lab.run(inline=True)
        assert (lab.session.state, first.over) == ("stopped", False)
        threading.Timer(0.3, free.set).start()
        lab.run(steps=2).wait()
        assert seen[0] and lab.session.state == "finished"

    @pytest.mark.parametrize("what", ["labkit.record", INLINE])
    def test_an_interrupt_while_torch_is_imported_comes_afterwards(self, quick, what):
        done = subprocess.run([sys.executable, "-c", INTERRUPTED, what], capture_output=True, text=True, cwd=REPOSITORY)
        assert done.stdout.split() == ["sent", "stopped", "ready"], done.stdout + done.stderr

    def test_hot_knobs_turned_during_a_run_leave_a_mark(self, quick):
        lab = Lab(lesson(steps=200))
        moved = threading.Event()
        push = lab.board.push

        def watch(events):
            push(events)
            if any(isinstance(event, ev.Step) for event in events) and not moved.is_set():
                moved.set()
                lab.controls.fields["temperature"].value = 3.0
                lab.controls.fields["learning_rate"].value = 1e-3
                lab.controls.fields["mix"].value = 0.5

        lab.board.push = watch
        lab.run()
        lab.wait()
        marks = {event.name: event.new for event in values(lab) if isinstance(event, ev.KnobTurned)}
        assert marks == {"temperature": 3.0, "learning_rate": 1e-3, "mix": 0.5}
        assert lab.record.steps[-1].values["ce"] > 0

    @pytest.mark.parametrize("kind", ["live", "image"])
    def test_a_starved_run_goes_on_with_one_thread_when_its_button_is_pressed(self, quick, monkeypatch, kind):
        monkeypatch.setattr(loop.Watch, "AFTER", 0.0)
        monkeypatch.setattr(loop.Watch, "STARVED", 1000.0)
        monkeypatch.setattr(loop, "threads_of_a_run", lambda most: contextlib.nullcontext(Share(2)))
        lab = Lab(lesson(steps=40), board=kind)
        push = lab.board.push

        def watch(events):
            push(events)
            if any(isinstance(event, ev.Warned) and event.offer for event in events):
                if kind == "live":
                    lab.board._answer(lab.board, {"type": "one thread"})
                else:
                    assert lab.board.offer.layout.display is None
                    lab.board.offer.click()
                    assert lab.board.offer.layout.display == "none"

        lab.board.push = watch
        lab.run()
        lab.wait()
        (warned,) = (event for event in values(lab) if isinstance(event, ev.Warned) and event.offer)
        (turned,) = (event for event in values(lab) if isinstance(event, ev.KnobTurned))
        assert (turned.name, turned.old, turned.new) == ("threads", 2, 1)
        assert turned.step == warned.step + 1
        said = lab.note.value
        lab.board.one_thread()  # a second view, pressed after the end
        assert lab.note.value == said

    def test_a_record_with_turned_knobs_never_stands_for_its_recipe(self, quick):
        lab = Lab(lesson(steps=60))
        push = lab.board.push
        lab.board.push = lambda events: (push(events), setattr(lab.controls.fields["mix"], "value", 0.5))
        lab.run()
        lab.wait()
        assert any(isinstance(event, ev.KnobTurned) for event in values(lab))
        assert Store().find(lesson(steps=60).experiment) is None

    def test_what_is_said_of_the_recorded_run_follows_the_controls_and_comes_back_with_it(self, lab):
        lab.run().wait()
        again = Lab(lesson(steps=13)._replace(recorded=lesson().experiment))
        first = again.note.value
        assert "Yours will have steps 13 (not 12). Guess first, then press Run." in first and 'role="status"' in first
        again.controls.recipe.value = lesson(steps=12, temperature=2.0).experiment.recipe
        assert "Yours will have temperature 2 (not 1). Guess first, then press Run." in again.note.value
        again.run(steps=2)
        assert again.note.value == "", "the recorded run is not on the board any more"
        again.wait()
        again.controls.fields["temperature"].value = 3.0
        assert again.note.value == ""
        again.buttons["Reset"].click()
        assert again.note.value == first
        assert [row["event"] for row in again.board._story if row.get("recorded")] == ["started"]
        assert again.record.complete

    def test_the_board_says_at_once_what_is_loaded_and_at_the_end_nothing_of_it(self, lab):
        said, state = [], lab.board.set_state
        lab.board.set_state = lambda *now: (said.append(now), state(*now))
        lab.buttons["Run"].click()
        assert said[0] == ("loading", "Loading the teacher atlas-200k and a 22k student.")
        lab.wait()
        states = [now for now, *_ in said]
        assert [now for i, now in enumerate(states) if i == 0 or now != states[i - 1]] == ["loading", "training", "measuring", "finished"]
        measured = [words for now, *rest in said if now == "measuring" for words in rest]
        assert measured[-1] == "the baseline, 10/12"
        assert lab.board.state == ["finished", ""] and lab.note.value == ""
        lab.run().wait()
        assert "Stopping" not in said[len(states)][1], "the run before was over"

    def test_a_run_that_stops_another_says_so(self, quick):
        lab = Lab(lesson(steps=5000))
        lab.run()
        lab.run(steps=3)
        assert lab.board.state == ["loading", "Stopping the run before, then loading the teacher atlas-200k and a 22k student."]
        assert lab.wait().session.state == "finished"

        lab.reset()
        lab.run()
        assert lab.board.state[1].startswith("Loading"), "no run goes on"
        lab.reset()
        lab.run()
        assert lab.board.state[1].startswith("Stopping the run before"), "the one before the reset has not ended"
        lab.wait()

    def test_a_paused_run_that_is_stopped_is_not_paused_while_it_is_examined(self, quick):
        lab = Lab(lesson(steps=5000))
        push, said = lab.board.push, []

        def watch(events):
            push(events)
            if any(isinstance(event, ev.Step) for event in events) and not lab.session.stopping:
                lab.pause()
            if lab.session.stopping and not lab.session.over:
                said.append((lab.board.state[0], lab.buttons["Pause"].description))

        lab.board.push = watch
        lab.run()
        while lab.session.state != "paused":
            time.sleep(0.01)
        lab.buttons["Stop"].click()
        lab.session.wait_quietly()  # `wait` would end the pause
        assert said and set(said) == {("training", "Pause")}

    def test_pause_and_resume_while_it_loads_leave_it_loading(self, lab, monkeypatch):
        begun, free, begin = threading.Event(), threading.Event(), runs.begin
        monkeypatch.setattr(runs, "begin", lambda experiment: (begun.set(), free.wait(60), begin(experiment))[-1])
        lab.run()
        assert begun.wait(60)
        before = lab.board.state
        assert before == ["loading", "Loading the teacher atlas-200k and a 22k student."]
        lab.buttons["Pause"].click()
        assert lab.board.state[0] == "paused"
        lab.buttons["Pause"].click()
        assert lab.board.state == before
        free.set()
        assert lab.result().complete

    def test_a_baseline_that_is_broken_off_leaves_a_finished_run(self, lab):
        state = lab.board.set_state
        lab.board.set_state = lambda now, words="": (state(now, words), lab.stop() if ", 10/" in words else None)
        lab.run().wait()
        assert lab.session.state in ("finished", "stopped")
        assert lab.board.state[0] == "finished" and lab.record.complete

    def test_reset_puts_everything_back(self, lab):
        lab.run().wait()
        lab.controls.fields["temperature"].value = 3.0
        lab.buttons["Reset"].click()
        assert lab.controls.experiment == lesson().experiment
        assert lab.record is None
        assert lab.board._story == []

    def test_what_a_run_says_after_a_reset_is_not_shown(self, quick):
        lab = Lab(lesson(steps=5000))
        began, push = threading.Event(), lab.board.push
        lab.board.push = lambda events: (push(events), began.set() if any(isinstance(e, ev.Step) for e in events) else None)
        lab.run()
        assert began.wait(60)
        session = lab.session
        lab.buttons["Reset"].click()
        session.wait_quietly()
        assert lab.record is None
        assert lab.board._story == []
        assert lab.board.state == ["ready", ""]

    def test_a_reset_while_a_run_says_a_word_comes_after_that_word(self, quick):
        lab = Lab(lesson(steps=5000))
        push, resets = lab.board.push, []

        def watch(events):
            if any(isinstance(event, ev.Step) for event in events) and not resets:
                resets.append(threading.Thread(target=lab.reset))
                resets[0].start()
                resets[0].join(0.5)  # a reset that does not wait has ended by then, and what follows would be drawn on a clean board
            push(events)

        lab.board.push = watch
        lab.run()
        session = lab.session
        session.wait_quietly()
        resets[0].join()
        assert (lab.board._story, lab.board.state, lab.record) == ([], ["ready", ""], None)

    def test_a_knob_turned_before_there_is_a_run_is_not_lost(self, lab):
        begin, turned = lab_module.Session.start, []

        def start(session):
            make = session._make
            session._make = lambda: (setattr(lab.controls.fields["temperature"], "value", 3.0), turned.append(1), make())[-1]
            begin(session)

        lab_module.Session.start, keep = start, lab_module.Session.start
        try:
            lab.run().wait()
        finally:
            lab_module.Session.start = keep
        assert turned
        assert [(e.step, e.new) for e in values(lab) if isinstance(e, ev.KnobTurned)] == [(1, 3.0)]

    def test_waiting_for_a_paused_run_lets_it_go_on(self, lab):
        push = lab.board.push

        def watch(events):
            push(events)
            if any(isinstance(event, ev.Step) and event.step < 3 for event in events):
                lab.pause()

        lab.board.push = watch
        lab.run()
        while lab.session.state != "paused":
            time.sleep(0.01)
        assert lab.result().complete

    def test_an_interrupted_cell_stops_the_run_and_no_more(self, quick):
        lab = Lab(lesson(steps=5000))
        push = lab.board.push

        def interrupt(events):
            push(events)
            if any(isinstance(event, ev.Evaluated) for event in events):
                raise KeyboardInterrupt

        lab.board.push = interrupt
        lab.run(inline=True)
        assert lab.session.state == "stopped"
        assert lab.result().evaluations

    def test_a_damaged_recording_is_told_and_the_lesson_opens(self, quick):
        exp = lesson().experiment
        Store().own.mkdir(parents=True)
        (Store().own / f"{exp.key}.jsonl.gz").write_bytes(b"rubbish")
        lab = Lab(lesson()._replace(recorded=exp))
        assert "damaged" in lab.note.value
        assert lab.record is None

    def test_a_prediction_is_shown_and_scored(self, lab):
        from labkit.lessons.predictions import predict

        lab._predicted(predict("00", 0.0, 1.0, 0.9))
        assert lab.board.predicted == {"low": 0.0, "high": 1.0, "confidence": 0.9}
        lab.run().wait()
        assert lab.note.value

    def test_a_guess_stands_when_the_lesson_is_opened_again(self, quick):
        first = Lab(LESSONS["10"]._replace(experiment=lesson().experiment))
        first.guess.low.value, first.guess.high.value = 0.0, 1.0
        first.guess.save.click()
        again = Lab(LESSONS["10"]._replace(experiment=lesson().experiment))
        assert "Your guess from before stands: 0 to 1, 80% sure." in again.guess.message.value
        assert again.board.predicted == {"low": 0.0, "high": 1.0, "confidence": 0.8}
        again.run().wait()
        assert "lies inside your 0 to 1" in again.note.value
        assert not Lab(LESSONS["10"]._replace(experiment=lesson().experiment)).guess.kept, "it has been scored"

    def test_a_guess_after_the_result_is_not_kept(self, quick):
        from labkit.lessons.predictions import calibration

        lab = Lab(LESSONS["10"]._replace(experiment=lesson().experiment))
        lab.run().wait()
        lab.guess.save.click()
        assert "Not kept: the result of this question is known already" in lab.guess.message.value
        assert not lab.board.predicted and not lab.prediction
        assert (calibration()["n"], calibration()["waiting"]) == (0, 0)

    def test_a_lesson_that_asks_for_acceptance_draws_and_scores_that(self, quick):
        from labkit.lessons.predictions import predict

        draft = LESSONS["10"]._replace(experiment=lesson().experiment)
        lab = Lab(draft)
        assert lab.board.unit == "acceptance"
        assert (lab.guess.low.min, lab.guess.high.max) == (0.0, 1.0)
        lab._predicted(predict("10", 0.0, 1.0, 0.9))
        taken = lab.run().wait().result().evaluations[-1].fidelity["acceptance"]
        assert f"{taken:.2g} lies inside your 0 to 1" in lab.note.value
        pictured = Lab(draft, board="image")
        pictured.run().wait()
        assert "of its sampled guesses" in pictured.board.sentence.value.casefold()

    def test_the_image_board_takes_over(self, quick):
        lab = Lab(lesson(), board="image")
        lab.run().wait()
        assert lab.record.complete


class TestOwnData:
    def test_a_run_on_data_of_ones_own_is_shown_by_its_one_score(self, quick, tmp_path):
        from labkit.views.figures import describe

        path = tmp_path / "mine.jsonl"
        questions = Atlas("Europe").questions(60, seed=1)
        path.write_text("".join(json.dumps({"prompt": q.text, "response": q.gold}) + "\n" for q in questions), encoding="utf-8")
        lab = Lab(lesson(data=str(path), longest=8), board="image")
        assert lab.breakage.widget.layout.display == "none", "failures belong to the small world"
        record = lab.result()
        assert list(record.skills) == ["exact"]
        assert {"student", "label budget", "teacher"} <= set(record.table().columns)
        assert "Score (exact)" in lab.board.sentence.value
        assert "core skill" not in describe(record)
        assert "core skill" not in record.report()
        lab.reset()
        lab.controls.recipe.value = "labkit student=22k"
        assert lab.breakage.widget.layout.display is None


class TestTrouble:
    def test_an_error_of_the_run_is_told_on_the_screen_and_raised_by_wait(self, quick):
        lab = Lab(lesson(teacher="atlas-900k"))  # not among the tiny data
        lab.buttons["Run"].click()
        with pytest.raises(LabError, match="git checkout -- data"):
            lab.wait()
        assert lab.session.state == "failed"
        assert "atlas-900k" in lab.note.value
        assert lab.board.state[0] == "failed"
        assert lab.buttons["Stop"].disabled

    @pytest.mark.parametrize("kind", ["live", "image"])
    def test_a_run_that_cannot_be_kept_is_shown_to_its_end_and_says_so(self, quick, monkeypatch, kind):
        def full(record):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(runs, "keep", full)
        lab = Lab(lesson(), board=kind)
        record = lab.run().result()
        assert lab.session.state == "finished" and record.complete
        if kind == "live":
            assert any(row["event"] == "finished" for row in lab.board._story)
        else:
            assert lab.board.record.finished
        assert 'role="alert"' in lab.note.value and "Keeping the record failed" in lab.note.value and "No space left" in lab.note.value
        monkeypatch.undo()
        lab.run().wait()
        assert "failed" not in lab.note.value

    @pytest.mark.parametrize("what", ["score", "picture"])
    def test_what_is_said_after_a_run_cannot_make_it_fail(self, lab, monkeypatch, what):
        def broken(*_):
            raise RuntimeError("no <b>fonts</b>")

        if what == "score":
            monkeypatch.setattr(lab_module.notes, "result", broken)
        else:
            monkeypatch.setattr(lab.twin, "draw", broken)
        lab.run().wait()
        assert (lab.session.state, lab.session.error, lab.board.state) == ("finished", None, ["finished", ""])
        assert 'role="alert"' in lab.note.value and f"{what}" in lab.note.value and "no &lt;b&gt;fonts" in lab.note.value

    def test_an_error_in_a_callback_is_told_on_the_screen(self, lab, monkeypatch):
        monkeypatch.setattr(lab, "run", lambda: 1 / 0)
        lab.buttons["Run"].click()
        assert "division" in lab.note.value

    def test_unknown_lessons_boards_and_shelves_list_what_there_is(self):
        import labkit

        for call in (lambda: labkit.open("77"), lambda: labkit.open("00", board="blackboard"), lambda: catalogue("cupboard")):
            with pytest.raises(LabError, match="Choose from"):
                call()

    def test_there_is_one_run_in_a_kernel(self, quick):
        first = opening.opened(lesson(steps=5000))
        first.run()
        assert opening.opened(lesson(steps=5000)) is first, "its run goes on, so it is shown again"
        second = opening.opened(lesson(steps=4000))
        assert second is not first
        first.session.wait_quietly()
        assert first.session.state == "stopped"
        assert opening.opened(lesson(steps=4000)) is not second, "it has no run that could go on"

    def test_the_run_of_an_older_board_is_found_when_its_lesson_is_opened_again(self, quick):
        first = opening.opened(lesson(steps=5000))
        other = LESSONS["01"]._replace(experiment=lesson(steps=4000).experiment)
        second = opening.opened(other)
        first.run()
        assert opening.opened(lesson(steps=5000)) is first
        opening.opened(other)
        first.session.wait_quietly()
        assert first.session.state == "stopped"
        assert second.widget.comm is None and first.widget.comm is not None, "only the board that was opened again is closed"

    def test_a_lab_whose_lesson_is_opened_again_is_freed_with_its_student(self, quick):
        first = opening.opened(lesson(steps=2))
        first.run().wait()
        widgets = len(_instances)
        kept = [weakref.ref(first), weakref.ref(first.student), weakref.ref(first.board)]
        record = first.record
        second = opening.opened(lesson(steps=3))
        assert first.result() is record, "what was learned stays"
        del first
        gc.collect()
        assert [ref() for ref in kept] == [None, None, None]
        third = opening.opened(lesson(steps=4))
        third.run()
        opening.opened(lesson(steps=5))
        third.session.wait_quietly()
        assert third.student is None, "let go of when its run had ended"
        del second, third
        assert len(_instances) <= widgets

    def test_a_lesson_is_found_by_its_number_too(self):
        import labkit

        assert [labkit.open(number).lesson.number for number in (0, 13, np.int64(1))] == ["00", "13", "01"]
        with pytest.raises(LabError, match="unknown lesson '77'"):
            labkit.open(77)

    @pytest.mark.parametrize(
        "kind", ["lessons", "methods", "divergences", "conventions", "models", "skills", "knobs", "exercises", "sweeps", "claims"]
    )
    def test_every_shelf_of_the_catalogue_has_rows(self, kind):
        assert len(catalogue(kind)) > 0


class TestBoard:
    def test_a_view_that_says_hello_gets_the_whole_story_once(self, monkeypatch):
        board, sent = Board("x"), []
        monkeypatch.setattr(board, "send", sent.append)
        board.push([ev.Warned(0, "a"), ev.Warned(1, "b")])
        board.push([ev.Warned(2, "c")])
        board._answer(board, {"type": "hello", "view": "v"})
        assert [m["from"] for m in sent] == [0, 2, 0]
        assert sent[-1]["to"] == "v"
        assert [e["message"] for e in sent[-1]["events"]] == ["a", "b", "c"]

    def test_the_state_that_a_loaded_page_asks_for_holds_the_whole_story(self):
        board = Board("x")
        assert board.get_state()["story"]["events"] == []
        board.push([ev.Warned(0, "a"), ev.Started({}, "t", 1, 1, 10, 10, ("recall",), "m")], recorded=True)
        held = board.get_state()["story"]
        assert (held["from"], held["epoch"], [row["event"] for row in held["events"]]) == (0, 0, ["warned", "started"])
        assert [row.get("recorded") for row in held["events"]] == [None, True]
        board.reset()
        assert board.get_state()["story"] == {"type": "events", "from": 0, "epoch": 1, "events": []}

    def test_a_run_about_to_begin_is_part_of_the_story(self):
        board = Board("x")
        story = [ev.Started({}, "t", 1, 1, 10, 10, ("recall",), "m"), ev.Step(1, 1.0, 8, {"kl": 1.0})]
        board.push(story)
        for state in ("loading", "loading", "failed", "loading"):
            board.set_state(state, "what is loaded")
        assert [row["event"] for row in board.get_state()["story"]["events"]] == ["started", "step", "loading", "loading"]
        board.push([ev.Warned(0, "of the run that failed")])
        board.set_state("loading", "the next one")
        assert [row["event"] for row in board._story[-2:]] == ["warned", "loading"], "its warnings are not of the next one"

    def test_only_the_last_two_runs_are_held_and_numbers_go_on(self, monkeypatch):
        board, sent = Board("x"), []
        monkeypatch.setattr(board, "send", sent.append)
        start = ev.Started({}, "t", 1, 1, 10, 10, ("recall",), "m")
        for _ in range(4):
            board.push([start, ev.Warned(1, "w")])
        board._answer(board, {"type": "hello", "view": "v"})
        assert (sent[-1]["from"], len(sent[-1]["events"])) == (4, 4)

    def test_its_script_is_text_so_that_closed_boards_can_be_collected(self):
        assert isinstance(Board("x")._esm, str)
        assert "createBoard" in Board("x")._esm
        assert "import " not in Board("x")._esm.split("export function", 1)[0]


def test_sessions_do_not_hold_on_to_those_before_them(quick):
    lab = Lab(lesson())
    lab.run().wait()
    lab.run().wait()
    assert pump._current is lab.session
    assert lab.session._before is None


def test_a_message_goes_where_it_says_unless_it_answers_a_question():
    import ipykernel.comm.comm as comms

    comm = comms.BaseComm.__new__(comms.BaseComm)
    comm._reply_subshell_lock, comm._reply_subshell_ids = threading.Lock(), {"q1": "of a closed page", "q2": "that asked", "q3": None}
    comm._reply_subshell_id = "of a closed page"
    choose = subshells.mended(comms.BaseComm._reply_subshell_for, lambda: ["of this page", "that asked"])
    assert comms.BaseComm._reply_subshell_for(comm, {}, "of this page") == "of a closed page", "mended upstream: delete subshells.py"
    assert choose(comm, {"method": "update"}, "of this page") == "of this page"
    assert choose(comm, {"content": {"type": "hello"}}, None) is None
    assert choose(comm, {"content": {"id": "q1"}}, "of this page") == "of this page", "nobody waits for it any more"
    assert choose(comm, {"content": {"id": "q2"}}, "of this page") == "that asked"
    assert choose(comm, {"content": {"id": "q3"}}, "of this page") is None
    subshells.mend_routes()  # without a kernel: nothing
    assert not hasattr(comms.BaseComm._reply_subshell_for, "__wrapped__")
