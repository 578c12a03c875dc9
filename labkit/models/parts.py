"""The parts of any causal language model: its body, its head, and how the lab runs it; and the padded rows that it reads.

    states = body_of(model)(tokens_B_T).last_hidden_state     # (B, T, D)
    logits = logits_of(model, states)                          # as `model(tokens_B_T).logits`, whatever comes after the body

Families name their parts differently, and some change the logits after the head (a softcap, a scale). Nothing here goes by names.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache

EOS = 0  # the end mark of Atlas; what pads a batch may be any token


@dataclasses.dataclass(frozen=True)
class Traits:
    """How the lab runs a model. `self_check.examine` finds it by comparing numbers; models of the lab have the defaults."""

    head: str = "linear"  # own: the model's code after its body is more than one linear map
    # The cache of a text in generation. croppable: tokens can be dropped from it; state: it cannot go back, so a copy is kept to go back
    # to; none: there is none that gives the right numbers, so the whole text is read again for each token.
    cache: str = "croppable"
    padded: bool = True  # whether a batch with padding on the left gives each row what it gives alone
    chunks: bool = True  # whether a text in the cache can be continued by several tokens in one pass
    positions: bool = True  # whether the body takes `position_ids`
    cache_as: str = "past_key_values"  # the parameter of the body that takes the cache

    @property
    def words(self) -> str:
        """The traits as a sentence, for the card and the board."""
        head = "a linear head" if self.head == "linear" else "its own code after the body, which the lab calls"
        cache = {
            "croppable": "a KV cache",
            "state": "a state that cannot go back, so the lab keeps copies",
            "none": "no cache that gives its own numbers, so the lab reads the whole text for each token",
        }[self.cache]
        batches = "" if self.padded or self.cache == "none" else "; padding changes its numbers, so batches are read without a cache"
        chunks = "" if self.chunks or self.cache == "none" else "; it continues a text token by token"
        return f"{head}; {cache}{batches}{chunks}"


USUAL = Traits()  # of the lab's own models


def body_of(model: Any) -> Any:
    """The model without its head: it maps tokens to final states."""
    path = getattr(model, "body_path", "")  # where the check found it, if it is not where `transformers` says, as in BART's wrapper
    return model.get_submodule(path) if path else model.base_model


def config_of(model: Any) -> Any:
    """The configuration of the language model, also inside a multimodal one."""
    config = model.config
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def context_of(config: Mapping[str, Any]) -> float:
    """The most tokens of a row, from a configuration as a dict; infinity if it sets none."""
    inner = config.get("text_config") or config.get("decoder") or config
    rope = inner.get("rope_parameters") or inner.get("rope_scaling") or {}
    if isinstance(rope, Mapping) and "longrope" in (rope.get("rope_type"), rope.get("type")):  # beyond it, all positions turn otherwise
        original = rope.get("original_max_position_embeddings") or inner.get("original_max_position_embeddings")
        if isinstance(original, int) and original > 0:
            return original
    found = (inner.get(name) for name in ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len", "n_ctx"))
    return next((context for context in found if isinstance(context, int) and context > 0), math.inf)


def layers_of(model: Any) -> Any:
    """The body's layers in order; empty if they are not one list of as many layers as the configuration says."""
    many = getattr(config_of(model), "num_hidden_layers", None)
    lists = [part for part in body_of(model).modules() if isinstance(part, nn.ModuleList) and len(part) == many]
    return lists[0] if lists else nn.ModuleList()


def vocabulary_of(model: Any) -> int:
    """The number of logits."""
    head = model.get_output_embeddings()
    return int(head.weight.shape[0]) if head is not None else int(config_of(model).vocab_size)


def shares_head(model: Any, name: str = "") -> bool:
    """Whether the head is the embedding; with a name, whether that weight is the head's and so need not be in the file."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", embedding)
    return tied and (not name or any(part is head.weight for key, part in model.named_parameters(remove_duplicate=False) if key == name))


def traits_of(model: Any) -> Traits:
    """How to run this model: as `pretrained.load` found out, or as the lab's own models are run."""
    return getattr(model, "traits", USUAL)


def logits_of(model: Any, states_N_D: Tensor) -> Tensor:
    """Logits `(N, V)` from final states `(N, D)`, or `(B, T, V)` from `(B, T, D)`: all that the model does after its body."""
    if traits_of(model).head == "linear":
        head = model.get_output_embeddings()
        return head(states_N_D.to(head.weight.dtype))  # some bodies end in single precision
    return own_head(model, states_N_D)


def row_logits(model: Any, ids: Sequence[int]) -> Tensor:
    """Logits `(T, V)` of one row of token ids, in single precision, read at once without a cache."""
    tokens_1_T = torch.tensor([list(ids)], device=model.device)
    return logits_of(model, body_of(model)(tokens_1_T, use_cache=False).last_hidden_state[0]).float()


