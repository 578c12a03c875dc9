"""Interrupts at random moments: of commands, of cells in a Jupyter kernel, and of JupyterLab as `labkit lab` starts it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pty
import queue
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from soak.core import BARE, HUNG, LOST, REPOSITORY, RIGHT, SILENT, TOLD, Case, Family, Wrong, alike, no_traceback, reference
from soak.disk import OWN, ROWS, TRIALS, Trial, differ

from labkit.records.record import load

TOLD_SO = re.compile(r"labkit: stopped\.|Stopp(ed|ing): ")
ATLAS = ["--student", "7k", "--steps", "60", "--questions", "300"]
STARTING = 0.5  # seconds in which the interpreter itself may be interrupted, before the lab has a say


# ---- commands ----------------------------------------------------------------------------------------------------------------------------


def draw_command(rng: random.Random) -> Case:
    """A command, and the signals that it gets before it is let come to its end."""
    name = rng.choice(("Run", "Run", "Distil", "Label", "Sweep"))
    arguments: Any = {"Run": rng.choice((ATLAS, [*OWN, "--steps", "200"])), "Label": rng.randrange(10**6)}
    signals = [
        [rng.choice(("INT", "INT", "INT", "TERM")), round(rng.uniform(0, 8), 2), rng.choice((1, 1, 2))]
        for _ in range(rng.choice((1, 1, 2, 3)))
    ]
    return {
        "trial": name,
        "arguments": arguments.get(name, ""),
        "on": "both",
        "jobs": rng.choice((1, 2)),
        "delay": 0.15,
        "signals": signals,
    }


def attempt_command(case: Case, folder: Path) -> str:
    """Interrupt a command, and repeat it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would all that start here

    def make(folder: Path) -> Any:
        without = _trial(case | {"delay": 0.0}, folder)
        without.command = lambda *words: _command(without, words)  # type: ignore[method-assign]
        without.once()
        return _alike(without.result(), [])

    wanted = reference(f"interrupt {case['trial']} {case['arguments']} {case['jobs']}", make)
    trial, codes = _trial(case, folder), []
    for sent in (*case["signals"], ()):
        trial.command = lambda *words, sent=sent: _command(trial, words, *sent)  # type: ignore[method-assign]
        codes.append(trial.once())
    result = json.loads(json.dumps(_alike(trial.result(), case["signals"])))
    if result != wanted:
        raise Wrong(SILENT, f"the result is another one: {differ(result, wanted)}")
    return TOLD if any(codes) else RIGHT


def _trial(case: Case, folder: Path) -> Trial:
    (folder / "disk").mkdir()
    (folder / "place").mkdir()
    return TRIALS[case["trial"]](case, folder / "disk", folder / "place")


def _alike(result: dict[str, Any], signals: list[list[Any]]) -> dict[str, Any]:
    """What must be the same after these signals. A command that is ended at once may leave temporary files, and ask a second time."""
    hard = sum(name == "TERM" or times > 1 for name, _, times in signals)
    if "asked" in result:
        result["asked"] = max(result["asked"]) > 1 + hard
    if "records" in result:
        result["left"] = [] if hard else result.get("left", [])
    return result


def _command(trial: Trial, words: tuple[object, ...], name: str = "", after: float | None = None, times: int = 1) -> int:
    """Run a command, with signals after some seconds if `after` is given. Returns its exit code."""
    command, files = [sys.executable, "-m", "labkit", *map(str, words)], [trial.place / "told", trial.place / "errors"]
    with files[0].open("w") as told, files[1].open("w") as errors:
        environment = os.environ | {"LABKIT_HOME": str(trial.home)}
        process = subprocess.Popen(
            command, cwd=trial.place, env=environment, stdin=subprocess.DEVNULL, stdout=told, stderr=errors, process_group=0
        )
        code = _ended(process, name, after, times)
    text, apart = (file.read_text(errors="replace") for file in files)
    print(text, apart, f"code {code}", sep="\n", flush=True)
    if name == "INT" and (after or 0) < STARTING and code in (1, -signal.SIGINT) and "/labkit/" not in apart:
        return 130  # it was still the interpreter's own start
    no_traceback(text + apart)
    # Python itself ends by the signal that comes while it cleans up.
    right = {"": (0,), "INT": (0, 130, -signal.SIGINT), "TERM": (0, 143, -signal.SIGTERM)}[name]
    odd = [line for line in apart.splitlines() if not line.startswith("labkit: ")]
    if code not in right or odd or (code in (130, 143) and not TOLD_SO.search(text + apart)):
        raise Wrong(BARE, f"code {code} after {name or 'nothing'}: {text[-500:]}\n---- {apart[-1000:]}")
    return code


