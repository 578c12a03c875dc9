"""The incident room: a run with no, one or two failures; you buy probes and name the failures once (no torch, no widgets).

    room = labkit.incident()                  # or incident(seed=7, budget=60), or incident(live=True), trained now
    room.probe("gradient norms")              # costs minutes; shows numbers beside those of sound runs
    room.cures("shuffled_cache")              # four possible cures, one of them right
    room.name("shuffled_cache", cure="B")     # once a case; room.name("no fault") is an answer too
    mistakes()                                # which failures you mixed up, over all your cases

The failures are drawn for each case. Nothing shows them before you name them: no repr, recipe, widget or file.
"""

from __future__ import annotations

from labkit.base.kinds import kinds_checked
from labkit.diagnosis.incidents.debrief import IncidentVerdict
from labkit.diagnosis.incidents.findings import ProbeFinding
from labkit.diagnosis.incidents.history import NO_FAULT, Mistakes, mistakes
from labkit.diagnosis.incidents.probes import PROBES
from labkit.diagnosis.incidents.room import BUDGET, Room


@kinds_checked
def incident(seed: int | None = None, budget: int = BUDGET, *, live: bool = False) -> Room:
    """Open a case; it displays itself.

    seed: the number of the case; None draws one. The same number is the same case.
    budget: minutes that probes may cost.
    live: train the run now (about ten seconds) instead of taking a recorded one.

    Raises `LabError` if `seed` or `budget` is not a whole number in its range.
    """
    room = Room(seed, budget, live=live)
    room.widget = _widget
    return room


def _widget(room: Room) -> object | None:
    """The buttons of a room; None without ipywidgets: then you call its methods."""
    try:
        from labkit.diagnosis.incidents.widget import IncidentRoom
    except ImportError:
        return None
    return IncidentRoom(room)
