"""`labkit run`: train one student from a recipe."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from labkit.base.errors import LabError
from labkit.cli.knobs import add_knobs, given
from labkit.cli.output import summarise, tell, writable
from labkit.records.experiment import Experiment
from labkit.records.rules import refuse

HELP = "train one student and print its scores"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [labkit NAME=VALUE ...] [--FLAG X ...]"
    parser.add_argument("recipe", nargs="*", help="a recipe as the lab prints it, such as: labkit temperature=2")
    parser.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    parser.add_argument("--out", type=Path, help="also save the record here (.jsonl or .jsonl.gz)")
    parser.add_argument("--fresh", action="store_true", help="run even if the recipe is already on record")
    add_knobs(parser)


def run(options: argparse.Namespace) -> int:
    experiment = Experiment().but(**given(options))
    writable(options.out)
    refuse(experiment)
    with _together():
        print(experiment.recipe)
        from labkit.studies.run import record

        made = record(experiment, fresh=options.fresh, watch=tell)
        if options.out:
            print(f"saved to {made.save(options.out)}")
        summarise(made)
    return 0


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Under `accelerate launch` or `torchrun`: only the first process prints, and all wait for each other at the end.

    Raises `LabError` for a launch that splits the model (FSDP or DeepSpeed).
    """
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise LabError(
            "the lab's loop keeps the whole student in every process, and this launch would split it (FSDP or DeepSpeed). Launch with "
            "`accelerate launch --multi_gpu`, or see docs/scale.md for students that are too large for one process."
        )
    with contextlib.ExitStack() as stack:
        if os.environ.get("RANK", "0") != "0":
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        yield
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
        PartialState().destroy_process_group()
