"""Controls made from the fields of `Experiment`: a slider, a list or a number for each, with unit and help."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from labkit.base.errors import LabError
from labkit.base.html import listed, note, tag
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.recipe_text import GROUPS
from labkit.records.rules import Rule, broken

_STYLE = {"description_width": "initial"}
_LAYOUT = {"width": "calc(100% - 4px)", "min_width": "0"}
IN_SIGHT = 3  # knobs of a lesson that stand beside its board; the others wait under "More settings"


def control(name: str, value: Any) -> widgets.ValueWidget:
    """The control of one field.

    value: the value that it shows.
    """
    default, knob = KNOBS[name]
    common = dict(description=knob.label, tooltip=knob.help, style=_STYLE, layout=_LAYOUT)
    if knob.several:
        return widgets.Text(value=value, continuous_update=False, **common)
    if knob.choices:
        return widgets.Dropdown(options=[(choice, choice) for choice in _choices(name, value)], value=value, **common)
    if knob.log:
        return widgets.SelectionSlider(options=_ladder(name, value), value=value, **common)
    if knob.pattern:
        return widgets.Text(value=value, continuous_update=False, **common)
    if isinstance(default, float) and knob.high > 20:
        return widgets.BoundedFloatText(value=value, min=knob.low, max=knob.high, step=0.1, **common)
    if isinstance(default, float):
        return widgets.FloatSlider(value=value, min=knob.low, max=knob.high, step=0.01, readout_format=".2f", **common)
    return widgets.BoundedIntText(value=value, min=int(knob.low), max=int(knob.high), **common)


def _choices(name: str, value: str) -> list[str]:
    """The choices of a field, and the present value, which may be the name of a model."""
    return list(dict.fromkeys((*KNOBS[name].knob.choices, value)))


def _other(experiment: Experiment, name: str, rule: Rule, sentence: str) -> str:
    """The setting that a choice for `name` conflicts with, as "field=value": the first other field that, changed alone, satisfies the rule.

    Fields that the sentence of the rule names come first.
    """
    for other in sorted(KNOBS.keys() - {name}, key=lambda n: (f"{n}=" not in sentence, getattr(experiment, n) == KNOBS[n].default, n)):
        default, knob = KNOBS[other]
        for value in {default, *knob.choices, *filter(math.isfinite, (knob.low, knob.high))} - {getattr(experiment, other)}:
            if not rule.broken_by(experiment.but(**{other: value})):
                return f"{other}={getattr(experiment, other)}"
    return "the other settings"


def _ladder(name: str, value: float) -> list[tuple[str, float]]:
    """Round numbers for a slider, within what a lesson can run, and the present value."""
    default, knob = KNOBS[name]
    whole = isinstance(default, int)
    mantissas = (1, 2, 5) if whole else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    low, high = max(knob.low, 30 if whole else 0), min(knob.high, 50_000)
    rungs = {float(f"{m * 10.0**e:.3g}") for e in range(-6, 6) for m in mantissas}
    kept = {rung for rung in rungs | {default, knob.low, 300 if name == "gold" else default} if low <= rung <= high} | {value}
    return [(f"{rung:,.0f}", int(rung)) if whole else (f"{rung:g}", float(rung)) for rung in sorted(kept)]


def fold(title: str, inside: widgets.Box, opened: Callable[[], None] = lambda: None) -> widgets.VBox:
    """A box that opens and closes at a press on its title. The title is a button (attribute `title`), which the keyboard reaches: that of
    ipywidgets' Accordion is not.

    opened: called each time it opens.
    """
    button = widgets.ToggleButton(description=title, icon="caret-right", layout={"width": "100%"})
    inside.layout.display = "none"

    def turned(change: dict[str, Any]) -> None:
        button.icon = "caret-down" if change["new"] else "caret-right"
        inside.layout.display = None if change["new"] else "none"
        if change["new"]:
            opened()

    button.observe(turned, "value")
    button.add_class("labkit-fold")
    box = widgets.VBox([button, inside], layout={"width": "100%"})
    box.title = button
    return box


class Controls:
    """Controls for some fields of a recipe, the others under "More", and the recipe as text to copy and paste.

    A choice that would break a rule with the other settings is marked in its list, with the reason below; if chosen, the rule is shown.

    experiment: the recipe to show first.
    names: the fields of a lesson. The first three are in sight, the others stand first under "More".
    turned: called with (name, value) when a knob moves, unless the recipe breaks a rule.

    Functions in `followers` are called with the recipe whenever it changes.
    """

    def __init__(self, experiment: Experiment, names: Sequence[str], turned: Callable[[str, Any], None] | None = None) -> None:
        self._experiment = self._sound = experiment  # _sound: the last recipe that broke no rule; at first the given one
        self._turned = turned or (lambda name, value: None)
        self._setting = self._running = False
        self.followers: list[Callable[[Experiment], None]] = []
        self.fields: dict[str, widgets.ValueWidget] = {}
        shown = [self._add(name) for name in names]
        self.reasons = widgets.HTML()
        self._rest = widgets.VBox(shown[IN_SIGHT:])
        self.more = fold("More settings", self._rest, self._more)
        self.recipe = widgets.Text(
            value=experiment.recipe,
            description="Recipe",
            continuous_update=False,
            tooltip="Copy it to repeat the run elsewhere. Paste another and press Enter to set all controls.",
            style=_STYLE,
            layout=_LAYOUT,
        )
        self.recipe.observe(lambda change: self._pasted(change["new"]), "value")
        self.message = widgets.HTML(layout={"min_height": "1.4em"})
        self.widget = widgets.VBox([*shown[:IN_SIGHT], self.more, self.recipe, self.message, self.reasons], layout={"width": "100%"})
        self.widget.add_class("labkit-controls")
        self._tell()

    @property
    def experiment(self) -> Experiment:
        """The recipe that the controls show; set it to show another."""
        return self._experiment

    @experiment.setter
    def experiment(self, experiment: Experiment) -> None:
        self._experiment, self._sound, self._setting = experiment, experiment, True
        try:
            for name, field in self.fields.items():
                value = getattr(experiment, name)
                if isinstance(field, widgets.SelectionSlider):
                    field.options = _ladder(name, value)
                if isinstance(field, widgets.Dropdown):
                    field.options = [(choice, choice) for choice in _choices(name, value)]
                field.value = value
        finally:
            self._setting = False
        self._tell()

    def add_below_more(self, widget: widgets.Widget) -> None:
        """Put a widget between "More settings" and the recipe."""
        parts = list(self.widget.children)
        parts.insert(parts.index(self.more) + 1, widget)
        self.widget.children = parts

    def lock(self, running: bool) -> None:
        """Lock all but the hot knobs while a run goes on; unlock all otherwise."""
        self._running = running
        for name, field in self.fields.items():
            field.disabled = running and not KNOBS[name].knob.hot
        self.recipe.disabled = running

    def _changed(self, name: str, value: Any) -> None:
        if self._setting:
            return
        try:
            self._experiment = self._experiment.but(**{name: value})
            if not self._experiment.problems():
                last, self._sound = self._sound, self._experiment
                for field in [n for n in KNOBS if getattr(last, n) != getattr(self._sound, n)]:  # more than one after a broken rule
                    self._turned(field, getattr(self._sound, field))
        except LabError as error:
            self.say(str(error), "alert")
            return
        self._tell()

    def _add(self, name: str) -> widgets.ValueWidget:
        field = self.fields[name] = control(name, getattr(self._experiment, name))
        field.observe(lambda change: self._changed(name, change["new"]), "value")
        return field

    def _more(self) -> None:
        """Make the other controls, by group, when "More" is first opened."""
        if set(self.fields) == set(KNOBS):
            return
        rows: list[widgets.Widget] = [*self._rest.children]
        for group in GROUPS:
            names = [name for name, entry in KNOBS.items() if entry.knob.group == group and name not in self.fields]
            rows += [widgets.HTML(f"<h4>{group.capitalize()}</h4>"), *map(self._add, names)] if names else []
        self._rest.children = rows
        self.lock(self._running)
        self._mark()

    def _mark(self) -> None:
        """Mark each choice that would break a rule with the setting that it conflicts with, and show the reasons below."""
        reasons: dict[str, str] = {}
        self._setting = True
        for name, field in self.fields.items():
            if not isinstance(field, widgets.Dropdown):
                continue
            value, options = getattr(self._experiment, name), []
            recipes = {choice: self._experiment.but(**{name: choice}) for choice in _choices(name, value)}
            rules_of = {choice: broken(recipe) for choice, recipe in recipes.items()}
            always = set.intersection(*({rule.name for rule, _ in rules} for rules in rules_of.values()))  # by every choice
            for choice, rules in rules_of.items():
                rules = [(rule, sentence) for rule, sentence in rules if rule.name not in always]
                for rule, sentence in rules[:1]:
                    reasons.setdefault(f"{name} {rule.name}", f"{KNOBS[name].knob.label}, {choice}: {sentence}")
                options.append((f"{choice} (not with {_other(recipes[choice], name, *rules[0])})" if rules else choice, choice))
            if options != list(field.options):
                field.options = options
                field.value = value
        self._setting = False
        details = tag("details", tag("summary", "Why choices are marked"), listed(reasons.values()))
        self.reasons.value = details if reasons else ""

    def _tell(self) -> None:
        self.say("".join(self._experiment.problems()[:1]), "alert")
        self._setting = True
        self.recipe.value = self._experiment.recipe
        self._setting = False
        self._mark()
        for follower in self.followers:
            follower(self._experiment)

    def _pasted(self, text: str) -> None:
        if self._setting:
            return
        try:
            self.experiment = Experiment.from_recipe(text)
            if not self._experiment.problems():
                self.say("The controls show this recipe now.")
        except LabError as error:
            self.say(str(error), "alert")

    def say(self, text: str, role: str = "status") -> None:
        """Show a message. Screen readers speak it when they have ended what they say, or at once if its role is "alert"."""
        self.message.value = note(text, role)