def own_head(model: Any, states: Tensor) -> Tensor:
    """`logits_of` for a model whose head is more than a linear map: its own `forward`, with these states in place of its body's."""
    if states.dim() == 2:
        return own_head(model, states[None])[0]
    shell = copy.copy(model)
    name = getattr(model, "body_path", "") or model.base_model_prefix
    shell._modules = {**model._modules, name: _Given(body_of(model), states)}
    return shell(torch.zeros(states.shape[:-1], dtype=torch.long, device=states.device)).logits


class _Given(nn.Module):
    """In place of a body: it returns states that are given, whatever it is asked."""

    def __init__(self, body: nn.Module, states_B_T_D: Tensor) -> None:
        super().__init__()
        object.__setattr__(self, "body", body)  # not as a submodule
        object.__setattr__(self, "output", _Output(last_hidden_state=states_B_T_D))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.body, name)  # the code after the body may ask for one of its parts

    def forward(self, *_: Any, **__: Any) -> _Output:
        return self.output


class _Output(dict):
    """A body's output of which only the states are known: any other field is None."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return tuple(self.values())[key]
        return next(iter(self.values())) if key == 0 else self.get(key)


CACHES: dict[str, Callable[[Any], Any]] = {
    "croppable": lambda model: DynamicCache(),
    "state": lambda model: DynamicCache(config=model.config),  # with a layer for each kind of layer of the model
}


def new_cache(model: Any) -> Any:
    """An empty KV cache, or recurrent state, for generation with this model."""
    return model.new_cache() if hasattr(model, "new_cache") else CACHES[traits_of(model).cache](model)


def cached_pass(
    model: Any, tokens_B_T: Tensor, cache: Any, visible_B_C: Tensor | None = None, position_B_T: Tensor | None = None
) -> Tensor:
    """Final states `(B, T, D)` of a pass with a cache, which it extends.

    visible_B_C: 0 at padding before a row, 1 at all other tokens, also those in the cache; None without padding.
    position_B_T: the positions of the tokens.
    """
    traits = traits_of(model)
    given = {traits.cache_as: cache} | ({"position_ids": position_B_T} if traits.positions and position_B_T is not None else {})
    return body_of(model)(tokens_B_T, attention_mask=visible_B_C, use_cache=True, **given).last_hidden_state


def parameters(model: nn.Module) -> int:
    """The number of parameters; shared ones count once."""
    return sum(p.numel() for p in model.parameters())


# ---- rows -------------------------------------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """A padded batch."""

    tokens_B_T: Tensor
    mask_B_T: Tensor  # True at the positions whose next token belongs to the answer
    labels_N: Tensor  # those next tokens

    @property
    def at_N(self) -> Tensor:
        """The marked positions in the flattened batch, `b T + t`."""
        return self.mask_B_T.flatten().nonzero()[:, 0]


class Placed(Protocol):
    """Rows with the positions `at_N` whose states are needed: `Rows`, or a step's `MicroBatch`."""

    @property
    def tokens_B_T(self) -> Tensor: ...
    @property
    def at_N(self) -> Tensor: ...


def pad(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Rows:
    """Prompts and answers as a padded batch. The last token of an answer is predicted but not read, so it is not in the input."""
    full = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    width = max(map(len, full)) - 1
    tokens = torch.tensor([row[:-1] + [EOS] * (width - len(row) + 1) for row in full])
    starts = torch.tensor([len(p) - 1 for p in prompts])[:, None]
    ends = torch.tensor([len(row) - 1 for row in full])[:, None]
    column = torch.arange(width)[None]
    mask = (column >= starts) & (column < ends)
    return Rows(tokens, mask, torch.tensor([t for a in answers for t in a]))


def answer_states(model: Any, rows: Placed, attend_1_1_T_T: Tensor | None = None) -> Tensor:
    """Final hidden states `(N, D)` at the answer positions only, since the head is the most expensive layer of a small model.

    attend_1_1_T_T: an explicit mask (see `causal`); without it the model makes its own, which cannot be traced.
    """
    mask = {} if attend_1_1_T_T is None else {"attention_mask": attend_1_1_T_T}
    states_B_T_D = body_of(model)(rows.tokens_B_T.to(model.device), **mask, use_cache=False).last_hidden_state
    return states_B_T_D.flatten(0, 1).index_select(0, rows.at_N.to(model.device))


def causal(model: Any, width: int) -> Tensor | None:
    """The causal mask `(1, 1, T, T)` for `width` positions: True where a position may attend. Returns None for models that take no mask
    (recurrent ones) or may have another one (pretrained ones with a sliding window)."""
    if traits_of(model).cache != "croppable" or hasattr(model, "chat"):
        return None
    return torch.ones(width, width, dtype=torch.bool, device=model.device).tril()[None, None]
