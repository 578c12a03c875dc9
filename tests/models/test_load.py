"""Batched, cached, padded generation says exactly what a plain forward pass says; and damaged files are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TEACHER
from hypothesis import given
from hypothesis import strategies as st

from labkit import models
from labkit.base.errors import DataError, LabError
from labkit.records.names import SIZES, STUDENTS
from labkit.tasks.atlas.facts import RELATIONS, Atlas


def mixed_prompts(n: int = 40, seed: int = 4) -> list[list[int]]:
    prompts = models.tokenizer().prompts([q.text for q in Atlas("half").questions(n, seed)])
    assert n < 12 or len({len(p) for p in prompts}) > 4, "lengths must differ, or padding is not tested"
    return prompts


@torch.no_grad()
def read(model, prompt: list[int], answer: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """States and log-probabilities at the answer's positions by one plain pass: one row, no padding, no cache."""
    hidden = model.model(torch.tensor([[*prompt, *answer]]), use_cache=False).last_hidden_state[0, len(prompt) - 1 : -1]
    return hidden, model.lm_head(hidden).log_softmax(-1)


# ---- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_writing_is_what_a_plain_pass_says(tiny_teacher, temperature: float):
    prompts = mixed_prompts()
    written = models.write(tiny_teacher, prompts, temperature=temperature, seed=3, keep_hidden=True)
    assert len({len(w.ids) for w in written}) > 3, "answers of many lengths, so that rows leave the batch at different times"
    for prompt, (ids, logprobs, states) in zip(prompts, written, strict=True):
        hidden, wanted = read(tiny_teacher, prompt, ids)
        if temperature == 0:
            best = wanted.topk(2).values
            tied = (best[:, 0] - best[:, 1]) < 1e-5
            assert ((wanted.argmax(-1) == torch.tensor(ids)) | tied).all()
        torch.testing.assert_close(torch.tensor(logprobs), wanted[range(len(ids)), ids], rtol=0, atol=1e-4)
        assert states.shape == hidden.shape
        torch.testing.assert_close(states, hidden, rtol=0, atol=1e-4)


def test_answers_end_at_the_end_mark_or_at_the_limit(tiny_teacher):
    prompts = mixed_prompts()
    for limit in (1, 3, models.LONGEST_ANSWER):
        for ids, logprobs, states in models.write(tiny_teacher, prompts, limit=limit):
            assert states is None
            assert len(ids) == len(logprobs) <= limit
            assert models.EOS not in ids[:-1]
            assert ids[-1] == models.EOS or len(ids) == limit
    long, short = models.write(tiny_teacher, prompts), models.write(tiny_teacher, prompts, limit=2)
    assert [w.ids[:2] for w in long] == [w.ids for w in short]


def test_company_in_the_batch_changes_no_greedy_answer(tiny_teacher):
    prompts = mixed_prompts(16)
    together = [w.ids for w in models.write(tiny_teacher, prompts)]
    assert together == [models.write(tiny_teacher, [p])[0].ids for p in prompts]
    assert together[::-1] == [w.ids for w in models.write(tiny_teacher, prompts[::-1])]


def test_an_untrained_student_can_be_asked_too(tiny_data):
    written = models.write(models.student("22k"), mixed_prompts(8), keep_hidden=True)
    assert all(1 <= len(w.ids) <= models.LONGEST_ANSWER and w.hidden.shape == (len(w.ids), 16) for w in written)


def test_writing_leaves_the_model_and_the_global_random_state_alone(tiny_teacher):
    student = models.student("22k")
    for mode in (True, False):
        student.train(mode)
        before, weights = torch.random.get_rng_state(), models.fingerprint(student)
        models.write(student, mixed_prompts(4), temperature=1.0, seed=9)
        assert student.training is mode
        assert torch.equal(torch.random.get_rng_state(), before)
        assert models.fingerprint(student) == weights
        assert all(p.grad is None for p in student.parameters())


