"""Where distillation breaks: each failure as something to switch on, to see, to recognise and to cure (no torch).

    FAILURES["shuffled_cache"].provoke(Experiment())      # the same recipe with the failure in it
    diagnose(labkit.record(...))                          # what a run looks like to somebody who was not told
    labkit.catalogue("failures")

Detectors get `Evidence`, which holds no recipe, name or seed. Their limits were set on the runs of seeds 0 and 1 of the sweep
"failures" and are judged on seeds 2 to 6 (`docs/failures.md`). To add a failure, write its detector and decorate it.
"""

from labkit.diagnosis.failures.registry import FAILURES, Diagnosis, Failure, diagnose, named, provoke
