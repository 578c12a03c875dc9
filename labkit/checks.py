"""Exercise checks: what a learner answered, a verdict, and the reason, which names the misconception when it knows it.

    check("00.recovery", my_function)      # ✓ right, or ✗ not yet and why
    EXERCISES["00.temperature"]            # what is asked, and the choices

To add one, decorate a function of the answer that returns a `Verdict`; `EXERCISES` lists them all.
"""

from __future__ import annotations

import dataclasses
import html
import importlib.util
import math
from collections.abc import Callable, Mapping
from typing import Any

from labkit.errors import need, unknown


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is right, and why (not). `misconception` names a mistake that was recognised."""

    ok: bool
    reason: str
    misconception: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"{'\u2713 right' if self.ok else '\u2717 not yet'}: {self.reason}"

    def _repr_html_(self) -> str:
        sign, word, colour = ("\u2713", "Right.", "#00766a") if self.ok else ("\u2717", "Not yet.", "#b3261e")
        style = f"border-left:3px solid {colour};padding:4px 12px;margin:4px 0;max-width:78ch"
        return f'<div role="status" style="{style}"><strong>{sign} {word}</strong> {html.escape(self.reason)}</div>'


@dataclasses.dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise: what it asks, the choices if it has any, and the function that judges an answer."""

    id: str
    asks: str
    judge: Callable[[Any], Verdict]
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return "\n".join([self.asks, *(f"  {letter}  {text}" for letter, text in self.choices.items())])

    def _repr_html_(self) -> str:
        rows = "".join(f"<li><b>{letter}</b> {html.escape(text)}</li>" for letter, text in self.choices.items())
        listed = f'<ul style="list-style:none;padding-left:1em">{rows}</ul>' if rows else ""
        return f'<div style="max-width:78ch"><p>{html.escape(self.asks)}</p>{listed}</div>'


EXERCISES: dict[str, Exercise] = {}


def exercise(id: str, asks: str, choices: Mapping[str, str] | None = None):
    """Register a judge: a function of the learner's answer. It may raise `_NotYet` with a verdict's reason."""

    def add(judge: Callable[[Any], Verdict]) -> Callable[[Any], Verdict]:
        EXERCISES[id] = Exercise(id, asks, judge, choices or {})
        return judge

    return add


def check(exercise_id: str, answer: Any) -> Verdict:
    """Judge an answer. Whatever it is, a verdict comes back; only an unknown exercise raises (`LabError`)."""
    if exercise_id not in EXERCISES:
        raise unknown("exercise", exercise_id, EXERCISES)
    try:
        return EXERCISES[exercise_id].judge(answer)
    except _NotYet as reason:
        return Verdict(False, str(reason), reason.misconception)


class _NotYet(Exception):
    """A verdict of "not yet", from anywhere inside a judge."""

    def __init__(self, reason: str, misconception: str = "") -> None:
        super().__init__(reason)
        self.misconception = misconception


# ---- lesson 00 -------------------------------------------------------------------------------------------------------

KL_ASKS = (
    "Write kl(teacher_logits, student_logits): for each row, the forward Kullback-Leibler divergence from the teacher's "
    "distribution to the student's, in nats, one number a row."
)


@exercise("00.kl", KL_ASKS)
def kl(answer: Any) -> Verdict:
    np = _numpy()
    _function(answer, "kl(teacher_logits, student_logits)")
    rng = np.random.default_rng(0)
    for teacher, student in ((rng.normal(0, 1.5, (5, 7)), rng.normal(0, 1.5, (5, 7))), (np.eye(3, 4), rng.normal(0, 1, (3, 4)))):
        got = _run_on_logits(answer, teacher, student)
        _judge_kl(got, teacher, student)
    same = _run_on_logits(answer, teacher, teacher)
    if not np.allclose(same, 0, atol=1e-4):
        raise _NotYet(f"for two equal distributions it gives {_say(same)}, and nothing differs from itself: it should be 0.")
    far = np.array([[0.0, 500.0, -500.0], [0.0, 1.0, 2.0]])
    remark = ""
    try:
        stable = bool(np.isfinite(_run_on_logits(answer, far, far[:, ::-1].copy())).all())
    except _NotYet:
        stable = False
    if not stable:
        remark = " One thing to know: with logits far apart it gives inf or nan; taking log_softmax at once, not log of softmax, does not."
    return Verdict(True, "one number a row, in nats, zero when the two agree, and the teacher's probabilities do the weighting." + remark)


