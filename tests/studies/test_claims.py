"""The verdict table: its words, its judge, and that the committed page is what the shipped records say."""

from __future__ import annotations

import math
import re

import pytest
from conftest import REPOSITORY

import labkit
from labkit.base.errors import LabError
from labkit.base.stats import Band
from labkit.cli.build import recipe_of
from labkit.records.names import CORE
from labkit.records.record import core, mean, paired
from labkit.studies import claims as package
from labkit.studies.claims import CLAIMS, Claim, ClaimFinding, claims, judge, runs_of, seconds_a_step, speculation
from labkit.studies.claims.verdicts import CONDITIONS, sign, told

BETTER, WORSE = Band(0.1, 0.05, 0.15, 5), Band(-0.1, -0.15, -0.05, 5)
UNSURE, NOTHING = Band(0.02, -0.05, 0.09, 5), Band(0.0, -0.01, 0.01, 5)


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ([BETTER], "holds"),
        ([BETTER, BETTER], "holds under both conditions"),
        ([BETTER] * 3, "holds under all 3 conditions"),
        ([BETTER, UNSURE], "holds in part: under 1 of 2 conditions, not distinguishable under 1"),
        ([BETTER, NOTHING, NOTHING], "holds in part: under 1 of 3 conditions, no practical effect under 2"),
        ([WORSE, BETTER], "mixed: holds under 1 of 2 conditions, the opposite under 1"),
        ([UNSURE, BETTER, WORSE], "mixed: holds under 1 of 3 conditions, the opposite under 1, not distinguishable under 1"),
        ([WORSE], "does not hold: the opposite"),
        ([WORSE] * 3, "does not hold: the opposite under all 3 conditions"),
        ([WORSE, UNSURE], "does not hold: the opposite under 1 of 2 conditions, not distinguishable under 1"),
        ([NOTHING, UNSURE], "does not hold: no practical effect under 1 of 2 conditions, not distinguishable under 1"),
        ([NOTHING], "no practical effect"),
        ([NOTHING, NOTHING], "no practical effect under both conditions"),
        ([UNSURE, UNSURE], "not distinguishable under both conditions"),
        ([Band(0.3, math.nan, math.nan, 1)], "not testable at this scale"),
        ([Band(0.3, math.nan, math.nan, 1), UNSURE], "not distinguishable: not distinguishable under 1 of 2 conditions, not testable at"),
    ],
)
def test_the_judge_counts_conditions_in_fixed_words(effects, verdict):
    found = judge(dict(zip("abc", effects, strict=False)))
    assert found.startswith(verdict)
    assert found == verdict or "this scale" in found
    assert sign(found)


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"a": True}, "true"),
        ({"a": False, "b": False}, "false"),
        ({"a": True, "b": False, "c": True}, "true in part: of a and c, not of b"),
    ],
)
def test_a_claim_that_is_true_or_false_is_not_judged_by_an_effect(answers, verdict):
    finding = ClaimFinding({"x": BETTER}, "nats", answers=answers)
    assert (finding.verdict, finding.measured) == (verdict, "holds")
    assert sign(verdict)


def test_a_claim_that_says_something_else_than_was_tested_has_no_verdict_of_it():
    finding = ClaimFinding({"x": BETTER, "y": BETTER}, "nats", fits=False)
    assert (finding.verdict, finding.measured) == ("not what was tested", "holds under both conditions")
    entry = Claim("x", "T = 2 is typical.", measured="m", published="p", measure=lambda: finding, tested="T = 2 pays.")
    assert told(entry, finding) == "Not what was tested. Tested: T = 2 pays. This holds under both conditions."


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
        assert sign(finding.verdict)
        assert CLAIMS[name].published
        assert finding.verdict == finding.measured or CLAIMS[name].tested, f"{name}: say which sentence was tested"


def test_what_was_decided_on_reading_each_claim_beside_its_measurement(found):
    verdicts = {name: finding.verdict for name, finding in found.found.items()}
    assert [name for name, verdict in verdicts.items() if verdict == "not what was tested"] == [
        *("output", "feature", "sequence", "T from 2 to 4", "capacity floor", "architecture")
    ]
    assert verdicts["bounded"].startswith("holds in part")
    assert verdicts["draft"] == "false"
    assert verdicts["heads"] == "true in part: of EAGLE-1 and EAGLE-3, not of Medusa-1"


