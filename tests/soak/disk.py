"""Full disks: commands whose results are to go to a disk of 20 kB to 2 MB, which is enlarged after they have failed.

The disk is a tmpfs in a mount namespace of the case's own process, so it goes away with it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faulty import Server
from soak.core import BARE, CONTEXT, LOST, RIGHT, SILENT, TOLD, Case, Family, Wrong, alike, home, no_traceback, reference, said

from labkit.base.errors import LabError
from labkit.cli.main import main
from labkit.lessons import predictions
from labkit.records.experiment import Experiment
from labkit.records.record import load
from labkit.records.store import Store, shipped
from labkit.studies import distill
from labkit.teachers.labelling import loop
from labkit.views import figures

NAMED = re.compile(r"No space left|free some space|no room|room on|MB free|disk is full", re.I)  # what a sentence about a full disk says
NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000  # of unshare(2)
ROWS = "".join(json.dumps({"prompt": f"What is {n} plus {n}?", "response": str(2 * n)}) + "\n" for n in range(120))
OWN = ["--data", "rows.jsonl", "--teacher", "atlas-200k", "--student", "7k", "--batch", "8"]
GRID = """[experiment]\ndata = "rows.jsonl"\nteacher = "atlas-200k"\nstudent = "7k"\nbatch = 8\nsteps = 30
[grid]\ntemperature = [1.0, 2.0]\n[sweep]\nseeds = 1\n"""


# ---- the disk ----------------------------------------------------------------------------------------------------------------------------


def _own_mounts() -> None:
    """Give this process mounts of its own; as a user who is root to it alone, if it is not root. Raises `OSError` if that cannot be."""
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(NEW_MOUNTS):
        if libc.unshare(NEW_MOUNTS | NEW_USER):
            raise OSError(ctypes.get_errno(), "no mounts of its own")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)


def _mount(folder: Path, size: int, *more: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join((*more, f"size={size}")), "tmpfs", str(folder)], check=True, capture_output=True)


def _try_to_mount() -> None:
    _own_mounts()
    _mount(Path("/tmp"), 20_000)


@functools.cache
def lacks() -> str:
    """Why there can be no small disk here."""
    if not sys.platform.startswith("linux"):
        return "a small disk is a tmpfs, which only Linux has"
    child = CONTEXT.Process(target=_try_to_mount)
    child.start()
    child.join()
    return "this user may not mount a tmpfs" if child.exitcode else ""


# ---- what is tried -----------------------------------------------------------------------------------------------------------------------


def hashes(folder: Path) -> dict[str, str]:
    """The files of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


class Trial:
    """Something that is done on a small disk.

    disk: the small one. It has LABKIT_HOME, the result or both, as the case says.
    place: a folder that has room, in which commands run.
    """

    def __init__(self, case: Case, disk: Path, place: Path) -> None:
        self.case, self.disk, self.place = case, disk, place
        self.home = (place if case["on"] == "out" else disk) / "home"
        self.out = (place if case["on"] == "home" else disk) / "out"
        (place / "rows.jsonl").write_text(ROWS)
        (place / "grid.toml").write_text(GRID)

    def once(self) -> int:
        """Do it. Returns the exit code: 2 if there is no room, which is said in a sentence."""
        raise NotImplementedError

    def result(self) -> Any:
        """What it has come to, as JSON."""
        raise NotImplementedError

    def command(self, *words: object) -> int:
        """Run a command of the lab in a process of its own. Returns its exit code."""

        def work() -> None:
            os.chdir(self.place)
            distill._room = lambda *_: None  # as if others had filled the disk after it looked
            with home(self.home):
                sys.exit(main(list(map(str, words))))

        child = CONTEXT.Process(target=work)
        child.start()
        child.join()
        return child.exitcode or 0

    def records(self) -> list[Any]:
        """All that is on record."""
        with home(self.home):
            return [alike(load(path).events) for path in sorted(Store().own.glob("*.jsonl.gz"))]


class Run(Trial):
    def once(self) -> int:
        return self.command("run", *self.case["arguments"])

    def result(self) -> Any:
        return {"records": self.records(), "left": [path.name for path in self.home.rglob("*") if path.name.startswith(".")]}


class Sweep(Trial):
    def once(self) -> int:
        return self.command("sweep", "grid.toml", "--jobs", self.case.get("jobs", 1), "--out", self.out)

    def result(self) -> Any:
        return {"table": self.out.read_text(), "records": self.records()}


class Distil(Trial):
    def once(self) -> int:
        return self.command("distill", *OWN, "--steps", 40, "--out", self.out, "--no-baseline")

    def result(self) -> Any:
        made = hashes(self.out)
        return {"record": alike(load(self.out / "record.jsonl.gz").events), "weights": made["model.safetensors"], "files": list(made)}


