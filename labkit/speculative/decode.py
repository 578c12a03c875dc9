"""`speculate(target, draft, prompt)`: a draft guesses a few tokens, the target reads them in one pass and takes those it agrees with.

done = speculate(labkit.teacher("atlas-3m"), student, "What is the capital of Chad?", gamma=4)
done.text                    # what the target alone would have said
done.acceptance              # share of the judged guesses that were taken
done.tokens_per_round        # tokens a pass of the target
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from labkit import models
from labkit.base.errors import LabError, unknown
from labkit.models import tokenizer_of
from labkit.models.architectures import LanguageModel, cache_of
from labkit.models.heads.base import Heads
from labkit.models.heads.eagle import Eagle
from labkit.models.heads.medusa import Medusa
from labkit.speculative import accept
from labkit.speculative.drafters import Ask, Drafter, EagleDraft, MedusaDraft, ModelDraft, Proposal, branches
from labkit.speculative.kv_cache import CachedModel, States
from labkit.speculative.result import Round, Speculation

ADAPTIVE, SURE = 12, 0.4  # gamma="adaptive": at most so many, and none after a guess that is less sure
RULES = ("exact", "typical")
NOT_EXACT = "typical acceptance: NOT distributed as the target's own text"
COLDEST = 1e-3  # below it a softmax in single precision is the likeliest token or nothing


def speculate(
    target: LanguageModel,
    draft: Any,
    prompt: str | Sequence[int],
    gamma: int | str = 4,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
    candidates: int = 0,
    rule: str = "exact",
) -> Speculation:
    """The target's answer to a prompt (a text, or token ids), with a draft to make it faster.

    draft: a language model with the same tokenizer, or trained heads (`labkit.models.heads.base`). gamma: tokens it proposes a round, or
    "adaptive": as long as it is sure, up to 12. temperature: 0 writes the target's greedy answer token for token, but for near-ties in
    half precision (`near_ties`); above it, what is written has exactly the distribution of the target's samples. candidates: tokens to
    read a round, as a tree of the likeliest, up to `gamma` deep (0: a chain; not for exact sampling). rule="typical": above temperature 0,
    takes likely tokens, which is NOT exact. limit: the most tokens to write.

    Raises `LabError` for different tokenizers, heads of another model, gamma below 1 or beyond the context, an empty prompt, an unknown
    rule, or a number that is none; warns of a draft that is larger than its target.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    _warmth(temperature)
    generator = _generator(seed)
    if _whole("candidates", candidates, 0) and temperature and rule == "exact":
        raise LabError(f"candidates={candidates} must be 0 here: exact sampling checks one chain. Set temperature=0, or rule='typical'.")
    ids = _prompt(target, prompt)
    limit = _limit(target, limit)
    most = ADAPTIVE if gamma == "adaptive" else _whole("gamma", gamma, 1)
    drafter = _drafter(draft)
    notes = [_fitting(target, draft, candidates), NOT_EXACT if rule == "typical" and temperature else ""]
    for model in (target, *([draft] if hasattr(draft, "lm_head") else ())):
        # A gamma that a learner did not name, or that is cut below, cannot be too large.
        _room(model, len(ids), limit, 0 if gamma == "adaptive" or isinstance(drafter, MedusaDraft) else most)
    if most > drafter.most:
        notes.append(f"the draft guesses {drafter.most} ahead, so no more than that are proposed" if gamma != "adaptive" else "")
        most = drafter.most
    ask = Ask(most, SURE if gamma == "adaptive" else 0.0, temperature, candidates, generator, tokenizer_of(target).end)
    return _write(target, drafter, prompt, ids, ask, limit, rule, "; ".join(filter(None, notes)))


