"""The exercises of lesson 05: what a right answer costs, and what a preferred answer proves."""

from __future__ import annotations

import math
from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, all_close, call, choice_of, exercise, must_be_function, single_number

PAID_ASKS = (
    "Write paid(price, share, right): an answer of the teacher costs `price`; your filter leaves the share `share` of the answers, and of "
    "those that are left the share `right` is right. Return what one right answer in your data set has cost."
)
PAID_MISTAKES = {
    "not filtered": "price / right is what it costs if nothing is thrown away: what the filter drops was paid for too.",
    "wrong ones counted": "price / share is the cost of an answer that is left, right or wrong.",
    "upside down": "the more is left and right, the cheaper a right answer is: divide.",
    "left twice": "right is a share of what is left, so that share * right of all answers are right ones that stay; each counts once.",
    "added": "first a share is left, then a share of that is right: shares of shares are multiplied.",
}
CASES = ((0.01, 0.2, 0.65), (2.0, 0.5, 0.5), (0.001, 1.0, 0.24))

PREFERRED_ASKS = (
    "Readers who look nothing up prefer the student's answers to the teacher's in 5 of 10 pairs. What has been shown of the student?"
)
PREFERRED_CHOICES = {
    "A": "It knows about as much as the teacher.",
    "B": "It writes like the teacher; what it knows has to be asked with questions whose answers are known.",
    "C": "Nothing: ten pairs are too few to say anything, but with a thousand they would show what it knows.",
    "D": "It knows less, since imitations do.",
}
PREFERRED_MISTAKES = {
    "A": ("style taken for facts", "a wrong answer in the teacher's voice reads as well as a right one, to whoever does not look it up."),
    "C": ("more of the same", "ten are few, but a thousand readers who look nothing up only measure more exactly how it sounds."),
    "D": ("not measured", "it may know less or not: these readers measured something else. Which measurement would tell?"),
}


@exercise("05.paid", PAID_ASKS)
def paid(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "paid(price, share, right)")
    got = [single_number(call(answer, *case)) for case in CASES]
    wanted = [price / (share * right) for price, share, right in CASES]
    if all_close(got, wanted):
        return ExerciseVerdict(
            True, "a filter never makes a right answer cheaper, since it throws away what was paid for: it makes the data purer."
        )
    wrong_ways = {
        "not filtered": lambda p, s, r: p / r,
        "wrong ones counted": lambda p, s, r: p / s,
        "upside down": lambda p, s, r: p * s * r,
        "left twice": lambda p, s, r: p / (s * s * r),
        "added": lambda p, s, r: p / (s + r),
    }
    for name, way in wrong_ways.items():
        if all_close(got, [way(*case) for case in CASES]):
            raise NotYet(PAID_MISTAKES[name], name)
    told = f"{got[0]:.4f}" if math.isfinite(got[0]) else "no number"
    raise NotYet(f"paid(0.01, 0.2, 0.65) gives {told} and should give {wanted[0]:.4f}: of 100 answers, how many are left, and right?")


@exercise("05.preferred", PREFERRED_ASKS, PREFERRED_CHOICES)
def preferred(answer: Any) -> ExerciseVerdict:
    letter = choice_of(answer, PREFERRED_CHOICES)
    if letter in PREFERRED_MISTAKES:
        name, reason = PREFERRED_MISTAKES[letter]
        raise NotYet(reason, name)
    return ExerciseVerdict(
        True, "style and facts are two measurements. A judge who cannot check facts measures the first, person or model."
    )
