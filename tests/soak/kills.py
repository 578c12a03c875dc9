"""Processes killed at random moments, as by a power cut: the work goes on to the same end, and nothing that was told is lost."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from faulty import Server, completion
from helpers import made
from soak.core import BARE, CONTEXT, LOST, REPOSITORY, RIGHT, SILENT, TOLD, Case, Family, Wrong, alike, killed, reference, said

from labkit import models
from labkit.base.errors import LabError
from labkit.base.files import rows_of
from labkit.cli.main import main
from labkit.lessons import predictions
from labkit.models import lora, pretrained
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.progress import Progress
from labkit.records.record import Record, load
from labkit.studies.run import begin, completed, keep

RECIPE = Experiment(student="7k", steps=200, questions=300)  # the first checkpoint comes after 25 steps
SWEEP = '[sweep]\nseeds = 2\n\n[experiment]\nstudent = "7k"\nsteps = 20\nquestions = 200\n\n[grid]\ntemperature = [1.0, 3.0]\n'
ROWS = 250  # of the user, for a distillation
PROMPTS = 40  # for a teacher behind an endpoint
KILLS = (1, 1, 2, 3)  # how often a case is killed


def records(folder: Path) -> dict[str, Any]:
    """All records in a folder and below it, by their recipe."""
    return {record.experiment.recipe: alike(record.events) for record in map(load, folder.rglob("*.jsonl.gz"))}


def fractions(rng: random.Random) -> Case:
    """When a case is killed, in parts of the time that it takes without."""
    return {"kills": [rng.uniform(0, 1.1) for _ in range(rng.choice(KILLS))]}


def until_it_ends(work: Callable[[], object], case: Case, seconds: float, says: bool = True) -> None:
    """Run some work, killed as often as the case says, and then to its end.

    says: whether it prints that it goes on from a checkpoint.

    Raises `Wrong` if a checkpoint is not gone on from.
    """
    place, printed = Path(os.environ["LABKIT_HOME"]), Path(os.environ["LABKIT_HOME"]).parent / "said"
    for part in case["kills"]:
        killed(work, part * seconds)
    done = {path.name.removesuffix(".jsonl.gz") for path in place.rglob("records/*.jsonl.gz")}
    kept = [path for path in place.rglob("runs/*/checkpoint.safetensors") if path.parent.name not in done]
    before = printed.stat().st_size
    killed(work, None)
    told = printed.read_bytes()[before:].count(b"it goes on from step")
    if says and told < len(kept):
        raise Wrong(LOST, f"{len(kept)} checkpoints were there, and {told} runs went on: {said()}")


def compare(found: Any, wanted: Any, what: str) -> str:
    """RIGHT if both are the same; otherwise raises `Wrong`."""
    if found != wanted:
        raise Wrong(SILENT, f"{what} differ: {str(found)[:700]}\n, and should be\n{str(wanted)[:700]}")
    return RIGHT


# ---- run -------------------------------------------------------------------------------------------------------------------------------


def _run() -> None:
    run = begin(RECIPE)
    keep(completed(run, Progress()))
    Path("weights").write_text(models.fingerprint(run.student))


def _ran(folder: Path) -> dict[str, Any]:
    return {"weights": (folder / "weights").read_text(), "records": records(folder)}


def _timed(work: Callable[[], object], read: Callable[[Path], Any], folder: Path) -> dict[str, Any]:
    with contextlib.chdir(folder):
        seconds = killed(work, None)
        return {"seconds": seconds, "result": json.loads(json.dumps(read(folder)))}


def kill_run(case: Case, folder: Path) -> str:
    """A run is killed; weights and record must be those of one that was not."""
    wanted = reference("run", functools.partial(_timed, _run, _ran))
    until_it_ends(_run, case, wanted["seconds"])
    left = [path.name for path in folder.rglob("*") if path.is_dir() and path.parent.name == "runs"]
    if left:
        raise Wrong(SILENT, f"the finished run has left its checkpoint: {left}")
    return compare(json.loads(json.dumps(_ran(folder))), wanted["result"], "weights or record")


# ---- sweep -----------------------------------------------------------------------------------------------------------------------------


def _sweep() -> None:
    """With two workers, in a process that holds nothing of this one, as joblib's workers would take it from there."""
    Path("grid.toml").write_text(SWEEP)
    command = [sys.executable, "-m", "labkit", "sweep", "grid.toml", "--jobs", "2"]
    os.execv(sys.executable, command)


