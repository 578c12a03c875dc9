"""The exercises of lesson 11: a detector of one's own, judged on runs it has not seen, and what to look at first."""

from __future__ import annotations

import functools
from typing import Any

from labkit.base.errors import LabError
from labkit.diagnosis.evidence import Evidence
from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, call, choice_of, exercise, must_be_function

SOUGHT = "shuffled_cache"
HIT_RATE, FALSE_ALARMS = 0.8, 0.02  # what the lab asks of its own detectors

DETECTOR_ASKS = (
    "Write detect(seen) for a cached signal in another order: seen is the Evidence of a run, and the answer is True where the signal "
    'belongs to other rows, else False. Of use: seen.read("hits") and seen.read("hits_after"), how often the signal\'s first choice is the '
    "token at its place, and the token after it; seen.on_policy, whether the student wrote some of the text. It is judged on recorded runs "
    "with this failure, with others, with several, and with none."
)
DETECTOR_MISTAKES = {
    "always": "it calls every run a shuffled one: a detector that always speaks says nothing.",
    "never": "it never speaks: no shuffled run was found, and no alarm was false.",
    "shifted": "a signal that is a position ahead disagrees with the text too, and is no shuffle: there hits_after is high.",
    "on its own text": (
        "where the student writes the text, the teacher's first choice need not be what stands there: look at seen.on_policy."
    ),
    "symptom, not cause": (
        "it speaks up for failures of several kinds: a high loss or a low score is what most of them have in common. Ask for what only "
        "this one does: the signal's first choice is neither this token nor the next."
    ),
    "too strict": "it misses shuffled runs: by chance, and because many answers begin alike, some of the first choices agree even so.",
}


@exercise("11.detector", DETECTOR_ASKS)
def detector(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "detect(seen)")
    runs = _unseen()
    said = [bool(call(answer, seen)) for _, seen in runs]
    hits = [flag for (names, _), flag in zip(runs, said, strict=True) if SOUGHT in names]
    alarms = [names for (names, _), flag in zip(runs, said, strict=True) if flag and SOUGHT not in names]
    others = len(runs) - len(hits)
    counted = f"{sum(hits)} of {len(hits)} shuffled runs found, {len(alarms)} false alarms in {others} others"
    if sum(hits) >= HIT_RATE * len(hits) and len(alarms) <= FALSE_ALARMS * others:
        return ExerciseVerdict(True, f"{counted}. It looks at the cause: what the signal says of the very token that stands there.")
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
    heard = f" False alarms in runs with: {', '.join(sorted(kinds))}." if kinds else ""
    raise NotYet(f"{counted}: {DETECTOR_MISTAKES[mistake]}{heard}", mistake)


@functools.cache
def _unseen() -> tuple[tuple[tuple[str, ...], Evidence], ...]:
    """Every recorded run a case may be, with what is in it, but those of a student with other tokens: nothing is told of them by token."""
    from labkit.diagnosis.incidents.cases import recorded
    from labkit.records.store import Store

    store = Store()
    try:
        found = tuple(
            (names, Evidence(run)) for recipe, names in recorded().items() if recipe.vocabulary == "atlas" and (run := store.find(recipe))
        )
    except LabError as error:
        raise NotYet(f"the recorded runs to judge it on cannot be read: {error}") from None
    if not any(SOUGHT in names for names, _ in found):
        raise NotYet("no recorded runs are on this machine to judge it on: restore data/records with `git checkout -- data`.")
    return found


FIRST_ASKS = (
    "KL to the teacher is 1.1 in training and still falling, and 7.9 on the exam, where no question is answered. Each of 5,000 questions "
    "was seen five times. You have ten minutes. What do you do first?"
)
FIRST_CHOICES = {
    "A": "Ask more different questions: it has learned its own by heart.",
    "B": "Take one batch, and see whether the signal's first choice is the token that stands there, or its neighbour.",
    "C": "Lower the learning rate: the exam's KL has gone up, so it diverges.",
    "D": "Take a larger student: this one cannot hold what it is asked.",
}
FIRST_MISTAKES = {
    "A": (
        "a gap is overfitting",
        "by heart would be a KL near 0 on its own questions; it is 1.1, after five looks at each. It fits something well, only not this "
        "teacher: the signal itself is in doubt.",
    ),
    "C": (
        "turning knobs",
        "training falls smoothly, and nothing diverges. A knob turned before the data were looked at costs a run and tells nothing.",
    ),
    "D": ("capacity", "too small a student is as bad in training as on the exam. Here it does well on one and not at all on the other."),
}


@exercise("11.first", FIRST_ASKS, FIRST_CHOICES)
def first(answer: Any) -> ExerciseVerdict:
    letter = choice_of(answer, FIRST_CHOICES)
    if letter in FIRST_MISTAKES:
        name, reason = FIRST_MISTAKES[letter]
        raise NotYet(reason, name)
    return ExerciseVerdict(
        True, "data and signal before loss, loss before knobs. It is the signal shifted by one: first choices hit the next token, always."
    )
