"""Failures of distillation: each can be provoked, detected and cured (no torch).

    FAILURES["shuffled_cache"].provoke(Experiment())      # the same recipe with the failure in it
    diagnose(labkit.record(...))                          # what the detectors find without the recipe
    labkit.catalogue("failures")

A detector gets `Evidence`, which holds no recipe, name or seed. The detectors' limits were set on seeds 0 and 1 of the sweep "failures";
they are judged on seeds 2 to 6 (`docs/failures.md`). To add a failure, write its detector and decorate it.
"""

from labkit.diagnosis.failures.registry import FAILURES, Diagnosis, Failure, diagnose, named, provoke
