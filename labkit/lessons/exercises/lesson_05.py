"""The exercises of lesson 05: the cost of a right answer, and what a preference shows."""

from __future__ import annotations

import math
from typing import Any

from labkit.lessons.exercises.verdict import (
    ExerciseVerdict,
    NotYet,
    all_close,
    call,
    exercise,
    must_be_function,
    must_be_right_choice,
    single_number,
)

PAID_ASKS = (
    "Write paid(price, share, right): an answer of the teacher costs `price`; your filter keeps the share `share` of the answers, and the "
    "share `right` of the kept ones is right. Return the cost of one right answer in your data set."
)
PAID_MISTAKES = {
    "not filtered": "price / right is the cost if nothing is dropped: you also paid for the answers that the filter drops.",
    "wrong ones counted": "price / share is the cost of a kept answer, right or wrong.",
    "upside down": "the more answers are kept and right, the cheaper a right one is: divide.",
    "left twice": "`right` is a share of the kept answers, so share * right of all answers are kept and right; use each factor once.",
    "added": "a share is kept, and a share of that is right: multiply the two shares.",
}
CASES = ((0.01, 0.2, 0.65), (2.0, 0.5, 0.5), (0.001, 1.0, 0.24))

PREFERRED_ASKS = (
    "Readers who check no facts prefer the student's answer to the teacher's in 5 of 10 pairs. What does this show about the student?"
)
PREFERRED_CHOICES = {
    "A": "It knows about as much as the teacher.",
    "B": "It writes like the teacher; to measure what it knows, ask questions whose answers are known.",
    "C": "Nothing: ten pairs are too few, but a thousand would show what it knows.",
    "D": "It knows less, as imitations always do.",
}
PREFERRED_MISTAKES = {
    "A": ("style taken for facts", "a wrong answer in the teacher's style reads as well as a right one, if the reader checks no facts."),
    "C": ("more of the same", "ten pairs are few, but a thousand readers who check no facts only measure the style more exactly."),
    "D": ("not measured", "it may know less or not: these readers measured something else. Which measurement would show it?"),
}


@exercise("05.paid", PAID_ASKS)
def paid(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "paid(price, share, right)")
    got = [single_number(call(answer, *case)) for case in CASES]
    wanted = [price / (share * right) for price, share, right in CASES]
    if all_close(got, wanted):
        return ExerciseVerdict(
            True, "a filter never makes a right answer cheaper, since it drops answers that were paid for: it makes the data cleaner."
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
    value = f"{got[0]:.4f}" if math.isfinite(got[0]) else "no number"
    raise NotYet(f"paid(0.01, 0.2, 0.65) gives {value} and should give {wanted[0]:.4f}: of 100 answers, how many are kept, and right?")


@exercise("05.preferred", PREFERRED_ASKS, PREFERRED_CHOICES)
def preferred(answer: Any) -> ExerciseVerdict:
    must_be_right_choice(answer, PREFERRED_CHOICES, PREFERRED_MISTAKES)
    return ExerciseVerdict(
        True, "style and facts need two measurements. A judge who does not check facts measures style, be it a person or a model."
    )
