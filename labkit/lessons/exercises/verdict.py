"""The parts of all exercises: the registry, the verdict, and safe calls of a learner's code."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from labkit.base.errors import need, shown
from labkit.base.html import WIDE, Html, listed, tag, with_code
from labkit.base.interrupts import uninterrupted
from labkit.base.kinds import kinds_checked
from labkit.base.palette import css
from labkit.base.registry import Registry
from labkit.lessons.passed import keep


@dataclasses.dataclass(frozen=True, slots=True)
class ExerciseVerdict:
    """Whether an answer is right, and why."""

    ok: bool
    reason: str
    misconception: str = ""  # the name of a mistake that was recognised

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return ("\u2713 right: " if self.ok else "\u2717 not yet: ") + self.reason

    def _repr_html_(self) -> str:
        sign, word, role = ("\u2713", "Right.", "truth") if self.ok else ("\u2717", "Not yet.", "alarm")
        style = f"border-left:3px solid var(--dlab-{role});padding:4px 12px;margin:4px 0;{WIDE}"
        colours = tag("style", Html(css(".dlab-verdict-box")))
        said = tag("strong", f"{sign} {word}"), " ", with_code(self.reason)
        return tag("div", colours, *said, role="status", class_="dlab-verdict-box", style=style)


@dataclasses.dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise: its task, its choices if it has any, and the function that judges an answer."""

    id: str
    asks: str
    judge: Callable[[Any], ExerciseVerdict] = dataclasses.field(kw_only=True)
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return "\n".join([self.asks, *(f"  {letter}  {text}" for letter, text in self.choices.items())])

    def _repr_html_(self) -> str:
        choices = listed(
            (tag("b", letter) + " " + with_code(text) for letter, text in self.choices.items()), style="list-style:none;padding-left:1em"
        )
        return tag("div", tag("p", with_code(self.asks)), choices if self.choices else "", style=WIDE)


EXERCISES = Registry("exercise", Exercise, "judge", *(f"{__package__}.lesson_{number:02}" for number in (*range(12), 13)))
exercise = EXERCISES.register  # decorates a judge: a function of the answer, which may raise `NotYet`


@kinds_checked
def check(exercise_id: str, answer: Any) -> ExerciseVerdict:
    """Judge an answer. A right one is kept on this machine, for `labkit.handin`.

    exercise_id: as in `EXERCISES`, such as "00.kl".
    answer: the learner's function, or the letter of a choice. Anything gets a verdict.

    Raises `LabError` for an unknown exercise.
    """
    judge = EXERCISES[exercise_id].judge
    try:
        verdict = judge(answer)
    except NotYet as reason:
        return ExerciseVerdict(False, str(reason), reason.misconception)
    return dataclasses.replace(verdict, reason=verdict.reason + keep(exercise_id, answer)) if verdict else verdict


class NotYet(Exception):
    """A verdict of "not yet" with its reason, raised anywhere inside a judge."""

    def __init__(self, reason: str, misconception: str = "") -> None:
        super().__init__(reason)
        self.misconception = misconception


# ---- for judges


def must_be_right_choice(answer: Any, choices: Mapping[str, str], mistakes: Mapping[str, tuple[str, str]]) -> None:
    """Raise `NotYet` for an answer that is not the right choice, given as a letter in any case, as "C)", or as the whole text.

    mistakes: name and reason of each wrong letter.
    """
    letters = ", ".join(choices)
    if not isinstance(answer, str):
        raise NotYet(f"the answer should be one letter in quotes ({letters}), but this is {kind_of(answer)}.")
    text = answer.strip().casefold()
    for letter, words in choices.items():
        if text.strip("().: ") == letter.casefold() or text == words.casefold():
            if letter in mistakes:
                name, reason = mistakes[letter]
                raise NotYet(reason, name)
            return
    raise NotYet(f"{answer.strip()[:40]!r} is not one of the choices: answer with one letter in quotes, {letters}.")


def must_be_function(answer: Any, signature: str) -> None:
    """Raise `NotYet` for an answer that is not a function. `signature`: what it should look like, for the message."""
    name = signature.partition("(")[0]
    if not callable(answer):
        raise NotYet(f"the answer should be the function itself, {name} without brackets, but this is {kind_of(answer)}.")
    if isinstance(answer, type):
        raise NotYet(f"the answer should be a function {signature}, but this is the class {answer.__name__}.")


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a learner's function. What it raises, and a result of None, becomes a `NotYet`."""
    try:
        value = function(*arguments)
    except NotImplementedError:
        raise NotYet("it is not written yet: replace `raise NotImplementedError` with your code.", "unwritten") from None
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise NotYet(f"your function stopped with {type(error).__name__}{f': {text}' if text else ''}.", "raised") from error
    if value is None:
        raise NotYet("your function returned nothing: does it end with `return`?", "nothing returned")
    return value


def run_on_arrays(function: Callable[..., Any], *arrays: Any) -> Any:
    """The function's result as a numpy array. It is called with torch tensors, or with numpy arrays if that fails."""
    np = numpy()
    arrays = tuple(x if x.dtype == bool else x.astype("float32") for x in arrays)
    if importlib.util.find_spec("torch") is not None:
        with uninterrupted():
            torch = importlib.import_module("torch")
        try:
            return array(call(function, *map(torch.tensor, arrays)))
        except NotYet as reason:
            try:
                with np.errstate(all="ignore"):
                    return array(call(function, *(x.copy() for x in arrays)))
            except NotYet:
                raise reason from None
    with np.errstate(all="ignore"):
        return array(call(function, *(x.copy() for x in arrays)))


def array(value: Any) -> Any:
    """A learner's result as a numpy array of floats."""
    np = numpy()
    try:
        value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
        if isinstance(value, str | bytes):
            raise TypeError  # numpy would parse a number from it
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"your function returned {kind_of(value)}, and should return one number a row.", "wrong type") from None


def single_number(value: Any) -> float:
    """A learner's result as a float."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise NotYet(f"your function returned {kind_of(value)}, and should return one number.", "wrong type")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"your function returned {kind_of(value)}, and should return one number.", "wrong type") from None


def log_softmax(logits: Any, axis: int = -1) -> Any:
    """Log-softmax in numpy, stable for large logits."""
    np = numpy()
    shifted = logits - logits.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def close(a: Any, b: Any) -> bool:
    """Whether two arrays have the same shape and about the same values, to float32's precision."""
    np = numpy()
    return bool(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-3, atol=1e-4))


def all_close(a: Iterable[float], b: Iterable[float]) -> bool:
    """Whether two lists of numbers of one length are about the same."""
    return all(math.isclose(x, y, rel_tol=1e-4, abs_tol=1e-6) for x, y in zip(a, b, strict=True))


def kind_of(value: Any) -> str:
    """What a value is, in words for a message."""
    if value is None:
        return "nothing (None)"
    if isinstance(value, bool | int | float | str):
        return f"{type(value).__name__} {shown(value)}"
    return f"of type {type(value).__name__}"


def numpy() -> Any:
    """The package numpy.

    Raises `MissingPackage` if it is not installed.
    """
    try:
        with uninterrupted():
            import numpy as package
    except ImportError:
        raise need("numpy", "checking this exercise") from None
    return package
