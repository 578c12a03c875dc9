"""Sessions: a daemon thread takes the events of a run, and gives them in batches to a board.

A button's callback only sets a flag; training, saving and sending happen in the thread. Starting a session stops the previous one, so two
runs never share the machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from labkit.base.interrupts import uninterrupted
from labkit.records import events as ev

if TYPE_CHECKING:
    from labkit.training.loop import Run

HERTZ = 10  # batches of events per second, at most
SLOWER = {"full": 0.0, "half": 1.0, "slow": 4.0}  # waiting time as a multiple of working time

_current: Session | None = None
_lock = threading.Lock()


def going() -> Session | None:
    """The session whose run goes on in this kernel, or waits for the one before it to stop; None if there is none."""
    return _current if _current and not (_current.over or _current._idle.is_set()) else None


class Session:
    """One run in a thread.

    make: called in the thread to make the run, so that importing torch does not block the notebook.
    show: called in the thread with each batch of events.
    state: called with the session's state and a sentence.
    after: called in the thread after a run that has finished; the events that it yields are shown too.
    owner: what shows the run, for those who find the session by `going`.
    """

    def __init__(
        self,
        make: Callable[[], Run],
        show: Callable[[Sequence[ev.Event]], None],
        state: Callable[[str, str], None],
        after: Callable[[], Iterator[ev.Event]] | None = None,
        owner: object = None,
    ) -> None:
        self._make, self._show, self._tell, self._after = make, show, state, after
        self.owner = owner
        self.run: Run | None = None
        self.state = "ready"
        self.loading = True  # until the run's first word
        self.error: BaseException | None = None
        self._going = threading.Event()
        self._going.set()
        self._stopping = self._released = False
        self._before: Session | None = None
        self._turned: dict[str, object] = {}  # knobs that were turned before the run was made
        self._idle = threading.Event()  # asked instead of the thread, which Python takes for dead if an interrupt breaks off a `join`
        self._idle.set()
        self._thread = threading.Thread(target=self._work, name="labkit-run", daemon=True)

    # ---- from the notebook -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. A session that is running is stopped first."""
        with uninterrupted():
            self._take_over()
            self._idle.clear()
            try:
                self._thread.start()
            except Exception:  # the machine has no room for another thread
                self._idle.set()
                raise

    def _take_over(self) -> None:
        global _current
        with _lock:
            self._before, _current = _current, self
        if self._before:
            self._before.stop()

    def run_here(self) -> None:
        """Run in the calling thread, for front ends that show nothing from a background thread."""
        self._take_over()
        try:
            self._idle.clear()
            self._work()
        finally:
            self._idle.set()

    def pause(self) -> None:
        """Pause the run after the present step."""
        if self.state == "running":
            self._going.clear()
            self._set("paused")

    def resume(self) -> None:
        """Go on after a pause."""
        if self.state == "paused":
            self._set("running")
            self._going.set()

    def stop(self) -> None:
        """End the run after the present step; the student is kept and examined once more."""
        self._stopping = True
        if self.run:
            self.run.stop()
        self.resume()
        self._going.set()

    def release(self) -> None:
        """Let go of the run and its student, and of the owner, as soon as the run is over."""
        global _current
        self._released = True
        if self.over and self._idle.is_set():
            self.run = self.owner = None
            with _lock:
                _current = None if _current is self else _current

    def turn(self, **knobs: object) -> None:
        """Change hot knobs, as `Run.turn`."""
        self._turned |= knobs
        if self.run:
            self.run.turn(**knobs)

    def breathe(self) -> None:
        """Wait while the session is paused."""
        self._going.wait()

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def over(self) -> bool:
        return self.state in ("finished", "stopped", "failed")

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread. A paused run goes on; an interrupt stops the run after the present step.

        timeout: seconds; no limit if not given.

        Raises the error of the run, if it had one.
        """
        self.resume()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not self._idle.wait(0.1) and (deadline is None or time.monotonic() < deadline):
                pass
        except KeyboardInterrupt:
            self.stop()
            self._idle.wait()
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
            self._set("running")
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
        except KeyboardInterrupt:  # in the cell that runs it
            self._set("stopped", "Interrupted.")
        except BaseException as error:
            self.error = error
            self._set("failed", str(error))
        finally:
            self._idle.set()
            if self._released:
                self.release()

    def wait_quietly(self) -> None:
        """Wait for the end of the run, without raising its error, and of those before it, if it was broken off while it waited for them."""
        self._idle.wait()
        if self._before:
            self._before.wait_quietly()

    def _drain(self, run: Run) -> None:
        held: list[ev.Event] = []
        shown = began = time.perf_counter()
        for event in run:
            if self.loading and isinstance(event, ev.Started):
                self.loading = False
                if self.state == "running":
                    self._set("running")  # takes off the sentence about loading
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