def test_same_seed_same_text(tiny_teacher):
    prompts = mixed_prompts(24)

    def text(seed: int) -> list[list[int]]:
        return [w.ids for w in models.write(tiny_teacher, prompts, temperature=1.0, seed=seed)]

    assert text(1) == text(1) != text(2)
    assert [w.ids for w in models.write(tiny_teacher, prompts, seed=1)] == [w.ids for w in models.write(tiny_teacher, prompts, seed=2)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_distribution(temperature: float):
    """Chi-square of the first token over 6,000 samples, rare tokens pooled; the seed is fixed, so it passes or it does not."""
    model = models.student("200k", 1).eval()  # untrained: many tokens are about as likely
    prompt = models.tokenizer().prompts(["Name a country in Africa."])[0]
    n = 6_000
    p = (read(model, prompt, [models.EOS])[1][0] / temperature).softmax(-1)
    written = models.write(model, [prompt] * n, temperature=temperature, seed=5, limit=1)
    counts = torch.bincount(torch.tensor([w.ids[0] for w in written]), minlength=len(p)).double()
    expected = p.double() * n
    common = expected >= 5
    assert common.sum() > 3
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    wanted = torch.cat([expected[common], expected[~common].sum()[None]])
    freedom = len(wanted) - 1
    statistic = float(((observed - wanted) ** 2 / wanted.clamp(min=1e-9)).sum())
    assert abs(statistic - freedom) < 4.5 * (2 * freedom) ** 0.5, (statistic, freedom)


# ---- batches -----------------------------------------------------------------------------------------------------------

ids = st.integers(1, 1023)
pairs = st.lists(st.tuples(st.lists(ids, min_size=1, max_size=9), st.lists(ids, min_size=1, max_size=7)), min_size=1, max_size=6)


@given(pairs)
def test_the_mask_marks_exactly_the_answer_predictions(pairs):
    tokens, mask, labels = models.pad([p for p, _ in pairs], [a for _, a in pairs])
    assert tokens.shape == mask.shape == (len(pairs), max(len(p) + len(a) for p, a in pairs) - 1)
    assert mask.dtype == torch.bool
    assert int(mask.sum()) == len(labels) == sum(len(a) for _, a in pairs)
    found = iter(labels.tolist())
    for row, (prompt, answer) in enumerate(pairs):
        full = [*prompt, *answer]
        assert tokens[row, : len(full) - 1].tolist() == full[:-1]
        assert (tokens[row, len(full) - 1 :] == models.EOS).all()
        for column in range(tokens.shape[1]):
            asked = len(prompt) - 1 <= column < len(full) - 1
            assert bool(mask[row, column]) is asked
            if asked:
                assert next(found) == full[column + 1]


def test_padding_touches_nothing_that_is_scored(tiny_teacher):
    prompts = mixed_prompts(12)
    answers = [w.ids for w in models.write(tiny_teacher, prompts, temperature=1.0, seed=1)]
    with torch.no_grad():
        together = models.answer_states(tiny_teacher, models.pad(prompts, answers))
    alone = torch.cat([read(tiny_teacher, p, a)[0] for p, a in zip(prompts, answers, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


# ---- tokenizer ---------------------------------------------------------------------------------------------------------


def test_tokens_round_trip():
    world, tokenizer = Atlas(), models.tokenizer()
    assert tokenizer.size == 1024
    answers = sorted({a for r in RELATIONS if r not in ("chain", "compare") for f in world.facts(r) for a in f.answers})
    encoded = tokenizer.answers(answers)
    assert [tokenizer.text(row) for row in encoded] == answers
    for row in (*encoded, *tokenizer.prompts([q.text for q in world.exam(20)])):
        assert all(0 <= token < 1024 for token in row)
    assert all(row[-1] == models.EOS and models.EOS not in row[:-1] for row in encoded)
    prompts = tokenizer.prompts(["What is 23 + 38?", ""])
    assert prompts[0][0] == models.EOS
    assert models.EOS not in prompts[0][1:]
    assert prompts[1] == [models.EOS]
    digits = tokenizer.answers(["1984"])[0]
    assert [tokenizer.token(t).strip() for t in digits] in (["1", "9", "8", "4", "<end>"], ["", "1", "9", "8", "4", "<end>"])


@given(st.text(max_size=30))
def test_any_text_can_be_asked(text: str):
    prompt = models.tokenizer().prompts([text])[0]
    assert prompt[0] == models.EOS
    assert all(0 <= t < 1024 for t in prompt)


def test_what_is_typed_cannot_end_the_question():
    """A special token spelt out in a question is text, or a learner could begin a new row inside their own."""
    assert models.EOS not in models.tokenizer().prompts(["What is <eos> the capital?"])[0][1:]


def test_the_longest_answer_fits():
    world, tokenizer = Atlas(), models.tokenizer()
    longest = max(
        len(row) for r in RELATIONS if r != "compare" for row in tokenizer.answers([a for f in world.facts(r) for a in f.answers])
    )
    assert longest <= models.LONGEST_ANSWER


# ---- students ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_names_of_sizes_are_true(size: str):
    named = float(size.rstrip("km")) * (1e6 if size.endswith("m") else 1e3)
    model = models.student(size)
    assert models.parameters(model) == pytest.approx(named, rel=0.1)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    hidden, layers, heads = SIZES[size]
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (hidden, layers)
    assert hidden % heads == 0 and model.config.head_dim % 2 == 0


def test_students_are_reproducible_and_leave_the_random_state_alone():
    torch.manual_seed(42)
    before = torch.random.get_rng_state()
    first, again, other = models.student("22k", 3), models.student("22k", 3), models.student("22k", 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert models.fingerprint(first) == models.fingerprint(again) != models.fingerprint(other)


def test_a_fingerprint_sees_every_weight():
    model = models.student("22k")
    seen = {models.fingerprint(model)}
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        seen.add(models.fingerprint(model))
    assert len(seen) == 1 + len(list(model.parameters()))


@pytest.mark.parametrize("size", ["58k", "", "3M!"])
def test_unknown_size(size: str):
    with pytest.raises(LabError) as caught:
        models.student(size)
    for known in STUDENTS:
        assert known in str(caught.value)


# ---- teachers ----------------------------------------------------------------------------------------------------------


def test_a_teacher_is_frozen_and_in_eval_mode(tiny_teacher):
    assert not tiny_teacher.training
    assert not any(p.requires_grad for p in tiny_teacher.parameters())
    assert all(p.dtype == torch.float32 for p in tiny_teacher.parameters())
    assert models.teacher(TEACHER) is tiny_teacher


def test_saving_keeps_the_weights_to_half_precision(tmp_path: Path, tiny_data):
    model = models.student("57k", 5)
    before, mode = models.fingerprint(model), model.training
    models.save(model, tmp_path / "mine", {"why": "test"})
    assert models.fingerprint(model) == before
    assert model.training is mode
    assert next(model.parameters()).dtype == torch.float32
    back = models.teacher(str(tmp_path / "mine"))
    for (name, old), (same, new) in zip(model.named_parameters(), back.named_parameters(), strict=True):
        assert name == same
        torch.testing.assert_close(new, old.detach().half().float(), rtol=0, atol=0)
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    assert set(manifest) == {"config.json", "model.safetensors", "note"}
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {"config.json", "model.safetensors", "manifest.json"}


@pytest.mark.parametrize("name", ["atlas-200q", "atlas", "no/such/folder", "..", "."])
def test_unknown_teachers_say_what_there_is(tiny_data, name: str):
    with pytest.raises(LabError, match=TEACHER):
        models.teacher(name)


@pytest.fixture
def damaged(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny teacher's folder in a copy of the data that a test may damage."""
    shutil.copytree(tiny_data, tmp_path / "data", symlinks=True)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    models.teacher.cache_clear()
    return tmp_path / "data" / "teachers" / TEACHER


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "empty", "missing"])
def test_a_damaged_teacher_is_named_with_what_rebuilds_it(damaged: Path, file: str, how: str):
    path = damaged / file
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    match how:
        case "flip":
            path.write_bytes(raw)
        case "cut":
            path.write_bytes(raw[: len(raw) // 2])
        case "empty":
            path.write_bytes(b"")
        case "missing":
            path.unlink()
    with pytest.raises(DataError) as caught:
        models.teacher(TEACHER)
    assert str(path) in str(caught.value)
    assert "labkit build teachers" in str(caught.value)


def test_a_missing_folder_of_a_known_teacher_says_how_to_restore_it(damaged: Path):
    shutil.rmtree(damaged)
    with pytest.raises(DataError) as caught:
        models.teacher(TEACHER)
    assert TEACHER in str(caught.value)
    assert "git checkout -- data" in str(caught.value)


@pytest.mark.parametrize("name", ["{}/own", "./own", "own/"])
def test_a_folder_of_one_s_own_may_be_named_as_one_types_it(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    models.save(models.student("22k"), tmp_path / "own", {})
    monkeypatch.chdir(tmp_path)
    assert models.teacher(name.format(tmp_path)).config.hidden_size == 16


def test_a_folder_with_a_weight_missing_is_refused(tiny_data: Path, tmp_path: Path):
    """`transformers` would fill it in at random, and a random layer would teach."""
    from safetensors.torch import load_file, save_file

    models.save(models.student("22k"), tmp_path / "own", {})
    path = tmp_path / "own" / "model.safetensors"
    kept = load_file(path)
    kept.pop("model.layers.1.mlp.up_proj.weight")
    save_file(kept, path, {"format": "pt"})
    with pytest.raises(LabError, match="own"):
        models.teacher(str(tmp_path / "own"))


@pytest.mark.parametrize("how", ["weights", "config", "missing"])
def test_a_damaged_folder_of_one_s_own_is_an_error_in_words(tiny_data: Path, tmp_path: Path, how: str):
    folder = tmp_path / "own"
    models.save(models.student("22k"), folder, {})
    path = folder / ("config.json" if how == "config" else "model.safetensors")
    path.unlink() if how == "missing" else path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LabError, match="own"):
        models.teacher(str(folder))


def test_a_teacher_with_another_vocabulary_is_refused(tiny_data: Path, tmp_path: Path):
    made = models.config("22k")
    made.vocab_size = 512
    from transformers import LlamaForCausalLM

    models.save(LlamaForCausalLM(made), tmp_path / "other", {})
    with pytest.raises(LabError, match=r"512.*1024"):
        models.teacher(str(tmp_path / "other"))


def test_a_damaged_tokenizer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_data: Path):
    shutil.copytree(tiny_data, tmp_path / "data")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    path = tmp_path / "data" / "tokenizers" / "atlas.json"
    path.write_text(path.read_text()[:-5])
    models.tokenizer.cache_clear()
    try:
        with pytest.raises(DataError, match=r"atlas\.json.*build tokenizer"):
            models.tokenizer()
    finally:
        models.tokenizer.cache_clear()
