"""The exercise of lesson 08: how much weight on gold labels keeps a lie from being the likeliest answer."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, all_close, call, exercise, must_be_function, single_number

FLIP_ASKS = (
    "Write flip(wrong, true): the teacher gives its lie the probability `wrong` and the truth `true`. A student that minimises "
    "a * CE(truth) + (1 - a) * CE(teacher) ends at the mixture of both. Return the weight a at which lie and truth are equally likely."
)
FLIP_MISTAKES = {
    "always half": "half is always enough, since (1-a) * wrong cannot exceed a = 0.5. But what is the least weight that is enough?",
    "not divided": "wrong - true is the lead of the lie at a = 0. As a grows, the lie also shrinks, by (1-a): solve for a.",
    "truth's own share": "the teacher also gives the truth some probability; the mixture keeps (1-a) * true of it.",
    "the teacher's weight": "this is the weight 1 - a of the teacher: return that of the truth.",
    "shares of two": "true / (wrong + true) is a share of the teacher's mass only: where is the weight a of the gold label?",
    "upside down": "truth and lie are swapped: the result is negative where the teacher lies.",
}
CASES = ((0.95, 0.01), (0.7, 0.2), (0.5, 0.4), (0.3, 0.3))


@exercise("08.flip", FLIP_ASKS)
def flip(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "flip(wrong, true)")
    got = [single_number(call(answer, wrong, true)) for wrong, true in CASES]
    if all_close(got, [(w - t) / (1 + w - t) for w, t in CASES]):
        return ExerciseVerdict(
            True, "the lie keeps (1-a) * wrong, and the truth gains a: with half of the weight on the truth, no lie is ahead."
        )
    wrong_ways = {
        "always half": lambda w, t: 0.5,
        "not divided": lambda w, t: w - t,
        "truth's own share": lambda w, t: w / (1 + w),
        "the teacher's weight": lambda w, t: 1 / (1 + w - t),
        "shares of two": lambda w, t: w / (w + t),
        "upside down": lambda w, t: (t - w) / (1 + t - w),
    }
    for name, way in wrong_ways.items():
        if all_close(got, [way(w, t) for w, t in CASES]) or (name == "shares of two" and all_close(got, [t / (w + t) for w, t in CASES])):
            raise NotYet(FLIP_MISTAKES[name], name)
    w, t = CASES[0]
    raise NotYet(
        f"flip({w}, {t}) gives {got[0]:.4f} and should give {(w - t) / (1 + w - t):.4f}: set (1-a) * wrong equal to a + (1-a) * true."
    )
