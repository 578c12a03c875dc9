"""Who guesses: a drafter proposes tokens that the target then reads in one pass.

Any causal language model with the target's tokenizer can be one (`ModelDraft`); so can heads on the target's own states (`MedusaDraft`,
`EagleDraft`). All propose a chain; with `candidates`, a tree: a model its chain and the likeliest other tokens beside it, heads what they
find likeliest of all paths they look at.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from labkit.models import draw
from labkit.models.architectures import LanguageModel
from labkit.speculative.kv_cache import CachedModel, States

BRANCHES = 8  # of a guess, that are looked at
ABREAST = 4  # paths of EAGLE's tree that are gone on from


class Ask(NamedTuple):
    """What is asked of a drafter. gamma: tokens in a row; sure: stop before a token whose likeliest value has less probability, after the
    likeliest path; candidates: tokens in all, as a tree (0: a chain); end: the token behind which there is nothing to guess."""

    gamma: int
    sure: float
    temperature: float
    candidates: int
    generator: torch.Generator
    end: int = -1


class Proposal(NamedTuple):
    """Tokens to check. parents: which of them each continues, -1 the text; a chain is -1, 0, 1, ... q_G_V: the probabilities a chain was
    drawn from, where it was drawn (None for a greedy guess)."""

    ids: list[int]
    parents: list[int]
    q_G_V: Tensor | None = None

    @classmethod
    def chain(cls, ids: list[int], q_G_V: Tensor | None = None) -> Proposal:
        return cls(ids, list(range(-1, len(ids) - 1)), q_G_V)


def branches(parents: Sequence[int]) -> bool:
    """Whether these are the parents of a tree that is no chain."""
    return list(parents) != list(range(-1, len(parents) - 1))


class Drafter(Protocol):
    """Who guesses in one decoding. looks: layers of the target it has to see; most: tokens it can propose in a row."""

    extra_layers: tuple[int, ...]
    most: int

    def settle(self, text: Sequence[int], seen: States) -> None:
        """The text so far, the last token of which the target has not read; and the target's states at the tokens it has read last, up to
        the one before that."""

    def propose(self, ask: Ask) -> Proposal: ...


class Chain:
    """One token after the other: what `ModelDraft` and `EagleDraft` have in common. width: of the target's vocabulary, where the draft can
    say only a part of it."""

    width = 0

    def start(self) -> Tensor:
        """Logits `(V,)` of the first token after the text."""
        raise NotImplementedError

    def follow(self, token: int) -> Tensor:
        """Logits of the token after this one."""
        raise NotImplementedError

    def full(self, logits_V: Tensor) -> tuple[Tensor, Tensor | None]:
        """Those logits, and which of the target's tokens they are for (None: all, in order)."""
        return logits_V, None

    def propose(self, ask: Ask) -> Proposal:
        ids, told, others = list[int](), list[Tensor](), list[tuple[float, int, int]]()
        joint, token = 1.0, -1  # the chance of the chain so far, by the draft
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
                told.append(q_V if names is None else _spread(q_V, names, self.width))
            if token == ask.end:
                break
        chain = Proposal.chain(ids, torch.stack(told) if told else None)
        beside = heapq.nlargest(ask.candidates - len(ids), others)
        return chain._replace(ids=[*ids, *(x for *_, x in beside)], parents=[*chain.parents, *(parent for _, parent, _ in beside)])


