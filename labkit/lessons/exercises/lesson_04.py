"""The exercise of lesson 04: what a difference with a band shows."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, exercise, must_be_right_choice

SAY_ASKS = (
    "Over five seeds, online scores 0.03 more than soft labels; the 95% band goes from -0.01 to 0.07. Its runs took four times as long. "
    "What does this show?"
)
SAY_CHOICES = {
    "A": "Online is better: 0.03 is above 0.",
    "B": "They are equally good: the band contains 0.",
    "C": "On equal questions, five seeds do not distinguish them; in equal time they have not been compared.",
    "D": "Online is better on average; its cost does not matter, since the question is quality.",
}
SAY_MISTAKES = {
    "A": (
        "no band",
        "the mean is above 0, but it would be in half of all experiments with two equal methods. What does the band say?",
    ),
    "B": ("absence of evidence", "the band contains 0, but also 0.07. Equal would be a band within plus or minus 0.02."),
    "D": ("cost ignored", "four times the time is four times the budget: compare with soft labels trained for as long."),
}


@exercise("04.say", SAY_ASKS, SAY_CHOICES)
def say(answer: Any) -> ExerciseVerdict:
    must_be_right_choice(answer, SAY_CHOICES, SAY_MISTAKES)
    return ExerciseVerdict(True, "not distinguishable is not equal; and a comparison must say what was kept equal, questions or time.")
