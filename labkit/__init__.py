"""The Distillation Lab: distil a language model, watch it learn, and measure what distillation adds.

    import labkit
    lab = labkit.open("00")                                       # a lesson: board, controls, prediction, exercises
    rec = labkit.record(labkit.Experiment(student="57k"))         # a run of a recipe; read if it is recorded already

The public names are imported on first use: `import labkit` does not import torch.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"] or (sys.argv[:1] and sys.argv[0].endswith("/labkit")):  # a command, whose `main` is not there yet
    sys.excepthook = lambda kind, error, trace: (
        print("labkit: stopped.", file=sys.stderr) if kind is KeyboardInterrupt else sys.__excepthook__(kind, error, trace)
    )

from labkit.base.interrupts import uninterrupted
from labkit.base.threads import bound_spinning

bound_spinning()  # before anything imports torch

__version__ = "0.2.0.dev0"

_HOME = {
    "open": "lessons.catalogue",
    "lens": "views.lenses",
    "inspect": "studies.inspection",
    "Experiment": "records.experiment",
    "run": "training.loop",
    "first_batch": "training.batches",
    "record": "studies.run",
    "compare": "studies.run",
    "rerun": "studies.run",
    "sweep": "studies.sweep",
    "measured": "records.measurements",
    "claims": "studies.claims",
    "load": "records.record",
    "replay": "records.record",
    "report": "views.report",
    "results": "records.results",
    "Record": "records.record",
    "teacher": "models",
    "student": "models",
    "ask": "tasks.atlas.ask",
    "speculate": "speculative.decode",
    "Atlas": "tasks.atlas.facts",
    "divergence": "losses.divergences",
    "predict": "lessons.predictions",
    "incident": "diagnosis.incidents",
    "check": "lessons.exercises",
    "handin": "lessons.handin",
    "catalogue": "lessons.catalogue",
    "LabError": "base.errors",
}
__all__ = list(_HOME)

if TYPE_CHECKING:
    from labkit.base.errors import LabError
    from labkit.diagnosis.incidents import incident
    from labkit.lessons.catalogue import catalogue, open
    from labkit.lessons.exercises import check
    from labkit.lessons.handin import handin
    from labkit.lessons.predictions import predict
    from labkit.losses.divergences import divergence
    from labkit.models import student, teacher
    from labkit.records.experiment import Experiment
    from labkit.records.measurements import measured
    from labkit.records.record import Record, load, replay
    from labkit.records.results import results
    from labkit.speculative.decode import speculate
    from labkit.studies.claims import claims
    from labkit.studies.inspection import inspect
    from labkit.studies.run import compare, record, rerun
    from labkit.studies.sweep import sweep
    from labkit.tasks.atlas.ask import ask
    from labkit.tasks.atlas.facts import Atlas
    from labkit.training.batches import first_batch
    from labkit.training.loop import run
    from labkit.views.lenses import lens
    from labkit.views.report import report


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        from labkit.base.errors import suggest

        raise AttributeError(suggest("labkit has no", name, _HOME))
    from labkit.base.errors import need

    try:
        with uninterrupted():
            value = getattr(importlib.import_module(f"labkit.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("labkit"):
            raise
        raise need(error.name or "?", f"labkit.{name}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
