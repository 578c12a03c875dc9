"""Readers: what a step reads of its rows, one class for each kind of student and signal. `reader_of` chooses one before the first step.

A reader has two halves. `gather` turns rows into tensors and adds the teacher's signal; `read` is the student's forward pass, a pure
function. `losses` joins them, one micro-batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from labkit import models
from labkit.base.settings import Settings
from labkit.losses.batch import Batch, Knobs, MicroBatch, Objective, Signal, step_loss, weigh
from labkit.models import EOS
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads, TargetStates
from labkit.models.hooks import run_with_hooks
from labkit.records.experiment import Experiment
from labkit.teachers.cross_tokenizer_pool import CrossTokenizerPool
from labkit.teachers.features import FeatureMatcher, TeacherFeatures
from labkit.teachers.signals import Signals
from labkit.training.batches import Source, StepRows, split_by_length
from labkit.training.faults import Faults
from labkit.training.methods import Method


class Reader:
    """The student's logits, and the teacher's logits at the rows of its pool.

    pool: the teacher's signals; None without a teacher.
    live: the teacher reads every row again; otherwise its cached states are used.
    bf16: the student's passes are in half precision; losses are computed in fp32.
    """

    starts_at = 1  # loss of an untrained student, in multiples of log V

    def __init__(self, student: Any, pool: Signals | None, settings: Settings, live: bool = False, bf16: bool = False) -> None:
        self.student, self.pool, self.settings, self.live, self.bf16 = student, pool, settings, live, bf16

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        """Modules that are trained with the student, by name."""
        return {}

    def passes(self, lengths: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Row numbers by micro-batch. lengths: tokens of each row's prompt and answer."""
        return split_by_length(
            [sum(pair) for pair in lengths], models.parameters(self.student), models.config_of(self.student).num_hidden_layers
        )

    def tokens(self, step_rows: StepRows, faults: Faults) -> tuple[float, float]:
        """Scored answer tokens of the batch's pool rows and of its gold rows: the divisors of the means."""
        return faults.scored(step_rows, False), faults.scored(step_rows, True)

    def losses(
        self, step_rows: StepRows, rows: list[int], faults: Faults, knobs: Knobs, objective: Objective
    ) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        """Yields losses and their metrics. The caller must back-propagate each loss before it asks for the next."""
        yield step_loss(self.student, *self.gather(step_rows, rows, faults), knobs, objective)

    def batch(self, step_rows: StepRows, rows: list[int], faults: Faults) -> Batch:
        """Some rows as the loss reads them, in one piece."""
        return self.read(self.student, *self.gather(step_rows, rows, faults))

    def gather(self, step_rows: StepRows, rows: list[int], faults: Faults, ask: bool = True) -> tuple[MicroBatch, Signal]:
        """Some rows as tensors on the student's device, and, if `ask`, the teacher's signal at those of its pool."""
        padded = models.pad([step_rows.prompts[i] for i in rows], [step_rows.answers[i] for i in rows])
        at_N, labels_N = padded.at_N, padded.labels_N
        gold_N = torch.tensor([step_rows.is_gold(i) for i in rows for _ in step_rows.answers[i]])
        pool_rows, width = [i for i in rows if not step_rows.is_gold(i)], padded.tokens_B_T.shape[1]
        signal = self.signal(step_rows, pool_rows, faults, width) if pool_rows and ask else Signal()
        if faults.endless:
            kept_N = labels_N != EOS
            signal = signal.only(kept_N[~gold_N])
            at_N, labels_N, gold_N = at_N[kept_N], labels_N[kept_N], gold_N[kept_N]
        of_pool, of_gold = (~gold_N).nonzero()[:, 0], gold_N.nonzero()[:, 0]
        batch = MicroBatch(padded.tokens_B_T, at_N, labels_N, of_pool, of_gold).to(self.student.device)
        return batch._replace(attend_1_1_T_T=models.causal(self.student, width)), signal

    def signal(self, step_rows: StepRows, rows: list[int], faults: Faults, width: int) -> Signal:
        """The teacher's signal at the answer tokens of some rows of its pool."""
        if self.pool is None:
            return Signal()
        states = faults.states(_teacher_states(self.pool, step_rows, rows, self.live))
        return Signal(faults.logits(self.pool.logits(states), [len(step_rows.answers[i]) for i in rows]))

    def read(self, student: LanguageModel, batch: MicroBatch, signal: Signal) -> Batch:
        """The student's forward pass: a pure function of its weights and these tensors."""
        with self.cast():
            logits_N_V = models.logits_of(student, models.answer_states(student, batch, batch.attend_1_1_T_T)).float()
        return _read(batch, signal, logits_N_V)

    def cast(self) -> torch.autocast:
        return torch.autocast(self.student.device.type, torch.bfloat16, enabled=self.bf16)


