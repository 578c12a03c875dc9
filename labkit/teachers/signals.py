"""The teacher's signals, computed once and kept on disk: its answer to each question, and its final hidden states at the answer's tokens.

The states (fp16, 384 bytes a token for `atlas-3m`) and the teacher's head give its full logits. So every temperature is exact, and may
change during a run. The key of an entry is a hash of tokenizer, teacher and text, so a student never gets the answer to another question
when questions are shuffled.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.base import tensors
from labkit.base.chat import to_json
from labkit.base.errors import DataError, reading
from labkit.base.files import home_dir
from labkit.base.settings import default
from labkit.models import answer_states, draw, fingerprint, logits_of, pad, tokenizer_of, write
from labkit.models.damage import not_finite, refuse_damaged
from labkit.tasks.types import Asked
from labkit.teachers.topk_store import TopKStore, dense

POOL_SEED = 7  # seed of the pool's questions: one pool for all runs, so that seeds change only the student
TOGETHER = 16  # chunks of top-k signals in one file, so that there are few files; a kill loses the chunks not yet written
PASS = 64  # rows in one forward pass: of similar length, for little padding, and few enough for the processor's cache


class Signals:
    """The teacher's answers to a pool of questions. Each is computed when it is first needed, and kept on disk.

    A question that occurs twice is answered once, unless it has many right answers: then each occurrence samples an answer of its own.
    Call `prepare(rows)` before `answer`, `text` and `hidden`.

    folder: where the signals of all pools are; by default in the lab's home.
    chunk: number of questions that are answered and stored together.
    temperature: of the answers; 0 is greedy.
    """

    growing = True  # answers are computed during the run

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
        source = f"{self.own.fingerprint}-{fingerprint(teacher)}{self._variant()}"
        self._keys = [hashlib.blake2b(f"{source} {n} {to_json(text)}".encode(), digest_size=16).digest() for text, n in texts]
        name = hashlib.blake2b(b"".join(self._keys), digest_size=8).hexdigest()
        self.folder = (folder or home_dir() / "signals") / f"{source}-{name}"
        self._answers: list[list[int] | None] = [None] * len(texts)
        self._hidden: list[Tensor | None] = [None] * len(texts)
        self.labelled = 0
        self.teacher_tokens = 0  # that it has read or written
        self.kept_tokens = 0  # those of them whose answers are on disk for another run
        self.bytes = 0
        self.damaged: list[Path] = []

    def _variant(self) -> str:
        """A part of the folder's name and of the keys, for signals with other settings than the default; "" for the default."""
        return "" if self.temperature == 1 else f"-t{self.temperature:g}-{self.own.longest}"

    def __len__(self) -> int:
        """Number of rows; a question counts as often as it occurs."""
        return len(self._entry_of_row)

    @property
    def total(self) -> int:
        """Number of distinct questions in the pool."""
        return len(self._keys)

    def entry(self, row: int) -> int:
        """The number of a row's distinct question; its chunk is `entry // self.chunk`."""
        return self._entry_of_row[row]

    def question(self, entry: int) -> list[int]:
        """The prompt of a distinct question as token ids. It needs no `prepare`."""
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
        """Answer these rows, if they are not answered yet. Yields the number of answered distinct questions each time it grows."""
        for row in rows:
            entry = self._entry_of_row[row]
            if self._answers[entry] is None:
                self._chunk(entry // self.chunk)
                yield self.labelled

    def hidden(self, rows: Sequence[int]) -> Tensor:
        """The teacher's final states `(N, D)` in fp16 at the answer tokens of these rows, row after row."""
        return torch.cat([self._hidden[self._entry_of_row[row]] for row in rows])  # type: ignore[misc]

    def live(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
        """The teacher's final states `(N, D)` in fp32 for any answers, computed now; a run without a cache does this at every step."""
        read = pad(prompts, answers)
        self.teacher_tokens += read.tokens_B_T.numel()
        with torch.no_grad():
            return answer_states(self.teacher, read)

    def logits(self, hidden: Tensor) -> Tensor:
        """The teacher's logits `(N, V)` from its states `(N, D)`."""
        with torch.no_grad():
            return logits_of(self.teacher, hidden.to(self.teacher.device, self.teacher.dtype)).float()

    def _chunk(self, number: int) -> None:
        entries = range(number * self.chunk, min((number + 1) * self.chunk, self.total))
        path = self.folder / f"{number:05}.safetensors"
        kept = self._read(path, entries) if path.exists() else None
        if kept is None:
            answers = self._sample(entries)
            kept = {
                "keys": torch.frombuffer(bytearray(b"".join(self._keys[e] for e in entries)), dtype=torch.uint8),
                "lengths": torch.tensor([len(answer.ids) for answer in answers]),
                "ids": torch.tensor([token for answer in answers for token in answer.ids], dtype=torch.int32),
                "hidden": torch.cat([answer.hidden for answer in answers]).half().cpu(),
            }
            if not bool(kept["hidden"].isfinite().all()):
                raise not_finite(self.teacher, "the teacher")
            tensors.save(path, kept)
        lengths = kept["lengths"].tolist()
        ids, hidden = kept["ids"].split(lengths), kept["hidden"].split(lengths)
        for entry, answer, states in zip(entries, ids, hidden, strict=True):
            self._answers[entry], self._hidden[entry] = answer.tolist(), states
        self.labelled += len(entries)
        self.bytes += kept["hidden"].numel() * kept["hidden"].element_size()

    def _sample(self, entries: range) -> list[TeacherAnswer]:
        """Let the teacher answer these questions."""
        seed = int.from_bytes(self._keys[entries[0]][:7])
        prompts, guesses = [self._prompts[e] for e in entries], [self._guesses[e] for e in entries]
        answers = sample_answers(self.teacher, prompts, guesses, seed, self.temperature)
        self.kept_tokens += (tokens := sum(map(len, prompts)) + sum(len(answer.ids) for answer in answers))
        self.teacher_tokens += tokens
        return answers

    def _read(self, path: Path, entries: range) -> dict[str, Tensor] | None:
        """A chunk from disk. None, and an entry in `damaged`, if the file is broken, not finite, or for other questions."""
        with contextlib.suppress(DataError), reading(path, ""):
            kept, _ = tensors.load(path)
            if bytes(kept["keys"].tolist()) == b"".join(self._keys[e] for e in entries) and bool(kept["hidden"].isfinite().all()):
                return kept
        self.damaged.append(path)
        return None


class TopKSignals(Signals):
    """Signals for large vocabularies, where states would take too much space: the teacher's top k at each answer token, kept by
    `topk_store.TopKStore` in 129 bytes (k = 32). At temperatures other than 1 the tail is approximate; see `topk_store.dense`."""

    def __init__(self, *args, k: int, **settings) -> None:
        self.k = k
        super().__init__(*args, **settings)
        self.store = TopKStore(self.folder, vocabulary=self.own.size, k=k, who=self.folder.name)

    def _variant(self) -> str:
        return f"{super()._variant()}-top{self.k}"

    def hidden(self, rows: Sequence[int]) -> Tensor:
        """Token ids and log-probabilities, joined to `(N, 2k)`, at the answer tokens of these rows, row after row."""
        return torch.cat(self.store.read(self._entry_of_row[row] for row in rows), -1)

    def logits(self, hidden: Tensor) -> Tensor:
        return dense(hidden[:, : self.k].long(), hidden[:, self.k :], self.own.size)

    def _chunk(self, number: int) -> None:
        entries = range(number * self.chunk, min((number + 1) * self.chunk, self.total))
        if not all(self.store.has(entry) for entry in entries):
            answers = self._sample(entries)
            states = torch.cat([answer.hidden for answer in answers])
            self.store.add(entries, [answer.ids for answer in answers], super().logits(states))
            if number % TOGETHER == TOGETHER - 1 or entries.stop == self.total:
                self.store.flush()
            self.damaged += self.store.damaged
            self.store.damaged.clear()
        for entry in entries:
            self._answers[entry] = self.store.answer(entry)
        self.labelled += len(entries)
        self.bytes = self.store.bytes


class TeacherAnswer(NamedTuple):
    """An answer of the teacher."""

    ids: list[int]  # with the end token
    hidden: Tensor  # final states `(len(ids), D)` from which the tokens were drawn
    logprob: float  # of the whole answer, in nats, at temperature 1


@torch.no_grad()
def sample_answers(
    teacher: LlamaForCausalLM, prompts: Sequence[Sequence[int]], guesses: Sequence[Sequence[int]], seed: int, temperature: float = 1.0
) -> list[TeacherAnswer]:
    """Sample one answer for each prompt, mostly in a single forward pass over prompt and guess.

    This is speculative sampling with a fixed guess as the draft. At each position the teacher draws its own token. While it equals the
    guess, the next position was read in the right context; after the first difference the teacher continues by itself. The answers have
    exactly the distribution of answers without a guess.

    guesses: an answer that is likely, as token ids. At most the tokenizer's `longest` tokens of it are read, and an answer that equals
        all of these ends there. An answer that differs earlier may have `longest` tokens in all; of an Atlas teacher, so many more.
    temperature: 0 is greedy.

    Raises `LabError` for a teacher whose logits are not finite.

    Source: Leviathan et al. 2023, arXiv 2211.17192, with a point mass as the draft.
    """
    ends, longest = tokenizer_of(teacher).ends, tokenizer_of(teacher).longest
    guesses = [guess[:longest] for guess in guesses]
    generator = torch.Generator().manual_seed(seed)
    answers: list[TeacherAnswer | None] = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(guesses[i]))
    for start in range(0, len(order), PASS):
        rows = order[start : start + PASS]
        hidden = answer_states(teacher, pad([prompts[i] for i in rows], [guesses[i] for i in rows]))
        logits = logits_of(teacher, hidden).float()
        drawn = draw((logits / temperature).softmax(-1), generator) if temperature else logits.argmax(-1)
        scores = logits.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
        lengths = [len(guesses[i]) for i in rows]
        for i, tokens, states, logprobs in zip(rows, drawn.split(lengths), hidden.split(lengths), scores.split(lengths), strict=True):
            ids = tokens.tolist()
            agreed = next((k for k, (a, b) in enumerate(zip(ids, guesses[i], strict=True)) if a != b), len(ids) - 1)
            answers[i] = TeacherAnswer(ids[: agreed + 1], states[: agreed + 1], float(logprobs[: agreed + 1].sum()))
    going = [i for i, answer in enumerate(answers) if answer and answer.ids[-1] not in ends and len(answer.ids) < longest]
    begun = [[*prompts[i], *answers[i].ids] for i in going]  # type: ignore[union-attr]
    # Recorded runs of Atlas have answers with up to `longest` more tokens. A pretrained model's rows may fill its context, so not there.
    more = [longest - len(answers[i].ids) if hasattr(teacher, "chat") else longest for i in going]  # type: ignore[union-attr]
    rest = write(teacher, begun, temperature=temperature, seed=seed + 1, keep_hidden=True, limit=more) if going else []
    for i, then in zip(going, rest, strict=True):
        first = answers[i]
        assert first is not None
        assert then.hidden is not None
        answers[i] = TeacherAnswer(first.ids + then.ids, torch.cat([first.hidden, then.hidden]), first.logprob + sum(then.logprobs))
    refuse_damaged(teacher, [answer.logprob for answer in answers if answer is not None])
    return [answer for answer in answers if answer is not None]


def distinct(questions: Sequence[Asked], again: bool = True) -> tuple[list[tuple[str, int]], list[str], list[int]]:
    """Find the distinct questions of a pool.

    again: whether a question with many right answers counts again each time it occurs.

    Returns the distinct pairs (text, number of its occurrence) in order of first occurrence, a right answer to each, and the index of
    each row's pair.
    """
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
