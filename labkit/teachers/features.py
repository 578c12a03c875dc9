"""Feature matching: which layers of student and teacher are paired, and what the teacher has there.

Widths may differ: a projector, trained with the student and thrown away with the optimiser, bridges them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.losses.features import Projectors
from labkit.models import pad
from labkit.models.hooks import Activations, run_with_hooks
from labkit.models.layers import layer_map
from labkit.teachers.signals import PASS, Signals


class TeacherFeatures:
    """The teacher's features at its pool's answers, in fp16, each worked out when it is first needed, in the pool's own chunks (so
    that a resumed run meets the very same numbers) and kept in memory."""

    def __init__(self, pool: Signals, layers: Sequence[int], relations: bool) -> None:
        self.pool, self.layers, self.relations = pool, tuple(layers), relations
        self._kept: dict[int, Tensor] = {}

    def of(self, rows: Sequence[int], width: int) -> Tensor:
        """Features `(N, ...)` of these pool rows, one row after the other; relations are as wide as `width` positions."""
        for row in rows:
            if self.pool.entry(row) not in self._kept:
                self._chunk(self.pool.entry(row) // self.pool.chunk)
        found = [self._kept[self.pool.entry(row)].float() for row in rows]
        return torch.cat([F.pad(x, (0, width - x.shape[-1])) for x in found] if self.relations else found)

    @torch.no_grad()
    def _chunk(self, number: int) -> None:
        entries = range(number * self.pool.chunk, min((number + 1) * self.pool.chunk, self.pool.total))
        for part in self._passes(entries):
            texts = [self.pool.text(entry) for entry in part]
            read = pad([prompt for prompt, _ in texts], [answer for _, answer in texts])
            self.pool.teacher_tokens += read.tokens_B_T.numel()
            seen = run_with_hooks(self.pool.teacher, read, self.layers, self.relations)
            wanted = seen.relations_N_R_T if self.relations else seen.hidden_N_L_D
            assert wanted is not None
            for entry, (prompt, answer), kept in zip(part, texts, wanted.split([len(a) for _, a in texts]), strict=True):
                own = kept[..., : len(prompt) + len(answer) - 1] if self.relations else kept
                self._kept[entry] = own.half().clone()

    def _passes(self, entries: range) -> Iterator[list[int]]:
        order = sorted(entries, key=lambda e: sum(map(len, self.pool.text(e))))
        for start in range(0, len(order), PASS):
            yield order[start : start + PASS]


class FeatureMatcher:
    """The feature side of a run: which layers are paired, the projectors between them, and what the teacher has there."""

    def __init__(self, kind: str, layers: str, student: LlamaForCausalLM, pool: Signals, seed: int) -> None:
        own, theirs = student.config, pool.teacher.config
        pairs = layer_map(layers, own.num_hidden_layers, theirs.num_hidden_layers)
        self.relations = kind == "relations"
        self.own_layers = () if self.relations else tuple(pair[0] for pair in pairs)
        self.teacher = TeacherFeatures(pool, () if self.relations else [pair[1] for pair in pairs], self.relations)
        projected = len(pairs) if kind == "hidden" else 0
        self.projectors = Projectors(projected, own.hidden_size, theirs.hidden_size, seed).to(student.device)

    def noted(self, seen: Activations) -> Tensor:
        """The student's features `(N, ...)`, as they are."""
        found = seen.relations_N_R_T if self.relations else seen.hidden_N_L_D
        assert found is not None
        return found

    def of_student(self, noted_M: Tensor) -> Tensor:
        """Those at the tokens of the pool's rows, projected if they are to be."""
        return self.projectors(noted_M) if len(self.projectors.maps) else noted_M
