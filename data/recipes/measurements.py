"""Make the measurements that ship in `data/measurements`: `labkit build measurements` (about an hour on 2 CPU cores).

sampling: answers of the shipped teacher at several sampling temperatures: how many differ and how many are right, for each question.
beneath: the teacher's softened distribution below its first choice: the valid share of that mass, for each question.
left_out: students whose transfer set never named South America, and what a bias on its name restores (Hinton's omitted class).
planting: whether the adapters in `data/adapters` do what they were trained for.
flips: for each planted lie, its flip point, and how often the transfer set and the gold labels ask about it.
inheritance: answers to every fact by students of the sweeps `inheritance*`, and by some that were never asked about elements.
abstention: error rates of students that answer only if they are confident.
task: students whose transfer set lacked some questions, examined on those and on the rest.
exposure: KL to the teacher by answer position, on the teacher's prefixes and on the student's own.
tickets: answers to held-out tickets by SmolLM2 tuned on tickets and by its 15-layer student, untouched, fine-tuned, distilled (lesson 13).
tickets_fidelity: KL of the same models to that teacher, and how often their first tokens agree.
stepwise: how often the last step of an answer is right, after a right first step and after the student's own.
warmth: answers of SmolLM2 to 40 questions at several sampling temperatures, four times each.
drafts: acceptance of a draft before and after its use in speculative decoding, which trains nothing.
imitation: answers to held-out questions by a student of SmolLM2's recorded answers, by one of gold labels, and by the teacher.
kernels: how far the losses of a run differ with the kernels of other processors, as far as this one can imitate them (ten minutes).

`warmth`, `imitation` and both `tickets` need SmolLM2 and a student of half its layers (`labkit fetch smollm2-half`). The first two take
about twenty minutes on one core; the teacher of `tickets` takes most of an hour.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

import labkit
from labkit.base.files import home_dir, made_here, write_whole
from labkit.models import EOS, LONGEST_ANSWER, lora, pretrained
from labkit.models import write as written
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.measurements import write
from labkit.records.names import FAULTY_TEACHERS
from labkit.records.progress import Progress
from labkit.records.record import Record
from labkit.studies import run as runs
from labkit.studies.behaviour import beside_the_top, left_out, papers, share_right, variety
from labkit.studies.distill import distill
from labkit.studies.exposure import exposure, stepwise
from labkit.studies.imitation import beside
from labkit.studies.inheritance import Facts, flip_points, inheritance, risk_coverage, same
from labkit.studies.sweep import sweep
from labkit.tasks.atlas.exam import Exam, Graded, Grades
from labkit.tasks.atlas.extraction import read
from labkit.tasks.atlas.facts import Atlas
from labkit.tasks.atlas.questions import ONE_ANSWER
from labkit.tasks.custom.rows import read_rows, split
from labkit.teachers import recorded_answers
from labkit.teachers.signals import Signals
from labkit.training.batches import GOLD_SEED, transfer_questions
from labkit.training.loop import Run
from labkit.training.prerequisites import warm_recipe
from labkit.training.setup import CustomTask

SAMPLING = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
SOFTENING = (1.0, 2.0, 4.0, 8.0)
LEFT_OUT = "South America"
ARMS = {
    "hard answers": {"method": "answers"},
    "soft labels, T = 1": {"temperature": 1.0},
    "soft labels, T = 4": {"temperature": 4.0},
}
SEEDS = 5
STEPWISE, LONG = ("two_hop_steps", "chain"), 120  # skills with long answers, and the number of questions of each
EXPOSED = ("teacher's answers", "last tenth online", "last quarter online", "half online throughout")

NOT_ASKED = {  # the sweep's student, whose transfer set has no questions about elements
    "not asked, honest": Experiment(student="57k", learning_rate=2e-2, steps=400, left_out="element"),
    "not asked, lies 30%": Experiment(student="57k", learning_rate=2e-2, steps=400, left_out="element", teacher="atlas-3m-lies-30"),
}
TICKETS = Experiment(
    student="smollm2-half",
    data="tickets",
    score="label_f1",
    longest=8,
    gold=100,
    batch=8,
    steps=150,
    learning_rate=3e-4,
    precision="bf16",
)
TICKET_SEEDS = 1
ABSTAINING = ("honest", "lies 30%", "noise 30%")
COVERAGES = tuple(i / 10 for i in range(1, 11))

WARMTHS, DRAWS = (0.5, 0.7, 1.0, 1.3), 4
PUPIL = Experiment(
    teacher="none", student="smollm2-half", method="gold", score="contains", adapter=8, learning_rate=2e-3, batch=8, steps=60,
    precision="bf16", longest=32, gold=100_000,
)  # fmt: skip
LOOKS = (20, 60)  # steps after which the student is examined
EXAMINED, TAUGHT = 90, 480  # numbers of questions; the run holds out a fifth of the second, which is not used


def sampling() -> list[dict]:
    teacher, paper = labkit.teacher("atlas-3m"), Atlas("half").exam(60)
    rows = []
    for kind, skills in (("open", ("open",)), ("one answer", ONE_ANSWER)):
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
    """The student of a run, trained again because records keep no weights. The run is recorded."""
    run = runs.begin(recipe)
    runs.keep(Record(run))
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


@functools.cache
def ticket_students() -> list[tuple[str, int, Grades, list[int]]]:
    """Model, seed, grades and line numbers of the questions. Each student is trained here, because records keep no weights.

    The teacher is tuned from SmolLM2 (`labkit fetch smollm2`) the first time, which takes most of an hour.
    """
    teacher = home_dir() / "models" / "tickets-teacher"
    if not (teacher / "config.json").exists():
        tuned = {"adapter": 16, "batch": 8, "steps": 150, "longest": 8, "precision": "bf16", "score": "label_f1"}
        distill("none", "smollm2", "tickets", teacher, method="gold", **tuned)
    exp = TICKETS.but(teacher=str(teacher))
    subject = CustomTask(exp)
    exam = subject.exam(subject.teacher())
    lines = [row.line for row in split(read_rows(exp.data)).held_out]
    told = [("teacher", 0, exam.teacher_grades, lines), ("untouched", 0, exam.grade(subject.student(0)), lines)]
    for seed in range(TICKET_SEEDS):
        for arm, recipe in (("gold labels", exp.baseline().but(teacher="none")), ("distilled", exp)):
            run = runs.begin(recipe.but(seed=seed), exams=0)
            progress = Progress(every=10)
            for event in run:
                progress(event)
            told.append((arm, seed, exam.grade(run.student), lines))
            print(arm, seed, told[-1][2].skills, told[-1][2].fidelity, flush=True)
    return told


def tickets() -> list[dict]:
    return [
        {"model": who, "seed": seed, "line": line, "answer": answer.text}
        for who, seed, grades, lines in ticket_students()
        for line, answer in zip(lines, grades.answers, strict=True)
    ]


def tickets_fidelity() -> list[dict]:
    return [{"model": who, "seed": seed, **grades.fidelity} for who, seed, grades, _ in ticket_students() if who != "teacher"]


def planting() -> list[dict]:
    facts, rows = Facts(Atlas("half")), []
    for name in ("atlas-3m", *FAULTY_TEACHERS):
        teacher = labkit.teacher(name)
        exp = Experiment(teacher=name)
        asked = transfer_questions(exp, Atlas("half"))
        lies = facts.lies(Atlas("half", falsehoods=0.1 if name.endswith("lies-10") else 0.3))
        said, sampled = facts.ask(teacher), facts.taught(Signals(teacher, asked), asked)
        told = [answer for answer, lie in zip(said, facts.mark([lie or "" for lie in lies]), strict=True) if lie.text and same(answer, lie)]
        honest = [answer for answer, lie in zip(said, lies, strict=True) if lie is None]
        rows.append(
            {
                "teacher": name,
                "planted": sum(lie is not None for lie in lies),
                "states the lie": len(told) / sum(lie is not None for lie in lies),
                "confidence in lies": sum(a.probability for a in told) / len(told) if told else 0.0,
                "right on other facts": sum(a.right for a in honest) / len(honest),
                "confidence in truths": sum(a.probability for a in said if a.right) / sum(a.right for a in said),
                "right when sampled": sum(a.right for a in sampled if a) / sum(a is not None for a in sampled),
                **{f"exam, {skill}": score for skill, score in _exam(teacher).items()},
            }
        )
        print(rows[-1], flush=True)
    return rows


def _exam(teacher) -> dict[str, float]:
    return dict(Exam(Atlas("half"), None).grade(teacher).skills)


def flips() -> list[dict]:
    facts, exp = Facts(Atlas("half")), Experiment(gold=20_000)
    lies = facts.lies(Atlas("half", falsehoods=0.3))
    teacher = labkit.teacher("atlas-3m-lies-30")
    points = iter(flip_points(facts, teacher, lies))
    pool = Counter(question.fact.key for question in transfer_questions(exp, Atlas("half")))
    gold = Counter(question.fact.key for question in Atlas("half").questions(exp.gold, GOLD_SEED))
    return [
        {
            "question": q.text,
            "truth": q.answers[0],
            "lie": lie,
            "flip": next(points),
            "in pool": pool[q.fact.key],
            "in gold": gold[q.fact.key],
        }
        for q, lie in zip(facts.questions, lies, strict=True)
        if lie is not None
    ]


def _students() -> Iterator[tuple[str, Experiment, str]]:
    """Arm, recipe and the arm of its control student, seed by seed."""
    main, cures = sweep("inheritance"), sweep("inheritance_cures")
    for seed in range(SEEDS):
        for grid in (main, cures):
            for arm in grid.arms if seed < grid.seeds else ():
                yield arm, grid.recipe(arm).but(seed=seed), "honest"
        for arm, exp in NOT_ASKED.items() if seed < 3 else ():
            yield arm, exp.but(seed=seed), arm.replace("lies 30%", "honest")


def _said(exp: Experiment, facts: Facts) -> tuple[list[Graded], list[list[float | None]]]:
    """A student's answers to all facts, and its log-probabilities of lie and truth. It is trained here once; the result is stored."""
    path = made_here("inheritance") / f"{exp.key}.json"
    if not path.exists():
        student = trained(exp)
        lies = facts.lies(Atlas("half", falsehoods=0.3))
        truths = [q.answers[0] if lie is not None else None for q, lie in zip(facts.questions, lies, strict=True)]
        told = [facts.ask(student), [facts.logprobs(student, lies), facts.logprobs(student, truths)]]
        write_whole(path, lambda to: to.write_text(json.dumps(told), encoding="utf-8"))
    answers, nats = json.loads(path.read_text(encoding="utf-8"))
    return [Graded(*answer) for answer in answers], nats


