"""The numbers of a probe beside those of sound runs, and the cheapest probes with which a detector finds a failure.

    found = look("signal against text", case.evidence, case.healthy)       # a `ProbeFinding`: a small table that displays itself
    cheapest(case.evidence, ["shuffled_cache"])                            # the cheapest probes that show it to a detector

A `Glimpse` is evidence of which only the bought fields can be read.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.html import table, tag
from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures import FAILURES
from labkit.diagnosis.incidents.probes import PROBES, UNTOLD, minutes, probe
from labkit.tasks.atlas.contested import rows_for_show

if TYPE_CHECKING:
    import pandas

    from labkit.views.figures import Drawing


@dataclasses.dataclass(frozen=True)
class FindingRow:
    """A measure of this run, and its range in sound runs."""

    words: str
    value: str
    healthy: str


@dataclasses.dataclass(frozen=True)
class ProbeFinding:
    """What a probe shows of a run."""

    probe: str
    minutes: int
    rows: tuple[FindingRow, ...]
    samples: tuple[tuple[str, str, str], ...] = ()  # question, the student's answer, the teacher's
    curves: Mapping[str, Sequence[tuple[float, float]]] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        wide = max(len(row.words) for row in self.rows)
        lines = [f"{self.probe} ({self.minutes} min)"]
        lines += [f"  {row.words:<{wide}}  {row.value:>7}   sound runs: {row.healthy}" for row in self.rows]
        return "\n".join(lines + [f"  {asked}  {answer or '(nothing)'}  (teacher: {taught})" for asked, answer, taught in self.samples])

    @property
    def table(self) -> pandas.DataFrame:
        import pandas

        return pandas.DataFrame([dataclasses.asdict(row) for row in self.rows]).set_index("words")

    @property
    def figure(self) -> Drawing | None:
        """The probe's curve beside that of a sound run; None if it has no curve."""
        if not self.curves:
            return None
        from labkit.views import figures

        series = {name: figures.Line(points, role) for (name, points), role in zip(self.curves.items(), ("student", "ghost"), strict=True)}
        return figures.lines(self.probe, "this run, and a sound run of the same recipe; log scale", series, "step", log=True)

    def _repr_html_(self) -> str:
        rows = ((row.words, row.value, row.healthy) for row in self.rows)
        shown = table((self.probe, "this run", "sound runs"), rows, class_="labkit-finding")
        answers = ([text or tag("i", "nothing") for text in sample] for sample in self.samples)
        return shown + table(("question", "the student", "its teacher"), answers) if self.samples else shown


def look(name: str, seen: Evidence, healthy: Sequence[Evidence]) -> ProbeFinding:
    """A probe's numbers of a run, each beside its range in sound runs."""
    entry = probe(name)
    rows = [FindingRow(m.words, told(m.read(seen), m.form), between([m.read(other) for other in healthy], m.form)) for m in entry.measures]
    rows = [row for row in rows if (row.value, row.healthy) != (UNTOLD, UNTOLD)] or rows  # runs without gold labels have no gold part
    samples = (
        tuple((row["question"], row["student"], row["teacher"]) for row in rows_for_show(seen.samples[-1])[:8])
        if entry.samples and seen.samples
        else ()
    )
    curves = {"this run": _curve(seen, entry.curve), "a sound run": _curve(healthy[0], entry.curve)} if entry.curve and healthy else {}
    drawn = curves if all(curves.values()) else {}  # across vocabularies there is no KL by token to draw
    return ProbeFinding(name, entry.minutes, tuple(rows), samples, drawn)


def told(value: float, form: str = ".2f") -> str:
    """A number as text; NaN is `UNTOLD`."""
    return UNTOLD if math.isnan(value) else format(value, form).replace("-", "\u2212")


def between(values: Iterable[float], form: str = ".2f") -> str:
    """The range of some numbers as text, without NaN."""
    known = [value for value in values if not math.isnan(value)]
    low, high = (told(end(known), form) for end in (min, max)) if known else (UNTOLD, UNTOLD)
    return low if low == high else f"{low} to {high}"


def _curve(seen: Evidence, name: str) -> list[tuple[float, float]]:
    """The first value of a training number, then its means over eighths of the run (single batches are noisy)."""
    values = [(step.get(name), at) for at, step in enumerate(seen.steps, 1)]
    known = [(float(at), value) for value, at in values if value is not None]
    size = max(1, math.ceil(len(known) / 8))
    parts = [known[at : at + size] for at in range(0, len(known), size)]
    return known[:1] + [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


# ---- what a detector finds with a few probes -----------------------------------------------------------------------------------------


class Glimpse(Evidence):
    """Evidence of which only some fields can be read; the others are NaN (every comparison with NaN is False)."""

    def __init__(self, whole: Evidence, opened: Collection[str]) -> None:
        def kept(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if name in opened}

        self.look, self.training, self.first = map(kept, (whole.look, whole.training, whole.first))
        exam = whole.exam
        self.exam = dataclasses.replace(
            exam,
            skills=exam.skills if "skills" in opened else {},
            fidelity=kept(exam.fidelity),
            habits=kept(exam.habits),
            truth=kept(exam.truth),
        )
        self.teacher = whole.teacher if "teacher" in opened else {}
        self.cost = whole.cost if "cost" in opened else {}
        self.length, self._events = whole.length, lambda: []


def cheapest(seen: Evidence, names: Collection[str], most: int = 4) -> tuple[str, ...] | None:
    """The cheapest probes with which the detectors of these failures all find them; None if `most` probes are not enough."""
    choices = [some for many in range(1, most + 1) for some in itertools.combinations(PROBES, many)]
    for some in sorted(choices, key=minutes):
        glimpse = Glimpse(seen, {field for name in some for field in PROBES[name].opens})
        if all(FAILURES[name].detect(glimpse) for name in names):
            return some
    return None