def _ended(process: subprocess.Popen, name: str, after: float | None, times: int) -> int:
    """Wait for the end of a process, which gets signals if it is there for so long. SIGINT goes to its children too, as from a terminal."""
    try:
        return process.wait(after or 100)
    except subprocess.TimeoutExpired:
        if after is None:
            raise Wrong(HUNG, "no end within 100 s") from None
    for number in range(times):
        time.sleep(0.3 * number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT) if name == "INT" else process.terminate()
    try:
        return process.wait(40)
    except subprocess.TimeoutExpired:
        raise Wrong(HUNG, f"no end within 40 s after SIG{name}") from None


# ---- cells -------------------------------------------------------------------------------------------------------------------------------

MINE = "data='rows.jsonl', teacher='atlas-200k', student='7k', batch=8"
CELLS = {
    "record": f"made = labkit.record({MINE}, steps=300)",
    "compare": f"made = labkit.compare([labkit.Experiment({MINE}, steps=n) for n in (60, 90)], seeds=2).records[1][1]",
    "lesson": "lab = labkit.open('00'); lab.run(student='7k', steps=40, questions=200); made = lab.result()",
    "lesson in the cell": "lab = labkit.open('00'); lab.run(inline=True, student='7k', steps=40, questions=200); made = lab.result()",
}


class Kernel:
    """A Jupyter kernel in a folder."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client import KernelManager

        (folder / "rows.jsonl").write_text(ROWS)
        self.manager = KernelManager()
        self.manager.start_kernel(cwd=str(folder), env=os.environ | {"IPYTHONDIR": str(folder / "ipython")})
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=40)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def cell(self, code: str, after: float | None = None, times: int = 1, limit: float = 100) -> tuple[str, str]:
        """Execute a cell; interrupt it after some seconds if that is given. Returns the name of its error, or "", and its output."""
        sent = self.client.execute(code)
        deadline = time.monotonic() + limit
        moments = [] if after is None else [time.monotonic() + after + 0.3 * n for n in range(times)]
        text = ""
        while time.monotonic() < deadline:
            if moments and time.monotonic() >= moments[0]:
                moments.pop(0)
                self.manager.interrupt_kernel()
            with contextlib.suppress(queue.Empty):
                message = self.client.get_iopub_msg(timeout=0.05)
                if message["parent_header"].get("msg_id") != sent:
                    continue
                content = message["content"]
                text += content.get("text", "") + "".join(f"{line}\n" for line in content.get("traceback", ()))
                if content.get("execution_state") == "idle":
                    reply = self._reply(sent)
                    return reply.get("ename", "") if reply["status"] == "error" else "", text
            if not self.manager.is_alive():
                raise Wrong(LOST, f"the kernel has died: {text[-1000:]}")
        raise Wrong(HUNG, f"no answer to {code[:60]!r} within {limit:g} s: {text[-1000:]}")

    def _reply(self, sent: str) -> dict[str, Any]:
        while True:
            message = self.client.get_shell_msg(timeout=10)
            if message["parent_header"].get("msg_id") == sent:
                return message["content"]


def draw_cell(rng: random.Random) -> Case:
    """A cell, and when it is interrupted."""
    moments = [[round(rng.uniform(0, 7), 2), rng.choice((1, 1, 2))] for _ in range(rng.choice((1, 2)))]
    return {"cell": rng.choice(list(CELLS)), "warm": rng.random() < 0.5, "moments": moments}


def attempt_cell(case: Case, folder: Path) -> str:
    """Interrupt a cell, and execute it again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def make(folder: Path) -> Any:
        with Kernel(folder) as kernel:
            return _made(kernel, case, folder)

    wanted, names = reference(f"cell {case['cell']}", make), []
    with Kernel(folder) as kernel:
        process = kernel.manager.provisioner.pid
        kernel.cell("import labkit" + ", labkit.studies.run" * case["warm"])
        for after, times in case["moments"]:
            name, text = kernel.cell(CELLS[case["cell"]], after, times)
            names.append(name)
            if "fault of the lab" in text or name not in ("", "KeyboardInterrupt", "LabError"):
                raise Wrong(BARE, f"interrupted after {after} s, the cell says {name}: {text[-1500:]}")
            after_it = kernel.cell("print(6 * 7, 'made' in globals() and made)", limit=20)[1]
            if "42" not in after_it or not (name or "student=7k" in after_it):
                raise Wrong(SILENT, f"interrupted after {after} s, the cell says {name}, and has made: {after_it}")
        result = _made(kernel, case, folder)
        if kernel.manager.provisioner.pid != process:
            raise Wrong(LOST, "the kernel has been started anew")
    if result != wanted:
        raise Wrong(SILENT, f"the result is another one: {differ(result, wanted)}")
    return TOLD if any(names) else RIGHT


