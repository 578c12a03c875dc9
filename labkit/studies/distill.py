"""Your teacher into your student: the lab's engine on models and data of one's own, with the baselines a number needs beside it.

    done = distill("smollm2", "./student", "mine.jsonl", out="distilled")
    done.table()          # untouched student, the same one fine-tuned on gold labels, distilled, teacher; each with its band

What is left in `out` is a Hugging Face folder with a card, the run's record and a report.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError

from labkit.base.errors import LabError
from labkit.base.files import fill_whole
from labkit.base.stats import Band
from labkit.models import parameters, pretrained, tokenizer_of
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.model_folders import without_hash
from labkit.records.names import named_model
from labkit.records.record import NO_GAP, Record
from labkit.records.rules import refuse
from labkit.records.store import Store
from labkit.studies.run import begin, clear, completed
from labkit.tasks.atlas.exam import Grades
from labkit.tasks.custom.exam import CustomExam
from labkit.tasks.metrics import Score, better
from labkit.training.methods import method
from labkit.training.setup import CustomTask

if TYPE_CHECKING:
    import pandas

RATES = {"adapter": 1e-3, "all": 1e-4, "lab": 6e-3}  # peaks that are safe to begin with; a sweep finds better ones
USUAL = {"batch": 16, "steps": 100, "gold": 1_000_000}  # in place of the small world's defaults, unless given
SETTLED = (*USUAL, "learning_rate", "method")  # what is chosen here where it is not given, and so is written into the card's recipe
EXAMS = 4  # on the way
BESIDE = 4_000_000  # bytes of a tokenizer, a record and a report
ROWS = {
    "untouched": "the student as it came",
    "gold labels": "the student, fine-tuned on the gold labels",
    "distilled": "the student, distilled",
    "teacher": "the teacher",
}


class Distilled(NamedTuple):
    """What came of it. grades: of each of `ROWS` that there is, on the same held-out prompts; scores: the same with bands."""

    experiment: Experiment
    record: Record
    grades: dict[str, Grades]
    scores: dict[str, Score]
    out: Path | None

    def table(self) -> pandas.DataFrame:
        """A row a model: its score with its 95% band over held-out prompts, KL to the teacher, and the share of equal first tokens."""
        import pandas

        rows = []
        for name, grades in self.grades.items():
            found = self.scores[name].band
            fidelity = {key: grades.fidelity[key] for key in ("kl", "agreement") if key in grades.fidelity and name != "teacher"}
            rows.append({"model": ROWS[name], self.metric: found.middle, "low": found.low, "high": found.high, **fidelity})
        return pandas.DataFrame(rows).set_index("model")

    @property
    def metric(self) -> str:
        return without_hash(self.experiment.score)

    @property
    def own(self) -> str:
        """Which of `ROWS` the run's own student is."""
        return "gold labels" if self.experiment.method == "gold" else "distilled"

    def differences(self) -> dict[str, Band]:
        """The run's own student less the untouched one, and less the one that learned from gold labels: paired over prompts."""
        others = [name for name in ("untouched", "gold labels") if name in self.scores and name != self.own]
        return {name: better(self.scores[self.own], self.scores[name]) for name in others}

    def verdict(self) -> str:
        """What may be said of it, in words."""
        said = []
        for name, found in self.differences().items():
            band = f"{found.middle:+.3f} ({found.low:+.3f} to {found.high:+.3f}, 95% over {found.n} prompts)"
            said.append(f"{self.own.capitalize()} less {ROWS[name]}: {band}: {found.verdict}.")
        if {"gold labels", "distilled", "teacher"} <= self.scores.keys():
            gold, own, top = (self.scores[name].mean for name in ("gold labels", "distilled", "teacher"))
            gap = f"the teacher is {top - gold:+.3f} from the gold-label student"
            said.append(
                f"Recovery over gold labels: {(own - gold) / (top - gold):.2f}."
                if top - gold >= NO_GAP
                else f"Recovery is not shown: {gap}, and below {NO_GAP} there is nothing to recover."
            )
        return "\n".join(said)

    def __repr__(self) -> str:
        return f"{self.table().round(3).to_string()}\n\n{self.verdict()}"


