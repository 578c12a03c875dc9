"""The lessons, one row each, opened by `labkit.open("00")`; and the catalogue of everything that has a name in the lab."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from labkit.base.errors import need, unknown
from labkit.base.interrupts import uninterrupted
from labkit.base.kinds import kinds_checked
from labkit.lessons.types import Lesson
from labkit.records.experiment import Experiment

if TYPE_CHECKING:
    import pandas

    from labkit.lessons.lab import Lab


PANEL = ("temperature", "student", "gold", "mix", "learning_rate", "questions", "start", "seed", "speed")
SMALL = Experiment(student="57k", learning_rate=2e-2, steps=400)  # trains for about twenty seconds, so that a lesson can compare runs

DRAFT = SMALL.but(start="warm", gold=20_000, steps=300)  # as in data/sweeps/drafts.toml
OWN = Experiment(student="57k", data="faq", longest=12, learning_rate=2e-2, batch=64, steps=200, gold=100)  # as in data/sweeps/own.toml

LESSONS = {
    lesson.number: lesson
    for lesson in (
        Lesson(
            number="00",
            title="Distil in a minute",
            question="How much of a teacher fits into a student thirteen times smaller, in one minute?",
            minutes=30,
            experiment=Experiment(),
            recorded=Experiment(student="57k", learning_rate=2e-2),
            controls=PANEL,
            asks="How much of the way from the gold labels to the teacher will the student go?",
            unit="recovery",
        ),
        Lesson(
            number="01",
            title="Soft targets",
            question="How much do soft labels add over hard labels?",
            minutes=40,
            experiment=SMALL.but(questions=2_000),
            recorded=SMALL.but(questions=2_000, method="sequence", decoding="sample"),
            controls=("method", "temperature", "questions", "gold", "samples", "left_out", "student", "start", "seed"),
            asks="How far will the student go with soft labels on 2,000 questions?",
            unit="recovery",
        ),
        Lesson(
            number="02",
            title="Temperature",
            question="What does T do to a loss, what does it do to a text, and for whom does it pay?",
            minutes=40,
            experiment=SMALL.but(temperature=2.0),
            recorded=SMALL,
            controls=("temperature", "divergence", "student", "mix", "start", "learning_rate", "seed", "speed"),
            asks="How far will the student go at T = 2?",
            unit="recovery",
        ),
        Lesson(
            number="03",
            title="Loss anatomy",
            question="Which divergence, divided by what, over which tokens?",
            minutes=40,
            experiment=SMALL.but(divergence="reverse_kl"),
            recorded=SMALL,
            controls=("divergence", "temperature", "top_k", "beta", "skew", "tail", "student", "start", "seed"),
            asks="How far will the student go with reverse KL from a random start?",
            unit="recovery",
        ),
        Lesson(
            number="04",
            title="Four ways to distil",
            question="Logits, hidden states, text, or on-policy: which gives more per unit of compute?",
            minutes=45,
            experiment=SMALL.but(method="online", start="warm"),
            recorded=SMALL.but(start="warm"),
            controls=(
                *("method", "on_policy", "start", "sampling_temperature", "replay", "feature", "layers"),
                *("decoding", "keep", "adapter", "learning_rate", "gold", "seed"),
            ),
            asks="How far will the online student go from its warm start?",
            unit="recovery",
        ),
        Lesson(
            number="05",
            title="Sequence at scale",
            question="What does a teacher's text cost, how much of it is right, and does it teach style or facts?",
            minutes=45,
            experiment=SMALL.but(method="sequence", start="warm", adapter=8, learning_rate=1e-2, steps=200, questions=1_000),
            recorded=SMALL.but(method="sequence", start="warm", learning_rate=4e-2),
            controls=(
                *("adapter", "decoding", "samples", "sampling_temperature", "keep"),
                *("questions", "gold", "start", "learning_rate", "seed"),
            ),
            asks="How far will the warm student go with an adapter and a thousand answers?",
            unit="recovery",
        ),
        Lesson(
            number="06",
            title="The capacity floor",
            question="What fits into a student, what does not, and what moves the limit?",
            minutes=45,
            experiment=Experiment(student="22k", learning_rate=3e-2, steps=300),
            recorded=Experiment(student="57k", learning_rate=2e-2, steps=300),
            controls=(
                *("student", "learning_rate", "steps", "questions", "teacher", "assistant"),
                *("method", "gold", "start", "seed", "speed"),
            ),
            asks="How far will a student with a 128th of the teacher's parameters go?",
            unit="recovery",
        ),
        Lesson(
            number="07",
            title="Mismatch",
            question="How well does distillation work across tokenizers, tasks and architectures?",
            minutes=45,
            experiment=SMALL.but(vocabulary="other"),
            recorded=SMALL,
            controls=(
                *("vocabulary", "architecture", "method", "across", "left_out", "divergence"),
                *("temperature", "student", "start", "learning_rate", "seed"),
            ),
            asks="How far will a student go that shares no token id with its teacher?",
            unit="recovery",
        ),
        Lesson(
            number="08",
            title="Hallucination inheritance",
            question="Which of a teacher's errors does its student take over, and what stops them?",
            minutes=40,
            experiment=SMALL.but(teacher="atlas-3m-lies-30"),
            recorded=SMALL,
            controls=("teacher", "method", "gold", "mix", "decoding", "samples", "keep", "left_out", "temperature", "start", "seed"),
            asks="How far will the student of a lying teacher go?",
            unit="recovery",
        ),
        Lesson(
            number="09",
            title="Online cost",
            question="Does a student drift from its teacher on its own answers, and does on-policy training pay?",
            minutes=40,
            experiment=SMALL.but(method="online", start="warm", steps=200, on_policy=1.0, online_from=0.75),
            recorded=SMALL.but(method="online", start="warm", steps=200, on_policy=0.0),
            controls=(
                *("on_policy", "online_from", "sampling_temperature", "replay", "divergence"),
                *("start", "learning_rate", "gold", "seed"),
            ),
            asks="How far will the student go with its last quarter online?",
            unit="recovery",
        ),
        Lesson(
            number="10",
            title="Speculative decoding",
            question="When does a draft make decoding faster?",
            minutes=45,
            experiment=DRAFT,
            recorded=DRAFT.but(method="gold"),
            controls=("method", "divergence", "student", "on_policy", "temperature", "start", "learning_rate", "steps", "gold", "seed"),
            asks="Which share of your draft's tokens will the target accept?",
            unit="acceptance",
        ),
        Lesson(
            number="11",
            title="The incident room",
            question="A run has gone wrong, or not. What do you look at first?",
            minutes=40,
            experiment=Experiment(student="57k", learning_rate=2e-2, scale="Europe", questions=5_000, steps=120),
            recorded=Experiment(student="57k", learning_rate=2e-2, scale="Europe", questions=5_000, steps=120, seed=1),
            controls=("temperature", "learning_rate", "questions", "method", "divergence", "mix", "top_k", "gold", "student", "seed"),
            asks="How far will a student go in a run that you have broken?",
            unit="recovery",
        ),
        Lesson(
            number="13",
            title="Your own models",
            question="Your teacher, your student, your data: was it worth distilling?",
            minutes=40,
            experiment=OWN,
            recorded=OWN.but(data="facts"),
            controls=("data", "student", "temperature", "score", "teacher", "method", "gold", "steps", "learning_rate", "seed"),
            asks="How far will the student go if the exam asks in other words what it was taught?",
            unit="recovery",
        ),
    )
}


@kinds_checked
def open(number: str | int, board: str = "auto", **changes) -> Lab:
    """Open a lesson; it displays itself. If its run goes on, that is shown again. A run of another lesson is stopped.

    number: as in the name of its notebook, "00", or as a number, 0.
    board: "live", "image" (plain images, where the live board cannot load), or "auto".
    changes: fields of its experiment.

    Raises `LabError` for an unknown lesson, `MissingPackage` without ipywidgets.
    """
    number = number if isinstance(number, str) else f"{operator.index(number):02}"
    if number not in LESSONS:
        raise unknown("lesson", number, LESSONS)
    try:
        with uninterrupted():
            from labkit.lessons.opening import affordable, opened
    except ModuleNotFoundError as error:
        raise need(error.name or "ipywidgets", "the live board") from None
    lesson = LESSONS[number]
    return opened(lesson._replace(experiment=affordable(lesson.experiment.but(**changes))), board)


@kinds_checked
def catalogue(kind: str = "lessons") -> pandas.DataFrame:
    """A table of the things of one kind.

    kind: "lessons", "methods", "divergences", "conventions", "models", "skills", "knobs", "exercises", "sweeps", "failures" or "claims"
      (for their verdicts see `labkit.claims`).

    Raises `LabError` for an unknown kind.
    """
    import pandas

    def lessons():
        return [{"lesson": x.number, "title": x.title, "question": x.question, "minutes": x.minutes} for x in LESSONS.values()]

    def methods():
        from labkit.training.methods import METHODS

        return [{"method": m.name, "label": m.label, "source": m.source} for m in METHODS.values()]

    def divergences():
        from labkit.losses.divergences import DIVERGENCES

        return [{"divergence": d.name, "label": d.label, "formula": d.formula, "source": d.source} for d in DIVERGENCES.values()]

    def models():
        from labkit.base.files import data_dir
        from labkit.records.names import SIZES

        sizes = [{"model": name, "role": "student", **size._asdict()} for name, size in SIZES.items()]
        shipped = [path for kind in ("teachers", "adapters") for path in sorted((data_dir() / kind).glob("*/"))]
        return sizes + [{"model": path.name, "role": "teacher"} for path in shipped]

    def skills():
        from labkit.tasks.atlas.facts import RELATIONS

        return [{"skill": r.skill, "relation": name, "wording": r.wordings[0]} for name, r in RELATIONS.items()]

    def knobs():
        from labkit.records.experiment import KNOBS
        from labkit.records.recipe_text import GROUPS

        rows = sorted(KNOBS.items(), key=lambda row: GROUPS.index(row[1].knob.group))
        return [{"group": e.knob.group, "knob": n, "default": e.default, "hot": e.knob.hot, "help": e.knob.help} for n, e in rows]

    def conventions():
        from labkit.losses.conventions import CONVENTIONS

        return [{name: value for name, value in c._asdict().items() if name != "loss"} for c in CONVENTIONS.values()]

    def exercises():
        from labkit.lessons.exercises import EXERCISES

        return [{"exercise": x.id, "asks": x.asks} for x in EXERCISES.values()]

    def sweeps():
        from labkit.base.files import data_dir
        from labkit.studies.sweep import sweep

        grids = {path.stem: sweep(path.stem) for path in sorted((data_dir() / "sweeps").glob("*.toml"))}
        return [{"sweep": name, "arms": len(s.arms), "recipes": len(s.recipes()), "seeds": s.seeds} for name, s in grids.items()]

    def claims():
        from labkit.studies.claims import CLAIMS

        return [{"claim": c.name, "text": c.text, "measured": c.measured, "published": c.published} for c in CLAIMS.values()]

    def failures():
        from labkit.diagnosis.failures import FAILURES

        return [{"failure": f.name, "label": f.label, "symptom": f.unit, "cure": f.remedy, "seen in": f.cited} for f in FAILURES.values()]

    makers = (lessons, methods, divergences, conventions, models, skills, knobs, exercises, sweeps, failures, claims)
    kinds = {f.__name__: f for f in makers}
    if kind not in kinds:
        raise unknown("kind", kind, kinds)
    return pandas.DataFrame(kinds[kind]())
