"""The live board as a notebook widget: `board.js` draws, and this file sends it events.

A new view asks for all events so far (a message "hello") and gets them once, so a page reload or a second view is complete. After that
only new events are sent. Events are numbered: a view that missed some asks again.
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

_ADAPTER = """
function render({ model, el: host }) {
  const root = document.createElement("div");
  host.append(root);
  let next = -1, epoch = -1;
  const options = Object.fromEntries(["title", "predicted", "unit"].map((name) => [name, model.get(name)]));
  const board = createBoard(root, { ...options, oneThread: () => model.send({ type: "one thread" }) });
  const view = Math.random().toString(36).slice(2);
  const hello = () => model.send({ type: "hello", view });
  const heard = (message) => {
    if (message.type !== "events" || (message.to && message.to !== view)) return;
    if (!message.to && (next < 0 || message.epoch !== epoch || message.from > next)) return hello();
    if (message.to) { board.reset(); next = message.from; epoch = message.epoch; }
    board.push(message.events.slice(Math.max(0, next - message.from)));
    next = Math.max(next, message.from + message.events.length);
    const [state, words] = model.get("state"); board.setState(state, words);
  };
  const stated = () => { const [state, words] = model.get("state"); board.setState(state, words); };
  const guessed = () => board.setPrediction(model.get("predicted"));
  model.on("msg:custom", heard); model.on("change:state", stated); model.on("change:predicted", guessed);
  stated(); hello();
  return () => {
    model.off("msg:custom", heard); model.off("change:state", stated); model.off("change:predicted", guessed);
    board.destroy();
  };
}
export default { render };
"""


@functools.cache
def script() -> str:
    """The JavaScript module of the widget as a string. (A path would keep every closed widget alive: manzt/anywidget issue 929.)"""
    return (_HERE / "board.js").read_text(encoding="utf-8") + _ADAPTER


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

    def __init__(self, title: str = "", unit: str = "recovery", **kwargs: Any) -> None:
        self._lock = threading.Lock()
        self._story: list[dict[str, Any]] = []
        self._first = 0  # number of the first event still held
        self._epoch = 0
        self.one_thread: Callable[[], object] = lambda: None
        super().__init__(_esm=script(), _css=style(), title=title, unit=unit, **kwargs)
        self.on_msg(self._answer)

    def __repr__(self) -> str:
        return f"Board({self.title!r}, {self.state[0]})"

    def push(self, events: Sequence[ev.Event]) -> None:
        """Send events to all views."""
        rows = [event.to_json() for event in map(for_show, events)]
        with self._lock:
            start = self._first + len(self._story)
            self._story += rows
            self._forget()
            self.send({"type": "events", "from": start, "epoch": self._epoch, "events": rows})

    def reset(self) -> None:
        """Delete all events, also those of the ghost."""
        with self._lock:
            self._story, self._first, self._epoch = [], 0, self._epoch + 1
            self.send({"type": "events", "from": 0, "epoch": self._epoch, "events": []})

    def set_state(self, state: str, message: str = "") -> None:
        """Show a state of the run and a sentence about it."""
        self.state = [state, message]

    def _answer(self, _: Any, message: Any, buffers: Any = None) -> None:
        if isinstance(message, dict) and message.get("type") == "hello":
            with self._lock:
                held = {"type": "events", "from": self._first, "epoch": self._epoch, "events": list(self._story)}
                self.send(held | {"to": message.get("view")})
        if isinstance(message, dict) and message.get("type") == "one thread":
            self.one_thread()

    def _forget(self) -> None:
        """Delete events of runs before the previous one."""
        starts = [i for i, row in enumerate(self._story) if row["event"] == "started"]
        if len(starts) > 2:
            cut = starts[-2]
            self._first += cut
            del self._story[:cut]
