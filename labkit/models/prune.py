"""Students cut out of their teacher: some of its layers, of its MLP neurons and of its attention heads, with the weights they had.

    student, cut = prune(teacher, layers=15)                 # 15 layers, evenly spread, the first and the last among them
    student, cut = prune(teacher, layers=15, by="influence", rows=rows)      # rows: texts to measure on; else it writes some
    student, cut = prune(teacher, width=0.75, groups=2)      # three quarters of the neurons, two key-value heads with their queries
    save(student, cut, "folder", tokenizer)

Depth after ShortGPT (Men et al. 2024, arXiv 2403.03853), width after Minitron (Muralidharan et al. 2024, arXiv 2407.14679). The hidden
size stays: taking channels out of the residual stream moves every norm, so nothing of the teacher would be left exactly as it was.
"""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from labkit.base.errors import LabError, unknown
from labkit.models import load, pretrained
from labkit.models.load import parameters
from labkit.records.names import named_model

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")  # made of the same parts, under the same names
RULES = ("spread", "influence")
Rows = Sequence[Sequence[int]]  # texts as token ids, to measure importance on


class Cut(NamedTuple):
    """What was kept, `of` what there was: numbers of layers (from 0), neurons a layer, and key-value heads a layer."""

    layers: tuple[int, ...]
    of_layers: int
    neurons: int
    of_neurons: int
    groups: int
    of_groups: int
    parameters: int
    of_parameters: int
    by: str
    tokens: int  # that importance was measured on
    written: bool  # by the teacher itself

    def lines(self) -> list[str]:
        measured = f"measured on {self.tokens:,} tokens" + " it wrote itself" * self.written
        by = f"{self.by}, {measured}" if self.by == "influence" else self.by
        found = [
            f"layers: {len(self.layers)} of {self.of_layers} ({by}): {', '.join(map(str, self.layers))}",
            f"MLP neurons a layer: {self.neurons:,} of {self.of_neurons:,}",
            f"key-value heads a layer: {self.groups} of {self.of_groups}",
            f"parameters: {self.parameters:,} of {self.of_parameters:,} ({self.parameters / self.of_parameters:.1%})",
        ]
        if self.neurons < self.of_neurons or self.groups < self.of_groups:
            found.insert(3, f"neurons and heads by importance, {measured}")
        return found


class Pruned(NamedTuple):
    student: PreTrainedModel
    cut: Cut


def prune(
    teacher: PreTrainedModel,
    layers: int | Sequence[int] | None = None,
    width: float = 1.0,
    groups: int | None = None,
    by: str = "spread",
    rows: Rows = (),
) -> Pruned:
    """A smaller copy of a model, which is left as it is.

    layers: how many are kept, chosen `by` spread or influence, or which (from 0). width: share of the MLP neurons kept. groups: key-value
    heads kept, each with all the queries that read it. rows: texts as token ids, on which importance is measured; some that the
    teacher writes itself otherwise. Raises `LabError` for another architecture, or more than there is.
    """
    family(teacher)
    config = teacher.config
    of_layers, of_neurons, of_groups = config.num_hidden_layers, config.intermediate_size, config.num_key_value_heads
    layers = of_layers if layers is None else layers
    if not 0 < width <= 1:
        raise LabError(f"width={width:g} is the share of the MLP neurons that is kept: more than 0 and at most 1, as in width=0.75.")
    neurons = max(1, round(width * of_neurons))
    groups = of_groups if groups is None else groups
    if not 1 <= groups <= of_groups:
        raise LabError(
            f"groups={groups} is out of range: this model has {of_groups} key-value heads a layer, and 1 to {of_groups} can stay."
        )
    narrower = neurons < of_neurons or groups < of_groups
    measured = narrower or (by == "influence" and isinstance(layers, int))
    written = measured and not rows
    rows = own_words(teacher) if written else rows if measured else ()
    kept = _layers(teacher, layers, by, rows)
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
    return Pruned(student.eval(), Cut(kept, of_layers, neurons, of_neurons, groups, of_groups, *sizes, by, sum(map(len, rows)), written))


def family(model: PreTrainedModel) -> None:
    """Raises `LabError` for a model that is not made of the parts that can be cut here."""
    kind = getattr(model.config, "model_type", type(model).__name__)
    if kind not in FAMILIES:
        raise LabError(
            f"{type(model).__name__} is a {kind!r} model, and pruning here knows the parts of {', '.join(FAMILIES)} alone: layers of "
            "separate query, key, value, gate, up and down maps. Choose a teacher of one of these, or give a smaller student of its "
            "family by name."
        )


# ---- which layers ----------------------------------------------------------------------------------------------------------------


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

    with _hooked((layer, partial(note, number)) for number, layer in enumerate(model.model.layers)):
        _read(model, rows)
    return [total / sum(map(len, rows)) for total in sums]


def _layers(teacher: PreTrainedModel, asked: int | Sequence[int], by: str, rows: Rows) -> tuple[int, ...]:
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


# ---- which neurons and heads -----------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """The mean size of every input of a layer's down and output maps: of each neuron, and of each number a head hands on."""

    neurons_F: Tensor
    heads_H: Tensor


