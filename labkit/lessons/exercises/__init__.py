"""Exercise checks: a verdict on what a learner answered, and a reason that names the misconception when it knows it.

    check("00.recovery", my_function)      # ✓ right, or ✗ not yet and why
    EXERCISES["00.temperature"]            # what is asked, and the choices

To add one, decorate a function of the answer with `exercise` in the lesson's file here; `EXERCISES` lists them all.
"""

from __future__ import annotations

from labkit.lessons.exercises.verdict import EXERCISES, Exercise, ExerciseVerdict, check, exercise
