"""The record of a run: its events, and the results computed from them (no torch).

    rec = labkit.record(Experiment())          # run to the end, or read the run if it is already on record
    rec.table(); rec.recovery(); rec.save("my-run.jsonl"); labkit.load("my-run.jsonl")

*Recovery* is (student - baseline) / (teacher - baseline) on the mean of skills. It is never shown without its baseline.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.base.errors import DataError, LabError, reading, shown, unknown
from labkit.base.files import expanded, read_lines, to_write, write_lines
from labkit.base.kinds import kinds_checked
from labkit.base.stats import Band, band
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import CORE, SKILLS, STEPS

if TYPE_CHECKING:
    import pandas

BASELINES = ("label budget", "same questions")
GROUPS = (
    *("parameters", "run", "skills", "teacher", *BASELINES, "exam", "fidelity", "open", "truth", "habits", "working"),
    *("cost", "look", "training", "first"),
)
TERMS = ("loss", "kl", "ce", "hard", "crossed", "feature", "mutual", "peer")  # numbers of a step: the loss and its parts, in nats
CURVES = (*TERMS, "grad_norm", "lr")
MEND = "Delete it and run its recipe again."
NO_GAP = 0.05  # a teacher less than this above the baseline leaves nothing to recover


class Recovery(NamedTuple):
    """The share of the gap between baseline and teacher that the student closed."""

    baseline: str
    mean: float  # on the mean of the core skills
    all_skills: float  # on the mean of all skills
    ratio: float  # student / teacher, which ignores the baseline
    per_skill: Mapping[str, float | None]  # None where the teacher is less than 0.05 above the baseline ("no gap")
    student: Mapping[str, float]  # the scores: of the student, the baseline and the teacher
    reference: Mapping[str, float]
    teacher: Mapping[str, float]


@kinds_checked
class Record:
    """A run's events and what is computed from them.

    events: all events, in order; everything else follows from them.
    watch: called with each event as it is added.
    """

    def __init__(self, events: Iterable[ev.Event] = (), watch: Callable[[ev.Event], object] = lambda event: None) -> None:
        self.events: list[ev.Event] = []
        self.references: dict[str, ev.Reference] = {}
        self.steps: list[ev.Step] = []
        self.evaluations: list[ev.Evaluated] = []
        self.started: ev.Started | None = None
        self.finished: ev.Finished | ev.Failed | None = None
        for event in events:
            self.add(event)
            watch(event)

    def add(self, event: ev.Event) -> None:
        """Append an event. Raises `LabError` for anything else."""
        if not isinstance(event, ev.Event):
            raise LabError(f"{shown(event)} is not an event of a run: give those that a run yields, or `labkit.load(path)` reads.")
        self.events.append(event)
        match event:
            case ev.Started():
                self.started = event
            case ev.Step():
                self.steps.append(event)
            case ev.Evaluated():
                self.evaluations.append(event)
            case ev.Reference():
                self.references[event.name] = event
            case ev.Finished() | ev.Failed():
                self.finished = event

    def __repr__(self) -> str:
        end = type(self.finished).__name__.lower() if self.finished else "unfinished"
        return f"Record({self.experiment.recipe!r}, {len(self.steps)} steps, {end})"

    @property
    def experiment(self) -> Experiment:
        """The run's recipe. Raises `LabError` for a record without a "started" event."""
        if self.started is None:
            raise LabError("this record is empty: its first event must be 'started'. Run its recipe again.")
        return Experiment.from_dict(dict(self.started.experiment))

    @property
    def exam(self) -> ev.Evaluated:
        """The last exam. Raises `LabError` before the first one."""
        if not self.evaluations:
            raise LabError(f"{self!r} holds no exam yet: run it to its first evaluation.")
        return self.evaluations[-1]

    @property
    def skills(self) -> Mapping[str, float]:
        """The student's scores at its last exam."""
        return self.exam.skills

    @property
    def scores(self) -> Mapping[str, Mapping[str, float]]:
        """Scores of the "student", and of the "teacher" and the baselines if they were measured."""
        student = {"student": self.skills} if self.evaluations else {}
        return student | {name: reference.skills for name, reference in self.references.items()}

    @property
    def complete(self) -> bool:
        """Whether the run ended without an error and was not stopped."""
        return isinstance(self.finished, ev.Finished) and self.finished.reason == "completed"

    # ---- reading -----------------------------------------------------------------------------------------------------

    def recovery(self, baseline: str = "label budget") -> Recovery:
        """Recovery against a named baseline, one of `BASELINES`. Raises `LabError` if it or the teacher was not measured."""
        if baseline not in BASELINES:
            raise unknown("baseline", baseline, BASELINES)
        for name in ("teacher", baseline):
            if name not in self.scores:
                run = "labkit.record(rec.experiment.baseline(...))" if name != "teacher" else "a run with a teacher"
                raise LabError(f"no {name!r} on record for this run, and recovery is not computed without it: {run} measures it.")
        return recovery(self.skills, self.scores[baseline], self.scores["teacher"], baseline)

    def waterfall(self) -> dict[str, float | None]:
        """Mean core skill of the four arms, in their usual order; None for an arm that was not measured."""
        arms = {"gold labels": "label budget", "hard answers": "same questions", "soft labels": "student", "teacher": "teacher"}
        scores = self.scores
        return {name: mean(scores[arm]) if arm in scores else None for name, arm in arms.items()}

    def table(self) -> pandas.DataFrame:
        """One row per skill: scores of baselines, student and teacher, and the recovery.

        Beside the student's score, which is of the last step, "working right" is its share of answers whose every step is right: a number
        for skills with steps, or "not measured" in records that are older than it.
        """
        import pandas

        atlas = bool(self.skills.keys() & set(SKILLS))
        columns = {name: [skills.get(skill) for skill in (SKILLS if atlas else self.skills)] for name, skills in self.scores.items()}
        table = pandas.DataFrame(columns, index=pandas.Index(SKILLS if atlas else list(self.skills), name="skill"))
        if atlas:
            table.loc["mean (core)"] = table.loc[list(CORE)].mean()
            table.loc["mean (all)"] = table.loc[list(SKILLS)].mean()
        if "teacher" in table and "label budget" in table:
            room = table["teacher"] - table["label budget"]
            table["recovery"] = ((table["student"] - table["label budget"]) / room).where(room >= NO_GAP - 1e-9)
        if atlas and "student" in table:
            table["working right"] = pandas.Series({skill: self.exam.working.get(skill, "not measured") for skill in STEPS})
        order = [c for c in ("untouched", *BASELINES, "student", "working right", "teacher", "recovery") if c in table]
        return table[order]

    def curve(self, name: str = "kl") -> tuple[list[int], list[float]]:
        """Steps and values of one number of the training curve, one of `CURVES`, such as "kl"; empty if the run has none of it.

        Raises `LabError` for another number.
        """
        if name not in CURVES:
            raise unknown("number of the training curve", name, CURVES)
        points = [(s.step, s.values[name]) for s in self.steps if s.values.get(name) is not None]
        return [p[0] for p in points], [p[1] for p in points]

    def reference(self, name: str) -> ev.Reference:
        """This run as another run's baseline."""
        curve = tuple((e.step, e.fidelity["kl"]) for e in self.evaluations if e.fidelity.get("kl") is not None)
        return ev.Reference(name, self.skills, curve, self.experiment.recipe)

    def numbers(self, group: str) -> Mapping[str, Any]:
        """The run's numbers of one group, by name; empty if they were not measured.

        group: one of `GROUPS`. "run": steps, seconds, and seconds_a_step without exams. "look": the first batch check. "training": kl
            (mean of the last 20 steps), entropy (mean over the batch checks), the largest grad_norm, exposures (how often each distinct
            question was seen), own (1 if a checked batch held text that the student wrote). "first": kl at the first exam. The others
            come from the last exam, from `scores` and from events.

        Raises `LabError` for another group.
        """
        known_group(group)
        looks = [event.values for event in self.events if isinstance(event, ev.Inspected)]
        match group:
            case "parameters":
                assert self.started is not None
                return {"teacher": self.started.teacher_parameters, "student": self.started.student_parameters}
            case "run":
                last, examined = self.steps[-1], {event.step for event in self.evaluations}
                pairs = zip(self.steps, self.steps[1:], strict=False)
                gaps = [after.seconds - before.seconds for before, after in pairs if before.step not in examined]
                seconds = getattr(self.finished, "seconds", last.seconds)
                return {"steps": last.step, "seconds": seconds, "seconds_a_step": average(gaps)}
            case "exam":
                return {"seconds": self.exam.seconds, "ece": self.exam.ece}
            case "skills" | "fidelity" | "open" | "truth" | "habits" | "working":
                return getattr(self.exam, group)
            case "cost":
                return getattr(self.finished, "cost", {})
            case "look":
                return looks[0] if looks else {}
            case "training":
                asked = [event.total for event in self.events if isinstance(event, ev.Labelled)]
                norms = [norm for step in self.steps if (norm := step.values.get("grad_norm")) is not None]
                return {
                    "kl": average(step.values.get("kl") for step in self.steps[-20:]),
                    "entropy": average(look.get("entropy") for look in looks),
                    "grad_norm": max(norms, default=math.nan),
                    "exposures": self.steps[-1].questions_seen / asked[-1] if asked else math.nan,
                    "own": float(any(look.get("own") for look in looks)),
                }
            case "first":
                return {"kl": self.evaluations[0].fidelity.get("kl", math.nan)}
        return self.scores.get(group, {})

    def report(self, path: str | Path | None = None) -> str:
        """A self-contained HTML page about this run; also written to `path` if it is given."""
        import labkit

        return labkit.report(self, path)

    # ---- keeping -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the events as JSON lines with a checksum (gzipped if the name ends in .gz), atomically. Returns the path."""
        path = to_write(path)
        write_lines(path, map(ev.dumps, self.events))
        return path


