"""Make the recorded runs that ship, `data/records`, and their results table, `data/results.csv`: `labkit build records`.

It takes about four hours on 2 CPU cores, and can be stopped: shipped runs stay, and runs recorded on this machine are not run again. To
make all again, empty both folders.

The runs are those of the lessons, and all runs of the sweeps in `data/sweeps` with their baselines. The first seed of a sweep runs first,
so that the speeds that claims read were timed alone. A run is packed with the first sweep (in alphabetical order) that names it, or with
"other" if none does.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import lzma
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base import manifest
from labkit.base.errors import DataError
from labkit.base.files import data_dir, made_here, write_whole
from labkit.lessons.catalogue import LESSONS
from labkit.models import pretrained
from labkit.records import events as ev
from labkit.records import results, shards
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.names import named_model
from labkit.records.record import GROUPS, Record
from labkit.records.results import NAMED
from labkit.records.store import Store
from labkit.studies.run import record
from labkit.studies.sweep import sweep
from labkit.tasks.custom.content_hash import with_hashes
from labkit.training.prerequisites import warm_recipe

COMMAND = "labkit build records"
OTHER, TABLE = "other", "results.csv"


class Ships(NamedTuple):
    """A run that ships, with the sweeps that name it and its arm in the first of them."""

    recipe: Experiment
    sweeps: list[str]
    arm: str

    @property
    def shard(self) -> str:
        return self.sweeps[0] if self.sweeps else OTHER

    @property
    def alike(self) -> tuple[str, str]:
        """The shard, and the recipe without its seed."""
        return self.shard, self.recipe.but(seed=0).recipe


def wanted() -> dict[str, Ships]:
    """All runs that ship, by key; baselines come before the runs that need them."""
    lessons = [LESSONS["00"].experiment, *(lesson.recorded for lesson in LESSONS.values())]
    found = {e.key: Ships(e, [], "") for run in lessons for e in (run.baseline(), run.baseline("same questions"), run)}
    for path in sorted((data_dir() / "sweeps").glob("*.toml")):
        grid = sweep(path.stem)
        arms = {with_hashes(grid.recipe(arm, **at)).but(seed=seed).key: arm for arm, at in grid.points() for seed in range(grid.seeds)}
        for recipe in grid.experiments():
            ships = found.setdefault(recipe.key, Ships(recipe, [], ""))
            arm = arms.get(recipe.key, "label budget") if not ships.sweeps else ships.arm
            found[recipe.key] = ships._replace(sweeps=[*ships.sweeps, path.stem], arm=arm)
    return found


def build(folder: Path) -> None:
    ships, logs = wanted(), dict(_logs(folder))
    for number, (key, (recipe, *_)) in enumerate(ships.items(), 1):
        if key in logs:
            continue
        for name in (recipe.teacher, recipe.student):
            if named_model(name):
                pretrained.folder_of(name)  # raises now, not after hours of work, with the command that fetches it
        made = record(recipe)
        logs[key] = "".join(ev.dumps(event) + "\n" for event in made.events).encode()
        print(f"{number}/{len(ships)}", recipe.recipe, {name: round(value, 2) for name, value in made.skills.items()}, flush=True)
    starts = folder.parent / "starts"  # warm starts of the lessons' students, so that learners do not wait for them
    starts.mkdir(exist_ok=True)
    for lesson in LESSONS.values():
        if lesson.experiment.start == "warm":
            recipe = warm_recipe(lesson.experiment, lesson.experiment.seed)
            if (own := made_here("starts") / f"{recipe.key}.safetensors").exists():  # else the shipped start was used
                shutil.copy(own, starts)
    manifest.seal(starts, COMMAND, {path.name: {"licence": "Apache-2.0"} for path in sorted(starts.glob("*.safetensors"))})
    pack(folder, ships, logs)


def pack(folder: Path, ships: Mapping[str, Ships], logs: Mapping[str, bytes]) -> None:
    """Write shards, table and manifests, after all numbers are computed. A shard whose runs have not changed is not written."""
    order = sorted(ships, key=lambda key: (*ships[key].alike, ships[key].recipe.seed))
    numbers = folded((ships[key].recipe for key in order), logs)
    before, files = dict(_logs(folder)), {}
    for shard, group in itertools.groupby(order, lambda key: ships[key].shard):
        path, keys = folder / f"{shard}{shards.ENDING}", list(group)
        files[path.name] = {"runs": len(keys), "licence": "Apache-2.0"}
        if not path.exists() or any(before.get(key) != logs[key] for key in keys) or set(shards.keys(path)) != set(keys):
            alike = itertools.groupby(keys, lambda key: ships[key].alike)
            made = packed([{key: logs[key] for key in seeds} for _, seeds in alike])
            write_whole(path, lambda to, made=made: to.write_bytes(made))
    for old in set(folder.glob(f"*{shards.ENDING}")) - {folder / name for name in files}:
        old.unlink()  # its sweep is gone, or no longer the first to name a run
    manifest.seal(folder, COMMAND, files)
    place(folder.parent, [ships[key] for key in order], numbers)


def packed(groups: Sequence[Mapping[str, bytes]]) -> bytes:
    """The bytes of a shard: an index, then one xz stream for each group of logs. The same logs give the same bytes."""
    index: dict[str, shards.Place] = {}
    body = b""
    for group in groups:
        stream, at = lzma.compress(b"".join(group.values())), 0
        for key, log in group.items():
            index[key] = (len(body), len(stream), at, len(log))
            at += len(log)
        body += stream
    return lzma.compress(json.dumps(index).encode() + b"\n") + body


class Logs(Store):
    """A store of the given logs only."""

    def __init__(self, logs: Mapping[str, bytes]) -> None:
        self.logs = logs

    def find(self, experiment: Experiment) -> Record | None:
        log = self.logs.get(experiment.key)
        return Record(ev.from_json(json.loads(line)) for line in log.splitlines()) if log else None


def folded(recipes: Iterable[Experiment], logs: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """The rows of the results table, computed from the logs: the numbers of each run by column."""
    rows, store = [], Logs(logs)
    for recipe in recipes:
        found = store.whole(recipe)
        assert found is not None, f"{recipe.recipe} has no log"
        exp = found.experiment
        numbers = {f"{group}.{name}": value for group in GROUPS for name, value in ev.plain(found.numbers(group)).items()}
        taken = {column: value for column, value in numbers.items() if value is not None}
        rows.append({"key": exp.key, "seed": exp.seed, "recipe": exp.recipe} | taken)
    return rows


def place(folder: Path, runs: Sequence[Ships], numbers: Sequence[Mapping[str, Any]]) -> None:
    """Write the results table: the shard and the numbers of each run, with columns in the order of `GROUPS`.

    The manifest keeps the knobs' current defaults, since a recipe does not name them.
    """
    named = [{"key": run.recipe.key, "shard": run.shard, "sweeps": " ".join(run.sweeps), "arm": run.arm} for run in runs]
    rows = [row | more for row, more in zip(named, numbers, strict=True)]
    columns = dict.fromkeys(column for row in numbers for column in row if column not in NAMED)
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [*NAMED, *sorted(columns, key=lambda column: GROUPS.index(column.partition(".")[0]))], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / TABLE, lambda to: to.write_text(text.getvalue(), encoding="utf-8", newline="\n"))
    defaults = {name: entry.default for name, entry in KNOBS.items()}
    manifest.seal(folder, COMMAND, {TABLE: {"licence": "Apache-2.0", "defaults": defaults}})


def differences(folder: Path) -> Iterator[str]:
    """Where the results table differs from the shards in `folder`: a sentence for each run, with the cell and its right value.

    Also the runs of lessons and sweeps that are in neither.
    """
    table, ships = results.rows(), wanted()
    packed = {key: path.name.removesuffix(shards.ENDING) for path in sorted(folder.glob(f"*{shards.ENDING}")) for key in shards.keys(path)}
    sound = []
    for key in sorted(packed.keys() | table.keys() | ships.keys()):
        if key not in packed and key not in table:
            yield f"run {key} ({ships[key].recipe.recipe}) is in neither: it has to be run"
            continue
        if key not in packed or key not in table:
            there, not_there = ("the table", "a shard") if key in table else (f"{packed[key]}{shards.ENDING}", "the table")
            yield f"run {key} is in {there} and not in {not_there}"
        elif key not in ships:
            yield f"run {key} is one that no lesson and no sweep names"
        else:
            named = {"shard": packed[key], "sweeps": " ".join(ships[key].sweeps), "arm": ships[key].arm}
            parted = _parted(table[key], named, named)
            sound += [] if parted else [ships[key].recipe]
            yield from [f"run {key} has {parted}"] if parted else []
    for found in folded(sound, dict(_logs(folder))):
        row = table[found["key"]]
        if parted := _parted(row, found, [name for name in row.keys() | found.keys() if name not in ("shard", "sweeps", "arm")]):
            yield f"run {found['key']} has {parted}"


def _parted(row: Mapping[str, str], found: Mapping[str, Any], columns: Iterable[str]) -> str:
    cells = [(name, row.get(name, ""), str(found.get(name, ""))) for name in sorted(columns)]
    return ", ".join(f"{name} {cell or 'empty'}, not {right or 'empty'}" for name, cell, right in cells if cell != right)


def _logs(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The logs that ship, by key. Without those of damaged shards and of runs whose key has changed with a default: they are made again."""
    for path in sorted(folder.glob(f"*{shards.ENDING}")):
        try:
            for key in shards.keys(path):
                log = shards.log(path, key)
                if Experiment.from_dict(json.loads(log.partition(b"\n")[0])["experiment"]).key == key:
                    yield key, log
        except DataError as error:
            print(error)
