"""What a grid expects before its runs: read, checked, and laid beside what was measured."""

from __future__ import annotations

import importlib.util
import math
import tomllib
import types
from pathlib import Path

import pandas
import pytest
from conftest import REPOSITORY, TEACHER

import labkit
from labkit.base.errors import LabError
from labkit.base.stats import Band
from labkit.records.record import paired
from labkit.studies import claims
from labkit.studies.claims import Claim, ClaimFinding
from labkit.studies.expected import Expected, read
from labkit.studies.sweep import Sweep

# Grids that were run before a grid had to say what it expects. The list is closed: an expectation is not made up afterwards.
BEFORE = frozenset(
    [
        "architecture",
        "architecture_rates",
        "assistant",
        "bounded",
        "drafts",
        "drafts_online",
        "drafts_sizes",
        "failures",
        "heads",
        "incidents",
        "inheritance",
        "inheritance_cures",
        "ladder",
        "ladder_time",
        "minute",
        "mutual",
        "online",
        "online_finish",
        "own",
        "rates",
        "ratio",
        "sizes",
        "smollm2",
        "smollm2_eagle",
        "smollm2_heads",
        "smollm2_medusa",
        "soft",
        "task",
        "temperature",
        "vocabulary",
        "vocabulary_sizes",
    ]
)
# An arm that differs in a knob which its method does not read: its runs are the first arm's, to the last bit.
GRID = f"""
[experiment]
student = "22k"
teacher = "{TEACHER}"
questions = 128
gold = 40
batch = 8
steps = 6
[sweep]
seeds = 2
[[arm]]
name = "first"
[[arm]]
name = "same"
sampling_temperature = 0.5
[[arm]]
name = "same again"
sampling_temperature = 0.6
[expected]
"same" = {{ sign = "+", size = [0.05, 0.10], reason = "a knob that is set should do something" }}
"same again" = {{ sign = "0", against = "same", reason = "online sampling is not used by method='output'" }}
"""


def lacking(path: Path) -> set[str]:
    """The arms of a grid, but for the first, of which nothing is expected; without arms, whether anything is."""
    grid = tomllib.loads(path.read_text(encoding="utf-8"))
    told = {name for point, line in grid.get("expected", {}).items() for name in (point, line.get("against", ""))}
    if "arm" not in grid:
        return set() if told else {"any point"}
    return {arm["name"] for arm in grid["arm"][1:] if not any(f"{name}, ".startswith(f"{arm['name']}, ") for name in told)}


def test_a_new_grid_says_what_it_expects(tmp_path):
    grids = {path.stem: path for path in (REPOSITORY / "data" / "sweeps").glob("*.toml")}
    assert grids.keys() >= BEFORE
    assert len(BEFORE) == 31
    for name in grids.keys() - BEFORE:
        assert not lacking(grids[name]), f"{name}: write what you expect of each arm into [expected] before the runs (CONTRIBUTING.md)"
    for name in BEFORE:
        assert not labkit.sweep(name).expected, f"{name} was on record before expectations were: none is made up for it"
    (new := tmp_path / "new.toml").write_text(GRID)
    assert not lacking(new)
    new.write_text(GRID.partition("[expected]")[0])
    assert lacking(new) == {"same", "same again"}
    new.write_text("[grid]\ntemperature = [1.0, 2.0]\n")
    assert lacking(new) == {"any point"}


def test_expected_and_measured_stand_side_by_side(quick):
    sweep = Sweep.from_toml(GRID)
    assert [str(line) for line in sweep.expected] == ["+0.050 to +0.100", "−0.020 to +0.020"]
    assert sweep.expectations()["verdict"].tolist() == ["not measured"] * 2
    assert sweep.surprises().empty
    sweep.run(tell=lambda line: None)
    found = sweep.expectations()
    assert found["point"].tolist() == ["same", "same again"]
    assert found["against"].tolist() == ["first", "same"]
    assert found["difference"].tolist() == [0, 0]
    assert found["parted"].tolist() == ["sign", ""]
    assert sweep.surprises()["reason"].tolist() == ["a knob that is set should do something"]
    table = sweep.table()
    assert table["expected"].fillna("").tolist() == ["", "+0.050 to +0.100", ""], "the third is expected beside another than the first"
    assert table["verdict"].tolist()[1:] == ["no practical effect"] * 2


def test_a_claim_s_verdict_says_what_was_expected(monkeypatch):
    expected = {"random start": Expected("a", "b", "-", -0.2, -0.1, "why")}
    finding = ClaimFinding({"random start": Band(0.1, 0.05, 0.15, 5), "warm start": Band(0.0, -0.01, 0.01, 5)}, "points", expected=expected)
    monkeypatch.setattr(claims.verdicts, "CLAIMS", {"x": Claim("x", "T", measured="m", published="p", measure=lambda: finding)})
    monkeypatch.setattr(claims.verdicts, "TRIED", {})
    shown = claims.claims()._repr_html_()
    assert "+0.100 (+0.050 to +0.150); expected −0.200 to −0.100<" in shown
    assert "+0.000 (−0.010 to +0.010)<" in shown


