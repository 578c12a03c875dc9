"""What goes on inside a model at its answer tokens, noted on the way of one pass."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.models.load import Rows

HEADS = 2  # relation heads: both widths are cut into this many, whatever heads the models attend with (MiniLMv2)


class Seen(NamedTuple):
    """A model at its answer tokens: final states `(N, D)`; the residual stream after each layer asked for, `(N, L, D)`; and the
    last layer's self-attention relations `(N, 3 HEADS, T)`, probabilities over the positions up to the token's own."""

    final_N_D: Tensor
    hidden_N_L_D: Tensor | None
    relations_N_R_T: Tensor | None


def look(model: LlamaForCausalLM, rows: Rows, layers: Sequence[int] = (), relations: bool = False) -> Seen:
    """Run a model over rows once, and note what is asked for on the way."""
    device, inner = model.device, model.model
    mask_B_T = rows.mask_B_T.to(device)
    hidden: dict[int, Tensor] = {}
    heads: list[Tensor] = []
    with contextlib.ExitStack() as stack:
        for layer in set(layers):
            module = inner.layers[layer - 1] if layer else inner.embed_tokens
            stack.callback(module.register_forward_hook(lambda _, __, out, layer=layer: hidden.update({layer: out[mask_B_T]})).remove)
        if relations:
            attention = inner.layers[-1].self_attn
            for module in (attention.q_proj, attention.k_proj, attention.v_proj):
                stack.callback(module.register_forward_hook(lambda _, __, out: heads.append(out)).remove)
        final = inner(rows.tokens_B_T.to(device), use_cache=False).last_hidden_state[mask_B_T]
    return Seen(
        final,
        torch.stack([hidden[layer] for layer in layers], 1) if layers else None,
        _relations(heads, mask_B_T) if relations else None,
    )


def _relations(parts_B_T_D: Sequence[Tensor], mask_B_T: Tensor) -> Tensor:
    """How alike the queries (and keys, and values) of a token and of those up to it are: softmax of their scaled products
    (Wang et al. 2020, MiniLMv2, arXiv 2012.15828, eq. 5 to 7; causal, since these models are)."""
    found = []
    length = mask_B_T.shape[1]
    future = torch.ones(length, length, dtype=torch.bool, device=mask_B_T.device).triu(1)
    for part in parts_B_T_D:
        split_B_H_T_d = part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        scores = split_B_H_T_d @ split_B_H_T_d.transpose(-1, -2) / math.sqrt(split_B_H_T_d.shape[-1])
        found.append(scores.masked_fill(future, -math.inf).softmax(-1).transpose(1, 2)[mask_B_T])
    return torch.cat(found, 1)
