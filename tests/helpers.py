"""What several test files need, and no fixture is."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from labkit.models import tokenizer
from labkit.records.experiment import Experiment

CONFIG = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32, "tie_word_embeddings": True}


def toml(exp: Experiment) -> str:
    """A recipe as a TOML file holds it."""
    return "[experiment]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in exp.to_dict().items())


def made(folder: Path, layers: int, seed: int, rows: int = 0, **config) -> Path:
    """A random Llama with the Atlas tokenizer as `transformers` knows it, chat template and all."""
    torch.manual_seed(seed)
    size = tokenizer().size + rows
    shape = CONFIG | {"hidden_size": 16, "num_hidden_layers": layers, "vocab_size": size, "eos_token_id": 0, "bos_token_id": 0}
    LlamaForCausalLM(LlamaConfig(**(shape | config))).save_pretrained(folder)
    tokenizer().for_transformers().save_pretrained(folder)
    return folder
