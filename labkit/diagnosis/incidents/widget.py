"""The incident room as a widget: the intended recipe, probes with their prices, the findings, and the answer.

IncidentRoom(room)      # what `labkit.incident()` displays; calls of the room's methods show here too
"""

from __future__ import annotations

import functools
import html
import threading
from collections.abc import Callable

import ipywidgets as widgets

from labkit.base.errors import LabError, told
from labkit.base.html import Html, note, tag
from labkit.base.palette import css
from labkit.diagnosis.failures import FAILURES
from labkit.diagnosis.incidents.history import NO_FAULT
from labkit.diagnosis.incidents.probes import PROBES
from labkit.diagnosis.incidents.room import Room

_CSS = (
    f"<style>{css('.labkit-meter')}"
    + """
.labkit-incident { container-type: inline-size; }
.labkit-incident-body { display: grid !important; grid-template-columns: minmax(260px, 340px) minmax(0, 1fr); gap: 20px;
  align-items: start; }
@container (max-width: 820px) { .labkit-incident-body { grid-template-columns: minmax(0, 1fr); } }
.labkit-incident .widget-html-content { line-height: 1.4; white-space: normal; }
.labkit-incident h3, .labkit-incident h4 { margin: 8px 0 4px; font-weight: 600; }
.labkit-incident p { margin: 4px 0; max-width: 78ch; }
.labkit-incident ol, .labkit-incident ul { margin: 0; padding-left: 1.4em; max-width: 76ch; }
.labkit-incident small { opacity: 0.75; font-weight: 400; }
.labkit-incident summary { cursor: pointer; margin: 6px 0 2px; }
.labkit-incident table { border-collapse: collapse; margin: 2px 0 10px; font-variant-numeric: tabular-nums; }
.labkit-incident th, .labkit-incident td { padding: 2px 12px 2px 0; text-align: left; font-weight: 400; vertical-align: top;
  border-bottom: 1px solid var(--jp-border-color2, #8884); }
.labkit-incident thead th { font-weight: 600; }
.labkit-finding th:first-child { width: 26em; }
.labkit-finding td { white-space: nowrap; }
.labkit-matrix td div { text-align: center; padding: 1px 8px; }
.labkit-incident-probes .widget-button { width: 100%; height: auto; margin: 1px 0; padding: 2px 10px; line-height: 1.5; text-align: left; }
.labkit-incident .widget-radio-box label { display: flex; align-items: flex-start; height: auto; white-space: normal; line-height: 1.3;
  margin-bottom: 4px; }
.labkit-incident .widget-radio-box input { order: -1; flex: none; margin: 2px 6px 0 0; }
.labkit-incident .widget-radio { width: 100%; }
.labkit-incident .widget-radio-box { max-width: none; }
.labkit-meter { height: 6px; max-width: 340px; background: var(--jp-border-color2, #8884); }
.labkit-meter > div { height: 100%; background: var(--dlab-student); }
</style>"""
)
_STYLE = {"description_width": "64px"}
_WIDE = {"width": "calc(100% - 4px)", "min_width": "0"}


