"""The exercises of lesson 02: the factor T squared, softening a distribution, and temperature in the loss or in sampling."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import (
    ExerciseVerdict,
    NotYet,
    close,
    exercise,
    log_softmax,
    must_be_function,
    must_be_right_choice,
    numpy,
    run_on_arrays,
)

ENTROPY_ASKS = "Write softened_entropy(logits, temperature): for each row, the entropy in nats of softmax(logits / temperature)."
ENTROPY_MISTAKES = {
    "multiplied": "the logits are multiplied by the temperature, which sharpens. Divide, so that differences shrink.",
    "not softened": "the temperature is not used: this is the entropy at T = 1.",
    "probabilities divided": "the probabilities are divided by T instead of the logits, so they no longer add to 1.",
    "log base 2": "this is in bits: log base 2 makes it 1.44 times as large. Use the natural logarithm, for nats.",
    "wrong sign": "the sign is wrong: an entropy is never negative. It is minus the sum of p log p.",
    "mean over vocabulary": "this is the mean over the vocabulary. An entropy is a sum: the probabilities already add to 1.",
}


@exercise("02.entropy", ENTROPY_ASKS)
def entropy(answer: Any) -> ExerciseVerdict:
    np = numpy()
    must_be_function(answer, "softened_entropy(logits, temperature)")
    logits, T = np.random.default_rng(0).normal(0, 2.5, (5, 7)), 3.0
    got = run_on_arrays(lambda rows: answer(rows, T), logits)

    def entropy_of(x: Any) -> Any:
        log_p = log_softmax(x)
        return -(np.exp(log_p) * log_p).sum(-1)

    right = entropy_of(logits / T)
    if close(got, right):
        return ExerciseVerdict(
            True,
            "it grows with T from 0 to log V: its derivative Var(logits) / T^3, under the softened distribution, is never negative.",
        )
    if got.shape != right.shape:
        raise NotYet(
            f"it returns shape {got.shape} and should return one number a row, {right.shape}: sum over the last axis.", "wrong shape"
        )
    p = np.exp(log_softmax(logits))
    wrong = {
        "multiplied": entropy_of(logits * T),
        "not softened": entropy_of(logits),
        "probabilities divided": -(p / T * np.log(p / T)).sum(-1),
        "log base 2": right / np.log(2),
        "wrong sign": -right,
        "mean over vocabulary": right / logits.shape[-1],
    }
    for name, values in wrong.items():
        if close(got, values):
            raise NotYet(ENTROPY_MISTAKES[name], name)
    raise NotYet(
        f"the first row should give {right[0]:.4f} nats at T = 3 and gives {float(got[0]):.4f}: soften, then minus the sum of p log p."
    )


SQUARED_CHOICES = {
    "A": "It makes the loss larger, so that the student learns faster.",
    "B": "It undoes the softening, so that the student learns the teacher's unsoftened probabilities.",
    "C": "It keeps the gradient's size about the same as T changes, so that the soft loss keeps its weight beside the hard one.",
    "D": "It makes the student's answers more varied when it is used.",
}
SQUARED_MISTAKES = {
    "A": (
        "faster learning",
        "faster learning is not the aim, and AdamW is almost unaffected by a constant factor. What happens to the "
        "gradients of softened targets as T grows?",
    ),
    "B": (
        "undoes the softening",
        "a factor on the loss does not undo the softening: both models are still softened. What does it do to the gradient?",
    ),
    "D": (
        "temperature at use",
        "that is the sampling temperature, used when answering. This one acts in training only; the exam uses T = 1.",
    ),
}


@exercise("02.squared", "At temperature T the soft-label loss is multiplied by T squared. Why?", SQUARED_CHOICES)
def squared(answer: Any) -> ExerciseVerdict:
    must_be_right_choice(answer, SQUARED_CHOICES, SQUARED_MISTAKES)
    return ExerciseVerdict(
        True,
        "the gradients of softened targets shrink about as 1/T squared (Hinton, Vinyals & Dean 2015, section 2). The "
        "factor keeps their size, and so the balance with hard labels, when T changes.",
    )


KNOB_CHOICES = {
    "A": "Raise the temperature of the loss: softer targets make more varied answers.",
    "B": "Raise the sampling temperature when the teacher writes the text, and check what is still right.",
    "C": "Raise both together, since they are the same temperature.",
    "D": "Lower the learning rate, so that the student forgets less.",
}
KNOB_MISTAKES = {
    "A": (
        "loss temperature",
        "T in the loss changes how two distributions are compared in training. The best fit is the same distribution at any T.",
    ),
    "C": (
        "one temperature",
        "they are two knobs: one softens both models in the loss, the other the distribution that tokens are sampled from.",
    ),
    "D": ("learning rate", "the student can only be as varied as the text it learns from. Where does that text come from?"),
}


@exercise(
    "02.knob", "A data set written by a teacher at temperature 0 is monotonous. Which knob makes the data itself more varied?", KNOB_CHOICES
)
def knob(answer: Any) -> ExerciseVerdict:
    must_be_right_choice(answer, KNOB_CHOICES, KNOB_MISTAKES)
    return ExerciseVerdict(True, "the sampling temperature gives variety, and it costs validity: the figure above shows both.")
