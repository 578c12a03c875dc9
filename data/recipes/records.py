"""Make the recorded runs that ship in `data/records`: `labkit build records` (on 2 CPU cores about a minute a run).

Lesson 00 and its two baselines, over three seeds; and the label-budget baseline of the smaller student it invites to try.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from labkit.lessons import LESSONS
from labkit.records import load
from labkit.runs import record

SEEDS = 3


def build(folder: Path) -> None:
    for old in folder.glob("*.jsonl.gz"):  # made by an earlier recipe, or with another teacher
        old.unlink()
    default = LESSONS["00"].experiment
    small = LESSONS["00"].recorded
    for experiment, seeds in ((default, SEEDS), (small, 1)):
        for seed in range(seeds):
            seeded = experiment.but(seed=seed)
            for recipe in (seeded.baseline("label budget"), seeded.baseline("same questions"), seeded):
                made = record(recipe, fresh=True)
                made.save(folder / f"{recipe.key}.jsonl.gz")
                print(recipe.recipe, {name: round(value, 2) for name, value in made.skills.items()}, flush=True)
    seal(folder)


def seal(folder: Path) -> None:
    """A manifest with the checksum and recipe of every record in the folder."""
    manifest = {
        path.name: {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "recipe": load(path).experiment.recipe,
            "licence": "Apache-2.0",
        }
        for path in sorted(folder.glob("*.jsonl.gz"))
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
