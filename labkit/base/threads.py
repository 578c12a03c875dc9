"""Threads of runs that share a machine: how many a run takes, and how long one spins while it waits for work.

    with threads_of_a_run(most=torch.get_num_threads()) as share:
        torch.set_num_threads(share.threads)

OpenMP reads its settings for spinning when its library is loaded, so `import labkit` sets them. Child processes inherit them.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.base.errors import LabError

# GNU OpenMP (torch on Linux) counts iterations of its wait loop; Intel's and LLVM's (macOS, Windows, conda) count milliseconds.
LIMITS = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}


def bound_spinning() -> None:
    """Set the limits that the user has not set. Warns if torch, and with it OpenMP, is already loaded: then they have no effect."""
    if "OMP_WAIT_POLICY" in os.environ:  # the user's own setting for the same thing
        return
    unset = {name: value for name, value in LIMITS.items() if name not in os.environ}
    torch = sys.modules.get("torch")
    if torch and unset == LIMITS and torch.get_num_threads() > 1:
        wanted = " ".join(f"{name}={value}" for name, value in LIMITS.items())
        warnings.warn(
            "torch was imported before labkit, so its threads spin without a limit while they wait. A single run loses nothing, but "
            f"parallel runs on this machine have about half the speed. Import labkit first, or start Python with {wanted}.",
            RuntimeWarning,
            stacklevel=3,
        )
    os.environ.update(unset)


# ---- how many threads a run takes ------------------------------------------------------------------------------------------------------

SAMPLES, SAMPLE = 3, 0.05  # times, and seconds each, that the processors are looked at
AT_WORK = 10.0  # seconds; a run that has done nothing for longer is paused, and its threads are free


class Share:
    """The threads of a run, and the file by which other runs of this user see them."""

    def __init__(self, threads: int, file: Path | None = None) -> None:
        self.threads, self._file, self._told = threads, file, 0.0

    def resumed(self, threads: int) -> list[str]:
        """Take the threads with which a run began, so that its bits stay the same; 0 if they are not known.

        Returns a warning if this machine has too few processors for them.
        """
        if threads > max(self.threads, processors()):
            return [f"This run began with {threads} threads, and goes on with {self.threads} on this machine: its last bits may differ."]
        self.take(threads or self.threads)
        return []

    def fewer(self, threads: Any) -> int:
        """Returns the threads with which a run is asked to go on. Raises `LabError` if they are more than it has, or no whole number."""
        if type(threads) is not int or not 1 <= threads <= self.threads:
            raise LabError(f"threads={threads!r} must be a whole number from 1 to {self.threads}: a run goes on with as many or fewer.")
        return threads

    def take(self, threads: int) -> int:
        """Go on with these threads, as other runs then see. Returns them."""
        self.threads = threads
        if self._file:
            before, self._file = self._file, self._file.with_name(f"{self._file.name.rpartition('-')[0]}-{threads}")
            with contextlib.suppress(OSError):  # it is gone: then `at_work` makes the new one
                before.rename(self._file)
        return threads

    def at_work(self) -> None:
        """Say that the run works at this moment."""
        if self._file and time.monotonic() - self._told > AT_WORK / 4:
            self._told = time.monotonic()
            with contextlib.suppress(OSError):
                self._file.touch(mode=0o600)

    def over(self) -> None:
        """Say that the run has ended."""
        if self._file:
            self._file.unlink(missing_ok=True)


_running = False  # whether a run of this process has been given its threads


@contextlib.contextmanager
def threads_of_a_run(most: int) -> Iterator[Share]:
    """The threads for a run that begins now: as many as there are free processors, at least 1. They count as taken while it works.

    Threads that outnumber the processors wait for one another, so runs side by side are faster with fewer. What is free is what the
    machine and the container's quota allow, less what other programs and other runs of this user take. A run inside another one takes
    that one's.

    most: the number to take on an idle machine. With OMP_NUM_THREADS set, it is taken as it is.
    """
    global _running
    if _running or most <= 1 or "OMP_NUM_THREADS" in os.environ:
        yield Share(most)
        return
    from filelock import FileLock, Timeout

    busy = busy_processors()
    try:
        folder = Path(tempfile.gettempdir()) / f"labkit-threads-{os.getuid() if hasattr(os, 'getuid') else os.environ.get('USERNAME', '')}"
        folder.mkdir(mode=0o700, exist_ok=True)
        with FileLock(folder / "lock", timeout=5):  # runs that begin together choose one after the other
            threads = max(1, min(most, round(processors() - max(busy, _taken(folder)))))
            share = Share(threads, folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}-{threads}")
            share.at_work()
    except (OSError, Timeout):  # no folder to write to: then other runs are seen by their work alone
        share = Share(max(1, min(most, round(processors() - busy))))
    _running = True
    try:
        yield share
    finally:
        _running = False
        share.over()


def _taken(folder: Path) -> int:
    """The threads of the runs that are at work. The file of one that was killed goes."""
    taken = 0
    for file in folder.glob("*-*-*"):
        process, _, threads = file.name.split("-")
        with contextlib.suppress(OSError):  # another process was faster
            if not _lives(int(process)):
                file.unlink()
            elif time.time() - file.stat().st_mtime < AT_WORK:
                taken += int(threads)
    return taken


def _lives(process: int) -> bool:
    """Whether a process of this number runs; True where that cannot be asked without a signal, as on Windows."""
    if os.name == "posix":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    return True


def processors() -> float:
    """The processors that this process may use, which a container's quota can make a fraction."""
    return min(len(_mine()), _quota())


