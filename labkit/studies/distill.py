"""Distil your own teacher into your own student on your own data, and measure the baselines too.

    done = distill("smollm2", "./student", "mine.jsonl", out="distilled")
    print(done)           # the decision; scores with bands: untouched, fine-tuned on gold labels, distilled, teacher; and some answers

The folder `out` then has the student as a Hugging Face model with a card, the record of the run and a report.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.base.errors import LabError
from labkit.base.files import fill_whole, no_empty_folder
from labkit.base.manifest import seal_model
from labkit.base.stats import Band
from labkit.models import pretrained, tokenizer_of
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.model_folders import without_hash
from labkit.records.names import named_model
from labkit.records.record import NO_GAP, Record
from labkit.records.rules import refuse
from labkit.records.store import Store
from labkit.studies.card import card
from labkit.studies.decision import Decision, decide, examples, head, money, picture
from labkit.studies.result_folder import RECORD, free, room
from labkit.studies.run import begin, clear, completed
from labkit.tasks.atlas.exam import Grades
from labkit.tasks.custom.exam import CustomExam
from labkit.tasks.metrics import Score, better
from labkit.training.methods import method
from labkit.training.setup import CustomTask

if TYPE_CHECKING:
    import pandas

RATES = {"adapter": 1e-3, "all": 1e-4, "lab": 6e-3}  # peak learning rates that are safe; a sweep finds better ones
USUAL = {"batch": 16, "steps": 100, "gold": 1_000_000}  # defaults here, in place of the small world's
SETTLED = (*USUAL, "learning_rate", "method")  # chosen here if not given; the recipe in the card states them
EXAMS = 4  # during a run
NOTHING = "no text"  # of an answer
SHOWN = 3  # held-out prompts that are shown with the answers before and after
ROWS = {
    "untouched": "the student as it came",
    "gold labels": "the student, fine-tuned on the gold labels",
    "distilled": "the student, distilled",
    "teacher": "the teacher",
}


class Distilled(NamedTuple):
    """The result of `distill`."""

    experiment: Experiment
    record: Record
    grades: dict[str, Grades]  # of those of `ROWS` that were measured, on the same held-out prompts
    scores: dict[str, Score]  # the same scores, with bands
    out: Path | None  # the folder of the student
    notes: dict[str, list[str]]  # how the lab ran the teacher and the student, in sentences
    shown: tuple[dict[str, str], ...] = ()  # the first held-out prompts, with the answers before and after

    def table(self) -> pandas.DataFrame:
        """One row for each model: score, 95% band over held-out prompts, KL to the teacher, agreement on the most likely token."""
        import pandas

        rows = []
        for name, grades in self.grades.items():
            band = self.scores[name].band
            fidelity = {key: grades.fidelity[key] for key in ("kl", "agreement") if key in grades.fidelity and name != "teacher"}
            rows.append({"model": ROWS[name], self.metric: band.middle, "low": band.low, "high": band.high, **fidelity})
        return pandas.DataFrame(rows).set_index("model")

    @property
    def metric(self) -> str:
        """The name of the score."""
        return without_hash(self.experiment.score)

    @property
    def own(self) -> str:
        """Which of `ROWS` the student of the run is."""
        return "gold labels" if self.experiment.method == "gold" else "distilled"

    def decision(self) -> Decision:
        """What to do with this result, and why."""
        return decide(self)

    def smaller(self) -> str:
        """How much smaller the student is than its teacher, in a sentence that begins with a space; "" without a teacher."""
        sizes = self.record.numbers("parameters")
        times = sizes["teacher"] / sizes["student"]
        told = f"{times:,.0f}" if times >= 9.95 else f"{times:.2g}"
        return f" It has {told} times fewer parameters than the teacher." if times >= 1.05 else ""

    def differences(self) -> dict[str, Band]:
        """Score of the run's student minus that of the untouched one, and minus that of the one on gold labels, paired over prompts."""
        others = [name for name in ("untouched", "gold labels") if name in self.scores and name != self.own]
        return {name: better(self.scores[self.own], self.scores[name]) for name in others}

    def verdict(self) -> str:
        """The differences and the recovery in words."""
        lines = []
        for name, effect in self.differences().items():
            band = f"{effect.middle:+.3f} ({effect.low:+.3f} to {effect.high:+.3f}, 95% over {effect.n} prompts)"
            lines.append(f"{self.own.capitalize()} minus {ROWS[name]}: {band}: {effect.verdict}.")
        if {"gold labels", "distilled", "teacher"} <= self.scores.keys():
            gold, own, top = (self.scores[name].mean for name in ("gold labels", "distilled", "teacher"))
            gap = f"the teacher scores {top - gold:+.3f} more than the gold-label student"
            lines.append(
                f"Recovery over gold labels: {(own - gold) / (top - gold):.2f}."
                if top - gold >= NO_GAP
                else f"Recovery is not shown: {gap}, and it needs a gap of at least {NO_GAP}."
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        parts = [f"{self.decision()}\n  {money(self)}".rstrip(), self.table().round(3).to_string(), self.verdict()]
        return "\n\n".join([*parts, examples(self)] if self.shown else parts)


def recipe(teacher: str, student: str, data: str | Path, **knobs: Any) -> Experiment:
    """The recipe of a distillation, with a content hash on each file and model.

    teacher, student: names or folders.
    data: the file of rows.
    knobs: fields of `Experiment`; others get defaults for models of this kind.

    Raises `LabError` for data, models or knobs that do not fit together.
    """
    plain = Experiment(teacher=teacher, student=student, data=str(data)).but(**knobs)
    refuse(plain, "distill", "run")
    if "learning_rate" not in knobs:
        kind = "lab" if not named_model(student) else "adapter" if plain.adapter else "all"
        knobs["learning_rate"] = RATES[kind]
    exp = plain.but(**{**USUAL, **knobs})
    subject = CustomTask(exp.but(method="sequence" if method(exp.method).needs_signal else exp.method))
    if exp.teacher != "none" and "method" not in knobs and tokenizer_of(_teacher(subject)).vocabulary != subject.reads.vocabulary:
        exp = exp.but(method="sequence")  # text works between any two tokenizers
    task = CustomTask(exp)
    task.teacher()
    exp = task.experiment
    return exp.but(data=f"{without_hash(exp.data)}#{subject.fingerprint}", gold=min(exp.gold, max(1, subject.answered)))


def distill(
    teacher: str | None = None,
    student: str | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    *,
    experiment: Experiment | None = None,
    baseline: bool = True,
    examples: bool = True,
    force: bool = False,
    watch: Callable[[str, ev.Event], None] | None = None,
    say: Callable[[str], object] = print,
    **knobs: Any,
) -> Distilled:
    """Distil, and measure the untouched student, the same student fine-tuned on gold labels, and the teacher too.

    A run that was killed goes on from its checkpoint.

    teacher, student: names of models (see `pretrained.folder_of`), or of the lab's own.
    data: the file of rows.
    out: the folder for the student; not saved if not given.
    experiment: all of this as one recipe, in place of the first three; each of its fields is used as it is.
    baseline: whether to fine-tune the student on gold labels too.
    examples: whether card, record and report in `out` show held-out rows of the data.
    force: whether an earlier result in `out` may be replaced.
    watch: called with the name of the run and each event.
    say: called with lines about data and models before training.
    knobs: fields of `Experiment`.

    Returns the decision, models' scores and the record. Raises `LabError` for data, models or knobs that do not fit together, a folder
    that cannot take the result or has an earlier one, or a run that fails.
    """
    if experiment is None:
        if not (teacher and student and data):
            raise LabError("distill needs a teacher, a student and data: distill('smollm2', './student', 'mine.jsonl').")
        asked = {"teacher": teacher, "student": student, "data": data, **knobs}
    else:
        asked = experiment.to_dict() | knobs
    folder = Path(out) if out else None
    free(folder, {what: str(asked[what]) for what in ("student", "teacher")}, force)  # before anything is loaded
    exp = recipe(**asked)
    subject = CustomTask(exp)
    teacher_model = subject.teacher()
    _tell(subject, teacher_model, say)
    exam = subject.exam(teacher_model)
    assert isinstance(exam, CustomExam)
    _tell_exam(exam, exp, say)
    untouched = subject.student(exp.seed)
    for who, model in (("teacher", teacher_model), ("student", untouched)):
        for note in _notes(model):
            say(f"{who}: {note}")
    room(folder, untouched)
    grades: dict[str, Grades] = {"untouched": exam.grade(untouched)}
    del untouched
    runs: list[Record] = []
    if baseline and exp.method != "gold" and subject.gold:
        gold, student = _trained(exp.baseline(), "gold labels", watch)
        runs.append(gold)
        grades["gold labels"] = exam.grade(student)
    own = "gold labels" if exp.method == "gold" else "distilled"
    record, made = _trained(exp, own, watch)
    runs.append(record)
    grades[own] = exam.grade(made)
    if exp.teacher != "none":
        grades["teacher"] = exam.teacher_grades
    for name, row in (("untouched", "untouched"), ("label budget", "gold labels")):
        if row in grades and row != own and name not in record.references:
            record.add(ev.Reference(name, grades[row].skills))
    scores = {name: exam.scored(graded.answers) for name, graded in grades.items()}
    notes = {"teacher": _notes(teacher_model), "student": _notes(made)}
    done = Distilled(exp, record, grades, scores, folder, notes, _shown(exam, grades, own))
    if folder:
        leave(done, made, folder, exam, examples)
    for run in runs:  # only at the end: if anything fails before, no training is lost
        clear(run)
    return done


def leave(done: Distilled, student: Any, folder: Path, exam: CustomExam, examples: bool) -> None:
    """Write weights, tokenizer, card, record and report to a folder, all or none.

    examples: whether they show held-out rows of the data.

    Raises `LabError` if they cannot be written.
    """
    from labkit.views.report import of_data

    def write(to: Path) -> None:
        if hasattr(student, "chat"):
            pretrained.save(student, to)
        else:
            student.save_pretrained(to, safe_serialization=True)
            tokenizer_of(student).for_transformers().save_pretrained(to)
            seal_model(to)
        data = f"{without_hash(done.experiment.data)}:"  # as warnings begin that quote a row
        shown = [e for e in done.record.events if not isinstance(e, ev.Sampled | ev.Probe)]
        shown = [e for e in shown if not (isinstance(e, ev.Warned) and e.message.startswith(data))]
        record = done.record if examples else Record(shown)
        record.save(to / RECORD)
        of_data(record, head(done, examples), picture(done, ROWS), to / "report.html")
        (to / "README.md").write_text(card(done, exam, _command(done, examples), examples), encoding="utf-8")

    try:
        with no_empty_folder(folder):
            fill_whole(folder, write)
    except Exception as error:  # a full disk, or the code of some family that refuses to be saved
        why = getattr(error, "strerror", None) or error
        raise LabError(
            f"the student is trained, but cannot be saved in {folder}: {why}. Fix that, or choose another --out, and run the same "
            "command again: it goes on from here, and trains nothing twice."
        ) from error


def _command(done: Distilled, examples: bool) -> str:
    """The command that distils once more, for the card."""
    words = ["labkit", "distill", *done.experiment.words(SETTLED), *(["--out", str(done.out)] if done.out else [])]
    words += ["--no-baseline"] if done.own == "distilled" and "gold labels" not in done.grades else []
    return shlex.join(words if examples else [*words, "--no-examples"])


# ---- parts ---------------------------------------------------------------------------------------------------------------------------


def _teacher(subject: CustomTask) -> Any:
    model = subject.teacher()
    assert model is not None
    return model


def _notes(model: Any) -> list[str]:
    """What `pretrained.notes_of` says of a model; nothing for the lab's own."""
    return pretrained.notes_of(model) if hasattr(model, "folder") else []


def _tell_exam(exam: CustomExam, exp: Experiment, say: Callable[[str], object]) -> None:
    """Report what an exam cannot measure, or what its teacher left out."""
    if exam.best < 1:
        by = without_hash(exp.score)
        say(f"The responses in the data score {exam.best:.3f} by {by} themselves: an answer equal to its response gets no more.")
    if exam.thoughts:
        say(
            f"teacher: {exam.thoughts} of {len(exam.rows)} answers begin with a thought, and {exam.cut_thoughts} were cut before the "
            f"answer, at {exp.longest} tokens: raise longest, or switch thinking off with template_option=enable_thinking=false, if its "
            "chat template has that switch."
        )


def _shown(exam: CustomExam, grades: dict[str, Grades], own: str) -> tuple[dict[str, str], ...]:
    """The first held-out prompts, with the answers of the student before and after, the teacher's, and the response in the data."""
    rows = []
    for before, row in zip(grades["untouched"].answers, exam.sample(grades[own].answers, SHOWN), strict=False):
        after = f"{row['student'].strip() or NOTHING} ({row['verdict']})"
        teacher = {"teacher": row["teacher"].strip() or NOTHING} if exam.teacher_answers else {}
        said = {"before training": before.text.strip() or NOTHING, "student": after, **teacher}
        rows.append({"prompt": row["question"], **said, "response": row["truth"]})
    return tuple(rows)


def _tell(subject: CustomTask, teacher: Any, say: Callable[[str], object]) -> None:
    """Report the rows that were read, and a change of method for different tokenizers."""
    exp = subject.experiment
    say(subject.summary)
    if teacher is not None and method(exp.method).text and tokenizer_of(teacher).vocabulary != subject.reads.vocabulary:
        pair = f"{without_hash(exp.teacher)} and {without_hash(exp.student)}"
        say(f"{pair} have different tokenizers: the student learns from the teacher's text (method={exp.method}).")


def _trained(exp: Experiment, what: str, watch: Callable[[str, ev.Event], None] | None) -> tuple[Record, Any]:
    """Run to the end. Returns record and student; the checkpoint of the last step is kept."""
    run = begin(exp, exams=EXAMS)
    made = completed(run, lambda event: watch(what, event) if watch else None)
    Store().add(made)
    return made, run.student
