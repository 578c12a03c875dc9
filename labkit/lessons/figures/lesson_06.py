"""What lesson 06 shows: how many facts fit, what moves the limit, ratios of size, more steps, other teachers, and a law of size."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import labkit
from labkit.base.errors import LabError
from labkit.base.stats import band
from labkit.lessons.figures.tables import Table
from labkit.records.record import Record, core, mean, paired
from labkit.studies import capacity, scaling
from labkit.studies.claims import CLAIMS
from labkit.studies.claims.capacity import ONE_ANSWER, REASONING, ratios, what_moves_the_limit
from labkit.tasks.atlas.facts import Atlas
from labkit.views import figures

if TYPE_CHECKING:
    import pandas

LONGER = {"hard labels, 4 x the exposures": "7k, 400 times", "hard labels, 16 x the exposures": "7k, 1,600 times"}
SIZES = ("22k", "12k", "7k", *LONGER.values())
LEVELS = {"facts": ONE_ANSWER, "sums": ("add",), "chains": ("chain",), "two-hop, in steps": ("two_hop_steps",), "two-hop": ("two_hop",)}


def learn_store(facts: int = 256, steps: int = 200) -> Table:
    """Train a student of 7,000 parameters on a store of facts, each equally often, and measure what it holds.

    steps: of 128 facts.
    """
    run = labkit.run(student="7k", learning_rate=5e-2, method="gold", teacher="none", scale="whole", facts=facts, steps=steps)
    for _ in run:
        pass
    world = Atlas("whole")
    found = capacity.held(run.student, world, world.store(facts))
    columns = ["store", "bits in the store", "bits held", "bits held a parameter", "share right"]
    row = [f"{facts} facts", f"{found.asked:,.0f}", f"{found.bits:,.0f}", capacity.per_parameter(found, run.student), found.right]
    return Table(columns, [row])


def stores() -> dict[str, dict[float, float]]:
    """For each student: bits held by bits in the store, both a parameter of the body; mean of 1 to 3 seeds."""
    told = labkit.measured("stores")
    told["asked a parameter"], told["held a parameter"] = told.asked / told.body, told.bits / told.body
    names = told.arm.map(LONGER).fillna(told.student).where(told.arm != "soft labels")
    means = {name: told[names == name].groupby("facts")[["asked a parameter", "held a parameter"]].mean() for name in SIZES}
    return {name: dict(found.itertuples(index=False, name=None)) for name, found in means.items()}


def bend() -> figures.Drawing:
    """Bits held against bits in the store."""
    series = {"all of it": figures.Line([(x, x) for x in (0.3, 0.6, 1.0, 1.7, 3.0, 5.0)], "truth", "dash")}
    for name, held in stores().items():
        role = "student" if name.startswith("7k") else "ghost"
        series[name] = figures.Line(list(held.items()), role, "dot" if "times" in name else "")
    across = "bits in the store, a parameter of the body"
    return figures.lines("Bits held", "a parameter of the body; mean of 1 to 3 seeds", series, across, log_across=True, backend="plotly")


def knees() -> Table:
    """For each student: the largest store of which it holds nine tenths, and the most that it holds of any."""
    rows = []
    for name, held in stores().items():
        knee = capacity.knee(held)
        words = {float("inf"): f"all that were tried (up to {max(held):.2f})", 0.0: f"none that was tried (from {min(held):.2f})"}
        rows.append([name, words.get(knee, f"{knee:.2f}"), f"{max(held.values()):.2f}"])
    return Table(["student", "holds nine tenths of stores up to, bits a parameter", "holds at most, bits a parameter"], rows)


def limit() -> figures.Drawing:
    """What more exposures, soft labels or a larger student change."""
    rows = [figures.Interval(name, *found[:3], "student") for name, found in what_moves_the_limit().items()]
    return figures.intervals(
        "What moves the limit?", "share of facts right, with the change minus without; 95% bands, 3 seeds", rows, zero=0
    )


def _score(run: Record, skills: Sequence[str]) -> float:
    return mean(run.skills, skills) if skills else core(run)


def skill_by_size() -> figures.Drawing:
    """Core skill, facts and reasoning by size, after the same 300 steps."""
    sizes, series = labkit.sweep("sizes"), {}
    for name, skills, dash in (("core skills", (), ""), ("facts", ONE_ANSWER, "dash"), ("reasoning", REASONING, "dot")):
        found = scaling.bands(sizes, functools.partial(_score, skills=skills))
        series[name] = figures.Line([(n, b.middle) for n, b in found.items()], dash=dash, bands=[b[1:3] for b in found.values()])
    teacher = sizes.records("57k")[0].numbers("parameters")["teacher"]
    marks = {f"{ratio:g} x smaller": teacher / ratio for ratio in (10, 3.5)}
    note = "share right; students of atlas-3m, 300 steps; 95% bands, 3 seeds"
    return figures.lines("Skill and size", note, series, "parameters", log_across=True, marks=marks, backend="plotly")


def recovered() -> pandas.DataFrame:
    """For each ratio of sizes: recovery, and the student's score divided by the teacher's, of all and of some skills."""
    import pandas

    groups = {"facts": ONE_ANSWER, "sums": ("add",), "chains": ("chain",)}
    rows = {}
    for name, runs in {"51 times, 300 steps": labkit.sweep("sizes").records("57k"), **ratios()}.items():
        found = [run.recovery() for run in runs]
        rows[name] = {"recovery": band([f.mean for f in found]).middle, "student / teacher": band([f.ratio for f in found]).middle}
        for group, skills in groups.items():
            rows[name][group] = band([mean(f.student, skills) / mean(f.teacher, skills) for f in found]).middle
    return pandas.DataFrame(rows).T.round(2)


def longer() -> figures.Drawing:
    """Skills of a 22k student after 300 and 3,000 steps, beside larger ones after 300."""
    told, sizes = labkit.measured("budgets").set_index("steps"), labkit.sweep("sizes")
    students: dict[str, list[Mapping[str, float]]]
    students = {f"22k, {steps:,}": [dict(row) for _, row in told.loc[steps].iterrows()] for steps in (300, 3_000)}
    students |= {f"{size}, 300": [run.skills for run in sizes.records(size)] for size in ("57k", "200k")}
    cells = []
    for skills in LEVELS.values():
        bands = [band([mean(scores, skills) for scores in runs]) for runs in students.values()]
        cells.append([figures.Cell(b.middle, b.high - b.middle) for b in bands])
    note = "share right ± half of the 95% band, 3 seeds; framed: the best student of the row"
    return figures.heat("More steps, or more size", note, list(LEVELS), list(students), cells, "size, steps", backend="plotly")


def teachers() -> figures.Drawing:
    """What an assistant adds, and what a stronger teacher adds."""
    helped, weaker = labkit.sweep("assistant"), CLAIMS["stronger teacher"].measure().effects
    bands = {f"22k: {arm}": paired(helped.records(arm), helped.records("directly")) for arm in list(helped.arms)[1:]}
    for name, found in weaker.items():
        size, other = name.removesuffix(" in its training").split(" student, ")
        bands[f"{size}: atlas-3m, not {other}"] = found
    rows = [figures.Interval(name, *found[:3], "student") for name, found in bands.items()]
    return figures.intervals("What another teacher adds", "mean core skill; 95% bands, 3 seeds", rows, zero=0)


def sizes_for(targets: Iterable[float]) -> Table:
    """The parameters that a law of size needs for these core skills."""
    law, rows = scaling.fit("logistic", scaling.points(labkit.sweep("sizes"), core)), []
    for target in targets:
        try:
            need = law.size_for(target)
            rows.append([f"{target:g}", f"{need.middle:,.0f}", f"{need.low:,.0f} to {need.high:,.0f}"])
        except LabError:
            top = law.limits()
            rows.append(
                [f"{target:g}", "out of reach", f"by this law size alone leads to {top.middle:.2f} ({top.low:.2f} to {top.high:.2f})"]
            )
    return Table(["core skill", "parameters", "95% interval"], rows)