def test_no_verdict_says_yes_to_a_cost_that_was_not_tested(found):
    spoken = [name for name in found.found if re.search(r"\bcosts?\b", CLAIMS[name].text)]
    assert len(spoken) >= 5
    for name in spoken:
        finding = found.found[name]
        assert finding.verdict == "not what was tested" or sign(finding.verdict) in "\u2717?", f"{name}: {finding.verdict}"


def test_a_student_that_reaches_its_teacher_counts_against_the_bound(found):
    """Over all shipped runs: where a student is level with its teacher or above, that sweep's arm is a condition of the claim."""
    table = labkit.results()
    student, teacher = (table[[f"{who}.{skill}" for skill in CORE]].mean(axis=1, skipna=False) for who in ("skills", "teacher"))
    reached = table[student >= teacher]
    assert len(reached) == 8
    assert set(reached.arm) == {"subliminal_transfer", "healthy, taught by a stranger"}
    assert "Of the 14 students of a teacher of their size, 8 are level" in found.found["bounded"].beside
    runs = labkit.sweep("failures").records("healthy, taught by a stranger")
    with_peer = found.found["bounded"].effects["teacher of the student's size, from another start"]
    assert with_peer.middle == pytest.approx(sum(mean(run.scores["teacher"]) - core(run) for run in runs) / len(runs))
    assert with_peer.low < 0


def test_a_verdict_that_is_not_computed_is_told(found):
    """The answers of "heads" are those of published trainers, written by hand; both heads of the claims say that there is such a one."""
    assert found.found["heads"].answers is speculation.TAUGHT_BY_THE_TARGET
    assert '"heads"' in package.__doc__
    assert "answered from" in recipe_of("claims").HEAD.partition("<details>")[0]


def test_a_condition_says_what_it_is_compared_with(found):
    """The same sentence is tested against 300 gold labels on Atlas, and against those of all questions on SmolLM2."""
    assert "300 gold labels" in CLAIMS["sequence"].measured
    assert list(found.real["sequence"].effects) == ["answers that hold the truth, against gold labels of all questions"]


def test_the_committed_page_is_what_the_records_say(found):
    assert (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8") == recipe_of("claims").page(found), "run `labkit build claims`"


def test_the_contents_of_the_page_lead_to_its_sections(found):
    page = recipe_of("claims").page(found)
    links = re.findall(r"^\| . \| \[(.+)\]\(#(.+)\) \| .+ \|$", page, re.M)
    assert len(links) == len(CLAIMS)
    assert [title for title, _ in links] == re.findall(r"^### (.+)$", page, re.M)
    assert len({name for _, name in links}) == len(links)


def test_the_page_is_short_where_it_is_not_folded(found):
    page = recipe_of("claims").page(found)
    assert page.count("<details>") == page.count("</details>") == len(CLAIMS) + 1
    for section in re.split(r"^###? ", re.sub(r"<details>.*?</details>", "", page, flags=re.S), flags=re.M)[2:]:
        assert len(re.sub(r"`[^`]*`", "", section).split()) <= 75, section
    for lesson in re.findall(r"\]\(\.\./(\S+)\)", page):
        assert (REPOSITORY / lesson).exists(), lesson


def test_tables_say_what_was_tested_and_what_was_not(found):
    table, effects = found.table(), found.effects()
    assert list(table.columns) == ["claim", "verdict", "tested", "Atlas", "SmolLM2"]
    tried = {CLAIMS[name].text for name in package.TRIED}
    assert set(table["claim"][table["Atlas"] == "not tried"]) == {claim.text for claim in CLAIMS.values() if claim.on != "Atlas"}
    assert set(table["claim"][table["SmolLM2"] == "not tried"]) == {claim.text for claim in CLAIMS.values() if claim.on == "Atlas"} - tried
    assert len(effects) == sum(len(one.effects) for one in (*found.found.values(), *found.real.values()))
    assert set(effects["says"]) <= set(CONDITIONS)
    assert all(claim.text in repr(found) for claim in CLAIMS.values())
    assert max(map(len, repr(found).splitlines())) <= 100


def test_some_claims_by_name():
    assert list(labkit.claims("online cost", "draft").found) == ["online cost", "draft"]
    for strange in ("onlin cost", 3, ["draft"]):
        with pytest.raises(LabError, match="unknown claim"):
            labkit.claims(strange)


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
