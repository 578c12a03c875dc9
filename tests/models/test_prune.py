"""Pruned students: what is kept is exactly what it was, and every folder is a plain model of `transformers`."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from conftest import TEACHER
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from labkit import models
from labkit.base.errors import LabError
from labkit.cli.main import main
from labkit.models import prune as pruning
from labkit.models.prune import prune, save
from labkit.models.prune_scores import evenly, influence

ROWS = [[1, 5, 9, 2, 7], [3, 3, 8], [4, 60, 11, 30, 2, 2, 17]]
SHAPE = {
    "vocab_size": 64, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 6, "num_attention_heads": 6,
    "num_key_value_heads": 3, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


def fresh(config=LlamaConfig, **changes):
    """A random model whose layers do something: the usual 0.02 hides all they do behind the embedding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config(**{**SHAPE, "initializer_range": 0.3, **changes})).eval()


@torch.no_grad()
def logits(model):
    return torch.cat([model(torch.tensor([row])).logits[0] for row in ROWS])


@pytest.fixture
def teacher():
    return fresh(tie_word_embeddings=True)


def test_keeping_everything_changes_nothing(teacher):
    student, cut = prune(teacher)
    assert torch.equal(logits(student), logits(teacher))
    assert cut.parameters == cut.of_parameters
    assert student is not teacher
    with torch.no_grad():
        student.model.norm.weight.zero_()
    assert teacher.model.norm.weight.all()


@pytest.mark.parametrize("rows", [(), ROWS])
def test_neurons_and_heads_that_nobody_reads_can_go(teacher, rows):
    """A quarter of the neurons of every layer, others in each, and one key-value head with its two queries."""
    kept = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for number, layer in enumerate(teacher.model.layers):
            layer.mlp.down_proj.weight[:, torch.randperm(20, generator=kept)[:5]] = 0
            head = number % 3
            layer.self_attn.o_proj.weight[:, 8 * head : 8 * head + 8] = 0
    student, cut = prune(teacher, width=0.75, groups=2, rows=rows)
    assert torch.allclose(logits(student), logits(teacher), atol=1e-5)
    assert (cut.neurons, cut.groups, student.config.num_attention_heads) == (15, 2, 4)
    smaller, _ = prune(teacher, width=0.5)
    assert not torch.allclose(logits(smaller), logits(teacher), atol=1e-2)


def test_layers_that_do_nothing_can_go_and_have_no_influence(teacher):
    with torch.no_grad():
        for number in (1, 4):
            teacher.model.layers[number].self_attn.o_proj.weight.zero_()
            teacher.model.layers[number].mlp.down_proj.weight.zero_()
    found = influence(teacher, ROWS)
    assert [i for i, x in enumerate(found) if x < 1e-6] == [1, 4]
    by_hand, _ = prune(teacher, [0, 2, 3, 5])
    student, cut = prune(teacher, 4, by="influence", rows=ROWS)
    assert cut.layers == (0, 2, 3, 5)
    assert torch.equal(logits(student), logits(by_hand))
    assert torch.allclose(logits(student), logits(teacher), atol=1e-5)


def test_influence_against_the_states_of_a_plain_pass(teacher):
    with torch.no_grad():
        states = teacher(torch.tensor([ROWS[0]]), output_hidden_states=True).hidden_states
    wanted = [float((1 - torch.cosine_similarity(a, b, dim=-1)).mean()) for a, b in zip(states[:5], states[1:6], strict=True)]
    assert influence(teacher, ROWS[:1])[:5] == pytest.approx(wanted, abs=1e-6)  # the last state there has its norm


def test_even_spread_keeps_both_ends():
    for of in range(2, 40):
        for count in range(2, of + 1):
            kept = evenly(count, of)
            assert len(set(kept)) == count and kept[0] == 0 and kept[-1] == of - 1
    assert evenly(15, 30) == (0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29)
    assert evenly(1, 30) == (29,)


