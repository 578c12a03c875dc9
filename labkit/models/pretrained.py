"""Pretrained models: a fetched one by name, a folder, or a hub id; and tokenizers with a chat template.

    teacher = load("smollm2")                       # after `labkit fetch smollm2`
    ids = teacher.chat.prompts(["What is the capital of Chad?"])

Only safetensors are loaded, and no code of the model is run. Padding rows of the vocabulary, which the tokenizer does not have, are
removed.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from labkit.base.errors import LabError
from labkit.base.files import fill_whole
from labkit.models import lora
from labkit.records.model_folders import folder_of

transformers.utils.logging.disable_progress_bar()  # not useful in a notebook

LONGEST = 48  # tokens of an answer, if the recipe does not set it
PLACE = "\ufdd0"  # stands for the question in a template: a character that Unicode reserves, so it is in no text
WRONG_NAMES = "{} ({}) has no parts `model` and `lm_head`, as a Llama has, which the lab needs. Use Llama, Qwen, Mistral or SmolLM."


def context_of(name: str) -> float:
    """The context length of a model in tokens, from its config.json; infinity if it has none or the model is not on this machine."""
    try:
        context = json.loads((folder_of(name) / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    except (LabError, OSError, ValueError, AttributeError):
        return math.inf  # `load` will report the problem
    return context if isinstance(context, int) else math.inf


class ChatTokenizer:
    """A pretrained model's tokenizer with its chat template (plain text if it has none), with the interface of `AtlasTokenizer`.

    longest: the most tokens of an answer.

    Raises `LabError` if the folder has no tokenizer, or one without an end mark or with a template that cannot be used.
    """

    def __init__(self, folder: Path, name: str, longest: int = LONGEST) -> None:
        try:
            self.inner = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise LabError(f"{folder} has no tokenizer that can be read: {error} It needs tokenizer.json beside the weights.") from None
        if self.inner.eos_token_id is None:
            raise LabError(f"the tokenizer in {folder} has no end mark, so no answer would end: set eos_token in tokenizer_config.json.")
        self.name, self.longest, self.size = name, longest, len(self.inner)
        self.end = int(self.inner.eos_token_id)
        self.before, self.behind = self._template()
        text = (
            self.inner.backend_tokenizer.to_str()
            if hasattr(self.inner, "backend_tokenizer")
            else repr(sorted(self.inner.get_vocab().items()))
        )
        self.fingerprint = hashlib.blake2b(f"{text}{self.before}{self.behind}".encode(), digest_size=8).hexdigest()

    def _template(self) -> tuple[list[int], list[int]]:
        """Token ids before and after a question. Raises `LabError` for a template that does not take a single question."""
        if not self.inner.chat_template:
            begin = [self.inner.bos_token_id] if self.inner.bos_token_id is not None else []
            return begin, self.inner.encode("\n", add_special_tokens=False)
        try:
            text = self.inner.apply_chat_template([{"role": "user", "content": PLACE}], tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program, and may raise any error
            raise LabError(
                f"the chat template of {self.name} does not take a single question from a user: {error}. Correct chat_template in its "
                "tokenizer_config.json, or remove it to ask in plain text."
            ) from None
        before, question, behind = text.partition(PLACE)
        if not question:
            raise LabError(f"the chat template of {self.name} leaves out the question: correct chat_template in tokenizer_config.json.")
        return self.inner.encode(before, add_special_tokens=False), self.inner.encode(behind, add_special_tokens=False)

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of plain text: a typed end mark is a few characters, not the end mark."""
        if not texts:
            return []
        return self.inner(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of questions, in the template."""
        return [[*self.before, *ids, *self.behind] for ids in self._plain(texts)]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of answers, each with the end mark."""
        return [[*ids, self.end] for ids in self._plain(texts)]

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer's token ids."""
        return self.inner.decode(list(ids), skip_special_tokens=True).strip()

    def token(self, token_id: int) -> str:
        """The text of one token, for display."""
        return "<end>" if token_id == self.end else self.inner.decode([token_id])


def load(name: str, dtype: torch.dtype = torch.bfloat16, longest: int = LONGEST) -> PreTrainedModel:
    """A pretrained model, frozen and in eval mode, with its `ChatTokenizer` as `.chat`.

    name: a fetched model, a folder or a hub id (see `folder_of`).
    longest: the most tokens of an answer.

    Raises `LabError` for a model that is not on this machine, is damaged, has no safetensors, needs code of its own, or changes its
    logits after the head.
    """
    folder = folder_of(name)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, ImportError) as error:
        raise LabError(f"{folder} cannot be loaded: {str(error).splitlines()[0]} It needs config.json and whole safetensors.") from None
    if absent := sorted(set(info["missing_keys"]) - {"lm_head.weight"}):
        raise LabError(f"{folder} lacks the weights {', '.join(absent[:3])}; they would be random. Save the whole model again.")
    if not hasattr(model, "model") or not hasattr(model, "lm_head"):
        raise LabError(WRONG_NAMES.format(name, type(model).__name__))
    behind = [
        key
        for key in ("final_logit_softcapping", "logits_scaling", "logit_scale")
        if getattr(model.config, key, None) not in (None, 1, 1.0)
    ]
    if behind:
        raise LabError(f"{name} changes its logits after the head ({behind[0]}), which the lab does not: choose a model without it.")
    model.chat = ChatTokenizer(folder, name, longest)
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < model.chat.size:
        raise LabError(
            f"the tokenizer in {folder} has {model.chat.size:,} tokens, and the model's embedding {rows:,}: give it the tokenizer "
            "it was made with, or save it again after model.resize_token_embeddings(len(tokenizer))."
        )
    if rows > model.chat.size:  # padding rows, which differ between sizes of one family
        model.resize_token_embeddings(model.chat.size, mean_resizing=False)
    return model.eval().requires_grad_(False)


@functools.lru_cache(maxsize=1)
def kept(name: str, longest: int) -> PreTrainedModel:
    """As `load`, but the last model is kept in memory, for several runs with one teacher."""
    return load(name, longest=longest)


def save(model: Any, folder: Path) -> None:
    """Save a model as a Hugging Face folder with its tokenizer, in bf16, all files or none. An adapter is merged in."""

    def write(part: Path) -> None:
        plain = lora.merged(model) if lora.has(model) else copy.deepcopy(model)
        plain.to(torch.bfloat16).save_pretrained(part, safe_serialization=True)
        model.chat.inner.save_pretrained(part)

    fill_whole(folder, write)
