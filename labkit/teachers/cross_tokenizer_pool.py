"""A teacher's pool for a student with another tokenizer: the same bytes in the student's tokens, with the teacher's signals.

`CrossTokenizerPool` retokenizes the pool's rows and aligns both tokenizations for a step. `Answers` lists all answers that the teacher may
give, for exact targets. `spellings` lists the tokenizations of one answer.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM

from labkit.base.errors import DataError, LabError, reading
from labkit.base.files import write_whole
from labkit.losses.cross_tokenizer import spans as alignment
from labkit.losses.cross_tokenizer.losses import Aligned
from labkit.losses.cross_tokenizer.spans import Ask, spans
from labkit.models import EOS, AtlasTokenizer, logits_of, tokenizer, tokenizer_of
from labkit.models.parts import cached_pass
from labkit.models.score_answers import score_answers
from labkit.teachers.signals import Signals

FLOOR = 1e-3  # less likely answers are left out of the exact targets, except for the row's own answer
MANY_WAYS = 4_096  # most tokenizations of one answer
TOGETHER = 24  # prompts whose answers are listed at a time; each may branch into dozens


class Retokenized(NamedTuple):
    """A row in the student's tokens. Both tokenizations of its answer are divided into the same spans of bytes."""

    prompt: list[int]
    answer: list[int]
    span_of_teacher: list[int]  # number of the span that each teacher token of the answer is in
    span_of_student: list[int]  # the same for each student token


class CrossTokenizerPool:
    """The teacher's pool for a student with another vocabulary. Call `pool.prepare(rows)` before `aligned(rows)`.

    vocabulary: name of the student's vocabulary.
    across: name of the alignment.
    """

    growing = True

    def __init__(self, pool: Signals, vocabulary: str, across: str) -> None:
        self.pool, self.across = pool, across
        self.teacher, self.student = tokenizer(), tokenizer(vocabulary)
        student_token = {piece: token for token, piece in enumerate(self.student.pieces)}
        shared = [(token, student_token[piece]) for token, piece in enumerate(self.teacher.pieces) if piece in student_token]
        self.columns = torch.tensor([t for t, _ in shared]), torch.tensor([s for _, s in shared])
        self.column_of = torch.full((self.teacher.size,), -1), torch.full((self.student.size,), -1)
        for side, column in zip(self.columns, self.column_of, strict=True):
            column[side] = torch.arange(len(side))
        self._cuts: dict[int, Retokenized] = {}
        self._targets: dict[int, list[dict[int, float]]] = {}
        self._texts = Answers(pool, self.student) if across == "exact" else None

    def __len__(self) -> int:
        return len(self.pool)

    def prompt(self, row: int) -> list[int]:
        return self.cut(self.pool.entry(row)).prompt

    def answer(self, row: int) -> list[int]:
        return self.cut(self.pool.entry(row)).answer

    def cut(self, entry: int) -> Retokenized:
        """The text of an entry of the teacher's pool in the student's tokens."""
        if entry not in self._cuts:
            prompt, answer = self.pool.text(entry)
            self._cuts[entry] = retokenize(self.teacher, self.student, prompt, answer)
        return self._cuts[entry]

    def aligned(self, rows: Sequence[int], live: bool = False) -> Aligned:
        """The aligned signals of these pool rows, row after row. `live`: the teacher's states are computed now, not taken from the pool."""
        entries = [self.pool.entry(row) for row in rows]
        cuts, answers = [self.cut(e) for e in entries], [self.pool.text(e)[1] for e in entries]
        states = self.pool.live([self.pool.text(e)[0] for e in entries], answers) if live else self.pool.hidden(rows)
        logits = self.pool.logits(states)
        place = [0, 0, 0]
        span_L, span_M, first_L, first_M, pair_L, pair_M = ([0][:0] for _ in range(6))
        for cut, answer in zip(cuts, answers, strict=True):
            teacher_at, student_at, span_at = place
            for token_spans, spans_of, first, at in (
                (cut.span_of_teacher, span_L, first_L, teacher_at),
                (cut.span_of_student, span_M, first_M, student_at),
            ):
                spans_of += [span_at + s for s in token_spans]
                first += [at + i for i, s in enumerate(token_spans) if i == 0 or s != token_spans[i - 1]]
            both = range(min(len(answer), len(cut.answer)))
            pair_L += [teacher_at + i for i in both]
            pair_M += [student_at + i for i in both]
            place = [teacher_at + len(answer), student_at + len(cut.answer), span_at + cut.span_of_teacher[-1] + 1]
        target = self._target(rows, cuts).to(logits.device) if self._texts else None
        lists = ([t for a in answers for t in a], [t for c in cuts for t in c.answer], span_L, span_M, first_L, first_M)
        labels_L, labels_M, spans_L, spans_M, first_of_teacher_S, first_of_student_S = (torch.tensor(x).to(logits.device) for x in lists)
        pairs = torch.tensor(pair_L).to(logits.device), torch.tensor(pair_M).to(logits.device)
        columns, column_of = (tuple(x.to(logits.device) for x in two) for two in (self.columns, self.column_of))
        return Aligned(
            self.across,
            logits,
            labels_L,
            labels_M,
            spans_L,
            spans_M,
            first_of_teacher_S,
            first_of_student_S,
            pairs,
            columns,  # type: ignore[arg-type]
            column_of,  # type: ignore[arg-type]
            target,
        )

    def _target(self, rows: Sequence[int], cuts: Sequence[Retokenized]) -> Tensor:
        assert self._texts is not None
        where: list[tuple[int, int]] = []
        values: list[float] = []
        place = 0
        for row, cut in zip(rows, cuts, strict=True):
            entry = self.pool.entry(row)
            if entry not in self._targets:
                self._targets[entry] = alignment.next_tokens(self._texts.of(row), cut.answer)
            for following in self._targets[entry]:
                where += [(place, token) for token in following]
                values += following.values()
                place += 1
        target_M_W = torch.zeros(place, self.student.size)
        index = torch.tensor(where)
        target_M_W[index[:, 0], index[:, 1]] = torch.tensor(values)
        return target_M_W


