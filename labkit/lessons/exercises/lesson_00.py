"""The exercises of lesson 00: recovery, and forward KL."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from labkit.lessons.exercises.verdict import (
    ExerciseVerdict,
    NotYet,
    all_close,
    call,
    close,
    exercise,
    log_softmax,
    must_be_function,
    numpy,
    run_on_arrays,
    single_number,
)

KL_ASKS = (
    "Write kl(teacher_logits, student_logits): for each row, the forward Kullback-Leibler divergence from the "
    "teacher's distribution to the student's, in nats, one number a row."
)
KL_MISTAKES = {
    "reverse direction": "this is the reverse KL: it weights by the student's probabilities. Forward KL weights by the "
    "teacher's, so that a student is penalised if it misses what the teacher says.",
    "mean over vocabulary": "this is the mean over the vocabulary, so it shrinks as the vocabulary grows. An "
    "expectation is a sum: the probabilities already add to 1.",
    "log base 2": "this is in bits: log base 2 makes it 1.44 times as large. Use the natural logarithm, for nats.",
    "wrong sign": "the sign is wrong: KL is never negative. It is log p minus log q.",
    "cross-entropy": "this is the cross-entropy, -sum p log q. Subtract the teacher's entropy: otherwise equal "
    "distributions do not give 0.",
    "missing softmax": "a softmax is missing: logits are neither probabilities nor log-probabilities until they are "
    "normalised over the vocabulary.",
    "softmax over rows": "the softmax runs over the rows: normalise over the vocabulary, the last axis.",
    "reverse direction, log base 2": "this is the reverse KL, in bits. Weight by the teacher's "
    "probabilities, and use the natural logarithm.",
}


@exercise("00.kl", KL_ASKS)
def kl(answer: Any) -> ExerciseVerdict:
    np = numpy()
    must_be_function(answer, "kl(teacher_logits, student_logits)")
    rng = np.random.default_rng(0)
    for shape in ((5, 7), (3, 4)):
        teacher, student = rng.normal(0, 1.5, shape), rng.normal(0, 1.5, shape)
        _judge_kl(run_on_arrays(answer, teacher, student), teacher, student)
    same = run_on_arrays(answer, teacher, teacher)
    if not close(same, np.zeros(len(teacher))):
        value = f"{float(same.reshape(-1)[0]):.4g}"
        raise NotYet(f"for two equal distributions it gives {value}, and should give 0.")
    reason = "one number a row, in nats, 0 if the two are equal, weighted by the teacher's probabilities."
    far = np.array([[0.0, 500.0, -500.0], [0.0, 1.0, 2.0]])
    try:
        stable = bool(np.isfinite(run_on_arrays(answer, far, far[:, ::-1].copy())).all())
    except NotYet:
        stable = False
    if not stable:
        reason += " Worth knowing: with logits far apart it gives inf or nan; log_softmax, not log of softmax, does not."
    return ExerciseVerdict(True, reason)


def _judge_kl(got: Any, teacher: Any, student: Any) -> None:
    """Return if `got` is the forward KL of each row; otherwise raise `NotYet` with the best reason."""
    np = numpy()
    log_p, log_q = log_softmax(teacher), log_softmax(student)
    p, q = np.exp(log_p), np.exp(log_q)
    terms, reverse = p * (log_p - log_q), (q * (log_q - log_p)).sum(-1)
    right = terms.sum(-1)
    if close(got, right):
        return
    _judge_shape(got, terms)
    if not np.isfinite(got).all():
        raise NotYet(
            "it gives nan or inf, for example from the logarithm of a negative logit: " + KL_MISTAKES["missing softmax"],
            "missing softmax",
        )
    wrong = {
        "reverse direction": [reverse],
        "mean over vocabulary": [terms.mean(-1)],
        "log base 2": [right / math.log(2)],
        "wrong sign": [-right],
        "cross-entropy": [-(p * log_q).sum(-1)],
        "missing softmax": _without_softmax(teacher, student, p, log_p, log_q),
        "softmax over rows": [_kl_over_rows(teacher, student)],
        "reverse direction, log base 2": [reverse / math.log(2)],
    }
    for name, values in wrong.items():
        if any(close(got, value) for value in values):
            raise NotYet(KL_MISTAKES[name], name)
    raise NotYet(
        f"the first row should give {right[0]:.4f} nats and gives {float(got[0]):.4f}. For each row: softmax both, "
        "then sum p (log p - log q) over the vocabulary, where p is the teacher's."
    )


def _judge_shape(got: Any, terms: Any) -> None:
    """Return if there is one number a row; otherwise raise `NotYet` with what the shape shows."""
    rows, tokens = terms.shape
    if got.shape == (rows,):
        return
    if got.shape == terms.shape:
        fix = "sum them over the vocabulary, the last axis"
        raise NotYet(f"it returns a number for every token, shape {got.shape}: {fix}.", "not summed")
    if got.size == 1:
        reductions = {"the mean": terms.sum(-1).mean(), "the sum": terms.sum(), "the mean over everything": terms.mean()}
        named = next((name for name, value in reductions.items() if close(got.reshape(()), value)), "one number")
        fix = "leave it unreduced, one number a row; the training loop divides by the answer tokens once"
        raise NotYet(f"it returns {named} for the whole batch: {fix}.", "reduced")
    if got.shape == (tokens,):
        raise NotYet("it sums over the rows: sum over the vocabulary, the last axis.", "wrong axis")
    fix = "drop the last axis (no keepdim)" if got.shape == (rows, 1) else "one number a row"
    raise NotYet(f"it returns shape {got.shape} and should return {(rows,)}: {fix}.", "wrong shape")


def _without_softmax(teacher: Any, student: Any, p: Any, log_p: Any, log_q: Any) -> list[Any]:
    """The results if one softmax or both are missing."""
    np = numpy()
    return [
        (p * (log_p - student)).sum(-1),  # F.kl_div on raw student logits
        (p * (teacher - student)).sum(-1),
        (teacher * (log_p - log_q)).sum(-1),
        (teacher * (teacher - student)).sum(-1),
        (np.exp(teacher) * (teacher - student)).sum(-1),
        (np.exp(teacher) * (log_p - log_q)).sum(-1),
        (p * (teacher - log_q)).sum(-1),
    ]


def _kl_over_rows(teacher: Any, student: Any) -> Any:
    np = numpy()
    log_p, log_q = log_softmax(teacher, 0), log_softmax(student, 0)
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


RECOVERY_ASKS = "Write recovery(student, baseline, teacher): the share of the gap from baseline to teacher that the student has closed."
TRIPLES = tuple((s, b, t) for b, t in ((0.44, 0.83), (0.2, 0.8)) for s in (0.61, t, b, 0.1, 0.9))
HIDDEN = "and clipping hides that result."
RECOVERY_MISTAKES: dict[str, tuple[Callable[[float, float, float], float], str]] = {
    "plain ratio": (
        lambda s, b, t: s / t,
        "this is the plain ratio student / teacher. It gives credit for what the baseline can do without a "
        "teacher: a student that is no better than the baseline should score 0.",
    ),
    "gain over the teacher": (
        lambda s, b, t: (s - b) / t,
        "the student's gain is right; divide it by the teacher's gain over the baseline, not by the teacher's whole score.",
    ),
    "what is left": (
        lambda s, b, t: (t - s) / (t - b),
        "this is the share that is still missing: a student as good as the teacher should score 1.",
    ),
    "difference": (
        lambda s, b, t: s - b,
        "this is the gain in points: divide it by the whole gap, teacher - baseline.",
    ),
    "gap to the teacher": (
        lambda s, b, t: t - s,
        "this is the gap that is left, in points. Recovery is the gain over the baseline, divided by the whole gap.",
    ),
    "ratio to the baseline": (
        lambda s, b, t: s / b,
        "this compares with the baseline only; the teacher is missing.",
    ),
    "percent": (
        lambda s, b, t: 100 * (s - b) / (t - b),
        "right except for the scale: give a share (1 for the whole gap), not percent.",
    ),
    "swapped arguments": (
        lambda s, b, t: (b - s) / (t - s) if t != s else math.nan,
        "student and baseline are swapped: the order is student, baseline, teacher.",
    ),
    "clipped": (
        lambda s, b, t: min(1.0, max(0.0, (s - b) / (t - b))),
        f"it is clipped at 0 and 1: a student may end below its baseline or above its teacher, {HIDDEN}",
    ),
    "clipped at 0": (
        lambda s, b, t: max(0.0, (s - b) / (t - b)),
        f"it is clipped at 0: a student that ends below its baseline has a negative recovery, {HIDDEN}",
    ),
    "clipped at 1": (
        lambda s, b, t: min(1.0, (s - b) / (t - b)),
        f"it is clipped at 1: a student may end above its teacher, {HIDDEN}",
    ),
}


@exercise("00.recovery", RECOVERY_ASKS)
def recovery(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "recovery(student, baseline, teacher)")
    results: list[float | NotYet] = []
    for triple in TRIPLES:
        try:
            results.append(single_number(call(answer, *triple)))
        except NotYet as trouble:  # such as a division by zero where two scores are equal: the other triples show why
            results.append(trouble)
    got = [v for v in results if isinstance(v, float)]
    tried = [triple for triple, v in zip(TRIPLES, results, strict=True) if isinstance(v, float)]
    for name, (rule, reason) in RECOVERY_MISTAKES.items():
        if len(got) > 2 and all_close(got, [rule(*triple) for triple in tried]) and not all_close(got, map(_share, tried)):
            raise NotYet(reason, name)
    for value in results:
        if isinstance(value, NotYet):
            raise value
    for (student, baseline, teacher), value in zip(tried, got, strict=True):
        right = _share((student, baseline, teacher))
        if not all_close([value], [right]):
            raise NotYet(
                f"for student {student:g}, baseline {baseline:g} and teacher {teacher:g} it gives {value:.4g}, "
                f"and should give {right:.4g}: the student's gain over the baseline, divided by the teacher's."
            )
    return ExerciseVerdict(True, "0 at the baseline, 1 at the teacher, negative below the baseline, above 1 beyond the teacher.")


def _share(triple: tuple[float, float, float]) -> float:
    student, baseline, teacher = triple
    return (student - baseline) / (teacher - baseline)
