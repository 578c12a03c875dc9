"""A damaged teacher is named before it teaches, and a loss that is not finite is explained by its cause."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
import torch
from conftest import TEACHER
from helpers import made
from torch import nn
from transformers import AutoModelForCausalLM

from labkit.base import tensors
from labkit.base.errors import LabError
from labkit.base.files import home_dir
from labkit.cli.main import main
from labkit.models import pretrained, tokenizer
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.tasks.custom.exam import CustomExam
from labkit.tasks.custom.rows import Row
from labkit.teachers.signals import Signals
from labkit.teachers.text_data import generate
from labkit.training.loop import Run
from labkit.training.setup import CustomPrompt, CustomTask

PAIRS = [(f"Say {word} {number}.", word.upper()) for word in ("red", "green", "blue") for number in range(30)]
ROWS = [CustomPrompt.of(Row(prompt, response, line), response) for line, (prompt, response) in enumerate(PAIRS[:8], 1)]


def spoil(model) -> None:
    """One weight becomes NaN."""
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan


def teacher_of(exp: Experiment):
    """The teacher that a run of this recipe will use."""
    pretrained.kept.cache_clear()
    return CustomTask(exp).teacher()


@pytest.fixture
def recipe(tmp_path: Path) -> Experiment:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in PAIRS), encoding="utf-8")
    student = str(made(tmp_path / "student", 1, 2))
    teacher = str(made(tmp_path / "teacher", 1, 1))
    return Experiment(teacher=teacher, student=student, data=str(path), longest=6, steps=3, batch=8, learning_rate=1e-3, method="output")


def failed(run: Run) -> ev.Failed:
    """The last event of a run that fails, whether by an error or not."""
    events = []
    with contextlib.suppress(LabError):
        events.extend(run)  # what comes before an error is kept
    assert isinstance(events[-1], ev.Failed)
    return events[-1]


def test_a_damaged_folder_is_named_before_anything_is_trained(tmp_path: Path, recipe: Experiment, capsys: pytest.CaptureFixture):
    folder = made(tmp_path / "nan", 1, 3)
    model = AutoModelForCausalLM.from_pretrained(folder)
    spoil(model)
    model.save_pretrained(folder)
    for role in ("teacher", "student"):
        told = failed(Run(recipe.but(**{role: str(folder)})))
        assert told.step == 0
        assert "logits are not finite: its weights are damaged, as model.layers.0.mlp.up_proj.weight has NaN" in told.message
        assert str(folder) in told.message
    words = ["--student", recipe.student, "--data", recipe.data, "--out", str(tmp_path / "out"), "--steps", "2"]
    assert main(["distill", "--teacher", str(folder), *words]) != 0
    said = capsys.readouterr()
    assert "its weights are damaged" in said.err
    assert "step" not in said.out


def test_a_teacher_that_is_damaged_after_its_check_leaves_no_signals(recipe: Experiment):
    """As a teacher of the lab's own format, which has no check, or one whose damage only some texts reach."""
    damaged = teacher_of(recipe)
    spoil(damaged)
    told = failed(Run(recipe))
    assert "the teacher's logits are not finite: its weights are damaged" in told.message
    assert recipe.teacher in told.message
    assert "rate" not in told.message + told.advice
    assert not list((home_dir() / "signals").rglob("*.safetensors"))
    with pytest.raises(LabError, match="weights are damaged"):
        CustomExam(ROWS, damaged, "exact")
    pretrained.kept.cache_clear()


@pytest.mark.parametrize("decoding", ["greedy", "sample", "beam"])
def test_text_of_a_damaged_teacher_is_refused(tmp_path: Path, decoding: str):
    teacher = pretrained.load(str(made(tmp_path / "nan", 1, 3)), torch.float32, 4)
    spoil(teacher)
    with pytest.raises(LabError, match="weights are damaged"):
        generate(teacher, ROWS, decoding)


def test_a_cache_that_a_damaged_teacher_left_is_answered_again(tmp_path: Path):
    teacher = pretrained.load(str(made(tmp_path / "whole", 1, 1)), torch.float32, 4)
    pool = Signals(teacher, ROWS, tmp_path / "signals")
    list(pool.prepare([0]))
    (kept,) = pool.folder.glob("*.safetensors")
    chunk, _ = tensors.load(kept)
    tensors.save(kept, chunk | {"hidden": torch.full_like(chunk["hidden"], math.nan)})
    again = Signals(teacher, ROWS, tmp_path / "signals")
    list(again.prepare([0]))
    assert again.damaged == [kept]
    assert torch.equal(again.hidden([0]), pool.hidden([0]))


