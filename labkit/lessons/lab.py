"""The widget of a lesson: buttons, controls and the board, for one experiment at a time.

lab = labkit.open("00")      # displays itself; press Run, or call lab.run()
rec = lab.result()           # waits for the current run (or starts one) and returns its Record
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from labkit.base.errors import LabError, need, told
from labkit.base.html import note
from labkit.base.interrupts import uninterrupted
from labkit.lessons import notes
from labkit.lessons.break_it import Breakage
from labkit.lessons.prediction_widget import prediction_widget
from labkit.lessons.predictions import Prediction
from labkit.lessons.types import Lesson
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.record import Record
from labkit.records.rules import refuse
from labkit.records.store import Store
from labkit.views.board.controls import Controls
from labkit.views.board.parts import STYLE, access, board_of, close_all
from labkit.views.board.session import Session, going
from labkit.views.board.subshells import mend_routes
from labkit.views.board.twin import Twin

if TYPE_CHECKING:
    from labkit.training.loop import Run

RUN = "Distil a student with these settings. A current run is stopped first."


class Lab:
    """One lesson. The buttons call `run`, `pause`, `stop` and `reset`; all of them return at once."""

    def __init__(self, lesson: Lesson, board: str = "auto") -> None:
        self.lesson, self.kind = lesson, board
        self.record: Record | None = None
        self.session: Session | None = None
        self._lock = threading.RLock()  # of what is shown: no run says a word between the check that it is shown and that word
        self._trouble = ""  # what went wrong beside the run
        self.prediction: Prediction | None = None
        self.twin = Twin(lesson.title, lesson.unit)
        self._recorded: Experiment | None = None  # of the recorded run on the board
        self.board = board_of(board, lesson.title, lesson.unit)
        self.board.one_thread = lambda: self._clicked("one thread")
        self.controls = Controls(lesson.experiment, lesson.controls, self._turned)
        self.buttons = {
            name: widgets.Button(description=name, tooltip=tip, button_style=look, layout={"width": "88px"})
            for name, tip, look in (
                ("Run", RUN, "primary"),
                ("Pause", "Pause the run between two steps, or resume it.", ""),
                ("Stop", "End the run after this step. The student is kept and examined.", ""),
                ("Reset", "Stop, bring back the recorded run, and reset all controls.", ""),
            )
        }
        for button in self.buttons.values():
            button.on_click(lambda clicked: self._clicked(clicked.description))
        self.note = widgets.HTML()
        ends = (0.0, 1.0) if lesson.unit == "acceptance" else (-0.2, 1.2)
        self.guess = prediction_widget(lesson.asks, lesson.unit, *ends, self._predicted, question_id=lesson.number)
        self.buttons["Run"].add_class("labkit-run")
        header = widgets.HBox([*self.buttons.values(), self.note], layout={"flex_flow": "row wrap", "align_items": "center"})
        header.add_class("labkit-buttons")
        self.breakage = Breakage(self.controls, self._turned, lambda: bool(self.session and not self.session.over), lambda: self.record)
        self.controls.add_below_more(self.breakage.widget)
        beside = widgets.VBox([self.guess, self.controls.widget], layout={"min_width": "0"})
        pictured = hasattr(self.board, "widget")  # by plain images, where no other widget can load either
        body = widgets.GridBox([self.board.widget if pictured else self.board, beside], layout={"width": "100%"})
        body.add_class("labkit-body")
        self.widget = widgets.VBox([widgets.HTML(STYLE), header, body, *([] if pictured else [access()])], layout={"width": "100%"})
        self.widget.add_class("labkit-lab")
        self.widget.add_class(self.twin.mark)
        self._buttons("ready")
        self.controls.followers.append(self._allow)
        self._allow(lesson.experiment)
        self._show_recording()
        if self.guess.kept:  # before the lesson was opened again
            self._predicted(self.guess.kept)

    def __repr__(self) -> str:
        return f"Lab({self.lesson.number!r}: {self.lesson.title})"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        mend_routes()
        data = self.widget._repr_mimebundle_()
        display((data or {}) | {"text/plain": f"{self.lesson.title}: the live board, which needs a running notebook."}, raw=True)
        self.twin.display(self.record)
        threading.Thread(target=self._prepare, daemon=True).start()

    def _prepare(self) -> None:
        with contextlib.suppress(ImportError):  # without torch, recorded runs still play; Run then says what is missing
            import labkit.training.loop  # noqa: F401 - what Run needs, while the learner is still reading
        self.twin.draw()

    @property
    def student(self) -> Any:
        """The student of the current or last run; None before the first run."""
        return self.session.run.student if self.session and self.session.run else None

    # ---- what the buttons do -----------------------------------------------------------------------------------------

    def run(self, inline: bool = False, **changes: Any) -> Lab:
        """Start a run with the recipe of the controls.

        inline: run it in this cell, and return when it has ended.
        changes: fields of the recipe; the controls follow.

        Raises `LabError` for a recipe that breaks a rule.
        """
        if changes:
            self.controls.experiment = self.controls.experiment.but(**changes)
        experiment = self.controls.experiment
        refuse(experiment)
        record = Record()

        def make() -> Run:
            try:
                with uninterrupted():
                    from labkit.studies.run import begin
            except ModuleNotFoundError as error:
                raise need(error.name or "torch", "Training a student") from None

            return begin(experiment)

        def show(events: Sequence[ev.Event]) -> None:
            for event in events:
                record.add(event)
            with self._lock:
                if session is self.session:  # else the board was reset, or shows a later run
                    self.record = record
                    self.board.push(events)
            if any(isinstance(event, ev.Finished) for event in events):
                self._keep(session, record)

        session = Session(make, show, lambda *now: self._state(session, experiment, *now), lambda: self._measure(session, record), self)
        with self._lock:
            self.session, self.record, self._recorded, self._trouble = session, None, None, ""  # what was shown is not of this run
            self.board.set_state("loading", notes.loading(experiment, bool(going())))
            self._say("")
        if inline:
            session.run_here()
            session.wait()
        else:
            session.start()
        return self

    def pause(self) -> None:
        """Pause the current run, or resume it."""
        if self.session and self.session.state == "paused":
            self.session.resume()
        elif self.session:
            self.session.pause()

    def stop(self) -> None:
        """End the current run after its step."""
        if self.session:
            self.session.stop()

    def reset(self) -> None:
        """Stop, bring back the recorded run, and reset the controls."""
        self.stop()
        with self._lock:
            self.session, self.record, self._recorded = None, None, None
            self.board.reset()
            self.board.set_state("ready")
            self.controls.experiment = self.lesson.experiment
            self._buttons("ready")
            self._show_recording()
            self.twin.take(self.record)
        threading.Thread(target=self.twin.draw, daemon=True).start()

    def close(self) -> None:
        """Stop, and let go of the widgets and the student, when the lesson was opened again. The record stays."""
        self.stop()
        if self.session:
            self.session.release()
        close_all(self.widget)

    def wait(self, timeout: float | None = None) -> Lab:
        """Wait until the current run has ended (a paused one is resumed). Raises the run's error, if it had one."""
        if self.session:
            self.session.wait(timeout)
        return self

    def result(self) -> Record:
        """The record of the last run. Waits for a current one, and starts one if there was none.

        Raises `LabError` if the run ended before its first exam.
        """
        if self.session is None:
            self.run()
        self.wait()
        if self.record is None or not self.record.evaluations:
            raise LabError("the run ended before its first exam, so it has no result: press Run and let it go on for longer.")
        return self.record

    # ---- reactions ---------------------------------------------------------------------------------------------------

    def _clicked(self, label: str) -> None:
        """A button's work. Shows any error on the screen: an exception in a callback is not shown anywhere."""
        calls: dict[str, Callable[[], Any]] = {
            "Run": self.run,
            "Pause": self.pause,
            "Resume": self.pause,
            "Stop": self.stop,
            "Reset": self.reset,
            "one thread": self._one_thread,
        }
        try:
            calls[label]()
        except Exception as error:
            self._say(told(error), "alert")

    def _allow(self, experiment: Experiment) -> None:
        """Enable Run only for a recipe that breaks no rule; and say what it will change about the recorded run."""
        problems = experiment.problems()
        self.buttons["Run"].disabled = bool(problems)
        self.buttons["Run"].tooltip = problems[0] if problems else RUN
        if self._recorded:
            self._say(notes.invitation(self._recorded, experiment))

    def _turned(self, name: str, value: Any) -> None:
        if self.session and not self.session.over and KNOBS[name].knob.hot:
            self.session.turn(**{name: value})

    def _one_thread(self) -> None:
        if self.session and not self.session.over:
            self.session.turn(threads=1)

    def _predicted(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self.board.predicted = {"low": prediction.low, "high": prediction.high, "confidence": prediction.confidence}

    def _state(self, session: Session, experiment: Experiment, state: str, message: str) -> None:
        with self._lock:
            if session is not self.session:
                return
            ended = bool(self.record and self.record.complete)
            if state in ("running", "paused") and ended:  # its baseline is being measured
                self.board.set_state("measuring", "the baseline, paused" if state == "paused" else "")
            elif state == "running":
                words = notes.loading(experiment, False) if session.loading else ""
                self.board.set_state("loading" if session.loading else "training", words)
            else:
                self.board.set_state("finished" if ended else state, message)
            self._buttons(state)
            if session.over:
                self.twin.take(self.record)
                with self._beside(session, "The score of the prediction"):
                    self._conclude(state, message)
        if session.over:
            with self._beside(session, "The picture for pages without a kernel"):
                self.twin.draw()

    def _conclude(self, state: str, message: str) -> None:
        said = message if state == "failed" else notes.result(self.record, self.prediction, self.lesson)
        self._say(f"{self._trouble} {said}" if self._trouble else said, "alert" if state == "failed" or self._trouble else "status")

    @contextlib.contextmanager
    def _beside(self, session: Session, what: str) -> Iterator[None]:
        """For what a run does not need: an error of it is told, stays beside what is said at the end, and does not make the run fail."""
        try:
            yield
        except Exception as error:
            with self._lock:
                if session is self.session:
                    self._trouble = f"{self._trouble} {what} failed: {told(error)}".strip()
                    self._say(self._trouble, "alert")

    def _buttons(self, state: str) -> None:
        going = state in ("running", "paused")
        self.buttons["Pause"].description = "Resume" if state == "paused" else "Pause"
        self.buttons["Pause"].disabled = not going
        self.buttons["Stop"].disabled = not going
        self.controls.lock(going)

    def _say(self, text: str, role: str = "status") -> None:
        self.note.value = note(text, role)

    def _show_recording(self) -> None:
        """Show a recorded run of another recipe: a run of the lesson's own would give the answer to the prediction."""
        shown = self.lesson.recorded
        try:
            recording = Store().find(shown)
        except LabError as error:
            self._say(str(error), "alert")
            return
        if recording is not None:
            self.record, self._recorded = recording, shown
            self.board.push(recording.events, recorded=True)
        self._say(notes.invitation(self._recorded, self.controls.experiment))

    def _keep(self, session: Session, record: Record) -> None:
        from labkit.studies.run import keep

        with self._beside(session, "Keeping the record"):
            keep(record)

    def _measure(self, session: Session, record: Record) -> Iterator[ev.Event]:
        """Measure the label-budget baseline if it is not on record. Recovery is shown only after that."""
        from labkit.studies.run import with_baseline

        if record.complete and "label budget" not in record.references and "teacher" in record.references:

            def watch(run: Any, event: ev.Event) -> None:
                if session.stopping:
                    run.stop()
                session.breathe()
                if isinstance(event, ev.Step) and event.step % 10 == 0:
                    with self._lock:
                        if session is self.session:
                            self.board.set_state("measuring", f"the baseline, {event.step}/{record.experiment.steps}")

            with self._lock:
                if session is self.session:
                    self.board.set_state("measuring")
                    self._say(self._trouble or notes.measuring(record.experiment), "alert" if self._trouble else "status")
            with self._beside(session, "Measuring the baseline"):
                yield from with_baseline(record, watch)
            self._keep(session, record)
