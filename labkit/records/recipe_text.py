"""Knobs: label, help and allowed values of each field of a recipe, and how values are read from text and TOML."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from labkit.base.errors import LabError, reading, unknown
from labkit.records.names import named_model

GROUPS = ("student", "teacher", "signal", "text", "optimiser", "data", "planted", "heads")

LONG = 1_000  # bits of a whole number; a float has 1,024


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
    default, (label, _, text, unit, low, high, _, choices, pattern, several, models, *_) = entry
    if isinstance(value, int) and value.bit_length() > LONG:  # neither `float` nor, from 4,300 digits on, `str` takes it
        digits = int(value.bit_length() * math.log10(2))
        raise LabError(f"{name} is a whole number of about {digits:,} digits, which is out of range: write a smaller one.")
    if several:
        wanted = set(str(value).replace(" ", "").split("+")) - {"none", ""}
        if strange := sorted(wanted - set(choices)):
            raise unknown(name, strange[0], choices)
        return "+".join(choice for choice in choices if choice in wanted) or "none"
    spaced = any(letter.isspace() for letter in str(value))
    if spaced and ((models and named_model(str(value))) or name in ("data", "score")):
        fix = r"write \s for it in a regular expression" if name == "score" else "move the file or folder to a path without one"
        raise LabError(f"{name}={value!r} cannot be read: it contains a space, which a recipe cannot hold: {fix}.")
    if models and named_model(str(value)):
        return str(value)
    if choices:
        for choice in choices:
            if str(value).casefold().replace("-", " ") == choice.casefold().replace("-", " "):
                return choice
        raise unknown(name, value, choices)
    if pattern:
        if not isinstance(value, str | os.PathLike):
            raise LabError(f"{name}={value!r} must be a text, as {name}={default!r} is. {text}")
        if not re.fullmatch(pattern, str(value)):
            raise LabError(f"{name}={value!r} cannot be read. {text}")
        return str(value)
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
            raise LabError(f"{name}={value!r} must be a whole number ({label}, {low:g} to {high:g} {unit}).".replace(" )", ")"))
        value = int(value)
    elif isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise LabError(f"{name}={value!r} must be a number ({label}, {low:g} to {high:g} {unit}).".replace(" )", ")"))
        value = float(f"{value:.6g}")  # the digits that a recipe prints, so that a pasted recipe is the same recipe
    if not isinstance(default, str) and not low <= value <= high:
        raise LabError(f"{name}={value:g} is out of range: {label.lower()} goes from {low:g} to {high:g} {unit}".rstrip() + ".")
    return value


def given_in_words(words: Iterable[str], knobs: Mapping[str, Entry]) -> dict[str, Any]:
    """Returns the fields that are given as name=value. Raises `LabError` with the word that cannot be read."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise LabError(f"cannot read {word!r} in the recipe: write name=value, as in temperature=2.")
        if name not in knobs:
            raise unknown("field", name, knobs)
        values[name] = parse(name, value, knobs[name].default)
    return values


def given_in_toml(text: str) -> dict[str, Any]:
    """Returns the fields in the [experiment] table of a TOML text. Raises `LabError` if it cannot be read."""
    with reading("the TOML recipe", "It needs an [experiment] table.", "cannot be read"):
        return dict(tomllib.loads(text)["experiment"])


def parse(name: str, text: str, default: Any) -> Any:
    """A field's value from text, as typed on a command line or in a recipe. Raises `LabError` for text that is not a number."""
    if isinstance(default, str):
        return text
    try:
        return float(text) if isinstance(default, float) else int(text.replace("_", ""))
    except ValueError:
        kind = "a number" if isinstance(default, float) else "a whole number"
        shown = text if len(text) < 60 else f"{text[:20]}…"
        raise LabError(f"{name}={shown!r} must be {kind}, as in {name}={default:g}.") from None
