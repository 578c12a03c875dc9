"""Figures and tables of lesson 13: a student of your own data beside its baselines, and a real pair on the same terms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.base.stats import Band, band
from labkit.lessons.figures.tables import Table
from labkit.records.measurements import measured
from labkit.records.record import Record, mean
from labkit.studies.sweep import sweep
from labkit.tasks.custom.rows import read_rows
from labkit.tasks.metrics import Score, better, metric
from labkit.views import figures

TICKETS = "label_f1"  # the score of the tickets
SAYS = {"better": "higher", "worse": "lower"}  # of a paired difference


def read(lines: Sequence[str], name: str = "mine.jsonl") -> Table:
    """What the lab makes of a file with these lines: how many rows it can use, and what is wrong with the others."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / name).write_text("\n".join(lines), encoding="utf-8")
        said = read_rows(path).summary.removeprefix(f"{path}: ").splitlines()
    rows: list[list[str]] = []
    for line in filter(str.strip, said):
        where, _, what = line.strip().partition(": ") if line.lstrip().startswith("line ") else ("", "", line)
        rows.append([where, what])
    return Table(["", name], rows)


def scored(score: Any, held: Sequence[Any]) -> Table:
    """Two checks of a score: what the references themselves get, and what one answer to all gets.

    score: of `labkit.tasks.metrics.metric`.
    held: rows that are held out.
    """
    always = held[0].response
    rows = {"the references themselves": score.check(held), f"always {always!r}".replace("'", ""): score([always] * len(held), held)}
    return Table(["answers", "score", "band, low", "band, high"], [[name, *found.band[:3]] for name, found in rows.items()])


def three(record: Record, student: Any) -> Table:
    """Scores of a record's untouched student, of the student, and of their teacher on the held-out prompts, and what distilling added.

    student: the distilled model, such as the one of an open lesson.
    """
    from labkit.training.setup import CustomTask

    task = CustomTask(record.experiment)
    exam: Any = task.exam(task.teacher())
    answers = {"untouched": exam.grade(task.student(0)).answers, "distilled": exam.grade(student).answers, "teacher": exam.teacher_answers}
    found = {name: exam.scored(given) for name, given in answers.items()}
    rows = [[name, *score.band[:3], ""] for name, score in found.items()]
    return Table(
        ["", "score", "band, low", "band, high", "says"],
        [*rows, _added("distilled minus untouched", found["distilled"], found["untouched"])],
    )


def _added(name: str, more: Score, less: Score) -> list[Any]:
    difference: Band = better(more, less)
    return [name, *difference[:3], SAYS.get(difference.verdict, difference.verdict)]


def ways() -> figures.Drawing:
    """The recorded student of `faq` on some gold labels, on all of them, and distilled."""
    grid = sweep("own")
    arms = {
        "100 gold labels": [run.scores["label budget"] for run in grid.records("distilled")],
        "all 484 gold labels": [run.skills for run in grid.records("all gold labels")],
        "distilled, no gold label": [run.skills for run in grid.records("distilled")],
    }
    bands = {name: band([mean(skills) for skills in runs]) for name, runs in arms.items()}
    rows = [figures.Interval(name, *b[:3], "student" if "distilled" in name else "baseline") for name, b in bands.items()]
    return figures.intervals("faq: the same student, three ways", "exact match; 95% bands over 3 seeds", rows)


def _pair() -> dict[str, Score]:
    told, lines = measured("tickets"), {row.line: row for row in read_rows("tickets")}
    some = {name: told[(told.model == name) & (told.seed == 0)] for name in ("untouched", "gold labels", "distilled", "teacher")}
    return {name: metric(TICKETS)(list(of.answer), [lines[line] for line in of.line]) for name, of in some.items()}


def tickets() -> figures.Drawing:
    """Recorded scores of SmolLM2 and half of its layers on held-out tickets."""
    roles = {"distilled": "student", "teacher": "teacher"}
    rows = [figures.Interval(name, *found.band[:3], roles.get(name, "baseline")) for name, found in _pair().items()]
    return figures.intervals("Tickets, SmolLM2 and half of its layers", "label F1; 95% bands over 123 held-out tickets, seed 0", rows)


def tickets_added() -> Table:
    """What distilling added to the tickets' score, paired by ticket, and how near each student is to its teacher."""
    pair, near = _pair(), measured("tickets_fidelity").set_index("model")
    rows = [
        [*_added(f"distilled minus {name}", pair["distilled"], pair[name]), near.kl["distilled"], near.kl[name]]
        for name in pair
        if name in near.index and name != "distilled"
    ]
    return Table(["", "difference", "band, low", "band, high", "says", "KL to the teacher", "the other's KL"], rows)
