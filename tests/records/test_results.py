"""The results table says what the shards say, and is enough for tables and claims: without torch, and without reading an event."""

from __future__ import annotations

import csv
import json
import lzma
import random

import pytest
from conftest import REPOSITORY
from test_without_torch import without_torch

import labkit
from labkit.base import manifest
from labkit.cli.main import main
from labkit.records import shards
from labkit.records.experiment import Experiment
from labkit.records.record import GROUPS
from labkit.records.results import NAMED, Recorded, rows
from labkit.records.store import Store

SOME = random.Random(0).sample(sorted(rows()), 12)


def of(key: str) -> Experiment:
    return Experiment.from_recipe(rows()[key]["recipe"])


def test_the_table_is_what_the_shards_fold_to(tmp_path, monkeypatch, capsys):
    """Every run and every number: of a table in which four runs are changed, those are named, and no other."""
    numbered, placed, gone, made_up = SOME[:4]
    changed = {key: dict(row) for key, row in rows().items()}
    right = changed[numbered]["fidelity.kl"]
    changed[numbered]["fidelity.kl"] = "0.5"
    changed[placed]["shard"] = "nowhere"
    changed[made_up]["key"] = "0" * 16
    del changed[gone]
    for part in (REPOSITORY / "data").iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / "results.csv").unlink()
    (tmp_path / "manifest.json").unlink()
    with (tmp_path / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, changed[numbered])
        writer.writeheader()
        writer.writerows(changed.values())
    manifest.seal(tmp_path, "labkit build records", {"results.csv": {}})
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    assert main(["check", "--records"]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("differs")]
    assert len(told) == 5 and all("`python -m labkit build records`" in line for line in told)
    for words in (
        f"run {numbered} has fidelity.kl 0.5, not {right}.",
        f"run {placed} has shard nowhere, not ",
        f"run {gone} is in ",
        f"run {made_up} is in ",
        f"run {'0' * 16} is in the table and not in a shard.",
    ):
        assert sum(words in line for line in told) == 1, words


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