class Label(Trial):
    """Each prompt may be paid for once."""

    server: Server | None = None

    def once(self) -> int:
        loop.FIRST_WAIT = 0.005
        self.server = self.server or Server(delay=self.case.get("delay", 0.0)).__enter__()
        rng = random.Random(self.case["arguments"])
        prompts = [f"{' so long' * rng.randint(0, 300)} question {n}" for n in range(rng.randint(3, 120))]
        (self.place / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        words = ["--endpoint", self.server.url, "--model", "m", "--terms", "read", "--yes", "--max-tokens", 20, "--concurrency", 3]
        return self.command("label", "prompts.jsonl", self.disk / "answers.jsonl", *words)

    def result(self) -> Any:
        assert self.server is not None
        rows = [json.loads(line) for line in (self.disk / "answers.jsonl").read_text().splitlines()]
        left = sorted(path.name for path in self.disk.iterdir() if path.is_file() and not path.name.startswith("."))
        return {"answers": [[r["prompt"], r["response"]] for r in rows], "asked": sorted(set(self.server.times.values())), "left": left}


class Ledger(Trial):
    """Predictions: what was told to be kept is kept."""

    made = 0

    def once(self) -> int:
        try:
            with home(self.home):
                for number in range(self.made, 150):
                    predictions.predict(f"q{number} {'long ' * (number * 37 % 800)}", 0, number, 0.8)
                    self.made = number + 1
        except LabError as error:
            print(f"labkit: {error}", flush=True)
            return 2
        return 0

    def result(self) -> Any:
        with home(self.home):
            rows = predictions.rows_of(predictions.ledger())
        return {
            "kept": [[row["question_id"], row["low"], row["high"]] for row in rows.values() if row],
            "many unreadable": list(rows.values()).count(None) > 1,
        }


class Save(Trial):
    """From Python, where the system's own error is a sentence too; no part may be left under the name of the file."""

    def once(self) -> int:
        path = self.disk / self.case["arguments"]
        record = shipped().find(Experiment())
        assert record is not None
        how: dict[str, Callable[[], object]] = {
            ".png": lambda: figures.snapshot(record).save(path),
            ".html": lambda: record.report(path),
            ".jsonl": lambda: record.save(path),
        }
        try:
            how[path.suffix]()
        except (LabError, OSError) as error:
            print(f"labkit: {error}", flush=True)
            if path.exists():
                raise Wrong(LOST, f"a part of {path.name} is left, which had no room") from error
            return 2
        return 0

    def result(self) -> Any:
        return hashes(self.disk)


class Out(Trial):
    """A file or a folder that a command makes."""

    def once(self) -> int:
        words = self.case["arguments"]
        return self.command(*words, self.out / "made.py" if "export" in words else self.out)

    def result(self) -> Any:
        return hashes(self.out) if self.out.is_dir() else alike(load(self.out).events)


TRIALS = {trial.__name__: trial for trial in (Run, Sweep, Distil, Label, Ledger, Save, Out)}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "Run": (
        ["--student", "7k", "--steps", "60", "--questions", "300"],
        [*OWN, "--steps", "60"],
        [*OWN, "--steps", "9", "--method", "sequence"],
    ),
    "Save": ("figure.png", "page.html", "record.jsonl"),
    "Out": (["run", "--out"], ["prune", "atlas-200k", "--layers", "1"], ["export", "trl", "labkit", "student=7k", "steps=5", "--out"]),
}


def draw(rng: random.Random) -> Case:
    """Something to do on a disk, whose size is spread evenly in its logarithm."""
    name = rng.choice(("Run", "Run", "Run", "Sweep", "Distil", "Distil", "Label", "Label", "Ledger", "Save", "Out"))
    arguments = rng.randrange(10**6) if name == "Label" else rng.choice(ARGUMENTS.get(name, ("",)))
    most = 2_000_000 if rng.random() < 0.3 else 400_000  # which most of them need
    size = round(math.exp(rng.uniform(math.log(20_000), math.log(most))))
    return {
        "trial": name,
        "size": size,
        "arguments": arguments,
        "on": rng.choice(("home", "out", "both")) if name in ("Sweep", "Distil", "Out") else "both",
    }


def attempt(case: Case, folder: Path) -> str:
    """Do it on the small disk, and again when it is larger."""

    def make(folder: Path) -> Any:
        (folder / "disk").mkdir()
        (folder / "place").mkdir()
        without = TRIALS[case["trial"]](case, folder / "disk", folder / "place")
        if code := without.once():
            raise Wrong(BARE, f"it ends with code {code} without a fault")
        return without.result()

    wanted = reference(f"disk {case['trial']} {case['arguments']}", make)
    (disk := folder.parent / "disk").mkdir()
    _own_mounts()
    _mount(disk, case["size"])
    try:
        trial = TRIALS[case["trial"]](case, disk, folder)
        code = trial.once()
        no_traceback(said())
        if code not in (0, 2) or (code == 2 and not NAMED.search(said())):
            raise Wrong(BARE, f"code {code}, and no word of a full disk: {said()}")
        if code == 2:
            _mount(disk, 64 << 20, "remount")
            if again := trial.once():
                raise Wrong(LOST, f"code {again} on a larger disk: {said()}")
            no_traceback(said())
        result = json.loads(json.dumps(trial.result()))
        if result != wanted:
            raise Wrong(SILENT, f"the result is another one: {differ(result, wanted)}")
        return TOLD if code else RIGHT
    finally:
        subprocess.run(["umount", "-l", str(disk)], capture_output=True)


def differ(one: Any, other: Any, where: str = "") -> str:
    """The first place where two JSON values differ."""
    if isinstance(one, list) and isinstance(other, list):
        one, other = (dict(enumerate(part)) for part in (one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        name = next(name for name in (*one, *other) if name not in one or name not in other or one[name] != other[name])
        return differ(one.get(name, "nothing"), other.get(name, "nothing"), f"{where}/{name}")
    return f"at {where or 'the top'}: {str(one)[:400]} and not {str(other)[:400]}"


FAMILIES = {"full disk": Family(draw, attempt, aim=40, limit=150, lacks=lacks)}
