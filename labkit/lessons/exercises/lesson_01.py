"""The exercise of lesson 01: how many hard labels show as much as one soft label."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, array, call, close, exercise, must_be_function, numpy

DISTINCT_ASKS = (
    "Write expected_distinct(probabilities, n): how many different answers to expect among n independent samples from this distribution."
)
DISTINCT_MISTAKES = {
    "certainty": "this counts every possible answer; with few samples most of the rare ones do not come up.",
    "expected count": "this is the number of samples n, for any distribution: count each answer once, however often it comes up.",
    "product": "n p exceeds 1 for a likely answer, but an answer counts only once: use the chance that it comes up at least once.",
    "never seen": "this is how many answers are not seen. Subtract it from the number of answers.",
    "perplexity": "this is the perplexity, exp of the entropy; it does not depend on n.",
}


@exercise("01.distinct", DISTINCT_ASKS)
def distinct(answer: Any) -> ExerciseVerdict:
    np = numpy()
    must_be_function(answer, "expected_distinct(probabilities, n)")
    cases = [(np.array([0.5, 0.3, 0.15, 0.05]), 4), (np.array([0.9, 0.05, 0.03, 0.02]), 16), (np.full(6, 1 / 6), 1)]
    returned = [array(call(answer, p.copy(), n)) for p, n in cases]
    if any(value.size != 1 for value in returned):
        fix = "sum over the answers" if returned[0].shape == (4,) else "return one number"
        raise NotYet(f"it returns shape {returned[0].shape} and should return one number: {fix}.", "not reduced")
    got = [float(value.reshape(())) for value in returned]
    right = [float((1 - (1 - p) ** n).sum()) for p, n in cases]
    if close(got, right):
        return ExerciseVerdict(
            True, "each answer counts once, with the chance 1 - (1 - p)^n that it comes up at all. A soft label shows all of them at once."
        )
    wrong = {
        "certainty": [float((p > 0).sum()) for p, _ in cases],
        "expected count": [float(n * p.sum()) for p, n in cases],
        "product": [float(np.minimum(n * p, 1).sum()) for p, n in cases],
        "never seen": [float(((1 - p) ** n).sum()) for p, n in cases],
        "perplexity": [float(np.exp(-(p * np.log(p)).sum())) for p, _ in cases],
    }
    for name, values in wrong.items():
        if close(got, values):
            raise NotYet(DISTINCT_MISTAKES[name], name)
    raise NotYet(
        f"for probabilities {cases[0][0].tolist()} and n = 4 it gives {got[0]:.4g} and should give {right[0]:.4g}: sum over the "
        "answers the chance that each is among the n."
    )