def _mine() -> set[int]:
    """The numbers of the processors on which this process may run."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _quota() -> float:
    """The processors that the container may use; infinity if it has no quota."""
    with contextlib.suppress(OSError, ValueError):  # cgroup 2; "max" if there is no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):  # cgroup 1; -1 if there is no quota
        quota, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf


def busy_processors() -> float:
    """The processors that are in use at this moment, all programs together: the least of a few looks, since a burst is soon over.

    In a container with a quota it is the container's own use: what others do on its machine takes nothing of the quota.
    """
    try:
        looks = []
        for _ in range(SAMPLES):
            before, began = _worked(), time.perf_counter()
            time.sleep(SAMPLE)
            looks.append((_worked() - before) / (time.perf_counter() - began))
        return min(looks)
    except (OSError, ValueError):  # not Linux, or not to be read
        return min(os.getloadavg()[0], len(_mine())) if hasattr(os, "getloadavg") else 0.0


def _worked() -> float:
    """Seconds that the processors have worked: those of this process (proc_stat(5)), or of its container if that has a quota."""
    if _quota() < math.inf:
        return int(Path("/sys/fs/cgroup/cpu.stat").read_text().split("usage_usec", 1)[1].split()[0]) / 1e6
    rows = {row.split()[0]: row.split()[1:9] for row in Path("/proc/stat").read_text().splitlines() if row.startswith("cpu")}
    ticks = 0
    for number in _mine():
        user, nice, system, _, _, interrupts, soft, stolen = map(int, rows[f"cpu{number}"])
        ticks += user + nice + system + interrupts + soft + stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def _waited() -> float:
    """Seconds that the threads of this process have waited for a processor (sched-stats.rst of Linux); NaN where that is not known."""
    waited = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that ended at this moment
            waited += int(file.read_text().split()[1])
    return waited / 1e9 or math.nan


class Watch:
    """Whether other programs take the processors from a run of this process, by its seconds and those of the processors.

    Time in which it neither works nor waits for a processor does not count: it was stopped (Ctrl-Z), or the machine slept.
    """

    STARVED, AFTER = 0.5, 20.0  # the share of one processor, over so many seconds, below which it is said

    def __init__(self) -> None:
        self.begin(0.0)

    def begin(self, seconds: float) -> None:
        """Count from here. seconds: those of the run."""
        self._since = seconds, time.process_time(), _waited()

    def starved(self, seconds: float, device: Any, threads: int) -> list[tuple[str, str]]:
        """A warning, once, if a run has had too little of the processors since the last look; none on a device that it waits for.

        Returns it with what the run offers: "threads=1", or "" if it has no more.
        """
        began, worked, waited = self._since
        wall, worked, waited = seconds - began, time.process_time() - worked, _waited() - waited
        wall = wall if math.isnan(waited) else min(wall, worked + max(0.0, waited))
        if wall <= self.AFTER or device.type != "cpu":
            return []
        self.begin(seconds)
        if worked / wall >= self.STARVED:
            return []
        self._since = math.inf, 0.0, math.nan
        told = f"Other programs take the processors: this run had {worked / wall:.0%} of one of them in the last {wall:.0f} s."
        told += " Close what you do not need."
        if threads == 1:
            return [(told, "")]
        told += " Runs beside each other lose least with one thread each: in a notebook, `run.turn(threads=1)` goes on so. "
        return [(told + "OMP_NUM_THREADS=1, set before Python starts, begins so.", "threads=1")]