class IncidentRoom(widgets.VBox):
    """The buttons of a `Room`. Its parts are attributes: `probes` (one button each), `faults`, `cures`, `submit`, `another`."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._shown: dict[str, str] = {}  # the HTML of findings, by probe
        self.header, self.meter, self.note, self.notebook, self.result, self.matrix = (widgets.HTML() for _ in range(6))
        self.probes = {name: widgets.Button() for name in PROBES}
        for name, button in self.probes.items():
            button.on_click(self._safely(functools.partial(room.probe, name)))
        labels = [(entry.label, name) for name, entry in sorted(FAILURES.items(), key=lambda item: item[1].label)]
        self.faults = (
            self._choice(
                "It is", [("(choose)", ""), ("Nothing: no fault", NO_FAULT), *labels], "The failure in this run, or that there is none."
            ),
            self._choice("and also", [("nothing else", ""), *labels], "The second failure, if there are two."),
        )
        self.cures = tuple(widgets.RadioButtons(options=[], layout=_WIDE) for _ in self.faults)
        for fault, cure in zip(self.faults, self.cures, strict=True):
            fault.observe(lambda change, cure=cure: self._offer(cure, change["new"]), "value")
            self._offer(cure, "")
        self.submit = widgets.Button(description="Name it", button_style="primary", tooltip="Answer; only one counts. It is free.")
        self.another = widgets.Button(description="Next case", tooltip="Open another case after this one is named.")
        self.submit.on_click(self._safely(self._answer))
        self.another.on_click(self._safely(self._next))
        answer = [self.faults[0], self.cures[0], self.faults[1], self.cures[1], widgets.HBox([self.submit, self.another]), self.note]
        buttons = widgets.VBox([_heading("Look"), *self.probes.values()])
        buttons.add_class("labkit-incident-probes")
        left = widgets.VBox([buttons, _heading("Name it"), *answer], layout={"min_width": "0"})
        right = widgets.VBox([self.result, self.notebook], layout={"min_width": "0"})
        body = widgets.GridBox([left, right], layout={"width": "100%"})
        body.add_class("labkit-incident-body")
        super().__init__([widgets.HTML(_CSS), self.header, self.meter, body, self.matrix], layout={"width": "100%"})
        self.add_class("labkit-incident")
        room.watchers.append(self.draw)
        self.draw()

    def __repr__(self) -> str:
        return f"IncidentRoom({self.room.number})"

    # ---- what is on the screen -------------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Show the current state of the room."""
        room, over = self.room, self.room.verdict is not None
        self.header.value = f"<h3>Incident {room.number}</h3><p><b>Ordered</b>: {html.escape(room.brief)}</p>"
        state = "Named. All probes are free now." if over else f"{room.left} of {room.budget} minutes left."
        self.meter.value = (
            f'<div class="labkit-meter" role="meter" aria-label="minutes left" aria-valuemin="0" aria-valuemax="{room.budget}" '
            f'aria-valuenow="{room.left}"><div style="width:{100 * room.left / room.budget:.0f}%"></div></div><p role="status">{state}</p>'
        )
        for name, button in self.probes.items():
            entry, reason, bought = PROBES[name], room.refused(name), name in room.findings
            button.description = f"\u2713 {name}" if bought else f"{name} \u00b7 {entry.minutes} min"
            button.disabled = bought or bool(reason)
            button.tooltip = f"Already bought: {entry.tells}" if bought else reason or f"{entry.tells} {entry.minutes} minutes."
        self._shown = {name: self._shown.get(name) or _finding(finding) for name, finding in room.findings.items()}
        first = "<p>Nothing yet. Begin with cheap probes, and decide what you expect before you look.</p>"
        self.notebook.value = "<h3>Notebook</h3>" + ("".join(self._shown.values()) or first)
        self.result.value = f"<h3>Verdict</h3>{room.verdict._repr_html_()}" if room.verdict else ""
        self.matrix.value = f"<details><summary><b>Your cases so far</b></summary>{room.mistakes()._repr_html_()}</details>"
        for choice in (*self.faults, *self.cures, self.submit):
            choice.disabled = over
        self.another.disabled = not over

    def say(self, text: str) -> None:
        """Show a message under the buttons."""
        self.note.value = note(text, "alert")

    # ---- what the buttons do ---------------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        first, second = (choice.value for choice in self.faults)
        if not first:
            raise LabError("choose what it is first, or that there is no fault.")
        chosen = [(name, cure) for name, cure in zip((first, second), self.cures, strict=True) if name]
        missing = [FAILURES[name].label for name, cure in chosen if name in FAILURES and cure.value is None]
        if missing:
            raise LabError(f"choose a cure for {missing[0]!r} as well.")
        self.room.name(*(name for name, _ in chosen), cure=[cure.value for name, cure in chosen if name in FAILURES])

    def _next(self) -> None:
        if self.room.live:  # in a thread, so that training does not block the buttons
            self.another.disabled = True
            threading.Thread(target=self._safely(self._train), name="labkit-case", daemon=True).start()
        else:
            self.room.next()
            self._clear()

    def _train(self) -> None:
        try:
            self.room.next(watch=lambda step, steps: self.say(f"Training a case: step {step} of {steps}.") if step % 10 == 0 else None)
            self._clear()
        finally:
            self.draw()

    def _clear(self) -> None:
        for choice in self.faults:
            choice.value = ""
        self._shown = {}
        self.say("")
        self.draw()

    def _offer(self, cure: widgets.RadioButtons, name: str) -> None:
        """Offer the four cures of the chosen failure."""
        options = self.room.cures(name) if name in FAILURES else {}
        cure.options = [(text, letter) for letter, text in options.items()]
        cure.value = None
        cure.layout.display = None if options else "none"

    def _safely(self, work: Callable[[], object]) -> Callable[..., None]:
        """A button's work that shows any error on the screen: an exception in a callback is not shown anywhere."""

        def done(*_: object) -> None:
            try:
                self.say("")
                work()
            except Exception as error:
                self.say(told(error))

        return done

    def _choice(self, name: str, options: list[tuple[str, str]], tip: str) -> widgets.Dropdown:
        return widgets.Dropdown(options=options, value="", description=name, tooltip=tip, style=_STYLE, layout=_WIDE)


def _heading(text: str) -> widgets.HTML:
    return widgets.HTML(f"<h3>{text}</h3>")


def _finding(finding) -> str:
    """A finding as HTML, with its figure if it has one and matplotlib is installed."""
    try:
        picture = finding.figure._repr_html_() if finding.curves else ""
    except LabError:
        picture = ""
    shown = finding._repr_html_()
    return shown + tag("details", tag("summary", "picture"), Html(picture)) if picture else shown
