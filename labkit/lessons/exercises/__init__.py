"""Exercises and their checks: a verdict on a learner's answer, with a reason that names the misconception if it is known.

    check("00.recovery", my_function)      # ✓ right, or ✗ not yet, and why
    EXERCISES["02.squared"]                # the task, and the choices

To add one, decorate a function of the answer with `exercise` in the lesson's file. `EXERCISES` lists them all.
"""

from __future__ import annotations

from labkit.lessons.exercises.verdict import EXERCISES, Exercise, ExerciseVerdict, check, exercise