def plain(
    target: LanguageModel, prompt: str | Sequence[int], *, temperature: float = 0.0, seed: int = 0, limit: int | None = None
) -> Speculation:
    """The same without a draft: one pass of the target for every token. What `speculate` is to be compared with."""
    _warmth(temperature)
    ids = _prompt(target, prompt)
    limit = _limit(target, limit)
    _room(target, len(ids), limit, 0)
    return _write(target, None, prompt, ids, Ask(0, 0.0, temperature, 0, _generator(seed)), limit, "exact", "")


def _write(
    target: LanguageModel,
    drafter: Drafter | None,
    prompt: str | Sequence[int],
    ids: list[int],
    ask: Ask,
    limit: int,
    rule: str,
    note: str,
) -> Speculation:
    own = tokenizer_of(target)
    began = time.perf_counter()
    cached = CachedModel(target, drafter.extra_layers if drafter else ())
    seen = cached.read(ids)
    first = _verdict(cached.logits(seen.final_T_D[-1:]), Proposal.chain([]), ask, "exact").token
    text, rounds = [*ids, first], list[Round]()
    full = len(ids) + limit
    if drafter:
        drafter.settle(text, seen)
    while text[-1] != own.end and len(text) < full:
        room = min(ask.gamma, full - len(text) - 1)
        said = drafter.propose(ask._replace(gamma=room)) if drafter and room else Proposal.chain([])
        seen = cached.read([text[-1], *said.ids], [-1, *(parent + 1 for parent in said.parents)] if branches(said.parents) else None)
        path, token = _verdict(cached.logits(seen.final_T_D), said, ask, rule)
        taken = [said.ids[i] for i in path]
        bonus = not any(parent == (path[-1] if path else -1) for parent in said.parents)
        if own.end in taken:  # what comes after the end was never said
            path = path[: taken.index(own.end) + 1]
            taken, bonus = [said.ids[i] for i in path], True
            text += taken
            rounds.append(Round(said.ids, said.parents, path, None, bonus))
            break
        text += [*taken, token]
        rounds.append(Round(said.ids, said.parents, path, token, bonus))
        kept = [0, *(i + 1 for i in path)]
        cached.keep(1 + len(said.ids), kept)
        if drafter:
            rows = torch.tensor(kept)
            layers = seen.layers_T_L_D
            drafter.settle(text, States(seen.final_T_D[rows], None if layers is None else layers[rows]))
    seconds = time.perf_counter() - began
    written = text[len(ids) :]
    names = {i: own.token(i) for i in {*written, *(x for r in rounds for x in r.proposed)}}
    asked = prompt if isinstance(prompt, str) else own.text(ids)
    passes = drafter.cached.passes if isinstance(drafter, ModelDraft) else 0
    return Speculation(asked, own.text(written), written, rounds, names, seconds, cached.passes, passes, note)


def _verdict(logits_T_V: torch.Tensor, said: Proposal, ask: Ask, rule: str) -> accept.Acceptance:
    if not ask.temperature:
        return accept.greedy(logits_T_V, said.ids, said.parents)
    p_T_V = (logits_T_V / ask.temperature).softmax(-1).cpu()
    if rule == "typical":
        return accept.typical(p_T_V, said.ids, said.parents, ask.generator)
    if said.ids and (said.q_G_V is None or branches(said.parents)):
        raise LabError("exact sampling checks a chain whose tokens were drawn, with the probabilities they were drawn from (q_G_V).")
    q_G_V = said.q_G_V.cpu() if said.q_G_V is not None else torch.zeros(0, p_T_V.shape[-1])
    return accept.sampled(p_T_V, q_G_V, said.ids, ask.generator)


def _drafter(draft: Any) -> Drafter:
    if isinstance(draft, Medusa):
        return MedusaDraft(draft)
    if isinstance(draft, Eagle):
        return EagleDraft(draft)
    if hasattr(draft, "lm_head"):
        return ModelDraft(draft, draft.config.max_position_embeddings)
    if hasattr(draft, "propose"):
        return draft
    raise LabError(f"{draft!r} cannot draft: give a language model, as in labkit.teacher('atlas-200k'), or trained heads.")


