"""Theory beside decoding: for every token that was judged, the chance that theory gives it, and what became of it.

done = [speculate(target, draft, text, temperature=1.0, seed=i) for i, text in enumerate(questions)]
found = judged(target, draft, done)                # a row a token
share(found).middle, mean(x.chance for x in found) # as often accepted as 1 - TV says
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from labkit.base.errors import LabError
from labkit.models import tokenizer_of
from labkit.models.architectures import LanguageModel
from labkit.speculative.decode import plain
from labkit.speculative.drafters import branches
from labkit.speculative.result import Speculation
from labkit.speculative.theory import overlap


class Judged(NamedTuple):
    """A proposed token that was looked at. place: in its round, from 1; chance: sum min(p, q) where it stood; roomy: the answer went on for
    as long as the round could have written, so that its end did not cut the round short."""

    place: int
    chance: float
    taken: bool
    roomy: bool


class Share(NamedTuple):
    """How many of n were taken, with the 95% interval of a binomial share (Wilson's, which keeps within 0 and 1)."""

    middle: float
    low: float
    high: float
    n: int


@torch.inference_mode()
def judged(target: LanguageModel, draft: LanguageModel, done: Sequence[Speculation], temperature: float = 1.0) -> list[Judged]:
    """Every judged token of some sampled decodings. Raises `LabError` for trees, which are not sampled, and for heads, which do not read a
    text as a model does."""
    if not hasattr(draft, "lm_head"):
        raise LabError(
            "the chances are read off a draft that is a language model; heads have theirs in their exams (fidelity['acceptance'])."
        )
    if any(branches(r.parents) for one in done for r in one.rounds):
        raise LabError("some of these were decoded with trees, where no chance belongs to a guess alone: decode with candidates=0.")
    found = []
    for one in done:
        (prompt,) = tokenizer_of(target).prompts([one.prompt])
        text = torch.tensor([[*prompt, *one.ids]])
        p_T_V, q_T_V = (m(text.to(m.device)).logits[0, len(prompt) - 1 : -1].float().cpu() for m in (target, draft))
        chance_T = overlap(p_T_V, q_T_V, temperature).tolist()
        at = 1  # the first token came with the prompt
        for done_round in one.rounds:
            roomy = at + len(done_round.proposed) < len(one.ids)
            for i in range(done_round.judged if done_round.proposed else 0):
                found.append(Judged(i + 1, chance_T[at + i], i < len(done_round.path), roomy))
            at += len(done_round.path) + (done_round.token is not None)
    return found


def share(found: Iterable[Judged]) -> Share:
    """Of some judged tokens those that were taken. Raises `LabError` for none."""
    taken = [x.taken for x in found]
    if not taken:
        raise LabError("no token was judged, so there is no share of them: decode more prompts, or propose something (gamma above 0).")
    from scipy.stats import binomtest

    interval = binomtest(sum(taken), len(taken)).proportion_ci(0.95, "wilson")
    return Share(sum(taken) / len(taken), interval.low, interval.high, len(taken))


class Pooled(NamedTuple):
    """Over several decodings. acceptance: the share of judged places at which a guess was taken; tokens_per_round: without first tokens."""

    acceptance: float
    tokens_per_round: float


def pooled(done: Sequence[Speculation]) -> Pooled:
    """Both over all that was decoded. NaN where nothing was proposed, or no round was needed."""
    places, rounds = sum(r.judged for one in done for r in one.rounds if r.proposed), sum(len(one.rounds) for one in done)
    written = sum(len(one.ids) - 1 for one in done)
    return Pooled(sum(one.accepted for one in done) / places if places else math.nan, written / rounds if rounds else math.nan)


def by_place(found: Iterable[Judged]) -> list[float]:
    """The share taken at each place of a round, given that all before it were: what `theory.tokens_by_position` takes."""
    rows = list(found)
    return [share(x for x in rows if x.place == place).middle for place in sorted({x.place for x in rows})]


def cost_ratio(target: LanguageModel, draft: LanguageModel, questions: Sequence[str]) -> float:
    """What the draft takes for a token as a share of what the target takes, on this machine: each writes its own answers, by turns."""
    seconds, passes = [0.0, 0.0], [0, 0]
    for text in questions:
        for i, model in enumerate((target, draft)):
            one = plain(model, text)
            seconds[i] += one.seconds
            passes[i] += one.target_passes
    return (seconds[1] / passes[1]) / (seconds[0] / passes[0])
