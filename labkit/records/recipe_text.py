"""A knob: what it means to a person, which values it may have, and how they are read from words and TOML."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from labkit.base.errors import LabError, unknown
from labkit.records.names import named_model

GROUPS = ("student", "teacher", "signal", "text", "optimiser", "data", "planted", "heads")


class Knob(NamedTuple):
    """What a field of `Experiment` means to a person: label, which of `GROUPS`, unit, allowed values, help, and how it may be used.

    pattern: for a text that is not one of a few: what it must look like, as a regular expression.
    models: a model's name will do too: a folder or hub id, which has a slash in it, or one of `FETCHABLE`.
    several: any number of the choices may be taken, joined by "+"; "none" is none of them.
    hot: may be changed while a run is going.  identity: changes the outcome of a run, so it belongs to the record's key.
    advanced: shown only to those who ask for all knobs.
    """

    label: str
    group: str
    help: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    log: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    several: bool = False
    models: bool = False
    hot: bool = False
    identity: bool = True
    advanced: bool = False


class Entry(NamedTuple):
    default: Any
    knob: Knob


def knob(default: Any, label: str, group: str, **traits: Any) -> Any:
    return dataclasses.field(default=default, metadata={"knob": Knob(label, group, **traits)})


def check(name: str, value: Any, entry: Entry) -> Any:
    """`value` as this field's type. Raises `LabError` with the field, the range and the unit."""
    default, (label, _, text, unit, low, high, _, choices, pattern, several, models, *_) = entry
    if several:
        wanted = set(str(value).replace(" ", "").split("+")) - {"none", ""}
        if strange := sorted(wanted - set(choices)):
            raise unknown(name, strange[0], choices)
        return "+".join(choice for choice in choices if choice in wanted) or "none"
    spaced = any(letter.isspace() for letter in str(value))
    if spaced and ((models and named_model(str(value))) or name in ("data", "score")):
        mend = r"write \s for it in a regular expression" if name == "score" else "move what it names to a path without one"
        raise LabError(f"{name}={value!r} cannot be read: it has a space in it, which a recipe cannot hold: {mend}.")
    if models and named_model(str(value)):
        return str(value)
    if choices:
        for choice in choices:
            if str(value).casefold().replace("-", " ") == choice.casefold().replace("-", " "):
                return choice
        raise unknown(name, value, choices)
    if pattern:
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
        value = float(f"{value:.6g}")  # as many digits as the recipe prints, so that a pasted recipe is the same recipe
    if not isinstance(default, str) and not low <= value <= high:
        raise LabError(f"{name}={value:g} is out of range: {label.lower()} goes from {low:g} to {high:g} {unit}".rstrip() + ".")
    return value


def given_in_words(words: Iterable[str], knobs: Mapping[str, Entry]) -> dict[str, Any]:
    """The fields that are named as name=value. Raises `LabError` saying which cannot be read."""
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
    """The fields that the [experiment] table of a TOML text names. Raises `LabError` for what cannot be read."""
    try:
        return dict(tomllib.loads(text)["experiment"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise LabError(f"cannot read the TOML recipe: {error}. It needs an [experiment] table.") from None


def parse(name: str, text: str, default: Any) -> Any:
    """A field's value from text, as typed on a command line or in a recipe."""
    if isinstance(default, str):
        return text
    try:
        return float(text) if isinstance(default, float) else int(text.replace("_", ""))
    except ValueError:
        kind = "a number" if isinstance(default, float) else "a whole number"
        raise LabError(f"{name}={text!r} must be {kind}, as in {name}={default:g}.") from None
