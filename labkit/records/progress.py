"""Tells how runs go on while they do: in one line that renews itself on a terminal or in a notebook, elsewhere in a line now and then.

with Progress() as progress:
    progress.doing("Loading the models")
    record(experiment, watch=progress)
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from labkit.records import events as ev

WHOLE = "{desc} |{bar:20}| {remaining} left{postfix}"


class Progress:
    """Is called with each event of one or more runs.

    every: where no line renews itself, print one of this many steps; 0 prints nothing there.
    live: whether one line renews itself; if None, whether stdout is a terminal or a notebook's.
    past: whether the run is over, so that nothing is left of it.
    """

    def __init__(self, every: int = 50, live: bool | None = None, past: bool = False) -> None:
        self.every, self.live, self.past = every, _renews() if live is None else live, past
        self.began = False  # whether a run has sent an event
        self._steps, self._name = 0, ""
        self._first: ev.Step | None = None  # of this run: what was before it, as labelling and an exam, says nothing on the steps to come
        self._line: Any = None  # tqdm's, once there is something to tell

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the line away: what is printed next stands in its place."""
        if self._line is not None:
            self._line.close()
        self._line = None

    def of(self, name: str) -> None:
        """The runs from here on are of this name."""
        if name != self._name and not self.live and self.every:
            print(f"-- {name}", flush=True)
        self._name = name

    def doing(self, what: str) -> None:
        """Tell what is being done before the next event."""
        if self.live:
            self._show(f"{what} ...")
        elif self.every:
            print(f"{what} ...", flush=True)

    def say(self, text: str) -> None:
        """Print lines that stay, above the one that renews itself."""
        if self._line is not None:
            self._line.write(text, file=self._line.fp)
        elif self.live or self.every:
            print(text, flush=True)

    def __call__(self, event: ev.Event) -> None:
        """Tell an event, if it is of interest."""
        self.began = True
        if isinstance(event, ev.Started):
            self._steps, self._first = event.steps, None
        if isinstance(event, ev.Step):
            self._first = self._first or event
        if isinstance(event, ev.Warned):
            self.say(event.message)
        elif self.live:
            self._renew(event)
        elif self.every:
            self._print(event)

    def _renew(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                self._show("the models are loaded")
                self._line.reset(event.steps)
            case ev.Labelled() if self._line is None or not self._line.n:
                self._show(f"the teacher answers questions: {event.done:,} of {event.total:,}")
            case ev.Step():
                self._show(f"step {event.step:,} of {self._steps:,}", WHOLE, refresh=False)
                kl = event.values.get("kl")
                self._line.set_postfix_str(f"KL {kl:.3f}" if kl is not None else f"loss {event.values['loss']:.3f}", refresh=False)
                self._line.update(event.step - self._line.n)
                if event.step in (1, self._steps):  # the others are drawn ten times a second at most
                    self._line.refresh()

    def _print(self, event: ev.Event) -> None:
        match event:
            case ev.Labelled() if event.done == event.total:
                print(f"{event.seconds:6.1f} s  the teacher has answered {event.total:,} questions", flush=True)
            case ev.Step() if event.step % self.every == 0:
                numbers = "  ".join(f"{name} {value:.3f}" for name, value in event.values.items() if name in ("loss", "kl", "ce"))
                print(f"{event.seconds:6.1f} s  step {event.step} of {self._steps}  {numbers}{self._left(event)}", flush=True)
            case ev.Evaluated():
                print(f"{event.seconds:6.1f} s  exam: " + "  ".join(f"{k} {v:.2f}" for k, v in event.skills.items()), flush=True)

    def _left(self, event: ev.Step) -> str:
        """The time that the other steps will take, behind the numbers of a step; "" if that is not known."""
        if self.past or self._first is None or event.step <= self._first.step:
            return ""
        each = (event.seconds - self._first.seconds) / (event.step - self._first.step)
        return f"  {each * (self._steps - event.step):.0f} s left"

    def _show(self, text: str, look: str = "{desc}", refresh: bool = True) -> None:
        if self._line is None:
            self._line = _line()
        self._line.bar_format = look
        self._line.set_description_str(f"{self._name}: {text}" if self._name else text, refresh=refresh)


def _renews() -> bool:
    """Whether a line on stdout can be written over."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return terminal or type(sys.stdout).__module__.startswith("ipykernel")


def _line() -> Any:
    from tqdm import tqdm

    class Line(tqdm):
        monitor_interval = 0  # its thread would only redraw lines that stand still

    size: dict[str, int] = {}
    if sys.stdout.isatty():  # tqdm would take a terminal that does not tell its size for one without a line
        columns, lines = shutil.get_terminal_size()
        size = {"ncols": columns - 1, "nrows": lines}
    return Line(file=sys.stdout, leave=False, smoothing=0.1, bar_format="{desc}", **size)