def _judge_kl(got: Any, teacher: Any, student: Any) -> None:
    """Return if `got` is the forward KL of each row; otherwise raise with the most telling reason."""
    np = _numpy()
    log_p, log_q = _log_softmax(teacher), _log_softmax(student)
    p, q = np.exp(log_p), np.exp(log_q)
    terms = p * (log_p - log_q)
    right = terms.sum(-1)
    if got.shape == right.shape and _close(got, right):
        return
    if got.shape == terms.shape:
        if _close(got, terms):
            raise _NotYet("these are the terms of the sum, one for every token: add them up over the vocabulary (the last axis).", "not summed")
        raise _NotYet(f"it returns one number for every token, shape {got.shape}: there should be one a row, shape {right.shape}.", "not summed")
    if got.shape == (*right.shape, 1):
        raise _NotYet(f"it returns shape {got.shape}: drop the last axis, so that it is {right.shape} (no keepdim).", "extra axis")
    if got.size == 1 and right.size > 1:
        how = {"mean": right.mean(), "sum": right.sum(), "mean over everything": terms.mean()}
        named = next((f"the {name}" for name, value in how.items() if _close(got.reshape(()), value)), "a single number")
        raise _NotYet(
            f"it returns {named} for the whole batch: leave it unreduced, one number a row, so that the engine can divide by the "
            "answer tokens once.",
            "reduced",
        )
    if got.shape != right.shape:
        axis = " It seems to have summed over the rows (axis 0) and not over the vocabulary." if got.shape == (teacher.shape[1],) else ""
        raise _NotYet(f"it returns shape {got.shape} for {teacher.shape[0]} rows over {teacher.shape[1]} tokens, not {right.shape}.{axis}", "wrong axis" if axis else "")
    if not np.isfinite(got).all():
        reason = "it gives nan or inf. Logits may be negative, and a logarithm of one is not a number: are they turned into probabilities first?"
        raise _NotYet(reason, "missing softmax")
    with np.errstate(all="ignore"):
        known = [
            ("reverse direction", "this is the reverse KL: the student's probabilities do the weighting. Forward KL weights by the teacher's, so that the student is punished for missing what the teacher says.", [(q * (log_q - log_p)).sum(-1)]),
            ("mean over vocabulary", f"this is the mean over the vocabulary: {teacher.shape[1]} times too small here. An expectation is a sum; the probabilities already add to 1.", [terms.mean(-1)]),
            ("log base 2", "this is in bits: log base 2 makes it 1.44 times as large. Use the natural logarithm, for nats.", [right / math.log(2)]),
            ("wrong sign", "the sign is the wrong way round: KL is never negative. It is log p minus log q.", [-right]),
            ("cross-entropy", "this is the cross-entropy, -sum p log q. Subtract the teacher's own entropy: without it, equal distributions do not give 0.", [-(p * log_q).sum(-1)]),
            ("missing softmax", "a softmax is missing: logits are not probabilities, nor logarithms of any, until they are normalised over the vocabulary.", _without_softmax(np, teacher, student, p, log_p, log_q)),
            ("wrong axis", "the softmax runs over the rows: normalise over the vocabulary, the last axis.", [_kl_over_rows(np, teacher, student)]),
            ("reverse direction", "this is the reverse KL, in bits. Forward KL weights by the teacher's probabilities; and use the natural logarithm.", [(q * (log_q - log_p)).sum(-1) / math.log(2)]),
        ]  # fmt: skip
        for name, reason, wrong in known:
            if any(_close(got, value) for value in wrong):
                raise _NotYet(reason, name)
    raise _NotYet(
        f"the first row should give {right[0]:.4f} nats and gives {float(got[0]):.4f}. For each row: softmax both, then sum "
        "p (log p - log q) over the vocabulary, p being the teacher's."
    )


def _without_softmax(np: Any, teacher: Any, student: Any, p: Any, log_p: Any, log_q: Any) -> list[Any]:
    """What comes out when one softmax or both are forgotten."""
    return [
        (p * (log_p - student)).sum(-1),  # F.kl_div on raw student logits
        (p * (teacher - student)).sum(-1),
        (teacher * (log_p - log_q)).sum(-1),
        (teacher * (teacher - student)).sum(-1),
        (np.exp(teacher) * (teacher - student)).sum(-1),
        (np.exp(teacher) * (log_p - log_q)).sum(-1),
        (p * (teacher - log_q)).sum(-1),
    ]