def known_group(group: str) -> None:
    """Raises `LabError` for a group that there is not."""
    if group not in GROUPS:
        raise unknown("group of numbers", group, GROUPS)


@kinds_checked
def load(path: str | Path) -> Record:
    """A record from disk.

    path: a file that `Record.save` has written.

    Raises `DataError` with the file and the line that cannot be read.
    """
    record = Record(read_events(expanded(path)))
    if record.started is None:
        raise DataError(f"{path} holds no run: its first event must be 'started'. Save it again with `rec.save(path)`.")
    return record


@kinds_checked
def replay(record: Record) -> Iterator[ev.Event]:
    """The events of a record again, as a live run would yield them.

    record: as `record` or `load` returns it.
    """
    return iter(record.events)


def read_events(path: Path) -> Iterator[ev.Event]:
    """The events of a file, one a line. A last line that a kill cut short is left out. Raises `DataError` for any other damage."""
    if not path.exists():
        raise DataError(f"no record at {path}. Records are written by `rec.save(path)`.")
    yield from events_of(read_lines(path, MEND), path)


def events_of(lines: Sequence[bytes], path: Path) -> Iterator[ev.Event]:
    """The events of JSON lines. A last line that a kill cut short is left out.

    path: the file that the lines come from, for messages.

    Raises `DataError` for any other damage.
    """
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        with reading(f"the record {path}", MEND, f"is damaged at line {number}"):
            try:
                row = json.loads(line)
            except ValueError:
                if number == len(lines):
                    return
                raise
            event = ev.from_json(row)
        yield event


