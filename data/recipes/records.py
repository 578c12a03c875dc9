"""Make the recorded runs that ship in `data/records`: `labkit build records` (on 2 CPU cores about four hours, and it can be cut off:
what ships already stays, and what this machine has on record is not run again; empty both folders to make all anew).

The lessons' own runs, and every run of the sweeps in `data/sweeps` with the baselines they are judged by. Of each sweep the first seed
runs first, so that what the claims read of an arm's speed was timed alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from labkit.base.files import data_dir, made_here
from labkit.lessons.catalogue import LESSONS
from labkit.models import pretrained
from labkit.records.experiment import Experiment
from labkit.records.names import named_model
from labkit.records.record import load
from labkit.studies.run import record
from labkit.studies.sweep import sweep
from labkit.training.loop import warm_recipe


def wanted() -> list[Experiment]:
    """Everything that ships, baselines before the runs that are judged by them."""
    lessons = [LESSONS["00"].experiment, *(lesson.recorded for lesson in LESSONS.values())]
    found = [e for run in lessons for e in (run.baseline(), run.baseline("same questions"), run)]
    for path in sorted((data_dir() / "sweeps").glob("*.toml")):
        found += sweep(path.stem).experiments()
    return list({e.key: e for e in found}.values())


def build(folder: Path) -> None:
    ships = wanted()
    for number, recipe in enumerate(ships, 1):
        path = folder / f"{recipe.key}.jsonl.gz"
        if path.exists() and load(path).experiment.key == recipe.key:
            continue
        for name in (recipe.teacher, recipe.student):
            if named_model(name):
                pretrained.folder_of(name)  # raises with the command that fetches it, before hours of work
        made = record(recipe)
        made.save(path)
        print(f"{number}/{len(ships)}", recipe.recipe, {name: round(value, 2) for name, value in made.skills.items()}, flush=True)
    starts = folder.parent / "starts"  # the warm starts of the lessons' own students, so that a learner need not wait for them
    starts.mkdir(exist_ok=True)
    for lesson in LESSONS.values():
        if lesson.experiment.start == "warm":
            recipe = warm_recipe(lesson.experiment, lesson.experiment.seed)
            if (own := made_here("starts") / f"{recipe.key}.safetensors").exists():  # else the shipped one was used
                shutil.copy(own, starts)
    for old in set(folder.glob("*.jsonl.gz")) - {folder / f"{recipe.key}.jsonl.gz" for recipe in ships}:
        old.unlink()  # made by an earlier recipe, or with another teacher
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