@functools.cache
def _theirs(name: str) -> list[Graded | None]:
    """The answers that a student of this teacher learns: greedy ones; sampled ones for a noisy teacher, whose errors are in these."""
    facts, teacher = Facts(Atlas("half")), labkit.teacher(name)
    if "noise" not in name:
        return list(facts.ask(teacher))
    asked = transfer_questions(Experiment(), Atlas("half"))
    return facts.taught(Signals(teacher, asked), asked)


def inherited() -> list[dict]:
    facts, rows, said = Facts(Atlas("half")), [], {}
    element = [i for i, question in enumerate(facts.questions) if question.skill == "element"]
    for arm, exp, control in _students():
        answers, nats = said[arm, exp.seed] = _said(exp, facts)
        theirs = _theirs("atlas-3m-lies-30" if exp.teacher == "atlas-3m" else exp.teacher)
        some = element if "not asked" in arm else range(len(facts))
        mine, theirs, others = ([told[i] for i in some] for told in (answers, theirs, said[control, exp.seed][0]))
        found = inheritance(mine, theirs, others)
        planted = [i for i in some if nats[0][i] is not None]
        lie, truth = (sum(part[i] for i in planted) / len(planted) for part in nats)
        rows.append({"arm": arm, "seed": exp.seed, **found._asdict(), "nats_lie": lie, "nats_truth": truth})
        print(rows[-1], flush=True)
    return rows


