"""The incident room: a run with none, one or two failures in it, a few minutes to look, and one guess (no torch, no widgets).

    room = labkit.incident()                  # or incident(seed=7, budget=60), or incident(live=True), trained for you alone
    room.probe("gradient norms")              # spends minutes, and shows a few numbers beside those of sound runs
    room.cures("shuffled_cache")              # what might cure it: one of four does
    room.name("shuffled_cache", cure="B")     # once a case; room.name("no fault") is an answer
    mistakes()                                # what you took for what, over all your cases

What is wrong is drawn anew for each case and is not shown before it is named: not in reprs, recipes, widgets or files.
"""

from __future__ import annotations

from labkit.diagnosis.incidents.debrief import IncidentVerdict
from labkit.diagnosis.incidents.findings import ProbeFinding
from labkit.diagnosis.incidents.history import NO_FAULT, Mistakes, mistakes
from labkit.diagnosis.incidents.probes import PROBES
from labkit.diagnosis.incidents.room import BUDGET, Room


def incident(seed: int | None = None, budget: int = BUDGET, *, live: bool = False) -> Room:
    """Open a case; it displays itself. The same `seed` is the same case. live: train its run here and now, some ten seconds.

    Raises `LabError` for a seed or budget that is no whole number of sensible size.
    """
    room = Room(seed, budget, live=live)
    room.widget = _widget
    return room


def _widget(room: Room) -> object | None:
    """The buttons of a room; None where there are no widgets, and it is used by its methods."""
    try:
        from labkit.diagnosis.incidents.widget import IncidentRoom
    except ImportError:
        return None
    return IncidentRoom(room)
