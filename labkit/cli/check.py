"""`labkit check`: what is here, and whether it is whole."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

from labkit.base.errors import LabError
from labkit.base.files import checked, data_dir
from labkit.records.record import Store

HELP = "check this installation: packages, data and their checksums"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> int:
    """Print what is here and what is not; the exit code is 1 if shipped data is damaged."""
    for package in ("torch", "transformers", "accelerate", "ipywidgets", "anywidget", "jupyterlab", "matplotlib", "plotly", "pandas"):
        found = importlib.util.find_spec(package) is not None
        print(f"{'ok     ' if found else 'missing'} {package}")
    bad = 0
    for manifest in sorted(data_dir().rglob("manifest.json")):
        try:
            entries = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            entries = {"manifest.json": {"sha256": ""}}  # which then says that it is damaged
        for name, entry in entries.items():
            if "sha256" not in entry:
                continue
            try:
                checked(manifest.parent / name, _rebuild(manifest.parent))
                print(f"ok      {(manifest.parent / name).relative_to(data_dir())}")
            except LabError as error:
                bad += 1
                print(f"damaged {error}")
    print(f"{len(list(Store().shipped.glob('*.jsonl.gz')))} recorded runs shipped, {len(list(Store().own.glob('*.jsonl.gz')))} made here")
    return 1 if bad else 0


def _rebuild(folder: Path) -> str:
    """The command that rebuilds a folder of shipped data."""
    if folder.parent.name == "adapters":
        return f"build adapters {folder.name}"
    if folder.parent.name == "teachers":
        return f"build teachers {folder.name.removesuffix('-early').removesuffix('-middle').removesuffix('-late')}"
    return "build " + {"atlas": "tables", "tokenizers": "tokenizer", "teachers": "card"}.get(folder.name, folder.name)
