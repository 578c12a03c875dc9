"""Models of other families than a Llama: their parts, caches, adapters and settings, on tiny ones made on the spot."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from zoo.build import make

import labkit
from labkit import models
from labkit.base.errors import LabError
from labkit.base.files import fill_whole
from labkit.cli.main import main
from labkit.models import damage, lora, pretrained
from labkit.models.hooks import run_with_hooks
from labkit.models.parts import Traits, body_of, context_of, layers_of, logits_of
from labkit.models.self_check import examine
from labkit.records.experiment import Experiment
from labkit.speculative import trees
from labkit.speculative.kv_cache import CachedModel
from labkit.studies.distill import distill
from labkit.studies.inspection import inspect
from labkit.teachers.signals import sample_answers
from labkit.training.setup import CustomTask


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory):
    @functools.cache
    def folder(kind: str) -> Path:
        made = tmp_path_factory.mktemp(kind.replace(",", "").replace(" ", "_"))
        make(kind, made)
        return made / "target"

    return folder


@pytest.fixture(scope="module")
def loaded(zoo):
    return functools.cache(lambda kind: pretrained.load(str(zoo(kind)), torch.float32, 12))


PAIRS = [(f"Say {word} {number}.", word) for word in ("red", "blue") for number in range(30)]
TOKENS = torch.tensor([[5, 17, 99, 4, 250, 31, 7, 120, 64, 11, 300, 8]])


@pytest.mark.parametrize("kind", ["recurrent_gemma", "qwen3_next", "gemma3", "phimoe"])
def test_half_precision_hides_nothing(loaded, zoo, kind):
    """Rounding is larger than what a wrong cache changes in a tiny model; so it is checked in single precision, and left as it was."""
    half = pretrained.load(str(zoo(kind)), torch.bfloat16)
    again = AutoModelForCausalLM.from_pretrained(zoo(kind), dtype=torch.bfloat16)
    assert half.traits == loaded(kind).traits
    theirs = dict(itertools.chain(again.named_parameters(), again.named_buffers()))
    for name, tensor in itertools.chain(half.named_parameters(), half.named_buffers()):
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


# ---- head and body -------------------------------------------------------------------------------------------------------------------

HEADS = {"llama": "linear", "gpt2": "linear", "bart": "linear", "gemma2": "own", "cohere": "own", "gemma4, cap": "own", "bert": "own"}


def _with_settings(zoo, tmp_path: Path, kind: str, more: dict[str, Any]) -> Path:
    folder = shutil.copytree(zoo(kind), tmp_path / "edited")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | more))
    return folder


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"  # as git leaves it where LFS has not fetched the file


@pytest.mark.parametrize("layers", [1001, 10**6, 10**400], ids=["1001", "10^6", "10^400"])
@pytest.mark.parametrize(("kind", "name"), [("llama", "num_hidden_layers"), ("gpt2", "n_layer")])
def test_more_layers_than_weights_are_refused_before_they_are_built(zoo, tmp_path, kind, name, layers):
    folder = _with_settings(zoo, tmp_path, kind, {name: layers})
    (folder / "consolidated.safetensors").write_text(POINTER)
    with pytest.raises(LabError, match=f"{name}=.* its files hold only"):
        pretrained.load(str(folder))


def test_layers_of_which_some_have_no_weights_are_told_by_the_weights(zoo, tmp_path):
    with pytest.raises(LabError, match=r"edited lacks the weights model\.layers\.10\."):
        pretrained.load(str(_with_settings(zoo, tmp_path, "llama", {"num_hidden_layers": 999})))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {"max_window_layers": 100_000, "num_experts": 16_384}),  # a llama reads neither
        ("doge", {"num_experts": 16_384}),  # one tensor has the experts, if there are any
        ("hrm_text", {"H_cycles": 8, "num_hidden_layers": 4 * 8 * (3 + 1)}),  # its 8 layers are used many times
    ],
)
def test_large_numbers_that_are_no_layers_with_weights_are_not_refused(zoo, tmp_path, kind, more):
    assert pretrained.load(str(_with_settings(zoo, tmp_path, kind, more)), torch.float32, 12)(TOKENS).logits.isfinite().all()


def test_no_default_config_of_the_families_has_more_layers_than_any_known_model():
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        config = {}
        with contextlib.suppress(Exception):  # some need arguments
            config = AutoConfig.for_model(kind).to_dict()
        assert not dict(damage._many(config)), kind


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("llama", {"_attn_implementation": "kernels-community/flash-attn2"}),
        ("llama", {"attn_implementation": "someone/attention@main:forward"}),
        ("mixtral", {"experts_implementation": "sonicmoe", "_attn_implementation": "flash_attention_2"}),
        ("recurrent_gemma", {"_attn_implementation": "kernels-community/flash-attn2"}),
    ],
)
def test_code_that_a_config_names_is_never_run(zoo, loaded, tmp_path, kind, names):
    folder = shutil.copytree(zoo(kind), tmp_path / "named")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | names))
    model, plain = pretrained.load(str(folder), torch.float32, 12), loaded(kind)
    assert torch.equal(model(TOKENS).logits, plain(TOKENS).logits)
    for there, here in zip(model.modules(), plain.modules(), strict=True):
        for choice in ("_attn_implementation", "_experts_implementation"):
            assert getattr(getattr(there, "config", None), choice, 0) == getattr(getattr(here, "config", None), choice, 0)


@pytest.mark.parametrize("kind", [*HEADS, "falcon_h1, multiplier", "modernbert-decoder"])
def test_logits_are_the_models_own(loaded, kind):
    model = loaded(kind)
    states = body_of(model)(TOKENS, use_cache=False).last_hidden_state
    with torch.no_grad():
        torch.testing.assert_close(logits_of(model, states[0]), model(TOKENS).logits[0], atol=1e-5, rtol=1e-5)
    assert model.traits.head == HEADS.get(kind, "own")


def test_gradients_pass_through_a_head_of_its_own(loaded):
    """The loss of a student whose logits are capped is differentiated through the cap."""
    model = copy.deepcopy(loaded("gemma2")).requires_grad_(True)
    by_parts = logits_of(model, body_of(model)(TOKENS, use_cache=False).last_hidden_state[0]).logsumexp(-1).sum()
    whole = model(TOKENS).logits[0].logsumexp(-1).sum()
    wanted = torch.autograd.grad(whole, list(model.parameters()), allow_unused=True)
    found = torch.autograd.grad(by_parts, list(model.parameters()), allow_unused=True)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_a_model_that_sees_later_tokens_is_refused():
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
    with pytest.raises(LabError, match=r"depend on those after it.*set is_decoder"):
        examine(BertLMHeadModel(BertConfig(**small)))
    assert examine(BertLMHeadModel(BertConfig(**small, is_decoder=True)).eval()).cache == "croppable"


def test_weights_that_are_not_numbers_are_refused():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50))
    model.transformer.h[1].mlp.c_fc.weight.data[0, 0] = math.nan
    with pytest.raises(LabError, match=r"its weights are damaged, as transformer\.h\.1\.mlp.c_fc.weight"):
        examine(model)


def test_a_check_leaves_the_model_and_the_random_state_alone(loaded):
    model = copy.deepcopy(loaded("llama")).train()
    before, weights = torch.random.get_rng_state(), models.weights_hash(model)
    examine(model)
    assert model.training
    assert models.weights_hash(model) == weights
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["gpt2", "mixtral", "bart", "gemma3", "qwen3_next"])
def test_hidden_states_are_those_of_the_layers(loaded, kind):
    model, rows = loaded(kind), models.pad([TOKENS[0, :4].tolist()], [TOKENS[0, 4:].tolist()])
    found = run_with_hooks(model, rows, (0, 2)).hidden_N_L_D
    with torch.no_grad():
        theirs = body_of(model)(rows.tokens_B_T, output_hidden_states=True, use_cache=False).hidden_states
    torch.testing.assert_close(found[:, 1], theirs[2][0, 3:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "phi3"])
def test_relations_need_separate_maps(loaded, kind):
    rows = models.pad([TOKENS[0, :4].tolist()], [TOKENS[0, 4:].tolist()])
    with pytest.raises(LabError, match="so its relations cannot be compared"):
        run_with_hooks(loaded(kind), rows, relations=True)


def test_queries_that_are_stored_with_a_gate_have_no_relations(loaded):
    model, rows = loaded("qwen3_next"), models.pad([TOKENS[0, :4].tolist()], [TOKENS[0, 4:].tolist()])
    with pytest.raises(LabError, match=r"q_proj of .* gives 64 numbers, and its queries are 32.*use method=hidden"):
        run_with_hooks(model, rows, relations=True)


# ---- caches --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2", "bart", "qwen3_next", "lfm2", "mamba", "recurrent_gemma", "jamba", "bloom"])
def test_a_text_that_goes_back_and_on_has_its_own_states(loaded, kind):
    """Whatever the cache is: after some tokens were dropped and others read, the states are those of the text read at once."""
    model, cached = loaded(kind), CachedModel(loaded(kind))
    ids = TOKENS[0].tolist()
    cached.read(ids[:5])
    cached.read([9, 9, 9])
    cached.back(6)
    found = cached.read(ids[5:9]).final_T_D
    cached.back(7)
    last = cached.read(ids[9:]).final_T_D
    with torch.no_grad():
        one = body_of(model)(torch.tensor([[*ids[:5], 9, *ids[5:9]]]), use_cache=False).last_hidden_state[0]
        other = body_of(model)(torch.tensor([[*ids[:5], 9, ids[5], *ids[9:]]]), use_cache=False).last_hidden_state[0]
    assert cached.length == 10
    torch.testing.assert_close(found, one[-4:], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(last, other[-3:], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3_text", "gpt_oss", "llama4_text", "qwen2, window"])
def test_a_tree_under_a_window_is_read_as_its_paths(loaded, kind):
    """The text is longer than the window, so a layer that saw all of it would give other states."""
    model, cached = loaded(kind), CachedModel(loaded(kind))
    ids, tree, parents = TOKENS[0].tolist() * 2, [40, 41, 42, 43], [-1, 0, 0, 2]
    cached.read(ids)
    found = cached.read(tree, parents).final_T_D
    for node, path in enumerate(([40], [40, 41], [40, 42], [40, 42, 43])):
        with torch.no_grad():
            wanted = body_of(model)(torch.tensor([[*ids, *path]]), use_cache=False).last_hidden_state[0, -1]
        torch.testing.assert_close(found[node], wanted, atol=5e-4, rtol=1e-3)


def test_a_check_of_trees_leaves_the_window_as_it_was(loaded):
    assert trees.reason(copy.deepcopy(loaded("mistral"))) == ""
    assert loaded("mistral").config.sliding_window == 8


@pytest.mark.parametrize(("kind", "why"), [("qwen3_next", "keeps a state"), ("bart", "counts positions itself")])
def test_a_tree_is_refused_with_the_reason(loaded, kind, why):
    with pytest.raises(LabError, match=f"{why}.*candidates=0"):
        labkit.speculate(loaded(kind), loaded(kind), "Why?", candidates=4)


# ---- what identifies a model -----------------------------------------------------------------------------------------------------------


def test_the_same_weights_with_another_window_are_another_model(zoo, tmp_path):
    folder = zoo("mistral")
    config = json.loads((folder / "config.json").read_text())
    one = pretrained.load(str(folder), torch.float32)
    other = copy.deepcopy(one)
    other.config.sliding_window = 4
    assert config["sliding_window"] == 8
    assert models.weights_hash(one) == models.weights_hash(other)
    assert models.fingerprint(one) != models.fingerprint(other)
    other.config.sliding_window = 8
    other.config._name_or_path = "elsewhere"
    assert models.fingerprint(one) == models.fingerprint(other)


def test_a_model_without_a_tokenizer_is_not_read_with_another(zoo):
    raw = AutoModelForCausalLM.from_pretrained(zoo("llama"))
    with pytest.raises(LabError, match=r"has 320 tokens and no tokenizer.*pretrained\.load"):
        labkit.speculate(raw, raw, "What is it?")


def test_a_raw_model_is_checked_before_it_decodes():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 1024}
    raw = LlamaForCausalLM(LlamaConfig(**shape)).eval()
    labkit.speculate(raw, raw, "What is it?", limit=2)
    assert raw.traits == Traits()


@pytest.mark.parametrize(
    ("prompts", "limit", "why"),
    [
        ([[5], []], 3, "prompt 2 of 2 has no tokens"),
        ([[5, 10**6]], 3, "prompt 1 has the token 1000000, and the model's tokens are 0 to"),
        ([[5, -1]], 3, "prompt 1 has the token -1"),
        ([[5]], 0, "an answer cannot have 0 tokens: set limit to 1 or more"),
    ],
)
def test_prompts_that_cannot_be_written_from(loaded, prompts, limit, why):
    with pytest.raises(LabError, match=why):
        models.write(loaded("llama"), prompts, limit=limit)


def test_answers_have_limits_of_their_own(loaded):
    model, prompts = loaded("llama"), [[5, 9, 11], [5, 9, 12, 7], [6, 20]]
    alone = [models.write(model, [prompt], limit=limit)[0].ids for prompt, limit in zip(prompts, (1, 6, 3), strict=True)]
    assert [written.ids for written in models.write(model, prompts, limit=(1, 6, 3))] == alone


def test_rows_that_fit_alone_and_not_padded_together_are_written_alone(loaded):
    """A long prompt with a small limit beside a short one with a large limit, in a family whose mask has the size of its context."""
    model, long, short = loaded("gpt_neo"), list(range(5, 250)), [7, 8, 9]
    alone = [models.write(model, [prompt], limit=limit)[0].ids for prompt, limit in ((long, 8), (short, 240))]
    assert [written.ids for written in models.write(model, [long, short], limit=[8, 240])] == alone


def test_a_prompt_that_just_fits_with_its_answer_is_answered(zoo, tmp_path):
    """Also where a part of the answer equals the response, after which the teacher goes on by itself."""
    folder = shutil.copytree(zoo("llama"), tmp_path / "short")
    model = pretrained.load(str(folder), torch.float32, 6)
    (prompt,) = model.chat.prompts(["What is 2 and 3?"])
    first = models.write(model, [prompt], limit=6)[0].ids
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": len(prompt) + 5}))
    model = pretrained.load(str(folder), torch.float32, 6)
    (answer,) = sample_answers(model, [prompt], [[*first[:3], first[3] + 1]], 0, 0.0)
    assert len(first) == 6 and answer.ids == first


# ---- adapters --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "phi3", "gpt2", "mixtral", "qwen3_next", "deepseek_v3", "gemma3_text"])
def test_an_adapter_has_the_rank_that_was_asked_for_and_peft_reads_it(loaded, kind, tmp_path):
    student = copy.deepcopy(loaded(kind)).requires_grad_(True)
    lora.add(student, 4)
    for name, weight in student.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    lora.save(student, tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 4
    with torch.no_grad():
        wanted = student(TOKENS).logits
        theirs = PeftModel.from_pretrained(copy.deepcopy(loaded(kind)), tmp_path / "adapter")(TOKENS).logits
        merged = lora.merged(student)
        assert set(merged.state_dict()) == set(loaded(kind).state_dict())
        again = lora.loaded(loaded(kind), tmp_path / "adapter")
        for logits in (theirs, merged(TOKENS).logits, again(TOKENS).logits):
            torch.testing.assert_close(logits, wanted, atol=2e-4, rtol=1e-3)
    assert not lora.has(merged)


@pytest.mark.parametrize("kind", ["llama", "phi", "phi3", "gpt2", "opt", "glm4", "starcoder2", "gemma3"])
def test_an_adapter_covers_every_linear_map(loaded, kind):
    student = copy.deepcopy(loaded(kind))
    lora.add(student, 2)
    maps = [part for part in layers_of(student).modules() if type(part).__name__ in ("Linear", "Conv1D") and "lora" not in repr(part)]
    inside = {id(part.base_layer) for part in student.modules() if hasattr(part, "base_layer")}
    assert maps and all(id(part) in inside for part in maps if min(part.weight.shape) > 2), "those of rank 2 are the adapter's own"


def test_experts_in_one_tensor_are_told(loaded):
    student = copy.deepcopy(loaded("mixtral")).requires_grad_(True)
    lora.add(student, 2)
    notes = " ".join(pretrained.notes_of(student))
    assert 0 < lora.share(student) < 0.3
    assert f"Its adapter covers {lora.share(student):.0%} of the weights" in notes


@pytest.mark.parametrize("kind", ["mamba", "jamba"])
def test_a_map_that_is_not_called_gets_no_adapter(loaded, kind):
    """Mamba multiplies by the weight of `dt_proj` itself, so an adapter beside it would never be read."""
    student = copy.deepcopy(loaded(kind)).requires_grad_(True)
    lora.add(student, 2)
    assert not any("dt_proj.lora_" in name for name, _ in student.named_parameters())
    assert lora.share(student) < 1
    student(TOKENS).logits.square().sum().backward()
    idle = [name for name, weight in student.named_parameters() if "lora_B" in name and not weight.grad.abs().sum() > 0]
    assert not idle and not student.training


def test_looking_for_maps_leaves_a_model_as_it_was(loaded):
    model = copy.deepcopy(loaded("mamba"))
    asked = ["dt_proj" in name for name, _ in model.named_parameters()]
    for weight, train in zip(model.parameters(), asked, strict=True):
        weight.requires_grad_(train)
    before = torch.random.get_rng_state()
    lora.maps_of(model)
    assert [weight.requires_grad for weight in model.parameters()] == asked
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_student_is_saved_twice_with_the_settings_that_it_came_with(zoo, tmp_path):
    """With an adapter as well: its list of end marks and its sampling settings stay, byte for byte."""
    student = pretrained.load(str(zoo("apertus")), torch.float32).requires_grad_(True)
    lora.add(student, 2)
    for name in ("one", "two"):
        pretrained.save(student, tmp_path / name)
        assert (tmp_path / name / "generation_config.json").read_bytes() == (zoo("apertus") / "generation_config.json").read_bytes()
        assert AutoModelForCausalLM.from_pretrained(tmp_path / name).dtype == torch.bfloat16


def test_router_noise_and_dropout_are_told(zoo, tmp_path):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=320, n_positions=64))  # dropout is 0.1 by default
    model.save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / file).write_bytes((zoo("llama") / file).read_bytes())
    student = pretrained.load(str(tmp_path), torch.float32).requires_grad_(True)
    assert "In training mode its states differ" in " ".join(pretrained.notes_of(student))
    assert "In training mode" not in " ".join(pretrained.notes_of(pretrained.load(str(zoo("llama"))).requires_grad_(True)))


# ---- end marks -------------------------------------------------------------------------------------------------------------------------


def test_a_base_student_learns_its_teachers_format(zoo, tmp_path, capsys):
    """The same tokens, but no template and another end mark: without the teacher's format it would never stop."""
    base, teacher = tmp_path / "base", tmp_path / "teacher"
    for folder, ends in ((base, 2), (teacher, [2, 3])):
        shutil.copytree(zoo("llama"), folder)
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    (base / "chat_template.jinja").unlink()
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in PAIRS), encoding="utf-8")
    words = ["--teacher", str(teacher), "--student", str(base), "--data", str(data), "--steps", "2", "--batch", "4", "--longest", "6"]
    assert main(["distill", *words, "--out", str(tmp_path / "out"), "--no-baseline"]) == 0
    said, card = capsys.readouterr().out, (tmp_path / "out" / "README.md").read_text()
    for text in (said, card):
        assert "is saved with, the teacher's: end marks '<end>' (2), '<stop>' (3)" in text
        assert "As it came, it is scored in that format too" in text
        assert "without a chat template" not in text
    assert pretrained.chat_of(str(tmp_path / "out")).fingerprint == pretrained.chat_of(str(teacher)).fingerprint
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [2, 3]


