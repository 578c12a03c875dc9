"""One text in two tokenizations: their shared spans, and what one model's probabilities say about the other's tokens.

    spans([b" Sp", b"ain", b""], [b" S", b"pain", b""])     # " Spain", then the end mark: two spans
    texts(ask, tokens, floor=1e-3)                          # the texts a model may write, summed over their segmentations

Positions are byte offsets. A token is its bytes. The end mark is the empty token, and has the one position after the text. All values are
in nats and unreduced: one number per span or token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.base.errors import LabError

END = b""
LEAST = 1e-6  # lower bound of the remaining probability, so that its logarithm is finite and not only rounding


# ---- shared spans ----------------------------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """A smallest part of the text that begins and ends at a token boundary of both sides."""

    teacher: range  # the numbers of its teacher tokens
    student: range  # the numbers of its student tokens
    start: int  # byte offsets
    stop: int


def offsets(tokens: Sequence[bytes]) -> list[int]:
    """The byte offset at which each token ends."""
    ends, place = [], 0
    for token in tokens:
        place += len(token) or 1
        ends.append(place)
    return ends


def spans(teacher: Sequence[bytes], student: Sequence[bytes]) -> list[Span]:
    """The smallest shared spans, in order. Each token of either side is in exactly one. Raises `LabError` if the texts differ."""
    if (one := b"".join(teacher)) != (other := b"".join(student)) or [END in teacher] != [END in student]:
        raise LabError(f"the teacher's tokens spell {one[:40]!r} and the student's {other[:40]!r}: give two tokenizations of one text.")
    ends = offsets(teacher), offsets(student)
    found, first, start = [], [0, 0], 0
    for stop in sorted(set(ends[0]) & set(ends[1])):
        last = [side.index(stop, i) + 1 for side, i in zip(ends, first, strict=True)]
        found.append(Span(range(first[0], last[0]), range(first[1], last[1]), start, stop))
        first, start = last, stop
    return found


# ---- all segmentations -----------------------------------------------------------------------------------------------------------


def segmentations(text: bytes, vocabulary: Sequence[bytes]) -> Iterator[tuple[bytes, ...]]:
    """All ways to split a text into tokens. Their number may double with each byte."""
    if not text:
        yield ()
    for token in vocabulary:
        if token and text.startswith(token):
            for rest in segmentations(text[len(token) :], vocabulary):
                yield (token, *rest)


Ask = Callable[[Tensor | None, Tensor | None], Tensor]


def texts(ask: Ask, tokens: Sequence[bytes], floor: float, longest: int) -> list[dict[bytes, float]]:
    """For each prompt, the texts that a model may answer with and their probabilities, summed over all segmentations.

    ask: `ask(None, None)` gives the next-token probabilities `(prompts, V)`; `ask(parents, tokens)` those after the paths that are made
        of path `parents[i]` of the previous call and token `tokens[i]`.
    tokens: the bytes of each token.
    floor: paths with a smaller probability are not followed.
    longest: nor are paths with more tokens.

    Returns a dict for each prompt. Its probabilities sum to less than 1 by the mass of the paths that were not followed.
    """
    weight_P_V = ask(None, None)
    ends = torch.tensor([token == END for token in tokens], device=weight_P_V.device)
    found: list[dict[bytes, float]] = [defaultdict(float) for _ in range(len(weight_P_V))]
    paths = [(prompt, b"") for prompt in range(len(weight_P_V))]
    for length in range(1, longest + 1):
        kept_P_V = (weight_P_V > 0) & (weight_P_V >= floor)
        for path, token in (kept_P_V & ends).nonzero().tolist():
            prompt, text = paths[path]
            found[prompt][text] += float(weight_P_V[path, token])
        parents, added = (kept_P_V & ~ends).nonzero(as_tuple=True)
        if not len(parents) or length == longest:
            break
        paths = [(paths[p][0], paths[p][1] + tokens[t]) for p, t in zip(parents.tolist(), added.tolist(), strict=True)]
        weight_P_V = weight_P_V[parents, added][:, None] * ask(parents, added)
    return [dict(answers) for answers in found]


def next_tokens(weighted: Sequence[tuple[Sequence[int], float]], answer: Sequence[int]) -> list[dict[int, float]]:
    """The distribution of the next token at each token of `answer`, for a writer of the texts in `weighted`.

    weighted: texts as token ids, each with its weight.

    Returns for each position the share of each next token in the weight of the texts that agree with the answer so far; the answer's own
    token where no text does.
    """
    found, alive = [], list(weighted)
    for place, token in enumerate(answer):
        mass: dict[int, float] = defaultdict(float)
        for ids, weight in alive:
            if len(ids) > place:
                mass[ids[place]] += weight
        total = sum(mass.values())
        found.append({t: m / total for t, m in mass.items()} if total else {token: 1.0})
        alive = [(ids, weight) for ids, weight in alive if len(ids) > place and ids[place] == token]
    return found


# ---- losses ----------------------------------------------------------------------------------------------------------------------


def add_up(logprobs_L: Tensor, span_L: Tensor, count: int) -> Tensor:
    """`(S,)` log-probability of each span: the sum over its tokens. `span_L` is the span of each token."""
    return logprobs_L.new_zeros(count).index_add(0, span_L, logprobs_L)


def shared_outcomes(logprobs_S_V: Tensor, columns_K: Tensor) -> Tensor:
    """`(S, K + 1)` log-probabilities of the tokens that both vocabularies have, and of all others together."""
    known_S_K = logprobs_S_V[:, columns_K]
    return torch.cat([known_S_K, _left_over(known_S_K)], -1)


def merged_outcomes(logprobs_S_V: Tensor, columns_K: Tensor, span_S: Tensor, begun_S_K: Tensor) -> Tensor:
    """`(S, K + 2)` log-probabilities at the start of each span, over the same outcomes for both models.

    The outcomes: each token that both vocabularies have, except those that begin the span on either side (`begun_S_K`); the span itself,
    as the product over its tokens (`span_S`); and everything else.

    Source: after the merging in GOLD (Patiño et al. 2025, Hugging Face), here as one proper distribution.
    """
    known_S_K = logprobs_S_V[:, columns_K].masked_fill(begun_S_K, -30.0)
    known_S_K = torch.cat([known_S_K, span_S[:, None]], -1)
    return torch.cat([known_S_K, _left_over(known_S_K)], -1)


def _left_over(logprobs_S_K: Tensor) -> Tensor:
    return (1 - logprobs_S_K.exp().sum(-1, keepdim=True)).clamp(min=LEAST).log()


def chunk_loss(teacher_S: Tensor, student_S: Tensor, temperature: float = 1.0) -> Tensor:
    """`(S,)` binary KL of the spans' log-probabilities: the span or anything else, both to the power 1/T, times T.

    Source: Minixhofer et al. 2025, ALM, arXiv 2503.20083, with KL as the divergence.
    """
    teacher, student = ((side / temperature).clamp(max=-LEAST) for side in (teacher_S, student_S))
    not_teacher, not_student = (torch.log(-torch.expm1(side)) for side in (teacher, student))
    return temperature * (teacher.exp() * (teacher - student) + not_teacher.exp() * (not_teacher - not_student))


def uld_loss(teacher_logits_N_V: Tensor, student_logits_N_W: Tensor, temperature: float = 1.0) -> Tensor:
    """`(N,)` L1 distance of the two distributions, each sorted by size, the shorter one padded with zeros.

    It ignores which token has which probability: it is 0 between a model and the same model with shuffled token ids.

    Source: universal logit distillation, Boizard et al. 2024, arXiv 2402.12030, eq. 4.
    """
    sides = [(logits / temperature).softmax(-1).sort(-1, descending=True).values for logits in (teacher_logits_N_V, student_logits_N_W)]
    width = max(side.shape[-1] for side in sides)
    teacher, student = (F.pad(side, (0, width - side.shape[-1])) for side in sides)
    return (teacher - student).abs().sum(-1)
