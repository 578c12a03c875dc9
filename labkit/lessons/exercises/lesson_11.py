"""The exercises of lesson 11: write a detector that is judged on unseen runs, and choose what to look at first."""

from __future__ import annotations

import functools
from typing import Any

from labkit.base.errors import LabError
from labkit.diagnosis.evidence import Evidence
from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, call, exercise, must_be_function, must_be_right_choice

SOUGHT = "shuffled_cache"
HIT_RATE, FALSE_ALARMS = 0.8, 0.02  # the goal of the lab's own detectors

DETECTOR_ASKS = (
    "Write detect(seen) for a cached signal in another order: seen is the Evidence of a run; return True if the signal belongs to other "
    'rows, else False. Useful: seen.read("hits") and seen.read("hits_after"), how often the signal\'s first choice is the token at its '
    "position, and the next token; seen.on_policy, whether the student wrote some of the text. It is judged on recorded runs with this "
    "failure, with others, with several, and with none."
)
DETECTOR_MISTAKES = {
    "always": "it returns True for every run, so it shows nothing.",
    "never": "it returns False for every run.",
    "shifted": "a signal that is one position ahead also disagrees with the text, but is not shuffled: there hits_after is high.",
    "on its own text": (
        "where the student writes the text, the teacher's first choice need not be the token in the text: use seen.on_policy."
    ),
    "symptom, not cause": (
        "it finds several kinds of failures: most of them have a high loss or a low score. Test for what only this one does: the "
        "signal's first choice is neither this token nor the next."
    ),
    "too strict": "it misses shuffled runs: by chance, and since many answers begin alike, some first choices still agree.",
}


@exercise("11.detector", DETECTOR_ASKS)
def detector(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "detect(seen)")
    runs = _unseen()
    flags = [bool(call(answer, seen)) for _, seen in runs]
    hits = [flag for (names, _), flag in zip(runs, flags, strict=True) if SOUGHT in names]
    alarms = [names for (names, _), flag in zip(runs, flags, strict=True) if flag and SOUGHT not in names]
    others = len(runs) - len(hits)
    counted = f"{sum(hits)} of {len(hits)} shuffled runs found, {len(alarms)} false alarms in {others} others"
    if sum(hits) >= HIT_RATE * len(hits) and len(alarms) <= FALSE_ALARMS * others:
        return ExerciseVerdict(True, f"{counted}. It tests the cause: whether the signal matches the token at its position.")
    kinds = {name for names in alarms for name in names} | ({"sound runs"} if () in alarms else set())
    if len(alarms) == others:
        mistake = "always"
    elif not any(hits) and not alarms:
        mistake = "never"
    elif alarms and all("shifted_labels" in names for names in alarms):
        mistake = "shifted"
    elif alarms and all({"shifted_labels", "online_cost"} & set(names) for names in alarms):
        mistake = "shifted" if "shifted_labels" in kinds and "online_cost" not in kinds else "on its own text"
    elif len(alarms) > FALSE_ALARMS * others:
        mistake = "symptom, not cause"
    else:
        mistake = "too strict"
    listed = f" False alarms in runs with: {', '.join(sorted(kinds))}." if kinds else ""
    raise NotYet(f"{counted}: {DETECTOR_MISTAKES[mistake]}{listed}", mistake)


@functools.cache
def _unseen() -> tuple[tuple[tuple[str, ...], Evidence], ...]:
    """The recorded runs that cases are drawn from, with their failures; without runs across vocabularies, which have no hits by token."""
    from labkit.diagnosis.incidents.cases import recorded
    from labkit.records.store import Store

    store = Store()
    try:
        runs = tuple(
            (names, Evidence(run)) for recipe, names in recorded().items() if recipe.vocabulary == "atlas" and (run := store.find(recipe))
        )
    except LabError as error:
        raise NotYet(f"the recorded runs that judge it cannot be read: {error}") from None
    if not any(SOUGHT in names for names, _ in runs):
        raise NotYet("there are no recorded runs on this machine to judge it: restore data/records with `git checkout -- data`.")
    return runs


FIRST_ASKS = (
    "KL to the teacher is 1.1 in training and still falling, but 7.9 on the exam, where no answer is right. Each of 5,000 questions was "
    "used five times. You have ten minutes. What do you do first?"
)
FIRST_CHOICES = {
    "A": "Ask more different questions: the student has memorised these.",
    "B": "Take one batch, and see whether the signal's first choice is the token in the text, or its neighbour.",
    "C": "Lower the learning rate: the KL on the exam has gone up, so training diverges.",
    "D": "Take a larger student: this one is too small.",
}
FIRST_MISTAKES = {
    "A": (
        "a gap is overfitting",
        "a student that has memorised its questions has a KL near 0 on them; here it is 1.1. It fits something, but not this teacher: "
        "suspect the signal.",
    ),
    "C": (
        "turning knobs",
        "the training KL falls smoothly, so nothing diverges. To turn a knob before you check the data costs a run and shows nothing.",
    ),
    "D": ("capacity", "a student that is too small is as bad in training as on the exam. This one is far worse on the exam."),
}


@exercise("11.first", FIRST_ASKS, FIRST_CHOICES)
def first(answer: Any) -> ExerciseVerdict:
    must_be_right_choice(answer, FIRST_CHOICES, FIRST_MISTAKES)
    return ExerciseVerdict(
        True,
        "check data and signal first, then the loss, then knobs. The signal is shifted by one: its first choice is the next token.",
    )
