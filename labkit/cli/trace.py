"""`labkit trace`: show one batch from question to gradient, file by file."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.cli.knobs import add_knobs, given
from labkit.records.experiment import Experiment

HELP = "show one batch from question to gradient: the files it goes through, and the shapes of its tensors"
SMALL = {"batch": 4, "questions": 512}  # defaults: short lists, and few questions for the teacher to answer


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [labkit NAME=VALUE ...] [--FLAG VALUE ...]"
    parser.add_argument("recipe", nargs="*", help="a recipe as the lab prints it, such as: labkit method=hidden")
    parser.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    parser.add_argument("--full", action="store_true", help="also the inputs and the purpose of each function")
    add_knobs(parser)


def run(options: argparse.Namespace) -> int:
    from labkit.studies.trace import trace

    print(trace(Experiment().but(**{**SMALL, **given(options)})).text(options.full))
    return 0
