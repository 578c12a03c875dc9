"""Make the measurements that ship in `data/measurements`: `labkit build measurements` (about half an hour on 2 CPU cores).

sampling: answers of the shipped teacher at several *sampling* temperatures: how many differ, how many are right, question by question.
beneath: what lies under the teacher's first guess when its distribution is softened, question by question.
left_out: students that were never told of South America, and what a bias on its name brings back (Hinton's omitted class).
task: students whose transfer set lacked something, examined on that and on the rest.
exposure: KL to the teacher by answer position, on the teacher's prefixes and on the student's own.
stepwise: how often the last step of an answer is right, after a right first step and after the student's own.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import labkit
from labkit.atlas import Atlas
from labkit.engine import warm_recipe
from labkit.experiment import Experiment
from labkit.exposure import exposure, stepwise
from labkit.probes import beside_the_top, left_out, papers, share_right, variety

SAMPLING = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
SOFTENING = (1.0, 2.0, 4.0, 8.0)
LEFT_OUT = "South America"
ARMS = {
    "hard answers": {"method": "answers"},
    "soft labels, T = 1": {"temperature": 1.0},
    "soft labels, T = 4": {"temperature": 4.0},
}
SEEDS = 5
STEPWISE, LONG = ("two_hop_steps", "chain"), 120  # skills with long answers, and questions of each
EXPOSED = ("teacher's answers", "last tenth online", "last quarter online", "half online throughout")


def sampling() -> list[dict]:
    teacher, paper = labkit.teacher("atlas-3m"), Atlas("half").exam(60)
    rows = []
    for kind, skills in (("open", ("open",)), ("one answer", ("recall", "reverse", "city", "element"))):
        questions = [q for skill in skills for q in [q for q in paper if q.skill == skill][: 60 // len(skills)]]
        for temperature in SAMPLING:
            for question, found in zip(questions, variety(teacher, questions, temperature), strict=True):
                rows.append({"questions": kind, "T": temperature, "question": question.text, **found._asdict()})
    return rows


def beneath() -> list[dict]:
    teacher = labkit.teacher("atlas-3m")
    questions = [q for q in Atlas("half").exam(60) if q.skill == "open" and len(q.answers) > 1]
    shares = {T: beside_the_top(teacher, questions, T) for T in SOFTENING}
    return [{"T": T, "question": q.text, "valid": v} for T in SOFTENING for q, v in zip(questions, shares[T], strict=True)]


def omitted() -> list[dict]:
    rows, world = [], Atlas("half")
    for arm, fields in ARMS.items():
        for seed in range(SEEDS):
            run = labkit.run(student="57k", learning_rate=2e-2, steps=400, left_out=LEFT_OUT, seed=seed, **fields)
            for _ in run:
                pass
            rows += [{"arm": arm, "seed": seed, **found._asdict()} for found in left_out(run.student, world, LEFT_OUT)]
            print(arm, seed, rows[-1], flush=True)
    return rows


def trained(recipe: Experiment):
    """The student of a run, made anew: records keep no weights."""
    run = labkit.run(recipe)
    for _ in run:
        pass
    print(recipe.recipe, flush=True)
    return run.student


def task() -> list[dict]:
    grid, world, rows = labkit.sweep("task"), Atlas("half"), []
    lacking = {name: papers(world, name) for name in grid.grid["left_out"] if name != "nothing"}

    def examine(who: str, start: str, seed: int, student, names) -> None:
        for name in names:
            missing, rest = (share_right(student, questions) for questions in lacking[name])
            rows.append({"student": who, "start": start, "seed": seed, "left_out": name, "missing": missing, "rest": rest})

    examine("teacher", "", 0, labkit.teacher("atlas-3m"), lacking)
    for start in grid.grid["start"]:
        for seed in range(grid.seeds):
            whole = grid.recipe(start=start, left_out="nothing").but(seed=seed)
            examine("300 gold labels", start, seed, trained(whole.baseline()), lacking)
            examine("all covered", start, seed, trained(whole), lacking)
            for name in lacking:
                examine("left out", start, seed, trained(whole.but(left_out=name)), [name])
    return rows


@functools.cache
def online_students() -> list[tuple[str, int, object]]:
    grid = labkit.sweep("online_finish")
    recipes = {"warm start": warm_recipe(grid.base, 0)} | {arm: grid.recipe(arm) for arm in EXPOSED}
    return [(arm, seed, trained(recipe.but(seed=seed))) for arm, recipe in recipes.items() for seed in range(grid.seeds)]


def in_steps(skill: str) -> list:
    return [q for q in Atlas("half").exam(LONG) if q.skill == skill]


def by_position() -> list[dict]:
    teacher, rows = labkit.teacher("atlas-3m"), []
    for arm, seed, student in online_students():
        for skill in STEPWISE:
            for at in exposure(teacher, student, in_steps(skill), seed):
                if min(at.teacher_rows, at.own_rows) >= LONG // 5:
                    rows.append({"arm": arm, "seed": seed, "skill": skill, **at._asdict()})
    return rows


def by_step() -> list[dict]:
    students = [("teacher", 0, labkit.teacher("atlas-3m")), *online_students()]
    return [{"arm": a, "seed": n, "skill": k, **stepwise(s, in_steps(k))._asdict()} for a, n, s in students for k in STEPWISE]


MEASURED = {
    "sampling": sampling,
    "beneath": beneath,
    "left_out": omitted,
    "task": task,
    "exposure": by_position,
    "stepwise": by_step,
}


def build(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, measure in MEASURED.items():
        rows = [{key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()} for row in measure()]
        text = "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    seal(folder)


def seal(folder: Path) -> None:
    """A manifest with the checksum of every table in the folder."""
    tables = sorted(path for path in folder.glob("*.json") if path.name != "manifest.json")
    manifest = {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "licence": "Apache-2.0"} for path in tables}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