def kill_sweep(case: Case, folder: Path) -> str:
    """A sweep of eight runs on two workers is killed; its records must be those of one that was not."""
    wanted = reference("sweep", functools.partial(_timed, _sweep, records))
    until_it_ends(_sweep, case, wanted["seconds"], says=False)
    return compare(json.loads(json.dumps(records(folder))), wanted["result"], "records")


# ---- distill ---------------------------------------------------------------------------------------------------------------------------


def _distill() -> None:
    rows = (REPOSITORY / "data" / "examples" / "questions.jsonl").read_text().splitlines()[:ROWS]
    Path("own.jsonl").write_text("\n".join(rows) + "\n")
    command = ["distill", "--teacher", "atlas-200k", "--student", "7k", "--data", "own.jsonl", "--out", "out", "--steps", "40", "--force"]
    if code := main(command):
        raise SystemExit(code)


def _distilled(folder: Path) -> dict[str, Any]:
    files = {path.name for path in (folder / "out").iterdir()}
    return {"weights": models.fingerprint(pretrained.load(str(folder / "out"))), "files": sorted(files), "records": records(folder)}


def kill_distill(case: Case, folder: Path) -> str:
    """A distillation is killed; the student's folder must be that of one that was not."""
    wanted = reference("distill", functools.partial(_timed, _distill, _distilled))
    until_it_ends(_distill, case, wanted["seconds"])
    return compare(json.loads(json.dumps(_distilled(folder))), wanted["result"], "student or records")


# ---- label -----------------------------------------------------------------------------------------------------------------------------

FAULTS = ("ok", "ok", "ok", "ok", "500", "drop", "half", "cut", "late", "garbage")


def draw_label(rng: random.Random) -> Case:
    """After how many answers a job is killed, and a server that fails now and then."""
    answers = sorted(rng.randrange(1, PROMPTS - 2) for _ in range(rng.choice(KILLS)))
    return {"answers": answers, "faults": rng.randrange(1000), "concurrency": rng.choice((1, 4, 8))}


def kill_label(case: Case, folder: Path) -> str:
    """A job of labelling is killed; each prompt has its own answer, none is paid for twice that was kept, and the account is no less."""
    rng = random.Random(case["faults"])
    faults = {(prompt, nth): rng.choice(FAULTS) for prompt in range(PROMPTS) for nth in (1, 2)}

    def behave(prompt: str, nth: int) -> str:
        return faults.get((int(prompt.rsplit(" ", 1)[1]), nth), "ok")

    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(PROMPTS)))
    with Server(behave, delay=0.03) as server:
        command = [
            sys.executable,
            "-m",
            "labkit",
            "label",
            "prompts.jsonl",
            "answers.jsonl",
            "--endpoint",
            server.url,
            "--model",
            "teacher-large",
        ]
        command += ["--terms", "read", "--yes", "--concurrency", str(case["concurrency"])]
        journal, hit = folder / "answers.jsonl.journal", 0
        for answers in case["answers"]:
            with subprocess.Popen(command) as job:
                while job.poll() is None and sum(server.answered.values()) < answers:
                    time.sleep(0.002)
                hit += job.poll() is None
                job.kill()
            kept = [row["key"] for row in rows_of(journal).values() if row and "response" in row]
            if twice := {key for key in kept if kept.count(key) > 1}:
                raise Wrong(LOST, f"{len(twice)} requests were answered and sent again")
        if not hit:
            raise Wrong(SILENT, "no kill met a job at work")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Wrong(BARE, f"code {done.returncode}: {done.stdout[-500:]} {done.stderr[-1000:]}")
        paid, asked = sum(server.answered.values()), len(server.asked)
        again = subprocess.run(command, capture_output=True, text=True)
        if again.returncode or len(server.asked) != asked:
            raise Wrong(
                LOST, f"run again when all was answered, it sent {len(server.asked) - asked} requests: {again.stdout} {again.stderr}"
            )
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    if [row["response"] for row in rows] != [f"Answer to question {n}" for n in range(PROMPTS)]:
        raise Wrong(SILENT, f"answers differ: {rows}"[:1500])
    usage = sum(completion({"model": "x"}, "")["usage"].values()) // 2
    told = int(re.search(r"Used in all: ([\d,]+) tokens", done.stdout)[1].replace(",", ""))
    kept = [row["key"] for row in rows_of(journal).values() if row and "response" in row]
    if len(kept) != PROMPTS:
        raise Wrong(LOST, f"{PROMPTS} requests have {len(kept)} answers in the journal: some were paid for twice")
    if told < paid * usage:
        raise Wrong(LOST, f"{told} tokens were told, and the server answered {paid} times with {usage} each: {done.stdout}")
    return RIGHT


