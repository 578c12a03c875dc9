"""Figures of lesson 04: four ways to distil on equal questions and in equal time, what each buys, a peer, and money."""

from __future__ import annotations

from labkit.base.stats import Band, band
from labkit.lessons.figures.tables import Table
from labkit.records.cost import Prices, cost
from labkit.records.names import CORE
from labkit.records.record import core, mean, paired
from labkit.studies.claims import ARMS, CLAIMS, STARTS, runs_of, seconds_a_step
from labkit.studies.sweep import Sweep, sweep
from labkit.views import figures

AGAINST, GOLD = "hard answers", "300 true answers"
GRIDS = {"questions": "ladder", "time": "ladder_time"}
LINES = {  # of the article's table: the ladder's arm, and what it is compared with
    "output": ("output", GOLD),
    "feature": ("hidden states", "output"),
    "sequence": ("teacher's text", GOLD),
    "online": ("online", "output"),
}


def ways(equal: str) -> figures.Drawing:
    """Each way to distil minus the teacher's answers as hard labels, from both starts.

    equal: "questions" or "time".
    """
    grid, rows = sweep(GRIDS[equal]), []
    for start in STARTS:
        plain = runs_of(grid, f"{AGAINST}, {start}")
        for arm in ARMS:
            if arm != AGAINST:
                runs = runs_of(grid, f"{arm}, {start}")
                name = f"{start} start: {'soft labels' if arm == 'output' else arm}"
                rows.append(figures.Interval(name, *paired(runs, plain)[:3], note=f"{runs[0].experiment.steps} steps"))
    note = "mean core skill minus that of hard labels, the dotted line; 95% bands, 5 seeds; right of it is better"
    return figures.intervals(f"Equal {equal}", note, rows, zero=0)


def beside() -> Table:
    """What the mean hides: the ladder's arms by other numbers, mean over seeds."""
    closed = [skill for skill in CORE if skill != "open"]
    rows = []
    for start in STARTS:
        for arm in ARMS:
            runs = runs_of(sweep("ladder"), f"{arm}, {start}")
            numbers = [
                [core(r) for r in runs],
                [mean(r.skills, closed) for r in runs],
                [r.exam.open["coverage"] for r in runs],
                [r.exam.fidelity["kl"] for r in runs],
                [r.exam.truth["right"] for r in runs],
                [1000 * seconds_a_step(runs[0])],  # the first seed ran alone on its machine
            ]
            means = [sum(values) / len(values) for values in numbers]
            rows.append([f"{start}: {'soft labels' if arm == 'output' else arm}", *means[:-1], f"{means[-1]:.0f}"])
    heads = ["core", "core without open", "coverage", "KL to the teacher", "right answers", "ms a step"]
    return Table(["start and way", *heads], rows)


def article() -> Table:
    """The article's four lines, and the verdict under each condition."""
    rows = []
    for name, (arm, against) in LINES.items():
        effects = [_more(sweep(grid), arm, against, start) for grid in GRIDS.values() for start in STARTS]
        told = [f"{effect.middle:+.2f} {effect.verdict}".replace("-", "\u2212") for effect in effects]
        rows.append([CLAIMS[name].text, "soft labels" if against == "output" else against, *told])
    conditions = [f"{start} start, equal {equal}" for equal in GRIDS for start in STARTS]
    return Table(["the article says", "compared with", *conditions], rows)


def _more(grid: Sweep, arm: str, against: str, start: str) -> Band:
    runs = runs_of(grid, f"{arm}, {start}")
    if against == GOLD:
        return band([core(run) - mean(run.scores["label budget"]) for run in runs])
    return paired(runs, runs_of(grid, f"{against}, {start}"))


def adapters() -> Table:
    """The student trained whole, and through a LoRA adapter."""
    grid, rows = sweep("ladder"), []
    for name in ("teacher's text, warm", "teacher's text, LoRA, warm"):
        found = band([core(r) for r in runs_of(grid, name)])
        rows.append([name, found.middle, f"{found.low:.2f} to {found.high:.2f}"])
    return Table(["arm", "mean core skill", "95% band, 5 seeds"], rows)


def peers() -> figures.Drawing:
    """What a second student adds that trains beside the first, without a teacher."""
    pair, rows = sweep("mutual"), []
    for gold in pair.grid["gold"]:
        found = paired(runs_of(pair, "mutual", gold=gold), runs_of(pair, "alone", gold=gold))
        rows.append(figures.Interval(f"{gold:,} true answers", *found[:3], note=found.verdict))
    note = "mean core skill with a peer minus alone; 95% bands, 5 seeds; right of the line is better"
    return figures.intervals("What a peer adds", note, rows, zero=0)


def prices(machine_hour: float = 0.10) -> Table:
    """What a run of the ladder costs, by way.

    machine_hour: price of an hour of the machine.
    """
    rows = []
    for arm in ("output", "hidden states", "teacher's text", "online"):
        spent = cost(runs_of(sweep("ladder"), f"{arm}, warm")[0])
        price = sum(spent.money(Prices(machine_hour=machine_hour)).values())
        rows.append([arm, f"{spent.seconds:.0f}", f"{spent.flops / 1e12:.1f}", f"{spent.teacher_tokens:,}", f"{price:.5f}"])
    return Table(["way, warm start", "seconds", "TFLOP", "tokens the teacher read or wrote", "price of a run"], rows)
