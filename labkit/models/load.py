"""Teachers and students: small Llama models in `transformers`, their tokenizers, and how they write an answer.

Rows are `<eos> question answer <eos>`; token 0 begins a row, ends an answer and pads a batch (padding comes after the answer, so
with causal attention it touches nothing that is scored).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from labkit.base.errors import LabError, unknown
from labkit.base.files import data_dir
from labkit.base.manifest import checked, seal
from labkit.models import architectures, lora
from labkit.models.architectures import LanguageModel, RecurrentStudent
from labkit.records.names import FAULTY_TEACHERS, MADE_TEACHERS, SIZES, TEACHERS, VOCABULARIES

transformers.utils.logging.disable_progress_bar()  # a bar for a file of 6 MB is noise in a notebook

EOS = 0
LONGEST_ANSWER = 28  # tokens; the longest answer of the world has 24
ADAPTED = "atlas-3m"  # the teacher the shipped adapters belong to
CHAT = "{% for m in messages %}{{ '<eos>' + m['content'] if m['role'] == 'user' else ' ' + m['content'] + '<eos>' }}{% endfor %}"
LONGER = {"small": 36, "bytes": 64}  # in vocabularies that need more for it: 26 and 49


class AtlasTokenizer:
    """A byte-level BPE with single digits: the teachers' own of 1,024 tokens, trained on the world's questions (`labkit build tokenizer`),
    or one of the students' others (`labkit build vocabularies`)."""

    def __init__(self, path: Path, name: str = "atlas") -> None:
        from tokenizers import Tokenizer

        self.name, self.end = name, EOS
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.encode_special_tokens = True  # a typed "<eos>" is five characters, not the end of the question
        self.size = self._tokenizer.get_vocab_size()
        self.longest = LONGER.get(name, LONGEST_ANSWER)
        self.fingerprint = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of questions, each with the beginning mark."""
        return [[EOS, *e.ids] for e in self._tokenizer.encode_batch_fast(list(texts))]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of answers, each with the end mark."""
        return [[*e.ids, EOS] for e in self._tokenizer.encode_batch_fast([f" {t}" for t in texts])]

    def text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids)).strip()

    def for_transformers(self) -> PreTrainedTokenizerFast:
        """The same as `transformers` has tokenizers; its chat template writes a question and its answer as the lab does."""
        made = PreTrainedTokenizerFast(tokenizer_object=self._tokenizer, bos_token="<eos>", eos_token="<eos>", pad_token="<eos>")
        made.chat_template = CHAT
        return made

    def token(self, token_id: int) -> str:
        return "<end>" if token_id == EOS else self._tokenizer.decode([token_id])

    @functools.cached_property
    def pieces(self) -> list[bytes]:
        """The bytes of every token; none for the end mark."""
        known = {name: number for number, name in _byte_names().items()}
        names = sorted(self._tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        return [b"" if token == EOS else bytes(known[letter] for letter in name) for name, token in names]

    def spell(self, ids: Sequence[int]) -> bytes:
        """The bytes of some tokens, whether they are characters or not."""
        return b"".join(self.pieces[token] for token in ids)

    def cut(self, spelled: bytes) -> list[int]:
        """Any bytes as token ids, nothing lost: what is no character (a model may write half of one) is cut into single bytes."""
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
    """The letter by which a byte-level BPE's file calls each byte: itself where it can be printed, else the next one from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


@functools.cache
def tokenizer(vocabulary: str = "atlas") -> AtlasTokenizer:
    """The teachers' tokenizer, or one of the others that a student may have. Raises `LabError` for an unknown one."""
    if vocabulary not in VOCABULARIES:
        raise unknown("vocabulary", vocabulary, VOCABULARIES)
    if vocabulary == "atlas":
        return AtlasTokenizer(checked(data_dir() / "tokenizers" / "atlas.json"))
    return AtlasTokenizer(checked(data_dir() / "vocabularies" / f"{vocabulary}.json"), vocabulary)


def tokenizer_of(model: LlamaForCausalLM) -> AtlasTokenizer:
    """The tokenizer a model was made for: one of ours, or a pretrained model's own."""
    return getattr(model, "chat", None) or tokenizer(getattr(model.config, "vocabulary", "atlas"))


def config(size: str, vocabulary: str = "atlas") -> LlamaConfig:
    if size not in SIZES:
        raise unknown("model size", size, SIZES)
    hidden, layers, heads = SIZES[size]
    made = LlamaConfig(
        vocab_size=tokenizer(vocabulary).size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads + hidden // heads % 2,  # even, since positions turn pairs of numbers
        intermediate_size=int(8 * hidden / 3) // 8 * 8,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.7 * hidden**-0.5,  # the usual 0.02 suits widths of thousands; at 64 it wastes the first 200 steps
        bos_token_id=EOS,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )
    if vocabulary != "atlas":
        made.vocabulary = vocabulary  # travels with the model, and says how to read it
    return made


def student(size: str, seed: int = 0, *, architecture: str = "llama", vocabulary: str = "atlas") -> LanguageModel:
    """A fresh student. The process-wide random state is left as it was."""
    made = config(size, vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architectures.build(architecture, made)


@functools.lru_cache(maxsize=4)
def teacher(name: str) -> LlamaForCausalLM:
    """A shipped teacher by name, or a `transformers` Llama folder with the Atlas vocabulary (safetensors); frozen, in eval mode.

    One that ships as an adapter is its base with the adapter merged in. Raises `DataError` if a file is missing or damaged, `LabError`
    for an unknown name, or one of a model that is made for a run.
    """
    shipped, own = data_dir() / "teachers", Path(name)
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
    elif own.is_dir() and ((own / "config.json").is_file() or set(name) & {"/", os.sep}):
        folder = own
    else:
        raise unknown("teacher", name, [t for t in TEACHERS if t not in (*MADE_TEACHERS, "none")])
    try:
        model, found = LlamaForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise LabError(f"{folder} is not a whole Llama model: {error} It needs config.json and model.safetensors.") from None
    if absent := sorted(set(found["missing_keys"]) - {"lm_head.weight"}):
        raise LabError(f"{folder} lacks the weights {', '.join(absent[:3])}; they would be random. Save the whole model again.")
    if model.config.vocab_size != tokenizer().size:
        raise LabError(f"{folder} has {model.config.vocab_size} tokens; a teacher here shares the Atlas tokenizer ({tokenizer().size}).")
    return model.eval().requires_grad_(False)


def fingerprint(model: LanguageModel) -> str:
    """A hash of the weights, so that whatever was computed from them can never be taken for another model's."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def parameters(model: LanguageModel) -> int:
    return sum(p.numel() for p in model.parameters())


class Written(NamedTuple):
    """What a model wrote for one prompt: ids with the end mark (if it came in time), the log-probability in nats of each of
    them under the model itself, and the final hidden states `(len(ids), hidden)` they were read from, where asked for."""

    ids: list[int]
    logprobs: list[float]
    hidden: Tensor | None


@torch.no_grad()
def write(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    keep_hidden: bool = False,
    limit: int | None = None,
) -> list[Written]:
    """Answers to all prompts in one batch with a KV cache (or a state): greedy at temperature 0, sampled otherwise; of at most `limit`
    tokens, or as many as the model's tokenizer needs for an answer.

    Rows that have ended leave the batch, so a few long answers do not cost the rest. Raises `LabError` for a prompt that is too long.
    """
    device = model.device
    training = model.training
    model.eval()
    lengths = torch.tensor([len(p) for p in prompts])
    width = int(lengths.max())
    own = tokenizer_of(model)
    limit = limit or own.longest
    architectures.room_for(model, width + limit - 1)
    tokens = torch.full((len(prompts), width), EOS)
    visible = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):  # padded on the left, so that every row's next token is in the last column
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        visible[row, width - len(prompt) :] = 1
    tokens, visible = tokens.to(device), visible.to(device)
    position = (visible.cumsum(1) - 1).clamp(min=0)
    generator = torch.Generator().manual_seed(seed)
    cache = architectures.cache_of(model)
    alive = list(range(len(prompts)))
    written = [Written([], [], None) for _ in prompts]
    states: list[list[Tensor]] = [[] for _ in prompts]
    for _ in range(limit):
        out = model.model(tokens, attention_mask=visible, position_ids=position, past_key_values=cache, use_cache=True)
        hidden = out.last_hidden_state[:, -1]
        logprobs = model.lm_head(hidden).float().log_softmax(-1)
        chosen = draw((logprobs / temperature).softmax(-1), generator)[:, None] if temperature else logprobs.argmax(-1, keepdim=True)
        scores = logprobs.gather(1, chosen)[:, 0].tolist()
        for column, row in enumerate(alive):
            written[row].ids.append(int(chosen[column]))
            written[row].logprobs.append(scores[column])
            if keep_hidden:
                states[row].append(hidden[column])
        going = (chosen[:, 0] != own.end).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) < len(alive):
            alive = [alive[i] for i in going.tolist()]
            cache.batch_select_indices(going)
            visible, position, chosen = visible[going], position[going], chosen[going]
        tokens = chosen
        visible = torch.cat([visible, torch.ones_like(chosen)], 1)
        position = position[:, -1:] + 1
    model.train(training)
    if keep_hidden:
        return [Written(w.ids, w.logprobs, torch.stack(s)) for w, s in zip(written, states, strict=True)]
    return written


def draw(probabilities_N_V: Tensor, generator: torch.Generator) -> Tensor:
    """One token a row, `(N,)`: the inverse of the cumulative distribution, ten times as fast here as `multinomial`."""
    cumulative = probabilities_N_V.cumsum(-1)
    where = torch.rand(len(cumulative), 1, generator=generator).to(cumulative.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, where, right=True)[:, 0].clamp(max=cumulative.shape[-1] - 1)


class Rows(NamedTuple):
    """A padded batch: `mask_B_T` marks the positions whose next token belongs to the answer, `labels_N` are those tokens."""

    tokens_B_T: Tensor
    mask_B_T: Tensor
    labels_N: Tensor

    @property
    def at_N(self) -> Tensor:
        """The marked positions as numbers in the flattened batch, `b T + t`."""
        return self.mask_B_T.flatten().nonzero()[:, 0]


class Placed(Protocol):
    """Rows with positions `at_N` to be read there: `Rows`, or a step's `MicroBatch`."""

    @property
    def tokens_B_T(self) -> Tensor: ...
    @property
    def at_N(self) -> Tensor: ...


def pad(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Rows:
    """Rows as tensors. The last token of an answer is predicted but never read, so it is not part of the input."""
    full = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    width = max(map(len, full)) - 1
    tokens = torch.tensor([row[:-1] + [EOS] * (width - len(row) + 1) for row in full])
    starts = torch.tensor([len(p) - 1 for p in prompts])[:, None]
    ends = torch.tensor([len(row) - 1 for row in full])[:, None]
    column = torch.arange(width)[None]
    mask = (column >= starts) & (column < ends)
    return Rows(tokens, mask, torch.tensor([t for a in answers for t in a]))


def answer_states(model: LanguageModel, rows: Placed, attend_1_1_T_T: Tensor | None = None) -> Tensor:
    """Final hidden states `(N, D)` at the answer positions only: the head is the dearest layer of a small model.

    attend_1_1_T_T: an explicit mask (`causal`); without it the model makes its own, which cannot be traced.
    """
    own = {} if attend_1_1_T_T is None else {"attention_mask": attend_1_1_T_T}
    states_B_T_D = model.model(rows.tokens_B_T.to(model.device), **own, use_cache=False).last_hidden_state
    return states_B_T_D.flatten(0, 1).index_select(0, rows.at_N.to(model.device))


def causal(model: LanguageModel, width: int) -> Tensor | None:
    """The mask `(1, 1, T, T)` by which each of `width` positions sees itself and those before it. None for models that take none (recurrent
    ones) or whose own may be narrower (pretrained ones with a sliding window)."""
    if isinstance(model, RecurrentStudent) or hasattr(model, "chat"):
        return None
    return torch.ones(width, width, dtype=torch.bool, device=model.device).tril()[None, None]


def save(model: LlamaForCausalLM, folder: Path, note: dict[str, object], rebuild: str = "labkit build teachers") -> None:
    """Ship a model: fp16 safetensors, config, and a manifest with checksums, `note` and the command that makes it again."""
    folder.mkdir(parents=True, exist_ok=True)
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    seal(folder, rebuild, {"config.json": {}, "model.safetensors": {}}, note)