def _kl_over_rows(np: Any, teacher: Any, student: Any) -> Any:
    log_p, log_q = _log_softmax(teacher, 0), _log_softmax(student, 0)
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


RECOVERY_ASKS = "Write recovery(student, baseline, teacher): the share of the way from the baseline to the teacher that the student went."
TRIPLES = ((0.61, 0.44, 0.83), (0.83, 0.44, 0.83), (0.44, 0.44, 0.83), (0.30, 0.44, 0.83), (0.90, 0.44, 0.83), (0.5, 0.0, 0.8))


@exercise("00.recovery", RECOVERY_ASKS)
def recovery(answer: Any) -> Verdict:
    _function(answer, "recovery(student, baseline, teacher)")
    rules: dict[str, tuple[Callable[[float, float, float], float], str]] = {
        "plain ratio": (
            lambda s, b, t: s / t,
            "this is student / teacher, which gives credit for what the baseline can do without any teacher: a student no better than "
            "the baseline should score 0.",
        ),
        "gain over the teacher": (lambda s, b, t: (s - b) / t, "the student's gain is right; divide it by the teacher's gain over the baseline, not by the teacher's whole score."),
        "what is left": (lambda s, b, t: (t - s) / (t - b), "this is the share still missing: a student as good as the teacher should score 1."),
        "difference": (lambda s, b, t: s - b, "this is the gain in points: divide it by how much there was to gain, teacher - baseline."),
        "gap to the teacher": (lambda s, b, t: t - s, "this is the gap that is left, in points. Recovery is a share: what was gained over what there was to gain."),
        "ratio to the baseline": (lambda s, b, t: s / b if b else math.inf, "this compares with the baseline only; the teacher has to be in it."),
        "percent": (lambda s, b, t: 100 * (s - b) / (t - b), "right but for the scale: give a share, 1 for the whole way, not percent."),
        "swapped arguments": (lambda s, b, t: (b - s) / (t - s) if t != s else math.inf, "student and baseline have changed places: the order is student, baseline, teacher."),
        "clipped": (
            lambda s, b, t: min(1.0, max(0.0, (s - b) / (t - b))),
            "right between 0 and 1, but it is cut off there: a student below its baseline has a negative recovery, one above its teacher more "
            "than 1, and hiding that hides a result.",
        ),
        "clipped at 0": (lambda s, b, t: max(0.0, (s - b) / (t - b)), "it is cut off at 0: a student that ends below its baseline has a negative recovery, and hiding that hides a result."),
        "clipped at 1": (lambda s, b, t: min(1.0, (s - b) / (t - b)), "it is cut off at 1: a student may end above its teacher, and hiding that hides a result."),
    }  # fmt: skip
    got = [_single(_call(answer, *triple)) for triple in TRIPLES]
    right = [(s - b) / (t - b) for s, b, t in TRIPLES]
    if _all_close(got, right):
        return Verdict(True, "0 at the baseline, 1 at the teacher, negative below and more than 1 above: nothing is hidden.")
    for name, (rule, reason) in rules.items():
        if _all_close(got, [rule(*triple) for triple in TRIPLES]):
            raise _NotYet(reason, name)
    i = next(i for i, (a, b) in enumerate(zip(got, right, strict=True)) if not _all_close([a], [b]))
    student, baseline, teacher = TRIPLES[i]
    raise _NotYet(
        f"for student {student:g}, baseline {baseline:g} and teacher {teacher:g} it gives {got[i]:.4g}, and should give {right[i]:.4g}: "
        "what the student gained over the baseline, as a share of what there was to gain."
    )


TEMPERATURE_CHOICES = {
    "A": "It makes the loss larger, so that the student learns faster.",
    "B": "It undoes the softening, so that the student learns the teacher's unsoftened probabilities.",
    "C": "It keeps the gradient's size about the same as T changes, so that the soft loss keeps its weight beside the hard one.",
    "D": "It makes the student's answers more varied when it is used.",
}