def test_the_card_says_how_prompts_must_be_made(zoo, tmp_path):
    """What a student has learned, and its files do not say: the switches of its template, or that it has none."""
    thinks, plain = tmp_path / "thinks", tmp_path / "plain"
    for folder in (thinks, plain):
        shutil.copytree(zoo("llama"), folder)
    with (thinks / "chat_template.jinja").open("a") as file:
        file.write("{% if enable_thinking is defined and not enable_thinking %}no{% endif %}")
    (plain / "chat_template.jinja").unlink()
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in PAIRS), encoding="utf-8")
    for teacher, student, more, said in (
        (thinks, thinks, {"template_option": "enable_thinking=false"}, 'pass chat_template_kwargs={"enable_thinking": false} when you'),
        (plain, plain, {}, r"plain text: send it each question as '<begin>QUESTION\n'"),
        (plain, thinks, {}, r"plain text: send it each question as '<begin>QUESTION\n'"),
    ):
        out, lines = tmp_path / f"{teacher.name}-{student.name}", list[str]()
        distill(str(teacher), str(student), data, out, baseline=False, say=lines.append, steps=1, batch=2, longest=3, method="gold", **more)
        told = [line for line in (out / "README.md").read_text().splitlines() if said in line]
        assert told and all(line.startswith("- student: ") for line in told)
        assert any(said in line for line in lines)


