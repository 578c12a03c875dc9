"""`labkit grade`: read the pages that learners handed in, as one table."""

from __future__ import annotations

import argparse
import sys

HELP = "read the pages that `labkit handin` wrote, as one table"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pages", nargs="+", metavar="FILE", help="pages that learners handed in; nothing in them is run")
    parser.add_argument("--csv", action="store_true", help="print the table as CSV, with every exercise and recipe")


def run(options: argparse.Namespace) -> int:
    """Returns exit code 0; 2 if a file is no such page, which is named."""
    from labkit.lessons.grading import CHECKSUM, as_csv, as_text, grade

    table, refused = grade(options.pages)
    if len(table):
        print(as_csv(table) if options.csv else f"{as_text(table)}\n\n{CHECKSUM}\n", end="")
    for sentence in refused:
        print(f"labkit: {sentence}", file=sys.stderr)
    return 2 if refused else 0