def retokenize(teacher: AtlasTokenizer, student: AtlasTokenizer, prompt: Sequence[int], answer: Sequence[int]) -> Retokenized:
    """Write a row in the student's tokens: the same bytes, and an end token if the teacher's answer has one."""
    ended = [EOS] * (answer[-1:] == [EOS])
    question = [EOS, *student.cut(teacher.spell(prompt))]
    ids = [*student.cut(teacher.spell(answer)), *ended]
    pairs = spans([teacher.pieces[t] for t in answer], [student.pieces[t] for t in ids])
    sides = ([number for number, span in enumerate(pairs) for _ in side(span)] for side in (lambda s: s.teacher, lambda s: s.student))
    return Retokenized(question, ids, *sides)


# ---- exact: all answers that the teacher may give --------------------------------------------------------------------------------


class Answers:
    """All answers to the pool's questions to which the teacher gives a probability of at least `FLOOR`, summed over segmentations.

    They are in the student's tokens. They are listed when first needed, in fixed chunks of questions, and kept on disk beside the pool's
    signals.
    """

    def __init__(self, pool: Signals, student: AtlasTokenizer) -> None:
        self.pool, self.student = pool, student
        self._prompts: list[int] = []  # the first entry of each distinct question
        self._prompt_of: list[int] = []
        seen: dict[tuple[int, ...], int] = {}
        for entry in range(pool.total):
            key = tuple(pool.question(entry))
            if key not in seen:
                seen[key] = len(seen)
                self._prompts.append(entry)
            self._prompt_of.append(seen[key])
        self._texts: dict[int, dict[bytes, float]] = {}
        self._cut: dict[int, dict[bytes, tuple[list[int], float]]] = {}

    def of(self, row: int) -> list[tuple[list[int], float]]:
        """The answers to a row's question as the student's token ids, with their probabilities. The row's own answer is always included."""
        entry = self.pool.entry(row)
        number, answer = self._prompt_of[entry], self.pool.text(entry)[1]
        if number not in self._cut:
            if number not in self._texts:
                self._chunk(number // self.pool.chunk)
            self._cut[number] = {text: ([*self.student.cut(text), EOS], p) for text, p in self._texts[number].items()}
        known, text = self._cut[number], tokenizer().spell(answer)
        if text in known and answer[-1] == EOS:
            return list(known.values())
        logprobs = self.pool.logits(self.pool.hidden([row])).log_softmax(-1)
        probability = float(logprobs.gather(1, torch.tensor(answer, device=logprobs.device)[:, None]).sum().exp())
        return [*known.values(), (retokenize(tokenizer(), self.student, [EOS], answer).answer, max(probability, 1e-12))]

    def _chunk(self, number: int) -> None:
        numbers = range(number * self.pool.chunk, min((number + 1) * self.pool.chunk, len(self._prompts)))
        path = self.pool.folder / f"answers-{FLOOR:g}-{number:05}.json.gz"
        key = f"{path.parent.name}/{path.name} {numbers.start}-{numbers.stop}"  # of teacher, settings, floor and questions
        chunk = _read(path, key, len(numbers))
        if chunk is None:
            prompts = [self.pool.question(self._prompts[n]) for n in numbers]
            order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
            listed: dict[int, Mapping[bytes, float]] = {}
            for start in range(0, len(order), TOGETHER):
                part = order[start : start + TOGETHER]
                listed |= zip(part, answers_of(self.pool.teacher, [prompts[i] for i in part]), strict=True)
            chunk = [dict(listed[i]) for i in range(len(prompts))]
            plain = [{text.decode("latin-1"): p for text, p in texts.items()} for texts in chunk]
            write_whole(path, lambda to: to.write_bytes(gzip.compress(json.dumps({"of": key, "answers": plain}).encode(), mtime=0)))
        self._texts |= zip(numbers, chunk, strict=True)


def _read(path: Path, key: str, count: int) -> list[dict[bytes, float]] | None:
    """A chunk of listed answers from disk; None if it is missing, damaged or of other questions."""
    try:
        with reading(path, ""):
            kept = json.loads(gzip.decompress(path.read_bytes()))
            chunk = [{text.encode("latin-1"): float(p) for text, p in texts.items()} for texts in kept["answers"]]
            return chunk if kept["of"] == key and len(chunk) == count else None
    except DataError:
        return None


@torch.no_grad()
def answers_of(teacher: LlamaForCausalLM, prompts: Sequence[Sequence[int]], floor: float = FLOOR) -> list[dict[bytes, float]]:
    """For each prompt, the bytes of its answers and their probabilities, summed over all segmentations; see `spans.texts`.

    floor: less likely answers are left out.
    """
    return alignment.texts(_asking(teacher, prompts), tokenizer().pieces, floor, tokenizer().longest)


def spellings(model: LlamaForCausalLM, question: str, answer: str) -> dict[tuple[bytes, ...], float]:
    """All tokenizations of an answer.

    Returns each tokenization with the probability that the model writes it and then ends, the likeliest first. Their sum is the
    probability of the answer.

    Raises `LabError` for an answer with more than 4,096 tokenizations.
    """
    tokens = tokenizer_of(model)
    number = {piece: token for token, piece in enumerate(tokens.pieces)}
    ways = list(itertools.islice(alignment.segmentations(f" {answer}".encode(), tokens.pieces), MANY_WAYS + 1))
    if len(ways) > MANY_WAYS:
        raise LabError(f"{answer!r} has more than {MANY_WAYS:,} tokenizations: use a shorter answer, or `answers_of`, which has a floor.")
    answers = [[*(number[piece] for piece in way), EOS] for way in ways]
    scores = score_answers(model, tokens.prompts([question]) * len(ways), answers, torch.float64)
    probabilities = [float(score.sum().exp()) for score in scores]
    return dict(sorted(zip(ways, probabilities, strict=True), key=lambda way: -way[1]))


def _asking(teacher: LlamaForCausalLM, prompts: Sequence[Sequence[int]]) -> Ask:
    """The function that `spans.texts` calls for next-token probabilities, with a KV cache that branches with the paths."""
    device, cache = teacher.device, DynamicCache()
    width = max(map(len, prompts))
    first = torch.tensor([[EOS] * (width - len(p)) + list(p) for p in prompts])  # padded on the left: the next token is in the last column
    visible = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]).to(device)

    def ask(parents: Tensor | None, tokens: Tensor | None) -> Tensor:
        nonlocal visible
        if parents is None or tokens is None:
            read, position = first.to(device), (visible.cumsum(1) - 1).clamp(min=0)
        else:
            cache.reorder_cache(parents)
            visible = torch.cat([visible[parents], torch.ones_like(parents)[:, None]], 1)
            read, position = tokens[:, None], visible.sum(1, keepdim=True) - 1
        out = cached_pass(teacher, read, cache, visible, position)
        return logits_of(teacher, out[:, -1]).float().softmax(-1)

    return ask
