"""The events of a run: small frozen records of numbers, names and text (no torch).

All views (live board, figures, tables, reports, the static tour) are computed from these events, so the same code draws a recorded run
and a live one. On disk and over the network an event is one JSON object: its fields plus `"event": "step"`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from labkit.base.errors import LabError


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One fact about a run. `seconds` is the time since the run began, without pauses."""

    kind: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object (see `plain`)."""
        return {"event": self.kind, **{f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}}


@dataclasses.dataclass(frozen=True, slots=True)
class Started(Event):
    """The run began: its recipe, the sizes of teacher and student, and the machine."""

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
    """The teacher has answered `done` of `total` questions: the cache of its signals is being built."""

    kind: ClassVar[str] = "labelled"
    done: int
    total: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Reference(Event):
    """Final scores of the teacher or a baseline on the same exam, from which recovery is computed."""

    kind: ClassVar[str] = "reference"
    name: str  # "teacher", "label budget" or "same questions"
    skills: Mapping[str, float]
    curve: tuple[tuple[int, float], ...] = ()  # the baseline's KL by step; empty for the teacher
    recipe: str = ""
    seeds: int = 1  # runs that the scores are a mean of


@dataclasses.dataclass(frozen=True, slots=True)
class Step(Event):
    """One optimiser step."""

    kind: ClassVar[str] = "step"
    step: int
    seconds: float
    questions_seen: int
    values: Mapping[str, float]  # loss (weighted sum, nats per answer token), kl, lr, grad_norm; ce if gold labels are mixed in


@dataclasses.dataclass(frozen=True, slots=True)
class Inspected(Event):
    """Numbers about one batch before its step: what is in the loss, and what the signal says (see `batch_check.check_batch`)."""

    kind: ClassVar[str] = "inspected"
    step: int
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Probe(Event):
    """Probabilities of teacher and student for the first answer token of one question."""

    kind: ClassVar[str] = "probe"
    step: int
    question: str
    tokens: tuple[str, ...]  # the likeliest of either model; with different vocabularies, whole valid answers
    teacher: tuple[float, ...]  # the probability of each
    student: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluated(Event):
    """Scores of the student on the exam."""

    kind: ClassVar[str] = "evaluated"
    step: int
    seconds: float
    skills: Mapping[str, float]  # the score of each, in [0, 1]
    # bits_per_byte and truth_bits_per_byte. With the teacher's vocabulary also kl (nats per answer token), agreement (of top-1 tokens),
    # acceptance (of speculative decoding at temperature 1; older records lack it), and the entropies of both models.
    fidelity: Mapping[str, float]
    open: Mapping[str, float]  # validity and coverage of answers to open questions
    ece: float  # expected calibration error of whole answers
    truth: Mapping[str, float] = dataclasses.field(default_factory=dict)  # shares of right, inherited and wrong answers
    final: bool = False  # whether it is the last exam of the run
    # unended: share of answers without an end mark. confidence: mean probability of the student's answers. In the last exam also asked
    # (mean of its held-out skills) and fresh (the same on as many questions that no exam had asked before).
    habits: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # Working right: of each skill with steps, the share of answers whose every step is right, at most the score. Older records lack it.
    working: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled(Event):
    """Answers that the student has just generated: rows of question, skill, student, teacher, truth and verdict.

    Verdicts: "right"; "working" (the last step is right, another one is wrong); "inherited" (the teacher's wrong answer, word for word);
    "wrong" (any other wrong answer). Older records have "right" in place of "working".
    """

    kind: ClassVar[str] = "sampled"
    step: int
    rows: tuple[Mapping[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class KnobTurned(Event):
    """A hot knob was changed during the run, or "threads"; the new value holds from `step` on."""

    kind: ClassVar[str] = "knob_turned"
    step: int
    seconds: float
    name: str
    old: float | str
    new: float | str


@dataclasses.dataclass(frozen=True, slots=True)
class Warned(Event):
    """A warning for the user that did not stop the run."""

    kind: ClassVar[str] = "warned"
    step: int
    message: str
    offer: str = ""  # what the run can do about it, if `Run.turn` is called with it: "threads=1" or nothing


@dataclasses.dataclass(frozen=True, slots=True)
class Finished(Event):
    """The run ended without an error. `reason`: "completed" or "stopped"."""

    kind: ClassVar[str] = "finished"
    step: int
    seconds: float
    reason: str
    cost: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Failed(Event):
    """The run could not continue: what happened, and what to do next. The last good student is kept."""

    kind: ClassVar[str] = "failed"
    step: int
    message: str
    advice: str


KINDS: dict[str, type[Event]] = {cls.kind: cls for cls in Event.__subclasses__()}


def from_json(row: Mapping[str, Any]) -> Event:
    """The event of a JSON object. Raises `LabError` for an unknown kind, missing fields, or one of another type."""
    cls = KINDS.get(str(row.get("event", "")))
    if cls is None:
        raise LabError(f"unknown event {row.get('event')!r}: this lab knows {', '.join(KINDS)}.")
    tests = _tests(cls.kind)
    given = {name: _frozen(value) for name, value in row.items() if name in tests}
    if wrong := [name for name, value in given.items() if not tests[name](value)]:
        raise LabError(f"the {cls.kind!r} event has {wrong[0]}={str(row[wrong[0]])[:50]!r}, which is of another type than it must be.")
    try:
        return cls(**given)
    except TypeError as error:
        raise LabError(f"the {cls.kind!r} event is incomplete: {error}.") from None


Test = Callable[[Any], bool]


@functools.cache
def _tests(kind: str) -> dict[str, Test]:
    """For each field of an event, whether a value read from JSON is of its type. A number may be null, which is what NaN becomes."""
    cls = KINDS[kind]
    kinds = typing.get_type_hints(cls)
    tests = {f.name: _test(kinds[f.name]) for f in dataclasses.fields(cls)}
    if "seconds" in tests:  # times and scores are never NaN
        tests["seconds"] = _number
    if cls in (Reference, Evaluated):
        tests["skills"] = lambda value: isinstance(value, dict) and all(map(_number, value.values()))
    return tests


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63  # a longer one fits into no float


def _number(value: Any) -> bool:
    return type(value) is float or _whole(value)


def _test(kind: Any) -> Test:
    if kind is Any:
        return lambda value: True
    if kind is float:
        return lambda value: value is None or _number(value)
    if kind is int:
        return _whole
    if isinstance(kind, types.UnionType):
        any_of = [_test(part) for part in typing.get_args(kind)]
        return lambda value: any(test(value) for test in any_of)
    whole, parts = typing.get_origin(kind), typing.get_args(kind)
    if whole is None:
        return lambda value: type(value) is kind
    tests = [_test(part) for part in parts if part is not ...]
    if whole is not tuple:  # a mapping from texts
        return lambda value: isinstance(value, dict) and all(map(tests[1], value.values()))
    if ... in parts:
        return lambda value: isinstance(value, tuple) and all(map(tests[0], value))
    return lambda value: (
        isinstance(value, tuple) and len(value) == len(tests) and all(test(v) for test, v in zip(tests, value, strict=True))
    )


def dumps(event: Event) -> str:
    """The event as one line of JSON."""
    return json.dumps(event.to_json(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """A copy that JSON can hold: NaN and infinity become null, floats keep six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
