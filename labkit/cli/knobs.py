"""The flags for the fields of `Experiment`, in groups, each with what it takes."""

from __future__ import annotations

import argparse
from typing import Any

from labkit.base.errors import LabError
from labkit.cli.output import read
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.recipe_text import GROUPS, Entry, given_in_toml, given_in_words, parse

TITLES = {
    "student": "the student",
    "teacher": "the teacher",
    "signal": "what the student learns from the teacher",
    "text": "text that the teacher or the student writes",
    "optimiser": "training",
    "data": "questions, answers and exam",
    "planted": "faults that are planted on purpose",
    "heads": "draft heads",
}
OF_TEXT = {"data": "FILE", "score": "METRIC", "layers": "PAIRS", "template_option": "NAME=VALUE"}  # what a field without choices takes
SHORT = 24  # characters of choices that are shown as what a flag takes


class _HelpAll(argparse.Action):
    """Prints the help with the advanced knobs, which `--help` leaves out."""

    def __init__(self, option_strings: list[str], dest: str, full: dict[argparse.Action, str], **_: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show all knobs, also the advanced ones, and exit")
        self._full = full

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        for action, text in self._full.items():
            action.help = text
        parser.print_help()
        parser.exit()


def add_knobs(parser: argparse.ArgumentParser, **other: str) -> None:
    """Add a flag for every field.

    other: defaults that this command has instead of the recipe's, as text.
    """
    full: dict[argparse.Action, str] = {}
    parser.add_argument("--help-all", action=_HelpAll, full=full)
    groups = {name: parser.add_argument_group(TITLES[name]) for name in GROUPS}
    for name, (default, knob) in KNOBS.items():
        unit = f" [{knob.unit}]" if knob.unit else ""
        explained = all(choice in knob.help for choice in knob.choices)
        choices = "" if explained else f" ({', '.join(knob.choices)})"
        usual = other.get(name, default)
        text = f"{knob.help}{unit}{choices} Default: {usual if usual != '' else 'none'}.".replace("%", "%%")
        action = groups[knob.group].add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar=_takes(name, KNOBS[name]),
            help=argparse.SUPPRESS if knob.advanced else text,
            default=argparse.SUPPRESS,
        )
        full[action] = text


def _takes(name: str, entry: Entry) -> str:
    """What a field's flag takes, as help shows it: choices if they are few, a range, or a unit."""
    default, knob = entry
    if knob.choices:
        listed = f"{{{','.join(knob.choices)}}}"
        return "MODEL" if knob.models else listed if len(listed) <= SHORT else "NAME+NAME" if knob.several else "NAME"
    if isinstance(default, str):
        return OF_TEXT[name]
    return f"{knob.low:g}..{knob.high:g}" if isinstance(default, float) else knob.unit.upper() or "N"


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields that a recipe or a TOML file names, overridden by those of the flags.

    Raises `LabError` if both a recipe and --toml are given, or a value cannot be read.
    """
    flags = {
        name: parse(name, value, KNOBS[name].default) for name, value in vars(options).items() if name in KNOBS and isinstance(value, str)
    }
    if options.toml and options.recipe:
        raise LabError("give either a recipe or --toml, not both.")
    if options.toml:
        return given_in_toml(read(options.toml)) | flags
    if options.command == "distill" and options.recipe and options.recipe[0] != "labkit":  # as in a model card
        return given_in_words(options.recipe, KNOBS) | flags
    return (Experiment.from_recipe(" ".join(options.recipe)).to_dict() if options.recipe else {}) | flags
