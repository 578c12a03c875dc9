"""The student's architectures: a small Llama, as its teacher, and two others. At each size all have about as many parameters.

They read the same tokens, and `labkit.models.parts` finds their parts. The head is the transposed embedding.

gpt2: learned positions, LayerNorm, GELU (Radford et al. 2019). recurrent: gated recurrent units, with a state of fixed size instead of
attention (Cho et al. 2014, arXiv 1406.1078).
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from labkit.base.errors import LabError, unknown
from labkit.models.parts import Traits, context_of

POSITIONS = 128  # learned positions of a GPT-2 student; the longest row of Atlas has 48 tokens


class GPT2Student(GPT2LMHeadModel):
    """A GPT-2."""

    traits = Traits()


class State:
    """The state of a recurrent model, `(L, B, H)`: one vector per layer and row. It corresponds to a KV cache."""

    def __init__(self) -> None:
        self.state_L_B_H: Tensor | None = None

    def reorder_cache(self, rows: Tensor) -> None:
        """Keep only these rows, as `DynamicCache` does."""
        assert self.state_L_B_H is not None
        self.state_L_B_H = self.state_L_B_H[:, rows].contiguous()


class RecurrentBody(nn.Module):
    """Embedding, gated recurrent units, a projection to the embedding's width, and RMSNorm."""

    def __init__(self, config: LlamaConfig, width: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=config.initializer_range)
        self.units = nn.GRU(config.hidden_size, width, config.num_hidden_layers, batch_first=True)
        self.down = nn.Linear(width, config.hidden_size, bias=False)
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        tokens_B_T: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: State | None = None,
        use_cache: bool = False,
    ) -> SimpleNamespace:
        """Final states, with the interface of the models in `transformers`.

        attention_mask: 0 at padding before a row; padding after a row has no effect and needs no mask.
        position_ids: not used.
        """
        past = past_key_values.state_L_B_H if past_key_values else None
        embedded = self.embed_tokens(tokens_B_T)
        if past is not None or attention_mask is None or bool(attention_mask.all()):
            out, state = self.units(embedded, past)
        else:
            out, state = self._from_the_left(embedded, attention_mask.sum(1))
        if past_key_values is not None and use_cache:
            past_key_values.state_L_B_H = state
        return SimpleNamespace(last_hidden_state=self.norm(self.down(out)), past_key_values=past_key_values)

    def _from_the_left(self, embedded_B_T_D: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Output and last state for rows that are padded on the left: the padding is moved to the end and back."""
        width = embedded_B_T_D.shape[1]
        shift = (torch.arange(width, device=lengths_B.device) + width - lengths_B[:, None]) % width  # padding goes to the end
        moved = embedded_B_T_D.gather(1, shift[..., None].expand_as(embedded_B_T_D))
        out, state = self.units(pack_padded_sequence(moved, lengths_B.cpu(), batch_first=True, enforce_sorted=False))
        out_B_T_H, _ = pad_packed_sequence(out, batch_first=True, total_length=width)
        back = (torch.arange(width, device=lengths_B.device) - width + lengths_B[:, None]) % width
        return out_B_T_H.gather(1, back[..., None].expand_as(out_B_T_H)), state


class RecurrentStudent(nn.Module):
    """A recurrent language model, with the interface of `transformers`."""

    traits = Traits(cache="state")

    def __init__(self, config: LlamaConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.model = RecurrentBody(config, width)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype

    @property
    def base_model(self) -> RecurrentBody:
        return self.model

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def new_cache(self) -> State:
        return State()

    def forward(self, tokens_B_T: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.lm_head(self.model(tokens_B_T).last_hidden_state))


LanguageModel: TypeAlias = LlamaForCausalLM | GPT2Student | RecurrentStudent


def room_for(model: LanguageModel, tokens: int) -> None:
    """Raises `LabError` if a row of this many tokens is longer than the model's context."""
    context = context_of(model.config.to_dict())
    if hasattr(model, "chat") and tokens > context:
        raise LabError(f"this row has {tokens} tokens with its answer, and the model's context is {context}: shorten the prompt.")
    if isinstance(model, GPT2Student) and tokens > model.config.n_positions:
        raise LabError(
            f"this row has {tokens} tokens with its answer, and a gpt2 student has {model.config.n_positions} positions: shorten the "
            "question, or use architecture='llama'."
        )


# ---- with as many parameters as the Llama of that size -------------------------------------------------------------------------


def _llama(like: LlamaConfig) -> LlamaForCausalLM:
    model = LlamaForCausalLM(like)
    model.traits = Traits()
    return model


def _gpt2(like: LlamaConfig) -> GPT2Student:
    wide, deep = like.hidden_size, like.num_hidden_layers
    attention_and_norms = 4 * wide**2 + 4 * wide + 4 * wide  # with biases; two norms
    left = (count(like) - (like.vocab_size + POSITIONS + 2) * wide) / deep - attention_and_norms - wide
    if left < 2 * wide + 1:
        raise LabError(f"a gpt2 student of {count(like):,} parameters has no room for its layers: take student='22k' or a larger one.")
    return GPT2Student(
        GPT2Config(
            vocab_size=like.vocab_size,
            n_positions=POSITIONS,
            n_embd=wide,
            n_layer=deep,
            n_head=like.num_attention_heads,
            n_inner=round(left / (2 * wide + 1)),
            resid_pdrop=0.0,  # no dropout, as in a Llama
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=like.initializer_range,
            tie_word_embeddings=True,
            bos_token_id=like.bos_token_id,
            eos_token_id=like.eos_token_id,
            pad_token_id=like.pad_token_id,
        )
    )


def _recurrent(like: LlamaConfig) -> RecurrentStudent:
    wide, deep = like.hidden_size, like.num_hidden_layers

    def units(width: int) -> int:  # three gates, each with two biases
        return 3 * width * (wide + width + 2) + (deep - 1) * 3 * width * (2 * width + 2) + width * wide

    left = count(like) - (like.vocab_size + 1) * wide
    return RecurrentStudent(like, min(range(8, 4 * wide + 8), key=lambda width: abs(units(width) - left)))


def count(like: LlamaConfig) -> int:
    """The number of parameters of a Llama with this configuration."""
    wide = like.hidden_size
    layer = 4 * wide**2 + 3 * wide * like.intermediate_size + 2 * wide
    return like.vocab_size * wide + like.num_hidden_layers * layer + wide


ARCHITECTURES: dict[str, Callable[[LlamaConfig], LanguageModel]] = {"llama": _llama, "gpt2": _gpt2, "recurrent": _recurrent}


def build(name: str, like: LlamaConfig) -> LanguageModel:
    """A new model of the named architecture, with about as many parameters as the Llama of the configuration `like`.

    Raises `LabError` for an unknown architecture, or a GPT-2 that is too small for its layers.
    """
    if name not in ARCHITECTURES:
        raise unknown("architecture", name, ARCHITECTURES)
    model: Any = ARCHITECTURES[name](like)
    model.made_here = True  # its configuration follows from the recipe
    return model
