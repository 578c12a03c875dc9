"""The lab's teachers and students, small Llama models in `transformers`, and their tokenizers.

A row is `<eos> question answer <eos>`. Token 0 begins a row, ends an answer and pads a batch. Padding comes after the answer, so with
causal attention it does not affect any scored token.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from labkit.base.errors import LabError, shown, unknown
from labkit.base.files import data_dir, expanded
from labkit.base.kinds import kinds_checked
from labkit.base.manifest import checked, seal
from labkit.models import architectures, lora
from labkit.models.architectures import LanguageModel
from labkit.models.damage import read_model
from labkit.models.parts import EOS
from labkit.records.names import FAULTY_TEACHERS, MADE_TEACHERS, SIZES, TEACHERS, VOCABULARIES

transformers.utils.logging.disable_progress_bar()  # not useful for a file of 6 MB

LONGEST_ANSWER = 28  # tokens; the longest answer of Atlas has 24
ADAPTED = "atlas-3m"  # the teacher that the shipped adapters belong to
CHAT = "{% for m in messages %}{{ '<eos>' + m['content'] if m['role'] == 'user' else ' ' + m['content'] + '<eos>' }}{% endfor %}"
# Fields of a configuration that do not change what the model computes.
BESIDE = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "use_cache", "id2label", "label2id")
LONGER = {"small": 36, "bytes": 64}  # the same for vocabularies in which the longest answer has more tokens: 26 and 49


class AtlasTokenizer:
    """A byte-level BPE tokenizer with single digits: the teachers', with 1,024 tokens trained on Atlas questions (`labkit build
    tokenizer`), or another one for students (`labkit build vocabularies`)."""

    def __init__(self, path: Path, name: str = "atlas") -> None:
        from tokenizers import Tokenizer

        self.name, self.end, self.ends = name, EOS, frozenset([EOS])
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.encode_special_tokens = True  # a typed "<eos>" is five characters, not the end of the question
        self.size = self._tokenizer.get_vocab_size()
        self.longest = LONGER.get(name, LONGEST_ANSWER)
        self.fingerprint = self.vocabulary = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of questions, each with the begin mark."""
        return [[EOS, *e.ids] for e in self._tokenizer.encode_batch_fast(list(texts))]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of answers, each with the end mark."""
        return [[*e.ids, EOS] for e in self._tokenizer.encode_batch_fast([f" {t}" for t in texts])]

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer's token ids."""
        return self._tokenizer.decode(list(ids)).strip()

    written = text  # Atlas has no thoughts

    def for_transformers(self) -> PreTrainedTokenizerFast:
        """This tokenizer as a class of `transformers`. Its chat template writes question and answer as the lab does."""
        made = PreTrainedTokenizerFast(tokenizer_object=self._tokenizer, bos_token="<eos>", eos_token="<eos>", pad_token="<eos>")
        made.chat_template = CHAT
        return made

    def token(self, token_id: int) -> str:
        """The text of one token, for display."""
        return "<end>" if token_id == EOS else self._tokenizer.decode([token_id])

    @functools.cached_property
    def pieces(self) -> list[bytes]:
        """The bytes of every token; empty for the end mark."""
        known = {name: number for number, name in _byte_names().items()}
        names = sorted(self._tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        return [b"" if token == EOS else bytes(known[letter] for letter in name) for name, token in names]

    def spell(self, ids: Sequence[int]) -> bytes:
        """The bytes of some tokens, which may end inside a character."""
        return b"".join(self.pieces[token] for token in ids)

    def cut(self, spelled: bytes) -> list[int]:
        """Token ids of any bytes, without loss. Bytes that are no character (a model may write half of one) become single-byte tokens."""
        text, ids = spelled.decode("utf-8", "surrogateescape"), []
        for part in re.findall("[\udc80-\udcff]|[^\udc80-\udcff]+", text):
            if "\udc80" <= part <= "\udcff":
                ids.append(self._byte_ids[ord(part) - 0xDC00])
            else:
                ids += self._tokenizer.encode(part).ids
        return ids

    @functools.cached_property
    def _byte_ids(self) -> dict[int, int]:
        return {piece[0]: token for token, piece in enumerate(self.pieces) if len(piece) == 1}


def _byte_names() -> dict[int, str]:
    """The character that stands for each byte in the file of a byte-level BPE: itself if printable, else the next one from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


@functools.cache
def tokenizer(vocabulary: str = "atlas") -> AtlasTokenizer:
    """The tokenizer with this vocabulary: "atlas" is the teachers', the others are for students. Raises `LabError` for an unknown one."""
    if vocabulary not in VOCABULARIES:
        raise unknown("vocabulary", vocabulary, VOCABULARIES)
    if vocabulary == "atlas":
        return AtlasTokenizer(checked(data_dir() / "tokenizers" / "atlas.json"))
    return AtlasTokenizer(checked(data_dir() / "vocabularies" / f"{vocabulary}.json"), vocabulary)


def tokenizer_of(model: Any) -> Any:
    """The tokenizer of a model: one of the lab's, or that of a pretrained model.

    Raises `LabError` for what is no model, or one without a tokenizer whose vocabulary is not one of the lab's.
    """
    if chat := getattr(model, "chat", None):
        return chat
    if not hasattr(model, "config"):
        raise LabError(f"{shown(model)} is not a language model: give one, as in labkit.teacher('atlas-3m').")
    own, size = tokenizer(getattr(model.config, "vocabulary", "atlas")), getattr(model.config, "vocab_size", None)
    if size != own.size:
        raise LabError(
            f"this {type(model).__name__} has {size} tokens and no tokenizer, and the lab's own has {own.size}: load it with its "
            "tokenizer, as in labkit.models.pretrained.load(folder)."
        )
    return own


def config(size: str, vocabulary: str = "atlas") -> LlamaConfig:
    """The configuration of a Llama of this size (a key of `SIZES`). Raises `LabError` for an unknown size or vocabulary."""
    if size not in SIZES:
        raise unknown("model size", size, SIZES)
    hidden, layers, heads = SIZES[size]
    made = LlamaConfig(
        vocab_size=tokenizer(vocabulary).size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads + hidden // heads % 2,  # even, since rotary positions rotate pairs
        intermediate_size=int(8 * hidden / 3) // 8 * 8,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.7 * hidden**-0.5,  # the usual 0.02 is for widths of thousands; at 64 it costs about 200 steps
        bos_token_id=EOS,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )
    if vocabulary != "atlas":
        made.vocabulary = vocabulary  # saved with the model, for `tokenizer_of`
    return made


@kinds_checked
def student(size: str, seed: int = 0, *, architecture: str = "llama", vocabulary: str = "atlas") -> LanguageModel:
    """A new student with random weights; the global random state does not change.

    size: a key of `SIZES`, such as "57k".
    seed: of the weights.
    architecture, vocabulary: as the knobs of these names.

    Raises `LabError` for an unknown value.
    """
    made = config(size, vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architectures.build(architecture, made)


@kinds_checked
@functools.lru_cache(maxsize=4)
def teacher(name: str) -> LlamaForCausalLM:
    """A teacher, frozen and in eval mode.

    name: a shipped teacher (if it is an adapter, it is merged into its base model), or a folder of a Llama with the Atlas vocabulary.

    Raises `DataError` if a shipped file is missing or damaged, `LabError` for an unknown or incomplete teacher, or one made for a run.
    """
    shipped, path = data_dir() / "teachers", expanded(name)
    if name in FAULTY_TEACHERS:
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            checked(data_dir() / "adapters" / name / file)
        return lora.loaded(teacher(ADAPTED), data_dir() / "adapters" / name).eval().requires_grad_(False)
    if name in MADE_TEACHERS:
        raise LabError(f"{name!r} is made for each run from its student's size and seed: run an experiment with teacher={name!r}.")
    if name in TEACHERS:
        folder = shipped / name
        for file in ("config.json", "model.safetensors"):
            checked(folder / file)
    elif path.is_dir() and ((path / "config.json").is_file() or set(name) & {"/", os.sep}):
        folder = path
    else:
        raise unknown("teacher", name, [t for t in TEACHERS if t not in (*MADE_TEACHERS, "none")])
    model = read_model(LlamaForCausalLM, folder, torch.float32)
    if model.config.vocab_size != tokenizer().size:
        raise LabError(f"{folder} has {model.config.vocab_size} tokens: a teacher must have the Atlas tokenizer ({tokenizer().size}).")
    model.made_here = name in TEACHERS
    return model.eval().requires_grad_(False)


def fingerprint(model: LanguageModel) -> str:
    """A hash of weights and configuration. It identifies the model in caches that were computed from it: with another window or other
    rotary positions, the same weights give other states.

    Of the lab's own models it is of the weights alone: the seeds of recorded runs follow from it.
    """
    if getattr(model, "made_here", False):
        return weights_hash(model)
    settings = {name: value for name, value in model.config.to_dict().items() if name not in BESIDE}
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=8)
    digest.update(weights_hash(model).encode())
    return digest.hexdigest()


def weights_hash(model: LanguageModel) -> str:
    """A hash of the weights alone, which shipped draft heads have of their target."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save(model: LlamaForCausalLM, folder: Path, note: dict[str, object], rebuild: str = "labkit build teachers") -> None:
    """Save a model to ship it: fp16 safetensors, config, and a manifest with checksums, `note` and the command that makes it again."""
    folder.mkdir(parents=True, exist_ok=True)
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    seal(folder, rebuild, {"config.json": {}, "model.safetensors": {}}, note)
