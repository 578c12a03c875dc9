"""Where records are kept: those that ship, packed in `data/records`, and those this machine has made (no torch)."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from labkit.base.errors import DataError
from labkit.base.files import data_dir, made_here
from labkit.records import events as ev
from labkit.records import shards
from labkit.records.experiment import Experiment
from labkit.records.record import BASELINES, Record, events_of, load
from labkit.records.results import Recorded, rows

SEEDS = range(5)  # of the baselines whose mean stands in for a run's own


def shipped() -> Store:
    """The runs that ship, without those that this machine has made."""
    return Store(made_here("none"))


class Store:
    """Records by recipe: those this machine has made (in the folder `own`), before those shipped in `data/records`."""

    def __init__(self, own: Path | None = None) -> None:
        self.shipped = data_dir() / "records"
        self.own = own or made_here("records")

    def find(self, experiment: Experiment) -> Record | None:
        """The record of a recipe, as its run left it. Raises `DataError` for one that is damaged."""
        key = experiment.key
        if (path := self.own / f"{key}.jsonl.gz").exists() and (record := load(path)).experiment.key == key:  # else a default has changed
            return record
        if row := rows().get(key):
            path = self.shipped / f"{row['shard']}{shards.ENDING}"
            return Record(events_of(shards.log(path, key).split(b"\n"), path))
        return None

    def whole(self, experiment: Experiment) -> Record | None:
        """The finished run on record, with every baseline that is, also those that were measured since."""
        found = self.find(experiment)
        if found is None or not found.complete:
            return None
        for known in self.references(experiment, have=found.references):
            if isinstance(known, ev.Reference) and known.recipe != getattr(found.references.get(known.name), "recipe", None):
                found.add(known)  # it was not there when the run was, or only another seed's was
        return found

    def judged(self, experiment: Experiment) -> Record | None:
        """The same, of which no events are read before they are asked for if the run ships."""
        row = rows().get(experiment.key)
        if row is None or self._made(experiment):
            return self.whole(experiment)
        return Recorded(experiment, row, functools.partial(self.whole, experiment))

    def add(self, record: Record) -> Path:
        """Keep a record. One whose knobs were turned, or that was stopped, is kept too but never found by its recipe alone."""
        name = record.experiment.key
        if not record.complete or any(isinstance(event, ev.KnobTurned) for event in record.events):
            story = "".join(ev.dumps(event) for event in record.events)
            name += f"-{hashlib.blake2b(story.encode(), digest_size=4).hexdigest()}"
        return record.save(self.own / f"{name}.jsonl.gz")

    def references(
        self, experiment: Experiment, seeds: Sequence[int] = SEEDS, have: Mapping[str, ev.Reference] = MappingProxyType({})
    ) -> Iterator[ev.Reference | ev.Warned]:
        """The baselines on record: the run with this very seed or, failing that, the mean over other seeds. A damaged record
        is told and left out, and so are those one has already, of this very seed."""
        for name in BASELINES:
            recipe = experiment.baseline(name)  # type: ignore[arg-type]
            if recipe.key == experiment.key or (name in have and have[name].recipe == recipe.recipe):
                continue
            try:
                own = self.find(recipe)
                found = [own] if own else [r for seed in seeds if (r := self.find(recipe.but(seed=seed)))]
            except DataError as error:
                yield ev.Warned(0, str(error))
                continue
            if found:
                several = [r.reference(name) for r in found]
                skills = {s: sum(r.skills[s] for r in several) / len(several) for s in several[0].skills}
                curve = [
                    (points[0][0], sum(kl for _, kl in points) / len(points)) for points in zip(*(r.curve for r in several), strict=False)
                ]
                yield ev.Reference(name, skills, tuple(curve), several[0].recipe, len(several))

    def _made(self, experiment: Experiment) -> bool:
        """Whether this machine has made the run, or one that it is judged by."""
        if not self.own.is_dir() or not any(os.scandir(self.own)):
            return False
        judged_by = [experiment.baseline(name).but(seed=seed) for name in BASELINES for seed in (experiment.seed, *SEEDS)]  # type: ignore[arg-type]
        return any((self.own / f"{run.key}.jsonl.gz").exists() for run in (experiment, *judged_by))
