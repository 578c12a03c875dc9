"""Compare decoding with theory: for each judged token, the acceptance probability by theory, and whether it was accepted.

done = [speculate(target, draft, text, temperature=1.0, seed=i) for i, text in enumerate(questions)]
rows = judged(target, draft, done)                 # one row per token
share(rows).middle, mean(x.chance for x in rows)   # measured acceptance, and 1 - TV
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from labkit.base.errors import LabError
from labkit.models import tokenizer_of
from labkit.models.architectures import LanguageModel
from labkit.models.parts import row_logits
from labkit.speculative.decode import plain
from labkit.speculative.drafters import branches
from labkit.speculative.result import Speculation
from labkit.speculative.theory import overlap


class Judged(NamedTuple):
    """A proposed token that the target accepted or rejected."""

    place: int  # in its round, from 1
    chance: float  # its acceptance probability by theory: sum of min(p, q)
    taken: bool  # whether it was accepted
    roomy: bool  # whether the answer is longer than all of the round's proposal, so that its end did not shorten the round


class Share(NamedTuple):
    """The accepted share of n tokens, with the 95% Wilson interval of a binomial share."""

    middle: float
    low: float
    high: float
    n: int


@torch.inference_mode()
def judged(target: LanguageModel, draft: LanguageModel, done: Sequence[Speculation], temperature: float = 1.0) -> list[Judged]:
    """All judged tokens of some sampled decodings.

    done: the decodings, by `speculate` with this target and draft.
    temperature: that of the decodings.

    Raises `LabError` for trees, which are not sampled, and for draft heads, which cannot read a text alone.
    """
    if not hasattr(draft, "get_output_embeddings"):
        raise LabError("the draft must be a language model here; the acceptance of draft heads is in their exam (fidelity['acceptance']).")
    if any(branches(r.parents) for one in done for r in one.rounds):
        raise LabError("some of these were decoded with trees, whose tokens have no probability of their own: decode with candidates=0.")
    rows = []
    for one in done:
        (prompt,) = tokenizer_of(target).prompts([one.prompt])
        p_T_V, q_T_V = (row_logits(model, [*prompt, *one.ids])[len(prompt) - 1 : -1].cpu() for model in (target, draft))
        chance_T = overlap(p_T_V, q_T_V, temperature).tolist()
        at = 1  # the first token came with the prompt
        for done_round in one.rounds:
            roomy = at + len(done_round.proposed) < len(one.ids)
            for i in range(done_round.judged if done_round.proposed else 0):
                rows.append(Judged(i + 1, chance_T[at + i], i < len(done_round.path), roomy))
            at += len(done_round.path) + (done_round.token is not None)
    return rows


def share(found: Iterable[Judged]) -> Share:
    """The accepted share of judged tokens. Raises `LabError` if there are none."""
    taken = [x.taken for x in found]
    if not taken:
        raise LabError("no token was judged, so there is no accepted share: decode more prompts, or use gamma above 0.")
    from scipy.stats import binomtest

    interval = binomtest(sum(taken), len(taken)).proportion_ci(0.95, "wilson")
    return Share(sum(taken) / len(taken), interval.low, interval.high, len(taken))


class Pooled(NamedTuple):
    """Results over several decodings."""

    acceptance: float  # share of the judged places at which a token was accepted; NaN if nothing was proposed
    tokens_per_round: float  # without the first token of each answer; NaN if there was no round


def pooled(done: Sequence[Speculation]) -> Pooled:
    """Acceptance and tokens per round over all decodings together."""
    places, rounds = sum(r.judged for one in done for r in one.rounds if r.proposed), sum(len(one.rounds) for one in done)
    written = sum(len(one.ids) - 1 for one in done)
    return Pooled(sum(one.accepted for one in done) / places if places else math.nan, written / rounds if rounds else math.nan)


def by_place(found: Iterable[Judged]) -> list[float]:
    """The accepted share at each place of a round, given that all before it were accepted."""
    rows = list(found)
    return [share(x for x in rows if x.place == place).middle for place in sorted({x.place for x in rows})]


def cost_ratio(target: LanguageModel, draft: LanguageModel, questions: Sequence[str]) -> float:
    """The draft's time per token divided by the target's, on this machine. The models take turns to write their own answers."""
    seconds, passes = [0.0, 0.0], [0, 0]
    for text in questions:
        for i, model in enumerate((target, draft)):
            one = plain(model, text)
            seconds[i] += one.seconds
            passes[i] += one.target_passes
    return (seconds[1] / passes[1]) / (seconds[0] / passes[0])
