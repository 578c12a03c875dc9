"""The pump: drains a run in one daemon thread and hands batches of events to whoever watches.

A button's callback only sets a flag here; training, saving and sending all happen in the thread. Starting a session stops the
one before it, so two runs never share the machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from labkit.records import events as ev

if TYPE_CHECKING:
    from labkit.training.loop import Run

HERTZ = 10  # batches a second at the most
SLOWER = {"full": 0.0, "half": 1.0, "slow": 4.0}  # waiting time as a multiple of working time

_current: Session | None = None
_lock = threading.Lock()


class Session:
    """One run being watched.

    make: called in the thread to make the run, so that importing torch there does not hold up the notebook.
    show: gets each batch of events, in the thread.  state: gets the session's state and a sentence, in the thread.
    after: called in the thread once the run has ended in order; what it yields is shown too.
    """

    def __init__(
        self,
        make: Callable[[], Run],
        show: Callable[[Sequence[ev.Event]], None],
        state: Callable[[str, str], None],
        after: Callable[[], Iterator[ev.Event]] | None = None,
    ) -> None:
        self._make, self._show, self._tell, self._after = make, show, state, after
        self.run: Run | None = None
        self.state = "ready"
        self.error: BaseException | None = None
        self._going = threading.Event()
        self._going.set()
        self._stopping = False
        self._before: Session | None = None
        self._turned: dict[str, object] = {}  # before there was a run to turn
        self._thread = threading.Thread(target=self._work, name="labkit-run", daemon=True)

    # ---- from the notebook -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin in the background; a session already under way is stopped first."""
        self._take_over()
        self._thread.start()

    def _take_over(self) -> None:
        global _current
        with _lock:
            self._before, _current = _current, self
        if self._before:
            self._before.stop()

    def run_here(self) -> None:
        """The same in the calling thread, for front ends that show nothing from a background one."""
        self._take_over()
        self._work()

    def pause(self) -> None:
        if self.state == "running":
            self._going.clear()
            self._set("paused")

    def resume(self) -> None:
        if self.state == "paused":
            self._set("running")
            self._going.set()

    def stop(self) -> None:
        """End in order after the present step: the student is kept and examined once more."""
        self._stopping = True
        if self.run:
            self.run.stop()
        self._going.set()

    def turn(self, **knobs: object) -> None:
        self._turned |= knobs
        if self.run:
            self.run.turn(**knobs)

    def breathe(self) -> None:
        """Wait here while the session is paused."""
        self._going.wait()

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def over(self) -> bool:
        return self.state in ("finished", "stopped", "failed")

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end. A paused run goes on, or the wait would have none; an interrupt stops it in order; an error of the
        run is raised here."""
        self.resume()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while self._thread.is_alive() and (deadline is None or time.monotonic() < deadline):
                self._thread.join(0.1)
        except KeyboardInterrupt:
            self.stop()
            self._thread.join()
        if self.error:
            raise self.error

    # ---- in the thread -----------------------------------------------------------------------------------------------

    def _set(self, state: str, message: str = "") -> None:
        self.state = state
        self._tell(state, message)

    def _work(self) -> None:
        try:
            if self._before:
                self._before.wait_quietly()
                self._before = None
            self._set("running", "Loading the teacher and the student.")
            self.run = self._make()
            if self._stopping:
                self.run.stop()
            if self._turned:
                self.run.turn(**self._turned)
            self._drain(self.run)
            if self._after and not self.over and not self._stopping:
                for event in self._after():
                    self._show([event])
            if not self.over:
                self._set("stopped" if self._stopping else "finished")
        except KeyboardInterrupt:  # of the cell that runs it
            self._set("stopped", "Interrupted.")
        except BaseException as error:
            self.error = error
            self._set("failed", str(error))

    def wait_quietly(self) -> None:
        """Wait for the thread's end, whatever became of it."""
        if self._thread.is_alive():
            self._thread.join()

    def _drain(self, run: Run) -> None:
        held: list[ev.Event] = []
        heard = False
        shown = began = time.perf_counter()
        for event in run:
            if not heard and self.state == "running":
                self._set("running")  # what was loading is there
            heard = True
            held.append(event)
            now = time.perf_counter()
            if isinstance(event, ev.Failed):
                self._show(held)
                held = []
                self._set("failed", event.message)
            elif now - shown >= 1 / HERTZ or not isinstance(event, ev.Step):
                self._show(held)
                held, shown = [], now
            wait = SLOWER[run.knobs["speed"]] * (time.perf_counter() - began) if isinstance(event, ev.Step) else 0.0
            if wait and not self._stopping:
                time.sleep(wait)
            if not self._going.is_set():
                self._show(held)
                held = []
                self._going.wait()
            began = time.perf_counter()
        if held:
            self._show(held)
