"""Interrupts that must wait: Ctrl-C, or a notebook's stop button, while a package is imported."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold an interrupt back until the block has ended. It is for imports of torch and the like, and for the start of a thread.

    A compiled package whose import is broken off cannot be imported again before Python is started anew.

    Only the main thread gets interrupts. They are held back from Python's own handler, which ipykernel uses too; that of a command knows
    imports itself (see `cli.main`).

    Raises `KeyboardInterrupt` at the end if there was an interrupt.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(*held[0])


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: the processes that it started end with it."""
