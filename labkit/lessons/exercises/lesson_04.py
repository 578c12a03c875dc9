"""The exercise of lesson 04: what may be said of a difference."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, choice_of, exercise

SAY_ASKS = (
    "Over five seeds, online scores 0.03 more than soft labels; the 95% band goes from -0.01 to 0.07. Its runs took four times as long. "
    "What may be said?"
)
SAY_CHOICES = {
    "A": "Online is better: 0.03 is above 0.",
    "B": "They are equally good: the band holds 0.",
    "C": "On equal questions they cannot be told apart by five seeds; in equal time online has not been compared at all.",
    "D": "Online is better on average, and its cost does not matter, since quality was asked for.",
}
SAY_MISTAKES = {
    "A": (
        "no band",
        "the mean is above 0, and so it would be in half of all experiments on two methods that are the same. What does the band say?",
    ),
    "B": ("absence of evidence", "a band that holds 0 also holds 0.07. Equal would be a band that lies inside plus or minus 0.02."),
    "D": ("cost ignored", "four times the time is four times the budget: soft labels trained for as long are the fair opponent."),
}


@exercise("04.say", SAY_ASKS, SAY_CHOICES)
def say(answer: Any) -> ExerciseVerdict:
    letter = choice_of(answer, SAY_CHOICES)
    if letter in SAY_MISTAKES:
        name, reason = SAY_MISTAKES[letter]
        raise NotYet(reason, name)
    return ExerciseVerdict(True, "not distinguishable is not equal; and every comparison names what was held equal, questions or time.")
