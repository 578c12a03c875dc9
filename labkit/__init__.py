"""The Distillation Lab: distil a language model in front of your eyes, and measure what it was worth.

    import labkit
    lab = labkit.open("00")                                       # a lesson: board, controls, prediction, checks
    rec = labkit.record(labkit.Experiment(student="57k"))         # a run, from its recipe; fetched if already on record

Everything below is loaded when it is first used: `import labkit` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "open": "lessons",
    "lens": "live.lenses",
    "Experiment": "experiment",
    "run": "engine",
    "first_batch": "batches",
    "record": "runs",
    "compare": "runs",
    "rerun": "runs",
    "sweep": "sweeps",
    "measured": "measurements",
    "claims": "court",
    "load": "records",
    "replay": "records",
    "report": "reports",
    "Record": "records",
    "teacher": "models",
    "student": "models",
    "ask": "evaluate",
    "speculate": "speculative.decoding",
    "Atlas": "atlas",
    "divergence": "divergences",
    "predict": "judgment",
    "incident": "incidents",
    "check": "checks",
    "catalogue": "lessons",
    "LabError": "errors",
}
__all__ = list(_HOME)

if TYPE_CHECKING:
    from labkit.atlas import Atlas
    from labkit.batches import first_batch
    from labkit.checks import check
    from labkit.court import claims
    from labkit.divergences import divergence
    from labkit.engine import run
    from labkit.errors import LabError
    from labkit.evaluate import ask
    from labkit.experiment import Experiment
    from labkit.incidents import incident
    from labkit.judgment import predict
    from labkit.lessons import catalogue, open
    from labkit.live.lenses import lens
    from labkit.measurements import measured
    from labkit.models import student, teacher
    from labkit.records import Record, load, replay
    from labkit.reports import report
    from labkit.runs import compare, record, rerun
    from labkit.speculative.decoding import speculate
    from labkit.sweeps import sweep


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        from labkit.errors import suggest

        raise AttributeError(suggest("labkit has no", name, _HOME))
    from labkit.errors import need

    try:
        value = getattr(importlib.import_module(f"labkit.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("labkit"):
            raise
        raise need(error.name or "?", f"labkit.{name}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
