"""What several processes do beside one another: a labelling client and a server, workers of a sweep, runs that share cores."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from page import LESSON, kernel
from rows import ROOT, over, row

LABEL = """
import json, sys, tempfile, time, urllib.request
from labkit.teachers import labelling
import labkit.teachers.labelling.running
url, concurrency, requests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with tempfile.TemporaryDirectory() as folder:
    prompts = [f"What is the capital of country number {n}?" for n in range(requests)]
    spent = time.process_time()
    report = labelling.label(prompts, folder + "/a.jsonl", endpoints=url, model="m", concurrency=concurrency, terms="read")
    spent = time.process_time() - spent
assert report.written == requests, report
page = json.load(urllib.request.urlopen(url + "/models"))
print(json.dumps(dict(busy=page["busy"] / page["wall"] / concurrency, wall=page["wall"], served=page["busy"], cpu=spent / requests)))
"""


def labelling() -> list[dict]:
    """A server that takes 50 ms, in a process of its own: the share of eight requests' time that it is kept busy, and what one request
    costs beside the time the server has it. Medians of five."""
    found: dict[int, list[dict]] = {8: [], 1: []}
    for _ in range(5):
        for concurrency, requests in ((8, 800), (1, 100)):
            command = [sys.executable, str(ROOT / "tests" / "faulty.py"), "0.05"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
                assert server.stdin and server.stdout
                url = server.stdout.readline().strip()
                ours = [sys.executable, "-c", LABEL, url, str(concurrency), str(requests)]
                ran = subprocess.run(ours, cwd=ROOT, check=True, capture_output=True, text=True)
                server.stdin.close()
            told = json.loads(ran.stdout.splitlines()[-1])
            found[concurrency].append(told | {"overhead": (told["wall"] - told["served"]) / requests})
    name = "Labelling from a server that takes 50 ms"
    return [
        row(f"{name}: share of its time that it is kept busy by 8 requests at once", "share", [run["busy"] for run in found[8]], seeds=()),
        row(f"{name}: time a request beyond the server's, one at a time", "ms", [1000 * run["overhead"] for run in found[1]], seeds=()),
        row(f"{name}: processor time a request", "ms", [1000 * run["cpu"] for run in found[8]], seeds=()),
    ]


SWEEP = """
[experiment]
student = "57k"
scale = "Europe"
steps = 300
questions = 512
[grid]
temperature = [TEMPERATURES]
[sweep]
seeds = 1
"""


def sweeps() -> list[dict]:
    """Six runs of a usual length by one worker and by two of one thread each, as whole commands, alternating; the answers are at hand."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"LABKIT_HOME": folder, "OMP_NUM_THREADS": "1"}

        def seconds(temperatures: list[float], jobs: int) -> float:
            path = Path(folder) / "grid.toml"
            path.write_text(SWEEP.replace("TEMPERATURES", ", ".join(map(str, temperatures))))
            began = time.perf_counter()
            command = [sys.executable, "-m", "labkit", "sweep", str(path), "--jobs", str(jobs)]
            subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            return time.perf_counter() - began

        seconds([1.0], 1)  # the baseline, and the teacher's answers
        for turn in range(3):
            one, two = ([1.1 + turn + 0.01 * n + 0.1 * jobs for n in range(6)] for jobs in (1, 2))
            ratios.append(seconds(one, 1) / seconds(two, 2))
    work = "A sweep of six runs of 300 steps by two workers of one thread, whole commands with their start-up"
    return [row(work, "runs/s", ratio=ratios, against="one worker of one thread")]


TRAIN = """
import sys, time, labkit
from labkit.records import events as ev
from labkit.training.loop import Run
run = Run(labkit.Experiment(steps=100_000, questions=2_048), exams=0)
steps = (event for event in run if isinstance(event, ev.Step))
for _ in range(16):  # until the teacher has answered all questions
    next(steps)
print("ready", flush=True)
for line in sys.stdin:
    began, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < float(line):
        next(steps)
        done += 1
    print(128 * done / spent, flush=True)
"""


