"""Models from elsewhere: a fetched one by name, a folder, or a hub id; and the chat template by which they are asked.

    teacher = load("smollm2")                       # after `labkit fetch smollm2`
    ids = teacher.chat.prompts(["What is the capital of Chad?"])

Weights are safetensors, and no code of theirs is run. What a model's tokenizer cannot say (rows of padding in its vocabulary) is cut off.
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

transformers.utils.logging.disable_progress_bar()  # noise in a notebook

LONGEST = 48  # tokens of an answer, if a recipe does not say
PLACE = "\ufdd0"  # a character that Unicode keeps out of all text: where the question stands in a template
WRONG_NAMES = (
    "{} ({}) does not name its parts as a Llama does (model, lm_head), so the lab cannot look inside. Use Llama, Qwen, Mistral or SmolLM."
)


def context_of(name: str) -> float:
    """How many tokens a model of this name has positions for, as its folder says; no end where it does not say, or is not here."""
    try:
        told = json.loads((folder_of(name) / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    except (LabError, OSError, ValueError, AttributeError):
        return math.inf  # whoever loads it says what is wrong
    return told if isinstance(told, int) else math.inf


class ChatTokenizer:
    """A model's own tokenizer, asked through its chat template (as plain text where it has none), under the names `AtlasTokenizer` has.

    longest: how many tokens an answer may take.
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
        said = (
            self.inner.backend_tokenizer.to_str()
            if hasattr(self.inner, "backend_tokenizer")
            else repr(sorted(self.inner.get_vocab().items()))
        )
        self.fingerprint = hashlib.blake2b(f"{said}{self.before}{self.behind}".encode(), digest_size=8).hexdigest()

    def _template(self) -> tuple[list[int], list[int]]:
        """Token ids before and behind a question. Raises `LabError` for a template that cannot hold a single question."""
        if not self.inner.chat_template:
            begin = [self.inner.bos_token_id] if self.inner.bos_token_id is not None else []
            return begin, self.inner.encode("\n", add_special_tokens=False)
        try:
            text = self.inner.apply_chat_template([{"role": "user", "content": PLACE}], tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates are programs, and raise what they like
            raise LabError(
                f"the chat template of {self.name} does not take a single question from a user: {error}. Mend chat_template in its "
                "tokenizer_config.json, or remove it to ask in plain text."
            ) from None
        before, found, behind = text.partition(PLACE)
        if not found:
            raise LabError(f"the chat template of {self.name} leaves the question out, so there is nothing to answer: mend chat_template.")
        return self.inner.encode(before, add_special_tokens=False), self.inner.encode(behind, add_special_tokens=False)

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Text as text: a typed end mark is a few characters, not an end."""
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
        return self.inner.decode(list(ids), skip_special_tokens=True).strip()

    def token(self, token_id: int) -> str:
        return "<end>" if token_id == self.end else self.inner.decode([token_id])


def load(name: str, dtype: torch.dtype = torch.bfloat16, longest: int = LONGEST) -> PreTrainedModel:
    """A model by name, in eval mode and frozen, with its `ChatTokenizer` as `.chat`.

    Raises `LabError` for one that is not here, is damaged, has no safetensors, wants code of its own, or does something behind its head
    that the lab would not see.
    """
    folder = folder_of(name)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, ImportError) as error:
        raise LabError(f"{folder} cannot be loaded: {str(error).splitlines()[0]} It needs config.json and whole safetensors.") from None
    if absent := sorted(set(found["missing_keys"]) - {"lm_head.weight"}):
        raise LabError(f"{folder} lacks the weights {', '.join(absent[:3])}; they would be random. Save the whole model again.")
    if not hasattr(model, "model") or not hasattr(model, "lm_head"):
        raise LabError(WRONG_NAMES.format(name, type(model).__name__))
    behind = [
        key
        for key in ("final_logit_softcapping", "logits_scaling", "logit_scale")
        if getattr(model.config, key, None) not in (None, 1, 1.0)
    ]
    if behind:
        raise LabError(f"{name} changes its logits behind the head ({behind[0]}), which the lab does not do: choose a model without it.")
    model.chat = ChatTokenizer(folder, name, longest)
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < model.chat.size:
        raise LabError(
            f"the tokenizer in {folder} has {model.chat.size:,} tokens, and the model an embedding for {rows:,}: give it the tokenizer "
            "it was made with, or save it once more after model.resize_token_embeddings(len(tokenizer))."
        )
    if rows > model.chat.size:  # rows of padding, which differ between sizes of one family
        model.resize_token_embeddings(model.chat.size, mean_resizing=False)
    return model.eval().requires_grad_(False)


@functools.lru_cache(maxsize=1)
def kept(name: str, longest: int) -> PreTrainedModel:
    """The teacher of several runs, loaded once."""
    return load(name, longest=longest)


def save(model: Any, folder: Path) -> None:
    """A model as a Hugging Face folder with its tokenizer, in bf16; an adapter is merged in. Written whole or not at all."""

    def write(part: Path) -> None:
        plain = lora.merged(model) if lora.has(model) else copy.deepcopy(model)
        plain.to(torch.bfloat16).save_pretrained(part, safe_serialization=True)
        model.chat.inner.save_pretrained(part)

    fill_whole(folder, write)
