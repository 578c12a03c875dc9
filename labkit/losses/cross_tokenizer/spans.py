"""One text, cut into tokens in two ways: what the cuts share, and what one side's probabilities say about the other's tokens.

    spans([b" Sp", b"ain", b""], [b" S", b"pain", b""])     # " Spain", then the end mark: two spans
    texts(ask, tokens, floor=1e-3)                          # all a model may write, equal texts added up over their segmentations

Places are byte offsets. A token is its bytes; the end mark is the empty token, and takes the one place behind the text. Everything
here is in nats, and unreduced: one number a span, or a token.
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
LEAST = 1e-6  # probability of what is left over, so that its logarithm exists and rounding does not decide it


# ---- where the cuts meet ---------------------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """A smallest stretch of text at both of whose ends both sides cut: the numbers of its tokens on either side, and its bytes."""

    teacher: range
    student: range
    start: int
    stop: int


def offsets(tokens: Sequence[bytes]) -> list[int]:
    """Where each token ends."""
    ends, place = [], 0
    for token in tokens:
        place += len(token) or 1
        ends.append(place)
    return ends


def spans(teacher: Sequence[bytes], student: Sequence[bytes]) -> list[Span]:
    """The smallest shared spans, in order; every token of either side is in exactly one. Raises `LabError` if the texts differ."""
    if (one := b"".join(teacher)) != (other := b"".join(student)) or [END in teacher] != [END in student]:
        raise LabError(f"the tokens spell {one[:40]!r} on one side and {other[:40]!r} on the other: align two cuts of one text.")
    ends = offsets(teacher), offsets(student)
    found, first, start = [], [0, 0], 0
    for stop in sorted(set(ends[0]) & set(ends[1])):
        last = [side.index(stop, i) + 1 for side, i in zip(ends, first, strict=True)]
        found.append(Span(range(first[0], last[0]), range(first[1], last[1]), start, stop))
        first, start = last, stop
    return found


# ---- all segmentations -----------------------------------------------------------------------------------------------------------


def segmentations(text: bytes, vocabulary: Sequence[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Every way to spell a text in tokens; their number may double with every byte."""
    if not text:
        yield ()
    for token in vocabulary:
        if token and text.startswith(token):
            for rest in segmentations(text[len(token) :], vocabulary):
                yield (token, *rest)


Ask = Callable[[Tensor | None, Tensor | None], Tensor]


def texts(ask: Ask, tokens: Sequence[bytes], floor: float, longest: int) -> list[dict[bytes, float]]:
    """For each of a model's prompts, the texts it may answer with and their probability, added up over all segmentations.

    ask(None, None) gives the next-token probabilities `(prompts, V)`; ask(parents, tokens) those of paths that are path
    `parents[i]` of the last time with `tokens[i]` added. Token paths below `floor`, or longer than `longest`, are not followed: what
    is missing to 1 is their mass, and with floor 0 nothing is missing but that of the longest.
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
    """What comes next at every token of `answer`, for whoever writes the texts of `weighted` (as token ids, with their weights): the
    share of weight behind each next token, among the texts that begin as the answer does up to there."""
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
    """`(S,)` log-probability of each span: the sum over its tokens, `span_L` being the span each is in."""
    return logprobs_L.new_zeros(count).index_add(0, span_L, logprobs_L)


def shared_outcomes(logprobs_S_V: Tensor, columns_K: Tensor) -> Tensor:
    """`(S, K + 1)` log-probabilities of the tokens that both vocabularies have, and of all the others together."""
    known_S_K = logprobs_S_V[:, columns_K]
    return torch.cat([known_S_K, _left_over(known_S_K)], -1)


def merged_outcomes(logprobs_S_V: Tensor, columns_K: Tensor, span_S: Tensor, begun_S_K: Tensor) -> Tensor:
    """`(S, K + 2)` log-probabilities at the beginning of each span: the tokens both vocabularies have, except those that begin the span
    on either side (`begun_S_K`); the span itself, as the product over its tokens; and everything else.

    After the merging of GOLD (Patiño et al. 2025, Hugging Face), here as one proper distribution over the same outcomes on both sides.
    """
    known_S_K = logprobs_S_V[:, columns_K].masked_fill(begun_S_K, -30.0)
    known_S_K = torch.cat([known_S_K, span_S[:, None]], -1)
    return torch.cat([known_S_K, _left_over(known_S_K)], -1)


def _left_over(logprobs_S_K: Tensor) -> Tensor:
    return (1 - logprobs_S_K.exp().sum(-1, keepdim=True)).clamp(min=LEAST).log()


def chunk_loss(teacher_S: Tensor, student_S: Tensor, temperature: float = 1.0) -> Tensor:
    """`(S,)` binarised KL of the spans' log-probabilities: the span, or anything else, both to the power 1/T, times T
    (Minixhofer et al. 2025, ALM, arXiv 2503.20083, with KL as the divergence)."""
    teacher, student = ((side / temperature).clamp(max=-LEAST) for side in (teacher_S, student_S))
    not_teacher, not_student = (torch.log(-torch.expm1(side)) for side in (teacher, student))
    return temperature * (teacher.exp() * (teacher - student) + not_teacher.exp() * (not_teacher - not_student))


def uld_loss(teacher_logits_N_V: Tensor, student_logits_N_W: Tensor, temperature: float = 1.0) -> Tensor:
    """`(N,)` L1 distance of the two distributions, each sorted by size, the shorter one padded with zeros (Boizard et al. 2024, universal
    logit distillation, arXiv 2402.12030, eq. 4). Blind to which token is which: it is 0 between a
    model and the same with the names of its tokens shuffled."""
    sides = [(logits / temperature).softmax(-1).sort(-1, descending=True).values for logits in (teacher_logits_N_V, student_logits_N_W)]
    width = max(side.shape[-1] for side in sides)
    teacher, student = (F.pad(side, (0, width - side.shape[-1])) for side in sides)
    return (teacher - student).abs().sum(-1)
