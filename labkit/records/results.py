"""The results of the shipped runs, one row a run: `data/results.csv`, made from the shards in `data/records` by `labkit build records`.

    labkit.results()                     # a DataFrame: shard, sweeps, arm, seed, recipe, skills.recall, fidelity.kl ...
    rows()[experiment.key]["shard"]      # its cells as text, without pandas
    Recorded(experiment, row, read)      # a record made from a row

A number is in the column "group.name" (see `Record.numbers` for the groups), with the six digits of the events. An empty cell was not
measured. No torch is needed.
"""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.files import data_dir
from labkit.base.kinds import kinds_checked
from labkit.base.manifest import checked, entries
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.record import BASELINES, Record, known_group

if TYPE_CHECKING:
    import pandas

NAMED = ("key", "shard", "sweeps", "arm", "seed", "recipe")  # the columns that identify a run; the ones after them are numbers


@kinds_checked
class Recorded(Record):
    """A shipped run, made from its row. It reads its events, and becomes a plain `Record`, when something is asked that no row has.

    whole: reads the run's events.
    """

    def __init__(self, experiment: Experiment, row: Mapping[str, str], whole: Callable[[], Record | None]) -> None:
        self._experiment, self._row, self._whole = experiment, row, whole

    def __getattr__(self, name: str) -> Any:
        if name not in ("events", "references", "steps", "evaluations", "started"):
            raise AttributeError(name)
        whole = self._whole()
        assert whole is not None, "a run with a row is on record"
        vars(self).clear()
        self.__class__ = Record  # type: ignore[assignment]
        Record.__init__(self, whole.events)
        return getattr(self, name)

    @property
    def experiment(self) -> Experiment:
        return self._experiment

    @functools.cached_property
    def exam(self) -> ev.Evaluated:
        parts: Any = {group: self.numbers(group) for group in ("skills", "fidelity", "open", "truth", "habits", "working")}
        return ev.Evaluated(self.numbers("run")["steps"], **self.numbers("exam"), **parts, final=True)

    @functools.cached_property
    def finished(self) -> ev.Finished:  # type: ignore[override]
        return ev.Finished(self.numbers("run")["steps"], self.numbers("run")["seconds"], "completed", self.numbers("cost"))

    @functools.cached_property
    def scores(self) -> Mapping[str, Mapping[str, float]]:
        return {"student": self.skills} | {name: skills for name in ("teacher", *BASELINES) if (skills := self.numbers(name))}

    def numbers(self, group: str) -> Mapping[str, Any]:
        known_group(group)
        prefix = f"{group}."
        return {column.removeprefix(prefix): json.loads(cell) for column, cell in self._row.items() if cell and column.startswith(prefix)}


@kinds_checked
def results() -> pandas.DataFrame:
    """The table of all shipped runs, with their keys as index. Raises `DataError` if it is damaged."""
    import pandas

    return pandas.read_csv(checked(data_dir() / "results.csv"), index_col="key", keep_default_na=False, na_values=[""])


def rows() -> Mapping[str, Mapping[str, str]]:
    """The table's cells as text, by key and column; empty if no runs ship.

    A run is left out if a field that its recipe does not name has another default today: it belongs to another recipe. Raises
    `DataError` if the table is missing or damaged.
    """
    path = data_dir() / "results.csv"
    if not path.exists() and not (data_dir() / "records").is_dir():
        return {}
    defaults = tuple((name, entry.default) for name, entry in KNOBS.items())
    return _rows(path, path.stat().st_mtime_ns if path.exists() else 0, defaults)


@functools.lru_cache(maxsize=4)
def _rows(path: Path, stamp: int, defaults: tuple[tuple[str, Any], ...]) -> dict[str, dict[str, str]]:
    made = entries(path.parent).get(path.name, {}).get("defaults", {})
    changed = [name for name, value in defaults if made.get(name, value) != value]
    with checked(path).open(newline="", encoding="utf-8") as file:
        columns, *cells = csv.reader(file)
    table = (dict(zip(columns, line, strict=True)) for line in cells)
    return {row["key"]: row for row in table if all(f" {name}=" in row["recipe"] for name in changed)}
