"""What the teacher says about a question, written down once: its answer, and the final hidden states behind every token of it.

The states (fp16, 384 bytes a token for `atlas-3m`) and the teacher's own head give back its full logits, so any temperature
stays exact and may change while a run is going. One entry belongs to one key, a hash of tokenizer, teacher and text, so that no
shuffling of questions can hand a student another question's answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.base import tensors
from labkit.base.errors import DataError
from labkit.base.files import home_dir
from labkit.base.settings import default
from labkit.models import answer_states, draw, fingerprint, pad, tokenizer_of, write
from labkit.tasks.types import Asked
from labkit.teachers.topk_store import TopKStore, dense

POOL_SEED = 7  # of the questions the teacher is asked: one pool for all seeds, so that seeds differ in the student alone
TOGETHER = 16  # chunks of top-k signals written at a time, so that files stay few; a kill loses those that wait
PASS = 64  # rows read in one pass: of similar length, so that little of it is padding, and few enough for the processor's cache


class Signals:
    """The teacher's answers to a pool of questions, each written when it is first needed and kept on disk.

    A question asked twice is answered once, unless it has many right answers: then each asking samples its own answer, at
    temperature 1. `answers[i]` and `hidden(rows)` are there once `prepare` has covered them.
    """

    growing = True  # answered as the student gets to it

    def __init__(
        self,
        teacher: LlamaForCausalLM,
        questions: Sequence[Asked],
        folder: Path | None = None,
        *,
        chunk: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.teacher, self.chunk, self.temperature = teacher, chunk or default().chunk, temperature
        self.own = tokenizer_of(teacher)
        texts, guesses, self._entry_of_row = distinct(questions, again=temperature > 0)
        self._guesses = self.own.answers(guesses)
        self._prompts = self.own.prompts([text for text, _ in texts])
        who = f"{self.own.fingerprint}-{fingerprint(teacher)}{self._how()}"
        self._keys = [hashlib.blake2b(f"{who} {n} {text}".encode(), digest_size=16).digest() for text, n in texts]
        name = hashlib.blake2b(b"".join(self._keys), digest_size=8).hexdigest()
        self.folder = (folder or home_dir() / "signals") / f"{who}-{name}"
        self._answers: list[list[int] | None] = [None] * len(texts)
        self._hidden: list[Tensor | None] = [None] * len(texts)
        self.labelled = 0
        self.teacher_tokens = 0
        self.bytes = 0
        self.damaged: list[Path] = []

    def _how(self) -> str:
        """Marks signals that were not taken in the usual way, so that they are kept apart."""
        return "" if self.temperature == 1 else f"-t{self.temperature:g}-{self.own.longest}"

    def __len__(self) -> int:
        """Rows, the same question counted as often as it is asked."""
        return len(self._entry_of_row)

    @property
    def total(self) -> int:
        """Distinct questions in the pool."""
        return len(self._keys)

    def entry(self, row: int) -> int:
        """The number of a row's distinct question; its chunk is `entry // self.chunk`."""
        return self._entry_of_row[row]

    def question(self, entry: int) -> list[int]:
        """A distinct question's prompt, which is there before its answer is."""
        return self._prompts[entry]

    def text(self, entry: int) -> tuple[list[int], list[int]]:
        """Prompt and answer of a distinct question, as token ids."""
        answer = self._answers[entry]
        assert answer is not None, "prepare() comes before the answer"
        return self._prompts[entry], answer

    def prompt(self, row: int) -> list[int]:
        return self.text(self.entry(row))[0]

    def answer(self, row: int) -> list[int]:
        return self.text(self.entry(row))[1]

    def prepare(self, rows: Sequence[int]) -> Iterator[int]:
        """Make sure these rows are answered; yields how many distinct questions are, each time that number grows."""
        for row in rows:
            entry = self._entry_of_row[row]
            if self._answers[entry] is None:
                self._chunk(entry // self.chunk)
                yield self.labelled

    def hidden(self, rows: Sequence[int]) -> Tensor:
        """What was kept of the teacher at the answer positions of these rows, one row after the other: its states `(N, hidden)` in fp16."""
        return torch.cat([self._hidden[self._entry_of_row[row]] for row in rows])  # type: ignore[misc]

    def live(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
        """Such states in fp32 for any answers, worked out by the teacher now: what a run without a cache pays at every step."""
        read = pad(prompts, answers)
        self.teacher_tokens += read.tokens_B_T.numel()
        with torch.no_grad():
            return answer_states(self.teacher, read)

    def logits(self, hidden: Tensor) -> Tensor:
        """The teacher's logits `(N, V)` behind its states."""
        with torch.no_grad():
            return self.teacher.lm_head(hidden.to(self.teacher.device, self.teacher.lm_head.weight.dtype)).float()

    def _chunk(self, number: int) -> None:
        entries = range(number * self.chunk, min((number + 1) * self.chunk, self.total))
        path = self.folder / f"{number:05}.safetensors"
        kept = self._read(path, entries) if path.exists() else None
        if kept is None:
            said = self._said(entries)
            kept = {
                "keys": torch.frombuffer(bytearray(b"".join(self._keys[e] for e in entries)), dtype=torch.uint8),
                "lengths": torch.tensor([len(answer.ids) for answer in said]),
                "ids": torch.tensor([token for answer in said for token in answer.ids], dtype=torch.int32),
                "hidden": torch.cat([answer.hidden for answer in said]).half().cpu(),
            }
            tensors.save(path, kept)
        lengths = kept["lengths"].tolist()
        ids, hidden = kept["ids"].split(lengths), kept["hidden"].split(lengths)
        for entry, answer, states in zip(entries, ids, hidden, strict=True):
            self._answers[entry], self._hidden[entry] = answer.tolist(), states
        self.labelled += len(entries)
        self.bytes += kept["hidden"].numel() * kept["hidden"].element_size()

    def _said(self, entries: range) -> list[TeacherAnswer]:
        """The teacher's answers to these, given now."""
        seed = int.from_bytes(self._keys[entries[0]][:7])
        prompts, guesses = [self._prompts[e] for e in entries], [self._guesses[e] for e in entries]
        said = sample_answers(self.teacher, prompts, guesses, seed, self.temperature)
        self.teacher_tokens += sum(map(len, prompts)) + sum(len(answer.ids) for answer in said)
        return said

    def _read(self, path: Path, entries: range) -> dict[str, Tensor] | None:
        """A chunk from disk, or None (and a note in `damaged`) if it is broken or was written for other questions."""
        try:
            kept, _ = tensors.load(path)
            if bytes(kept["keys"].tolist()) == b"".join(self._keys[e] for e in entries):
                return kept
        except (DataError, KeyError):
            pass
        self.damaged.append(path)
        return None


class TopKSignals(Signals):
    """The same for vocabularies whose states would take too much room: of each answer token the teacher's `k` likeliest, kept by
    `topk_store.TopKStore` in 129 bytes (k = 32). At temperatures other than 1 the tail is only as true as it is even (see
    `topk_store.dense`)."""

    def __init__(self, *args, k: int, **how) -> None:
        self.k = k
        super().__init__(*args, **how)
        self.store = TopKStore(self.folder, vocabulary=self.own.size, k=k, who=self.folder.name)

    def _how(self) -> str:
        return f"{super()._how()}-top{self.k}"

    def hidden(self, rows: Sequence[int]) -> Tensor:
        """Token numbers and log-probabilities `(N, 2k)` at the answer positions of these rows, one row after the other."""
        return torch.cat(self.store.read(self._entry_of_row[row] for row in rows), -1)

    def logits(self, hidden: Tensor) -> Tensor:
        return dense(hidden[:, : self.k].long(), hidden[:, self.k :], self.own.size)

    def _chunk(self, number: int) -> None:
        entries = range(number * self.chunk, min((number + 1) * self.chunk, self.total))
        if not all(self.store.has(entry) for entry in entries):
            said = self._said(entries)
            states = torch.cat([answer.hidden for answer in said])
            self.store.add(entries, [answer.ids for answer in said], super().logits(states))
            if number % TOGETHER == TOGETHER - 1 or entries.stop == self.total:
                self.store.flush()
            self.damaged += self.store.damaged
            self.store.damaged.clear()
        for entry in entries:
            self._answers[entry] = self.store.answer(entry)
        self.labelled += len(entries)
        self.bytes = self.store.bytes


class TeacherAnswer(NamedTuple):
    """An answer of the teacher, with its end mark; the states `(len(ids), hidden)` its tokens were drawn from; and its
    log-probability in nats at temperature 1."""

    ids: list[int]
    hidden: Tensor
    logprob: float


@torch.no_grad()
def sample_answers(
    teacher: LlamaForCausalLM, prompts: Sequence[Sequence[int]], guesses: Sequence[Sequence[int]], seed: int, temperature: float = 1.0
) -> list[TeacherAnswer]:
    """One answer a prompt, sampled (greedy at temperature 0), mostly in a single pass over prompt and `guess`.

    This is speculative sampling with a fixed guess as the draft: at every position the teacher draws its own token; as long as
    that equals the guess the next position was read in the right context, and where it differs the teacher writes on by itself.
    The answers are distributed exactly as without a guess (Leviathan et al. 2023, arXiv 2211.17192, with a point-mass draft).

    Of a guess no more than the tokenizer's `longest` tokens are read, and who says as much of it is cut off there. Who leaves it earlier
    may write as many by itself.
    """
    end, longest = tokenizer_of(teacher).end, tokenizer_of(teacher).longest
    guesses = [guess[:longest] for guess in guesses]
    generator = torch.Generator().manual_seed(seed)
    said: list[TeacherAnswer | None] = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(guesses[i]))
    for start in range(0, len(order), PASS):
        rows = order[start : start + PASS]
        hidden = answer_states(teacher, pad([prompts[i] for i in rows], [guesses[i] for i in rows]))
        logits = teacher.lm_head(hidden).float()
        drawn = draw((logits / temperature).softmax(-1), generator) if temperature else logits.argmax(-1)
        scores = logits.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
        lengths = [len(guesses[i]) for i in rows]
        for i, own, states, logprobs in zip(rows, drawn.split(lengths), hidden.split(lengths), scores.split(lengths), strict=True):
            ids = own.tolist()
            agreed = next((k for k, (a, b) in enumerate(zip(ids, guesses[i], strict=True)) if a != b), len(ids) - 1)
            said[i] = TeacherAnswer(ids[: agreed + 1], states[: agreed + 1], float(logprobs[: agreed + 1].sum()))
    going = [i for i, answer in enumerate(said) if answer and answer.ids[-1] != end and len(answer.ids) < longest]
    begun = [[*prompts[i], *said[i].ids] for i in going]  # type: ignore[union-attr]
    rest = write(teacher, begun, temperature=temperature, seed=seed + 1, keep_hidden=True) if going else []
    for i, more in zip(going, rest, strict=True):
        first = said[i]
        assert first is not None
        assert more.hidden is not None
        said[i] = TeacherAnswer(first.ids + more.ids, torch.cat([first.hidden, more.hidden]), first.logprob + sum(more.logprobs))
    return [answer for answer in said if answer is not None]


def distinct(questions: Sequence[Asked], again: bool = True) -> tuple[list[tuple[str, int]], list[str], list[int]]:
    """The different (text, asking) pairs of a pool in order of first appearance, a right answer to each, and each row's pair. Only a
    question with many right answers is asked more than once, and only if `again`."""
    index: dict[tuple[str, int], int] = {}
    asked: dict[str, int] = {}
    guesses, rows = [], []
    for question in questions:
        n = 0
        if again and len(question.answers) > 1:
            n = asked.get(question.text, 0)
            asked[question.text] = n + 1
        if (question.text, n) not in index:
            index[question.text, n] = len(index)
            guesses.append(question.answers[n % len(question.answers)])
        rows.append(index[question.text, n])
    return list(index), guesses, rows
