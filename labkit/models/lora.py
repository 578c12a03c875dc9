"""LoRA: the student keeps its weights and learns a low-rank correction to each (Hu et al. 2021, arXiv 2106.09685), with peft.

add(student, rank=8)                      # from here on only the adapter's weights are trained
save(student, "adapter"); merged(student)  # the adapter alone, in peft's format; a plain model with the adapter merged in
loaded(base, "adapter")                    # a copy of the base with a saved adapter merged in
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from labkit.base import tensors
from labkit.base.errors import LabError, reading
from labkit.base.files import json_object
from labkit.base.manifest import refuse_changed, seal
from labkit.models.parts import body_of, config_of, vocabulary_of

REFUSED = dict.fromkeys(("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"), "out_proj")  # maps that peft does not take
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def add(student: Any, rank: int, seed: int = 0) -> None:
    """Freeze a student and add an adapter to every linear map of its body. A new adapter does not change the output.

    Weights of other kinds, as the experts of a mixture that are stored in one tensor, get none; `share` tells how much is covered.

    seed: determines the adapter's first weights.

    Raises `LabError` if the student has an adapter already.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if has(student):
        raise LabError("this student has an adapter already: merge it first with labkit.models.lora.merged(student).")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets_of(student))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, student)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_("lora_" in name)
    student.lora = config


def maps_of(student: Any) -> dict[str, nn.Module]:
    """The linear maps of a model's body by name. Raises `LabError` if it has none.

    A subclass of a linear map may compute something else, which an adapter beside it would not follow; so it is none. Nor is a map whose
    weight the model's code reads without calling the map, as Mamba's `dt_proj`: an adapter beside it would do nothing.
    """
    body, head = body_of(student), student.get_output_embeddings()
    refused = REFUSED.get(config_of(student).model_type, "")
    maps = {
        name: part
        for name, part in body.named_modules()
        if type(part) in (nn.Linear, Conv1D) and part is not head and name.rpartition(".")[2] != refused
    }
    if not maps or any(isinstance(part, nn.RNNBase) for part in body.modules()):
        raise LabError(f"{type(student).__name__} has no linear maps to adapt: train all weights, with adapter=0.")
    aside = _read_aside(student, maps)
    return {name: part for name, part in maps.items() if name not in aside}


def _read_aside(student: Any, maps: Mapping[str, nn.Module]) -> set[str]:
    """Those of some maps that are not called in a pass over a few tokens, though their weights take part in it. (A map that is not called
    may also be of an expert that was not chosen.)"""
    body, idle, training = body_of(student), dict(maps), student.training
    tokens = torch.arange(1, 5, device=student.device)[None] % vocabulary_of(student)
    hooks = [part.register_forward_hook(lambda *_, name=name: _drop(idle, name)) for name, part in maps.items()]
    asked = {name: parameter.requires_grad for name, parameter in student.named_parameters()}
    body.eval()
    try:
        with torch.no_grad():
            body(tokens, use_cache=False)
        for hook in hooks:
            hook.remove()
        student.requires_grad_(False)
        weights: list[Any] = [part.weight.requires_grad_(True) for part in idle.values()]
        with torch.enable_grad():
            states = body(tokens, use_cache=False).last_hidden_state
        used = torch.autograd.grad(states.sum(), weights, allow_unused=True) if states.requires_grad else [None] * len(weights)
        return {name for name, gradient in zip(idle, used, strict=True) if gradient is not None}
    except Exception:  # code of any family, which may not take so short a row
        return set()
    finally:
        for hook in hooks:
            hook.remove()
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(asked[name])
        student.train(training)


def _drop(idle: dict[str, nn.Module], name: str) -> None:
    idle.pop(name, None)


def targets_of(student: Any) -> list[str] | str:
    """The maps as peft takes them: short names for a Llama, whose maps are `TARGETS`; otherwise a pattern of full names, because peft
    replaces the short names of some families by others."""
    maps, body = maps_of(student), body_of(student)
    if {name.rpartition(".")[2] for name in maps} == set(TARGETS):
        return list(TARGETS)
    prefix = next(name for name, part in student.named_modules() if part is body)
    return "|".join(sorted(re.escape(f"{prefix}.{name}") for name in maps))


