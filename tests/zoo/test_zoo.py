"""Models of twelve kinds: whatever the lab takes, it does exactly, and it refuses the rest in a sentence. The page is what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from zoo import build, models_page, tries

KINDS = (
    "llama, tied",  # dense
    "gemma2",  # caps on logits
    "gemma3",  # a nested configuration, some layers with a window
    "gpt_oss",  # experts, sinks, a window
    "falcon_h1, multiplier",  # attention beside Mamba 2, a multiplier behind the head
    "qwen3_next",  # linear attention
    "lfm2",  # convolutions
    "mamba",  # no attention
    "recurrent_gemma",  # states that are no part of a cache
    "deepseek_v3",  # latent attention
    "gpt2",  # learned positions, other names
    "bart",  # counts positions itself
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_refused_is_exact(kind: str, tmp_path: Path):
    torch.set_num_threads(1)
    found = dict(tries.outcomes(tries.Specimen(kind, tmp_path / "zoo")))
    faults = [f"{kind}, {name}: {said}" for name, said in found.items() if models_page.outcome(said) not in ("exact", "refused")]
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def test_a_model_is_the_same_each_time(tmp_path: Path):
    for name in ("first", "second"):
        build.make("mixtral", tmp_path / name)
    first, second = ((tmp_path / name / "draft" / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second


@pytest.mark.parametrize("name", [name for name in tries.TRIES if name != "adapter"])
def test_a_difference_is_found(name: str, specimen: tries.Specimen):
    """The lab's results with one model are compared with plain passes of another."""
    assert tries.outcome(tries.TRIES[name], specimen).startswith("WRONG: ")


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> tries.Specimen:
    one = tries.Specimen("llama", tmp_path_factory.mktemp("zoo") / "llama")
    one.raw = tries.read(one.folder / "other")
    return one


def test_the_page_is_what_was_measured():
    found = models_page.results()
    assert models_page.PAGE.read_text(encoding="utf-8") == models_page.page(found)
    for own in found.values():
        assert all(models_page.outcome(said) in models_page.OUTCOMES for tried in own["kinds"].values() for said in tried.values())
