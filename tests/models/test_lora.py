"""LoRA: nothing changes at first, only the adapter is trained, and merging or saving it loses nothing."""

from __future__ import annotations

import pytest
import torch
from conftest import TEACHER

from labkit import models
from labkit.base.errors import LabError
from labkit.models import lora as adapters
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.training.loop import Run

TINY = Experiment(student="57k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=8, adapter=4)
PROMPT = torch.tensor([[0, 281, 259, 279, 304]])


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(PROMPT).logits


@pytest.fixture
def student():
    """With an adapter that has learnt something."""
    model = models.student("57k", 1)
    adapters.add(model, 4, seed=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(3), std=0.1)
    return model


def test_a_fresh_adapter_changes_nothing_and_trains_nothing_else():
    model, plain = models.student("57k", 1), models.student("57k", 1)
    adapters.add(model, 4)
    torch.testing.assert_close(logits(model), logits(plain))
    assert {"lora_" in name for name, p in model.named_parameters() if p.requires_grad} == {True}
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 2 * 4 * (4 * (32 + 32) + 3 * (32 + 80)), "rank times (in + out), seven maps in each of two layers"


def test_merged_is_the_same_function_without_an_adapter(student):
    before = logits(student)
    plain = adapters.merged(student)
    torch.testing.assert_close(logits(plain), before, rtol=1e-4, atol=1e-5)
    assert not adapters.has(plain)
    assert adapters.has(student)
    torch.testing.assert_close(logits(student), before)
    assert not torch.allclose(before, logits(models.student("57k", 1)), atol=1e-3)


def test_a_saved_adapter_is_peft_s_own(student, tmp_path):
    from peft import PeftModel

    adapters.save(student, tmp_path / "adapter")
    again = PeftModel.from_pretrained(models.student("57k", 1), tmp_path / "adapter")
    torch.testing.assert_close(logits(again), logits(student), rtol=1e-4, atol=1e-5)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 60_000


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_flipped_bit_in_a_saved_adapter_is_refused(student, tmp_path, name):
    folder, base = adapters.save(student, tmp_path / "adapter"), models.student("57k", 1)
    adapters.loaded(base, folder)
    data = bytearray((folder / name).read_bytes())
    data[-20] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(LabError, match=rf"{name} is damaged or edited: it differs from what was saved"):
        adapters.loaded(base, folder)


def test_a_second_adapter_is_refused():
    model = models.student("57k", 1)
    adapters.add(model, 4)
    with pytest.raises(LabError, match="adapter already"):
        adapters.add(model, 4)


def test_a_run_trains_the_adapter_alone(quick):
    run = Run(TINY)
    list(run)
    start = models.student("57k", TINY.seed)
    for name, parameter in run.student.named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, start.get_parameter(name.replace(".base_layer", "")))
    assert not torch.allclose(logits(adapters.merged(run.student)), logits(start), atol=1e-4)


def test_it_starts_from_the_warm_start(quick, monkeypatch: pytest.MonkeyPatch):
    full, lora = Run(TINY.but(start="warm", adapter=0)), Run(TINY.but(start="warm"))
    first = [next(e for e in run if isinstance(e, ev.Step)).values["loss"] for run in (full, lora)]
    assert first[0] == pytest.approx(first[1], rel=1e-5)


def test_a_killed_run_goes_on_to_the_same_result(quick, tmp_path):
    whole = Run(TINY)
    list(whole)
    first = Run(TINY, tmp_path, 3)
    for event in first:
        if isinstance(event, ev.Step) and event.step == 5:
            first.folder._lock.release()
            break
    again = Run(TINY, tmp_path, 3)
    told = list(again)
    assert any(isinstance(e, ev.Warned) and "goes on from step 3" in e.message for e in told)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
