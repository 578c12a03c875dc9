"""`labkit rerun`: run a recorded recipe again, and say how far its numbers are from the record."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.base.errors import LabError
from labkit.cli.output import read
from labkit.records.experiment import Experiment
from labkit.records.progress import Progress

HELP = "run a recorded recipe again, and say how far its numbers are from the record"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [labkit NAME=VALUE ...] [--toml TOML] [--steps N]"
    parser.add_argument("recipe", nargs="*", help="a recipe as the lab prints it, such as: labkit temperature=2")
    parser.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    parser.add_argument("--steps", type=int, metavar="N", help="only the first N steps; the record stays as it is")


def run(options: argparse.Namespace) -> int:
    """Run it again. Raises `LabError` if both a recipe and --toml are given, or the recipe is not on record."""
    if options.toml and options.recipe:
        raise LabError("give either a recipe or --toml, not both.")
    text = " ".join(options.recipe or ["labkit"])
    experiment = Experiment.from_toml(read(options.toml)) if options.toml else Experiment.from_recipe(text)
    print(experiment.recipe, flush=True)
    with Progress() as progress:
        progress.doing("Loading PyTorch and the models")
        from labkit.studies.run import rerun

        drift = rerun(experiment, options.steps, watch=progress)
    print(drift)
    return 0
