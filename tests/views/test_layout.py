"""No label of a figure lies on another, is cut off, or is too small to read: for every figure of the package and of the lessons."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
from layout import problems
from stories import GOLD, HARD, STUDENT, events, record

from labkit import lessons
from labkit.records import events as ev
from labkit.records.record import Record
from labkit.views import figures
from labkit.views.figures import Cell, Drawing, Interval, Line

LONG = "the teacher's answers, three times as many of them, and then the last quarter of the run online"
ROWS = [
    Interval("from a teacher of its own size, early in training, not directly", 0.02, -0.11, 0.15, note="not distinguishable"),
    Interval("atlas-3m, not atlas-3m-late", 0.31, 0.2, 0.42, "teacher", note="students are better in 3 of 4 conditions"),
    Interval("gold", -12.345, role="baseline"),
    Interval(LONG, 1.0, 0.99, 1.01, "ghost"),
]


def taught(rec: Record) -> Record:
    """The run with an acceptance at each exam."""
    for e in rec.evaluations:
        e.fidelity.update(acceptance=0.71, agreement=0.72)
    return rec


def turned() -> Record:
    """A run whose knobs were turned five times within a moment, and once at its end."""
    story = events(700, hard=HARD, seeds=3)
    for i, name in enumerate(("temperature", "learning_rate", "gold_weight", "speed", "temperature")):
        story.insert(200 + i, ev.KnobTurned(190 + 4 * i, 14.0, name, 0.123456, 2.5))
    story.insert(-4, ev.KnobTurned(699, 30.0, "learning_rate", 0.006, 0.0001))
    return Record(story)


RUNS = {
    "plain": record(700, hard=HARD),
    "at the end of the scale": record(60, teacher=dict.fromkeys(STUDENT, 1.0), student=dict.fromkeys(STUDENT, 0.999), gold=GOLD, hard=HARD),
    "level": record(60, teacher=GOLD, student=GOLD, gold=GOLD, hard=GOLD, seeds=3),
    "not measured": record(60, gold=None, teacher=None, student=None, end=False),
    "turned": turned(),
    "own data": record(
        60, teacher={"label_f1": 0.9}, gold={"label_f1": 0.5}, student={"label_f1": 0.7}, data="mine.jsonl", score="label_f1"
    ),
    "long": record(1_200, title="A title of a run that is longer than a page is wide, as titles of runs on data of one's own are. " * 2),
}
COSTS = (0.1315694, 0.154178, 1.396, 5.283)
SERIES = {
    "crowded": {
        f"line {i} of many, each with a name that is too long for one line": Line([(0, 0.5), (4, 0.5)], "student") for i in range(9)
    },
    "costs": {"more steps": Line([(x, 0.5) for x in COSTS], "baseline"), "last steps online": Line([(1, 0.6)], "truth", "dash")},
    "many": {"all": Line([(i, i * 1_000_000.0) for i in range(1, 40)], "teacher", bands=[(-3e6, 9e6)] * 39)},
    "one": {"x": Line([(2, 0.0)], "ghost")},
    "tiny": {"x": Line([(0.000123, 0.00001), (0.000124, 0.1)], "alarm", "dot")},
}
MARKS = {"10 x smaller": 1.1, "3.5 x smaller": 1.2, "the teacher's size": 1.3, "a place at the end": 3.9}
NAMES = ["France", "a name of a bar that is longer than is usual, in two lines", "\u2423Sao Tome and Principe \u2713"]
GROUPS = {"teacher": [0.3, -0.2, 0.0], "student": [0.5, 12.25, -0.125], "ghost": [0.1, 0.2, 0.3]}
CELLS = [[Cell(0.5, 0.02), None, Cell(-10.25, 1.5)], [Cell(0.7), Cell(0.1, 0.1), None]]
WIDE = [[Cell(0.01 * i, 0.1) for i in range(12)]] * 2

FIGURES = {
    **{f"waterfall, {name}": ("waterfall", lambda b, rec=rec: figures.waterfall(rec, b)) for name, rec in RUNS.items()},
    **{
        f"curves, {name}": ("curves", lambda b, rec=rec: figures.curves(rec, previous=RUNS["plain"], backend=b))
        for name, rec in RUNS.items()
    },
    **{
        f"recovery, {name}": ("recovery", lambda b, rec=rec: figures.recovery(rec, "same questions", backend=b))
        for name, rec in RUNS.items()
    },
    **{f"snapshot, {name}": ("snapshot", lambda b, rec=rec: figures.snapshot(rec, previous=RUNS["plain"])) for name, rec in RUNS.items()},
    "acceptance": ("acceptance", lambda b: figures.acceptance(taught(record(60)), previous=taught(record(60, noise=1)), backend=b)),
    "no acceptance": ("acceptance", lambda b: figures.acceptance(RUNS["plain"], backend=b)),
    "snapshot, a draft's": ("snapshot", lambda b: figures.snapshot(taught(record(60)), unit="acceptance")),
    "speedups": ("speedups", lambda b: figures.speedups(0.99, 12, 0.1234, 0.123, backend=b)),
    "bars": ("bars", lambda b: figures.bars("Gradients", f"by token: {LONG}", NAMES, GROUPS, backend=b)),
    "intervals": ("intervals", lambda b: figures.intervals(LONG, LONG, ROWS, zero=0, backend=b)),
    "intervals without notes": ("intervals", lambda b: figures.intervals("Title", "", [r._replace(note="") for r in ROWS], backend=b)),
    "one interval": ("intervals", lambda b: figures.intervals("Title", "note", [Interval("a", 0.5)], zero=0.5, backend=b)),
    **{f"lines, {name}": ("lines", lambda b, of=of: figures.lines("Title", LONG, of, LONG, backend=b)) for name, of in SERIES.items()},
    "log lines": ("lines", lambda b: figures.lines("Title", "n", SERIES["many"], "steps", log=True, backend=b)),
    "marked lines": ("lines", lambda b: figures.lines("T", "n", SERIES["costs"], "TFLOP", log_across=True, marks=MARKS, backend=b)),
    "heat": ("heat", lambda b: figures.heat("Map", LONG, [LONG, "b"], ["T = 1", LONG, "last"], CELLS, "size of it", backend=b)),
    "wide heat": (
        "heat",
        lambda b: figures.heat("Map", "n", ["a row", "b"], [f"column {i}" for i in range(12)], WIDE, backend=b, scale=(-1, 1)),
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_labels_of_a_figure_are_clear(name):
    assert problems(FIGURES[name][1]("plotly")) == []


def test_every_figure_of_the_package_is_among_them():
    public = {name for name, made in vars(figures).items() if inspect.isfunction(made) and made.__annotations__.get("return") == "Drawing"}
    assert public - {"_finish"} == {kind for kind, _ in FIGURES.values()}


def of_lessons() -> dict[str, object]:
    """The functions without arguments in labkit/lessons/figures, by name."""
    found = {}
    for part in pkgutil.iter_modules(lessons.__path__):
        if part.name == "figures":
            package = importlib.import_module("labkit.lessons.figures")
            for module in pkgutil.iter_modules(package.__path__):
                inside = importlib.import_module(f"labkit.lessons.figures.{module.name}")
                for name, made in vars(inside).items():
                    if inspect.isfunction(made) and made.__module__ == inside.__name__ and not name.startswith("_"):
                        needed = [p for p in inspect.signature(made).parameters.values() if p.default is p.empty]
                        if not needed:
                            found[f"{module.name}.{name}"] = made
    return found


@pytest.mark.parametrize("name", of_lessons())
def test_labels_of_a_lessons_figure_are_clear(name):
    drawing = of_lessons()[name]()
    assert problems(drawing) == [] if isinstance(drawing, Drawing) else drawing is not None


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda pen: (pen.text(0.5, 0.5, "one"), pen.text(0.52, 0.5, "other")), "'one' and 'other' overlap"),
        (lambda pen: pen.text(0.99, 0.5, "beyond the edge"), "'beyond the edge' is cut off"),
        (lambda pen: pen.text(0.5, 0.5, "small", size=7), "'small' has letters of 9.7 pixels"),
        (lambda pen: (pen.dots([0.5], [0.5], "#000000", "o", 6), pen.text(0.5, 0.5, "under", align="center")), "'under' is over a dot"),
    ],
)
def test_a_fault_is_found_in_both_libraries(broken, said):
    def draw(pen):
        pen.frame((0, 1), (0, 1))
        broken(pen)

    found = problems(figures._finish("plotly", 4, 2, draw, "alt"))
    assert [part.split(":")[0] for part in found] == ["matplotlib", "plotly"]
    assert all(said in part for part in found)