# ---- inspect ---------------------------------------------------------------------------------------------------------------------------


def test_one_screen_says_what_a_model_is(zoo, capsys):
    assert main(["inspect", str(zoo("mixtral"))]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 24
    for words in ("MixtralForCausalLM", "a linear head; a KV cache", "trees: yes", "'<end>' (2)", "256 tokens", "as a teacher", "prune"):
        assert words in shown


def test_a_model_that_cannot_be_used_is_told_with_the_reason(tmp_path, capsys):
    torch.manual_seed(0)
    model: Any = BertLMHeadModel(
        BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=1024, initializer_range=0.5)
    )
    model.save_pretrained(tmp_path)
    models.tokenizer().for_transformers().save_pretrained(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 1
    assert "depend on those after it" in " ".join(capsys.readouterr().out.split())


# ---- what a folder lacks ---------------------------------------------------------------------------------------------------------------


def test_a_student_whose_end_mark_its_files_do_not_list_is_saved_so_that_generate_stops(zoo, tmp_path):
    """As Qwen2.5's base models: the template ends a turn with <im_end>, and generation_config.json lists <endoftext> alone."""
    folder = shutil.copytree(zoo("llama"), tmp_path / "base")
    listed = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    student = pretrained.load(str(folder), torch.float32)
    assert student.chat.end_is_listed
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "do_sample": True, "eos_token_id": 5}))
    student = pretrained.load(str(folder), torch.float32).requires_grad_(True)
    for listed_elsewhere in ({"eos_token_id": 5}, {"temperature": 0.6}):  # where that file is, `generate` does not look into config.json
        (folder / "generation_config.json").write_text(json.dumps(listed_elsewhere))
        assert not pretrained.chat_of(str(folder)).end_is_listed
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "do_sample": True, "eos_token_id": 5}))
    assert "which its generation_config.json does not list" in " ".join(pretrained.notes_of(student))
    pretrained.save(student, tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert saved == {"temperature": 0.6, "do_sample": True, "eos_token_id": student.chat.end_list}
    assert student.chat.end in saved["eos_token_id"] and student.chat.end in (listed if isinstance(listed, list) else [listed])


def test_code_that_mixes_precisions_runs_in_single_precision(zoo):
    """In half precision xLSTM's code fails, and only for rows longer than a chunk."""
    teacher = pretrained.load(str(zoo("xlstm")))
    assert teacher.dtype == torch.float32 and "held in single precision" in " ".join(pretrained.notes_of(teacher))
    assert models.write(teacher, [[5, 9, 11] * 30], limit=2)
    assert pretrained.load(str(zoo("llama"))).dtype == torch.bfloat16


def test_a_cache_that_rounds_is_not_used(loaded):
    """Zamba2's step of one token leaves out a limit that its pass over several has; the error grows with the text."""
    assert loaded("zamba2").traits.cache == "none"
    assert loaded("bamba").traits.cache == "state"


def test_a_model_that_rounds_much_keeps_its_cache():
    """A deep hybrid, whose row read beside another differs by as much as with a cache."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": 128,
        "intermediate_size": 128,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64,
        "head_dim": 32,
    }
    kind = {"num_hidden_layers": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 2}
    linear = {
        f"linear_{name}": size
        for name, size in (("num_key_heads", 2), ("num_value_heads", 4), ("key_head_dim", 16), ("value_head_dim", 16))
    }
    config = AutoConfig.for_model("qwen3_next", vocab_size=320, initializer_range=2 / 128**0.5, **shape, **kind, **linear)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert examine(model).cache == "state"


def test_a_model_that_draws_at_random_in_long_rows_is_refused(zoo):
    """Reformer hashes its tokens at random beyond two chunks of 64."""
    with pytest.raises(LabError, match="the states of a token depend on those after it"):
        pretrained.load(str(zoo("reformer")))


def test_a_softcap_is_seen_where_logits_are_small(zoo, tmp_path):
    folder = shutil.copytree(zoo("gemma2"), tmp_path / "wide")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"final_logit_softcapping": 500.0}))
    model = pretrained.load(str(folder), torch.float32)
    with torch.no_grad():
        assert float(model(TOKENS).logits.abs().max()) < 500 / 50, "where the cap is straight to a thousandth"
    assert model.traits.head == "own"


def test_a_model_that_reads_more_tokens_than_it_writes_is_refused(zoo):
    with pytest.raises(LabError, match="reads 321 tokens and writes 320: the lab could not save it again"):
        pretrained.load(str(zoo("moshi")))


def test_a_damaged_row_of_the_embedding_is_refused(zoo, tmp_path):
    folder = shutil.copytree(zoo("llama"), tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][300, 3] = math.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(LabError, match=r"model\.embed_tokens\.weight has NaN or infinity"):
        pretrained.load(str(folder))


def test_layers_beyond_the_config_are_seen_without_the_prefix(zoo, tmp_path):
    """As in the hub's GPT-2, whose file says h.2 and not transformer.h.2."""
    folder = shutil.copytree(zoo("gpt2"), tmp_path / "short")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name.removeprefix("transformer."): weight for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    assert pretrained.load(str(folder)).config.n_layer > 1
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    with pytest.raises(LabError, match=r"beyond the model that its config\.json describes"):
        pretrained.load(str(folder))


def test_a_head_that_is_not_in_the_file_is_refused_unless_it_is_the_embedding(zoo, tmp_path):
    folder = tmp_path / "headless"
    shutil.copytree(zoo("mistral"), folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LabError, match=r"lacks the weights lm_head\.weight"):
        pretrained.load(str(folder))


def test_a_head_of_its_own_survives_the_cut_of_padding_rows(zoo, tmp_path):
    """Its config says that the head is the embedding, and its file has another one, which transformers keeps."""
    model = AutoModelForCausalLM.from_pretrained(zoo("llama, tied"))
    model.resize_token_embeddings(384, mean_resizing=False)
    model.save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / file).write_bytes((zoo("llama, tied") / file).read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = torch.randn_like(weights["model.embed_tokens.weight"])
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours = pretrained.load(str(tmp_path), torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS).logits, theirs(TOKENS).logits[..., : ours.chat.size])


