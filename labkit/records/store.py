"""The store of records: those that ship, in `data/records`, and those that this machine has made (no torch)."""

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

SEEDS = range(5)  # of the baselines whose mean is used if there is none of a run's own seed


def shipped() -> Store:
    """The store of the shipped runs alone."""
    return Store(made_here("none"))


class Store:
    """Records by recipe. Those that this machine has made (in the folder `own`) come before those shipped in `data/records`."""

    def __init__(self, own: Path | None = None) -> None:
        self.shipped = data_dir() / "records"
        self.own = own or made_here("records")

    def find(self, experiment: Experiment) -> Record | None:
        """The record of a recipe as its run wrote it; None if there is none. Raises `DataError` if it is damaged."""
        if record := self._own(experiment.key):
            return record
        if path := self.place(experiment):
            return Record(events_of(shards.log(path, experiment.key).split(b"\n"), path))
        return None

    def place(self, experiment: Experiment) -> Path | None:
        """The file with the record of a recipe; None if there is none."""
        if self._own(experiment.key):
            return self._file(experiment.key)
        row = rows().get(experiment.key)
        return self.shipped / f"{row['shard']}{shards.ENDING}" if row else None

    def _own(self, key: str) -> Record | None:
        """The record that this machine has made; None if there is none, or if it is of another recipe, since a default has changed."""
        path = self._file(key)
        return record if os.path.exists(path) and (record := load(path)).experiment.key == key else None

    def _file(self, key: str) -> Path:
        return self.own / f"{key}.jsonl.gz"

    def whole(self, experiment: Experiment) -> Record | None:
        """The record of a finished run with all its baselines on record, also those measured after it; None if there is none."""
        record = self.find(experiment)
        if record is None or not record.complete:
            return None
        for known in self.references(experiment, have=record.references):
            if isinstance(known, ev.Reference) and known.recipe != getattr(record.references.get(known.name), "recipe", None):
                record.add(known)  # during the run there was none, or only one of another seed
        return record

    def judged(self, experiment: Experiment) -> Record | None:
        """As `whole`, but the events of a shipped run are only read when they are needed (see `Recorded`)."""
        row = rows().get(experiment.key)
        if row is None or self._made(experiment):
            return self.whole(experiment)
        return Recorded(experiment, row, functools.partial(self.whole, experiment))

    def add(self, record: Record) -> Path:
        """Save a record. One whose knobs were changed, or that was stopped, is saved too, but `find` does not return it.

        Fewer threads change only the last bits, so a run that went on with them still stands for its recipe.
        """
        name = record.experiment.key
        if not record.complete or any(isinstance(event, ev.KnobTurned) and event.name != "threads" for event in record.events):
            text = "".join(ev.dumps(event) for event in record.events)
            name += f"-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
        return record.save(self.own / f"{name}.jsonl.gz")

    def references(
        self, experiment: Experiment, seeds: Sequence[int] = SEEDS, have: Mapping[str, ev.Reference] = MappingProxyType({})
    ) -> Iterator[ev.Reference | ev.Warned]:
        """The baselines on record: the run with the same seed or, if there is none, the mean over other seeds.

        seeds: the other seeds.
        have: baselines that are known already; those of the same seed are left out.

        Yields a `Reference` for each baseline, and a `Warned` for a damaged record, which is left out.
        """
        for name in BASELINES:
            recipe = experiment.baseline(name)  # type: ignore[arg-type]
            if recipe.key == experiment.key or (name in have and have[name].recipe == recipe.recipe):
                continue
            try:
                same_seed = self.find(recipe)
                records = [same_seed] if same_seed else [r for seed in seeds if (r := self.find(recipe.but(seed=seed)))]
            except DataError as error:
                yield ev.Warned(0, str(error))
                continue
            if records:
                several = [r.reference(name) for r in records]
                skills = {s: sum(r.skills[s] for r in several) / len(several) for s in several[0].skills}
                curve = [
                    (points[0][0], sum(kl for _, kl in points) / len(points)) for points in zip(*(r.curve for r in several), strict=False)
                ]
                yield ev.Reference(name, skills, tuple(curve), several[0].recipe, len(several))

    def _made(self, experiment: Experiment) -> bool:
        """Whether this machine has made the run or one of its baselines."""
        if not os.path.isdir(self.own) or not any(os.scandir(self.own)):
            return False
        baselines = [experiment.baseline(name).but(seed=seed) for name in BASELINES for seed in (experiment.seed, *SEEDS)]  # type: ignore[arg-type]
        return any((self.own / f"{run.key}.jsonl.gz").exists() for run in (experiment, *baselines))
