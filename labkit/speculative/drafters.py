"""Drafters: they propose tokens, which the target then reads in one pass.

A drafter is any causal language model with the target's tokenizer (`ModelDraft`), or heads on the target's states (`MedusaDraft`,
`EagleDraft`). It proposes a chain; or, with `candidates`, a tree: a model proposes its chain and the likeliest other tokens at each depth;
heads propose the likeliest of all paths that they compute.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from labkit.models import draw, vocabulary_of
from labkit.models.architectures import LanguageModel
from labkit.models.parts import context_of
from labkit.speculative.kv_cache import CachedModel, States

BRANCHES = 8  # likeliest tokens that are considered at each node
ABREAST = 4  # paths of EAGLE's tree that are continued at each depth


class Ask(NamedTuple):
    """The settings of one proposal."""

    gamma: int  # most tokens in a row
    sure: float  # stop before a token if the likeliest one has less probability; 0 never stops
    temperature: float
    candidates: int  # tokens in a tree; 0 for a chain
    generator: torch.Generator
    ends: frozenset[int] = frozenset()  # the end tokens; nothing is proposed after one


class Proposal(NamedTuple):
    """Proposed tokens."""

    ids: list[int]
    parents: list[int]  # the number of the token that each one continues, -1 for the text; of a chain -1, 0, 1, ...
    q_G_V: Tensor | None = None  # the probabilities that a sampled chain was drawn from; None if greedy

    @classmethod
    def chain(cls, ids: list[int], q_G_V: Tensor | None = None) -> Proposal:
        """A proposal in which each token continues the one before it."""
        return cls(ids, list(range(-1, len(ids) - 1)), q_G_V)


def branches(parents: Sequence[int]) -> bool:
    """Whether these parents are those of a tree, not of a chain."""
    return list(parents) != list(range(-1, len(parents) - 1))


class Drafter(Protocol):
    """The interface of a drafter. One object serves one decoding."""

    extra_layers: tuple[int, ...]  # layers of the target whose output it reads
    most: float  # most tokens that it can propose in a row

    def settle(self, text: Sequence[int], seen: States) -> None:
        """Take over the text so far after each round.

        text: all tokens; the target has read all but the last.
        seen: the target's states at the accepted tokens that it has read since the last call.
        """

    def propose(self, ask: Ask) -> Proposal: ...


class Chain:
    """A drafter that proposes one token after the other: the common part of `ModelDraft` and `EagleDraft`."""

    width = 0  # size of the target's vocabulary, if the draft has only a part of it

    def start(self) -> Tensor:
        """Logits `(V,)` of the first token after the text."""
        raise NotImplementedError

    def follow(self, token: int) -> Tensor:
        """Logits `(V,)` of the token after `token`, which is the last of the chain."""
        raise NotImplementedError

    def full(self, logits_V: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits, and the target's token number of each of them; None if they are all tokens in order."""
        return logits_V, None

    def propose(self, ask: Ask) -> Proposal:
        ids, drawn_from, others = list[int](), list[Tensor](), list[tuple[float, int, int]]()
        joint, token = 1.0, -1  # joint: the draft's probability of the chain so far
        while len(ids) < min(ask.gamma, ask.candidates or ask.gamma):
            logits_V, names = self.full(self.follow(token) if ids else self.start())
            if ask.temperature:
                q_V = (logits_V / ask.temperature).softmax(-1)
                chosen = int(draw(q_V[None], ask.generator))
            else:
                q_V = logits_V.softmax(-1) if ask.sure or ask.candidates else logits_V
                chosen = int(q_V.argmax())
            if ids and ask.sure and float(q_V.max()) < ask.sure:
                break
            if ask.candidates:
                top = q_V.topk(min(BRANCHES, len(q_V)))
                for chance, x in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                    if x != chosen:
                        others.append((joint * chance, len(ids) - 1, x if names is None else int(names[x])))
                joint *= float(q_V[chosen])
            token = chosen if names is None else int(names[chosen])
            ids.append(token)
            if ask.temperature:
                drawn_from.append(q_V if names is None else _spread(q_V, names, self.width))
            if token in ask.ends:
                break
        chain = Proposal.chain(ids, torch.stack(drawn_from) if drawn_from else None)
        best = heapq.nlargest(ask.candidates - len(ids), others)
        return chain._replace(ids=[*ids, *(x for *_, x in best)], parents=[*chain.parents, *(parent for _, parent, _ in best)])


