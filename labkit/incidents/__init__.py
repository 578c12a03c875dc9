"""The incident room: a run with none, one or two failures in it, a few minutes to look, and one guess (no torch, no widgets).

    room = labkit.incident()                  # or incident(seed=7, budget=60), or incident(live=True), trained for you alone
    room.probe("gradient norms")              # spends minutes, and shows a few numbers beside those of sound runs
    room.cures("shuffled_cache")              # what might cure it: one of four does
    room.name("shuffled_cache", cure="B")     # once a case; room.name("no fault") is an answer
    mistakes()                                # what you took for what, over all your cases

What is wrong is drawn anew for each case and is not shown before it is named: not in reprs, recipes, widgets or files.
"""

from __future__ import annotations

from labkit.incidents.answers import NO_FAULT, Mistakes, mistakes
from labkit.incidents.probes import PROBES, Finding
from labkit.incidents.room import BUDGET, Room, incident
from labkit.incidents.verdicts import Verdict

__all__ = ["BUDGET", "NO_FAULT", "PROBES", "Finding", "Mistakes", "Room", "Verdict", "incident", "mistakes"]
