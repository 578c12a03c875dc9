"""Hidden states and attention relations of a model at its answer tokens, collected by hooks in one forward pass."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.base.errors import LabError
from labkit.models.parts import Placed, answer_states, layers_of

RELATION_HEADS = 2  # both models' widths are split into this many relation heads, whatever their attention heads (MiniLMv2)


class Activations(NamedTuple):
    """A model's activations at its N answer tokens."""

    final_N_D: Tensor  # final states
    hidden_N_L_D: Tensor | None  # the residual stream after each requested layer
    # self-attention relations of the last layer, R = 3 RELATION_HEADS: probabilities over the positions up to the token's own
    relations_N_R_T: Tensor | None


def run_with_hooks(
    model: LlamaForCausalLM, rows: Placed, layers: Sequence[int] = (), relations: bool = False, attend_1_1_T_T: Tensor | None = None
) -> Activations:
    """Run a model over rows once and collect activations.

    layers: collect the residual stream after these layers; 0 is the embedding.
    relations: collect the attention relations of the last layer.
    attend_1_1_T_T: see `answer_states`.

    Raises `LabError` for a model without the layers, or without the separate maps of attention, that are asked for.
    """
    parts, at_N = layers_of(model), rows.at_N.to(model.device)
    kind = type(model).__name__
    if max(layers, default=0) > len(parts):
        raise LabError(f"{kind} has no list of layers that the lab finds, so its hidden states cannot be compared: use method=output.")
    last = getattr(parts[-1], "self_attn", None) if len(parts) else None
    maps: list[Any] = [getattr(last, name, None) for name in ("q_proj", "k_proj", "v_proj")] if relations else []
    if None in maps:
        raise LabError(
            f"the last layer of {kind} has no q_proj, k_proj and v_proj, so its relations cannot be compared: use method=hidden."
        )
    groups = getattr(last, "num_key_value_groups", None)
    if maps and isinstance(groups, int) and (queries := maps[1].out_features * groups) != maps[0].out_features:
        raise LabError(
            f"q_proj of {kind} gives {maps[0].out_features} numbers, and its queries are {queries} of them (the others are a gate), so its "
            "relations cannot be compared: use method=hidden."
        )
    hidden: dict[int, Tensor] = {}
    heads: list[Tensor] = []
    with contextlib.ExitStack() as stack:
        for layer in set(layers):
            module = parts[layer - 1] if layer else model.get_input_embeddings()
            stack.callback(module.register_forward_hook(lambda _, __, out, layer=layer: hidden.update({layer: _at(out, at_N)})).remove)
        for module in maps:
            stack.callback(module.register_forward_hook(lambda _, __, out: heads.append(out)).remove)
        final_N_D = answer_states(model, rows, attend_1_1_T_T)
    return Activations(
        final_N_D,
        torch.stack([hidden[layer] for layer in layers], 1) if layers else None,
        _relations(heads, at_N) if relations else None,
    )


def output_of(out: Any) -> Tensor:
    """The states in the output of a layer, which is a tensor or a tuple that begins with it."""
    return out if isinstance(out, Tensor) else out[0]


def _at(out: Any, at_N: Tensor) -> Tensor:
    return output_of(out).flatten(0, 1).index_select(0, at_N)


def _relations(parts_B_T_D: Sequence[Tensor], at_N: Tensor) -> Tensor:
    """Query-query, key-key and value-value relations: softmax of the scaled products of a token with the tokens up to it.

    Source: Wang et al. 2020, MiniLMv2, arXiv 2012.15828, eq. 5 to 7, here causal as the models are.
    """
    relations = []
    length = parts_B_T_D[0].shape[1]
    future = torch.ones(length, length, dtype=torch.bool, device=at_N.device).triu(1)
    for part in parts_B_T_D:
        split_B_H_T_d = part.unflatten(-1, (RELATION_HEADS, -1)).transpose(1, 2)
        scores = split_B_H_T_d @ split_B_H_T_d.transpose(-1, -2) / math.sqrt(split_B_H_T_d.shape[-1])
        relations.append(scores.masked_fill(future, -math.inf).softmax(-1).transpose(1, 2).flatten(0, 1).index_select(0, at_N))
    return torch.cat(relations, 1)
