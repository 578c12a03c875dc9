"""`labkit check`: which packages are installed, and whether the data is complete."""

from __future__ import annotations

import argparse
import importlib.util
import os

from labkit.base.errors import LabError
from labkit.base.files import data_dir
from labkit.base.manifest import checked, entries
from labkit.cli.build import recipe_of
from labkit.records.results import rows
from labkit.records.store import Store

HELP = "check this installation: packages, data and their checksums"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", action="store_true", help="read all recorded runs and compare them with data/results.csv (20 s)")


def run(options: argparse.Namespace) -> int:
    """Print the state of packages and data. Returns exit code 1 if shipped data is damaged, or its tables disagree."""
    for package in ("torch", "transformers", "accelerate", "ipywidgets", "anywidget", "jupyterlab", "matplotlib", "plotly", "pandas"):
        installed = importlib.util.find_spec(package) is not None
        print(f"{'ok     ' if installed else 'missing'} {package}")
    bad = 0
    for manifest in sorted(data_dir().rglob("manifest.json")):
        for name in entries(manifest.parent) or ("manifest.json",):  # a damaged manifest has no entries, and is reported
            try:
                print(f"ok      {checked(manifest.parent / name).relative_to(data_dir())}")
            except LabError as error:
                bad += 1
                print(f"damaged {error}")
    if bad:
        print("the recorded runs are not counted, nor compared with their table, while data is damaged")
        return 1
    if options.records:
        for difference in recipe_of("records").differences(data_dir() / "records"):
            bad += 1
            print(f"differs data/results.csv from data/records: {difference}. Rebuild it with `python -m labkit build records`.")
    made = Store().own
    count = len(list(made.glob("*.jsonl.gz"))) if os.path.isdir(made) else 0  # unlike its own `is_dir`, also in a home that is closed to us
    print(f"{len(rows())} recorded runs shipped, {count} made here")
    return 1 if bad else 0
