"""The results table says what the shards say, and is enough for tables and claims: without torch, and without reading an event."""

from __future__ import annotations

import json
import lzma
import random

import pytest
from conftest import REPOSITORY
from test_without_torch import without_torch

import labkit
from labkit.cli.build import recipe_of
from labkit.records import shards
from labkit.records.experiment import Experiment
from labkit.records.record import GROUPS
from labkit.records.results import NAMED, Recorded, rows
from labkit.records.store import Store

SOME = random.Random(0).sample(sorted(rows()), 12)


def of(key: str) -> Experiment:
    return Experiment.from_recipe(rows()[key]["recipe"])


def test_the_table_is_what_the_shards_fold_to():
    """Every run, every number; and every run of a shard is in the table once, with the shard the recipe puts it in."""
    recipe, table = recipe_of("records"), rows()
    ships = recipe.wanted()
    packed = {key: path for path in (REPOSITORY / "data" / "records").glob("*.xz") for key in shards.keys(path)}
    assert packed.keys() == table.keys()
    for key, path in packed.items():
        row, run = table[key], ships[key]
        named = {"shard": path.name.removesuffix(shards.ENDING), "sweeps": " ".join(run.sweeps), "arm": run.arm}
        assert named == {name: row[name] for name in named}, f"{key}: `labkit build records` writes the table anew"
        assert run.shard == named["shard"], key
    for found in recipe.folded(of(key) for key in table):
        stated = {name: cell for name, cell in table[found["key"]].items() if cell and name not in ("shard", "sweeps", "arm")}
        assert stated == {name: str(value) for name, value in found.items()}, (
            f"data/results.csv differs from the shard of {found['recipe']!r} ({found['key']}): `labkit build records` writes it anew"
        )


@pytest.mark.parametrize("key", SOME)
def test_a_row_reads_as_its_whole_record_does(key: str):
    short, whole = Store().judged(of(key)), Store().whole(of(key))
    assert type(short) is Recorded
    for name in ("experiment", "exam", "skills", "finished", "complete"):
        assert getattr(short, name) == getattr(whole, name), name
    assert short.scores == {name: pytest.approx(scores, abs=1e-6) for name, scores in whole.scores.items()}
    for group in GROUPS:
        stated = {name: value for name, value in whole.numbers(group).items() if value == value}
        assert short.numbers(group) == pytest.approx(stated, rel=1e-5), group
    assert type(short) is Recorded, "none of this reads an event"
    assert short.events == whole.events
    assert vars(short) == vars(whole)
    assert type(short) is type(whole)


def test_what_a_row_does_not_say_is_no_attribute():
    with pytest.raises(AttributeError, match="colour"):
        Store().judged(of(SOME[0])).colour  # noqa: B018


def test_the_table_for_a_person():
    table = labkit.results()
    assert len(table) == len(rows())
    assert list(table.columns[: len(NAMED) - 1]) == list(NAMED[1:])
    assert list(table.index) == list(rows())
    ladder = table[table["sweeps"].fillna("").str.split().map(lambda names: "ladder" in names)]
    runs = labkit.sweep("ladder").records("online, warm")
    mine = ladder[ladder["arm"] == "online, warm"].sort_values("seed")
    assert list(mine["fidelity.kl"]) == [run.exam.fidelity["kl"] for run in runs]


def test_tables_and_claims_need_no_torch_and_no_event(home):
    code = """
from labkit.records import shards
shards.log = None
table, found = labkit.sweep("ladder").table(), labkit.claims()
print(len(table), len(found.found), len(labkit.results()) > 100, "labkit.models.load" in sys.modules)
from labkit.diagnosis.failures.trials import alarms, effect, sightings
print(effect("missing_end").verdict, sightings("missing_end").right > 0, alarms()[0].runs > 150)
"""
    found = without_torch(code, home).split()
    assert found == [
        str(len(labkit.sweep("ladder").recipes())),
        str(len(labkit.catalogue("claims"))),
        "True",
        "False",
        "better",
        "True",
        "True",
    ]


def test_a_shipped_run_is_one_of_the_lines_that_xzcat_prints():
    path = REPOSITORY / "data" / "records" / "bounded.jsonl.xz"
    index, *lines = lzma.decompress(path.read_bytes()).splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(b'{"event":"started"')]
    assert list(json.loads(index)) == shards.keys(path)
    logs = [b"\n".join(lines[a:b]) + b"\n" for a, b in zip(starts, [*starts[1:], None], strict=True)]
    assert logs == [shards.log(path, key) for key in shards.keys(path)]
