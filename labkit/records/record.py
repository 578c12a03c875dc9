"""A run, written down: the fold of its events, what can be read off it, and where records are kept (no torch).

    rec = labkit.record(Experiment())          # run to the end, or fetch what is already on record
    rec.table(); rec.recovery(); rec.save("my-run.jsonl"); labkit.load("my-run.jsonl")

*Quality recovery* is (student - baseline) / (teacher - baseline) on the mean of skills, never shown without its baseline.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from labkit.base.errors import DataError, LabError
from labkit.base.files import data_dir, made_here, write_whole
from labkit.base.stats import Band, band
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import CORE, SKILLS

if TYPE_CHECKING:
    import pandas

BASELINES = ("label budget", "same questions")
NO_GAP = 0.05  # per skill, a teacher less than this above the baseline leaves nothing to recover


class Recovery(NamedTuple):
    """How much of the way from a baseline to the teacher the student went.

    mean is on the mean of the core skills; all_skills on the mean of every skill; per_skill has None where the teacher is less
    than 0.05 above the baseline ("no gap"); ratio is the plain student / teacher, which ignores the baseline.
    """

    baseline: str
    mean: float
    all_skills: float
    ratio: float
    per_skill: Mapping[str, float | None]
    student: Mapping[str, float]
    reference: Mapping[str, float]
    teacher: Mapping[str, float]


class Record:
    """The fold of a run's events. `events` is the whole story; everything else is read off it."""

    def __init__(self, events: Iterable[ev.Event] = ()) -> None:
        self.events: list[ev.Event] = []
        self.references: dict[str, ev.Reference] = {}
        self.steps: list[ev.Step] = []
        self.evaluations: list[ev.Evaluated] = []
        self.started: ev.Started | None = None
        self.finished: ev.Finished | ev.Failed | None = None
        for event in events:
            self.add(event)

    def add(self, event: ev.Event) -> None:
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
        if self.started is None:
            raise LabError("this record is empty: it does not even say what was run.")
        return Experiment.from_dict(dict(self.started.experiment))

    @property
    def skills(self) -> Mapping[str, float]:
        """The student's scores at its last exam."""
        if not self.evaluations:
            raise LabError(f"{self!r} holds no exam yet: let it run to its first evaluation.")
        return self.evaluations[-1].skills

    @property
    def complete(self) -> bool:
        return isinstance(self.finished, ev.Finished) and self.finished.reason == "completed"

    # ---- reading -----------------------------------------------------------------------------------------------------

    def recovery(self, baseline: str = "label budget") -> Recovery:
        """Recovery against a named baseline. Raises `LabError` if the teacher or that baseline was not measured."""
        for name in ("teacher", baseline):
            if name not in self.references:
                run = "labkit.record(rec.experiment.baseline(...))" if name != "teacher" else "a run with a teacher"
                raise LabError(f"no {name!r} on record for this run, and recovery is never shown without it; {run} measures it.")
        return recovery(self.skills, self.references[baseline].skills, self.references["teacher"].skills, baseline)

    def waterfall(self) -> dict[str, float | None]:
        """Mean core skill of the four arms, in the order they are always shown; None where an arm was not measured."""
        arms = {
            "gold labels": self.references.get("label budget"),
            "hard answers": self.references.get("same questions"),
            "soft labels": self.evaluations[-1] if self.evaluations else None,
            "teacher": self.references.get("teacher"),
        }
        return {name: mean(arm.skills) if arm else None for name, arm in arms.items()}

    def table(self) -> pandas.DataFrame:
        """One row a skill: baselines, student, teacher, recovery."""
        import pandas

        rows, atlas = [], bool(self.skills.keys() & set(SKILLS))
        for skill in SKILLS if atlas else self.skills:
            row: dict[str, object] = {"skill": skill, "student": self.skills.get(skill)}
            for name, reference in self.references.items():
                row[name] = reference.skills.get(skill)
            rows.append(row)
        table = pandas.DataFrame(rows).set_index("skill")
        if atlas:
            table.loc["mean (core)"] = table.loc[list(CORE)].mean()
            table.loc["mean (all)"] = table.loc[list(SKILLS)].mean()
        if "teacher" in table and "label budget" in table:
            room = table["teacher"] - table["label budget"]
            table["recovery"] = ((table["student"] - table["label budget"]) / room).where(room >= NO_GAP - 1e-9)
        order = [c for c in ("untouched", "label budget", "same questions", "student", "teacher", "recovery") if c in table]
        return table[order]

    def curve(self, name: str = "kl") -> tuple[list[int], list[float]]:
        """Steps and values of one number of the training curve, such as "kl" or "loss"."""
        points = [(s.step, s.values[name]) for s in self.steps if s.values.get(name) is not None]
        return [p[0] for p in points], [p[1] for p in points]

    def reference(self, name: str) -> ev.Reference:
        """This run as somebody else's yardstick."""
        curve = tuple((e.step, e.fidelity["kl"]) for e in self.evaluations if e.fidelity.get("kl") is not None)
        return ev.Reference(name, self.skills, curve, self.experiment.recipe)

    def report(self, path: str | Path | None = None) -> str:
        """One self-contained HTML page about this run, also written to `path` if one is given."""
        import labkit

        return labkit.report(self, path)

    # ---- keeping -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the events as JSON lines (gzipped if the name ends in .gz), whole or not at all."""
        path = Path(path)
        text = "".join(ev.dumps(event) + "\n" for event in self.events).encode()
        write_whole(path, lambda to: to.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text))
        return path


