"""`labkit export`: write a recipe as a script for another library."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.base.errors import LabError
from labkit.cli.output import read
from labkit.records.experiment import Experiment

HELP = "write a recipe as a script for another library"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s trl [labkit NAME=VALUE ...] [--toml TOML] --out OUT"
    parser.add_argument("library", choices=("trl",))
    parser.add_argument("recipe", nargs="*", help="a recipe as the lab prints it, such as: labkit temperature=2")
    parser.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    parser.add_argument("--out", type=Path, required=True, help="the script; its rows and student are written to a folder of the same name")


def run(options: argparse.Namespace) -> int:
    """Write the script. Raises `LabError` if both a recipe and --toml are given."""
    from labkit.studies.export import export

    if options.toml and options.recipe:
        raise LabError("give either a recipe or --toml, not both.")
    text = " ".join(options.recipe or ["labkit"])
    print(f"written: {export(Experiment.from_toml(read(options.toml)) if options.toml else Experiment.from_recipe(text), options.out)}")
    return 0