def average(values: Iterable[float | None]) -> float:
    """Mean of the values that are not None; NaN if all are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def mean(skills: Mapping[str, float], of: Sequence[str] = CORE) -> float:
    """Mean score of the skills in `of`; of all skills if none of Atlas's is among them.

    Raises `LabError` with the skills that the exam did not ask.
    """
    if skills and not skills.keys() & set(SKILLS):
        return sum(skills.values()) / len(skills)
    if missing := [s for s in of if s not in skills]:
        raise LabError(f"this mean needs skills that the exam did not ask: {', '.join(missing)}. Leave them out of the mean.")
    return sum(skills[s] for s in of) / len(of)


def core(record: Record) -> float:
    """A run's mean core skill at its last exam."""
    return mean(record.skills)


def paired(runs: Sequence[Record], others: Sequence[Record], score: Callable[[Record], float] = core) -> Band:
    """The band of score(run) - score(other), paired by seed.

    score: a number of a run, by default its mean core skill.

    Raises `LabError` unless both have the same seeds.
    """
    of_runs, of_others = ({r.experiment.seed: score(r) for r in records} for records in (runs, others))
    if not of_runs or of_runs.keys() != of_others.keys():
        raise LabError(f"seeds {sorted(of_runs)} and {sorted(of_others)} cannot be paired: run the missing ones.")
    return band([of_runs[seed] - of_others[seed] for seed in of_runs])


def gap(baseline: float, teacher: float) -> bool:
    """Whether the teacher is at least 0.05 above the baseline, up to rounding."""
    return teacher - baseline >= NO_GAP - 1e-9


def recovery(student: Mapping[str, float], reference: Mapping[str, float], teacher: Mapping[str, float], baseline: str) -> Recovery:
    """The recovery of means (NaN without a gap of 0.05) and of each skill (None without one): a smaller gap would make it noise.

    student, reference, teacher: scores by skill, of the student, the baseline and the teacher.
    baseline: the baseline's name.
    """

    def share(s: float, b: float, t: float) -> float:
        return (s - b) / (t - b) if gap(b, t) else math.nan

    core, every = (share(mean(student, of), mean(reference, of), mean(teacher, of)) for of in (CORE, SKILLS))
    each = {s: share(student[s], reference[s], teacher[s]) if gap(reference[s], teacher[s]) else None for s in student}
    return Recovery(baseline, core, every, mean(student) / mean(teacher) if mean(teacher) else math.nan, each, student, reference, teacher)
