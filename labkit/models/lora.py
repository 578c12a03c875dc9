"""LoRA: the student keeps its weights and learns a low-rank correction to each (Hu et al. 2021, arXiv 2106.09685), with peft.

add(student, rank=8)                      # from here on only the adapter's weights are trained
save(student, "adapter"); merged(student)  # the adapter alone, in peft's format; a plain model with the adapter merged in
loaded(base, "adapter")                    # a copy of the base with a saved adapter merged in
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from labkit.base.errors import LabError

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def add(student: LlamaForCausalLM, rank: int, seed: int = 0) -> None:
    """Freeze a student and add an adapter to every linear map of its layers. A new adapter does not change the output.

    seed: determines the adapter's first weights.

    Raises `LabError` if the student has an adapter already.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if has(student):
        raise LabError("this student has an adapter already: merge it first with labkit.models.lora.merged(student).")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(TARGETS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, student)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_("lora_" in name)


def has(student: LlamaForCausalLM) -> bool:
    """Whether a model has a LoRA adapter."""
    return any("lora_" in name for name, _ in student.named_parameters())


def save(student: LlamaForCausalLM, folder: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Save the adapter alone, in the format of `peft.PeftModel.from_pretrained(base, folder)`. Returns the folder."""
    from peft import LoraConfig, get_peft_model_state_dict
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(student, adapter_name="default")
    save_file(
        {f"base_model.model.{name}": tensor.detach().cpu().to(dtype).contiguous() for name, tensor in state.items()},
        folder / "adapter_model.safetensors",
    )
    rank = next(p.shape[0] for name, p in student.named_parameters() if "lora_A" in name)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    config.save_pretrained(str(folder))
    return folder


@torch.no_grad()
def merged(student: LlamaForCausalLM) -> LlamaForCausalLM:
    """A plain model with the adapter merged into the weights. The student does not change."""
    from peft.tuners.lora import LoraLayer

    plain = type(student)(student.config)
    both = copy.deepcopy(student)
    for module in both.modules():
        if isinstance(module, LoraLayer):
            module.merge()
    state = {name.replace(".base_layer", ""): tensor for name, tensor in both.state_dict().items() if "lora_" not in name}
    plain.load_state_dict(state)
    return plain.train(student.training)


@torch.no_grad()
def loaded(base: LlamaForCausalLM, folder: str | Path) -> LlamaForCausalLM:
    """A copy of `base` with a saved adapter merged in, in fp32. Raises `LabError` if the folder has no adapter for this model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    both = copy.deepcopy(base)
    try:
        rank = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        state = load_file(Path(folder) / "adapter_model.safetensors")
        add(both, rank)
        for name, parameter in both.named_parameters():
            if "lora_" in name:
                parameter.copy_(state.pop(f"base_model.model.{name.replace('.default', '')}"))
        if state:
            raise ValueError(f"it also has {next(iter(state))}")
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        why = f"{type(error).__name__}: {error}"
        raise LabError(f"{folder} is no adapter for this model ({why}). Give a folder that `labkit.models.lora.save` wrote.") from None
    return merged(both)
