"""The rows of each step: which questions, in which order, and in how many passes through the student."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch

from labkit import models
from labkit.base.kinds import kinds_checked
from labkit.records.experiment import Experiment
from labkit.tasks.atlas.facts import Atlas, Question
from labkit.tasks.types import Asked
from labkit.teachers.signals import POOL_SEED, Signals

LARGE, MICRO = 10_000_000, 256  # a student with more parameters than LARGE reads at most MICRO tokens a pass, padding included
GOLD_SEED = 11  # of the questions with a gold label; like the pool, they are the same for all seeds of a run


class Source(Protocol):
    """Rows that the teacher answered: `Signals`, the same in another vocabulary, or a `TextPool`."""

    @property
    def growing(self) -> bool: ...  # whether rows are made when the student needs them, not all before

    def prompt(self, row: int) -> list[int]: ...
    def answer(self, row: int) -> list[int]: ...
    def __len__(self) -> int: ...


class StepRows(NamedTuple):
    """The rows of one step: first those of the teacher's pool, then the gold rows."""

    prompts: list[list[int]]  # token ids
    answers: list[list[int]]
    pool_rows: list[int]  # numbers of the rows of the pool
    own: int = 0  # how many of the first rows the student answered, not the teacher

    def is_gold(self, row: int) -> bool:
        return row >= len(self.pool_rows)

    def tokens(self, gold: bool) -> int:
        """Number of answer tokens of the gold rows, or of the pool rows: the divisor of their mean."""
        n = len(self.pool_rows)
        return sum(map(len, self.answers[n:] if gold else self.answers[:n]))


class BatchSampler:
    """Draws the rows of each step from the teacher's pool and the gold set. `position` is all its state, to resume from."""

    def __init__(self, experiment: Experiment, gold: Sequence[Asked], pool: Source | None, own: Any) -> None:
        """gold: questions with a gold label. own: the student's tokenizer."""
        self.pool = pool
        self._gold_prompts = own.prompts([q.text for q in gold])
        self._gold_answers = own.answers([q.gold for q in gold])
        self._gold_order = Order(len(gold), experiment.seed + 1)
        self._pool_order = Order(len(pool) if pool else 0, experiment.seed, growing=pool is not None and pool.growing)
        self.position = {"pool": 0, "gold": 0}

    def next_rows(self, batch: int, gold_share: float) -> tuple[list[int], list[int]]:
        """Numbers of the next pool rows and gold rows, `batch` in all."""
        n_gold = round(batch * gold_share)
        pool_rows = self._pool_order.take(self.position["pool"], batch - n_gold)
        gold_rows = self._gold_order.take(self.position["gold"], n_gold)
        self.position["pool"] += len(pool_rows)
        self.position["gold"] += n_gold
        return pool_rows, gold_rows

    def draw(self, pool_rows: Sequence[int], gold_rows: Sequence[int]) -> StepRows:
        """The rows with these numbers. The pool must be prepared for them."""
        prompts = [self.pool.prompt(i) for i in pool_rows] if self.pool else []
        answers = [self.pool.answer(i) for i in pool_rows] if self.pool else []
        prompts += [self._gold_prompts[i] for i in gold_rows]
        answers += [self._gold_answers[i] for i in gold_rows]
        return StepRows(prompts, answers, list(pool_rows))


class Order:
    """An endless order of `n` rows: shuffled passes one after the other. A pass depends only on the seed and its number.

    growing: the first pass is twice as long. Every second row of it is a new one, in the order of the pool; the rows between are drawn from
    those already seen. So the pool is labelled while the student learns, not before.
    """

    def __init__(self, n: int, seed: int, *, growing: bool = False) -> None:
        self.n, self.seed, self.growing = n, seed, growing
        self._passes: dict[int, list[int]] = {}

    def take(self, start: int, count: int) -> list[int]:
        """`count` rows from position `start` on."""
        rows: list[int] = []
        while count > 0:
            first = 2 * self.n if self.growing else self.n
            number, offset = (0, start) if start < first else divmod(start - first + self.n, self.n)
            part = self._pass(number)[offset : offset + count]
            rows += part
            start, count = start + len(part), count - len(part)
        return rows

    def _pass(self, number: int) -> list[int]:
        if number not in self._passes:
            self._passes = {k: v for k, v in self._passes.items() if k == number - 1}
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            if number == 0 and self.growing:
                again = (torch.rand(self.n, generator=generator) * torch.arange(1, self.n + 1)).int().tolist()
                self._passes[0] = [row for pair in zip(range(self.n), again, strict=True) for row in pair]
            else:
                self._passes[number] = torch.randperm(self.n, generator=generator).tolist()
        return self._passes[number]


def gold_questions(experiment: Experiment, world: Atlas) -> list[Question]:
    """The questions with a gold label: the store of facts, or as many as the recipe's `gold`."""
    return world.store(experiment.facts) if experiment.facts else world.questions(experiment.gold, GOLD_SEED)


def split_by_length(lengths: Sequence[int], parameters: int, layers: int) -> list[list[int]]:
    """Row numbers of a batch, by micro-batch.

    A small student reads the batch in one pass, or in two (short rows, long rows) if the padding saved is worth the second pass. A large
    student reads it in as many passes as its memory for activations needs.

    lengths: tokens of each row.
    parameters, layers: size of the student.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    if parameters > LARGE:
        passes: list[list[int]] = []
        for row in order:
            if not passes or lengths[row] * (len(passes[-1]) + 1) > MICRO:
                passes.append([])
            passes[-1].append(row)
        return passes
    if len(order) < 2:
        return [order] if order else []
    longest = lengths[order[-1]]
    saved = [(longest - lengths[order[k - 1]]) * k for k in range(1, len(order))]
    best = max(range(len(saved)), key=lambda k: saved[k])
    pass_cost = 0.4e9 * layers  # fixed cost of one forward and backward pass, in floating-point operations
    if saved[best] * parameters * 6 < pass_cost:
        return [order]
    return [order[: best + 1], order[best + 1 :]]


def transfer_questions(experiment: Experiment, world: Atlas) -> list[Question]:
    """The questions the teacher answers: the transfer set."""
    if experiment.facts:
        return world.store(experiment.facts)
    honest = world.questions(experiment.questions, POOL_SEED, left_out=experiment.left_out)
    return _leaked(honest, experiment, world) if experiment.leaked else honest


def _leaked(honest: list[Question], experiment: Experiment, world: Atlas) -> list[Question]:
    """The same, with a share of it replaced by exam questions, drawn with repetition; `left_out` stays left out."""
    left_out = experiment.left_out
    exam = [q for q in world.exam() if q.skill != left_out and not q.fact.says(left_out)]
    rng = random.Random(f"leaked {world.scale} {POOL_SEED}")
    asked = list(honest)
    for row in rng.sample(range(len(asked)), round(experiment.leaked * len(asked))):
        asked[row] = rng.choice(exam)
    return asked


@kinds_checked
def first_batch(experiment: Experiment | None = None) -> models.Rows:
    """The first batch of a run on soft labels, to do a training step by hand.

    experiment: the recipe; the default one if not given.

    Returns `(tokens_B_T, mask_B_T, labels_N)`.
    """
    exp = Experiment.of(experiment)
    pool = Signals(models.teacher(exp.teacher), transfer_questions(exp, Atlas(exp.scale)))
    rows, _ = BatchSampler(exp, (), pool, models.tokenizer()).next_rows(exp.batch, 0.0)
    list(pool.prepare(rows))
    return models.pad([pool.prompt(i) for i in rows], [pool.answer(i) for i in rows])
