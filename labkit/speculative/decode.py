"""`speculate(target, draft, prompt)`: a draft proposes some tokens; the target reads them in one pass and accepts or rejects them.

done = speculate(labkit.teacher("atlas-3m"), student, "What is the capital of Chad?", gamma=4)
done.text                    # the same text that the target writes alone
done.acceptance              # share of the judged places at which a token was accepted
done.tokens_per_round        # tokens per pass of the target
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from labkit import models
from labkit.base.errors import LabError, shown, unknown
from labkit.base.kinds import kinds_checked
from labkit.models import ids_of, refuse_long, tokenizer_of
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads
from labkit.models.heads.eagle import Eagle
from labkit.models.heads.medusa import Medusa
from labkit.models.parts import context_of
from labkit.models.self_check import ensure
from labkit.speculative import accept, trees
from labkit.speculative.drafters import Ask, Drafter, EagleDraft, MedusaDraft, ModelDraft, Proposal, branches
from labkit.speculative.kv_cache import CachedModel, States
from labkit.speculative.result import Round, Speculation

ADAPTIVE, SURE = 12, 0.4  # gamma="adaptive": most tokens a round; it stops before a token with less probability than this
RULES = ("exact", "typical")
NOT_EXACT = "typical acceptance: NOT distributed as the target's own text"
COLDEST = 1e-3  # the lowest temperature above 0: below it a softmax in single precision is 0 or 1


@kinds_checked
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
    """Let the target answer a prompt, with a draft to make it faster.

    target: the model whose distribution is kept.
    draft: a language model with the same tokenizer, or trained draft heads (`labkit.models.heads.base`).
    prompt: a text, or token ids.
    gamma: tokens that the draft proposes a round; or "adaptive", up to 12 as long as the draft is confident.
    temperature: 0 writes the target's greedy answer token for token, except for near-ties in half precision (`near_ties`). Above 0 the
        answer has exactly the distribution of the target's samples.
    seed: of the samples.
    limit: the most tokens to write.
    candidates: tokens a round in a tree of the likeliest ones, up to `gamma` deep; 0 for a chain. Not for exact sampling.
    rule: "exact"; or "typical", which above temperature 0 accepts all tokens that are likely enough and is NOT exact.

    Warns if the draft is larger than the target.

    Raises `LabError` for different tokenizers, heads of another model, an empty prompt, an unknown rule, or a number out of range.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    _check_temperature(temperature)
    generator = _generator(seed)
    if _whole("candidates", candidates, 0) and temperature and rule == "exact":
        raise LabError(f"candidates={candidates} must be 0 here: exact sampling checks one chain. Use temperature=0, or rule='typical'.")
    ids = ids_of(target, prompt)
    limit = _limit(target, limit)
    most = ADAPTIVE if gamma == "adaptive" else _whole("gamma", gamma, 1)
    drafter = _drafter(draft)
    notes = [_fitting(target, draft, candidates), NOT_EXACT if rule == "typical" and temperature else ""]
    for model in (target, *([draft] if hasattr(draft, "get_output_embeddings") else ())):
        # An adaptive gamma, and one that is lowered below, cannot be too large.
        refuse_long(model, len(ids), limit, 0 if gamma == "adaptive" or isinstance(drafter, MedusaDraft) else most)
    if most > drafter.most:
        notes.append(f"the draft proposes at most {drafter.most} tokens a round" if gamma != "adaptive" else "")
        most = int(drafter.most)
    ask = Ask(most, SURE if gamma == "adaptive" else 0.0, temperature, candidates, generator, tokenizer_of(target).ends)
    return _write(target, drafter, prompt, ids, ask, limit, rule, "; ".join(filter(None, notes)))


def plain(
    target: LanguageModel, prompt: str | Sequence[int], *, temperature: float = 0.0, seed: int = 0, limit: int | None = None
) -> Speculation:
    """The target's answer without a draft, one pass a token: the baseline of `speculate`, with the same arguments."""
    _check_temperature(temperature)
    ids = ids_of(target, prompt)
    limit = _limit(target, limit)
    refuse_long(target, len(ids), limit, 0)
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
    tokens = tokenizer_of(target)
    began = time.perf_counter()
    cached = CachedModel(target, drafter.extra_layers if drafter else (), goes_back=drafter is not None)
    states = cached.read(ids)
    first = _accept(cached.logits(states.final_T_D[-1:]), Proposal.chain([]), ask, "exact").token
    text, rounds = [*ids, first], list[Round]()
    full = len(ids) + limit
    if drafter:
        drafter.settle(text, states)
    while text[-1] not in tokens.ends and len(text) < full:
        room = min(ask.gamma, full - len(text) - 1)
        proposal = drafter.propose(ask._replace(gamma=room)) if drafter and room else Proposal.chain([])
        proposed, parents = proposal.ids, proposal.parents
        states = cached.read([text[-1], *proposed], [-1, *(parent + 1 for parent in parents)] if branches(parents) else None)
        path, token = _accept(cached.logits(states.final_T_D), proposal, ask, rule)
        taken = [proposed[i] for i in path]
        bonus = not any(parent == (path[-1] if path else -1) for parent in parents)
        if ended := [i for i, token in enumerate(taken) if token in tokens.ends]:  # accepted tokens after the end are dropped
            path = path[: ended[0] + 1]
            text += [proposed[i] for i in path]
            rounds.append(Round(proposed, parents, path, None, True))
            break
        text += [*taken, token]
        rounds.append(Round(proposed, parents, path, token, bonus))
        kept = [0, *(i + 1 for i in path)]
        cached.keep(1 + len(proposed), kept)
        if drafter:
            rows = torch.tensor(kept)
            layers = states.layers_T_L_D
            drafter.settle(text, States(states.final_T_D[rows], None if layers is None else layers[rows]))
    seconds = time.perf_counter() - began
    written = text[len(ids) :]
    names = {i: tokens.token(i) for i in {*written, *(x for r in rounds for x in r.proposed)}}
    question = prompt if isinstance(prompt, str) else tokens.text(ids)
    passes = drafter.cached.passes if isinstance(drafter, ModelDraft) else 0
    return Speculation(question, tokens.text(written), written, rounds, names, seconds, cached.passes, passes, note)


