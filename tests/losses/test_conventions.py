"""What each convention computes, against the library it is named after where that can be installed, else against a second writing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labkit.base.errors import LabError
from labkit.losses.conventions import CONVENTIONS, PADDED, loss_report, loss_reports

KINDS = {"reference", "definition", "bug"}


@pytest.fixture(scope="module")
def case():
    generator = torch.Generator().manual_seed(5)
    teacher, student = (torch.randn(3, 8, 11, generator=generator) * 2 for _ in range(2))
    mask = torch.zeros(3, 8, dtype=torch.bool)
    mask[0, 3:5], mask[1, 2:6], mask[2, 4:5] = True, True, True
    return teacher, student, mask


def value(name, case, T=1.0):
    return loss_report(name, *case, T).value


def kl(teacher, student, T=1.0):
    """KL in numpy, double precision, `(B, T)`."""
    p, q = (np.exp(x / T) / np.exp(x / T).sum(-1, keepdims=True) for x in (teacher.double().numpy(), student.double().numpy()))
    return (p * np.log(p / q)).sum(-1)


def test_the_registry_says_what_is_needed():
    for entry in CONVENTIONS.values():
        assert entry.kind in KINDS
        assert entry.against in CONVENTIONS
        assert CONVENTIONS[entry.against].kind != "bug"
        assert len(entry.used_by) > 5
        assert len(entry.source) > 5
        assert len(entry.symptom) > 5


@pytest.mark.parametrize("T", [1.0, 2.5])
def test_values_against_numpy(case, T):
    teacher, student, mask = case
    found, m = kl(teacher, student, T), mask.numpy()
    late = np.roll(m, 1, 1)
    late[:, 0] = False
    wanted = {
        "the lab's": T**2 * found[m].mean(),
        "without T squared": found[m].mean(),
        "mean of row means": T**2 * np.mean([row[k].mean() for row, k in zip(found, m, strict=True)]),
        "per row": T**2 * found[m].sum() / 3,
        "mean over the vocabulary too": T**2 * found[m].mean() / 11,
        "temperature ignored": kl(teacher, student)[m].mean(),
        "mask not shifted": T**2 * found[late].mean(),
        "prompt and padding scored": T**2 * found.mean(),
        "divided twice": T**2 * found[m].mean() / m.sum(),
    }
    for name, right in wanted.items():
        assert value(name, case, T) == pytest.approx(right, rel=1e-4), name


def test_against_trl(case, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer

    teacher, student, mask = case
    labels = torch.where(mask, 0, -100)
    loss = GKDTrainer.generalized_jsd_loss
    for T in (1.0, 2.0):
        theirs = loss(student, teacher, labels=labels, beta=0.0, temperature=T)
        assert value("without T squared", case, T) == pytest.approx(float(theirs), rel=1e-4)
    assert value("JSD, as in the paper", case) == pytest.approx(float(loss(student, teacher, labels=labels, beta=0.5)), rel=1e-4)


def test_cross_entropy_has_the_lab_s_gradient_and_the_teacher_s_entropy_as_floor(case):
    teacher, _, mask = case
    found = loss_report("cross-entropy", *case, 1.0)
    p = teacher.double().softmax(-1)
    assert found.cosine == pytest.approx(1, abs=1e-5)
    assert found.gradient_ratio == pytest.approx(1, rel=1e-5)
    assert found.at_match == pytest.approx(float(-(p * p.log()).sum(-1)[mask].mean()), rel=1e-5)


@pytest.mark.parametrize("T", [1.0, 3.0])
def test_symptoms_are_seen(case, T):
    found = {r.name: r for r in loss_reports(*case, T)}
    mask = case[2]
    n = int(mask.sum())
    assert found["the lab's"].at_match == pytest.approx(0, abs=1e-6)
    assert found["without T squared"].gradient_ratio == pytest.approx(1 / T**2, rel=1e-4)
    assert found["per row"].gradient_ratio == pytest.approx(n / 3, rel=1e-4)
    assert found["mean over the vocabulary too"].gradient_ratio == pytest.approx(1 / 11, rel=1e-4)
    assert found["divided twice"].gradient_ratio == pytest.approx(1 / n, rel=1e-4)
    assert found["mean of row means"].cosine < 0.999
    assert found["softmax over positions"].cosine < 0.9
    unshifted = found["mask not shifted"].per_token_B_T
    assert unshifted[0, 3] == 0, "the first answer token is not taught"
    assert unshifted[0, 5] > 0, "one behind the end is"
    assert (found["the lab's"].per_token_B_T[~mask] == 0).all()
    assert (found["prompt and padding scored"].per_token_B_T > 0).all()
    padded = found["vocabulary padded with zeros"]
    wide = case[0].double() / T
    mass = PADDED / (wide.exp().sum(-1) + PADDED)
    assert padded.at_match == pytest.approx(float(T**2 * -(1 - mass).log()[mask].mean()), rel=1e-3), "what lies on rows that do not exist"
    assert (found["temperature ignored"].cosine > 0.999) == (T == 1)


def test_jsd_of_averaged_logs_passes_the_bound():
    far = torch.tensor([[[12.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 12.0]]]), torch.ones(1, 1, dtype=torch.bool)
    assert value("JSD, as in the paper", far) <= math.log(2)
    assert value("JSD of averaged log-probabilities", far) > math.log(2)


def test_bad_input(case):
    teacher, student, mask = case
    with pytest.raises(LabError, match="no answer token"):
        loss_reports(teacher, student, torch.zeros_like(mask))
    with pytest.raises(LabError, match=r"must be \(B, T, V\)"):
        loss_reports(teacher, student[..., :5], mask)
    with pytest.raises(LabError, match="must be"):
        loss_report("per row", teacher, student[..., :5], mask, 1.0)
    with pytest.raises(LabError, match=r"mask\.bool\(\)"):
        loss_reports(teacher, student, mask.int())
    with pytest.raises(LabError, match="floating-point"):
        loss_reports(teacher.int(), student.int(), mask)
    with pytest.raises(LabError, match="above 0"):
        loss_reports(teacher, student, mask, 0.0)
    with pytest.raises(LabError, match="unknown convention"):
        loss_report("batch mean", teacher, student, mask, 1.0)
