"""What a learner waits for: `import labkit`, lesson 00 in a kernel, and its page in a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import ROOT, row


def imports() -> list[dict]:
    """`import labkit` against bare Python, as whole processes, alternating."""

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - began

    pairs = [(seconds("import labkit"), seconds("pass")) for _ in range(9)]
    return [row("Time that `import labkit` adds to starting Python", "s", [a - b for a, b in pairs], against="bare Python", seeds=())]


def kernel(code: str, timeout: int = 400) -> str:
    """Run code in a fresh real kernel with an empty lab home, and return what it printed."""
    from jupyter_client.manager import start_new_kernel

    with tempfile.TemporaryDirectory() as home:
        manager, client = start_new_kernel(env=os.environ | {"LABKIT_HOME": home}, cwd=str(ROOT))
        said: list[str] = []

        def hear(message: dict) -> None:
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                said.append(message["content"]["text"])
            elif message["msg_type"] == "error":
                raise SystemExit("\n".join(message["content"]["traceback"]))

        try:
            client.execute_interactive(code, timeout=timeout, output_hook=hear)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    return "".join(said)


LESSON = """
import json, time, labkit, resource
from labkit.records.record import mean
began = time.perf_counter()
lab = labkit.open("00"{changes})
opened = time.perf_counter() - began
import labkit.training.loop
inside, push = [0.0], lab.board.push
first = []
def timed(events):
    t = time.perf_counter()
    push(events)
    inside[0] += time.perf_counter() - t
    if any(type(e).__name__ == "Step" for e in events) and not first:
        first.append(time.perf_counter() - pressed)
lab.board.push = timed
pressed = time.perf_counter()
lab.run()
rec = lab.result()
wall = time.perf_counter() - pressed
got = rec.recovery()
exams = [[e.seconds, mean(e.skills)] for e in rec.evaluations]
print(json.dumps(dict(opened=opened, first=first[0], wall=wall, seconds=rec.finished.seconds,
    share=inside[0] / wall, core=got.mean, all=got.all_skills, per_skill=got.per_skill, exams=exams,
    peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    baseline=mean(got.reference), teacher=mean(got.teacher))))
"""


def lesson() -> list[dict]:
    """Lesson 00 in a real kernel with an empty cache: time, recovery, and the board's share of the work."""
    big = json.loads(kernel(LESSON.replace("{changes}", "")).splitlines()[-1])
    small = json.loads(kernel(LESSON.replace("{changes}", ", student='57k'")).splitlines()[-1])

    def recovered(run: dict) -> list[list[float]]:
        gap = run["teacher"] - run["baseline"]
        return [[round(seconds), round((skill - run["baseline"]) / gap, 2)] for seconds, skill in run["exams"]]

    name, gold = "Lesson 00, 200k student", "recovery over 300 gold labels"
    return [
        row(f"{name}: time of work, the teacher's signals built inside it", "s", big["seconds"]),
        row(f"{name}: {gold}, core skills", "share", big["core"]),
        row(f"{name}: {gold}, all skills", "share", big["all"]),
        *(row(f"{name}: {gold}, {skill.replace('_', '-')}", "share", big["per_skill"][skill]) for skill in ("two_hop", "chain")),
        *(
            row(f"Lesson 00, {size} student: {gold}, at each exam", "seconds of work, share", curve=recovered(run))
            for size, run in (("200k", big), ("57k", small))
        ),
        row(f"{name}: time until the recorded run is on screen", "s", big["opened"]),
        row(f"{name}: time from Run to the first live point, torch loaded", "s", big["first"]),
        row(f"{name}: share of the kernel's time that the board takes", "share", big["share"]),
        row(f"{name}: peak memory of the kernel", "MB", big["peak"]),
    ]


WATCH_KNOB = """() => {
    window.turned = [];
    const board = document.querySelector('.dlab');
    let pressed = 0, marks = board.dataset.knobMarks;
    document.addEventListener('keydown', () => { pressed = performance.now(); }, true);
    new MutationObserver(() => {
        if (board.dataset.knobMarks === marks) return;
        marks = board.dataset.knobMarks;
        requestAnimationFrame(() => window.turned.push(performance.now() - pressed));
    }).observe(board, { attributeFilter: ['data-knob-marks'] });
}"""


def board() -> list[dict]:
    """Lesson 00 in JupyterLab in Chromium: the whole run with the board on screen, then knobs turned during a second one."""
    sys.path.append(str(ROOT / "tests"))
    import psutil
    from browsing import board as the_board
    from browsing import jupyterlab, opened, press, run_named, slider, step_of, wait_for_state, wait_for_step

    def browser_seconds() -> float:
        spent = 0.0
        for process in psutil.process_iter(["name", "cpu_times"]):
            if "chrom" in (process.info["name"] or "") and process.info["cpu_times"]:
                spent += process.info["cpu_times"].user + process.info["cpu_times"].system
        return spent

    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as address, opened(address) as page:
        began = time.perf_counter()
        run_named(page, "open")
        page.wait_for_function("Number(document.querySelector('.dlab')?.dataset.klPoints ?? 0) > 20")
        opened_after = time.perf_counter() - began
        page.wait_for_timeout(8_000)  # torch is loaded while the learner reads
        pressed, spent = time.perf_counter(), browser_seconds()
        press(page, "Run")
        page.wait_for_function("document.querySelector('.dlab').dataset.ghost === '1'")
        wait_for_step(page, 1)
        first = time.perf_counter() - pressed
        page.set_default_timeout(300_000)
        wait_for_state(page, "finished")
        wall = time.perf_counter() - pressed
        browser = (browser_seconds() - spent) / wall
        said = page.locator("[data-testid='recovery']").inner_text()

        press(page, "Run")
        wait_for_state(page, "training")
        wait_for_step(page, 30)
        page.evaluate(WATCH_KNOB)
        for turn in range(20):
            slider(page, "Temperature").press("ArrowRight" if turn % 2 == 0 else "ArrowLeft")
            page.wait_for_timeout(700)
        turned = page.evaluate("window.turned")
        assert len(turned) == 20 and step_of(page) and the_board(page), turned
        press(page, "Stop")
        wait_for_state(page, "stopped", "finished")
    name = "Lesson 00 in JupyterLab, with Chromium on the same cores"
    return [
        row(f"{name}: time from running the first cell to the recorded run on screen", "s", opened_after),
        row(f"{name}: time from Run to the first live point", "s", first),
        row(f"{name}: time from Run to finished, the teacher's signals built inside it", "s", wall),
        row(f"{name}: recovery of core skills that the panel shows at the end", "share", int(re.findall(r"(\d+)%", said)[0]) / 100),
        row(f"{name}: processor time of the browser", "cores", browser),
        row(f"{name}: time from a slider's key to the drawn change, 20 times", "ms", turned),
    ]