class ModelDraft(Chain):
    """A small language model with its own KV cache."""

    extra_layers: tuple[int, ...] = ()

    def __init__(self, model: LanguageModel, most: float) -> None:
        self.cached, self.most = CachedModel(model), most
        self._text, self._read_ids = list[int](), list[int]()

    def settle(self, text: Sequence[int], seen: States) -> None:
        self._text = list(text)
        # Drop the tokens of the cache that are not in the text; the others need not be read again.
        same = next((i for i, (a, b) in enumerate(zip(self._read_ids, text[:-1], strict=False)) if a != b), len(text) - 1)
        self.cached.back(same)
        del self._read_ids[same:]

    def start(self) -> Tensor:
        return self._read(self._text[self.cached.length :])

    def follow(self, token: int) -> Tensor:
        return self._read([token])

    def _read(self, ids: Sequence[int]) -> Tensor:
        self._read_ids += ids
        return self.cached.logits(self.cached.read(ids).final_T_D[-1:])[0]


class EagleDraft(Chain):
    """EAGLE's layer: it reads the target's states of the accepted text, and its own states after that."""

    def __init__(self, heads: Any) -> None:
        self.heads, self.extra_layers, self.most = heads, heads.extra_layers, context_of(heads.config.to_dict())
        self.width = vocabulary_of(heads.target)
        self._cache: Any = None
        self._settled = 0  # tokens in the cache that were read with the target's states

    def settle(self, text: Sequence[int], seen: States) -> None:
        features = seen.layers_T_L_D if self.extra_layers else seen.final_T_D
        assert features is not None
        if self._cache is None:
            self._cache = self.heads.begin(text[:-1])
            self._settled = len(self._cache)
            features = features[-1:]  # `begin` has cached the other tokens of the prompt
        self.heads.crop(self._cache, self._settled)
        ids = torch.tensor(text[-len(features) :], device=self.heads.device)
        states, logits = self.heads.read(features.to(self.heads.device), ids, self._cache)
        self._settled += len(features)
        self._state, self._logits = states[-1], logits[-1]

    def start(self) -> Tensor:
        return self._logits

    def follow(self, token: int) -> Tensor:
        states, logits = self.heads.roll(self._state[None], [token], self._cache)
        self._state = states[0]
        return logits[0]

    def propose(self, ask: Ask) -> Proposal:
        return self._tree(ask) if ask.candidates else super().propose(ask)

    def _tree(self, ask: Ask) -> Proposal:
        """The likeliest tokens of a tree. At each depth the `ABREAST` likeliest paths are continued in one batch (EAGLE-2, Li et al. 2024,
        arXiv 2406.16858)."""
        ids, parents, chances = list[int](), list[int](), list[float]()
        place = len(self._cache)
        ends, chance_W = [-1], torch.ones(1)
        states_W_D, logits_W_V, sees_W_T = self._state[None], self._logits[None], torch.ones(1, place, dtype=torch.bool)
        for depth in range(ask.gamma):
            q_W_V = (logits_W_V / (ask.temperature or 1)).softmax(-1)
            if depth and ask.sure and float(q_W_V[0].max()) < ask.sure:
                break
            top = q_W_V.topk(min(BRANCHES, q_W_V.shape[-1]))
            joint_W_R, ranks = chance_W[:, None] * top.values.cpu(), top.values.shape[-1]
            first, tokens_W_R = len(ids), self.heads.ids_V[top.indices].cpu()
            ids += tokens_W_R.flatten().tolist()
            parents += [end for end in ends for _ in range(ranks)]
            chances += joint_W_R.flatten().tolist()
            ended_W_R = torch.isin(tokens_W_R, torch.tensor(sorted(ask.ends), dtype=torch.long))
            open_N = joint_W_R.masked_fill(ended_W_R, 0.0).flatten()  # probabilities of the paths that have not ended
            bar = heapq.nlargest(ask.candidates, chances)[-1] if len(ids) >= ask.candidates else 0.0
            if float(open_N.max()) <= bar:
                break  # a path is never likelier than its beginning, so nothing deeper would be kept
            if depth + 1 < ask.gamma:
                best = open_N.topk(min(ABREAST, int((open_N > 0).sum())))
                ends, chance_W, above = [first + i for i in best.indices.tolist()], best.values, best.indices // ranks
                sees_W_T = torch.cat([sees_W_T[above], torch.eye(len(ends), dtype=torch.bool)], 1)
                states_W_D, logits_W_V = self.heads.roll(
                    states_W_D[above], [ids[end] for end in ends], self._cache, place + depth, sees_W_T.to(states_W_D.device)
                )
        kept = sorted(range(len(ids)), key=lambda i: (-chances[i], i))[: ask.candidates]  # so parents come before their children
        number = {-1: -1} | {i: n for n, i in enumerate(kept)}
        return Proposal([ids[i] for i in kept], [number[parents[i]] for i in kept])

    def full(self, logits_V: Tensor) -> tuple[Tensor, Tensor | None]:
        return logits_V, self.heads.ids_V