class ModelDraft(Chain):
    """A small language model with a KV cache of its own."""

    extra_layers: tuple[int, ...] = ()

    def __init__(self, model: LanguageModel, most: int) -> None:
        self.cached, self.most = CachedModel(model), most
        self._text, self._read_ids = list[int](), list[int]()

    def settle(self, text: Sequence[int], seen: States) -> None:
        self._text = list(text)
        # What was refused is forgotten, and what a branch of a tree took another way; of the rest nothing is read again.
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
    """EAGLE's layer: fed with the target's states where there are some, and beyond with its own."""

    def __init__(self, heads: Any) -> None:
        self.heads, self.extra_layers, self.most = heads, heads.extra_layers, heads.config.max_position_embeddings
        self.width = heads.target.lm_head.weight.shape[0]
        self._cache: Any = None
        self._true = 0

    def settle(self, text: Sequence[int], seen: States) -> None:
        features = seen.layers_T_L_D if self.extra_layers else seen.final_T_D
        assert features is not None
        if self._cache is None:
            self._cache = self.heads.begin(text[:-1])
            self._true = len(self._cache)
            features = features[-1:]  # of the prompt's other tokens it reads none
        self.heads.crop(self._cache, self._true)
        ids = torch.tensor(text[-len(features) :], device=self.heads.device)
        states, logits = self.heads.read(features.to(self.heads.device), ids, self._cache)
        self._true += len(features)
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
        """The likeliest tokens of a tree that grows from the likeliest paths, `ABREAST` of them at each depth and all in one batch (Li et
        al. 2024, EAGLE-2, arXiv 2406.16858)."""
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
            open_N = joint_W_R.masked_fill(tokens_W_R == ask.end, 0.0).flatten()  # paths that can go on
            bar = heapq.nlargest(ask.candidates, chances)[-1] if len(ids) >= ask.candidates else 0.0
            if float(open_N.max()) <= bar:
                break  # no path is likelier than its beginning, so that nothing deeper would be kept
            if depth + 1 < ask.gamma:
                best = open_N.topk(min(ABREAST, int((open_N > 0).sum())))
                ends, chance_W, above = [first + i for i in best.indices.tolist()], best.values, best.indices // ranks
                sees_W_T = torch.cat([sees_W_T[above], torch.eye(len(ends), dtype=torch.bool)], 1)
                states_W_D, logits_W_V = self.heads.roll(
                    states_W_D[above], [ids[end] for end in ends], self._cache, place + depth, sees_W_T.to(states_W_D.device)
                )
        kept = sorted(range(len(ids)), key=lambda i: (-chances[i], i))[: ask.candidates]  # and so parents come first
        number = {-1: -1} | {i: n for n, i in enumerate(kept)}
        return Proposal([ids[i] for i in kept], [number[parents[i]] for i in kept])

    def full(self, logits_V: Tensor) -> tuple[Tensor, Tensor | None]:
        return logits_V, self.heads.ids_V


class MedusaDraft:
    """Medusa's heads: all guesses from one state, each blind to the others. The tree is of the likeliest combinations."""

    extra_layers: tuple[int, ...] = ()

    def __init__(self, heads: Any) -> None:
        self.heads, self.most = heads, heads.ahead
        self.width = heads.target.lm_head.weight.shape[0]

    def settle(self, text: Sequence[int], seen: States) -> None:
        self._state_D = seen.final_T_D[-1]

    def propose(self, ask: Ask) -> Proposal:
        with torch.inference_mode():
            logits_K_V = self.heads(self._state_D[None].to(self.heads.device, self.heads.dtype))[: ask.gamma, 0].float()
        names = self.heads.ids_V
        q_K_V = (logits_K_V / (ask.temperature or 1)).softmax(-1)
        if ask.sure:  # the guesses are there already; what is saved is their reading
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
        told = torch.stack([_spread(q_V, names, self.width) for q_V in q_K_V]) if ask.temperature else None
        return Proposal.chain(names[drawn].tolist(), told)


def likeliest(chances_K_R: Sequence[Sequence[float]], size: int) -> tuple[list[int], list[int]]:
    """The `size` likeliest nodes of the tree of all combinations, where depths are independent: (rank at its depth, parent) of each, a
    parent before its children. chances_K_R: of the ranks at each depth, falling."""
    found_ranks, found_parents = list[int](), list[int]()
    waiting = [(-chances_K_R[0][0], 0, 0, -1, 1.0)]  # minus the chance of the path; depth; rank; parent; chance of the parent's path
    while waiting and len(found_ranks) < size:
        minus, depth, rank, parent, before = heapq.heappop(waiting)
        me = len(found_ranks)
        found_ranks.append(rank)
        found_parents.append(parent)
        if rank + 1 < len(chances_K_R[depth]):  # its next brother
            heapq.heappush(waiting, (-before * chances_K_R[depth][rank + 1], depth, rank + 1, parent, before))
        if depth + 1 < len(chances_K_R):  # its first child
            heapq.heappush(waiting, (minus * chances_K_R[depth + 1][0], depth + 1, 0, me, -minus))
    return found_ranks, found_parents


def _spread(q_V: Tensor, names_V: Tensor, width: int) -> Tensor:
    """Probabilities of a part of the vocabulary over all of it."""
    return torch.zeros(width, device=q_V.device).index_copy(0, names_V, q_V)
