"""`labkit distill`: distil your teacher into your student, on your data."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from labkit.base.errors import LabError
from labkit.base.files import no_empty_folder, write_whole
from labkit.cli import knobs
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.progress import Progress

HELP = "distil your teacher into your student, on your data, and save the student"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s --out OUT [NAME=VALUE ...] [--FLAG VALUE ...]"
    parser.add_argument(
        "recipe", nargs="*", help="a recipe as in a model card: teacher=... student=... data=...; or a whole one, after labkit"
    )
    parser.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the student, its card, the record and a report")
    parser.add_argument("--prompt-column", metavar="NAME", help="the column of --data with the prompts, if its name is not a usual one")
    parser.add_argument("--response-column", metavar="NAME", help="the column with the responses")
    parser.add_argument("--network", action="store_true", help="allow --data to be a data set that is fetched from the Hugging Face hub")
    parser.add_argument("--no-baseline", action="store_true", help="skip the baseline: the same student, fine-tuned on the gold labels")
    parser.add_argument(
        "--no-examples", action="store_true", help="show no rows of the data in the card, the record and the report at --out"
    )
    parser.add_argument("--force", action="store_true", help="replace an earlier result at --out")
    usual = dict(batch="16", steps="100", gold="all there are", learning_rate="by the kind of model", method="output, or sequence")
    knobs.add_knobs(parser, **usual)


def run(options: argparse.Namespace) -> int:
    given = knobs.given(options)
    asked = Experiment().but(**given)
    others = {name: value for name, value in given.items() if name not in ("teacher", "student", "data")}
    runs: list[Experiment] = []

    def watch(what: str, event: ev.Event) -> None:
        progress.of(what)
        if isinstance(event, ev.Started):
            runs.append(Experiment.from_dict(dict(event.experiment)))
        progress(event)

    with Progress(every=10) as progress:
        progress.doing("Loading PyTorch")
        from labkit.studies.distill import distill

        progress.doing("Loading data and models; the teacher and the untrained student take the exam")
        with _read_once(asked.data, options, runs, progress.say) as data:
            chosen = dict(baseline=not options.no_baseline, examples=not options.no_examples, force=options.force)
            done = distill(asked.teacher, asked.student, data, options.out, **chosen, watch=watch, say=progress.say, **others)
    print(done)
    print(f"\nsaved to {options.out}: the student with its card (README.md), record.jsonl.gz and report.html")
    if not options.no_examples:
        print("Card, record and report show prompts and answers of your data: pass the folder on without them (--no-examples).")
    return 0


@contextlib.contextmanager
def _read_once(data: str, options: argparse.Namespace, runs: Sequence[Experiment], say: Callable[[str], object]) -> Iterator[str]:
    """Data that needs the flags on columns or network is read, and written beside the result as a file that a recipe can name.

    If the command fails, and no run has a checkpoint to go on from, the file is as it was before.

    runs: the runs that have begun by then.
    say: called with lines about the data.

    Yields the path of the data. Raises `LabError` if it would contain a space.
    """
    from labkit.studies.result_folder import beside
    from labkit.studies.run import has_checkpoint
    from labkit.tasks.custom.rows import read_rows, write_rows

    if not (options.prompt_column or options.response_column or options.network):
        yield data
        return
    path = beside(options.out, "-data.jsonl")
    if any(letter.isspace() for letter in str(path)):
        raise LabError(
            f"--out {str(options.out)!r} contains a space: the data is kept beside it, in a path that a recipe names. Choose another."
        )
    rows = read_rows(data, prompt_column=options.prompt_column, response_column=options.response_column, network=options.network)
    say(rows.summary)
    before = path.read_bytes() if path.exists() else None
    with no_empty_folder(path.parent):
        write_rows(rows, path)
        try:
            yield str(path)
        except BaseException:
            if not any(map(has_checkpoint, runs)):
                path.unlink(missing_ok=True) if before is None else write_whole(path, lambda to: to.write_bytes(before))
            raise
