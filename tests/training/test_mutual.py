"""Two students that teach each other: the gradient of either takes the other as it is, and a killed run keeps both."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import TEACHER

from labkit import models
from labkit.losses.divergences import divergence
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.training import methods
from labkit.training.loop import PEER, Run

TINY = Experiment(student="22k", teacher=TEACHER, gold=40, batch=8, steps=8, method="mutual", temperature=2.0)
NO, ALL = torch.arange(0), torch.arange(5)  # tokens of the pool, and gold ones

pytestmark = pytest.mark.usefixtures("quick")


def test_each_takes_the_other_as_it_is():
    generator = torch.Generator().manual_seed(0)
    own, peer = (torch.randn(5, 7, generator=generator).requires_grad_() for _ in range(2))
    labels = torch.arange(5)
    batch = methods.Batch(own, labels, NO, ALL, None, peer)
    terms = methods.mutual(batch, methods.comparison(TINY), 2.0)
    loss = sum(term.sum() for term in terms.values())
    grads = torch.autograd.grad(loss, (own, peer))
    for mine, other, found in ((own, peer, grads[0]), (peer, own, grads[1])):
        alone = F.cross_entropy(mine, labels, reduction="sum") + 4 * divergence("forward_kl")(other.detach(), mine, 2.0).sum()
        assert torch.allclose(found, torch.autograd.grad(alone, mine)[0], atol=1e-6)


def test_a_peer_that_is_the_student_adds_nothing():
    own = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    batch = methods.Batch(own, torch.arange(5), NO, ALL, None, own.clone())
    assert methods.mutual(batch, methods.comparison(TINY), 2.0)["mutual"].abs().max() < 1e-6


def test_both_are_trained_and_the_student_s_numbers_are_told():
    events = list(Run(TINY))
    steps = [e for e in events if isinstance(e, ev.Step)]
    assert {"loss", "ce", "mutual", "peer"} <= steps[0].values.keys()
    for step in steps:
        parts = step.values["ce"] + step.values["mutual"] + step.values["peer"]
        assert step.values["loss"] == pytest.approx(parts, rel=1e-5)
    assert isinstance(events[-1], ev.Finished)
    assert events[-1].cost["student_tokens"] % 2 == 0


def test_the_peer_is_trained_too(monkeypatch: pytest.MonkeyPatch):
    made = {}
    real = models.student
    monkeypatch.setattr(models, "student", lambda size, seed=0, **own: made.setdefault(seed, real(size, seed, **own)))
    list(Run(TINY))
    assert set(made) == {0, PEER}
    for seed, model in made.items():
        assert not torch.equal(model.lm_head.weight, real("22k", seed).lm_head.weight)
    assert not torch.equal(real("22k", 0).lm_head.weight, real("22k", PEER).lm_head.weight), "they begin differently"


@pytest.mark.parametrize("start", ["random", "warm"])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, start: str):
    exp = TINY.but(start=start)
    whole = Run(exp)
    wanted = [e.values for e in whole if isinstance(e, ev.Step)]
    cut = Run(exp, tmp_path, checkpoint_every=2)
    next(event for event in cut if isinstance(event, ev.Step) and event.step == 5)
    cut.close()
    again = Run(exp, tmp_path, checkpoint_every=2)
    events = list(again)
    assert any(isinstance(e, ev.Warned) and "goes on from step 4" in e.message for e in events)
    found = [e.values for e in events if isinstance(e, ev.Step)]
    assert found[:4] == [ev.plain(values) for values in wanted[:4]], "told again from its log"
    assert found[4:] == wanted[4:]
    for name, parameter in again.student.state_dict().items():
        assert torch.equal(parameter, whole.student.state_dict()[name]), name