def recipe(teacher: str, student: str, data: str | Path, **knobs: Any) -> Experiment:
    """The experiment of such a run: its files marked as they are now (see `content_hash.pinned`), and what `knobs` does not name as it
    suits models of this kind. Raises `LabError` for data, models or knobs that do not go together, with what to change."""
    plain = Experiment(teacher=teacher, student=student, data=str(data)).but(**knobs)
    refuse(plain, "distill", "run")
    if "learning_rate" not in knobs:
        kind = "lab" if not named_model(student) else "adapter" if plain.adapter else "all"
        knobs["learning_rate"] = RATES[kind]
    exp = plain.but(**{**USUAL, **knobs})
    subject = CustomTask(exp.but(method="sequence" if method(exp.method).needs_signal else exp.method))
    if exp.teacher != "none" and "method" not in knobs and tokenizer_of(_teacher(subject)).fingerprint != subject.reads.fingerprint:
        exp = exp.but(method="sequence")  # text passes between any two tokenizers
    found = CustomTask(exp)
    found.teacher()
    exp = found.experiment
    return exp.but(data=f"{without_hash(exp.data)}#{subject.fingerprint}", gold=min(exp.gold, max(1, subject.answered)))


def distill(
    teacher: str | None = None,
    student: str | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    *,
    experiment: Experiment | None = None,
    baseline: bool = True,
    watch: Callable[[str, ev.Event], None] | None = None,
    say: Callable[[str], object] = print,
    **knobs: Any,
) -> Distilled:
    """Distil, and measure beside it the untouched student and the same student fine-tuned on the gold labels (`baseline`).

    Models are names (see `pretrained.folder_of`; the lab's own too), `knobs` fields of `Experiment`; or all of it as one
    `experiment`, whose every field is taken as it is. `watch` is called with which of the runs it is and every event, `say` with what there
    is to know of the data and the pair before anything is trained. A run that was killed goes on from its checkpoint.
    """
    if experiment is None:
        if not (teacher and student and data):
            raise LabError("distill needs a teacher, a student and data: distill('smollm2', './student', 'mine.jsonl').")
        exp = recipe(teacher, student, data, **knobs)
    else:
        exp = recipe(**(experiment.to_dict() | knobs))
    folder = Path(out) if out else None
    _free(folder, exp)
    subject = CustomTask(exp)
    teacher_model = subject.teacher()
    _tell(subject, teacher_model, say)
    exam = subject.exam(teacher_model)
    assert isinstance(exam, CustomExam)
    if exam.best < 1:
        by = without_hash(exp.score)
        say(f"The responses that are wanted score {exam.best:.3f} by {by} themselves: an answer equal to them gets no more.")
    untouched = subject.student(exp.seed)
    _room(folder, untouched)
    grades: dict[str, Grades] = {"untouched": exam.grade(untouched)}
    del untouched
    runs: list[Record] = []
    if baseline and exp.method != "gold" and subject.gold:
        found, student = _trained(exp.baseline(), "gold labels", watch)
        runs.append(found)
        grades["gold labels"] = exam.grade(student)
    own = "gold labels" if exp.method == "gold" else "distilled"
    record, made = _trained(exp, own, watch)
    runs.append(record)
    grades[own] = exam.grade(made)
    if exp.teacher != "none":
        grades["teacher"] = exam.teacher_grades
    for name, of in (("untouched", "untouched"), ("label budget", "gold labels")):
        if of in grades and of != own and name not in record.references:
            record.add(ev.Reference(name, grades[of].skills))
    done = Distilled(exp, record, grades, {name: exam.scored(found.answers) for name, found in grades.items()}, folder)
    if folder:
        leave(done, made, folder, exam)
    for run in runs:  # not before all is done: until then whatever fails costs no training
        clear(run)
    return done


def leave(done: Distilled, student: Any, folder: Path, exam: CustomExam) -> None:
    """Weights, tokenizer, card, record and report in one folder; all of them or none. Raises `LabError` if the disk does not take them."""
    from labkit.views.report import report

    def write(to: Path) -> None:
        if hasattr(student, "chat"):
            pretrained.save(student, to)
        else:
            student.save_pretrained(to, safe_serialization=True)
            tokenizer_of(student).for_transformers().save_pretrained(to)
        done.record.save(to / "record.jsonl.gz")
        report(done.record, to / "report.html")
        (to / "README.md").write_text(card(done, exam), encoding="utf-8")

    try:
        fill_whole(folder, write)
    except (OSError, SafetensorError) as error:
        raise LabError(
            f"the student is trained, and cannot be saved in {folder}: {error}. Mend that, or choose another --out, and give the same "
            "command again: it goes on from here, and trains nothing twice."
        ) from error


