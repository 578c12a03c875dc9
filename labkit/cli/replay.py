"""`labkit replay`: print a record again."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.cli.output import summarise
from labkit.records import events as ev
from labkit.records.progress import Progress
from labkit.records.record import load

HELP = "print a record again, as its run did, or as JSON"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path)
    parser.add_argument("--events", action="store_true", help="print every event as a line of JSON")


def run(options: argparse.Namespace) -> int:
    record, tell = load(options.path), Progress(live=False, past=True)
    for event in record.events:
        if options.events:
            print(ev.dumps(event))
        else:
            tell(event)
    if not options.events and record.evaluations:
        summarise(record)
    return 0