@torch.no_grad()
def said(model: PreTrainedModel, rows: Rows) -> list[Said]:
    """What the neurons and heads of every layer say on these texts, without a sign (Minitron's activation-based importance)."""
    layers = model.model.layers
    sums = [Said(torch.zeros(_down(x).in_features), torch.zeros(_out(x).in_features)) for x in layers]

    def note(total: Tensor, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        total += args[0].float().abs().flatten(0, -2).sum(0).cpu()

    places = [(place, total) for layer, own in zip(layers, sums, strict=True) for place, total in zip((_down(layer), _out(layer)), own)]
    with _hooked(((place, partial(note, total)) for place, total in places), before=True):
        _read(model, rows)
    tokens = sum(map(len, rows))
    return [Said(own.neurons_F / tokens, own.heads_H / tokens) for own in sums]


@torch.no_grad()
def importance(layer: nn.Module, inputs: Said) -> Said:
    """Of each neuron, and of each number a head hands on: how large it is on texts, times the norm of the weights that read it, so that
    what nobody reads counts for nothing."""
    return Said(*(size * place.weight.float().norm(dim=0).cpu() for size, place in zip(inputs, (_down(layer), _out(layer)))))


class Kept(NamedTuple):
    """The numbers of what stays in a layer: neurons; rows of the query map; rows of the key and value maps."""

    neurons: Tensor
    queries: Tensor
    keys: Tensor


def _indices(teacher: PreTrainedModel, kept: Sequence[int], neurons: int, groups: int, inputs: list[Said] | None) -> dict[int, Kept]:
    """What stays in every layer that stays. All of it is taken in its old order, so that what is not cut is not shuffled either."""
    found, of_groups = {}, teacher.config.num_key_value_heads
    for number in kept:
        layer = teacher.model.layers[number]
        neuron, group = torch.arange(_down(layer).in_features), torch.arange(of_groups)
        if inputs:
            score = importance(layer, inputs[number])
            neuron = score.neurons_F.topk(neurons).indices.sort().values
            group = score.heads_H.view(of_groups, -1).sum(1).topk(groups).indices.sort().values
        queries, keys = (
            torch.arange(n).view(of_groups, -1)[group].flatten() for n in (_out(layer).in_features, layer.self_attn.k_proj.out_features)
        )
        found[number] = Kept(neuron, queries, keys)
    return found


def _cut(part: str, tensor: Tensor, neurons: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """One of a layer's tensors, with the rows or columns that stay; a bias is cut as the rows are. Norms stay whole."""
    rows = {"gate_proj": neurons, "up_proj": neurons, "q_proj": queries, "k_proj": keys, "v_proj": keys}
    columns = {"down_proj": neurons, "o_proj": queries}
    linear, kind = part.split(".")[-2:]
    if linear in rows:
        return tensor[rows[linear].to(tensor.device)]
    return tensor[:, columns[linear].to(tensor.device)] if linear in columns and kind == "weight" else tensor


def _empty(teacher: PreTrainedModel, kept: Sequence[int], neurons: int, groups: int) -> PreTrainedModel:
    """A model of the new shape. Built anew, so that every layer has its new number, which is its place in a KV cache."""
    values: dict[str, Any] = {}
    for name, value in teacher.config.to_dict().items():  # layer_types, no_rope_layers: one entry a layer
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


def save(student: PreTrainedModel, cut: Cut, folder: str | Path, tokenizer: Any = None, teacher: str = "its teacher") -> Path:
    """A Hugging Face folder: safetensors, config, the teacher's tokenizer, and a card that says what was kept.

    Raises `LabError` for a folder that has something in it, or that the disk does not take; then nothing of it is left.
    """
    folder = _new(Path(folder))
    try:
        student.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(_card(cut, teacher), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise LabError(f"the student cannot be written to {folder} ({error}): make room there, or give another folder.") from None
    return folder


def _new(folder: Path) -> Path:
    """An empty folder. Raises `LabError` if it cannot be made, or has something in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"{folder} is there already, and nothing is overwritten: give another folder, or remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"the folder {folder} cannot be made ({error.strerror}): give another.") from None
    return folder


def _card(cut: Cut, teacher: str) -> str:
    lines = "\n".join(f"- {line}" for line in cut.lines())
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [pruned, distillation]\n---\n"
        f"# Cut out of {teacher}\n\n{lines}\n\n"
        "Everything kept has the weights it had; nothing was trained after the cut, so this is where a student starts, not a model to "
        f"use. Its licence is that of {teacher}.\n\nMade by `labkit prune` of the Distillation Lab.\n"
    )


def prune_folder(
    teacher: str, out: str | Path, layers: int | Sequence[int] | None, width: float, groups: int | None, by: str, texts: Sequence[str]
) -> Cut:
    """What `labkit prune` does: a teacher by name, and a folder for the student."""
    _new(Path(out))  # before anything is measured
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


# ---- looking on ------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _hooked(places: Any, before: bool = False) -> Iterator[None]:
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
def _read(model: PreTrainedModel, rows: Rows) -> None:
    """Every text by itself, so that no padding is measured."""
    for row in rows:
        model.model(torch.tensor([list(row)], device=model.device), use_cache=False)


def _down(layer: Any) -> nn.Linear:
    return layer.mlp.down_proj


def _out(layer: Any) -> nn.Linear:
    return layer.self_attn.o_proj
