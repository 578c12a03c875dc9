"""The lessons: one row each, opened as `labkit.open("00")`; and the catalogue of everything the lab knows by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from labkit.errors import need, unknown
from labkit.experiment import Experiment

if TYPE_CHECKING:
    import pandas

    from labkit.live.lab import Lab


class Lesson(NamedTuple):
    """number and title as in its notebook; experiment and controls it opens with; the recorded run that is on the board until
    the learner's own; what it asks to predict, in which unit."""

    number: str
    title: str
    question: str
    minutes: int
    experiment: Experiment
    recorded: Experiment
    controls: tuple[str, ...]
    asks: str
    unit: str


PANEL = ("temperature", "mix", "learning_rate", "student", "gold", "questions", "start", "seed", "speed")

LESSONS = {
    lesson.number: lesson
    for lesson in (
        Lesson(
            number="00",
            title="Distil in a minute",
            question="How much of a teacher fits into a student fourteen times smaller, in one minute?",
            minutes=30,
            experiment=Experiment(),
            recorded=Experiment(student="57k", learning_rate=2e-2),
            controls=PANEL,
            asks="How much of the way from the gold labels to the teacher will the student go?",
            unit="recovery",
        ),
    )
}


def open(number: str, board: str = "auto", **changes) -> Lab:
    """Open a lesson; it displays itself. `board="image"` draws with plain images where the live board cannot load; `changes`
    are fields of its experiment. Raises `LabError` for an unknown lesson, `MissingPackage` without ipywidgets."""
    if number not in LESSONS:
        raise unknown("lesson", number, LESSONS)
    try:
        from labkit.live.lab import Lab, affordable
    except ModuleNotFoundError as error:
        raise need(error.name or "ipywidgets", "the live board") from None
    lesson = LESSONS[number]
    return Lab(lesson._replace(experiment=affordable(lesson.experiment.but(**changes))), board)


def catalogue(kind: str = "lessons") -> pandas.DataFrame:
    """What exists: "lessons", "methods", "divergences", "models", "skills" or "knobs", as a table."""
    import pandas

    def lessons():
        return [{"lesson": x.number, "title": x.title, "question": x.question, "minutes": x.minutes} for x in LESSONS.values()]

    def methods():
        from labkit.methods import METHODS

        return [{"method": m.name, "label": m.label, "source": m.source} for m in METHODS.values()]

    def divergences():
        from labkit.divergences import DIVERGENCES

        return [{"divergence": d.name, "label": d.label, "formula": d.formula, "source": d.source} for d in DIVERGENCES.values()]

    def models():
        from labkit.models import SIZES
        from labkit.paths import data_dir

        sizes = [{"model": name, "role": "student", **size._asdict()} for name, size in SIZES.items()]
        return sizes + [{"model": p.name, "role": "teacher"} for p in sorted((data_dir() / "teachers").glob("*/"))]

    def skills():
        from labkit.atlas import RELATIONS

        return [{"skill": r.skill, "relation": name, "wording": r.wordings[0]} for name, r in RELATIONS.items()]

    def knobs():
        from labkit.experiment import KNOBS

        return [{"knob": n, "default": e.default, "hot": e.knob.hot, "help": e.knob.help} for n, e in KNOBS.items()]

    shelves = {f.__name__: f for f in (lessons, methods, divergences, models, skills, knobs)}
    if kind not in shelves:
        raise unknown("shelf", kind, shelves)
    return pandas.DataFrame(shelves[kind]())
