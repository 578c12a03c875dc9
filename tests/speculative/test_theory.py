"""What is said of drafts: acceptance on record obeys its bounds, arms are alike but for their loss, and the claims read what they say."""

from __future__ import annotations

import math

import pytest
from stories import record

import labkit
from labkit.records import events as ev
from labkit.records.record import Record
from labkit.studies.claims import CLAIMS, speculation

SWEEPS = ("drafts", "drafts_online")


def drafted(acceptance: float, seed: int = 0, **more: float) -> Record:
    """A record whose last exam has this acceptance."""
    made = record(steps=20, seed=seed)
    last = made.evaluations[-1]
    made.add(ev.Evaluated(21, 2.0, last.skills, dict(last.fidelity) | {"acceptance": acceptance, **more}, last.open, last.ece, final=True))
    return made


@pytest.fixture(scope="module")
def exams() -> list[ev.Evaluated]:
    grids = [labkit.sweep(name) for name in SWEEPS]
    runs = [run for grid in grids for arm in grid.arms for run in grid.records(arm)]
    return [exam for run in runs for exam in run.evaluations]


def test_recorded_acceptance_obeys_the_bounds_that_kl_sets(exams):
    """Pinsker's, and that of Bretagnolle and Huber, which still says something where KL is above 2; both concave, so true of means."""
    assert len(exams) > 100
    for exam in exams:
        rejected, nats = 1 - exam.fidelity["acceptance"], exam.fidelity["kl"]
        assert 0 < rejected <= math.sqrt(nats / 2)
        assert rejected <= math.sqrt(1 - math.exp(-nats))


@pytest.mark.parametrize("name", SWEEPS)
def test_arms_differ_in_what_they_learn_from_and_in_nothing_else(name: str):
    grid = labkit.sweep(name)
    free = {"method", "divergence", "learning_rate", "student", "on_policy", "online_from"}
    alike = {tuple((k, v) for k, v in grid.recipe(arm).to_dict().items() if k not in free) for arm in grid.arms}
    assert len(alike) == 1


def test_rejections_saved_are_shares_of_the_other_draft_s():
    worse, better = [drafted(0.5, s) for s in range(3)], [drafted(0.6, s) for s in range(3)]
    assert speculation.saved(better, worse).middle == pytest.approx(0.2)
    assert speculation.saved(worse, better).middle == pytest.approx(-0.25)
    mixed = speculation.saved([drafted(0.6, 1), drafted(0.5, 0)], [drafted(0.5, 0), drafted(0.5, 1)])
    assert mixed.middle == pytest.approx(0.1), "by seed, whatever the order"


def test_a_draft_that_serves_stays_as_it_is():
    finding = CLAIMS["draft"].measure()
    assert finding.verdict == "false"
    assert finding.effects["verification alone"][:3] == (0, 0, 0)


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "true"), (-0.1, "false"), (0.0, "false")])
def test_and_the_verdict_would_follow_if_it_did_not(gain: float, verdict: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speculation, "seeds_of", lambda table, when: {s: 0.6 + s / 100 + gain * (when == "after") for s in range(5)})
    assert CLAIMS["draft"].measure().verdict == verdict


def test_the_bar_is_read_off_the_bands(monkeypatch: pytest.MonkeyPatch):
    arms = {"gold labels": 0.5, "target's text": 0.6, "forward KL": 0.7, "reverse KL": 0.4, "total variation": 0.6, "acceptance": 0.68}
    monkeypatch.setattr(speculation, "runs_of", lambda grid, arm: [drafted(arms[arm] + s / 1000, s) for s in range(3)])
    beside = CLAIMS["draft"].measure().beside
    assert (
        "20% is reached by forward KL against gold labels, acceptance against gold labels, forward KL against the target's text." in beside
    )
    assert "reverse KL \u221220." in beside


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "holds"), (-0.1, "does not hold: the opposite"), (0.0, "no practical effect")])
def test_heads_are_judged_by_what_soft_labels_add_to_the_same_text(gain: float, verdict: str, monkeypatch: pytest.MonkeyPatch):
    def runs(grid, arm: str) -> list[Record]:
        return [drafted(0.5 + gain * ("soft" in arm) + 0.2 * ("gold" in arm) + s / 100, s, tokens_per_round=2.0) for s in range(3)]

    monkeypatch.setattr(speculation, "runs_of", runs)
    finding = CLAIMS["heads"].measure()
    assert finding.measured == f"{verdict} under both conditions"
    assert finding.effects.keys() == {"Medusa", "EAGLE"}
    assert finding.effects["EAGLE"].middle == pytest.approx(gain)
    assert "Medusa on the target's text minus on gold text, which is what its trainer reads: -0.200 (worse)" in finding.beside
    assert finding.beside.count(" 2.00") == len(labkit.sweep("heads").arms)
