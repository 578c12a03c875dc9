"""`labkit prune`: a smaller student, cut out of a teacher."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.base.errors import LabError
from labkit.cli.output import read

HELP = "cut a smaller student out of a teacher, as a Hugging Face folder"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("teacher", help="a shipped teacher, smollm2, or a model's folder")
    parser.add_argument("out", type=Path, help="folder for the student; nothing in it is overwritten")
    parser.add_argument("--layers", type=int, help="how many layers stay (default: all)")
    parser.add_argument("--keep", type=numbers, metavar="0,2,...", help="which layers stay, instead of how many")
    parser.add_argument("--by", default="spread", help="how layers are chosen: spread, or influence, measured on texts (default: spread)")
    parser.add_argument("--width", type=float, default=1.0, help="share of the MLP neurons that stay (default: 1)")
    parser.add_argument("--groups", type=int, help="key-value heads that stay, with the queries that read them (default: all)")
    parser.add_argument("--texts", type=Path, help="texts to measure importance on, one a line (default: the teacher writes some)")


def run(options: argparse.Namespace) -> int:
    from labkit.models.prune import prune_folder

    if options.keep and options.layers:
        raise LabError("give either --layers or --keep, not both.")
    texts = [line for line in read(options.texts).splitlines() if line.strip()] if options.texts else []
    cut = prune_folder(options.teacher, options.out, options.keep or options.layers, options.width, options.groups, options.by, texts)
    print("\n".join([*cut.lines(), f"saved in {options.out}"]))
    return 0


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]