@exercise("00.temperature", "At temperature T the soft-label loss is multiplied by T squared. What for?", TEMPERATURE_CHOICES)
def temperature(answer: Any) -> Verdict:
    verdicts = {
        "A": ("faster learning", "larger is not the aim: at T = 1 the factor is 1, and AdamW hardly notices a constant factor anyway. Ask what happens to the soft gradients as T grows."),
        "B": ("undoes the softening", "a factor on the loss moves no probability: both models are still compared softened. Ask what it does to the gradient."),
        "D": ("temperature at use", "that would be a temperature used when answering. This one acts in training only; the student is examined at T = 1."),
    }  # fmt: skip
    letter = _choice(answer, TEMPERATURE_CHOICES)
    if letter != "C":
        name, reason = verdicts[letter]
        raise _NotYet(reason, name)
    return Verdict(
        True,
        "the gradients of softened targets shrink about as 1/T squared (Hinton, Vinyals & Dean 2015, section 2), so the factor keeps "
        "their size, and with it the balance of a mix with hard labels, while T is turned.",
    )


# ---- parts -----------------------------------------------------------------------------------------------------------


def _choice(answer: Any, choices: Mapping[str, str]) -> str:
    """The letter chosen: given as a letter in any case, as "C)", or as the whole text."""
    letters = ", ".join(choices)
    if not isinstance(answer, str):
        raise _NotYet(f"the answer is one letter in quotes ({letters}), and this is {_kind(answer)}.")
    text = answer.strip().casefold()
    for letter, words in choices.items():
        if text.strip("().: ") == letter.casefold() or text == words.casefold():
            return letter
    raise _NotYet(f"{answer.strip()[:40]!r} is not one of the choices: answer with one letter in quotes, {letters}.")


def _function(answer: Any, signature: str) -> None:
    name = signature.partition("(")[0]
    if not callable(answer):
        raise _NotYet(f"the answer is the function itself, written {name} without brackets, and this is {_kind(answer)}.")
    if isinstance(answer, type):
        raise _NotYet(f"the answer is a function {signature}, and this is the class {answer.__name__}.")


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a learner's function; what it raises becomes a sentence."""
    try:
        value = function(*arguments)
    except NotImplementedError:
        raise _NotYet("it is not written yet: replace `raise NotImplementedError` by your answer.", "unwritten") from None
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise _NotYet(f"your function stopped with {type(error).__name__}{f': {words}' if words else ''}.", "raised") from error
    if value is None:
        raise _NotYet("your function returned nothing: does it end with `return`?", "nothing returned")
    return value


def _run_on_logits(function: Callable[..., Any], teacher: Any, student: Any) -> Any:
    """The function's answer as a numpy array; it is given torch tensors, or numpy arrays if it cannot use those."""
    np = _numpy()
    teacher, student = teacher.astype("float32"), student.astype("float32")
    if importlib.util.find_spec("torch") is not None:
        torch = importlib.import_module("torch")
        try:
            return _array(_call(function, torch.tensor(teacher), torch.tensor(student)))
        except _NotYet as reason:
            try:
                with np.errstate(all="ignore"):
                    return _array(_call(function, teacher.copy(), student.copy()))
            except _NotYet:
                raise reason from None
    with np.errstate(all="ignore"):
        return _array(_call(function, teacher.copy(), student.copy()))


def _array(value: Any) -> Any:
    np = _numpy()
    try:
        value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError, RuntimeError):
        raise _NotYet(f"your function returned {_kind(value)}, and should return one number a row.", "wrong type") from None


def _single(value: Any) -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise _NotYet(f"your function returned {_kind(value)}, and should return one number.", "wrong type")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise _NotYet(f"your function returned {_kind(value)}, and should return one number.", "wrong type") from None


def _log_softmax(logits: Any, axis: int = -1) -> Any:
    np = _numpy()
    shifted = logits - logits.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _close(a: Any, b: Any) -> bool:
    np = _numpy()
    return bool(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-3, atol=1e-4))


def _all_close(a: list[float], b: list[float]) -> bool:
    return all(x == y or math.isclose(x, y, rel_tol=1e-4, abs_tol=1e-6) for x, y in zip(a, b, strict=True))


def _say(values: Any) -> str:
    return f"{float(values.reshape(-1)[0]):.4g}"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, bool | int | float | str):
        return f"{type(value).__name__} {str(value)[:40]!r}"
    return f"of type {type(value).__name__}"


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise need("numpy", "checking this exercise") from None
    return numpy
