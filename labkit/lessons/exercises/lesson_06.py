"""The exercises of lesson 06: bits per parameter, and what to change if a student is too small."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import (
    ExerciseVerdict,
    NotYet,
    close,
    exercise,
    must_be_function,
    must_be_right_choice,
    numpy,
    run_on_arrays,
)

BITS_ASKS = (
    "Write bits_per_parameter(nats, candidates, parameters): nats is minus the log-probability of each fact's answer, candidates is how "
    "many equally likely answers each fact has. Return one number: the bits of the facts that the model holds, per parameter."
)
BITS_MISTAKES = {
    "nats taken for bits": "the losses are in nats and log2(candidates) in bits: divide the losses by log(2) before you subtract.",
    "nats": "everything is in nats: it is 0.69 times what it should be. Divide by log(2).",
    "mean over facts": "this is the mean over the facts. Return the sum: twice as many facts, known as well, are twice the bits.",
    "asked, not held": "these are all bits of the facts. Subtract what the model does not know: its losses, in bits.",
    "what is missing": "this is what the model does not know. It holds the rest: log2(candidates) minus its losses.",
    "a fact": "this divides by the number of facts; divide by the parameters.",
}


@exercise("06.bits", BITS_ASKS)
def bits(answer: Any) -> ExerciseVerdict:
    np = numpy()
    must_be_function(answer, "bits_per_parameter(nats, candidates, parameters)")
    random, parameters = np.random.default_rng(6), 50.0
    nats, candidates = random.gamma(1.0, 0.8, 40), random.integers(8, 200, 40).astype(float)
    returned = run_on_arrays(lambda x, n: answer(x, n, parameters), nats, candidates)
    if returned.size != 1:
        raise NotYet(f"it returns shape {returned.shape} and should return one number: sum over the facts.", "not summed")
    got, asked, missing = float(returned.reshape(())), np.log2(candidates).sum(), nats.sum() / np.log(2)
    right = (asked - missing) / parameters
    if close(got, right):
        return ExerciseVerdict(
            True, "the bits of a random guess minus the bits of the model. In the literature it is about 1 after 100 exposures."
        )
    wrong = {
        "nats taken for bits": (asked - nats.sum()) / parameters,
        "nats": right * np.log(2),
        "mean over facts": right / len(nats),
        "asked, not held": asked / parameters,
        "what is missing": missing / parameters,
        "a fact": right * parameters / len(nats),
    }
    for name, value in wrong.items():
        if close(got, value):
            raise NotYet(BITS_MISTAKES[name], name)
    raise NotYet(f"it gives {got:.4f} and should give {right:.4f}: sum log2(candidates) minus nats / log(2), and divide by the parameters.")


ROOM_ASKS = (
    "A student of 7,000 parameters gets 0.2 of a store of 2,000 facts right after 100 exposures each, and 0.3 after 400. One of 12,500 "
    "gets 0.8 after 100. The student must know the store by Friday. What do you change?"
)
ROOM_CHOICES = {
    "A": "More data: the score went up with exposures, so ten times as many will be enough.",
    "B": "The loss: soft labels carry more information than hard ones.",
    "C": "The size, and I compare the bits of the store with the parameters.",
    "D": "The teacher: a stronger one knows the facts better.",
}
ROOM_MISTAKES = {
    "A": (
        "more data",
        "four times the exposures added 0.1, but less than twice the size added 0.6: the store is too large for this student.",
    ),
    "B": (
        "a better loss",
        "the soft label of a confident teacher is nearly a hard one: the same bits have to fit into the same parameters.",
    ),
    "D": ("a stronger teacher", "the teacher already knows all the facts. They have to fit into the student."),
}


@exercise("06.room", ROOM_ASKS, ROOM_CHOICES)
def room(answer: Any) -> ExerciseVerdict:
    must_be_right_choice(answer, ROOM_CHOICES, ROOM_MISTAKES)
    return ExerciseVerdict(
        True, "first compare the bits of the store with the parameters: before any training, this shows whether the store can fit."
    )