def _cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _in_bin(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _in_shards(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}))


def _adapted(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "elsewhere/model", "peft_type": "LORA"}))


def _edited(file: str = "config.json", **changes: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes)) and None


def _written(file: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(text) and None


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), r"has no config\.json, which says what its weights are: copy it"),
    "no JSON": (_written("config.json", '{"a": '), r"config\.json is damaged \(Expecting value.*\)\. Copy it again"),
    "a list": (_written("config.json", "[1]"), r"config\.json is damaged \(it holds a list, and must hold a JSON object"),
    "no type": (_edited(model_type=None), r"has model_type None in its config\.json, and it must name a family"),
    "a list of types": (_edited(model_type=["llama"]), r"has model_type \['llama'\] in its config\.json"),
    "an unknown type": (_edited(model_type="llama9"), r"'llama9' in its config\.json, which transformers .* does not know: correct it, or"),
    "own code": (_edited(model_type="mine", auto_map={}), r"needs Python code of its own for model_type 'mine'.*choose a causal"),
    "t5": (_edited(model_type="t5"), r"is a 't5', which .* has no causal language model for .*choose a causal language model"),
    "a wrong value": (_edited(hidden_size="abc"), r"'hidden_size' expected int, got str \(value: 'abc'\)\. Correct it, or copy both again"),
    "other shapes": (_edited(intermediate_size=96), r"asks for \(32, 96\) numbers in .*down_proj\.weight, and its weights have \(32, 64\)"),
    "cut": (_cut, r"has a damaged model\.safetensors \([\d,]+ bytes, not all that its header lists\): copy it again"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"lacks model\.safetensors, in which its weights should be"),
    "a shard less": (_in_shards, r"lacks model-00002-of-00002\.safetensors, in which some of its weights should be"),
    "bin": (_in_bin, r"has its weights in pytorch_model\.bin, and the lab reads safetensors alone"),
    "quantised": (
        _edited(quantization_config={"quant_method": "gptq", "bits": 4}),
        r"quantised by 'gptq', which cannot be read here: give",
    ),
    "fewer layers": (_edited(num_hidden_layers=3), r"have \d+ weights, as model\.layers\.3\..*, beyond the model that its config\.json"),
    "more layers": (_edited(num_hidden_layers=5), r"lacks the weights model\.layers\.4\..*they would be random\. Correct config\.json, or"),
    "an adapter beside it": (_adapted, r"has an adapter beside a model: merge it, or remove adapter_config\.json"),
    "broken settings": (_written("generation_config.json", '{"eos'), r"generation_config\.json is damaged \("),
    "a list of settings": (_written("generation_config.json", "[1]"), r"generation_config\.json is damaged \(it holds a list"),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        r"has no tokenizer\.json, so its tokenizer cannot be read: copy it",
    ),
    "a broken tokenizer": (_written("tokenizer.json", "[]"), r"tokenizer\.json is damaged \(it holds a list"),
    "its broken settings": (_written("tokenizer_config.json", "[]"), r"tokenizer_config\.json is damaged \(it holds a list"),
    "its own code": (
        _edited("tokenizer_config.json", tokenizer_class="Mine", auto_map={"AutoTokenizer": ["mine.Mine", None]}),
        "own.*auto_map",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_is_refused_in_a_sentence_that_names_what_is_wrong(zoo, tmp_path, capfd, how):
    folder, (damage, said) = tmp_path / "broken", BROKEN[how]
    shutil.copytree(zoo("llama"), folder)
    damage(folder)
    with pytest.raises(LabError, match=said) as caught:
        pretrained.load(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value) and "huggingface" not in str(caught.value) and len(str(caught.value)) < 500
    assert "REPORT" not in capfd.readouterr().err


def test_weights_that_a_model_has_no_place_for_are_told_or_refused(zoo, tmp_path):
    """A bias of one of its maps makes another model; a part that it does not have at all may be a vision tower."""
    shutil.copytree(zoo("llama"), tmp_path / "one")
    file = tmp_path / "one" / "model.safetensors"
    weights = load_file(file)
    save_file(
        weights | {"tower.weight": torch.ones(2), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, file, {"format": "pt"}
    )
    assert "Weights of its files, as tower.weight (1 in all), are no part" in " ".join(
        pretrained.notes_of(pretrained.load(str(tmp_path / "one")))
    )
    save_file(weights | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}, file, {"format": "pt"})
    with pytest.raises(LabError, match=r"a weight, model\.layers\.0\.self_attn\.q_proj\.bias, beyond the model"):
        pretrained.load(str(tmp_path / "one"))


def test_layers_that_predict_further_tokens_may_be_left_unread(zoo, tmp_path):
    shutil.copytree(zoo("deepseek_v3"), tmp_path / "one")
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    edit = _edited(num_hidden_layers=3, mlp_layer_types=(config.get("mlp_layer_types") or [])[:3] or None, num_nextn_predict_layers=1)
    edit(tmp_path / "one")
    assert "are no part of the model" in " ".join(pretrained.notes_of(pretrained.load(str(tmp_path / "one"))))
    _edited(num_nextn_predict_layers=0)(tmp_path / "one")
    with pytest.raises(LabError, match="beyond the model"):
        pretrained.load(str(tmp_path / "one"))


@pytest.mark.parametrize("kind", [BartForConditionalGeneration, BertModel])
def test_what_was_saved_as_another_kind_of_model_is_refused(zoo, tmp_path, kind):
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 320}
    layers = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads", "ffn_dim")}
    made = {BartForConditionalGeneration: BartConfig(d_model=16, vocab_size=320, **layers), BertModel: BertConfig(**shape)}[kind]
    shutil.copytree(zoo("llama"), tmp_path / "one")
    kind(made).save_pretrained(tmp_path / "one")
    with pytest.raises(LabError, match=r"holds an encoder with a decoder|It was saved as BertModel: save it as BertLMHeadModel"):
        pretrained.load(str(tmp_path / "one"))


