"""What a case of the soak is, and how it is tried: in a process of its own, with a limit in time, and with nothing left alive behind it."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[2]
CONTEXT = multiprocessing.get_context("fork")  # children share what the parent has imported

RIGHT, TOLD = "right", "told"  # it ended as without the fault; or a sentence says what is wrong and what to do
LOST, SILENT, BARE, HUNG = "lost", "silent", "bare", "hung"  # the four that may not happen
WRONG = (LOST, SILENT, BARE, HUNG)

Case = dict[str, Any]  # plain JSON, so that one that failed can be kept


class Wrong(Exception):
    """A case ended as none may: lost, silent (another result, without a word), bare (a traceback) or hung."""

    def __init__(self, outcome: str, what: str) -> None:
        super().__init__(what)
        self.outcome = outcome


class Family(NamedTuple):
    """Cases of one sort.

    draw: a case, from a random generator.
    attempt: tries a case in an empty folder, which is also LABKIT_HOME. Returns RIGHT or TOLD; raises `Wrong`.
    aim: how many cases the whole soak tries.
    limit: seconds after which a case has hung.
    short: how many of the cases `make test` tries.
    lacks: why this machine cannot try them; "" if it can.
    kinds: one for each case in turn; the case has it as `kind`.
    """

    draw: Callable[[random.Random], Case]
    attempt: Callable[[Case, Path], str]
    aim: int
    limit: float = 60
    short: int = 2
    lacks: Callable[[], str] = str
    kinds: Sequence[str] = ()


class Result(NamedTuple):
    """How a case ended, and what was seen of it."""

    outcome: str
    what: str
    seconds: float


def case_of(name: str, family: Family, number: int) -> Case:
    """The case of this number: the same one always, as long as the family draws as it does."""
    kind = {"kind": family.kinds[number % len(family.kinds)]} if family.kinds else {}
    return kind | family.draw(random.Random(f"{name} {number}"))


def tried(family: Family, case: Case, shared: Path) -> Result:
    """Try a case in a process of its own.

    shared: a folder for what cases have in common, such as the results without a fault.
    """
    folder, began = Path(tempfile.mkdtemp(prefix="labkit-soak-")), time.monotonic()
    told = folder / "told.json"
    child = CONTEXT.Process(target=_attempt, args=(family, case, folder, shared, told))
    child.start()
    child.join(family.limit)
    late = child.is_alive()
    try:
        left = _end(child.pid, patience=0 if late else 10)
        child.join()
        if late:
            return Result(HUNG, f"no end within {family.limit:g} s", family.limit)
        if left:
            return Result(HUNG, f"it left processes behind: {', '.join(left)}", family.limit)
        if not told.exists():
            return Result(BARE, f"the process ended with code {child.exitcode}", time.monotonic() - began)
        return Result(*json.loads(told.read_text()), time.monotonic() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _attempt(family: Family, case: Case, folder: Path, shared: Path, told: Path) -> None:
    os.setsid()  # the session tells which processes belong to the case
    (place := folder / "home").mkdir()
    os.environ |= {"LABKIT_HOME": str(place), "LABKIT_SOAK_SHARED": str(shared)}
    os.chdir(place)
    with open(folder / "said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            found = family.attempt(case, place), ""
        except Wrong as error:
            found = error.outcome, str(error)
        except BaseException as error:
            found = BARE, "".join(traceback.format_exception(error)[-3:])
    told.write_text(json.dumps(found))


def _end(session: int | None, patience: float) -> list[str]:
    """End the processes of a session.

    patience: seconds in which they may end by themselves.

    Returns what those ran that did not.
    """
    deadline = time.monotonic() + patience
    while (left := [process for process in psutil.process_iter() if _session(process) == session]) and time.monotonic() < deadline:
        time.sleep(0.1)
    commands = []
    for process in left:
        with contextlib.suppress(psutil.Error):
            commands.append(" ".join(process.cmdline())[:100] or process.name())
            process.kill()
    return commands


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else 0
    except (ProcessLookupError, PermissionError, psutil.Error):
        return 0


# ---- what several families do ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def home(folder: Path) -> Iterator[None]:
    """LABKIT_HOME meanwhile."""
    before = os.environ["LABKIT_HOME"]
    os.environ["LABKIT_HOME"] = str(folder)
    try:
        yield
    finally:
        os.environ["LABKIT_HOME"] = before


def alike(events: Iterable[Any]) -> list[dict[str, Any]]:
    """What must be the same of two runs of a recipe: not the clock, the cost of a second try, notices of where a run went on or what took
    its processors, or how often a cache was looked into."""
    rows = [{name: value for name, value in event.to_json().items() if name not in ("seconds", "cost")} for event in events]
    beside = ("cut off", "Other programs take")
    return [row for row in rows if row["event"] != "labelled" and not any(text in row.get("message", "") for text in beside)]


def reference(name: str, make: Callable[[Path], Any]) -> Any:
    """What a case must come to: made once, without any fault, and kept for all cases.

    make: makes it in an empty folder, which is LABKIT_HOME meanwhile. It returns plain JSON.
    """
    kept = Path(os.environ["LABKIT_SOAK_SHARED"]) / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            with tempfile.TemporaryDirectory(prefix="labkit-soak-") as folder, home(Path(folder)):
                kept.write_text(json.dumps(make(Path(folder))))
    return json.loads(kept.read_text())


def killed(work: Callable[[], object], after: float | None) -> float:
    """Run some work in a process that is killed, as by a power cut.

    after: seconds; None to let it come to its end.

    Returns the seconds that it ran. Raises `Wrong` if it ends by itself with an error.
    """
    child, began = CONTEXT.Process(target=work), time.monotonic()
    child.start()
    child.join(after)
    os.kill(child.pid, signal.SIGKILL) if child.is_alive() and child.pid else None
    child.join()
    if child.exitcode not in (0, -signal.SIGKILL):
        raise Wrong(BARE, f"the process ended with code {child.exitcode}: {said()}")
    return time.monotonic() - began


def said() -> str:
    """The end of what the processes of this case have printed."""
    return (Path(os.environ["LABKIT_HOME"]).parent / "said").read_text(errors="replace")[-1500:]


def no_traceback(text: str) -> None:
    """Raises `Wrong` if a learner would meet a traceback in this text, or is asked to report a fault of the lab."""
    for mark in ("Traceback (most recent call last)", "fault of the lab"):
        if mark in text:
            raise Wrong(BARE, text[text.index(mark) :][:1500])