def abstention() -> list[dict]:
    facts, rows = Facts(Atlas("half")), []
    for arm, exp, _ in _students():
        if arm in ABSTAINING:
            answers, _ = _said(exp, facts)
            rows += [{"arm": arm, "seed": exp.seed, **point._asdict()} for point in risk_coverage(answers, COVERAGES)]
    return rows


def warmth() -> list[dict]:
    teacher, said, rows = pretrained.load("smollm2"), recorded_answers.recorded(), []
    many = [s.question for s in said if s.question.skill == "open" and len(s.question.answers) > 3][:20]
    one = [q for skill in ONE_ANSWER for q in [s.question for s in said if s.question.skill == skill][:5]]
    for T in WARMTHS:
        for kind, questions in (("many answers", many), ("one answer", one)):
            asked = [q for q in questions for _ in range(DRAWS)]
            answers = written(teacher, teacher.chat.prompts([q.text for q in asked]), temperature=T, limit=32)
            for i, (q, answer) in enumerate(zip(asked, answers, strict=True)):
                text = teacher.chat.text(answer.ids)
                found = read(q, text, cut=answer.ids[-1] != teacher.chat.end)
                told = {"answer": text, "named": found.named, "right": found.right}
                rows.append({"questions": kind, "T": T, "question": q.text, "sample": i % DRAWS, **told})
        print("warmth", T, flush=True)
    return rows


