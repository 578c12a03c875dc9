"""Feature matching: the layer pairs of student and teacher, and the teacher's features.

Widths may differ: a projector maps one to the other. It is trained with the student, and is not part of the finished student.
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
    """The teacher's features at the answers of its pool, in fp16, kept in memory. They are computed when first needed, in the pool's
    chunks, so that a resumed run gets bit-identical numbers.

    layers: the teacher's layers to keep.
    relations: whether to keep attention relations instead of hidden states.
    """

    def __init__(self, pool: Signals, layers: Sequence[int], relations: bool) -> None:
        self.pool, self.layers, self.relations = pool, tuple(layers), relations
        self._kept: dict[int, Tensor] = {}

    def of(self, rows: Sequence[int], width: int) -> Tensor:
        """Features `(N, ...)` of these pool rows, row after row. Relations are padded to `width` positions."""
        for row in rows:
            if self.pool.entry(row) not in self._kept:
                self._chunk(self.pool.entry(row) // self.pool.chunk)
        features = [self._kept[self.pool.entry(row)].float() for row in rows]
        return torch.cat([F.pad(x, (0, width - x.shape[-1])) for x in features] if self.relations else features)

    @torch.no_grad()
    def _chunk(self, number: int) -> None:
        entries = range(number * self.pool.chunk, min((number + 1) * self.pool.chunk, self.pool.total))
        for part in self._passes(entries):
            texts = [self.pool.text(entry) for entry in part]
            read = pad([prompt for prompt, _ in texts], [answer for _, answer in texts])
            self.pool.teacher_tokens += read.tokens_B_T.numel()
            activations = run_with_hooks(self.pool.teacher, read, self.layers, self.relations)
            features = activations.relations_N_R_T if self.relations else activations.hidden_N_L_D
            assert features is not None
            for entry, (prompt, answer), rows in zip(part, texts, features.split([len(a) for _, a in texts]), strict=True):
                unpadded = rows[..., : len(prompt) + len(answer) - 1] if self.relations else rows
                self._kept[entry] = unpadded.half().clone()

    def _passes(self, entries: range) -> Iterator[list[int]]:
        order = sorted(entries, key=lambda e: sum(map(len, self.pool.text(e))))
        for start in range(0, len(order), PASS):
            yield order[start : start + PASS]


class FeatureMatcher:
    """Feature matching in a run: the layer pairs, their projectors, and the teacher's features.

    kind: "hidden" for projected hidden states, "relations" for attention relations; otherwise hidden states without projectors.
    layers: how layers are paired; see `layer_map`.
    seed: of the projectors.
    """

    def __init__(self, kind: str, layers: str, student: LlamaForCausalLM, pool: Signals, seed: int) -> None:
        student_config, teacher_config = student.config, pool.teacher.config
        pairs = layer_map(layers, student_config.num_hidden_layers, teacher_config.num_hidden_layers)
        self.relations = kind == "relations"
        self.own_layers = () if self.relations else tuple(pair[0] for pair in pairs)
        self.teacher = TeacherFeatures(pool, () if self.relations else [pair[1] for pair in pairs], self.relations)
        projected = len(pairs) if kind == "hidden" else 0
        self.projectors = Projectors(projected, student_config.hidden_size, teacher_config.hidden_size, seed).to(student.device)

    def noted(self, seen: Activations) -> Tensor:
        """The student's features `(N, ...)` from its activations, without projection."""
        features = seen.relations_N_R_T if self.relations else seen.hidden_N_L_D
        assert features is not None
        return features

    def of_student(self, noted_M: Tensor) -> Tensor:
        """The student's features at the tokens of the pool's rows, projected if there are projectors."""
        return self.projectors(noted_M) if len(self.projectors.maps) else noted_M
