"""Pruning: a student made of some of its teacher's layers, MLP neurons and attention heads, with their weights.

    student, cut = prune(teacher, layers=15)                 # 15 layers, evenly spread, with the first and the last
    student, cut = prune(teacher, layers=15, by="influence", rows=rows)      # rows: texts to measure on; else the teacher writes some
    student, cut = prune(teacher, width=0.75, groups=2)      # three quarters of the neurons, two key-value heads with their queries
    save(student, cut, "folder", tokenizer)

Depth after ShortGPT (Men et al. 2024, arXiv 2403.03853), width after Minitron (Muralidharan et al. 2024, arXiv 2407.14679). The hidden
size does not change: without some channels of the residual stream every norm would differ, and no part would compute what it did.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from labkit.base.errors import LabError
from labkit.base.html import code_span
from labkit.base.manifest import seal_model
from labkit.models import load, pretrained
from labkit.models.parts import parameters
from labkit.models.prune_scores import LayerActivity, Rows, down, importance, layers_to_keep, out, own_words, said
from labkit.records.names import named_model

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")  # model types with the same parts under the same names


class PruneCut(NamedTuple):
    """What pruning kept. `of_NAME` is the teacher's number."""

    layers: tuple[int, ...]  # the kept ones, from 0
    of_layers: int
    neurons: int  # MLP neurons per layer
    of_neurons: int
    groups: int  # key-value heads per layer
    of_groups: int
    parameters: int
    of_parameters: int
    by: str  # how layers were chosen: "all", "as asked", "spread" or "influence"
    tokens: int  # that importance was measured on
    written: bool  # whether the teacher wrote these tokens

    def lines(self) -> list[str]:
        """The facts as lines of text."""
        measured = f"measured on {self.tokens:,} tokens" + " that the teacher wrote" * self.written
        by = f"{self.by}, {measured}" if self.by == "influence" else self.by
        lines = [
            f"layers: {len(self.layers)} of {self.of_layers} ({by}): {', '.join(map(str, self.layers))}",
            f"MLP neurons a layer: {self.neurons:,} of {self.of_neurons:,}",
            f"key-value heads a layer: {self.groups} of {self.of_groups}",
            f"parameters: {self.parameters:,} of {self.of_parameters:,} ({self.parameters / self.of_parameters:.1%})",
        ]
        if self.neurons < self.of_neurons or self.groups < self.of_groups:
            lines.insert(3, f"neurons and heads by importance, {measured}")
        return lines


class Pruned(NamedTuple):
    """The pruned student, and what was kept."""

    student: PreTrainedModel
    cut: PruneCut


def prune(
    teacher: PreTrainedModel,
    layers: int | Sequence[int] | None = None,
    width: float = 1.0,
    groups: int | None = None,
    by: str = "spread",
    rows: Rows = (),
) -> Pruned:
    """A smaller copy of a model. The model does not change.

    layers: how many layers are kept, or which (from 0); None for all.
    width: share of the MLP neurons kept.
    groups: key-value heads kept per layer, each with all its queries; None for all.
    by: how layers are chosen: "spread" or "influence".
    rows: texts as token ids, on which importance is measured; if there are none, the teacher writes some.

    Raises `LabError` for another architecture, or more parts than the model has.
    """
    family(teacher)
    config = teacher.config
    of_layers, of_neurons, of_groups = config.num_hidden_layers, config.intermediate_size, config.num_key_value_heads
    layers = of_layers if layers is None else layers
    if not 0 < width <= 1:
        raise LabError(f"width={width:g} must be the share of the MLP neurons to keep: above 0 and at most 1, as in width=0.75.")
    neurons = max(1, round(width * of_neurons))
    groups = of_groups if groups is None else groups
    if not 1 <= groups <= of_groups:
        raise LabError(
            f"groups={groups} is out of range: this model has {of_groups} key-value heads per layer, and 1 to {of_groups} can be kept."
        )
    narrower = neurons < of_neurons or groups < of_groups
    measured = narrower or (by == "influence" and isinstance(layers, int))
    written = measured and not rows
    rows = own_words(teacher) if written else rows if measured else ()
    kept = layers_to_keep(teacher, layers, by, rows)
    inputs = said(teacher, rows) if narrower else None
    wanted = _indices(teacher, kept, neurons, groups, inputs)
    state: dict[str, Tensor] = {}
    for name, tensor in teacher.state_dict().items():
        if not name.startswith("model.layers."):
            state[name] = tensor
            continue
        number, part = name.removeprefix("model.layers.").split(".", 1)
        if int(number) in wanted:
            state[f"model.layers.{kept.index(int(number))}.{part}"] = _cut(part, tensor, *wanted[int(number)])
    student = _empty(teacher, kept, neurons, groups)
    student.load_state_dict(state)
    student.tie_weights()
    student.generation_config = copy.deepcopy(teacher.generation_config)
    by = "all" if len(kept) == of_layers else by if isinstance(layers, int) else "as asked"
    sizes = parameters(student), parameters(teacher)
    return Pruned(
        student.eval(), PruneCut(kept, of_layers, neurons, of_neurons, groups, of_groups, *sizes, by, sum(map(len, rows)), written)
    )


def family(model: PreTrainedModel) -> None:
    """Raises `LabError` for a model whose architecture cannot be pruned here."""
    kind = getattr(model.config, "model_type", type(model).__name__)
    if kind not in FAMILIES:
        raise LabError(
            f"{type(model).__name__} is a {kind!r} model, and pruning supports only {', '.join(FAMILIES)}: layers with separate query, "
            "key, value, gate, up and down maps. Choose a teacher of one of these types, or give a smaller student of its family by name."
        )


