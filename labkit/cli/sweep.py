"""`labkit sweep`: run a grid of experiments."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.cli.output import read, writable

HELP = "run a grid of experiments over seeds, and print one table"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grid", type=Path, help="a TOML file with [experiment], [grid] and [sweep] tables")
    parser.add_argument("--jobs", type=int, help="parallel processes, which share the cores (default: 1; with Ray, all its processors)")
    parser.add_argument(
        "--backend",
        default="local",
        help="local, or ray: the cluster at $RAY_ADDRESS, or else a new local one; its machines share LABKIT_HOME (default: local)",
    )
    parser.add_argument("--out", type=Path, help="also write the table here, as CSV")


def run(options: argparse.Namespace) -> int:
    from labkit.studies.sweep import Sweep

    sweep = Sweep.from_toml(read(options.grid))
    writable(options.out)
    sweep.run(options.jobs, lambda line: print(line, flush=True), options.backend)
    table = sweep.table()
    print(table.to_string(index=False, float_format=lambda x: f"{x:.3f}", na_rep="-"))
    if options.out:
        table.to_csv(options.out, index=False)
        print(f"written to {options.out}")
    return 0