def _accept(logits_T_V: torch.Tensor, proposal: Proposal, ask: Ask, rule: str) -> accept.Acceptance:
    if not ask.temperature:
        return accept.greedy(logits_T_V, proposal.ids, proposal.parents)
    p_T_V = (logits_T_V / ask.temperature).softmax(-1).cpu()
    if rule == "typical":
        return accept.typical(p_T_V, proposal.ids, proposal.parents, ask.generator)
    if proposal.ids and (proposal.q_G_V is None or branches(proposal.parents)):
        raise LabError("exact sampling checks a chain of sampled tokens and needs their probabilities: the drafter must give q_G_V.")
    q_G_V = proposal.q_G_V.cpu() if proposal.q_G_V is not None else torch.zeros(0, p_T_V.shape[-1])
    return accept.sampled(p_T_V, q_G_V, proposal.ids, ask.generator)


def _drafter(draft: Any) -> Drafter:
    if isinstance(draft, Medusa):
        return MedusaDraft(draft)
    if isinstance(draft, Eagle):
        return EagleDraft(draft)
    if hasattr(draft, "get_output_embeddings"):
        ensure(draft)
        return ModelDraft(draft, context_of(draft.config.to_dict()))
    if hasattr(draft, "propose"):
        return draft
    raise LabError(f"{shown(draft)} cannot draft: give a language model, as in labkit.teacher('atlas-200k'), or trained heads.")


def _limit(target: LanguageModel, limit: int | None) -> int:
    return tokenizer_of(target).longest if limit is None else _whole("limit", limit, 1)


def _whole(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        also = " or 'adaptive' (0 is plain decoding: `plain`)" if name == "gamma" else ""
        raise LabError(f"{name}={shown(value)} must be a whole number of tokens, {low} or more{also}.")
    return value


def _check_temperature(temperature: Any) -> None:
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool) and math.isfinite(temperature)
    if not number or (temperature and temperature < COLDEST):
        raise LabError(f"temperature={shown(temperature)} must be 0 (the likeliest token), or at least {COLDEST:g}.")


def _generator(seed: Any) -> torch.Generator:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise LabError(f"seed={shown(seed)} must be a whole number: use 0, for example.")
    return torch.Generator().manual_seed(seed)


def _fitting(target: LanguageModel, draft: Any, candidates: int) -> str:
    """Check that a draft fits its target. Warns of a draft that is too large, and returns the warning.

    Raises `LabError` for a draft with another tokenizer, heads of another model, or a tree that the target cannot read.
    """
    if candidates:
        trees.check(target)
    if isinstance(draft, Heads):
        reads = getattr(draft, "trunk", draft.target)
        if target is not reads and models.fingerprint(target) != models.fingerprint(reads):
            fix = "heads.trunk, their own copy of it" if hasattr(draft, "trunk") else "the model that they were trained on"
            raise LabError(f"these heads read the states of another model than this target: use {fix}.")
    if not hasattr(draft, "get_output_embeddings"):
        return ""
    draft_tokens, target_tokens = tokenizer_of(draft), tokenizer_of(target)
    if draft_tokens.vocabulary != target_tokens.vocabulary:
        raise LabError(
            f"the draft has the tokenizer {draft_tokens.name!r}, the target {target_tokens.name!r}: token numbers would mean different "
            "words. Distil a draft with the target's tokenizer (vocabulary='atlas', or `labkit prune` the target)."
        )
    draft_size, target_size = models.parameters(draft), models.parameters(target)
    if draft_size <= target_size:
        return ""
    note = f"the draft has {draft_size:,} parameters but its target {target_size:,}, so decoding is slower: swap them"
    warnings.warn(note, stacklevel=3)
    return note