# ---- which neurons and heads -----------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    """The indices of what is kept in a layer."""

    neurons: Tensor
    queries: Tensor  # rows of the query map
    keys: Tensor  # rows of the key and value maps


def _indices(
    teacher: PreTrainedModel, kept: Sequence[int], neurons: int, groups: int, inputs: list[LayerActivity] | None
) -> dict[int, Kept]:
    """What is kept in each kept layer, in its old order, so that a layer that keeps everything does not change."""
    indices, of_groups = {}, teacher.config.num_key_value_heads
    for number in kept:
        layer = teacher.model.layers[number]
        neuron, group = torch.arange(down(layer).in_features), torch.arange(of_groups)
        if inputs:
            score = importance(layer, inputs[number])
            neuron = score.neurons_F.topk(neurons).indices.sort().values
            group = score.heads_H.view(of_groups, -1).sum(1).topk(groups).indices.sort().values
        queries, keys = (
            torch.arange(n).view(of_groups, -1)[group].flatten() for n in (out(layer).in_features, layer.self_attn.k_proj.out_features)
        )
        indices[number] = Kept(neuron, queries, keys)
    return indices


def _cut(part: str, tensor: Tensor, neurons: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """One of a layer's tensors with the kept rows or columns. A bias is cut like the rows; norms are not cut."""
    rows = {"gate_proj": neurons, "up_proj": neurons, "q_proj": queries, "k_proj": keys, "v_proj": keys}
    columns = {"down_proj": neurons, "o_proj": queries}
    linear, kind = part.split(".")[-2:]
    if linear in rows:
        return tensor[rows[linear].to(tensor.device)]
    return tensor[:, columns[linear].to(tensor.device)] if linear in columns and kind == "weight" else tensor


def _empty(teacher: PreTrainedModel, kept: Sequence[int], neurons: int, groups: int) -> PreTrainedModel:
    """A new model of the pruned shape, in which each layer has its new number, which is its index in a KV cache."""
    values: dict[str, Any] = {}
    for name, value in teacher.config.to_dict().items():  # layer_types, no_rope_layers: one entry per layer
        if isinstance(value, list) and len(value) == teacher.config.num_hidden_layers and name.endswith(("layers", "layer_types")):
            values[name] = [value[i] for i in kept]
    config = copy.deepcopy(teacher.config)
    values |= {"num_hidden_layers": len(kept), "intermediate_size": neurons, "num_key_value_heads": groups}
    values["num_attention_heads"] = config.num_attention_heads // config.num_key_value_heads * groups
    values["head_dim"] = teacher.model.layers[0].self_attn.head_dim  # no longer hidden size / heads
    for name, value in values.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        return AutoModelForCausalLM.from_config(config, dtype=teacher.dtype).to(teacher.device)


# ---- on disk ---------------------------------------------------------------------------------------------------------------------


def save(student: PreTrainedModel, cut: PruneCut, folder: str | Path, tokenizer: Any = None, teacher: str = "its teacher") -> Path:
    """Save a pruned student as a Hugging Face folder: safetensors, config, tokenizer, and a card that says what was kept.

    folder: new or empty.
    tokenizer: the teacher's, in `transformers`; None to leave it out.
    teacher: its name, for the card.

    Returns the folder. Raises `LabError` for a folder that is not empty, or that cannot be written; then nothing of it is left.
    """
    folder = _new(Path(folder))
    try:
        student.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        seal_model(folder)
        (folder / "README.md").write_text(_card(cut, teacher), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise LabError(f"the student cannot be written to {folder} ({error}): free some space, or give another folder.") from None
    return folder


def _new(folder: Path) -> Path:
    """Creates an empty folder. Raises `LabError` if it cannot be created or is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"{folder} exists already, and nothing is overwritten: give another folder, or remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"the folder {folder} cannot be made ({error.strerror}): give another one.") from None
    return folder


def _card(cut: PruneCut, teacher: str) -> str:
    lines = "\n".join(f"- {line}" for line in cut.lines())
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [pruned, distillation]\n---\n"
        f"# Cut out of {code_span(teacher)}\n\n{lines}\n\n"
        "All kept parts have the teacher's weights. Nothing was trained after pruning, so this is a start for a student, not a model to "
        f"use. Its licence is that of {code_span(teacher)}.\n\nMade by `labkit prune` of the Distillation Lab.\n"
    )


def prune_folder(
    teacher: str, out: str | Path, layers: int | Sequence[int] | None, width: float, groups: int | None, by: str, texts: Sequence[str]
) -> PruneCut:
    """Prune a teacher and save the student, as `labkit prune` does.

    teacher: a shipped teacher, or a pretrained model.
    out: a new or empty folder for the student.
    layers, width, groups, by: as in `prune`.
    texts: to measure importance on; if there are none, the teacher writes some.

    Raises `LabError` as `prune` and `save` do.
    """
    _new(Path(out))  # checked before the teacher is loaded
    if named_model(teacher):
        model = pretrained.load(teacher)
        family(model)
        tokenizer = model.chat.inner
        rows = [ids for ids in tokenizer(list(texts))["input_ids"] if ids] if texts else []
    else:
        model, tokenizer = load.teacher(teacher), load.tokenizer().for_transformers()
        rows = load.tokenizer().prompts(texts)
    student, cut = prune(model, layers, width, groups, by, rows)
    save(student, cut, out, tokenizer, teacher)
    return cut
