"""Make the measurements that ship in `data/measurements`: `labkit build measurements` (about ten minutes on 2 CPU cores).

sampling: answers of the shipped teacher at several *sampling* temperatures: how many differ, how many are right, question by question.
beneath: what lies under the teacher's first guess when its distribution is softened, question by question.
left_out: students that were never told of South America, and what a bias on its name brings back (Hinton's omitted class).
"""

from __future__ import annotations

from pathlib import Path

import labkit
from labkit.atlas import Atlas
from labkit.measurements import seal, write
from labkit.probes import beside_the_top, left_out, variety

SAMPLING = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
SOFTENING = (1.0, 2.0, 4.0, 8.0)
LEFT_OUT = "South America"
ARMS = {
    "hard answers": {"method": "answers"},
    "soft labels, T = 1": {"temperature": 1.0},
    "soft labels, T = 4": {"temperature": 4.0},
}
SEEDS = 5


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


def build(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, measure in (("sampling", sampling), ("beneath", beneath), ("left_out", omitted)):
        write(folder, name, measure())
    seal(folder)
