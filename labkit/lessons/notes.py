"""What a lesson says beside its buttons, computed from the recipes and the run: nothing of it stays when it is no longer true."""

from __future__ import annotations

import contextlib
import math

from labkit.lessons.predictions import Prediction, keep_truth, score
from labkit.lessons.types import Lesson
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.model_folders import without_hash
from labkit.records.record import NO_GAP, Record

_MOST = 3  # differences that are named one by one


def invitation(shown: Experiment | None, own: Experiment) -> str:
    """The note before a run.

    shown: recipe of the recorded run on the board; None if there is none.
    own: recipe of the controls, which Run will use.
    """
    if shown is None:
        return "Press Run to distil a student."
    other = [name for name in KNOBS if getattr(shown, name) != getattr(own, name)]
    named = [f"{KNOBS[name].knob.label.lower()} {_value(own, name)} (not {_value(shown, name)})" for name in other[:_MOST]]
    more = [f"{len(other) - _MOST} more"] if len(other) > _MOST else []
    yours = f"Yours will have {', '.join(named + more)}." if other else "Yours will have the same recipe."
    return f"This is a recorded run of a {without_hash(shown.student)} student. {yours} Guess first, then press Run."


def _value(experiment: Experiment, name: str) -> str:
    value = getattr(experiment, name)
    text = f"{value:,}" if type(value) is int else f"{value:g}" if isinstance(value, float) else without_hash(str(value))
    return text or "none"


def loading(experiment: Experiment, before: bool) -> str:
    """What happens between Run and the first event.

    before: whether another run has to stop first.
    """
    who = f"a {without_hash(experiment.student)} student"
    with_teacher = f"the teacher {without_hash(experiment.teacher)} and {who}" if experiment.teacher != "none" else who
    return f"{'Stopping the run before, then loading' if before else 'Loading'} {with_teacher}."


def measuring(experiment: Experiment) -> str:
    """What happens after a run whose baseline is not on record."""
    return f"The run has ended. Its baseline is being measured: the same student, taught by the {experiment.gold:,} gold labels alone."


def result(record: Record | None, prediction: Prediction | None, lesson: Lesson) -> str:
    """The note after a run: the score of the prediction, or "" without one. The result of the lesson's own recipe is then known, and kept:
    a guess made after it does not count."""
    if not (record and record.complete):
        return ""
    if lesson.unit == "acceptance":
        truth = record.evaluations[-1].fidelity.get("acceptance", math.nan)
        none = "This run's exam did not measure acceptance: a draft needs its target's tokens (vocabulary='atlas')."
    elif "label budget" not in record.references:
        return ""
    else:
        truth = record.recovery().mean
        none = f"No gap: the teacher is less than {NO_GAP} above the baseline, so there is no recovery to score."
    if not math.isfinite(truth):
        return none if prediction else ""
    if prediction:
        return score(prediction, truth).sentence
    if record.experiment == lesson.experiment:
        with contextlib.suppress(OSError):  # of a home that cannot be written: then nothing is kept of it
            keep_truth(lesson.number, truth)
    return ""