def load(path: str | Path) -> Record:
    """A record from disk. Raises `DataError` naming the file and the line that cannot be read."""
    record = Record(read_events(Path(path)))
    if record.started is None:
        raise DataError(f"{path} holds no run: its first event must be 'started'. Save it again with `rec.save(path)`.")
    return record


def replay(record: Record) -> Iterator[ev.Event]:
    """The same stream again, for the same views."""
    return iter(record.events)


def read_events(path: Path) -> Iterator[ev.Event]:
    """Events of a file, one a line. A last line cut short by a kill is left out; any other damage raises `DataError`."""
    try:
        raw = path.read_bytes()
        lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).split(b"\n")
    except FileNotFoundError:
        raise DataError(f"no record at {path}. Records are written by `rec.save(path)`.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the record {path} is damaged: {error}. Delete it and run its recipe again.") from None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield ev.from_json(json.loads(line))
        except (ValueError, AttributeError) as error:
            if number == len(lines) and not isinstance(error, LabError):
                return
            raise DataError(f"the record {path} is damaged at line {number}: {error} Delete it and run its recipe again.") from None


class Store:
    """Records by recipe: those shipped in `data/records`, and those this machine has made."""

    def __init__(self) -> None:
        self.shipped = data_dir() / "records"
        self.own = made_here("records")

    def find(self, experiment: Experiment) -> Record | None:
        for path in (self.own / f"{experiment.key}.jsonl.gz", self.shipped / f"{experiment.key}.jsonl.gz"):
            if path.exists() and (record := load(path)).experiment.key == experiment.key:  # or a default has changed since
                return record
        return None

    def add(self, record: Record) -> Path:
        """Keep a record. One whose knobs were turned, or that was stopped, is kept too but never found by its recipe alone."""
        name = record.experiment.key
        if not record.complete or any(isinstance(event, ev.KnobTurned) for event in record.events):
            story = "".join(ev.dumps(event) for event in record.events)
            name += f"-{hashlib.blake2b(story.encode(), digest_size=4).hexdigest()}"
        return record.save(self.own / f"{name}.jsonl.gz")

    def references(
        self, experiment: Experiment, seeds: Sequence[int] = range(5), have: Mapping[str, ev.Reference] = MappingProxyType({})
    ) -> Iterator[ev.Reference | ev.Warned]:
        """The baselines on record: the run with this very seed or, failing that, the mean over other seeds. A damaged record
        is told and left out, and so are those one has already, of this very seed."""
        for name in BASELINES:
            recipe = experiment.baseline(name)  # type: ignore[arg-type]
            if recipe.key == experiment.key or (name in have and have[name].recipe == recipe.recipe):
                continue
            try:
                own = self.find(recipe)
                found = [own] if own else [r for seed in seeds if (r := self.find(recipe.but(seed=seed)))]
            except DataError as error:
                yield ev.Warned(0, str(error))
                continue
            if found:
                several = [r.reference(name) for r in found]
                skills = {s: sum(r.skills[s] for r in several) / len(several) for s in several[0].skills}
                curve = [
                    (points[0][0], sum(kl for _, kl in points) / len(points)) for points in zip(*(r.curve for r in several), strict=False)
                ]
                yield ev.Reference(name, skills, tuple(curve), several[0].recipe, len(several))


def mean(skills: Mapping[str, float], of: Sequence[str] = CORE) -> float:
    """Mean score of some skills; of all, where an exam knows none of Atlas's. Raises `LabError` naming those the exam did not ask."""
    if skills and not skills.keys() & set(SKILLS):
        return sum(skills.values()) / len(skills)
    if missing := [s for s in of if s not in skills]:
        raise LabError(f"this exam did not ask {', '.join(missing)}, so it has no such mean.")
    return sum(skills[s] for s in of) / len(of)


def core(record: Record) -> float:
    """A run's mean core skill at its last exam."""
    return mean(record.skills)


def paired(runs: Sequence[Record], others: Sequence[Record], score: Callable[[Record], float] = core) -> Band:
    """What the first runs have more of than the others, seed by seed. Raises `LabError` unless both have the same seeds."""
    mine, theirs = ({r.experiment.seed: score(r) for r in records} for records in (runs, others))
    if not mine or mine.keys() != theirs.keys():
        raise LabError(f"seeds {sorted(mine)} and {sorted(theirs)} cannot be paired: run what is missing.")
    return band([mine[seed] - theirs[seed] for seed in mine])


def gap(baseline: float, teacher: float) -> bool:
    """Whether there is anything to recover; a twentieth counts, whatever its last bit."""
    return teacher - baseline >= NO_GAP - 1e-9


def recovery(student: Mapping[str, float], reference: Mapping[str, float], teacher: Mapping[str, float], baseline: str) -> Recovery:
    """Recovery of means (NaN without a gap of 0.05) and of each skill (None without one): dividing by less would be noise."""

    def share(s: float, b: float, t: float) -> float:
        return (s - b) / (t - b) if gap(b, t) else math.nan

    core, every = (share(mean(student, of), mean(reference, of), mean(teacher, of)) for of in (CORE, SKILLS))
    each = {s: share(student[s], reference[s], teacher[s]) if gap(reference[s], teacher[s]) else None for s in student}
    return Recovery(baseline, core, every, mean(student) / mean(teacher) if mean(teacher) else math.nan, each, student, reference, teacher)