class Chunked(Reader):
    """Logits alone: of all tokens in one piece, or a few tokens at a time if a micro-batch has more logits than the setting `logits`.

    Each piece is back-propagated to the student's final states only. A last scalar then back-propagates the collected gradients of these
    states through the student's body, once.

    Source: Liger-Kernel's chunked losses (Hsu et al. 2024, arXiv 2410.10989).
    """

    def losses(
        self, step_rows: StepRows, rows: list[int], faults: Faults, knobs: Knobs, objective: Objective
    ) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        size, most = models.vocabulary_of(self.student), self.settings.logits
        if faults or sum(len(step_rows.answers[i]) for i in rows) * size <= most:  # faults act on whole rows
            yield from super().losses(step_rows, rows, faults, knobs, objective)
            return
        pool_rows = [i for i in rows if not step_rows.is_gold(i)]
        teacher_M = _teacher_states(self.pool, step_rows, pool_rows, self.live) if self.pool is not None and pool_rows else None
        batch, _ = self.gather(step_rows, rows, faults, ask=False)
        with self.cast():
            states_N_D = models.answer_states(self.student, batch, batch.attend_1_1_T_T)
        leaf_N_D = states_N_D.detach().requires_grad_()
        gold_N = torch.zeros(len(leaf_N_D), dtype=torch.bool, device=leaf_N_D.device)
        gold_N[batch.gold_G] = True
        done = 0  # answer tokens of pool rows so far
        for part in torch.arange(len(leaf_N_D), device=leaf_N_D.device).split(max(1, most // size)):
            pool_M, gold_G = (~gold_N[part]).nonzero()[:, 0], gold_N[part].nonzero()[:, 0]
            asked = self.pool is not None and teacher_M is not None and len(pool_M)
            signal = Signal(self.pool.logits(teacher_M[done : done + len(pool_M)])) if asked else Signal()  # type: ignore[index, union-attr]
            done += len(pool_M)
            with self.cast():
                logits_N_V = models.logits_of(self.student, leaf_N_D[part]).float()
            piece = batch._replace(labels_N=batch.labels_N[part], pool_M=pool_M, gold_G=gold_G)
            yield weigh(_read(piece, signal, logits_N_V), knobs, objective)
        if states_N_D.requires_grad and leaf_N_D.grad is not None:
            yield (states_N_D * leaf_N_D.grad).sum(), {}


class CrossTokenizer(Reader):
    """A student with another vocabulary, and the teacher's signal aligned to the same bytes."""

    def __init__(self, student: Any, crossed: CrossTokenizerPool, settings: Settings, live: bool, bf16: bool) -> None:
        super().__init__(student, crossed.pool, settings, live, bf16)
        self.crossed = crossed

    def signal(self, step_rows: StepRows, rows: list[int], faults: Faults, width: int) -> Signal:
        return Signal(aligned=self.crossed.aligned([step_rows.pool_rows[i] for i in rows], self.live))


class Features(Reader):
    """Hidden states, similarities or relations of both models, in addition to the logits."""

    def __init__(self, student: Any, pool: Signals, settings: Settings, live: bool, bf16: bool, exp: Experiment, kind: str) -> None:
        super().__init__(student, pool, settings, live, bf16)
        self.matcher = FeatureMatcher(kind, exp.layers, student, pool, exp.seed)
        self.together = kind == "states"  # the loss compares tokens with one another, so a batch is read in one piece

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"projectors": self.matcher.projectors}

    def passes(self, lengths: Sequence[tuple[int, int]]) -> list[list[int]]:
        return [list(range(len(lengths)))] if self.together else super().passes(lengths)

    def signal(self, step_rows: StepRows, rows: list[int], faults: Faults, width: int) -> Signal:
        features = self.matcher.teacher.of([step_rows.pool_rows[i] for i in rows], width)
        return super().signal(step_rows, rows, faults, width)._replace(features_M=features.to(self.student.device))

    def read(self, student: Any, batch: MicroBatch, signal: Signal) -> Batch:
        with self.cast():
            seen = run_with_hooks(student, batch, self.matcher.own_layers, self.matcher.relations, batch.attend_1_1_T_T)
            logits_N_V = models.logits_of(student, seen.final_N_D).float()
        found = _read(batch, signal, logits_N_V)
        if signal.features_M is None:
            return found
        return found._replace(student_features_M=self.matcher.of_student(found.pool(self.matcher.noted(seen))))


class Peer(Reader):
    """Two students that learn from each other, without a teacher."""

    starts_at = 2

    def __init__(self, student: Any, peer: Any, settings: Settings, bf16: bool) -> None:
        super().__init__(student, None, settings, bf16=bf16)
        self.peer = peer

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"peer": self.peer}

    def read(self, student: Any, batch: MicroBatch, signal: Signal) -> Batch:
        peer_N_V = models.logits_of(self.peer, models.answer_states(self.peer, batch, batch.attend_1_1_T_T)).float()
        return super().read(student, batch, signal)._replace(peer_logits_N_V=peer_N_V)


