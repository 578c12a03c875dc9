"""The verdict table: its words, its judge, and that the committed page is what the shipped records say."""

from __future__ import annotations

import math
import re

import pytest
from conftest import REPOSITORY

import labkit
from labkit.base.errors import LabError
from labkit.base.stats import VERDICTS, Band
from labkit.cli.build import recipe_of
from labkit.records.record import paired
from labkit.studies import claims as package
from labkit.studies.claims import CLAIMS, Claim, ClaimFinding, claims, judge, runs_of, seconds_a_step

BETTER, WORSE = Band(0.1, 0.05, 0.15, 5), Band(-0.1, -0.15, -0.05, 5)
UNSURE, NOTHING = Band(0.02, -0.05, 0.09, 5), Band(0.0, -0.01, 0.01, 5)


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([BETTER, BETTER], "holds"),
        ([BETTER, UNSURE], "holds when: a"),
        ([BETTER, WORSE], "holds when: a (the opposite when: b)"),
        ([WORSE, UNSURE], "does not hold"),
        ([NOTHING, UNSURE], "does not hold"),
        ([NOTHING, NOTHING], "no practical effect"),
        ([UNSURE, UNSURE], "not distinguishable"),
        ([Band(0.3, math.nan, math.nan, 1)], "not testable at this scale"),
    ],
)
def test_the_judge_uses_the_fixed_words(effects, verdict):
    found = judge(dict(zip("ab", effects, strict=False)))
    assert found == verdict
    assert found.partition(":")[0] in VERDICTS


def test_no_effect_no_verdict():
    with pytest.raises(LabError, match="no verdict"):
        judge({})


@pytest.fixture(scope="module")
def found():
    return claims()


def test_every_claim_is_measured_over_several_seeds(found):
    assert set(found.found) == set(CLAIMS)
    for name, finding in found.found.items():
        for condition, effect in finding.effects.items():
            assert effect.n >= 3, (name, condition)
            assert effect.low <= effect.middle <= effect.high
        assert finding.verdict.partition(":")[0] in VERDICTS
        assert CLAIMS[name].published


def test_the_committed_page_is_what_the_records_say(found):
    assert (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8") == recipe_of("claims").page(found), "run `labkit build claims`"


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([BETTER], "holds"),
        ([BETTER, BETTER], "holds under both conditions"),
        ([BETTER, UNSURE, WORSE], "holds under 1 of 3 conditions, the opposite under 1"),
        ([WORSE, WORSE, WORSE], "does not hold: the opposite under all 3 conditions"),
        ([WORSE, UNSURE], "does not hold: the opposite under 1 of 2 conditions"),
        ([NOTHING, UNSURE], "does not hold under both conditions"),
        ([NOTHING], "no practical effect"),
    ],
)
def test_a_verdict_in_plain_words_counts_the_conditions(effects, verdict):
    assert recipe_of("claims").plainly(ClaimFinding(dict(zip("abc", effects, strict=False)), "points of 1")) == verdict


def test_the_contents_of_the_page_lead_to_its_sections(found):
    page = recipe_of("claims").page(found)
    links = re.findall(r"^\| \[(.+)\]\(#(.+)\) \| .+ \|$", page, re.M)
    assert len(links) == len(CLAIMS)
    assert [title for title, _ in links] == re.findall(r"^## (.+)$", page, re.M)[2:-1]
    assert len({name for _, name in links}) == len(links)


def test_what_was_not_measured_says_so(found):
    table = found.table()
    assert list(table.columns) == ["claim", "Atlas", "measured", "SmolLM2", "published"]
    tried = {CLAIMS[name].text for name in package.TRIED}
    assert set(table["claim"][table["Atlas"] == "not tried"]) == {claim.text for claim in CLAIMS.values() if claim.on != "Atlas"}
    assert set(table["claim"][table["SmolLM2"] == "not tried"]) == {claim.text for claim in CLAIMS.values() if claim.on == "Atlas"} - tried
    assert len(found.markdown().splitlines()) == len(CLAIMS) + 2
    assert all(claim.text in repr(found) for claim in CLAIMS.values())


def test_it_is_shown_escaped(monkeypatch):
    hostile = Claim("x", "<b>T</b>", measured="a < b", published="p & q", measure=lambda: ClaimFinding({"<i>": BETTER}, "nats"))
    monkeypatch.setattr(package.verdicts, "CLAIMS", {"x": hostile})
    shown = claims()._repr_html_()
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert "&lt;b&gt;T&lt;/b&gt;" in shown
    assert "p &amp; q" in shown


def test_a_missing_seed_is_told():
    grid = labkit.sweep("soft")._replace(seeds=6)
    with pytest.raises(LabError, match="5 of 6 seeds"):
        runs_of(grid, "soft labels")


def test_the_module_and_the_function_keep_out_of_each_other_s_way():
    labkit.catalogue("claims")
    assert callable(labkit.claims)


def test_pairs_are_by_seed():
    runs = labkit.sweep("soft").records("soft labels")
    assert paired(runs, list(reversed(runs))).middle == 0
    with pytest.raises(LabError, match="cannot be paired"):
        paired(runs, runs[1:])


def test_exams_are_not_part_of_a_step():
    run = labkit.sweep("soft").records("soft labels")[0]
    steps = [s.seconds for s in run.steps]
    assert 0 < seconds_a_step(run) < (steps[-1] - steps[0]) / (len(steps) - 1)