def weights_in(body: nn.Module) -> int:
    """The number of weights in a body's matrices, without embeddings and adapters."""
    embedded = {id(p) for part in body.modules() if isinstance(part, nn.Embedding) for p in part.parameters(recurse=False)}
    return sum(p.numel() for name, p in body.named_parameters() if p.dim() > 1 and "lora_" not in name and id(p) not in embedded)


def share(student: Any) -> float:
    """The share of the weights of an adapted student's layers that its adapter covers."""
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [part for part in body_of(student).modules() if isinstance(part, LoraLayer)]
    named = [(layer.get_base_layer(), getattr(layer, "parameter_name", "weight")) for layer in layers]  # experts: of one tensor each
    return sum(getattr(base, name).numel() for base, name in named) / max(1, weights_in(body_of(student)))


def has(student: Any) -> bool:
    """Whether a model has a LoRA adapter."""
    return any("lora_" in name for name, _ in student.named_parameters())


def save(student: Any, folder: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Save the adapter alone, in the format of `peft.PeftModel.from_pretrained(base, folder)`, with a manifest. Returns the folder."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(student, adapter_name="default")
    save_file(
        {f"base_model.model.{name}": tensor.detach().cpu().to(dtype).contiguous() for name, tensor in state.items()},
        folder / "adapter_model.safetensors",
    )
    config = copy.deepcopy(student.lora)
    config.task_type = "CAUSAL_LM"
    config.save_pretrained(str(folder))
    seal(folder, "", {"adapter_config.json": {}, "adapter_model.safetensors": {}})
    return folder


@torch.no_grad()
def merged(student: Any) -> Any:
    """A plain model with the adapter merged into the weights. The student does not change."""
    from peft.tuners.lora import LoraLayer

    plain: Any = copy.deepcopy(student)
    adapted: list[tuple[str, Any]] = [(name, part) for name, part in plain.named_modules() if isinstance(part, LoraLayer)]
    for _, layer in adapted:
        layer.merge()
    for name, layer in adapted:
        above, _, last = name.rpartition(".")
        if last != "base_layer":  # the tensors of one module are wrapped one in another
            setattr(plain.get_submodule(above), last, layer.get_base_layer())
    vars(plain).pop("lora", None)
    return plain.requires_grad_(True)


@torch.no_grad()
def loaded(base: Any, folder: str | Path) -> Any:
    """A copy of `base` with a saved adapter merged in, in fp32.

    Raises `LabError` if the folder has no adapter for this model, or it has changed since it was saved.
    """
    from safetensors.torch import load_file

    refuse_changed(Path(folder))
    both = copy.deepcopy(base)
    with reading(folder, "Give a folder that `labkit.models.lora.save` wrote.", "is no adapter for this model"):
        settings = json_object(Path(folder) / "adapter_config.json", "Save the adapter again.")
        rank = settings["r"]
        if not isinstance(rank, int) or not 0 < rank <= 10_000:
            raise ValueError(f"its rank r is {rank!r}")
        state = load_file(Path(folder) / "adapter_model.safetensors")
        add(both, rank)
        own = both.lora.to_dict()
        for key in ("lora_alpha", "use_rslora", "use_dora", "alpha_pattern", "rank_pattern", "fan_in_fan_out"):
            if (settings.get(key) or None) != (own[key] or None):  # older files lack some
                raise ValueError(f"its {key} is {settings.get(key)}, and the lab's {own[key]}")
        for name, parameter in both.named_parameters():
            if "lora_" in name:
                saved = f"base_model.model.{name.replace('.default', '')}"
                tensors.fill(parameter, state, saved)
                del state[saved]
        if state:
            raise ValueError(f"it also has {next(iter(state))}")
    return merged(both)