def _prompt(target: LanguageModel, prompt: str | Sequence[int]) -> list[int]:
    if not hasattr(target, "lm_head"):
        raise LabError(f"{target!r} is no language model: give one, as in labkit.teacher('atlas-3m').")
    if not isinstance(prompt, str | list | tuple):
        raise LabError(f"the prompt is {prompt!r}: give a text, or a list of token numbers.")
    if not len(prompt.strip() if isinstance(prompt, str) else prompt):
        raise LabError("the prompt is empty, so there is nothing to go on from: ask something, as in 'What is the capital of Chad?'.")
    if isinstance(prompt, str):
        return tokenizer_of(target).prompts([prompt])[0]
    size = target.lm_head.weight.shape[0]
    if strange := [x for x in prompt if not isinstance(x, int) or not 0 <= x < size]:
        raise LabError(
            f"{strange[0]!r} in the prompt is no token of the target: they are numbers from 0 to {size - 1}. A text will do too."
        )
    return list(prompt)


def _limit(target: LanguageModel, limit: int | None) -> int:
    return tokenizer_of(target).longest if limit is None else _whole("limit", limit, 1)


def _whole(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        also = " or 'adaptive' (0 is plain decoding: `plain`)" if name == "gamma" else ""
        raise LabError(f"{name}={value!r} must be a whole number of tokens, {low} or more{also}.")
    return value


def _warmth(temperature: Any) -> None:
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool) and math.isfinite(temperature)
    if not number or (temperature and temperature < COLDEST):
        raise LabError(f"temperature={temperature!r} must be 0 (the likeliest token), or a number from {COLDEST:g} on.")


def _generator(seed: Any) -> torch.Generator:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise LabError(f"seed={seed!r} must be a whole number: the same one gives the same text.")
    return torch.Generator().manual_seed(seed)


def _room(model: LanguageModel, asked: int, limit: int, gamma: int) -> None:
    """Raises `LabError` if a text, or a single proposal, has no room in a model's context."""
    context = getattr(model.config, "n_positions", None) or getattr(model.config, "max_position_embeddings", None)
    if context and asked + max(limit, gamma) > context:
        name, value = ("limit", limit) if limit >= gamma else ("gamma", gamma)
        raise LabError(f"a prompt of {asked} tokens and {name}={value} do not fit into {context} positions: shorten it, or lower {name}.")


def _fitting(target: LanguageModel, draft: Any, candidates: int) -> str:
    """Raises `LabError` for a draft that speaks in other tokens or reads another model, or a tree for a target that reads one token at a
    time; returns a warning, given too, for a draft that is too large."""
    if candidates and not isinstance(cache_of(target), DynamicCache):
        raise LabError(f"candidates={candidates} asks the target to read a tree, and a recurrent one reads one token at a time: set 0.")
    if isinstance(draft, Heads):
        reads = getattr(draft, "trunk", draft.target)
        if target is not reads and models.fingerprint(target) != models.fingerprint(reads):
            what = "heads.trunk, their own copy of it" if hasattr(draft, "trunk") else "the model they were trained on"
            raise LabError(f"these heads read the states of another model than this target: take {what}.")
    if not hasattr(draft, "lm_head"):
        return ""
    own, theirs = tokenizer_of(draft), tokenizer_of(target)
    if own.fingerprint != theirs.fingerprint:
        raise LabError(
            f"the draft has the tokenizer {own.name!r} and the target {theirs.name!r}: token numbers would mean different words. Distil a "
            "draft with the target's tokenizer (vocabulary='atlas', or `labkit prune` the target)."
        )
    large, small = models.parameters(draft), models.parameters(target)
    if large <= small:
        return ""
    note = f"the draft has {large:,} parameters and its target {small:,}, so this will be slower than the target alone: swap them"
    warnings.warn(note, stacklevel=3)
    return note
