"""Who guesses: a drafter proposes tokens that the target then reads in one pass. Any causal language model with the target's tokenizer can
be one (`ModelDraft`); so can heads on the target's own states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from labkit.architectures import LanguageModel
from labkit.models import draw
from labkit.speculative.reading import Reader, Seen


class Proposal(NamedTuple):
    """Tokens to check. parents: which of them each continues, -1 the text; a chain is -1, 0, 1, ... q_G_V: the probabilities a chain was
    drawn from, where it was drawn (None for a greedy guess)."""

    ids: list[int]
    parents: list[int]
    q_G_V: Tensor | None = None

    @classmethod
    def chain(cls, ids: list[int], q_G_V: Tensor | None = None) -> Proposal:
        return cls(ids, list(range(-1, len(ids) - 1)), q_G_V)


class Drafter(Protocol):
    """looks: layers of the target it has to see; most: tokens it can propose in a row."""

    looks: tuple[int, ...]
    most: int

    def settle(self, text: Sequence[int], seen: Seen) -> None:
        """The text so far, the last token of which the target has not read; and the target's states at the tokens it has read last, up to
        the one before that."""

    def propose(self, gamma: int, sure: float, temperature: float, generator: torch.Generator) -> Proposal:
        """Up to `gamma` tokens; no further ones once the likeliest has less than the probability `sure`."""


class ModelDraft:
    """A small language model with a KV cache of its own."""

    looks: tuple[int, ...] = ()

    def __init__(self, model: LanguageModel, most: int) -> None:
        self.reader, self.most = Reader(model), most
        self._text: list[int] = []

    def settle(self, text: Sequence[int], seen: Seen) -> None:
        self._text = list(text)
        self.reader.back(len(text) - 1)  # what was refused is forgotten; of what was accepted nothing is read again

    def propose(self, gamma: int, sure: float, temperature: float, generator: torch.Generator) -> Proposal:
        ids, told = list[int](), list[Tensor]()
        new = self._text[self.reader.length :]
        while len(ids) < gamma:
            logits_V = self.reader.logits(self.reader.read(new).final_T_D[-1:])[0]
            token, q_V = choose(logits_V, temperature, generator)
            if ids and sure and float((q_V if q_V is not None else logits_V.softmax(-1)).max()) < sure:
                break
            ids.append(token)
            if q_V is not None:
                told.append(q_V)
            new = [token]
        return Proposal.chain(ids, torch.stack(told) if told else None)


def choose(logits_V: Tensor, temperature: float, generator: torch.Generator) -> tuple[int, Tensor | None]:
    """A token, and the probabilities it was drawn from (None for the likeliest, which was not drawn)."""
    if not temperature:
        return int(logits_V.argmax()), None
    q_V = (logits_V / temperature).softmax(-1)
    return int(draw(q_V[None], generator)), q_V
