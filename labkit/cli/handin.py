"""`labkit handin`: write what was done on this machine as one page, for a teacher."""

from __future__ import annotations

import argparse

HELP = "write your predictions, passed exercises and runs as one page to hand in"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="", help="your name, for the teacher's table")
    parser.add_argument(
        "--lesson", default="", metavar="NN", help="only the predictions and exercises of this lesson, as in 00 (default: all)"
    )
    parser.add_argument("--out", default="handin.html", metavar="FILE", help="the page (default: handin.html)")


def run(options: argparse.Namespace) -> int:
    from labkit.lessons.handin import handin

    print(handin(options.out, options.name, options.lesson))
    return 0