def test_switches_that_the_lab_sets_are_refused():
    with pytest.raises(LabError, match="tokenize is set by the lab"):
        pretrained.given_options("enable_thinking=false,tokenize=true")
    assert pretrained.given_options("enable_thinking=false,effort=low") == {"enable_thinking": False, "effort": "low"}


def test_a_switch_in_json_may_hold_commas():
    wanted = {"levels": [1, 2], "style": {"a": 1, "b": 2}, "effort": "low"}
    text = 'levels=[1,2],style={"a":1,"b":2},effort=low'
    assert pretrained.given_options(text) == wanted
    assert Experiment(template_option=text).template_option == text
    for wrong in ("levels=[1,2", "enable_thinking=false,effort", "effort"):
        with pytest.raises(LabError, match=f"{re.escape(repr(wrong))} (has neither|is no option)"):
            pretrained.given_options(wrong)


def test_a_switch_that_no_template_reads_is_refused(zoo, tmp_path):
    """The two models share their switches, so one that either reads will do."""
    thinks, plain = tmp_path / "thinks", zoo("llama")
    shutil.copytree(plain, thinks)
    template = (thinks / "chat_template.jinja").read_text()
    (thinks / "chat_template.jinja").write_text(
        template + "{% if enable_thinking is defined and not enable_thinking %}{{ 'no' }}{% endif %}"
    )
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in PAIRS), encoding="utf-8")

    def task(option: str, teacher: Path, student: Path) -> CustomTask:
        return CustomTask(Experiment(teacher=str(teacher), student=str(student), data=str(data), template_option=option, method="sequence"))

    for teacher, student in ((thinks, plain), (plain, thinks)):
        task("enable_thinking=false", teacher, student)
        with pytest.raises(LabError, match=r"enable_thinkin in template_option=.* is not read by .*: choose among enable_thinking"):
            task("enable_thinkin=false", teacher, student)
    with pytest.raises(LabError, match="leave it out, since it reads none"):
        task("enable_thinking=false", plain, plain)
    assert "for enable_thinking" in inspect(str(thinks)).facts["template options"]
    with pytest.raises(LabError, match="bos_token in template_option"):
        inspect(str(thinks), "bos_token=x")


