"""`labkit sweep`: run a grid of experiments."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.files import write_whole
from labkit.cli.output import read, writable

if TYPE_CHECKING:
    import pandas

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
        write_whole(options.out, lambda to: _as_csv(table, to, options.out.name))
        print(f"written to {options.out}")
    return 0


def _as_csv(table: pandas.DataFrame, to: Path, name: str) -> None:
    """Write a table to a file. pandas looks at the name to see whether it is packed, so it writes to this name in a folder beside."""
    with tempfile.TemporaryDirectory(dir=to.parent) as folder:
        table.to_csv(Path(folder) / name, index=False)
        os.replace(Path(folder) / name, to)
