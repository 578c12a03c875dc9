"""Controls derived from the fields of `Experiment`: a slider, a choice or a number for each, with its unit and help."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from labkit.base.errors import LabError
from labkit.records.experiment import KNOBS, Experiment

_STYLE = {"description_width": "90px"}
_LAYOUT = {"width": "calc(100% - 4px)", "min_width": "0"}


def control(name: str, value: Any) -> widgets.ValueWidget:
    """The control of one field, at `value`."""
    default, knob = KNOBS[name]
    common = dict(description=knob.label, tooltip=knob.help, style=_STYLE, layout=_LAYOUT)
    if knob.several:
        return widgets.Text(value=value, continuous_update=False, **common)
    if knob.choices:
        return widgets.Dropdown(options=list(dict.fromkeys((*knob.choices, value))), value=value, **common)
    if knob.log:
        return widgets.SelectionSlider(options=_ladder(name, value), value=value, **common)
    if knob.pattern:
        return widgets.Text(value=value, continuous_update=False, **common)
    if isinstance(default, float) and knob.high > 20:
        return widgets.BoundedFloatText(value=value, min=knob.low, max=knob.high, step=0.1, **common)
    if isinstance(default, float):
        return widgets.FloatSlider(value=value, min=knob.low, max=knob.high, step=0.01, readout_format=".2f", **common)
    return widgets.BoundedIntText(value=value, min=int(knob.low), max=int(knob.high), **common)


def _ladder(name: str, value: float) -> list[tuple[str, float]]:
    """Round numbers to slide over, as far as a lesson can take, with the present value among them."""
    default, knob = KNOBS[name]
    whole = isinstance(default, int)
    mantissas = (1, 2, 5) if whole else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    low, high = max(knob.low, 30 if whole else 0), min(knob.high, 50_000)
    rungs = {float(f"{m * 10.0**e:.3g}") for e in range(-6, 6) for m in mantissas}
    kept = {rung for rung in rungs | {default, knob.low, 300 if name == "gold" else default} if low <= rung <= high} | {value}
    return [(f"{rung:,.0f}", int(rung)) if whole else (f"{rung:g}", float(rung)) for rung in sorted(kept)]


class Controls:
    """Controls for some fields of an experiment, and its recipe as text that can be copied and pasted.

    turned: called with (name, value) when a hot knob moves, whether or not a run is going. followers: called with the experiment
    whenever it changes.
    """

    def __init__(self, experiment: Experiment, names: Sequence[str], turned: Callable[[str, Any], None] | None = None) -> None:
        self._experiment = experiment
        self._turned = turned or (lambda name, value: None)
        self._setting = False
        self.followers: list[Callable[[Experiment], None]] = []
        self.fields = {name: control(name, getattr(experiment, name)) for name in names}
        for name, field in self.fields.items():
            field.observe(lambda change, name=name: self._changed(name, change["new"]), "value")
        self.recipe = widgets.Text(
            value=experiment.recipe,
            description="Recipe",
            continuous_update=False,
            tooltip="Copy this to repeat the run anywhere; paste another and press Enter to set all controls.",
            style=_STYLE,
            layout=_LAYOUT,
        )
        self.recipe.observe(lambda change: self._pasted(change["new"]), "value")
        self.message = widgets.HTML(layout={"min_height": "1.4em"})
        self.widget = widgets.VBox([*self.fields.values(), self.recipe, self.message], layout={"width": "100%"})
        self.widget.add_class("labkit-controls")

    @property
    def experiment(self) -> Experiment:
        return self._experiment

    @experiment.setter
    def experiment(self, experiment: Experiment) -> None:
        """Show another recipe on the controls."""
        self._experiment, self._setting = experiment, True
        try:
            for name, field in self.fields.items():
                value = getattr(experiment, name)
                if isinstance(field, widgets.SelectionSlider):
                    field.options = _ladder(name, value)
                if isinstance(field, widgets.Dropdown) and value not in field.options:  # a model's name
                    field.options = (*field.options, value)
                field.value = value
            self.recipe.value = experiment.recipe
        finally:
            self._setting = False
        self._tell()

    def lock(self, running: bool) -> None:
        """While a run is going only its hot knobs may move."""
        for name, field in self.fields.items():
            field.disabled = running and not KNOBS[name].knob.hot
        self.recipe.disabled = running

    def _changed(self, name: str, value: Any) -> None:
        if self._setting:
            return
        try:
            self._experiment = self._experiment.but(**{name: value})
            self._turned(name, getattr(self._experiment, name))
        except LabError as error:
            self.say(str(error))
            return
        self.say("")
        self._setting = True
        self.recipe.value = self._experiment.recipe
        self._setting = False
        self._tell()

    def _tell(self) -> None:
        for follower in self.followers:
            follower(self._experiment)

    def _pasted(self, text: str) -> None:
        if self._setting:
            return
        try:
            self.experiment = Experiment.from_recipe(text)
            self.say("Recipe taken over.")
        except LabError as error:
            self.say(str(error))

    def say(self, text: str) -> None:
        self.message.value = f'<span role="alert" style="line-height:1.3">{html.escape(text)}</span>' if text else ""
