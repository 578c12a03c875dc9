"""Importance scores for pruning: layers by their influence, neurons and heads by their activations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from labkit.base.errors import LabError, unknown

RULES = ("spread", "influence")
Rows = Sequence[Sequence[int]]  # texts as token ids, to measure importance on


def evenly(count: int, of: int) -> tuple[int, ...]:
    """`count` of `of` layers, evenly spread, with the first and the last (only the last if `count` is 1)."""
    return tuple(round(i * (of - 1) / (count - 1)) for i in range(count)) if count > 1 else (of - 1,)


@torch.no_grad()
def influence(model: PreTrainedModel, rows: Rows) -> list[float]:
    """The influence of each layer: 1 - cosine of its input and output in the residual stream, mean over all tokens.

    Source: block influence, ShortGPT.
    """
    sums = [0.0] * model.config.num_hidden_layers

    def note(number: int, _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        sums[number] += float((1 - F.cosine_similarity(args[0].float(), out.float(), dim=-1)).sum())

    with hooked((layer, partial(note, number)) for number, layer in enumerate(model.model.layers)):
        read(model, rows)
    return [total / sum(map(len, rows)) for total in sums]


def layers_to_keep(teacher: PreTrainedModel, asked: int | Sequence[int], by: str, rows: Rows) -> tuple[int, ...]:
    """The layers to keep, from 0.

    asked: how many, or which.
    by: one of `RULES`, if `asked` is a number.
    rows: texts to measure influence on.

    Raises `LabError` for layers that the model does not have, or an unknown rule.
    """
    of = teacher.config.num_hidden_layers
    if not isinstance(asked, int):
        kept = tuple(asked)
        if not kept or sorted(set(kept)) != list(kept) or kept[0] < 0 or kept[-1] >= of:
            raise LabError(
                f"layers {', '.join(map(str, kept)) or 'none'} cannot be kept: give rising numbers from 0 to {of - 1}, each once."
            )
        return kept
    if by not in RULES:
        raise unknown("rule for layers", by, RULES)
    if not 1 <= asked <= of:
        raise LabError(f"layers={asked} is out of range: this model has {of}, and 1 to {of} of them can be kept.")
    if by == "spread" or asked == of:
        return evenly(asked, of)
    scores = influence(teacher, rows)
    return tuple(sorted(sorted(range(of), key=lambda i: -scores[i])[:asked]))


class LayerActivity(NamedTuple):
    """A score for each input of a layer's down map and of its attention output map; as measured, the mean absolute value."""

    neurons_F: Tensor  # of each MLP neuron
    heads_H: Tensor  # of each output channel of the attention heads


@torch.no_grad()
def said(model: PreTrainedModel, rows: Rows) -> list[LayerActivity]:
    """Mean absolute activations of the neurons and heads of each layer on these texts.

    Source: activation-based importance, Minitron.
    """
    layers = model.model.layers
    sums = [LayerActivity(torch.zeros(down(x).in_features), torch.zeros(out(x).in_features)) for x in layers]

    def note(total: Tensor, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        total += args[0].float().abs().flatten(0, -2).sum(0).cpu()

    maps = [(linear, total) for layer, both in zip(layers, sums, strict=True) for linear, total in zip((down(layer), out(layer)), both)]
    with hooked(((linear, partial(note, total)) for linear, total in maps), before=True):
        read(model, rows)
    tokens = sum(map(len, rows))
    return [LayerActivity(total.neurons_F / tokens, total.heads_H / tokens) for total in sums]


@torch.no_grad()
def importance(layer: nn.Module, inputs: LayerActivity) -> LayerActivity:
    """The importance of each neuron and head channel: its mean absolute activation, times the norm of the weights that read it."""
    return LayerActivity(*(size * linear.weight.float().norm(dim=0).cpu() for size, linear in zip(inputs, (down(layer), out(layer)))))


@contextlib.contextmanager
def hooked(places: Any, before: bool = False) -> Iterator[None]:
    """Hooks that are removed at the end.

    places: pairs of a module and its hook.
    before: call the hooks before the module's forward pass instead of after it.
    """
    with contextlib.ExitStack() as stack:
        for module, note in places:
            add: Callable[[Any], Any] = module.register_forward_pre_hook if before else module.register_forward_hook
            stack.callback(add(note).remove)
        yield


@torch.no_grad()
def own_words(model: PreTrainedModel, texts: int = 16, tokens: int = 64) -> list[list[int]]:
    """Texts that a model writes without a prompt, at temperature 1, as token ids; the same in each call."""
    first = model.config.bos_token_id if model.config.bos_token_id is not None else model.config.eos_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows = model.generate(
            torch.full((texts, 1), first, device=model.device),
            attention_mask=torch.ones((texts, 1), dtype=torch.long, device=model.device),
            do_sample=True,
            top_k=0,
            min_new_tokens=tokens - 1,  # after an early end there would be nothing to measure on
            max_new_tokens=tokens - 1,
            pad_token_id=first,
        )
    return rows.tolist()


@torch.no_grad()
def read(model: PreTrainedModel, rows: Rows) -> None:
    """A forward pass over each text by itself, so that no padding is measured."""
    for row in rows:
        model.model(torch.tensor([list(row)], device=model.device), use_cache=False)


def down(layer: Any) -> nn.Linear:
    """The down map of a layer's MLP."""
    return layer.mlp.down_proj


def out(layer: Any) -> nn.Linear:
    """The output map of a layer's attention."""
    return layer.self_attn.o_proj
