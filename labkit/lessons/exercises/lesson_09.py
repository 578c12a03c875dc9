"""The exercise of lesson 09: the mean at each position, over answers of different lengths."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, close, exercise, must_be_function, numpy, run_on_arrays

POSITION_ASKS = (
    "Write by_position(kl, is_answer): kl holds the KL at every position of every answer, one answer a row; is_answer is 1 up to the end "
    "of each answer and 0 after it. Return the mean KL at each position, over the answers that reach it."
)
POSITION_MISTAKES = {
    "all rows": "it divides by all answers, also those that have ended, so late positions look better than they are: divide each "
    "position by the number of answers that reach it.",
    "padding": "the mean includes padding, after the end of an answer: multiply by is_answer first.",
    "by answer": "this is the mean of each answer. Take the mean over the rows, at each position.",
    "summed": "this is the sum over the answers: divide by how many reach the position.",
    "one number": "this is one mean over all answer tokens, in which the many early positions hide the late ones.",
    "cumulative": "this is the cumulative sum along the answer: keep the positions separate.",
}


@exercise("09.position", POSITION_ASKS)
def position(answer: Any) -> ExerciseVerdict:
    np = numpy()
    must_be_function(answer, "by_position(kl, is_answer)")
    kl = np.random.default_rng(9).gamma(1.0, 1.0, (5, 6))
    mask = np.arange(6)[None] < np.array([6, 3, 2, 5, 3])[:, None]
    returned = run_on_arrays(answer, kl, mask)
    kept, reach = kl * mask, mask.sum(0)
    right = kept.sum(0) / reach
    wrong = {
        "all rows": kept.mean(0),
        "padding": kl.mean(0),
        "by answer": kept.sum(1) / mask.sum(1),
        "summed": kept.sum(0),
        "one number": np.array(kept.sum() / mask.sum()),
        "cumulative": right.cumsum(),
    }
    if returned.shape == right.shape and close(returned, right):
        return ExerciseVerdict(
            True, "each position is a mean over the answers that reach it. There are fewer at later positions, so the band widens."
        )
    for name, value in wrong.items():
        if returned.shape == np.asarray(value).shape and close(returned, value):
            raise NotYet(POSITION_MISTAKES[name], name)
    if returned.shape != right.shape:
        raise NotYet(f"it returns shape {returned.shape} and should return one mean for each of the 6 positions.", "shape")
    raise NotYet(f"at the last position it gives {returned[-1]:.3f} and should give {right[-1]:.3f}: one answer of five reaches it.")
