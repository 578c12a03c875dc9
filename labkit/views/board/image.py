"""The image board, for front ends where anywidget cannot load: the same events as sentences and a picture, at most twice a second.

    board = ImageBoard("Distil in a minute"); board.push(events); board     # the same calls as `widget.Board`

The thread that calls `push` draws; a callback never does. Drawing takes at most a tenth of that thread's time, so a slow machine draws less
often and does not train more slowly. Everything that a model wrote is escaped.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets

from labkit.base.html import table
from labkit.records import events as ev
from labkit.records.record import Record
from labkit.tasks.atlas.contested import for_show
from labkit.views.figures import snapshot
from labkit.views.figures.drafts import say_acceptance
from labkit.views.figures.run_charts import say_outcome
from labkit.views.figures.scales import shown

EVERY = 0.5  # seconds between two pictures, at least
SHARE = 0.1  # of the time may be spent on drawing
POLITE = 10.0  # seconds between two sentences of the live region
SIGNS = {"ready": "\u25cb", "loading": "\u25cc", "labelling": "\u25d0", "training": "\u25cf", "paused": "\u2759\u2759"}
SIGNS |= {"measuring": "\u25d1", "finished": "\u2713", "stopped": "\u25a0", "failed": "\u2717"}  # as in board.js
VERDICTS = {"right": "\u2713 right", "working": "\u2260 wrong working", "wrong": "\u2717 wrong", "inherited": "\u26a0\ufe0e inherited"}
ROWS, DPI = 12, 100
OFFER = "Other programs take the processors. Threads that wait for a processor wait for one another: one alone loses least."


class ImageBoard:
    """A board as a picture. `push(events)` draws them; the previous run stays visible as a ghost. Display the board, or its `widget`.

    unit: as for `Board`. So is `one_thread`.
    """

    def __init__(self, title: str = "", unit: str = "recovery") -> None:
        self.title, self.unit = title, unit
        self._lock = threading.Lock()
        self._next_picture = self._next_sentence = 0.0
        self.state: list[str] = ["ready", ""]
        self.predicted: Mapping[str, float] | None = None
        self.status = widgets.HTML()
        self.sentence = widgets.HTML(layout={"min_height": "1.6em"})
        self.image = widgets.Image(format="png", layout={"width": "100%", "max_width": "1300px", "display": "none"})
        self.answers = widgets.HTML()
        self.one_thread: Callable[[], object] = lambda: None
        self.offer = widgets.Button(description="Go on with one thread", tooltip=OFFER, layout={"width": "auto", "display": "none"})
        self.offer.on_click(lambda _: self._use())
        self.widget = widgets.VBox([self.status, self.offer, self.sentence, self.image, self.answers], layout={"width": "100%"})
        self.widget.add_class("labkit-image-board")
        self.reset()

    def __repr__(self) -> str:
        return f"ImageBoard({self.title!r}, {self.state[0]})"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)

    def push(self, events: Sequence[ev.Event], recorded: bool = False) -> None:
        """Add events, and draw if it is time. A failure to draw is reported on the board and does not stop the run.

        recorded: as for `Board`.
        """
        with self._lock:
            self._recorded = recorded
            for event in events:
                self._take(event)
            record, previous = self.record, self.previous
        over = record.finished is not None and bool(events)  # also for a baseline that is measured after the end
        began = time.monotonic()
        if record.started is not None and (over or began >= self._next_picture):
            try:
                png, failure = snapshot(record, previous=previous, unit=self.unit).png(DPI), ""
            except Exception as error:
                png, failure = b"", f"The picture could not be drawn ({error}); the run goes on."
            done = time.monotonic()
            with self._lock:
                self._next_picture = done + max(EVERY, (done - began) * (1 / SHARE - 1))
                if record is self.record:  # no reset in the meantime
                    self._failure = failure
                    if png:
                        self.image.value, self.image.layout.display = png, None
        with self._lock:
            self._tell(at_once=over)

    def reset(self) -> None:
        """Delete all events, also those of the ghost."""
        with self._lock:
            self.record = Record()
            self._recorded = False
            self.previous: Record | None = None
            self._labelled: ev.Labelled | None = None
            self._warning, self._failure = "", ""
            self._next_picture = self._next_sentence = 0.0
            self.image.layout.display, self.image.value = "none", b""
            self.offer.layout.display = "none"
            self.answers.value = self.sentence.value = ""
            self._tell()

    def set_state(self, state: str, message: str = "") -> None:
        """Show a state of the run and a sentence about it. This draws nothing, so a callback may call it."""
        with self._lock:
            self.state = [state, message]
            if state == "loading" and self.record.started:  # its numbers are of the run before
                if self.record.steps:
                    self.previous = self.record
                self.record, self._recorded, self._labelled, self._warning = Record(), False, None, ""
                self.image.layout.display, self.image.value, self.answers.value, self.sentence.value = "none", b"", "", ""
            if state in ("loading", "finished", "stopped", "failed"):
                self.offer.layout.display = "none"
            self._tell(at_once=True)

    def _use(self) -> None:
        """Take up the offer: the button goes, and the run goes on with one thread."""
        self.offer.layout.display = "none"
        self.one_thread()

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _take(self, event: ev.Event) -> None:
        event = for_show(event)
        match event:
            case ev.Started():
                if self.record.started and self.record.steps:
                    self.previous = self.record
                self.record, self._labelled, self._warning = Record(), None, ""
                self.answers.value, self._next_picture = "", 0.0
                self.offer.layout.display = "none"
            case ev.Labelled():
                self._labelled = event
            case ev.Sampled():
                self.answers.value = _table(event)
            case ev.Warned():
                self._warning = event.message
                if event.offer == "threads=1":
                    self.offer.layout.display = None
            case ev.KnobTurned(name="threads") | ev.Finished() | ev.Failed():
                self.offer.layout.display = "none"
        self.record.add(event)

    def _tell(self, at_once: bool = False) -> None:
        """Update the status line, and the spoken sentence if it is ten seconds old or `at_once`."""
        state, message = self.state
        parts = [
            f"{SIGNS.get(state, '')} <strong>{html.escape(shown(state, 20))}</strong>",
            html.escape(shown(message, 200)),
        ]
        parts += [html.escape(text) for text in self._facts()]
        parts += ["a recorded run"] if self._recorded else []
        lines = [" \u00b7 ".join(part for part in parts if part)]
        end = self.record.finished
        if isinstance(end, ev.Failed):
            words = f"{shown(end.message, 300)}. {shown(end.advice, 300)}"
            lines.append(f'<span role="alert"><strong>\u2717 The run failed:</strong> {html.escape(words)}</span>')
        for problem in (self._warning, self._failure):
            lines += [f"! {html.escape(shown(problem, 300))}"] if problem else []
        self.status.value = f'<div style="line-height:1.5">{"<br>".join(lines)}</div>'
        now = time.monotonic()
        if self.record.started is not None and (at_once or now >= self._next_sentence):
            self._next_sentence = now + POLITE
            self.sentence.value = f'<p role="status" style="font-size:1.1em;margin:4px 0">{html.escape(self._say())}</p>'

    def _facts(self) -> list[str]:
        """Labelling, step and speed, as far as they are known."""
        facts = []
        if self._labelled and self._labelled.done < self._labelled.total and not self.record.finished:
            facts.append(f"{self._labelled.done:,} of {self._labelled.total:,} questions labelled")
        if self.record.started and self.record.steps:
            last = self.record.steps[-1]
            facts.append(f"step {last.step:,} of {self.record.started.steps:,}, {last.seconds:,.0f} s")
            if last.seconds > 0:
                facts.append(f"{last.questions_seen / last.seconds:,.0f} questions/s")
        return facts

    def _say(self) -> str:
        words = say_outcome(self.record)
        if self.unit == "acceptance":
            words += f" {say_acceptance(self.record)}"
        if self.predicted:
            low, high = (100 * float(self.predicted[end]) for end in ("low", "high"))
            words += f" You predicted {low:.0f} to {high:.0f}%."
        return words


def _table(sampled: ev.Sampled) -> str:
    """The latest answers, every cell escaped."""
    columns = ("question", "student", "teacher", "truth")
    rows = []
    for row in sampled.rows[:ROWS]:
        verdict = str(row.get("verdict", ""))
        rows.append([*(shown(row.get(name, ""), 60) for name in columns), VERDICTS.get(verdict, shown(verdict, 20))])
    return table([*columns, "verdict"], rows, f"Answers at step {sampled.step:,}")
