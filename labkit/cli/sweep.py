"""`labkit sweep`: run a grid of experiments."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.base.files import write_whole
from labkit.cli.output import read, writable

PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zip": "zip", ".zst": "zstd"}
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
        packed = PACKED.get(options.out.suffix)  # pandas looks at the name, which is another one while the file is written
        write_whole(options.out, lambda to: table.to_csv(to, index=False, compression=packed))
        print(f"written to {options.out}")
    return 0
