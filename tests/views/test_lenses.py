"""The lenses, by moving their controls: what they say is what the functions behind them give."""

from __future__ import annotations

import re

import pytest
import torch

import labkit
from labkit import models
from labkit.base.errors import LabError
from labkit.losses.conventions import CONVENTIONS, loss_report
from labkit.losses.temperature import entropy


def words(view) -> str:
    assert 'role="alert"' not in view.words.value, view.words.value
    return re.sub(r"<[^>]+>", "", view.words.value)


def test_the_temperature_lens_says_the_teacher_s_entropy():
    view = labkit.lens("temperature")
    for text in view.question.options[:3]:
        view.question.value = text
        for T in (1.0, 4.0):
            view.temperature.value = T
            prompt = torch.tensor(models.tokenizer().prompts([text]))
            with torch.no_grad():
                right = float(entropy(models.teacher("atlas-3m")(prompt).logits[:, -1].float(), T))
            assert f"Entropy {right:.2f} nats" in words(view)
            assert f"1/T\u00b2 would be {1 / T**2:.3f}" in words(view)
            assert f"T = {T:g}" in view.picture.value
            assert 'alt="' in view.picture.value


def test_at_one_the_gradient_is_its_own_yardstick():
    assert "1.000 for an untrained student, 1.000 for a trained one" in words(labkit.lens("temperature"))


def test_the_loss_lens_shows_every_convention():
    view = labkit.lens("loss")
    view.temperature.value = 2.0
    for name, entry in CONVENTIONS.items():
        view.convention.value = name
        found = loss_report(name, view.teacher_logits, view.student_logits, view.rows.mask_B_T, 2.0)
        assert f"Loss {found.value:.4f}; of a perfect student {found.at_match:.4f}" in words(view)
        assert entry.kind in words(view)
    view.convention.value = "mask not shifted"
    assert "(padding)" in view.picture.value, "the row has a place behind its end, or the slip could not be seen"


def test_an_error_in_a_callback_is_told_in_the_box(monkeypatch):
    view = labkit.lens("loss")
    monkeypatch.setattr(type(view), "look", lambda self: 1 / 0)
    view.temperature.value = 3.0
    assert "ZeroDivisionError" in view.words.value
    assert 'role="alert"' in view.words.value


def test_controls_have_names():
    for kind in ("temperature", "loss"):
        for control in labkit.lens(kind).children[:2]:
            assert control.description


def test_an_unknown_lens():
    with pytest.raises(LabError, match="unknown lens 'looss'"):
        labkit.lens("looss")
