"""Threads of runs that share a machine: how many a run takes, and how long one spins while it waits for work.

    with threads_of_a_run(most=torch.get_num_threads()) as threads:
        torch.set_num_threads(threads)

OpenMP reads its settings for spinning when its library is loaded, so `import labkit` sets them. Child processes inherit them.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

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

_running = False  # whether a run of this process has been given its threads


@contextlib.contextmanager
def threads_of_a_run(most: int) -> Iterator[int]:
    """The threads for a run that begins now: as many as there are free processors, at least 1. They count as taken until the end.

    Threads that outnumber the processors wait for one another, so runs side by side are faster with fewer. What is free is what the
    machine and the container's quota allow, less what other programs and other runs of this user take. A run inside another one takes
    that one's.

    most: the number to take on an idle machine. With OMP_NUM_THREADS set, it is taken as it is.
    """
    global _running
    if _running or most <= 1 or "OMP_NUM_THREADS" in os.environ:
        yield most
        return
    from filelock import FileLock, Timeout

    folder = Path(tempfile.gettempdir()) / f"labkit-threads-{os.getuid() if hasattr(os, 'getuid') else os.environ.get('USERNAME', '')}"
    busy = busy_processors()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with FileLock(folder / "lock", timeout=5):  # runs that begin together choose one after the other
                threads = max(1, min(most, round(processors() - max(busy, _taken(folder)))))
                stack.callback((folder / f"{os.getpid()}-{threads}").unlink, missing_ok=True)
                stack.enter_context(FileLock(folder / f"{os.getpid()}-{threads}", timeout=0))
        except (OSError, Timeout):  # no folder to write to: then other runs are seen by their work alone
            threads = max(1, min(most, round(processors() - busy)))
        _running = True
        stack.callback(lambda: globals().update(_running=False))
        yield threads


def _taken(folder: Path) -> int:
    """The threads of the runs that hold their files. A file that nobody holds is of a run that was killed, and goes."""
    from filelock import FileLock, Timeout

    taken = 0
    for file in folder.glob("*-*"):
        lock = FileLock(file, timeout=0)
        try:
            lock.acquire()
        except (OSError, Timeout):
            taken += int(file.name.rpartition("-")[2])
        else:
            lock.release()
            file.unlink(missing_ok=True)
    return taken


def processors() -> float:
    """The processors that this process may use, which a container's quota can make a fraction."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # cgroup 2; "max" if there is no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(count, int(quota) / int(period))
    with contextlib.suppress(OSError, ValueError):  # cgroup 1; -1 if there is no quota
        quota, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return min(count, int(quota) / int(period)) if int(quota) > 0 else count
    return count


def busy_processors() -> float:
    """The processors that are in use at this moment, all programs together: the least of a few looks, since a burst is soon over."""
    if not Path("/proc/stat").exists():
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    looks = []
    for _ in range(SAMPLES):
        before, began = _worked(), time.perf_counter()
        time.sleep(SAMPLE)
        looks.append((_worked() - before) / os.sysconf("SC_CLK_TCK") / (time.perf_counter() - began))
    return min(looks)


class Watch:
    """Whether other programs take the processors from a run of this process, by its seconds and those of the processors."""

    STARVED, AFTER = 0.5, 20.0  # the share of one processor, over so many seconds, below which it is said

    def __init__(self) -> None:
        self.begin(0.0)

    def begin(self, seconds: float) -> None:
        """Count from here. seconds: those of the run."""
        self._since = seconds, time.process_time()

    def starved(self, seconds: float) -> list[str]:
        """A warning, once, if the run has had too little of the processors since the last look; nothing otherwise."""
        wall, worked = seconds - self._since[0], time.process_time() - self._since[1]
        if wall <= self.AFTER:
            return []
        self.begin(seconds)
        if worked / wall >= self.STARVED:
            return []
        self._since = math.inf, 0.0
        return [
            f"Other programs take the processors: this run had {worked / wall:.0%} of one of them in the last {wall:.0f} s. Close what you "
            "do not need. Runs beside each other lose least with one thread each: set OMP_NUM_THREADS=1 before the kernel starts."
        ]


def _worked() -> int:
    """Ticks that all processors together have worked since the machine started (proc_stat(5))."""
    user, nice, system, _, _, interrupts, soft, stolen, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return user + nice + system + interrupts + soft + stolen