# ---- save ------------------------------------------------------------------------------------------------------------------------------


def _record(n: int) -> Record:
    steps = (ev.Step(step, step / 8, step, {"loss": float(n)}) for step in range(1, 400))
    return Record([ev.Started(Experiment(seed=n).to_dict(), "t", 3, 2, 2, 2, ("recall",), "m"), *steps])


@functools.cache
def _student(n: int, folder: Path) -> Any:
    return pretrained.load(str(made(folder / f"student-{n}", 1, n)))


def _adapted(n: int) -> Any:
    student = models.student("7k", 0)
    lora.add(student, 2, seed=n)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.fill_(n + 1)
    return student


SAVES: dict[str, tuple[Callable[[int, Path], object], Callable[[Path], Any]]] = {
    "record": (lambda n, folder: _record(n).save(folder / "r.jsonl.gz"), lambda folder: alike(load(folder / "r.jsonl.gz").events)),
    "plain record": (lambda n, folder: _record(n).save(folder / "r.jsonl"), lambda folder: alike(load(folder / "r.jsonl").events)),
    "model": (
        lambda n, folder: pretrained.save(_student(n, folder), folder / "model"),
        lambda folder: models.fingerprint(pretrained.load(str(folder / "model"))),
    ),
    "adapter": (
        lambda n, folder: lora.save(_adapted(n), folder / "adapter"),
        lambda folder: models.fingerprint(lora.loaded(models.student("7k", 0), folder / "adapter")),
    ),
}


def draw_save(rng: random.Random) -> Case:
    """What is saved, and how long until the kill."""
    return {"what": rng.choice(list(SAVES)), "after": rng.uniform(0.05, 1.0)}


def kill_save(case: Case, folder: Path) -> str:
    """Two things are saved in turn under one name, until a kill. Then one of them is there, or the reader says that it is damaged."""
    torch.set_num_threads(1)
    save, read = SAVES[case["what"]]
    wanted = []
    for n in (0, 1):
        save(n, folder)
        wanted.append(json.dumps(read(folder)))
    killed(lambda: [save(n, folder) for n in itertools.cycle((0, 1))], case["after"])
    try:
        found, outcome = json.dumps(read(folder)), RIGHT
    except LabError as error:
        found, outcome = str(error), TOLD
    if outcome == RIGHT and found not in wanted:
        raise Wrong(SILENT, f"neither of the two: {found[:500]}")
    save(1, folder)
    if json.dumps(read(folder)) != wanted[1]:
        raise Wrong(SILENT, "saved again after the kill, it is another")
    return outcome


# ---- ledger ----------------------------------------------------------------------------------------------------------------------------


def draw_ledger(rng: random.Random) -> Case:
    """How many write at once, and when each is killed."""
    return {"after": sorted(rng.uniform(0.02, 0.4) for _ in range(rng.choice((1, 2, 3))))}


def kill_ledger(case: Case, folder: Path) -> str:
    """Writers of predictions are killed; each prediction that was answered is there."""

    def write(writer: int) -> None:
        with open(folder / f"told-{writer}", "a", buffering=1) as told:
            for n in itertools.count():
                predictions.predict(f"{writer} {n}", 0.0, 1.0, 0.5)
                told.write(f"{writer} {n}\n")

    writers = [CONTEXT.Process(target=write, args=(number,)) for number in range(len(case["after"]))]
    began = time.monotonic()
    for writer in writers:
        writer.start()
    for writer, after in zip(writers, case["after"]):
        time.sleep(max(0.0, after - (time.monotonic() - began)))
        writer.kill()
        writer.join()
    told = {line for path in folder.glob("told-*") for line in path.read_text().split("\n")[:-1]}
    there = set(predictions.entries()[0])
    if lost := told - there:
        raise Wrong(LOST, f"{len(lost)} of {len(told)} predictions: {sorted(lost)[:5]}")
    predictions.predict("after", 0.0, 1.0, 0.5)
    if "after" not in predictions.entries()[0]:
        raise Wrong(LOST, "the first prediction after the kill")
    return RIGHT


FAMILIES = {
    "kill run": Family(fractions, kill_run, aim=50, limit=240),
    "kill sweep": Family(fractions, kill_sweep, aim=50, limit=500, short=1),
    "kill distill": Family(fractions, kill_distill, aim=50, limit=400, short=1),
    "kill label": Family(draw_label, kill_label, aim=50, limit=120),
    "kill save": Family(draw_save, kill_save, aim=50, short=4),
    "kill ledger": Family(draw_ledger, kill_ledger, aim=50, short=4),
}