class OfHeads(Reader):
    """Heads on a frozen target. They read its states: cached ones for the pool's rows, computed now for gold rows."""

    starts_at = 2  # a new head predicts the present token

    def __init__(self, heads: Heads, pool: Signals | None, settings: Settings, live: bool, bf16: bool) -> None:
        super().__init__(heads, pool, settings, live, bf16)
        self.extra = TeacherFeatures(pool, heads.extra_layers, relations=False) if heads.extra_layers and pool else None

    def passes(self, lengths: Sequence[tuple[int, int]]) -> list[list[int]]:
        return self.student.passes([answer for _, answer in lengths], self.settings.logits)

    def tokens(self, step_rows: StepRows, faults: Faults) -> tuple[float, float]:
        n = len(step_rows.pool_rows)
        return self.student.scored(step_rows.answers[:n]), self.student.scored(step_rows.answers[n:])

    def losses(
        self, step_rows: StepRows, rows: list[int], faults: Faults, knobs: Knobs, objective: Objective
    ) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        yield weigh(self.batch(step_rows, rows, faults), knobs, objective)

    def batch(self, step_rows: StepRows, rows: list[int], faults: Faults) -> Batch:
        """The heads' predictions at some rows, pool rows first."""
        own, paid = [i for i in rows if not step_rows.is_gold(i)], [i for i in rows if step_rows.is_gold(i)]
        found = [self._target_states(step_rows, own)] if own else []
        if paid:
            found.append(self.student.read_target([step_rows.prompts[i] for i in paid], [step_rows.answers[i] for i in paid]))
        with self.cast():
            return self.student.batch(TargetStates.of(found), [step_rows.is_gold(i) for i in (*own, *paid)])

    def _target_states(self, step_rows: StepRows, rows: list[int]) -> TargetStates:
        prompts, answers = [step_rows.prompts[i] for i in rows], [step_rows.answers[i] for i in rows]
        if self.live or self.pool is None:
            return self.student.read_target(prompts, answers)
        numbers, device = [step_rows.pool_rows[i] for i in rows], self.student.device
        extra = self.extra.of(numbers, 0).to(device) if self.extra else None
        return TargetStates(prompts, answers, self.pool.hidden(numbers).to(device).float(), extra)


def reader_of(exp: Experiment, method: Method, student: Any, source: Source | None, peer: Any, settings: Settings) -> Reader:
    """The reader that a recipe needs. The rules (`records/rules.py`) refuse a recipe that would need two.

    source: the rows that the teacher answered; None if it answers none.
    """
    live, bf16 = exp.signals == "live", exp.precision == "bf16"
    pool = source if isinstance(source, Signals) else None
    if isinstance(student, Heads):
        return OfHeads(student, pool, settings, live, bf16)
    if peer is not None:
        return Peer(student, peer, settings, bf16)
    if isinstance(source, CrossTokenizerPool) and method.name == "output":  # any other method uses the text alone
        return CrossTokenizer(student, source, settings, live, bf16)
    if method.features and pool is not None:
        return Features(student, pool, settings, live, bf16, exp, method.features)
    return Chunked(student, pool, settings, live, bf16)


def _read(batch: MicroBatch, signal: Signal, logits_N_V: Tensor) -> Batch:
    """A micro-batch at its answer tokens, without the student's features."""
    return Batch(
        logits_N_V,
        batch.labels_N,
        batch.pool_M,
        batch.gold_G,
        signal.logits_M_V,
        teacher_features_M=signal.features_M,
        aligned=signal.aligned,
        weights_N=batch.weights_N,
    )


def _teacher_states(pool: Signals, step_rows: StepRows, rows: list[int], live: bool) -> Tensor:
    """The teacher's states at these rows' answer tokens: cached for its own answers, computed now for those that the student wrote."""
    now = [i for i in rows if i < step_rows.own or live]
    if not now:
        return pool.hidden([step_rows.pool_rows[i] for i in rows])
    read = pool.live([step_rows.prompts[i] for i in now], [step_rows.answers[i] for i in now])
    states = dict(zip(now, read.split([len(step_rows.answers[i]) for i in now]), strict=True))
    return torch.cat([states[i] if i in states else pool.hidden([step_rows.pool_rows[i]]).to(read) for i in rows])
