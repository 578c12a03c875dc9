"""The live board as a notebook widget: `board.js` draws, `link.js` listens, and this file sends the events.

A new view asks for all events so far (a message "hello", again and again until it is answered), so a page reload or a second view is
complete. After that only new events are sent. Events are numbered: a view that missed some asks again. And the model's state has the events
too, because a page that was loaded again gets the states of all models, even if its messages to the kernel are lost.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.records import events as ev
from labkit.tasks.atlas.contested import for_show

_HERE = Path(__file__).parent
_LOADING = {"event": "loading"}  # of the story, though no record has it: what comes before it is of the run before

_ADAPTER = """
function render({ model, el: host }) {
  const root = document.createElement("div");
  host.append(root);
  const options = Object.fromEntries(["title", "predicted", "unit"].map((name) => [name, model.get(name)]));
  const board = createBoard(root, { ...options, oneThread: () => model.send({ type: "one thread" }) });
  const leave = follow(model, board);
  return () => { leave(); board.destroy(); };
}
export default { render };
"""


@functools.cache
def script() -> str:
    """The JavaScript module of the widget as a string. (A path would keep every closed widget alive: manzt/anywidget issue 929.)"""
    return "".join((_HERE / name).read_text(encoding="utf-8") for name in ("board.js", "link.js")) + _ADAPTER


@functools.cache
def style() -> str:
    """The style sheet of the widget."""
    return (_HERE / "board.css").read_text(encoding="utf-8")


class Board(anywidget.AnyWidget):
    """The live board. `push(events)` draws them; the previous run stays visible as a ghost. Any thread may call it.

    title: of the board.
    unit: the quantity that is predicted, "recovery" or "acceptance"; acceptance is drawn in place of the waterfall.

    `one_thread` is called where the button is pressed with which a starved run goes on with one thread.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    state = traitlets.List(["ready", ""]).tag(sync=True)
    predicted = traitlets.Dict(None, allow_none=True).tag(sync=True)
    unit = traitlets.Unicode("recovery").tag(sync=True)
    story = traitlets.Dict().tag(sync=True, to_json=lambda _, board: board._held())  # never set: read when a page asks for the state

    def __init__(self, title: str = "", unit: str = "recovery", **kwargs: Any) -> None:
        self._lock = threading.RLock()
        self._story: list[dict[str, Any]] = []
        self._first = 0  # number of the first event still held
        self._epoch = 0
        self.one_thread: Callable[[], object] = lambda: None
        super().__init__(_esm=script(), _css=style(), title=title, unit=unit, **kwargs)
        self.on_msg(self._answer)

    def __repr__(self) -> str:
        return f"Board({self.title!r}, {self.state[0]})"

    def push(self, events: Sequence[ev.Event], recorded: bool = False) -> None:
        """Send events to all views.

        recorded: whether they are those of a recorded run, and not of one that goes on here.
        """
        told = {"recorded": True} if recorded else {}
        rows = [event.to_json() | (told if isinstance(event, ev.Started) else {}) for event in map(for_show, events)]
        self._tell(rows)

    def reset(self) -> None:
        """Delete all events, also those of the ghost."""
        with self._lock:
            self._story, self._first, self._epoch = [], 0, self._epoch + 1
            self.send({"type": "events", "from": 0, "epoch": self._epoch, "events": []})

    def set_state(self, state: str, message: str = "") -> None:
        """Show a state of the run and a sentence about it. With "loading" the run before becomes the ghost."""
        with self._lock:
            known = self.state[0] == "loading" and self._story[-1:] == [_LOADING]
            self.state = [state, message]  # first: a view says the state again after each event
            if state == "loading" and not known:
                self._tell([_LOADING])

    def _tell(self, rows: list[dict[str, Any]]) -> None:
        with self._lock:
            start = self._first + len(self._story)
            self._story += rows
            self._forget()
            self.send({"type": "events", "from": start, "epoch": self._epoch, "events": rows})

    def _answer(self, _: Any, message: Any, buffers: Any = None) -> None:
        if isinstance(message, dict) and message.get("type") == "hello":
            with self._lock:
                self.send(self._held() | {"to": message.get("view")})
        if isinstance(message, dict) and message.get("type") == "one thread":
            self.one_thread()

    def _held(self) -> dict[str, Any]:
        with self._lock:
            return {"type": "events", "from": self._first, "epoch": self._epoch, "events": list(self._story)}

    def _forget(self) -> None:
        """Delete events of runs before the previous one."""
        starts = [i for i, row in enumerate(self._story) if row["event"] == "started"]
        if len(starts) > 2:
            cut = starts[-2]
            self._first += cut
            del self._story[:cut]
