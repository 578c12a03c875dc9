"""`labkit prune`: prune a teacher to a smaller student."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.base.errors import LabError
from labkit.cli.output import read

HELP = "prune a teacher to a smaller student, as a Hugging Face folder"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("teacher", help="a shipped teacher, smollm2, or a model's folder")
    parser.add_argument("out", type=Path, help="a new or empty folder for the student")
    parser.add_argument("--layers", type=int, help="how many layers are kept (default: all)")
    parser.add_argument("--keep", type=numbers, metavar="0,2,...", help="which layers are kept, instead of how many")
    parser.add_argument("--by", default="spread", help="how layers are chosen: spread, or influence, measured on texts (default: spread)")
    parser.add_argument("--width", type=float, default=1.0, help="share of the MLP neurons that are kept (default: 1)")
    parser.add_argument("--groups", type=int, help="key-value heads per layer that are kept, with their queries (default: all)")
    parser.add_argument("--texts", type=Path, help="texts to measure importance on, one a line (default: the teacher writes some)")


def run(options: argparse.Namespace) -> int:
    """Prune and print what was kept. Raises `LabError` if both --layers and --keep are given."""
    from labkit.models.prune import prune_folder

    if options.keep and options.layers:
        raise LabError("give either --layers or --keep, not both.")
    texts = [line for line in read(options.texts).splitlines() if line.strip()] if options.texts else []
    cut = prune_folder(options.teacher, options.out, options.keep or options.layers, options.width, options.groups, options.by, texts)
    print("\n".join([*cut.lines(), f"saved in {options.out}"]))
    return 0


def numbers(text: str) -> list[int]:
    """The whole numbers of a text such as "0,2,5"."""
    return [int(part) for part in text.split(",")]