class MedusaDraft:
    """Medusa's heads: all depths are predicted from one state, independently. The tree has the likeliest combinations."""

    extra_layers: tuple[int, ...] = ()

    def __init__(self, heads: Any) -> None:
        self.heads, self.most = heads, heads.ahead
        self.width = vocabulary_of(heads.target)

    def settle(self, text: Sequence[int], seen: States) -> None:
        self._state_D = seen.final_T_D[-1]

    def propose(self, ask: Ask) -> Proposal:
        with torch.inference_mode():
            logits_K_V = self.heads(self._state_D[None].to(self.heads.device, self.heads.dtype))[: ask.gamma, 0].float()
        names = self.heads.ids_V
        q_K_V = (logits_K_V / (ask.temperature or 1)).softmax(-1)
        if ask.sure:  # this saves no work of the heads, but the target reads fewer tokens
            unsure = (q_K_V.max(-1).values < ask.sure).tolist()
            q_K_V = q_K_V[: max(1, unsure.index(True) if True in unsure else len(unsure))]
        if ask.candidates:
            top = q_K_V.topk(min(BRANCHES, q_K_V.shape[-1]))
            chosen, parents = likeliest(top.values.tolist(), ask.candidates)
            depth_of = [0] * len(parents)
            for i, parent in enumerate(parents):
                depth_of[i] = depth_of[parent] + 1 if parent >= 0 else 0
            return Proposal([int(names[top.indices[d, rank]]) for d, rank in zip(depth_of, chosen, strict=True)], parents)
        drawn = draw(q_K_V, ask.generator) if ask.temperature else q_K_V.argmax(-1)
        q_G_V = torch.stack([_spread(q_V, names, self.width) for q_V in q_K_V]) if ask.temperature else None
        return Proposal.chain(names[drawn].tolist(), q_G_V)


def likeliest(chances_K_R: Sequence[Sequence[float]], size: int) -> tuple[list[int], list[int]]:
    """The likeliest nodes of the tree of all combinations of tokens, if depths are independent.

    chances_K_R: probabilities of the tokens at each depth, the highest first.
    size: number of nodes.

    Returns the rank of each node at its depth, and the number of its parent; parents come before their children.
    """
    ranks, parents = list[int](), list[int]()
    waiting = [(-chances_K_R[0][0], 0, 0, -1, 1.0)]  # minus the path's probability, depth, rank, parent, probability of the parent's path
    while waiting and len(ranks) < size:
        minus, depth, rank, parent, before = heapq.heappop(waiting)
        node = len(ranks)
        ranks.append(rank)
        parents.append(parent)
        if rank + 1 < len(chances_K_R[depth]):  # its next sibling
            heapq.heappush(waiting, (-before * chances_K_R[depth][rank + 1], depth, rank + 1, parent, before))
        if depth + 1 < len(chances_K_R):  # its first child
            heapq.heappush(waiting, (minus * chances_K_R[depth + 1][0], depth + 1, 0, node, -minus))
    return ranks, parents


def _spread(q_V: Tensor, names_V: Tensor, width: int) -> Tensor:
    """Probabilities over the whole vocabulary `(width,)`, from those of the tokens `names_V`; 0 elsewhere."""
    return torch.zeros(width, device=q_V.device).index_copy(0, names_V, q_V)
