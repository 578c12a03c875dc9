"""Knobs: label, help and allowed values of each field of a recipe, and how values are read from text and TOML."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from labkit.base.errors import LabError, half_a_character, reading, shown, unknown
from labkit.records.names import named_model

GROUPS = ("student", "teacher", "signal", "text", "optimiser", "data", "planted", "heads")

LONG = 1_000  # bits of a whole number; a float has 1,024
LONGEST_TEXT = 4_096  # characters of a text: a recipe stands in records, titles and reports


class Knob(NamedTuple):
    """How a field of `Experiment` is shown to the user, and which values it may have."""

    label: str
    group: str  # one of `GROUPS`
    help: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    log: bool = False  # whether a control shows it on a logarithmic scale
    choices: tuple[str, ...] = ()
    pattern: str = ""  # a regular expression that a text must match, if it is not one of `choices`
    several: bool = False  # several choices may be joined by "+"; "none" means none of them
    models: bool = False  # a model's name is allowed too: a folder or hub id (it has a slash), or one of `FETCHABLE`
    hot: bool = False  # it may be changed during a run
    identity: bool = True  # it changes the outcome of a run, so it is part of the record's key
    advanced: bool = False  # it is shown only among all knobs


class Entry(NamedTuple):
    """A field's default value and its knob."""

    default: Any
    knob: Knob


def knob(default: Any, label: str, group: str, **traits: Any) -> Any:
    """A dataclass field with a `Knob` in its metadata; `traits` are the knob's other fields."""
    return dataclasses.field(default=default, metadata={"knob": Knob(label, group, **traits)})


def check(name: str, value: Any, entry: Entry) -> Any:
    """Returns `value` in this field's type. Raises `LabError` with the field, the range and the unit."""
    if isinstance(entry.default, str):
        return _text(name, value, entry)
    default, (label, _, _, unit, low, high, *_) = entry
    if type(value).__module__ == "numpy" and isinstance(value, numbers.Real):  # one number of an array or a table
        value = value.item()  # type: ignore[attr-defined]
    if isinstance(value, int) and value.bit_length() > LONG:  # neither `float` nor, from 4,300 digits on, `str` takes it
        digits = int(value.bit_length() * math.log10(2))
        raise LabError(f"{name} is a whole number of about {digits:,} digits, which is out of range: write a smaller one.")
    whole, number = isinstance(default, int), isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (whole and (not math.isfinite(value) or value != int(value))):
        kind = "a whole number" if whole else "a number"
        raise LabError(f"{name}={shown(value)} must be {kind} ({label}, {low:g} to {high:g} {unit}).".replace(" )", ")"))
    value = int(value) if whole else float(f"{value:.6g}")  # the digits that a recipe prints, so that a pasted recipe is the same recipe
    if not low <= value <= high:
        raise LabError(f"{name}={value:g} is out of range: {label.lower()} goes from {low:g} to {high:g} {unit}".rstrip() + ".")
    return value


def _text(name: str, value: Any, entry: Entry) -> str:
    """`check` for a field that holds a text."""
    default, knob = entry
    if not isinstance(value, str | PurePath):
        raise LabError(f"{name}={shown(value)} must be a text, as {name}={default!r} is. {knob.help}")
    text = str(value)
    if len(text) > LONGEST_TEXT or half_a_character(text):
        fix = f"of at most {LONGEST_TEXT:,} characters" if len(text) > LONGEST_TEXT else "that can be written in UTF-8"
        raise LabError(f"{name}={shown(text)} cannot be in a recipe: give a text {fix}.")
    if knob.several:
        wanted = set(text.replace(" ", "").split("+")) - {"none", ""}
        if strange := sorted(wanted - set(knob.choices)):
            raise unknown(name, strange[0], knob.choices)
        return "+".join(choice for choice in knob.choices if choice in wanted) or "none"
    model = knob.models and named_model(text)
    if (model or name in ("data", "score")) and any(letter.isspace() for letter in text):
        fix = r"write \s for it in a regular expression" if name == "score" else "move the file or folder to a path without one"
        raise LabError(f"{name}={shown(text)} cannot be read: it contains a space, which a recipe cannot hold: {fix}.")
    if model:
        return text
    if knob.choices:
        for choice in knob.choices:
            if text.casefold().replace("-", " ") == choice.casefold().replace("-", " "):
                return choice
        raise unknown(name, text, knob.choices)
    if not re.fullmatch(knob.pattern, text):
        raise LabError(f"{name}={shown(text)} cannot be read. {knob.help}")
    return text


def given_in_words(words: Iterable[str], knobs: Mapping[str, Entry]) -> dict[str, Any]:
    """Returns the fields that are given as name=value. Raises `LabError` with the word that cannot be read."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise LabError(f"cannot read {shown(word)} in the recipe: write name=value, as in temperature=2.")
        if name not in knobs:
            raise unknown("field", name, knobs)
        if name in values:
            raise LabError(f"{name} is given twice in the recipe: leave one of them out.")
        values[name] = parse(name, value, knobs[name].default)
    return values


def given_in_toml(text: str) -> dict[str, Any]:
    """Returns the fields in the [experiment] table of a TOML text. Raises `LabError` if it cannot be read."""
    with reading("the TOML recipe", "It needs an [experiment] table.", "cannot be read"):
        tables = tomllib.loads(text)
        if not isinstance(given := tables["experiment"], dict):
            raise ValueError(f"its experiment is a {type(given).__name__} and no table")
    if others := [name for name in tables if name != "experiment"]:
        fix = "move it into the table if it is a field, else delete it. `labkit sweep` runs a file with other tables."
        raise LabError(f"{shown(others[0])} stands outside [experiment], the one table of a recipe: {fix}")
    return given


def parse(name: str, text: str, default: Any) -> Any:
    """A field's value from text, as typed on a command line or in a recipe. Raises `LabError` for text that is not a number."""
    if isinstance(default, str):
        return text
    try:
        return float(text) if isinstance(default, float) else int(text.replace("_", ""))
    except ValueError:
        kind = "a number" if isinstance(default, float) else "a whole number"
        raise LabError(f"{name}={shown(text)} must be {kind}, as in {name}={default:g}.") from None
