"""SmolLM2-135M through the engine: run where `LABKIT_SMOLLM2` names its folder (`make test` fetches it), skipped elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from labkit.base.files import home_dir
from labkit.models import parameters, pretrained, write
from labkit.models.heads import io as heads_io
from labkit.models.prune import prune
from labkit.speculative.decode import plain, speculate
from labkit.speculative.near_ties import first_difference
from labkit.studies.distill import distill

FOLDER = Path(os.environ.get("LABKIT_SMOLLM2", "absent"))
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="LABKIT_SMOLLM2 names no model: `labkit fetch smollm2` brings it")
PLACES = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Peru": "Lima", "Kenya": "Nairobi",
    "Chad": "N'Djamena", "Cuba": "Havana", "Norway": "Oslo", "Greece": "Athens", "Iran": "Tehran", "Iraq": "Baghdad", "Laos": "Vientiane",
    "Mali": "Bamako", "Nepal": "Kathmandu", "Oman": "Muscat", "Qatar": "Doha", "Syria": "Damascus", "Togo": "Lomé",
}  # fmt: skip


@pytest.fixture
def fetched() -> None:
    """The model where `labkit fetch` puts it, in this test's own home."""
    kept = home_dir() / "models"
    kept.mkdir(exist_ok=True)
    (kept / "smollm2").symlink_to(FOLDER.resolve())


@pytest.fixture
def few(tmp_path: Path) -> str:
    path = tmp_path / "capitals.jsonl"
    rows = [{"prompt": f"What is the capital of {country}?", "response": capital} for country, capital in PLACES.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_it_answers_through_its_template(fetched):
    model = pretrained.load("smollm2")
    said = model.chat.text(write(model, model.chat.prompts(["What is the capital of France?"]), limit=24)[0].ids)
    assert "Paris" in said
    assert parameters(model) == 134_515_008


def test_answers_in_a_batch_are_those_one_by_one(fetched):
    """In fp32, padding on the left and rows that leave early change no token."""
    model = pretrained.load("smollm2", torch.float32)
    prompts = model.chat.prompts(["What is the capital of Chad?", "What is 2 + 2?", "Name a river in Europe, and say where it ends."])
    together = [w.ids for w in write(model, prompts, limit=12)]
    assert together == [write(model, [prompt], limit=12)[0].ids for prompt in prompts]


def test_into_a_student_cut_out_of_it(fetched, few, tmp_path):
    teacher = pretrained.load("smollm2", torch.float32)
    student, _ = prune(teacher, layers=4)
    student.chat = teacher.chat
    pretrained.save(student, tmp_path / "small")
    knobs = {"steps": 3, "batch": 4, "longest": 8, "score": "contains", "precision": "bf16", "top_k": 32}
    done = distill("smollm2", str(tmp_path / "small"), few, tmp_path / "out", **knobs)
    losses = [event.values["kl"] for event in done.record.steps]
    assert losses[-1] < losses[0]
    assert set(done.grades) == {"untouched", "gold labels", "distilled", "teacher"}
    assert done.record.finished.cost["cache_bytes"] < 131 * 200, "129 bytes a token, of some hundred tokens"
    assert "smollm2" in (tmp_path / "out" / "README.md").read_text()


def test_into_a_student_with_the_labs_own_tokens(fetched, few, tmp_path):
    done = distill("smollm2", "22k", few, tmp_path / "out", steps=3, batch=8, longest=8, score="contains", baseline=False)
    assert done.experiment.method == "sequence", "text passes between any two tokenizers"
    assert done.record.complete


def test_without_it_the_command_that_brings_it_is_told():
    with pytest.raises(ValueError, match="labkit fetch smollm2"):
        pretrained.load("smollm2")


def test_speculative_decoding_with_the_shipped_heads(fetched):
    """In fp32 the very tokens; in bf16 first differences are near-ties of the target's (nearly all within 4 roundings; `speculation`
    in data/measurements counts them)."""
    target = pretrained.load("smollm2")
    heads = heads_io.shipped("smollm2-eagle", target)
    asked = ["What is the capital of Kenya?", "Which continent is Peru in?", "What currency is used in Norway?", "What is 12 + 30?"]
    accepted = 0
    for question in asked:
        prompt = target.chat.prompts([question])[0]
        alone = plain(target, question, limit=24)
        for how in ({"gamma": 4}, {"gamma": 3, "candidates": 6}):
            done = speculate(target, heads, question, limit=24, **how)
            accepted += done.accepted
            left = first_difference(target, prompt, alone.ids, done.ids)
            assert left is None or left.gap <= 8 * left.step, left
    assert accepted > 0
    target.float()
    for question in asked[:2]:
        assert speculate(target, heads, question, 4, limit=16).ids == plain(target, question, limit=16).ids