def _made(kernel: Kernel, case: Case, folder: Path) -> list[Any]:
    """The record that the cell makes, without an interrupt. A lesson's baseline may be on record before its run or after."""
    name, text = kernel.cell(f"import labkit\n{CELLS[case['cell']]}\nprint('saved', made.save('made.jsonl'))")
    if name or "saved made.jsonl" not in text:
        raise Wrong(LOST, f"without an interrupt the cell says {name}: {text[-1500:]}")
    rows = json.loads(json.dumps(alike(load(folder / "made.jsonl").events)))
    apart = sorted((row for row in rows if row["event"] == "reference"), key=json.dumps)
    return [row for row in rows if row["event"] != "reference"] + apart


# ---- the server --------------------------------------------------------------------------------------------------------------------------


def draw_server(rng: random.Random) -> Case:
    """Signals to JupyterLab, with or without a terminal and a kernel."""
    terminal = rng.random() < 0.5
    sent = rng.choice((["INT"], ["INT", "INT"], ["TERM"], ["TERM", "TERM"], ["INT", "TERM"]))
    return {"terminal": terminal, "signals": sent, "after": round(rng.uniform(0, 8), 2), "kernel": rng.random() < 0.5}


def attempt_server(case: Case, folder: Path) -> str:
    """Start the lab, and end it with signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours, theirs = pty.openpty() if case["terminal"] else os.pipe()
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit", "lab", "--no-browser", "--port", str(port)],
        cwd=REPOSITORY,
        env=os.environ | places | {"JUPYTER_TOKEN": "soak"},
        stdin=theirs if case["terminal"] else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        process_group=0,
    )
    os.close(theirs)
    family: list[psutil.Process] = []
    try:
        text = _listen(ours, process, began + case["after"])
        if case["kernel"] and "running at:" in text:
            _start_kernel(port)
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(process.pid).children(recursive=True)
        for name in case["signals"]:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(getattr(signal, f"SIG{name}"))
            text += _listen(ours, process, time.monotonic() + 0.5)
        text += _listen(ours, process, time.monotonic() + 20)
        if process.poll() is None:
            raise Wrong(HUNG, f"no end within 20 s: {text[-1500:]}")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        left = [one for one in psutil.wait_procs(family, timeout=10)[1] if one.status() != psutil.STATUS_ZOMBIE]
        for one in left:
            one.kill()
    print(text, flush=True)
    if left:
        raise Wrong(HUNG, f"it left {len(left)} processes behind: {text[-1000:]}")
    if "fault of the lab" in text or (case["after"] > STARTING and "labkit/cli" in text):
        raise Wrong(BARE, text[-1500:])
    return TOLD


def _listen(source: int, process: subprocess.Popen, until: float) -> str:
    """What is written there until a time, or until the process has ended. It is asked whether it shall, and answered yes."""
    text, over = "", False
    while time.monotonic() < until and not over:
        over = process.poll() is not None
        if select.select([source], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # as a terminal ends
                text += (part := os.read(source, 1 << 16).decode(errors="replace"))
                if "(y/[n])" in part:
                    os.write(source, b"y\n")
    return text


def _start_kernel(port: int) -> None:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/api/kernels?token=soak", b"{}", {"content-type": "application/json"})
    with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=10) as answer:
        answer.read()


def lacks() -> str:
    """Why there is no Jupyter here."""
    missing = [name for name in ("jupyterlab", "jupyter_client", "ipykernel") if importlib.util.find_spec(name) is None]
    return f"{missing[0]} is not installed" if missing else ""


FAMILIES = {
    "interrupt command": Family(draw_command, attempt_command, aim=30, limit=240, short=1),
    "interrupt cell": Family(draw_cell, attempt_cell, aim=15, limit=240, short=1, lacks=lacks),
    "interrupt server": Family(draw_server, attempt_server, aim=10, limit=90, short=1, lacks=lacks),
}
