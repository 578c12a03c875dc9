"""What two models say of one text, token by token: the numbers of the text lens.

    reading = read_text("atlas-3m", labkit.student("57k"), ("What is the capital of Chad?", "N'Djamena"))
    reading.tokens[0].kl, reading.tokens[0].sides[0].rank

A recorded answer with its log-probabilities (`labkit label --logprobs 5`) may take the teacher's place.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit import models
from labkit.base.chat import from_json
from labkit.base.errors import LabError, shown
from labkit.losses.divergences import TAILS, forward_kl
from labkit.models import pretrained, tokenizer_of
from labkit.models.architectures import room_for
from labkit.models.damage import not_finite, usable
from labkit.models.parts import row_logits
from labkit.records.names import STUDENTS, named_model
from labkit.tasks.custom.rows import Row
from labkit.views.figures.token_table import END_NAME

MOST = 256  # tokens of a text: as many as a page can show, and the context of the lab's own models
FIRST = 3  # choices that are shown
ASKED = "What is the capital of Chad?"
TEACHER, STUDENT, RECORDED = "teacher", "student", "recorded teacher"


class Seen(NamedTuple):
    """A token as one model sees it."""

    entropy: float  # of the model's choice at this place, in nats
    rank: int | None  # of the token, from 1; None if it is not among the recorded ones
    probability: float
    first: tuple[tuple[str, float], ...]  # the likeliest tokens and their probabilities


class ReadToken(NamedTuple):
    """A token of the text."""

    text: str
    sides: tuple[Seen, ...]
    kl: float | None  # KL(teacher || student) in nats, if there are two sides


class Reading(NamedTuple):
    """A text as one or two models see it."""

    before: str  # text that is given, and not judged
    tokens: list[ReadToken]
    sides: tuple[str, ...]
    note: str  # what the numbers leave out


def read_text(teacher: Any, student: Any = None, text: str | Sequence[str] | None = None) -> Reading:
    """Read a text with one or two models.

    teacher: a model, its name or folder, or a row of an answers file with `logprobs`.
    student: a model, its name or folder; None for the teacher alone.
    text: a text, or a pair of prompt and answer, of which the answer is judged. If not given, the teacher answers a question. A recorded
        row has its own text.

    Raises `LabError` for models with different tokenizers, a text that is empty or too long, or a row without log-probabilities.
    """
    if isinstance(teacher, Row):
        teacher = {**teacher.fields, "prompt": teacher.prompt, "response": teacher.response}
    reader = _model(student)
    if isinstance(teacher, Mapping):
        return _recorded(teacher, reader)
    leader = _model(teacher)
    both = [leader] if reader is None else [leader, reader]
    tokens = tokenizer_of(leader)
    if tokens.vocabulary != tokenizer_of(both[-1]).vocabulary:
        raise LabError('teacher and student have different tokenizers, so no token has two probabilities: see labkit.lens("alignment").')
    before, answer = _ids(leader, text)
    sides = [_logprobs(model, before, answer, role) for model, role in zip(both, (TEACHER, STUDENT), strict=False)]
    kl = forward_kl(*sides).tolist() if reader is not None else [None] * len(answer)
    seen = [_seen(side, answer, tokens) for side in sides]
    read = [ReadToken(_name(tokens, ids), *rest) for ids, *rest in zip(answer, zip(*seen, strict=True), kl, strict=True)]
    return Reading("".join(_name(tokens, i) for i in before if i not in tokens.ends), read, (TEACHER, STUDENT)[: len(both)], "")


def _model(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if named_model(given):
        return pretrained.load(given, torch.float32)
    return models.student(given).eval() if given in STUDENTS else models.teacher(given)


def _ids(model: Any, text: str | Sequence[str] | None) -> tuple[list[int], list[int]]:
    """Token ids that are given, and those that are judged."""
    tokens: Any = tokenizer_of(model)
    if text is None:
        prompt = tokens.prompts([ASKED])[0]
        return prompt, models.write(model, [prompt])[0].ids
    if isinstance(text, str):
        chat = hasattr(tokens, "inner")
        ids = tokens.inner(text, split_special_tokens=True)["input_ids"] if chat else tokens.prompts([text])[0]
        return ids[:1], ids[1:]  # the first token, mostly a begin mark, is predicted from nothing
    if not isinstance(text, list | tuple) or len(text) != 2 or not all(isinstance(part, str) for part in text):
        raise LabError(f"text={shown(text)} is neither a text nor a pair: give 'a text', or ('a prompt', 'its answer').")
    return tokens.prompts([text[0]])[0], tokens.answers([text[1]])[0]


@torch.no_grad()
def _logprobs(model: Any, before: Sequence[int], answer: Sequence[int], role: str) -> Tensor:
    """The model's log-probabilities `(N, V)` at the answer's tokens, in fp32."""
    ids = [*before, *answer]
    if not answer:
        raise LabError("the text has no token to judge: give at least one word.")
    _refuse_long(len(ids))
    room_for(model, len(ids))
    training = model.training
    model.eval()
    logits = row_logits(model, ids)[len(before) - 1 : -1].cpu()
    model.train(training)
    if not usable(logits):
        raise not_finite(model, f"the {role}")
    return logits.log_softmax(-1)


def _refuse_long(tokens: int) -> None:
    if tokens > MOST:
        raise LabError(f"the text has {tokens:,} tokens, and the lens shows {MOST}: give a shorter one.")


def _seen(logprobs_N_V: Tensor, answer: Sequence[int], tokens: Any) -> list[Seen]:
    own_N_1 = logprobs_N_V.gather(-1, torch.tensor(answer)[:, None])
    top = logprobs_N_V.topk(min(FIRST, logprobs_N_V.shape[-1]), dim=-1)
    columns = (
        torch.special.entr(logprobs_N_V.exp()).sum(-1),
        (logprobs_N_V > own_N_1).sum(-1) + 1,
        own_N_1[:, 0].exp(),
        top.indices,
        top.values.exp(),
    )
    return [
        Seen(entropy, rank, probability, tuple((_name(tokens, i), chance) for i, chance in zip(ids, chances, strict=True)))
        for entropy, rank, probability, ids, chances in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _name(tokens: Any, token: int) -> str:
    """The text of a token."""
    return END_NAME if token in tokens.ends else tokens.token(token)


# ---- recorded log-probabilities ----------------------------------------------------------------------------------------------------


def _recorded(row: Mapping[str, Any], student: Any) -> Reading:
    """A recorded answer, and a student on the same tokens. The KL is over the recorded tokens, and all others as one."""
    said, prompt = _checked(row), from_json(row.get("prompt") or "")
    sides = [[_seen_recorded(token) for token in said]]
    kl: list[float | None] = [None] * len(said)
    if student is not None:
        tokens = tokenizer_of(student)
        before, answer = tokens.prompts([prompt])[0], _same_tokens(tokens, [token.text for token in said])
        logprobs_N_V = _logprobs(student, before, answer, STUDENT)
        sides.append(_seen(logprobs_N_V, answer, tokens))
        known = _by_text(tokens)
        kl = [_bucketed(token, known, own, i) for token, own, i in zip(said, logprobs_N_V, answer, strict=True)]
    most = max(token.alternatives for token in said)
    note = f"The recorded teacher has at most {most} tokens at each place, and the others as one"
    note += ": its entropy and the KL are lower bounds." if student is not None else ": its entropy is a lower bound."
    read = [ReadToken(token.text, seen, value) for token, seen, value in zip(said, zip(*sides, strict=True), kl, strict=True)]
    return Reading(prompt, read, (RECORDED, STUDENT)[: len(sides)], note)


class Kept(NamedTuple):
    """A recorded token. Names are texts, or the bytes of tokens that are a part of a character: their texts are all the same."""

    text: str
    name: str
    ranked: bool  # whether it is among the alternatives
    alternatives: int
    logprobs: dict[str, float]  # at its place, by name


def _checked(row: Mapping[str, Any]) -> list[Kept]:
    """Each recorded token with the log-probabilities at its place."""
    try:
        said = [_kept(token) for token in row["logprobs"]]
        fine = bool(said) and all(x <= 0 for token in said for x in token.logprobs.values())  # NaN is not
    except (KeyError, TypeError, ValueError):
        fine = False
    if not fine:
        raise LabError("the row has no log-probabilities that can be read: record it with `labkit label --logprobs 5`.")
    _refuse_long(len(said))
    return said


def _kept(token: Mapping[str, Any]) -> Kept:
    def name(text: str, part: Sequence[int] | None) -> str:
        return f"bytes {bytes(part).hex(' ')}" if part else str(text)

    own, top = name(token["token"], token.get("bytes")), token["top"]
    alternatives = {name(text, part): float(x) for (text, x), part in zip(top, token.get("top_bytes") or [None] * len(top), strict=True)}
    return Kept(token["token"], own, own in alternatives, len(top), {**alternatives, own: float(token["logprob"])})


def _seen_recorded(token: Kept) -> Seen:
    chances = sorted(((name, math.exp(x)) for name, x in token.logprobs.items()), key=lambda pair: -pair[1])
    rest = max(0.0, 1 - sum(chance for _, chance in chances))
    entropy = -sum(chance * math.log(chance) for chance in [*(chance for _, chance in chances), rest] if chance > 0)
    own = token.logprobs[token.name]
    rank = 1 + sum(x > own for x in token.logprobs.values()) if token.ranked else None
    return Seen(entropy, rank, math.exp(own), tuple(chances[:FIRST]))


def _same_tokens(tokens: Any, said: Sequence[str]) -> list[int]:
    """The student's ids of recorded tokens, of which some servers record the end mark too."""
    ended = said[-1] == _raw(tokens, tokens.end)
    text = "".join(said[: len(said) - ended])
    for written in (text, text.removeprefix(" ")):  # the lab's own tokenizers put the space before an answer themselves
        ids = tokens.answers([written])[0]
        if [_raw(tokens, i) for i in ids[: len(said)]] == list(said) and len(ids) - len(said) == (not ended):
            return ids[: len(said)]
    raise LabError('the student has other tokens than the recorded ones, so no token has two probabilities: see labkit.lens("alignment").')


def _by_text(tokens: Any) -> dict[str, int]:
    """Ids by the text of the token; a text that several tokens have, as parts of a character do, is left out."""
    texts = [_raw(tokens, i) for i in range(tokens.size)]
    many = Counter(texts)
    return {text: i for i, text in enumerate(texts) if many[text] == 1}


def _raw(tokens: Any, token: int) -> str:
    """The text of a token as a server writes it."""
    if token not in tokens.ends:
        return tokens.token(token)
    return tokens.inner.decode([token]) if hasattr(tokens, "inner") else "<eos>"


def _bucketed(kept: Kept, known: Mapping[str, int], own_V: Tensor, token: int) -> float:
    """KL over the recorded tokens that the student has, and all others as one. `token` is the student's id of the recorded one."""
    ids = {known[name]: x for name, x in kept.logprobs.items() if name in known} | {token: kept.logprobs[kept.name]}
    sides = torch.tensor([list(ids.values())]), own_V[list(ids)][None]
    return float(forward_kl(*TAILS["bucket"].reduce(*sides)))