def test_states_that_16_bits_cannot_hold_are_not_kept(tmp_path: Path):
    teacher = pretrained.load(str(made(tmp_path / "large", 1, 1)), torch.float32, 4)
    teacher.model.norm.weight *= 1e6
    with pytest.raises(LabError, match="though its weights are: it overflows in 16 bits"):
        list(Signals(teacher, ROWS, tmp_path / "signals").prepare([0]))
    assert not list((tmp_path / "signals").rglob("*.safetensors"))


def test_a_student_that_is_damaged_from_the_start_is_named(recipe: Experiment):
    run = Run(recipe)
    assert isinstance(next(run), ev.Started)
    for weights in (run.student.state_dict(), run._good):  # as if it had come so
        weights["model.layers.0.mlp.up_proj.weight"][0, 0] = math.nan
    told = failed(run)
    assert told.step == 1
    assert "The student's logits are not finite: its weights are damaged" in told.advice


def test_a_teacher_that_is_damaged_where_the_student_leads_is_found_at_the_step(tmp_path: Path, recipe: Experiment):
    """A token that the teacher never read: its own answers are finite, those of the student are not."""
    exp = recipe.but(teacher=str(made(tmp_path / "untied", 1, 3, tie_word_embeddings=False)), method="online", on_policy=1.0)
    teacher = teacher_of(exp)
    read = {token for pair in PAIRS for ids in (teacher.chat.prompts(pair), teacher.chat.answers(pair)) for row in ids for token in row}
    never = [token for token in range(teacher.chat.size) if token not in read]
    teacher.model.embed_tokens.weight[never] = math.nan
    teacher.lm_head.weight[never] = 0.0  # so that greedy answers have none of these tokens
    told = failed(Run(exp))
    assert "the loss became nan" in told.message
    assert "The teacher's logits are not finite: its weights are damaged, as model.embed_tokens.weight" in told.advice


@pytest.mark.parametrize(
    ("divergence", "words"), [("forward_kl", None), ("jsd", None), ("reverse_kl", "set divergence='jsd' or a skew divergence")]
)
def test_a_token_that_the_teacher_never_gives(recipe: Experiment, divergence: str, words: str | None):
    """Its head has a bias of -inf for one token, as a model has that masks part of its vocabulary."""
    exp = recipe.but(divergence=divergence)
    teacher = teacher_of(exp)
    with torch.no_grad():
        bias = torch.zeros(tokenizer().size, dtype=teacher.dtype)
        bias[17] = -math.inf
        teacher.lm_head.bias = nn.Parameter(bias, requires_grad=False)
    run = Run(exp)
    if words is None:
        assert all(math.isfinite(event.values["loss"]) for event in run if isinstance(event, ev.Step))
    else:
        told = failed(run)
        assert "became inf" in told.message
        assert words in told.advice
        assert "The teacher gives some token probability 0, and reverse KL is infinite there" in told.advice
        assert "rate" not in told.advice
    pretrained.kept.cache_clear()


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "output"},
        {"method": "hidden"},
        {"method": "similarity"},
        {"method": "relations"},
        {"method": "online", "on_policy": 0.5},
        {"method": "output", "vocabulary": "bytes"},
        {"method": "answers", "top_k": 0, "gold": 40, "mix": 0.5},
        {"method": "mutual", "teacher": "none", "gold": 40},
        {"student": "medusa"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("quick", "tiny_teacher")
def test_every_kind_of_run_says_that_the_learning_rate_is_to_blame_where_it_is(changes: dict):
    run = Run(Experiment(student="22k", teacher=TEACHER, questions=128, batch=8, steps=8).but(**changes))
    while not isinstance(next(run), ev.Step):
        pass
    with torch.no_grad():
        for weight in run.student.parameters():
            weight[...] = math.nan
    told = failed(run)
    assert told.step == 2
    assert told.advice.startswith("The last good student was kept. Lower the learning rate")
    assert all(bool(weight.isfinite().all()) for weight in run.student.parameters())
