"""Pretrained models: a fetched one by name, a folder, or a hub id; and tokenizers with a chat template.

    teacher = load("smollm2")                       # after `labkit fetch smollm2`
    ids = teacher.chat.prompts(["What is the capital of Chad?"])

Only safetensors are loaded, and no code of the model is run. Padding rows of the vocabulary, which the tokenizer does not have, are
removed.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from labkit.base.errors import LabError, reading
from labkit.base.files import fill_whole
from labkit.base.manifest import seal_model
from labkit.models import lora, parts
from labkit.models.chat import LONGEST, ChatTokenizer
from labkit.models.chat_template import RESERVED
from labkit.models.damage import read_model, settings_in
from labkit.models.self_check import CLOSE, computes, examine, training_noise
from labkit.records.model_folders import folder_of

transformers.utils.logging.disable_progress_bar()  # not useful in a notebook
PROBE = "What is the capital of Chad, and what is 12 + 30? Answer in one sentence."  # read in the check


def context_of(name: str) -> float:
    """The context length of a model in tokens, from its config.json; infinity if it has none or the model is not on this machine."""
    with contextlib.suppress(LabError), reading(name, ""):
        return parts.context_of(settings_in(folder_of(name) / "config.json"))
    return math.inf  # `load` will report the problem


def chat_of(name: str, longest: int = LONGEST, options: str = "") -> ChatTokenizer:
    """The tokenizer of a model that is not loaded: arguments as for `load`."""
    return ChatTokenizer(folder_of(name), name, longest, given_options(options))


def load(name: str, dtype: torch.dtype = torch.bfloat16, longest: int = LONGEST, options: str = "") -> PreTrainedModel:
    """A pretrained model, frozen and in eval mode, with its `ChatTokenizer` as `.chat`.

    It is checked by number (`self_check.examine`); how the lab runs it is in `.traits`.

    name: a fetched model, a folder or a hub id (see `folder_of`).
    longest: the most tokens of an answer.
    options: switches of its chat template, as in "enable_thinking=false".

    Raises `LabError` for a model that is not on this machine, is damaged, has no safetensors, needs code of its own, or fails the check.
    """
    folder = folder_of(name)
    if (folder / "adapter_config.json").is_file():
        if (folder / "config.json").is_file():
            raise LabError(f"{folder} has an adapter beside a model: merge it, or remove adapter_config.json if it is merged already.")
        raise LabError(f"{folder} is an adapter, not a model: merge it into its base model first, and give the folder of the result.")
    model = read_model(AutoModelForCausalLM, folder, dtype)
    model.chat, model.folder = ChatTokenizer(folder, name, longest, given_options(options)), folder
    model.rows = rows = model.get_input_embeddings().weight.shape[0]  # before any are cut off
    if rows < model.chat.size:
        raise LabError(
            f"the tokenizer in {folder} has {model.chat.size:,} tokens, and the model's embedding {rows:,}: give it the tokenizer "
            "it was made with, or save it again after model.resize_token_embeddings(len(tokenizer))."
        )
    if rows > model.chat.size:  # padding rows, which differ between sizes of one family
        if (heads := parts.vocabulary_of(model)) != rows:
            raise LabError(
                f"{folder} reads {rows:,} tokens and writes {heads:,}: the lab could not save it again, so choose another model."
            )
        if not parts.shares_head(
            model
        ):  # the file may have a head of its own though its config says otherwise, and the cut would tie it again
            parts.config_of(model).tie_word_embeddings = model.config.tie_word_embeddings = False
        model.resize_token_embeddings(model.chat.size, mean_resizing=False)
    probe = model.chat.prompts([PROBE])[0]
    model.widened = dtype != torch.float32 and not computes(model, probe)
    if model.widened:
        model.float()
    try:
        model.traits = examine(model, probe)
    except LabError as error:
        raise LabError(f"{name}: {error}") from error.__cause__
    return model.eval().requires_grad_(False)


def notes_of(model: Any) -> list[str]:
    """What a user should know about how the lab runs a loaded model, in sentences: its self-check, and what differs from `generate`."""
    notes = [f"Self-check passed: {model.traits.words}.", *model.chat.notes]
    if model.rows > model.chat.size:
        notes.append(f"Its vocabulary had {model.rows:,} rows and its tokenizer has {model.chat.size:,} tokens: the others were removed.")
    if model.widened:
        notes.append("Its code does not run in half precision here, so it is held in single precision, in twice the memory.")
    if adopted := getattr(model, "adopted", ""):
        notes.append(f"It has its teacher's tokens in another format, so it learns, and is saved with, the teacher's: end marks {adopted}.")
        notes.append("As it came, it is scored in that format too, which it had not seen: a part of its gain may be the format.")
    if unread := getattr(model, "unread", []):
        what = f"Weights of its files, as {unread[0]} ({len(unread):,} in all), are no part of"
        notes.append(f"{what} the model that transformers builds from its config.json: they are neither read nor saved.")
    if any(p.requires_grad for p in model.parameters()):
        notes += _served(model.chat)
        if not model.chat.end_is_listed and not adopted:
            mark = model.chat.inner.convert_ids_to_tokens(model.chat.end)
            notes.append(
                f"Its template ends a turn with {mark!r}, which its generation_config.json does not list: the saved student's does."
            )
        if loss := getattr(parts.config_of(model), "router_aux_loss_coef", 0):
            notes.append(f"Its router loss (weight {loss:g} in its config.json) is not part of the training.")
        if (noise := training_noise(model, model.chat.prompts([PROBE])[0])) > CLOSE:
            notes.append(f"In training mode its states differ by {noise:.2g} standard deviations: it has dropout or router noise.")
    if lora.has(model) and (share := lora.share(model)) < 1:
        notes.append(
            f"Its adapter covers {share:.0%} of the weights of its layers; the others are stored or read in another form than a linear map."
        )
    return notes


def _served(chat: ChatTokenizer) -> list[str]:
    """What whoever serves a trained student must know about its prompts, which its files do not say."""
    notes = []
    if chat.template.options:
        given = ", ".join(f"{key}={json.dumps(value)}" for key, value in chat.template.options.items())
        notes.append(
            f"It learns prompts made with {given}: pass chat_template_kwargs={json.dumps(chat.template.options)} when you serve it."
        )
    if not chat.template.own:
        form = repr(chat.inner.decode(chat.prompts(["QUESTION"])[0]))
        notes.append(f"It is saved without a chat template, and learns prompts in plain text: send it each question as {form}.")
    return notes


def given_options(text: str) -> dict[str, Any]:
    """Switches of a chat template from text, as in "enable_thinking=false,levels=[1,2]": a comma ends a value if a name and "=" follow.

    Raises `LabError` for a part without a value, a name that the lab sets itself, or a value that is neither JSON nor a plain word.
    """
    options: dict[str, Any] = {}
    for part in filter(None, re.split(r",(?=\w*=)|,$", text)):
        name, given, value = part.partition("=")
        if name in RESERVED:
            raise LabError(f"{name} is set by the lab: give a switch of the template itself, as in enable_thinking=false.")
        if not given or not name.isidentifier():
            raise LabError(f"{part!r} is no option of a chat template: write name=value, as in enable_thinking=false.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            if value.startswith(("[", "{", '"')) or "," in value:
                raise LabError(f"{part!r} has neither JSON nor one word as its value: write {name}=[1,2] or {name}=low.") from None
            options[name] = {"True": True, "False": False, "None": None}.get(value, value)
    return options


def refuse_unread(options: str, chats: Sequence[ChatTokenizer]) -> None:
    """Check that each switch has an effect: the models of a run share them, so one of their templates must read it.

    Raises `LabError` for a switch that none reads, with those that they read.
    """
    known = sorted({name for chat in chats for name in chat.template.switches})
    if wrong := [name for name in given_options(options) if name not in known]:
        whose = " or ".join(dict.fromkeys(chat.name for chat in chats)) or "these models"
        fix = f"choose among {', '.join(known)}" if known else "leave it out, since it reads none"
        raise LabError(f"{wrong[0]} in template_option={options} is not read by the chat template of {whose}: {fix}.")


@functools.lru_cache(maxsize=1)
def kept(name: str, longest: int, options: str = "") -> PreTrainedModel:
    """As `load`, but the last model is kept in memory, for several runs with one teacher."""
    return load(name, longest=longest, options=options)


def save(model: Any, folder: Path) -> None:
    """Save a model as a Hugging Face folder with its tokenizer and a manifest, in bf16, all files or none. An adapter is
    merged in.

    Its generation_config.json is the one that it came with, byte for byte. But the end marks are written into it if it has learned its
    teacher's format (`adopted`), or ends its answers with a mark that is not listed there, at which `generate` would not stop.
    """

    def write(part: Path) -> None:
        plain = lora.merged(model) if lora.has(model) else copy.deepcopy(model)
        plain.generation_config = GenerationConfig.from_model_config(plain.config)  # `save_pretrained` refuses what some models come with
        plain.to(torch.bfloat16).save_pretrained(part, safe_serialization=True)
        model.chat.inner.save_pretrained(part)
        settings, source = part / "generation_config.json", getattr(model, "folder", folder) / "generation_config.json"
        if source.is_file() and source != settings:
            shutil.copyfile(source, settings)
        if getattr(model, "adopted", False) or not model.chat.end_is_listed:
            given = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
            ends = model.chat.end_list
            settings.write_text(json.dumps(given | {"eos_token_id": ends if len(ends) > 1 else ends[0]}, indent=2) + "\n", encoding="utf-8")
        seal_model(part)

    fill_whole(folder, write)
