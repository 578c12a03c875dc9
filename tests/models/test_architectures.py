"""Students of other architectures: causal, as large, writing with a cache what they would write without, and resumable."""

from __future__ import annotations

import pytest
import torch
from conftest import TEACHER

from labkit import models
from labkit.base.errors import LabError
from labkit.models import architectures
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import ARCHITECTURES
from labkit.records.record import mean
from labkit.tasks.atlas.facts import Atlas
from labkit.training.loop import Run
from labkit.training.prerequisites import warm_recipe

KINDS = tuple(architectures.ARCHITECTURES)
OTHERS = KINDS[1:]
TINY = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=6)


pytestmark = pytest.mark.usefixtures("quick")


def prompts(n: int = 24) -> list[list[int]]:
    found = models.tokenizer().prompts([q.text for q in Atlas("half").questions(n, 4)])
    assert len({len(p) for p in found}) > 4, "lengths must differ, or padding is not tested"
    return found


def test_the_field_lists_them_all():
    assert KINDS == ARCHITECTURES
    with pytest.raises(LabError, match="unknown architecture"):
        models.student("22k", 0, architecture="mamba")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["22k", "57k", "200k"])
def test_they_have_as_many_parameters_as_the_llama(kind: str, size: str):
    llama = models.parameters(models.student(size))
    assert models.parameters(models.student(size, 0, architecture=kind)) == pytest.approx(llama, rel=0.01)
    assert architectures.count(models.config(size)) == llama


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_one_student_and_leaves_the_global_state_alone(kind: str):
    before = torch.random.get_rng_state()
    first, again, other = (models.student("22k", seed, architecture=kind) for seed in (3, 3, 4))
    assert models.fingerprint(first) == models.fingerprint(again) != models.fingerprint(other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.get_output_embeddings().weight is first.get_input_embeddings().weight


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_future_does_not_change_the_past(kind: str):
    model = models.student("57k", 1, architecture=kind).eval()
    tokens = torch.randint(1, 1024, (2, 12), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 7:] = 5
    one, other = (model.base_model(t, use_cache=False).last_hidden_state for t in (tokens, changed))
    torch.testing.assert_close(one[:, :7], other[:, :7], rtol=0, atol=1e-6)
    assert (one[:, 7:] - other[:, 7:]).abs().max() > 1e-2
    assert not torch.allclose(one[:, 6], model.base_model(tokens[:, 1:], use_cache=False).last_hidden_state[:, 5], atol=1e-3), (
        "it reads all"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_writing_is_what_a_plain_pass_says(kind: str, temperature: float):
    """Padded, cached and with rows leaving, against one unpadded row read at once."""
    recipe = TINY.but(student="57k", architecture=kind, method="gold", gold=1_000, learning_rate=2e-2, batch=64, steps=40)
    run = Run(recipe)  # so that answers end early
    for _ in run:
        pass
    asked = prompts()
    written = models.write(run.student, asked, temperature=temperature, seed=3, keep_hidden=True)
    assert len({len(w.ids) for w in written}) > 1
    for prompt, (ids, logprobs, states) in zip(asked, written, strict=True):
        with torch.no_grad():
            hidden = run.student.base_model(torch.tensor([[*prompt, *ids]]), use_cache=False).last_hidden_state[0, len(prompt) - 1 : -1]
            wanted = run.student.lm_head(hidden).log_softmax(-1)
        if temperature == 0:
            best = wanted.topk(2).values
            assert ((wanted.argmax(-1) == torch.tensor(ids)) | (best[:, 0] - best[:, 1] < 1e-5)).all()
        torch.testing.assert_close(torch.tensor(logprobs), wanted[range(len(ids)), ids], rtol=0, atol=1e-4)
        torch.testing.assert_close(states, hidden, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_recurrent_body_is_the_gated_unit_of_the_paper():
    """Against the equations written out, one token at a time (Cho et al. 2014, with the reset gate after the product, as in cuDNN)."""
    body = models.student("22k", 2, architecture="recurrent").model
    tokens = torch.tensor([[5, 9, 300, 7]])
    x, units = body.embed_tokens(tokens)[0], body.units
    for layer in range(units.num_layers):
        w_x, w_h, b_x, b_h = (getattr(units, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h, out = torch.zeros(units.hidden_size), []
        for one in x:
            (r_x, z_x, n_x), (r_h, z_h, n_h) = (w_x @ one + b_x).chunk(3), (w_h @ h + b_h).chunk(3)
            z = (z_x + z_h).sigmoid()
            h = (1 - z) * (n_x + (r_x + r_h).sigmoid() * n_h).tanh() + z * h
            out.append(h)
        x = torch.stack(out)
    wanted = body.norm(x @ body.down.weight.T)
    torch.testing.assert_close(body(tokens).last_hidden_state[0], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("method", ["output", "gold", "sequence", "online", "mutual"])
def test_every_method_that_needs_outputs_alone_trains_them(kind: str, method: str):
    events = list(Run(TINY.but(architecture=kind, method=method, learning_rate=3e-2, batch=32, steps=10)))
    losses = [e.values["loss"] for e in events if isinstance(e, ev.Step)]
    assert losses[-1] < losses[0]
    assert events[0].student_parameters == models.parameters(models.student("22k", 0, architecture=kind))
    assert kind in events[0].title
    assert 0 <= mean(next(e for e in reversed(events) if isinstance(e, ev.Evaluated)).skills) <= 1


@pytest.mark.parametrize("kind", OTHERS)
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, kind: str):
    exp = TINY.but(architecture=kind, method="online")
    whole = Run(exp)
    list(whole)
    first = Run(exp, tmp_path, 3)
    for event in first:
        if isinstance(event, ev.Step) and event.step == 4:
            first.folder.close()
            break
    again = Run(exp, tmp_path, 3)
    told = list(again)
    assert any(isinstance(e, ev.Warned) and "goes on from step 3" in e.message for e in told)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_warm_start_is_of_its_own_kind(kind: str, monkeypatch: pytest.MonkeyPatch):
    recipe = warm_recipe(TINY.but(architecture=kind), 0)
    assert recipe.architecture == kind
    cold, warm = (next(e for e in Run(TINY.but(architecture=kind, start=s)) if isinstance(e, ev.Step)) for s in ("random", "warm"))
    assert warm.values["loss"] < cold.values["loss"]


def test_a_question_too_long_for_learned_positions_is_refused():
    long = [[models.EOS] + [7] * 120]
    with pytest.raises(LabError, match="128 positions"):
        models.write(models.student("22k", 0, architecture="gpt2"), long)
    assert models.write(models.student("22k", 0, architecture="recurrent"), long)


def test_the_baseline_is_of_the_same_architecture():
    exp = Experiment(student="57k", architecture="gpt2")
    assert exp.baseline().architecture == exp.baseline("same questions").architecture == "gpt2"