@pytest.mark.parametrize("config", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config])
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_student_is_a_plain_model(config, tied, tmp_path):
    """Loaded again: the same logits, its own layer numbers, and with a cache it writes what it writes without one."""
    windows = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2} if config is Qwen2Config else {}
    heads = {"head_dim": 4} if config is Qwen3Config else {}  # which takes 128 otherwise
    teacher = fresh(config, tie_word_embeddings=tied, **windows, **heads)
    student, cut = prune(teacher, [0, 3, 5], width=0.5, groups=2)
    save(student, cut, tmp_path / "student", teacher="theirs")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    assert torch.equal(logits(again), logits(student))
    assert [layer.self_attn.layer_idx for layer in again.model.layers] == [0, 1, 2]
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert torch.equal(again.model.layers[1].input_layernorm.weight, teacher.model.layers[3].input_layernorm.weight)
    for name in ("layer_types", "no_rope_layers"):
        if getattr(teacher.config, name, None):
            assert getattr(again.config, name) == [getattr(teacher.config, name)[i] for i in (0, 3, 5)]
    wide, group = 24, 4 * 2  # a head is 4 wide, and a key-value head has two queries
    biases = 3 * (group * 2 + 2 * 4 * 2) if config is Qwen2Config else 0
    norms = 3 * 2 * 4 if config is Qwen3Config else 0
    layer = wide * group * 2 * 2 + wide * 4 * 2 * 2 + 3 * wide * 10 + 2 * wide
    assert cut.parameters == 64 * wide * (1 if tied else 2) + 3 * layer + wide + biases + norms
    prompt = torch.tensor([[5, 9, 2, 30]])
    with_cache, without = (
        again.generate(prompt, max_new_tokens=12, do_sample=False, use_cache=cache, eos_token_id=63) for cache in (True, False)
    )
    assert torch.equal(with_cache, without) and with_cache.shape[1] > 8
    card = (tmp_path / "student" / "README.md").read_text()
    assert "layers: 3 of 6 (as asked): 0, 3, 5" in card and "# Cut out of `theirs`\n" in card


def test_an_atlas_teacher_from_the_command_line(tmp_path, capsys):
    texts, out = tmp_path / "texts.txt", tmp_path / "student"
    texts.write_text("What is the capital of Chad?\n\nWhat is 3 + 4?\n")
    assert main(["prune", TEACHER, str(out), "--layers", "2", "--by", "influence", "--width", "0.75", "--texts", str(texts)]) == 0
    said = capsys.readouterr().out
    assert "layers: 2 of" in said and "influence, measured on" in said
    student = models.teacher(str(out))  # so that it may teach, too
    assert student.config.num_hidden_layers == 2
    token, own = AutoTokenizer.from_pretrained(out), models.tokenizer()
    question, answer = "What is the capital of Chad?", "N'Djamena"
    asked = [{"role": "user", "content": question}]
    plain = {"tokenize": True, "return_dict": False}
    assert token.apply_chat_template(asked, **plain) == own.prompts([question])[0]
    both = [*asked, {"role": "assistant", "content": answer}]
    assert token.apply_chat_template(both, **plain) == own.prompts([question])[0] + own.answers([answer])[0]
    assert main(["prune", TEACHER, str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_that_is_in_the_way_of_another_try(tiny_teacher, tmp_path, monkeypatch, capsys):
    def half(model, folder, **_):
        (Path(folder) / "config.json").write_text("{}")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", half)
        assert main(["prune", TEACHER, str(out), "--layers", "1"]) == 2
    assert "free some space" in capsys.readouterr().err and not out.exists()
    assert main(["prune", TEACHER, str(out), "--layers", "1"]) == 0
    with monkeypatch.context() as patch:  # and a folder that cannot be is told before anything is cut
        patch.setattr(pruning, "prune", lambda *_: pytest.fail("it was cut"))
        assert main(["prune", TEACHER, str(out / "config.json" / "x"), "--layers", "1"]) == 2
        assert "cannot be made (Not a directory): give another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": 7}, "this model has 6"),
        ({"layers": 0}, "1 to 6"),
        ({"layers": [0, 6]}, "from 0 to 5"),
        ({"layers": [2, 1]}, "rising"),
        ({"layers": []}, "none cannot be kept"),
        ({"layers": 3, "by": "luck"}, "Choose from: spread, influence"),
        ({"width": 0}, "at most 1"),
        ({"width": float("nan")}, "at most 1"),
        ({"groups": 4}, "3 key-value heads"),
    ],
)
def test_what_cannot_be_cut_is_refused(teacher, changes, said):
    with pytest.raises(LabError, match=said):
        prune(teacher, **changes)


def test_another_architecture_is_refused():
    model = AutoModelForCausalLM.from_config(GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=16, n_positions=8))
    with pytest.raises(LabError, match=r"GPT2LMHeadModel is a 'gpt2' model.*llama, mistral"):
        prune(model)


SMOL = Path(os.environ.get("LABKIT_SMOLLM2", "absent"))  # where `labkit fetch smollm2` has put it


@pytest.mark.skipif(not (SMOL / "model.safetensors").exists(), reason="LABKIT_SMOLLM2 names no folder with SmolLM2")
def test_half_of_smollm2():
    student, cut = prune(AutoModelForCausalLM.from_pretrained(SMOL), 15)
    assert (cut.of_parameters, cut.parameters) == (134_515_008, 81_413_568)
    assert json.loads(student.config.to_json_string(use_diff=False))["num_key_value_heads"] == 3
    assert evenly(15, 30) == cut.layers