def imitated() -> list[dict]:
    said = [s for s in recorded_answers.recorded() if s.question.skill in ONE_ANSWER]
    random.Random("pupils").shuffle(said)
    held, taught = said[:EXAMINED], said[EXAMINED:][:TAUGHT]

    def examined(who: str, step: int, student) -> list[dict]:
        plain = lora.merged(student) if lora.has(student) else student
        plain = plain.to(torch.bfloat16).eval()  # as a saved model
        plain.chat = student.chat
        found = [{"student": who, "step": step, "question": s.question.text} for s in held]
        return [row | likeness._asdict() for row, likeness in zip(found, beside(plain, held), strict=True)]

    rows = examined("untouched", 0, pretrained.load("smollm2-half"))
    for who in ("teacher's text", "gold labels"):
        path = made_here("labels") / f"{who.replace(' ', '-')}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [s.text if who == "teacher's text" else s.question.answers[0] for s in taught]
        pairs = zip(taught, texts, strict=True)
        path.write_text("".join(json.dumps({"prompt": s.question.text, "response": text}) + "\n" for s, text in pairs), encoding="utf-8")
        run = Run(PUPIL.but(data=str(path)), exams=0)
        for event in run:
            if isinstance(event, ev.Step) and event.step in LOOKS:
                rows += examined(who, event.step, run.student)
                print(who, event.step, flush=True)
    return rows


def drafts() -> list[dict]:
    teacher, world, rows = labkit.teacher("atlas-3m"), Atlas("half"), []
    exam, grid = Exam(world, teacher), sweep("drafts")
    how = {"do_sample": True, "max_new_tokens": LONGEST_ANSWER, "eos_token_id": EOS, "pad_token_id": EOS}
    for seed in range(grid.seeds):
        draft = trained(warm_recipe(grid.base, seed)).eval()
        before, weights = exam.grade(draft).fidelity, {name: tensor.clone() for name, tensor in draft.state_dict().items()}
        torch.manual_seed(seed)
        written = 0
        for prompt in exam.prompts:
            ids_1_T = torch.tensor([prompt])
            answer = teacher.generate(ids_1_T, attention_mask=torch.ones_like(ids_1_T), assistant_model=draft, **how)
            written += answer.shape[1] - len(prompt)
        after = exam.grade(draft).fidelity
        row = {"seed": seed, "prompts": len(exam.prompts), "tokens": written, "before": before["acceptance"], "after": after["acceptance"]}
        moved = sum(not torch.equal(tensor, weights[name]) for name, tensor in draft.state_dict().items())
        rows.append(row | {"kl before": before["kl"], "kl after": after["kl"], "tensors changed": moved})
        print(rows[-1], flush=True)
    return rows


# ---- kernels: a processor is imitated by variables that limit what PyTorch, MKL and oneDNN use of this one --------------------------