def spinning(*counts: int) -> list[dict]:
    """Questions trained a second by how long a waiting thread spins: one run alone, and four side by side, summed; 200k student, warm
    cache. The lab's own limit against the default of GNU's OpenMP, or against `counts`; all alternating."""
    from labkit.base.threads import LIMITS

    unbounded, ours = 300_000, int(LIMITS["GOMP_SPINCOUNT"])  # turns of the waiting loop
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in (*(counts or (ours,)), unbounded)}
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as running:

        def train(count: int) -> Any:
            inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
            environment = inherited | {"LABKIT_HOME": home, "GOMP_SPINCOUNT": str(count)}
            command = [sys.executable, "-c", TRAIN]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.callback(process.kill)
            return process

        def speed(runs: list[Any], seconds: float = 3.0) -> float:
            for run in runs:
                run.stdin.write(f"{seconds}\n")
                run.stdin.flush()
            return sum(float(run.stdout.readline()) for run in runs)

        first = train(next(iter(found)))  # it asks the teacher, and the others find its answers
        assert first.stdout.readline() == "ready\n"
        runs = {count: [train(count) for _ in range(4)] for count in found}
        for run in (run for four in runs.values() for run in four):
            assert run.stdout.readline() == "ready\n"
        for _ in range(5):
            for count, four in runs.items():
                found[count].append((speed(four[:1]), speed(four)))
    rows = []
    for place, name in enumerate(("alone", "four side by side, summed")):
        usual = [pair[place] for pair in found[unbounded]]
        for count in [count for count in found if count != unbounded]:
            speeds = [pair[place] for pair in found[count]]
            work = f"Training speed where a waiting thread spins {count:,} times, 200k student, {name}"
            rows.append(row(work, "questions/s", speeds, usual, over(speeds, usual), against=f"the default of {unbounded:,} times"))
    return rows


def classroom() -> list[dict]:
    """Runs on the same cores, each of which chooses its threads when it begins, as a user starts them; 200k student, warm cache. And
    lesson 00 from its first cell to the end of its run, in one kernel and in eight that begin together."""
    cores, alone, others = str(os.cpu_count()), dict[str, list[float]](), dict[float, list[float]]({0.0: [], 8.0: []})
    with tempfile.TemporaryDirectory() as home:

        def speed(runs: int, apart: float = 0.0, **settings: str) -> float:
            inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")}
            environment, seconds = inherited | {"LABKIT_HOME": home} | settings, 10.0
            with contextlib.ExitStack() as running:
                started = []
                for _ in range(runs):
                    command = [sys.executable, "-c", TRAIN]
                    run = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                    running.callback(run.wait)  # after the kill: a run that nobody has waited for counts as one that goes on
                    running.callback(run.kill)
                    assert run.stdin and run.stdout
                    if apart:  # it trains while the next one starts
                        run.stdin.write(f"{apart * runs}\n")
                        run.stdin.flush()
                        time.sleep(apart)
                    started.append(run)
                for run in started:
                    assert run.stdout and run.stdout.readline() == "ready\n"
                    assert not apart or run.stdout.readline()
                for run in started:
                    assert run.stdin
                    run.stdin.write(f"{seconds}\n")
                    run.stdin.flush()
                return sum(float(run.stdout.readline()) for run in started if run.stdout)

        speed(1)  # the teacher answers
        for _ in range(5):
            alone.setdefault("ours", []).append(speed(1))
            alone.setdefault("all", []).append(speed(1, OMP_NUM_THREADS=cores, GOMP_SPINCOUNT="300000"))
            for apart, speeds in others.items():
                speeds.append(speed(4, apart))
    name, one, ours = "Training speed, 200k student", "one run alone", alone["ours"]
    rows = [row(f"{name}, {one}", "questions/s", ours, alone["all"], over(ours, alone["all"]), against="a thread for each core")]
    for apart, how in ((0.0, "at once"), (8.0, "one by one")):
        work, speeds = f"{name}, four runs started {how}, summed", others[apart]
        rows.append(row(work, "questions/s", speeds, ours, over(speeds, ours), against=one))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:

        def seconds(kernels: int) -> float:
            began = time.perf_counter()
            list(pool.map(lambda _: kernel(LESSON.replace("{changes}", ""), 3_600), range(kernels)))
            return time.perf_counter() - began

        single, eight = seconds(1), seconds(8)
    work = "Lesson 00 in eight kernels at once: time until the last run has ended"
    return [*rows, row(work, "s", eight, single, eight / single, against="one kernel")]