def card(done: Distilled, exam: CustomExam) -> str:
    """A model card: what was taught by whom, on what, how well, and how to do it again."""
    exp, table = done.experiment, done.table().round(3)
    command = ["labkit", "distill", *exp.words(SETTLED), *(["--out", str(done.out)] if done.out else [])]
    command += ["--no-baseline"] if done.own == "distilled" and "gold labels" not in done.grades else []
    head = ["model", *table.columns]
    rows = [(name, *row) for name, row in zip(table.index, table.values.tolist(), strict=True)]
    lines = ["| " + " | ".join("-" if cell != cell else str(cell) for cell in row) + " |" for row in rows]
    wrong = [row for row in exam.sample(done.grades[done.own].answers, len(exam.rows)) if row["verdict"] != "right"][:5]
    shown = [f"- {row['question']!r}: {row['student']!r}; wanted {row['truth']!r} ({row['verdict']})\n" for row in wrong]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [distillation]",
            "---",
            f"# {without_hash(exp.student)} "
            + (f"distilled from {without_hash(exp.teacher)}" if done.own == "distilled" else "fine-tuned on gold labels"),
            "",
            f"Made with the Distillation Lab on {without_hash(exp.data)} ({len(exam.rows)} prompts held out). The licences of both "
            "models and of the data hold for this one; look them up before you pass it on.",
            "",
            "| " + " | ".join(map(str, head)) + " |",
            "| " + " | ".join("---" for _ in head) + " |",
            *lines,
            "",
            f"Scored by `{without_hash(exp.score)}`; bands are 95% over prompts. {done.verdict()}",
            "",
            "Some of its wrong answers:",
            "",
            "".join(shown) or "- none on the held-out prompts\n",
            "To make it again:",
            "",
            f"    {shlex.join(command)}",
            "",
        ]
    )


# ---- parts ---------------------------------------------------------------------------------------------------------------------------


def _teacher(subject: CustomTask) -> Any:
    found = subject.teacher()
    assert found is not None
    return found


def _tell(subject: CustomTask, teacher: Any, say: Callable[[str], object]) -> None:
    """What was read, with the lines that could not be used, and what passes between two tokenizers."""
    exp = subject.experiment
    say(subject.summary)
    if teacher is not None and method(exp.method).text and tokenizer_of(teacher).fingerprint != subject.reads.fingerprint:
        pair = f"{without_hash(exp.teacher)} and {without_hash(exp.student)}"
        say(f"{pair} have different tokenizers: the student learns from the teacher's text (method={exp.method}).")


def _free(folder: Path | None, exp: Experiment) -> None:
    """Raises `LabError`, before anything is trained, for a folder that cannot be written to or has something else in it."""
    if folder is None:
        return
    for what in ("student", "teacher"):
        name = getattr(exp, what)
        if named_model(name) and folder.resolve() == pretrained.folder_of(name).resolve():
            raise LabError(f"--out {folder} is the folder of the {what} itself, which would be overwritten: choose another --out.")
    if folder.exists() and (
        not folder.is_dir() or (any(file.name != ".part" for file in folder.iterdir()) and not (folder / "record.jsonl.gz").exists())
    ):
        raise LabError(f"{folder} is there already, and is not the result of an earlier distillation: choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise LabError(f"cannot write to {folder}: {error}. Choose another --out.") from None


def _room(folder: Path | None, student: Any) -> None:
    """Raises `LabError`, before anything is trained, for a disk on which the result has no room."""
    if folder is None:
        return
    size = 2 if hasattr(student, "chat") else 4  # bytes a weight: see `leave`
    wanted, free = size * parameters(student) + BESIDE, shutil.disk_usage(folder).free
    if free < wanted:
        raise LabError(
            f"{folder} has room for {free / 1e6:.1f} MB, and the result takes about {wanted / 1e6:.1f} MB: make room, or choose another "
            "--out."
        )


def _trained(exp: Experiment, what: str, watch: Callable[[str, ev.Event], None] | None) -> tuple[Record, Any]:
    """Run to the end, keeping the student, and the checkpoint of its last step."""
    run = begin(exp, exams=EXAMS)
    made = completed(run, lambda event: watch(what, event) if watch else None)
    Store().add(made)
    return made, run.student
