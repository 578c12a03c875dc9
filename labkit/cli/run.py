"""`labkit run`: train one student from a recipe."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
from collections.abc import Iterator
from pathlib import Path

from labkit.base.errors import LabError
from labkit.cli.knobs import add_knobs, given
from labkit.cli.output import asked, lacks_baseline, summarise, writable
from labkit.records.experiment import Experiment
from labkit.records.progress import Progress
from labkit.records.record import Record
from labkit.records.rules import refuse
from labkit.records.store import Store
from labkit.tasks.custom.content_hash import with_hashes

HELP = "train one student and print its scores"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [labkit NAME=VALUE ...] [--FLAG VALUE ...]"
    parser.add_argument("recipe", nargs="*", help="a recipe as the lab prints it, such as: labkit temperature=2")
    parser.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    parser.add_argument("--out", type=Path, help="also save the record here (.jsonl or .jsonl.gz)")
    parser.add_argument("--fresh", action="store_true", help="run even if the recipe is already on record")
    parser.add_argument(
        "--baseline",
        action=argparse.BooleanOptionalAction,
        help="also run the baseline that recovery needs: the same student on the gold labels alone (default: ask, on a terminal)",
    )
    add_knobs(parser)


def run(options: argparse.Namespace) -> int:
    experiment = Experiment().but(**given(options))
    writable(options.out)
    refuse(experiment)
    with _together(), Progress() as progress:
        print(experiment.recipe, flush=True)
        made = None if options.fresh else Store().judged(with_hashes(experiment))  # which takes no PyTorch, and so no time
        if made is None:
            progress.doing("Loading PyTorch")
            from labkit.studies.run import record

            progress.doing("Loading the teacher and the student")
            made = record(experiment, fresh=options.fresh, watch=progress)
            progress.close()
        place = Store().place(made.experiment)
        if not progress.began:
            print(f"read from {_record_at(place)}; --fresh runs it again")
        _add_baseline(made, options.baseline, progress)
        if options.out:
            print(f"saved to {made.save(options.out)}")
        summarise(made)
        if progress.began:
            print(f"record: {place}")
    return 0


def _record_at(place: Path | None) -> str:
    """Which record a run was read from. Of those that ship, no file knows the date."""
    if place is None or place.is_relative_to(Store().shipped):
        return f"the record that ships with the lab, at {place}"
    return f"the record of {datetime.date.fromtimestamp(place.stat().st_mtime)}, at {place}"


def _add_baseline(made: Record, wanted: bool | None, progress: Progress) -> None:
    """Run the label-budget baseline of a run that has none on record, if it is wanted or, on a terminal, if the answer is yes.

    wanted: True or False as --baseline or --no-baseline says; None to ask.
    """
    if not lacks_baseline(made):
        return
    labels = f"{made.experiment.gold:,} gold labels"
    if wanted is None and os.environ.get("WORLD_SIZE", "1") == "1":
        wanted = asked(f"Recovery needs a baseline: the same student on the {labels} alone, about as long as a run. Run it now?")
    if not wanted:
        return
    from labkit.studies.run import with_baseline

    progress.of("baseline")
    for reference in with_baseline(made, lambda run, event: progress(event)):
        made.add(reference)
    progress.close()


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
