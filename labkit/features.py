"""What goes on inside a model at its answer tokens, and how a student's insides may be matched to the teacher's.

A *layer map* pairs layers: (3, 6) says that the student after its 3rd layer is to look like the teacher after its 6th; 0 is
the embedding. Widths may differ: a projector, trained with the student and thrown away with the optimiser, bridges them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from labkit.errors import LabError
from labkit.models import Rows, pad
from labkit.signals import PASS, Signals

HEADS = 2  # relation heads: both widths are cut into this many, whatever heads the models attend with (MiniLMv2)

LayerMap = tuple[tuple[int, int], ...]


def layer_map(spec: str, student_layers: int, teacher_layers: int) -> LayerMap:
    """The pairs (student layer, teacher layer) of "uniform", "last", or an explicit list such as "1:2,3:6".

    uniform: every student layer, the teacher's as evenly spread as they go, the last with the last (DistilBERT, PKD-skip).
    last: only the last with the last (MiniLM). Raises `LabError` for a list that cannot be read or a layer that does not exist.
    """
    if spec == "uniform":
        return tuple((i, math.ceil(i * teacher_layers / student_layers)) for i in range(1, student_layers + 1))
    if spec == "last":
        return ((student_layers, teacher_layers),)
    pairs = []
    for part in spec.split(","):
        own, colon, theirs = part.partition(":")
        if not (colon and own.strip().isdigit() and theirs.strip().isdigit()):
            raise LabError(f"layers={spec!r} cannot be read at {part!r}: write uniform, last, or pairs as in 1:2,3:6.")
        pairs.append((int(own), int(theirs)))
    for who, last, layers in (("student", student_layers, [p[0] for p in pairs]), ("teacher", teacher_layers, [p[1] for p in pairs])):
        if max(layers) > last:
            raise LabError(f"layers={spec!r} asks for the {who}'s layer {max(layers)}, and it has {last} (0 is its embedding).")
    return tuple(pairs)


class Seen(NamedTuple):
    """A model at its answer tokens: final states `(N, D)`; the residual stream after each layer asked for, `(N, L, D)`; and the
    last layer's self-attention relations `(N, 3 HEADS, T)`, probabilities over the positions up to the token's own."""

    final_N_D: Tensor
    hidden_N_L_D: Tensor | None
    relations_N_R_T: Tensor | None


def look(model: LlamaForCausalLM, rows: Rows, layers: Sequence[int] = (), relations: bool = False) -> Seen:
    """Run a model over rows once, and note what is asked for on the way."""
    device, inner = model.device, model.model
    mask_B_T = rows.mask_B_T.to(device)
    hidden: dict[int, Tensor] = {}
    heads: list[Tensor] = []
    with contextlib.ExitStack() as stack:
        for layer in set(layers):
            module = inner.layers[layer - 1] if layer else inner.embed_tokens
            stack.callback(module.register_forward_hook(lambda _, __, out, layer=layer: hidden.update({layer: out[mask_B_T]})).remove)
        if relations:
            attention = inner.layers[-1].self_attn
            for module in (attention.q_proj, attention.k_proj, attention.v_proj):
                stack.callback(module.register_forward_hook(lambda _, __, out: heads.append(out)).remove)
        final = inner(rows.tokens_B_T.to(device), use_cache=False).last_hidden_state[mask_B_T]
    return Seen(
        final,
        torch.stack([hidden[layer] for layer in layers], 1) if layers else None,
        _relations(heads, mask_B_T) if relations else None,
    )


def _relations(parts_B_T_D: Sequence[Tensor], mask_B_T: Tensor) -> Tensor:
    """How alike the queries (and keys, and values) of a token and of those up to it are: softmax of their scaled products
    (Wang et al. 2020, MiniLMv2, arXiv 2012.15828, eq. 5 to 7; causal, since these models are)."""
    found = []
    length = mask_B_T.shape[1]
    future = torch.ones(length, length, dtype=torch.bool, device=mask_B_T.device).triu(1)
    for part in parts_B_T_D:
        split_B_H_T_d = part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        scores = split_B_H_T_d @ split_B_H_T_d.transpose(-1, -2) / math.sqrt(split_B_H_T_d.shape[-1])
        found.append(scores.masked_fill(future, -math.inf).softmax(-1).transpose(1, 2)[mask_B_T])
    return torch.cat(found, 1)


# ---- losses, unreduced, one number an answer token ----------------------------------------------------------------------------


class Projectors(nn.Module):
    """One linear map a pair, from the student's width to the teacher's; the identity where the widths agree."""

    def __init__(self, pairs: int, student_width: int, teacher_width: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            same = student_width == teacher_width
            self.maps = nn.ModuleList(nn.Identity() if same else nn.Linear(student_width, teacher_width, bias=False) for _ in range(pairs))

    def forward(self, hidden_N_L_D: Tensor) -> Tensor:
        return torch.stack([move(hidden_N_L_D[:, i]) for i, move in enumerate(self.maps)], 1)


def hidden_loss(student_N_L_E: Tensor, teacher_N_L_E: Tensor) -> Tensor:
    """`(N,)` squared distance of the projected states, as a share of the teacher's own square, mean over the pairs. (The plain mean
    square of TinyBERT, arXiv 1909.10351, eq. 8, would weigh wide and deep layers more, whose states are larger.)"""
    return ((student_N_L_E - teacher_N_L_E).square().sum(-1) / teacher_N_L_E.square().sum(-1)).mean(-1)


def similarity_loss(student_N_L_D: Tensor, teacher_N_L_E: Tensor) -> Tensor:
    """`(N,)` how differently a token is like the batch's other tokens: mean square difference of cosines, mean over the pairs.
    Needs no projector (Tung & Mori 2019, arXiv 1907.09682, with cosines for scale)."""
    own, theirs = (F.normalize(x, dim=-1).transpose(0, 1) for x in (student_N_L_D, teacher_N_L_E))
    return (own @ own.transpose(-1, -2) - theirs @ theirs.transpose(-1, -2)).square().mean((0, 2))


def relation_loss(student_N_R_T: Tensor, teacher_N_R_T: Tensor) -> Tensor:
    """`(N,)` KL from the teacher's relations to the student's, in nats, mean over relations (MiniLMv2, eq. 8)."""
    return (torch.special.xlogy(teacher_N_R_T, teacher_N_R_T) - teacher_N_R_T * student_N_R_T.clamp(min=1e-30).log()).sum(-1).mean(-1)


def next_state_loss(student_N_D: Tensor, teacher_N_D: Tensor) -> Tensor:
    """`(N,)` smooth L1 distance of states, mean over the width (EAGLE: Li et al. 2024, arXiv 2401.15077, section 3.2)."""
    return F.smooth_l1_loss(student_N_D, teacher_N_D, reduction="none").mean(-1)


# ---- the teacher's side, looked at once ------------------------------------------------------------------------------------------


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
            seen = look(self.pool.teacher, read, self.layers, self.relations)
            wanted = seen.relations_N_R_T if self.relations else seen.hidden_N_L_D
            assert wanted is not None
            for entry, (prompt, answer), kept in zip(part, texts, wanted.split([len(a) for _, a in texts]), strict=True):
                own = kept[..., : len(prompt) + len(answer) - 1] if self.relations else kept
                self._kept[entry] = own.half().clone()

    def _passes(self, entries: range) -> Iterator[list[int]]:
        order = sorted(entries, key=lambda e: sum(map(len, self.pool.text(e))))
        for start in range(0, len(order), PASS):
            yield order[start : start + PASS]


class Insides:
    """The feature side of a run: which layers are paired, the projectors between them, and what the teacher has there."""

    def __init__(self, kind: str, layers: str, student: LlamaForCausalLM, pool: Signals, seed: int) -> None:
        own, theirs = student.config, pool.teacher.config
        pairs = layer_map(layers, own.num_hidden_layers, theirs.num_hidden_layers)
        self.relations = kind == "relations"
        self.own_layers = () if self.relations else tuple(pair[0] for pair in pairs)
        self.teacher = TeacherFeatures(pool, () if self.relations else [pair[1] for pair in pairs], self.relations)
        projected = len(pairs) if kind == "hidden" else 0
        self.projectors = Projectors(projected, own.hidden_size, theirs.hidden_size, seed).to(student.device)

    def look(self, student: LlamaForCausalLM, rows: Rows) -> Seen:
        return look(student, rows, self.own_layers, self.relations)

    def pair(self, seen: Seen, own_N: Tensor, pool_rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Both sides' features `(M, ...)` at the tokens of the pool's rows, the student's projected if they are to be."""
        student = seen.relations_N_R_T if self.relations else seen.hidden_N_L_D
        assert student is not None
        own = student[own_N]
        teacher = self.teacher.of(pool_rows, own.shape[-1]).to(own.device)
        return self.projectors(own) if len(self.projectors.maps) else own, teacher


# ---- starting from the teacher ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def copy_layers(student: LlamaForCausalLM, teacher: LlamaForCausalLM) -> None:
    """Start a student from its teacher's embedding, final norm and evenly spread layers (DistilBERT, arXiv 1910.01108, section 3).

    Raises `LabError` if their widths differ.
    """
    own, theirs = student.config, teacher.config
    if (own.hidden_size, own.intermediate_size, own.num_attention_heads) != (
        theirs.hidden_size,
        theirs.intermediate_size,
        theirs.num_attention_heads,
    ):
        raise LabError(
            f"start='copied' needs a student as wide as its teacher, and {own.hidden_size} is not {theirs.hidden_size}: "
            "choose student='1.5m' with teacher='atlas-3m', or start='warm'."
        )
    student.model.embed_tokens.load_state_dict(teacher.model.embed_tokens.state_dict())
    student.model.norm.load_state_dict(teacher.model.norm.state_dict())
    for to, source in layer_map("uniform", own.num_hidden_layers, theirs.num_hidden_layers):
        student.model.layers[to - 1].load_state_dict(teacher.model.layers[source - 1].state_dict())
