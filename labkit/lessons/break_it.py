"""Failures as toggles beside the controls. One that cannot apply is greyed out, with the reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import ipywidgets as widgets

from labkit.base.errors import LabError
from labkit.base.html import Html, listed, note, tag
from labkit.diagnosis.failures import FAILURES, Failure, diagnose, provoke
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.record import Record
from labkit.views.board.controls import Controls, fold


class Breakage:
    """A toggle for every failure; toggles and controls follow each other.

    controls: of the lesson.
    turned: called with (name, value) for each hot knob that a toggle changes.
    running: whether a run goes on; its cold knobs stay.
    record: gives the run on the board, for a diagnosis.
    """

    def __init__(
        self,
        controls: Controls,
        turned: Callable[[str, object], None],
        running: Callable[[], bool],
        record: Callable[[], Record | None],
    ) -> None:
        self._controls, self._turned, self._running, self._record = controls, turned, running, record
        self._setting = False
        self._changed: dict[str, dict[str, tuple[object, object]]] = {}  # by failure: the fields its toggle changed, with old and new value
        layout = {"width": "100%", "height": "auto", "min_width": "0"}
        self.toggles = {name: widgets.ToggleButton(description=entry.label, layout=layout) for name, entry in FAILURES.items()}
        for name, toggle in self.toggles.items():
            toggle.observe(lambda change, name=name: self._toggled(name, change["new"]), "value")
        self.note = widgets.HTML()
        self.button = widgets.Button(
            description="Diagnose",
            tooltip="Show what the detectors find in the run on the board. They do not see its recipe.",
            layout={"width": "auto"},
        )
        self.button.on_click(lambda _: self.diagnose())
        chips: list[widgets.Widget] = []
        for kind, names in itertools.groupby(FAILURES, key=lambda name: FAILURES[name].kind):
            chips += [widgets.HTML(f"<h4>{kind.capitalize()}</h4>"), *(self.toggles[name] for name in names)]
        column = widgets.VBox(chips)
        column.add_class("labkit-failures")
        self.widget = fold("Break it", widgets.VBox([self.note, self.button, column]))
        self.widget.add_class("labkit-breakage")
        controls.followers.append(self._follow)
        self._follow(controls.experiment)

    def diagnose(self) -> None:
        """Show what the detectors find in the run on the board."""
        record = self._record()
        try:
            findings = diagnose(record) if record is not None else []
        except LabError as error:
            self._say(error)
            return
        if record is None:
            self._say("There is no run on the board yet.")
        elif not findings:
            self._say("Nothing looks wrong. (Some failures show only in batch checks, which older records do not have.)")
        else:
            self._say(tag("div", *(tag("p", tag("b", FAILURES[d.failure].label), f": {d.finding}") for d in findings)))

    def _toggled(self, name: str, on: bool) -> None:
        if self._setting:
            return
        entry, before = FAILURES[name], self._controls.experiment
        try:
            others = [other for other in FAILURES if other != name and FAILURES[other].within(before)]
            after = provoke(before, *others, name) if on else entry.cure(before)
        except LabError as error:
            self._follow(before)
            self._say(error)
            return
        if not on:
            after = self._given_back(name, before, after)
        self._controls.experiment = after
        moved = [field for field in KNOBS if getattr(before, field) != getattr(after, field)]
        if on:
            self._changed[name] = {field: (getattr(before, field), getattr(after, field)) for field in moved}
        cold = [KNOBS[field].knob.label.lower() for field in moved if not KNOBS[field].knob.hot and self._running()]
        for field in moved if not cold else ():  # half of a failure would be another failure
            self._turned(field, getattr(after, field))
        later = f"{', '.join(cold).capitalize()} cannot change during a run: press Run to begin again with it." if cold else ""
        self._say((_described(entry) if on else tag("p", f"Cured: {entry.remedy}")) + (tag("p", later) if later else ""))

    def _given_back(self, name: str, before: Experiment, cured: Experiment) -> Experiment:
        """The cured recipe, with the fields that the toggle changed at their old values, unless they were changed since."""
        moved = self._changed.pop(name, {})
        back = {field: old for field, (old, new) in moved.items() if field != "faults" and getattr(before, field) == new}
        return cured.but(**back)

    def _follow(self, experiment: Experiment) -> None:
        """Show which failures a recipe has and which it cannot have."""
        self.widget.layout.display = "none" if experiment.data else None  # failures are tested on Atlas only
        self._setting = True
        try:
            for name, toggle in self.toggles.items():
                entry = FAILURES[name]
                reason = entry.obstacle(experiment)
                toggle.value = entry.within(experiment) or name in experiment.faults.split("+")
                toggle.disabled = bool(reason) and not toggle.value  # a failure that is on can be switched off
                toggle.tooltip = f"Not here: {reason}" if reason else f"{entry.label}. Watch: {entry.unit}."
        finally:
            self._setting = False

    def _say(self, text: object) -> None:
        self.note.value = note(text)


def _described(entry: Failure) -> Html:
    watch = tag("p", tag("b", "Watch"), f": {entry.unit}.") + tag("p", tag("b", "Look for it"), ":") + listed(entry.procedure, "ol")
    return watch + tag("p", tag("b", "Cure"), f": {entry.remedy}") + tag("p", f"Seen in {entry.cited}.")
