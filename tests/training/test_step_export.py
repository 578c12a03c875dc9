"""The step is a pure function: traced and exported once, its graph trains as the engine does."""

from __future__ import annotations

import pytest
import torch
from conftest import TEACHER
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from labkit import models
from labkit.base.settings import default
from labkit.losses.batch import Knobs, MicroBatch, Objective, Signal, step_loss
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers.signals import Signals
from labkit.training import batches, loop, readers
from labkit.training.loop import Run
from labkit.training.methods import comparison, method, weights

EXP = Experiment(student="7k", teacher=TEACHER, questions=128, batch=8, steps=20)
STEPS, POSITIONS, TOKENS = 20, 40, 96  # of which shapes the graph is: shorter rows and fewer tokens are filled up
pytestmark = pytest.mark.usefixtures("quick")


class OneStep(torch.nn.Module):
    """Everything between the tensors of a batch and its loss."""

    def __init__(self, exp: Experiment) -> None:
        super().__init__()
        self.student = models.student(exp.student, exp.seed).train()
        reader = readers.reader_of(exp, method(exp.method), self.student, None, None, default())
        self.objective = Objective(reader.read, method(exp.method).terms, comparison(exp))
        self.share = weights(exp.mix, exp.feature)

    def forward(self, batch: MicroBatch, logits_M_V: torch.Tensor, temperature: torch.Tensor, tokens: torch.Tensor):
        knobs = Knobs(temperature, self.share, tokens, torch.ones(()))
        loss, told = step_loss(self.student, batch, Signal(logits_M_V), knobs, self.objective)
        return loss, told["kl"]


def with_gradients(module: OneStep, names: list[str]):
    """A function of plain tensors: parameters and inputs to loss, KL and gradients."""

    def step(*tensors: torch.Tensor):
        leaves = [p.detach().requires_grad_() for p in tensors[: len(names)]]
        tokens, at, labels, pool, attend, weight, logits, temperature, count = tensors[len(names) :]
        batch = MicroBatch(tokens, at, labels, pool, torch.arange(0), attend, weight)
        loss, kl = functional_call(module, dict(zip(names, leaves, strict=True)), (batch, logits, temperature, count), tie_weights=True)
        return (loss.detach(), kl, *torch.autograd.grad(loss, leaves))

    return step


def filled(tensor: torch.Tensor, *shape: int) -> torch.Tensor:
    """The tensor in a corner of zeros."""
    full = torch.zeros(shape, dtype=tensor.dtype)
    full[tuple(slice(0, n) for n in tensor.shape)] = tensor
    return full


def inputs(pool: Signals, drawn: batches.StepRows, temperature: float) -> tuple[torch.Tensor, ...]:
    """A step's rows, filled up to the shapes of the graph with padding that weighs nothing."""
    rows = models.pad(drawn.prompts, drawn.answers)
    row, column = rows.mask_B_T.nonzero(as_tuple=True)
    n, width = len(row), rows.tokens_B_T.shape[1]
    assert width <= POSITIONS
    assert n <= TOKENS
    return (
        filled(rows.tokens_B_T, len(drawn.prompts), POSITIONS),
        filled(row * POSITIONS + column, TOKENS),
        filled(rows.labels_N, TOKENS),
        torch.arange(TOKENS),
        torch.ones(POSITIONS, POSITIONS, dtype=torch.bool).tril()[None, None],
        filled(torch.ones(n), TOKENS),
        filled(pool.logits(pool.hidden(drawn.pool_rows)), TOKENS, 1024),
        torch.tensor(temperature),
        torch.tensor(float(n)),
    )


@pytest.mark.parametrize("changes", [{"temperature": 2.0}, {"divergence": "jsd"}], ids=["forward KL at T = 2", "JSD"])
def test_twenty_steps_of_the_exported_step_are_the_engine_s(tiny_teacher, changes: dict):
    exp = EXP.but(**changes)
    run = Run(exp, exams=0)
    told = [event.values for event in run if isinstance(event, ev.Step)]

    module = OneStep(exp)
    parameters = dict(module.named_parameters())
    pool = Signals(tiny_teacher, Atlas(exp.scale).questions(exp.questions, batches.POOL_SEED), chunk=32)
    feed = batches.BatchSampler(exp, (), pool, models.tokenizer())
    drawn = []
    for _ in range(STEPS):
        rows = feed.next_rows(exp.batch, 0.0)
        list(pool.prepare(rows[0]))
        drawn.append(feed.draw(*rows))
    step, first = with_gradients(module, list(parameters)), inputs(pool, drawn[0], exp.temperature)
    example = (*(p.detach() for p in parameters.values()), *first)
    with sdpa_kernel(SDPBackend.MATH):
        traced = make_fx(step, _allow_non_fake_inputs=True)(*example)
    exported = torch.export.export(traced, example, strict=False).module()

    optimiser = torch.optim.AdamW(module.parameters(), betas=(0.9, 0.95), weight_decay=0.01)
    for number, (rows, values) in enumerate(zip(drawn, told, strict=True), start=1):
        loss, kl, *gradients = exported(*(p.detach() for p in parameters.values()), *inputs(pool, rows, exp.temperature))
        assert float(loss) == pytest.approx(values["loss"], rel=1e-5), number
        assert float(kl) == pytest.approx(values["kl"], rel=1e-5), number
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        assert float(norm) == pytest.approx(values["grad_norm"], rel=1e-4), number
        optimiser.param_groups[0]["lr"] = exp.learning_rate * loop.schedule(number, exp.steps)
        optimiser.step()
    mine, theirs = (torch.nn.utils.parameters_to_vector(model.parameters()) for model in (module, run.student))
    assert float(((mine - theirs).norm() / theirs.norm()).detach()) < 1e-5


def test_a_step_is_read_by_the_very_function_that_is_exported(monkeypatch: pytest.MonkeyPatch):
    """The engine's numbers are `step_loss`'s: half the loss there is half the loss told, and half the gradient."""

    def halved(*args):
        loss, values = step_loss(*args)
        return loss / 2, {name: value / 2 for name, value in values.items()}

    plain = next(event for event in Run(EXP, exams=0) if isinstance(event, ev.Step)).values
    monkeypatch.setattr(readers, "step_loss", halved)
    half = next(event for event in Run(EXP, exams=0) if isinstance(event, ev.Step)).values
    assert half["loss"] == pytest.approx(plain["loss"] / 2, rel=1e-6)
    assert half["grad_norm"] == pytest.approx(plain["grad_norm"] / 2, rel=1e-5)
