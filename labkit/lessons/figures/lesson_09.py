"""Figures and tables of lesson 09: how far a student strays on its own answers, what online training adds, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.base.stats import Band, band
from labkit.records.cost import cost
from labkit.records.measurements import measured
from labkit.records.names import BESIDE
from labkit.records.record import Record, core, mean, paired
from labkit.studies.claims.online import HALF, OFFLINE, QUARTER, STEPPED, TENTH
from labkit.studies.sweep import Sweep, sweep
from labkit.views import figures

if TYPE_CHECKING:
    import pandas

TAUGHT = {OFFLINE: "taught on the teacher's answers alone", HALF: "half of its training answers its own"}
LONGER = "teacher's answers, 330 steps"


def positions(student: Any, skill: str = "two_hop_steps") -> pandas.DataFrame:
    """A student's KL to atlas-3m by position, in nats, on held-out questions of one skill.

    student: a model, such as the one of an open lesson.
    """
    import pandas

    import labkit
    from labkit.studies.exposure import exposure

    questions = [question for question in labkit.Atlas("half").exam(60) if question.skill == skill]
    rows = exposure(labkit.teacher("atlas-3m"), student, questions)[:6]
    told = pandas.DataFrame(rows).set_index("position")[["teacher", "own", "own_rows"]].round(2)
    return told.set_axis(["KL on the teacher's answer", "KL on its own answer", "own answers that reach it"], axis=1)


def strays(skill: str = "two_hop_steps", arm: str = OFFLINE) -> figures.Drawing:
    """KL to the teacher at each position, on the teacher's answers and on the student's own.

    skill: "two_hop_steps" or "chain".
    arm: "teacher's answers" or "half online throughout".
    """
    told = measured("exposure")
    of = told[(told.arm == arm) & (told.skill == skill)].groupby("position")
    series = {}
    for side, name, role in (("teacher", "on the teacher's answers", "teacher"), ("own", "on its own answers", "student")):
        bands = {at: band(list(values)) for at, values in of[side] if len(values) > 2}
        ends = [(max(0.0, b.low), b.high) for b in bands.values()]
        series[name] = figures.Line([(at, b.middle) for at, b in bands.items()], role, bands=ends)
    note = f"KL to the teacher, nats a token; {TAUGHT[arm]}; 95% bands, 3 seeds, cut at 0"
    return figures.lines(STEPPED[skill].capitalize(), note, series, "position in the answer")


def steps_right() -> pandas.DataFrame:
    """Shares of right steps in answers with steps: the first, and the last after a right first and after the student's own."""
    told = measured("stepwise")
    of = told[told.arm.isin((OFFLINE, HALF, "teacher"))].groupby(["skill", "arm"])
    found = of[["first", "given", "own"]].mean().rename(index=STEPPED, level=0).round(2)
    return found.set_axis(["own first step right", "last step right after a right first", "after its own first"], axis=1)


def _in_steps(record: Record) -> float:
    return mean(record.skills, BESIDE)


def _online() -> tuple[Sweep, list[float]]:
    grid = sweep("online")
    return grid, list(grid.grid["on_policy"])


def by_share() -> figures.Drawing:
    """Scores by the share of training answers that the student writes."""
    grid, shares = _online()
    series = {}
    for name, score, dash in (("core skills", core, ""), ("answers in steps", _in_steps, "dash")):
        bands = [band([score(run) for run in grid.records(on_policy=share)]) for share in shares]
        points = [(share, b.middle) for share, b in zip(shares, bands, strict=True)]
        series[name] = figures.Line(points, "student", dash, [(b.low, b.high) for b in bands])
    return figures.lines("Skill by share of own answers", "mean score; 95% bands, 3 seeds", series, "share of own answers")


def meter() -> pandas.DataFrame:
    """What each arm scores and costs: mean over seeds, in thousands of tokens and in TFLOP of student and teacher."""
    import pandas

    grid, rows = sweep("online_finish"), {}
    for arm in grid.arms:
        runs = grid.records(arm)
        spent = pandas.DataFrame([cost(run)._asdict() for run in runs]).mean()
        rows[arm] = {
            "core skill": band([core(run) for run in runs]).middle,
            "k tokens the student wrote": spent.written_tokens / 1000,
            "k tokens the teacher read": spent.teacher_tokens / 1000,
            "TFLOP": (spent.student_flops + spent.teacher_flops) / 1e12,
        }
    return pandas.DataFrame(rows).T.round(2)


def _at(runs: list[Record]) -> tuple[float, float]:
    return band([cost(run).flops / 1e12 for run in runs]).middle, band([core(run) for run in runs]).middle


def by_cost() -> figures.Drawing:
    """Core skill by the arithmetic of a run, for more own answers, more steps, and last steps online."""
    (grid, shares), finish = _online(), sweep("online_finish")
    series = {
        "more own answers": figures.Line([_at(grid.records(on_policy=share)) for share in shares]),
        "more steps": figures.Line([_at(finish.records(arm)) for arm in (OFFLINE, LONGER)], "baseline"),
        "last steps online": figures.Line([_at(finish.records(arm)) for arm in (TENTH, QUARTER)], "student", "dash"),
    }
    note = "mean core skill, 3 seeds; arithmetic of student and teacher, labels on the teacher's answers at hand"
    return figures.lines("Skill by cost", note, series, "TFLOP a run", backend="plotly")


def gains() -> figures.Drawing:
    """What online steps, and more steps, change against the teacher's answers alone."""
    grid, rows = sweep("online_finish"), []
    for arm in list(grid.arms)[1:]:
        for name, score in (("core skills", core), ("answers in steps", _in_steps)):
            found: Band = paired(grid.records(arm), grid.records(OFFLINE), score)
            rows.append(figures.Interval(f"{arm}: {name}", *found[:3], "student", found.verdict))
    return figures.intervals("What each arm adds", "score minus that on the teacher's answers alone; 95% bands, 3 seeds", rows, zero=0)
