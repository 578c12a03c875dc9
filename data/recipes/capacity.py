"""Measure the capacity of students, for `data/measurements`: `labkit build capacity` (a quarter of an hour on 2 CPU cores).

A build that is stopped goes on later: what this machine has measured is not measured again.

stores: bits of a store of facts that students of several sizes hold, by exposures, on hard and on soft labels.
budgets: skills of a small student after the usual steps, and after ten times as many.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import torch

from labkit.base.files import made_here
from labkit.models import parameters
from labkit.records.experiment import TUNED_RATE, Experiment
from labkit.records.measurements import write
from labkit.records.record import mean
from labkit.studies.capacity import held
from labkit.studies.run import record
from labkit.tasks.atlas.facts import Atlas
from labkit.training.loop import Run

BATCH, SEEDS, JOBS = 128, 3, 2
HARD, SOFT = {"method": "gold", "teacher": "none"}, {"method": "output"}
ARMS = {  # fields, exposures
    "hard labels": (HARD, 100),
    "hard labels, 4 x the exposures": (HARD, 400),
    "hard labels, 16 x the exposures": (HARD, 1_600),
    "soft labels": (SOFT, 100),
}
STORES = (  # arm, size, numbers of facts, seeds; the extremes have one seed, to show the trend
    ("hard labels", "7k", (256, 512), SEEDS),
    ("hard labels", "12k", (512, 1_024), SEEDS),
    ("hard labels", "22k", (1_024,), SEEDS),
    ("soft labels", "7k", (512,), SEEDS),
    ("hard labels, 4 x the exposures", "7k", (512, 1_024), SEEDS),
    ("hard labels, 16 x the exposures", "7k", (1_024,), SEEDS),
    ("hard labels", "7k", (1_024, 2_048), 1),
    ("hard labels", "12k", (256, 2_048), 1),
    ("hard labels", "22k", (256, 512), 1),
    ("hard labels, 16 x the exposures", "7k", (2_048,), 1),
)
BUDGETS = (300, 3_000)  # steps of the 22k student


def stores() -> list[dict]:
    return [
        {"arm": arm, "student": size, "facts": facts, "seed": seed}
        for seed in range(SEEDS)
        for arm, size, numbers, seeds in STORES
        for facts in numbers
        if seed < seeds
    ]


def store(arm: str, student: str, facts: int, seed: int) -> dict:
    fields, exposures = ARMS[arm]
    exp = Experiment(student=student, learning_rate=TUNED_RATE[student], scale="whole", facts=facts, batch=BATCH, seed=seed)
    run = Run(exp.but(steps=facts * exposures // BATCH, **fields), exams=0)
    for _ in run:
        pass
    assert run.student is not None
    world = Atlas("whole", falsehoods=fields.get("falsehoods", 0.0))
    found = held(run.student, world, world.store(facts))
    size, body = parameters(run.student), parameters(run.student) - run.student.model.embed_tokens.weight.numel()
    return {"exposures": exposures, "parameters": size, "body": body, **found._asdict()}


def budgets() -> list[dict]:
    return [{"student": "22k", "steps": steps, "seed": seed} for steps in BUDGETS for seed in range(SEEDS)]


def budget(student: str, steps: int, seed: int) -> dict:
    done = record(Experiment(student=student, learning_rate=TUNED_RATE[student], steps=steps, seed=seed))
    return {"core": mean(done.skills), "kl": done.evaluations[-1].fidelity["kl"], **done.skills}


TABLES: dict[str, tuple[Callable[[], list[dict]], Callable[..., dict]]] = {
    "stores": (stores, store),
    "budgets": (budgets, budget),
}


def measure(name: str, cell: dict) -> dict:
    """The row of a cell: read if this machine has measured it, else measured now and stored."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // JOBS))
    name_of = "".join(c for c in json.dumps(cell, sort_keys=True) if c.isalnum() or c == ".")
    path = made_here("measurements") / name / f"{name_of}.json"
    if not path.exists():
        row = cell | TABLES[name][1](**cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row), encoding="utf-8")
        print(row, flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def rows(name: str) -> list[dict]:
    """All rows of a table, measured by several processes."""
    cells = TABLES[name][0]()
    # Processes cannot import a recipe, which is loaded from its file: they are forked, before any thread is started.
    with concurrent.futures.ProcessPoolExecutor(JOBS, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(measure, [name] * len(cells), cells))


def build(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in TABLES:
        write(folder, name, rows(name), "labkit build capacity")