@pytest.mark.parametrize(
    ("sign", "size", "band", "parted"),
    [
        ("+", [0.02, 0.10], (0.03, 0.05), ""),
        ("+", [0.02, 0.10], (0.08, 0.20), ""),
        ("+", [0.02, 0.10], (0.11, 0.20), "size"),
        ("+", 0.3, (0.11, 0.20), "size"),
        ("+", 0.15, (0.11, 0.20), ""),
        ("+", [0.02, 0.10], (-0.20, -0.11), "sign"),
        ("+", [0.02, 0.10], (-0.01, 0.01), "sign"),  # no practical effect
        ("+", [0.005, 0.015], (0.008, 0.012), ""),  # no practical effect, as small as it was expected
        ("-", [0.005, 0.015], (0.008, 0.012), "sign"),
        ("+", [0.02, 0.10], (-0.10, 0.10), ""),  # not distinguishable: contradicts no sign
        ("+", [0.20, 0.30], (-0.10, 0.10), "size"),
        ("-", [0.02, 0.10], (-0.05, -0.03), ""),
        ("-", [0.02, 0.10], (0.03, 0.05), "sign"),
        ("-", 0.02, (-0.30, -0.20), "size"),
        ("0", 0.02, (-0.01, 0.01), ""),
        ("0", 0.02, (-0.10, 0.10), ""),
        ("0", 0.02, (0.03, 0.05), "sign"),
        ("+", [0.02, 0.10], (math.nan, math.nan), ""),  # one seed has no band
    ],
)
def test_where_they_part(sign, size, band, parted):
    (line,) = read({"a": {"sign": sign, "size": size, "reason": "why"}}, ["b", "a"])
    assert line.parted(Band(sum(band) / 2, *band, 1 if math.isnan(band[0]) else 5)) == parted


def test_points_of_a_grid_have_names():
    text = '[grid]\ntemperature = [1.0, 2.0]\n[[arm]]\nname = "a"\n[[arm]]\nname = "b"\nstart = "warm"\n[expected]\n'
    sweep = Sweep.from_toml(text + '"b, temperature=2.0" = { sign = "+", size = 0.1, reason = "why" }')
    assert list(sweep.names()) == ["a, temperature=1.0", "a, temperature=2.0", "b, temperature=1.0", "b, temperature=2.0"]
    assert sweep.expected == (Expected("b, temperature=2.0", "a, temperature=1.0", "+", 0.1, 0.1, "why"),)
    assert sweep.names()["b, temperature=2.0"] == ("b", {"temperature": 2.0})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('"sam" = { sign = "+", size = 0.1, reason = "why" }', "unknown point of the grid in .expected. 'sam'. Did you mean 'same'?"),
        ('"same" = { sign = "+", size = 0.1, reason = "why", against = "frist" }', "'frist'. Did you mean 'first'?"),
        ('"same" = { sign = "+", size = 0.1, reason = "why", against = ["first"] }', "point of the grid"),
        ('"same" = { sign = "+", size = 0.1, reason = "why", sice = 1 }', "unknown field of 'same' .* Did you mean 'size'?"),
        ('"same" = { sign = "plus", size = 0.1, reason = "why" }', "unknown sign .* Choose from: \\+, -, 0"),
        ('"same" = { sign = 1, size = 0.1, reason = "why" }', "unknown sign"),
        ('"same" = { size = 0.1, reason = "why" }', "unknown sign of 'same' in .expected. None"),
        ('"same" = { sign = "+", reason = "why" }', "size=None .* a range such as"),
        ('"same" = { sign = "+", size = 0, reason = "why" }', "size=0 for 'same'"),
        ('"same" = { sign = "-", size = -0.1, reason = "why" }', "without sign"),
        ('"same" = { sign = "+", size = 10, reason = "why" }', "at most 1"),
        ('"same" = { sign = "+", size = [0.2, 0.1], reason = "why" }', "range"),
        ('"same" = { sign = "+", size = [0.1], reason = "why" }', "range"),
        ('"same" = { sign = "+", size = true, reason = "why" }', "size=True"),
        ('"same" = { sign = "+", size = nan, reason = "why" }', "size=nan"),
        ('"same" = { sign = "+", size = 0.1 }', "reason for 'same'"),
        ('"same" = { sign = "+", size = 0.1, reason = "one\\ntwo" }', "on one line"),
        ('"first" = { sign = "+", size = 0.1, reason = "why" }', "compares 'first' with itself"),
        ('"same" = "+"', "one line for each point"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line, words):
    with pytest.raises(LabError, match=words):
        Sweep.from_toml(GRID.partition("[expected]")[0] + "[expected]\n" + line)


def test_a_difference_is_of_shared_seeds_alone(quick):
    sweep = Sweep.from_toml(GRID)
    for arm, seeds in (("first", 2), ("same", 1)):
        for seed in range(seeds):
            labkit.record(sweep.recipe(arm).but(seed=seed))
    assert sweep.expectations()["verdict"].tolist()[0] == "not measured"
    labkit.record(sweep.recipe("same").but(seed=1))
    found = paired(sweep.records("same"), sweep.records("first"))
    assert sweep.expectations()["difference"].tolist()[0] == found.middle


def test_the_claims_page_lists_them(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("recipe", REPOSITORY / "data" / "recipes" / "claims.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    assert recipe.parted() == "", "no grid on record has an expectation"
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "new.toml").write_text(GRID)
    row = {"point": "same", "against": "first", "expected": "+0.1", "reason": "why", "difference": 0.5, "low": 0.4, "high": 0.6}
    monkeypatch.setattr(recipe, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(recipe, "sweep", lambda name: types.SimpleNamespace(surprises=lambda: pandas.DataFrame([row])))
    assert recipe.parted() == "- `new`, same against first: expected +0.1, because why; measured +0.500 (+0.400 to +0.600).\n"
