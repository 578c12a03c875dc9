"""What a run says while it trains: small frozen facts, numbers, names and text only (no torch).

Every view (live board, figures, tables, reports, the static tour) is a fold of these events, so a recorded run and a live
one are drawn by the same code. On disk and over the wire an event is one JSON object: its fields plus `"event": "step"`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from labkit.base.errors import LabError


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One fact about a run. `seconds` is time since the run began, pauses left out."""

    kind: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        return {"event": self.kind, **{f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}}


@dataclasses.dataclass(frozen=True, slots=True)
class Started(Event):
    """The run began: its recipe, who teaches whom, and on what machine."""

    kind: ClassVar[str] = "started"
    experiment: Mapping[str, Any]
    title: str
    teacher_parameters: int
    student_parameters: int
    steps: int
    questions: int
    skills: tuple[str, ...]
    machine: str


@dataclasses.dataclass(frozen=True, slots=True)
class Labelled(Event):
    """The teacher has answered `done` of the `total` questions of the pool (the signal cache is being built)."""

    kind: ClassVar[str] = "labelled"
    done: int
    total: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Reference(Event):
    """What recovery is measured against: the teacher, or a baseline's final scores on the same exam.

    `name` is one of "teacher", "label budget", "same questions"; `curve` is the baseline's own KL against step,
    empty for the teacher; `seeds` says how many runs the scores average.
    """

    kind: ClassVar[str] = "reference"
    name: str
    skills: Mapping[str, float]
    curve: tuple[tuple[int, float], ...] = ()
    recipe: str = ""
    seeds: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Step(Event):
    """One optimiser step. `values` always has loss (weighted sum, nats per answer token), kl, lr, grad_norm; ce where mixed."""

    kind: ClassVar[str] = "step"
    step: int
    seconds: float
    questions_seen: int
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Inspected(Event):
    """One batch looked at before its step: what the loss reads, and what the teacher's signal says (see `batch_check.check_batch`)."""

    kind: ClassVar[str] = "inspected"
    step: int
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Probe(Event):
    """Teacher and student side by side on the first answer token of one question: the `tokens` either finds likeliest. With different
    vocabularies: valid answers as a whole."""

    kind: ClassVar[str] = "probe"
    step: int
    question: str
    tokens: tuple[str, ...]
    teacher: tuple[float, ...]
    student: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluated(Event):
    """Scores on the exam: `skills` in [0, 1]; `fidelity` (bits_per_byte, truth_bits_per_byte; with the teacher's vocabulary also kl in nats
    per answer token, agreement of top-1 tokens, acceptance by speculative decoding at temperature 1 (records made before it was taken lack
    it), and both entropies); `open` (validity, coverage); `ece` (expected calibration error of
    whole answers); `habits` (unended: share of answers that found no end; confidence: mean probability of its own answers; of the last
    exam also asked: mean of its held-out skills, and fresh: the same on as many questions that no exam had asked before). `final` marks the
    last one of a run."""

    kind: ClassVar[str] = "evaluated"
    step: int
    seconds: float
    skills: Mapping[str, float]
    fidelity: Mapping[str, float]
    open: Mapping[str, float]
    ece: float
    truth: Mapping[str, float] = dataclasses.field(default_factory=dict)
    final: bool = False
    habits: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled(Event):
    """Answers the student has just generated: rows of question, skill, student, teacher, truth and a verdict.

    Verdicts: "right"; "inherited" (wrong, and word for word the teacher's own wrong answer); "wrong" (any other).
    """

    kind: ClassVar[str] = "sampled"
    step: int
    rows: tuple[Mapping[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class KnobTurned(Event):
    """A hot knob changed while the run was going; it holds from `step` on."""

    kind: ClassVar[str] = "knob_turned"
    step: int
    seconds: float
    name: str
    old: float | str
    new: float | str


@dataclasses.dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something a learner should know that did not stop the run."""

    kind: ClassVar[str] = "warned"
    step: int
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Finished(Event):
    """The run ended in order. `reason`: "completed" or "stopped"."""

    kind: ClassVar[str] = "finished"
    step: int
    seconds: float
    reason: str
    cost: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Failed(Event):
    """The run could not go on: what happened, in words, and what to do next. The last good student is kept."""

    kind: ClassVar[str] = "failed"
    step: int
    message: str
    advice: str


KINDS: dict[str, type[Event]] = {cls.kind: cls for cls in Event.__subclasses__()}


def from_json(row: Mapping[str, Any]) -> Event:
    """The event a JSON object stands for. Raises `LabError` for an unknown kind or missing fields."""
    cls = KINDS.get(str(row.get("event", "")))
    if cls is None:
        raise LabError(f"unknown event {row.get('event')!r}: this lab knows {', '.join(KINDS)}.")
    names = {f.name for f in dataclasses.fields(cls)}
    try:
        return cls(**{k: _frozen(v) for k, v in row.items() if k in names})
    except TypeError as error:
        raise LabError(f"the {cls.kind!r} event is incomplete: {error}.") from None


def dumps(event: Event) -> str:
    return json.dumps(event.to_json(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """JSON-able copy; a NaN or infinity becomes null, floats keep six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