def test_positions_that_turn_otherwise_beyond_a_length_are_not_reached():
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 40}
    assert context_of({"max_position_embeddings": 128, "rope_parameters": rope}) == 40
    assert context_of({"max_position_embeddings": 128, "rope_parameters": {"rope_type": "default"}}) == 128


def test_an_adapter_of_another_scale_is_refused(loaded, tmp_path):
    student = copy.deepcopy(loaded("llama"))
    lora.add(student, 4)
    lora.save(student, tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 4}))
    (tmp_path / "manifest.json").unlink()  # it was changed on purpose
    with pytest.raises(LabError, match="its lora_alpha is 4, and the lab's 8"):
        lora.loaded(loaded("llama"), tmp_path)


def test_a_later_student_leaves_nothing_of_an_earlier_one(tmp_path):
    """Folders are replaced, the weights come last, and no template stays that the new student was not trained with."""
    for number, names in enumerate((("chat_template.jinja", "config.json"), ("config.json",))):

        def write(part: Path, names=names, number=number) -> None:
            (part / "additional_chat_templates").mkdir()
            for name in (*names, "model.safetensors", f"additional_chat_templates/{number}.jinja"):
                (part / name).write_text(str(number))

        fill_whole(tmp_path, write)
    found = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {"config.json": "1", "model.safetensors": "1", "additional_chat_templates/1.jinja": "1"}
