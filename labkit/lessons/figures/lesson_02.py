"""Figures of lesson 02: what rises beneath the first guess, where a temperature pays, and what a writing teacher trades."""

from __future__ import annotations

from labkit.base.errors import LabError
from labkit.base.stats import band
from labkit.lessons.figures.tables import Table
from labkit.records.measurements import measured
from labkit.studies.claims import STARTS, runs_of
from labkit.studies.sweep import sweep
from labkit.views import figures

DIRECTIONS = {"forward_kl": "forward KL", "reverse_kl": "reverse KL"}


def beneath() -> figures.Drawing:
    """What the teacher's probability beside its first guess lies on, by T."""
    told = measured("beneath").groupby("T").valid.mean()
    series = {"on other right answers": figures.Line(list(told.items()), "teacher")}
    note = "of the probability that is not on the first guess, the share on tokens that begin another right answer"
    return figures.lines("What lies beneath the first guess", note, series, "T of the loss")


def heat() -> figures.Drawing:
    """Recovery by student, start, direction of the KL, and T: one map with one scale of shades."""
    grid = sweep("temperature")
    columns = grid.grid["temperature"]
    names, cells = [], []
    for direction, said in DIRECTIONS.items():
        for start in STARTS:
            for size in grid.arms:
                runs = [runs_of(grid, size, start=start, temperature=T, divergence=direction) for T in columns]
                found = [band([run.recovery().mean for run in each]) for each in runs]
                names.append(f"{said}, {start}, {size}")
                cells.append([figures.Cell(b.middle, b.high - b.middle) for b in found])
    note = "share of the gap between 300 true answers and the teacher; \u00b1 95% band of 3 seeds; frame: best of its row"
    return figures.heat("Recovery by temperature", note, names, [f"T = {T:g}" for T in columns], cells, backend="plotly")


def sampling() -> figures.Drawing:
    """How many of 16 sampled answers are right, and how many differ, by the sampling temperature."""
    told = measured("sampling").groupby(["questions", "T"])[["distinct", "valid"]].mean()
    series = {}
    for kind, dash in (("open", ""), ("one answer", "dash")):
        series[f"right, {kind}"] = figures.Line(list(told.loc[kind, "valid"].items()), "truth", dash)
        series[f"different, {kind}"] = figures.Line(list(told.loc[kind, "distinct"].items()), "teacher", dash)
    note = "shares of 16 sampled answers; solid: open questions, dashed: questions with one answer"
    return figures.lines("Variety and truth", note, series, "sampling temperature")


def written(question: str, temperatures: tuple[float, ...], samples: int = 8) -> Table:
    """What the teacher writes to one question at some sampling temperatures.

    samples: answers at each.

    Raises `LabError` for a question that Atlas does not know.
    """
    import labkit
    from labkit.teachers.text_data import generate

    if (asked := labkit.Atlas().find(question)) is None:
        raise LabError(f"{question!r} is no question of Atlas: ask as in 'Name a neighbour of France.'")
    teacher = labkit.teacher("atlas-3m")
    rows = []
    for T in temperatures:
        said = generate(teacher, [asked], "sample", temperature=T, samples=samples, seed=1).rows
        rows.append([f"T = {T:g}", ", ".join(row.response for row in said)])
    return Table(["sampling temperature", f"{samples} answers to: {question}"], rows)
