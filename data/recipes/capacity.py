"""Measure what a student can hold, for `data/measurements`: `labkit build capacity` (about an hour on 2 CPU cores, and it can be cut off:
what this machine has measured already is not measured again).

stores: bits of a store of facts held by students of several sizes, after so many exposures, on hard and on soft labels.
budgets: skills of small students with ten times the questions, or ten times the steps.
teachers: one student under teachers of several sizes and training times, and with an assistant in between.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import torch

from labkit.atlas import Atlas
from labkit.capacity import held
from labkit.engine import Run
from labkit.experiment import TUNED_RATE, Experiment
from labkit.measurements import seal, write
from labkit.models import parameters
from labkit.paths import made_here
from labkit.records import mean
from labkit.runs import record

BATCH, SEEDS, JOBS = 128, 3, 2
HARD, SOFT = {"method": "gold", "teacher": "none"}, {"method": "output"}
ARMS = {  # fields, exposures, numbers of facts for each size
    "hard labels": (HARD, 100, {"7k": (256, 512, 1_024), "12k": (256, 512, 1_024, 2_048), "22k": (1_024, 2_048)}),
    "soft labels": (SOFT, 100, {"7k": (512,), "12k": (1_024,)}),
    "hard labels, 4 x the exposures": (HARD, 400, {"7k": (512,)}),
    "made-up labels": (HARD | {"falsehoods": 1.0}, 100, {"12k": (1_024,)}),
}
BUDGETS = {  # questions, steps
    "20,000 questions, 300 steps": (20_000, 300, ("7k", "22k", "57k")),
    "2,000 questions, 300 steps": (2_000, 300, ("7k", "22k", "57k")),
    "20,000 questions, 3,000 steps": (20_000, 3_000, ("22k",)),
}
TEACHERS = ("atlas-3m", "atlas-900k", "atlas-200k", "atlas-3m-early", "atlas-3m-late")
ASSISTANTS = ("200k",)


def stores() -> list[dict]:
    return [
        {"arm": arm, "student": size, "facts": facts, "seed": seed}
        for seed in range(SEEDS)
        for arm, (_, _, stores_of) in ARMS.items()
        for size, numbers in stores_of.items()
        for facts in numbers
    ]


def store(arm: str, student: str, facts: int, seed: int) -> dict:
    fields, exposures, _ = ARMS[arm]
    exp = Experiment(student=student, learning_rate=TUNED_RATE[student], scale="whole", facts=facts, batch=BATCH, seed=seed)
    run = Run(exp.but(steps=facts * exposures // BATCH, **fields), exams=0)
    for _ in run:
        pass
    assert run.student is not None
    world = Atlas("whole", falsehoods=fields.get("falsehoods", 0.0))
    found = held(run.student, world, world.store(facts))
    size = parameters(run.student)
    each = {"asked_a_parameter": found.asked / size, "held_a_parameter": found.bits / size}
    return {"exposures": exposures, "parameters": size, **found._asdict(), **each}


def budgets() -> list[dict]:
    return [
        {"budget": name, "student": size, "seed": seed}
        for seed in range(SEEDS)
        for name, (_, _, sizes) in BUDGETS.items()
        for size in sizes
    ]


def budget(budget: str, student: str, seed: int) -> dict:
    questions, steps, _ = BUDGETS[budget]
    exp = Experiment(student=student, learning_rate=TUNED_RATE[student], questions=questions, steps=steps, seed=seed)
    return {"questions": questions, "steps": steps, **_examined(exp)}


def teachers() -> list[dict]:
    arms = [(teacher, "none") for teacher in TEACHERS] + [("atlas-3m", size) for size in ASSISTANTS]
    return [{"teacher": teacher, "assistant": assistant, "seed": seed} for seed in range(SEEDS) for teacher, assistant in arms]


def taught(teacher: str, assistant: str, seed: int) -> dict:
    exp = Experiment(student="57k", learning_rate=TUNED_RATE["57k"], steps=300, seed=seed, teacher=teacher, assistant=assistant)
    return {"teacher_core": mean(record(exp).references["teacher"].skills), **_examined(exp)}


def _examined(exp: Experiment) -> dict:
    done = record(exp)
    return {"core": mean(done.skills), "kl": done.evaluations[-1].fidelity["kl"], **done.skills}


TABLES: dict[str, tuple[Callable[[], list[dict]], Callable[..., dict]]] = {
    "stores": (stores, store),
    "budgets": (budgets, budget),
    "teachers": (teachers, taught),
}


def measure(name: str, cell: dict) -> dict:
    """A cell's row: from what this machine has measured, or measured now and kept."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // JOBS))
    path = made_here("measurements") / name / f"{json.dumps(cell, sort_keys=True).translate(str.maketrans(dict.fromkeys('{}: ,')))}.json"
    if not path.exists():
        row = cell | TABLES[name][1](**cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row), encoding="utf-8")
        print(row, flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def rows(name: str) -> list[dict]:
    """All rows of a table, measured on several processes."""
    cells = TABLES[name][0]()
    # A recipe is loaded from its file and has no name to be imported by, so the processes are forked: before any thread has been started.
    with concurrent.futures.ProcessPoolExecutor(JOBS, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(measure, [name] * len(cells), cells))


def build(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in TABLES:
        write(folder, name, rows(name))
    seal(folder)