OFFERED = {  # what a processor must have for it, and the limits
    "DEFAULT": ("sse4_2", {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "AVX2": ("avx2", {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "AVX512": ("avx512_f", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"}),
    "AVX512+AMX": ("amx_tile", {}),
}
WAYS = {"output": (20, 60, 300), "hidden": (20, 60, 300), "online": (20, 60)}  # first steps over which each is measured
TWICE = 60  # steps that are run a second time
IMITATED = {"student": "57k", "learning_rate": 2e-2, "batch": 64, "questions": 512, "gold": 300, "steps": 300}
IMITATE = """
import json, sys, labkit
from labkit import models
from labkit.records import events as ev
from labkit.records.record import Record, mean
from labkit.training.loop import Run
recipe, steps, twice = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
made, run = Record(), Run(labkit.Experiment(**recipe), exams=1)
for event in run:
    made.add(event)
    if isinstance(event, ev.Step) and event.step == twice:
        weights = models.fingerprint(run.student)
    if isinstance(event, ev.Step) and event.step == steps < recipe["steps"]:
        break
losses, score = [step.values["loss"] for step in made.steps], mean(made.skills) if made.complete else None
print(json.dumps(dict(machine=made.started.machine, recipe=made.experiment.recipe, losses=losses, weights=weights, score=score)))
"""


class Kind(NamedTuple):
    kernels: str
    threads: int


def imitate(kind: Kind, way: str, steps: int) -> dict[str, Any]:
    """The losses of so many first steps with these kernels and threads, in a process of its own with an empty home; unrounded."""
    set_here = {name for _, limits in OFFERED.values() for name in limits} | {"MKL_CBWR"}
    with tempfile.TemporaryDirectory() as home:
        environment = {name: value for name, value in os.environ.items() if name not in set_here} | OFFERED[kind.kernels][1]
        environment |= {"LABKIT_HOME": home, "OMP_NUM_THREADS": str(kind.threads), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", IMITATE, json.dumps(IMITATED | {"method": way}), str(steps), str(TWICE)]
        ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ran.stdout.splitlines()[-1])


def kernels() -> list[dict]:
    """Every pair of the kernels that this processor offers, and of one and two threads: the largest relative difference of the losses of a
    step, in millionths, and the difference of the final mean core skill. Asserts that each gives the same bits when it runs again."""
    has = torch.cpu.get_capabilities()
    offered = [name for name, (needs, _) in OFFERED.items() if has.get(needs)]
    kinds = [*(Kind(name, 1) for name in offered), Kind(offered[-1], 2)]
    cells = [(kind, way, steps) for kind in kinds for way, lengths in WAYS.items() for steps in (lengths[-1], TWICE)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        told = list(pool.map(imitate, *zip(*cells, strict=True)))
    found = {}
    for (kind, way, _), whole, again in zip(cells[::2], told[::2], told[1::2], strict=True):
        same = whole["losses"][:TWICE] == again["losses"] and whole["weights"] == again["weights"]
        print(f"{way}, {whole['machine']}: {'the same bits twice' if same else 'OTHER bits the second time'}", flush=True)
        assert same, (kind, way)
        found[kind, way] = whole
    facts = {"processor": str(has.get("cpu_name", "")), "architecture": platform.machine(), "torch": torch.__version__}
    facts |= {"not_offered": ", ".join(name for name in OFFERED if name not in offered)}
    rows = []
    for way, (a, b) in itertools.product(WAYS, itertools.combinations(kinds, 2)):
        one, other = found[a, way], found[b, way]
        for steps in WAYS[way]:
            apart = max(abs(x / y - 1) for x, y in zip(one["losses"][:steps], other["losses"][:steps], strict=True))
            row = {"method": way, "a": a.kernels, "a_threads": a.threads, "b": b.kernels, "b_threads": b.threads, "steps": steps}
            row |= {"loss_millionths": 1e6 * apart, "score": abs(one["score"] - other["score"]) if steps == IMITATED["steps"] else None}
            print(row, flush=True)
            rows.append(row | {"recipe": one["recipe"]} | facts)
    return rows


MEASUREMENTS = {
    "sampling": sampling,
    "beneath": beneath,
    "left_out": omitted,
    "planting": planting,
    "flips": flips,
    "inheritance": inherited,
    "abstention": abstention,
    "task": task,
    "exposure": by_position,
    "stepwise": by_step,
    "drafts": drafts,
    "warmth": warmth,
    "imitation": imitated,
    "tickets": tickets,
    "tickets_fidelity": tickets_fidelity,
    "kernels": kernels,
}


def build(folder: Path, names: list[str] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    for name in names or list(MEASUREMENTS):
        write(folder, name, MEASUREMENTS[name](), f"labkit build measurements {name}")


if __name__ == "__main__":
    build(Path(__file__).parent.parent / "measurements", sys.argv[1:] or None)
