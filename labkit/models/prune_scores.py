"""What of a model matters, so that the rest can be cut away: layers by their influence, neurons and heads by what they say."""

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
    """`count` layers, evenly spread, with the first and the last among them (the last alone if it is one)."""
    return tuple(round(i * (of - 1) / (count - 1)) for i in range(count)) if count > 1 else (of - 1,)


@torch.no_grad()
def influence(model: PreTrainedModel, rows: Rows) -> list[float]:
    """What each layer does to the residual stream: 1 - cosine of what goes in and what comes out, a mean over all tokens (ShortGPT's
    block influence)."""
    sums = [0.0] * model.config.num_hidden_layers

    def note(number: int, _: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        sums[number] += float((1 - F.cosine_similarity(args[0].float(), out.float(), dim=-1)).sum())

    with hooked((layer, partial(note, number)) for number, layer in enumerate(model.model.layers)):
        read(model, rows)
    return [total / sum(map(len, rows)) for total in sums]


def layers_to_keep(teacher: PreTrainedModel, asked: int | Sequence[int], by: str, rows: Rows) -> tuple[int, ...]:
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
        raise LabError(f"layers={asked} is out of range: this model has {of}, and 1 to {of} of them can stay.")
    if by == "spread" or asked == of:
        return evenly(asked, of)
    found = influence(teacher, rows)
    return tuple(sorted(sorted(range(of), key=lambda i: -found[i])[:asked]))


class LayerActivity(NamedTuple):
    """The mean size of every input of a layer's down and output maps: of each neuron, and of each number a head hands on."""

    neurons_F: Tensor
    heads_H: Tensor


@torch.no_grad()
def said(model: PreTrainedModel, rows: Rows) -> list[LayerActivity]:
    """What the neurons and heads of every layer say on these texts, without a sign (Minitron's activation-based importance)."""
    layers = model.model.layers
    sums = [LayerActivity(torch.zeros(down(x).in_features), torch.zeros(out(x).in_features)) for x in layers]

    def note(total: Tensor, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        total += args[0].float().abs().flatten(0, -2).sum(0).cpu()

    places = [(place, total) for layer, own in zip(layers, sums, strict=True) for place, total in zip((down(layer), out(layer)), own)]
    with hooked(((place, partial(note, total)) for place, total in places), before=True):
        read(model, rows)
    tokens = sum(map(len, rows))
    return [LayerActivity(own.neurons_F / tokens, own.heads_H / tokens) for own in sums]


@torch.no_grad()
def importance(layer: nn.Module, inputs: LayerActivity) -> LayerActivity:
    """Of each neuron, and of each number a head hands on: how large it is on texts, times the norm of the weights that read it, so that
    what nobody reads counts for nothing."""
    return LayerActivity(*(size * place.weight.float().norm(dim=0).cpu() for size, place in zip(inputs, (down(layer), out(layer)))))


@contextlib.contextmanager
def hooked(places: Any, before: bool = False) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module, note in places:
            add: Callable[[Any], Any] = module.register_forward_pre_hook if before else module.register_forward_hook
            stack.callback(add(note).remove)
        yield


@torch.no_grad()
def own_words(model: PreTrainedModel, texts: int = 16, tokens: int = 64) -> list[list[int]]:
    """Texts that a model writes from nothing, at temperature 1; the same every time."""
    first = model.config.bos_token_id if model.config.bos_token_id is not None else model.config.eos_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = model.generate(
            torch.full((texts, 1), first, device=model.device),
            attention_mask=torch.ones((texts, 1), dtype=torch.long, device=model.device),
            do_sample=True,
            top_k=0,
            min_new_tokens=tokens - 1,  # an early end would leave nothing to measure on
            max_new_tokens=tokens - 1,
            pad_token_id=first,
        )
    return found.tolist()


@torch.no_grad()
def read(model: PreTrainedModel, rows: Rows) -> None:
    """Every text by itself, so that no padding is measured."""
    for row in rows:
        model.model(torch.tensor([list(row)], device=model.device), use_cache=False)


def down(layer: Any) -> nn.Linear:
    return layer.mlp.down_proj


def out(layer: Any) -> nn.Linear:
    return layer.self_attn.o_proj
