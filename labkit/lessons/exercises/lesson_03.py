"""The exercise of lesson 03: from a KL at every position to one number."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, close, exercise, must_be_function, numpy, run_on_arrays

REDUCE_ASKS = (
    "Write reduce(kl, is_answer): kl is (rows, positions), is_answer is 1 where the next token belongs to an answer, else 0. "
    "Return one number: nats per answer token."
)
REDUCE_MISTAKES = {
    "no mask": "prompt and padding are in it: only positions with is_answer = 1 count.",
    "mean over everything": "the sum over answer tokens is divided by all positions: the more padding, the smaller the loss.",
    "per row": "it is divided by the number of rows: longer answers make the loss larger. Divide by the answer tokens.",
    "mean of row means": "each row is averaged first, so a token of a short answer weighs more than one of a long answer.",
    "sum": "this is the sum: divide it by the number of answer tokens, or the step size depends on the batch.",
    "divided twice": "it is divided by the token count twice, a bug that a library had: the loss is hundreds of times too small.",
    "not shifted": "the mask is one position late: it leaves out the first answer token and includes one after the end.",
}


@exercise("03.reduce", REDUCE_ASKS)
def reduce(answer: Any) -> ExerciseVerdict:
    np = numpy()
    must_be_function(answer, "reduce(kl, is_answer)")
    kl = np.random.default_rng(1).gamma(1.0, 1.0, (3, 9))
    mask = np.zeros((3, 9), dtype=bool)
    mask[0, 4:6], mask[1, 3:8], mask[2, 6:7] = True, True, True
    returned = run_on_arrays(answer, kl, mask)
    if returned.size != 1:
        raise NotYet(f"it returns shape {returned.shape} and should return one number.", "not reduced")
    got, n = float(returned.reshape(())), mask.sum()
    total, late = (kl * mask).sum(), np.roll(mask, 1, 1)
    if close(got, total / n):
        return ExerciseVerdict(
            True, "summed over answer tokens and divided once, by their number: padding and micro-batches do not change it."
        )
    wrong = {
        "no mask": kl.mean(),
        "mean over everything": total / kl.size,
        "per row": total / len(kl),
        "mean of row means": ((kl * mask).sum(1) / mask.sum(1)).mean(),
        "sum": total,
        "divided twice": total / n**2,
        "not shifted": (kl * late).sum() / late.sum(),
    }
    for name, value in wrong.items():
        if close(got, value):
            raise NotYet(REDUCE_MISTAKES[name], name)
    raise NotYet(f"it gives {got:.4f} and should give {total / n:.4f}: sum kl where is_answer is 1, and divide by their number.")
