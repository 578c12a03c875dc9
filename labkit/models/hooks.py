"""What goes on inside a model at its answer tokens, noted on the way of one pass."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.models.load import Placed, answer_states

RELATION_HEADS = 2  # relation heads: both widths are cut into this many, whatever heads the models attend with (MiniLMv2)


class Activations(NamedTuple):
    """A model at its answer tokens: final states `(N, D)`; the residual stream after each layer asked for, `(N, L, D)`; and the
    last layer's self-attention relations `(N, 3 HEADS, T)`, probabilities over the positions up to the token's own."""

    final_N_D: Tensor
    hidden_N_L_D: Tensor | None
    relations_N_R_T: Tensor | None


def run_with_hooks(
    model: LlamaForCausalLM, rows: Placed, layers: Sequence[int] = (), relations: bool = False, attend_1_1_T_T: Tensor | None = None
) -> Activations:
    """Run a model over rows once, and note what is asked for on the way (`attend_1_1_T_T`: see `answer_states`)."""
    inner, at_N = model.model, rows.at_N.to(model.device)
    hidden: dict[int, Tensor] = {}
    heads: list[Tensor] = []
    with contextlib.ExitStack() as stack:
        for layer in set(layers):
            module = inner.layers[layer - 1] if layer else inner.embed_tokens
            stack.callback(module.register_forward_hook(lambda _, __, out, layer=layer: hidden.update({layer: _at(out, at_N)})).remove)
        if relations:
            attention = inner.layers[-1].self_attn
            for module in (attention.q_proj, attention.k_proj, attention.v_proj):
                stack.callback(module.register_forward_hook(lambda _, __, out: heads.append(out)).remove)
        final_N_D = answer_states(model, rows, attend_1_1_T_T)
    return Activations(
        final_N_D,
        torch.stack([hidden[layer] for layer in layers], 1) if layers else None,
        _relations(heads, at_N) if relations else None,
    )


def _at(of_B_T_D: Tensor, at_N: Tensor) -> Tensor:
    return of_B_T_D.flatten(0, 1).index_select(0, at_N)


def _relations(parts_B_T_D: Sequence[Tensor], at_N: Tensor) -> Tensor:
    """How alike the queries (and keys, and values) of a token and of those up to it are: softmax of their scaled products
    (Wang et al. 2020, MiniLMv2, arXiv 2012.15828, eq. 5 to 7; causal, since these models are)."""
    found = []
    length = parts_B_T_D[0].shape[1]
    future = torch.ones(length, length, dtype=torch.bool, device=at_N.device).triu(1)
    for part in parts_B_T_D:
        split_B_H_T_d = part.unflatten(-1, (RELATION_HEADS, -1)).transpose(1, 2)
        scores = split_B_H_T_d @ split_B_H_T_d.transpose(-1, -2) / math.sqrt(split_B_H_T_d.shape[-1])
        found.append(scores.masked_fill(future, -math.inf).softmax(-1).transpose(1, 2).flatten(0, 1).index_select(0, at_N))
    return torch.cat(found, 1)
