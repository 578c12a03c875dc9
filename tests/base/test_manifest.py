"""Manifests: what is damaged is named with the command that mends it, every command that is advised exists, and words change no run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

from labkit.base import files, manifest
from labkit.base.errors import DataError
from labkit.base.manifest import checked, entries, refuse_changed, seal, seal_model
from labkit.cli import build
from labkit.cli.main import main
from labkit.records import measurements

DATA = REPOSITORY / "data"
FOLDERS = sorted(path.parent for path in DATA.rglob("manifest.json"))


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").write_text("[2]")
    seal(tmp_path, "labkit build tables", {"a.json": {"licence": "Apache-2.0"}}, {"made": "by hand"})
    seal(tmp_path, "labkit build capacity", {"b.json": {}}, {"made": "by hand"})
    return tmp_path


def test_two_recipes_share_a_manifest(sealed: Path):
    assert [(name, entry["rebuild"]) for name, entry in entries(sealed).items()] == [
        ("a.json", "labkit build tables"),
        ("b.json", "labkit build capacity"),
    ]
    assert entries(sealed)["a.json"]["licence"] == "Apache-2.0"
    assert json.loads((sealed / "manifest.json").read_text())["note"] == {"made": "by hand"}
    (sealed / "a.json").unlink()
    seal(sealed, "labkit build capacity", {"b.json": {}})
    assert list(entries(sealed)) == ["b.json"], "what is gone is not listed"


@pytest.mark.parametrize(("name", "command"), [("a.json", "build tables"), ("b.json", "build capacity")])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_damage_is_named_with_the_command_of_that_very_file(sealed: Path, name: str, command: str, how: str):
    assert checked(sealed / name) == sealed / name
    (sealed / name).write_text("[3]") if how == "changed" else (sealed / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is (damaged|missing).*python -m labkit {command}`"):
        checked(sealed / name)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"a.json": 3}', '{"a.json": {}}', '{"a.json": {"sha256": 1}}'])
def test_a_damaged_manifest_is_named(sealed: Path, text: str | None):
    (sealed / "manifest.json").unlink() if text is None else (sealed / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json is missing or damaged.*git checkout -- data"):
        checked(sealed / "a.json")


def test_a_file_is_read_once_unless_it_changes(sealed: Path, monkeypatch):
    old = time.time() - 60
    os.utime(sealed / "a.json", (old, old))  # a file this young is read each time: it may change again within one tick of the clock
    read, known = [], manifest.sha256
    monkeypatch.setattr(manifest, "sha256", lambda path: read.append(path.name) or known(path))
    for _ in range(3):
        checked(sealed / "a.json")
    assert read == ["a.json"]
    (sealed / "a.json").write_text("[3]")
    for _ in range(2):
        with pytest.raises(DataError, match="damaged"):
            checked(sealed / "a.json")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name in ("model.safetensors", "config.json", "chat_template.jinja", "README.md"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("rebuild", "words"),
    [
        (
            "labkit fetch smollm2 --again",
            r"from what was fetched\. Fetch it again .*labkit fetch smollm2 --again`.* copy the folder without",
        ),
        ("", r"from what was saved\. Save the model again; .* delete manifest\.json"),
    ],
)
def test_a_changed_model_is_refused_with_both_ways_out(model: Path, rebuild: str, words: str):
    refuse_changed(model)  # no manifest: taken as it is
    seal(model, rebuild, {path.name: {} for path in model.iterdir()})
    (model / "README.md").write_text("words compute nothing")
    refuse_changed(model)
    for name in ("model.safetensors", "config.json", "chat_template.jinja"):
        (model / name).write_text("changed")
        with pytest.raises(DataError, match=rf"{name} is damaged or edited: it differs {words}"):
            refuse_changed(model)
        (model / name).unlink()
        ways = "copy the folder without its" if rebuild else "delete"
        with pytest.raises(DataError, match=rf"{name} is missing, .*; or, if you removed it on purpose, {ways} manifest\.json"):
            refuse_changed(model)
        (model / name).write_text(name)
    refuse_changed(model)
    (model / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        refuse_changed(model)
    (model / "manifest.json").write_text('{"name": "an app of another program"}')
    refuse_changed(model)


def test_what_was_added_to_a_fetched_model_is_refused(model: Path):
    (model / "chat_template.jinja").unlink()
    seal(model, "labkit fetch smollm2 --again", {path.name: {} for path in model.iterdir()})
    (model / "chat_template.jinja").write_text("")
    with pytest.raises(DataError, match=r"chat_template\.jinja was not fetched"):
        refuse_changed(model)
    seal_model(model)
    (model / "more.json").write_text("")
    refuse_changed(model.rename(model.with_name("renamed")))


# ---- the shipped ones ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(DATA)))
def test_every_shipped_file_is_whole_and_names_a_command_that_exists(folder: Path, monkeypatch):
    known, built = build.recipe_of, []

    def recipe(name: str):
        found = known(name)
        found.build = lambda *args: built.append(args)
        return found

    monkeypatch.setattr(build, "recipe_of", recipe)
    assert entries(folder)
    for name, entry in entries(folder).items():
        assert checked(folder / name)
        program, *command = shlex.split(entry["rebuild"])
        assert program == "labkit"
        assert main(command) == 0, entry["rebuild"]
    assert len(built) == len(entries(folder))


def test_every_shipped_file_is_in_a_manifest():
    """But for what people write: notes, sweeps, recipes, settings."""
    found = {path.relative_to(DATA) for path in DATA.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    listed = {(folder / name).relative_to(DATA) for folder in FOLDERS for name in (*entries(folder), "manifest.json")}
    left = {path for path in found - listed if path.parts[0] not in ("sweeps", "recipes", "configs") and path.name != "README.md"}
    assert not left


@pytest.mark.parametrize(
    ("table", "command"),
    [
        ("stores", "build capacity"),
        ("budgets", "build capacity"),
        ("guessers", "build drafts guessers"),
        ("speculation", "build drafts speculation"),
        ("sampling", "build measurements sampling"),
    ],
)
def test_a_damaged_measurement_names_the_recipe_that_makes_it(table: str, command: str, tmp_path: Path, monkeypatch):
    (tmp_path / "atlas").symlink_to(DATA / "atlas")
    shutil.copytree(DATA / "measurements", tmp_path / "measurements")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    (tmp_path / "measurements" / f"{table}.json").write_text("[]")
    with pytest.raises(DataError, match=f"python -m labkit {command}`"):
        measurements.rows(table)


def test_a_measurement_enters_the_manifest_with_its_command(tmp_path: Path):
    measurements.write(tmp_path, "one", [{"x": 1 / 3, "y": float("nan")}], "labkit build capacity")
    assert json.loads(checked(tmp_path / "one.json").read_text()) == [{"x": 0.333333, "y": None}]
    assert entries(tmp_path)["one.json"]["rebuild"] == "labkit build capacity"


def test_words_in_a_manifest_orphan_no_run_and_other_content_does(tmp_path: Path):
    """What runs leave behind is kept apart by the content of tables, tokenizers and teachers alone."""
    shutil.copytree(DATA / "tokenizers", tmp_path / "tokenizers")
    version = lambda: files._version.__wrapped__(tmp_path)  # noqa: E731
    before = version()
    seal(tmp_path / "tokenizers", "labkit build something else", {"atlas.json": {"source": "elsewhere"}}, {"more": "words"})
    assert version() == before
    (tmp_path / "tokenizers" / "atlas.json").write_text("{}")
    seal(tmp_path / "tokenizers", "labkit build tokenizer", {"atlas.json": {}})
    assert version() != before


# ---- data/README.md --------------------------------------------------------------------------------------------------------------------


def test_the_table_of_the_data_is_what_is_there():
    lines = re.findall(r"^\| `([\w.]+)/?` \| (\d+) \| ([\d.]+) (kB|MB) \| ([^|]*) \|", (DATA / "README.md").read_text(), flags=re.M)
    stated = {name: (int(many), float(size) * {"kB": 1e3, "MB": 1e6}[unit], by) for name, many, size, unit, by in lines}
    kept = [path for path in DATA.rglob("*") if path.is_file() and "__pycache__" not in path.parts and path.parent != DATA]
    assert set(stated) == {path.relative_to(DATA).parts[0] for path in kept} | {"results.csv"}
    for name, (many, size, by) in stated.items():
        mine = [path for path in kept if path.relative_to(DATA).parts[0] == name] or [DATA / name]
        assert many == len(mine), name
        assert size == pytest.approx(sum(path.stat().st_size for path in mine), rel=0.15), name
        made = {entry["rebuild"].split()[2] for folder in {path.parent for path in mine} for entry in entries(folder).values()}
        if name == "results.csv":
            made = {entries(DATA)[name]["rebuild"].split()[2]}
        assert made == set(re.findall(r"`labkit build (\w+)", by)), name


def test_the_data_stays_few_files():
    kept = [path for path in DATA.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(kept) <= 165
    assert len(list((DATA / "records").iterdir())) <= 40
