"""One step's gradient: read the batch, ask the method for its terms, weigh and divide them, go back through the student.

`gradients` is the only place where anything is differentiated, and it is called by the one loop, in `training/loop.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from labkit import models
from labkit.losses.batch import CHUNK, Batch, Compare
from labkit.models import EOS
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads, Told
from labkit.teachers.cross_tokenizer_pool import Crossed
from labkit.teachers.features import Insides, TeacherFeatures
from labkit.teachers.signals import Signals
from labkit.training.batches import Drawn, split_by_length
from labkit.training.faults import Faults, stray_loss
from labkit.training.methods import GOLD_TERMS, Method, weights


class Parts(NamedTuple):
    """What a run is made of. `learner` holds all that is trained: the student, and any projectors or peer; `live`: the teacher reads
    every row again instead of being remembered; `plain`: at temperature 1 the loss is the very KL that is told; `crossed`: the pool as
    a student with another vocabulary reads it; `looks`: the layers of the target that heads read."""

    accelerator: Accelerator
    method: Method
    student: LanguageModel
    peer: LanguageModel | None
    learner: nn.Module
    pool: Signals | None
    insides: Insides | None
    live: bool
    plain: bool
    crossed: Crossed | None = None
    bf16: bool = False  # the student's passes only; losses are worked out in fp32
    looks: TeacherFeatures | None = None

    def cast(self) -> torch.autocast:
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bf16)


def gradients(parts: Parts, compare: Compare, drawn: Drawn, knobs: Mapping[str, Any], faults: Faults) -> dict[str, float]:
    """Leave the gradient of the whole batch's loss on the student; returns the numbers of the step.

    Every term is divided once, by the answer tokens of the whole batch, so neither micro-batches nor processes change it.
    """
    compare, plain = faults.compare(compare), parts.plain and not faults
    accelerator, student, share = parts.accelerator, parts.student, weights(knobs["mix"], knobs["feature"])
    parts.learner.train()
    sums = dict.fromkeys(("loss", "kl", "ce", "hard", "crossed", "feature", "mutual", "peer"), 0.0)
    told = {"loss"}
    mine = range(accelerator.process_index, len(drawn.prompts), accelerator.num_processes)
    heads: Heads | None = student if isinstance(student, Heads) else None
    n = len(drawn.pool_rows)
    tokens: dict[bool, float] = (
        {gold: heads.scored(drawn.answers[n:] if gold else drawn.answers[:n]) for gold in (True, False)}
        if heads
        else {gold: faults.scored(drawn, gold) for gold in (True, False)}
    )
    stray_prompts, strays = faults.strays(drawn.prompts, drawn.answers)
    thinned = 1 + sum(map(len, strays)) / sum(tokens.values())  # strays are in the mean too
    lengths = [len(drawn.prompts[i]) + len(drawn.answers[i]) for i in mine]
    if heads:
        passes = heads.passes([len(drawn.answers[i]) for i in mine])
    else:
        passes = split_by_length(lengths, models.parameters(student), student.config.num_hidden_layers)
    if parts.method.features == "states":  # likenesses between tokens need the whole batch in one piece
        passes = [list(range(len(mine)))]

    def losses() -> Iterator[Tensor]:
        for rows in passes:
            for batch in pieces(parts, drawn, [mine[i] for i in rows], faults):
                if isinstance(batch, Tensor):
                    yield batch
                    continue
                loss, kl_at_one = torch.zeros((), device=accelerator.device), None
                for name, term_N in parts.method.terms(batch, compare, knobs["temperature"]).items():
                    if batch.weights_N is not None:
                        term_N = term_N * batch.weights_N[batch.gold_N == (name in GOLD_TERMS)]
                    mean = term_N.sum() / (tokens[name in GOLD_TERMS] * thinned)
                    loss = loss + share[name] * mean
                    if name == "kl" and plain and knobs["temperature"] == 1:
                        kl_at_one = float(term_N.detach().sum())
                    if name != "kl":  # the KL told is that at temperature 1, below
                        label = "ce" if name == "gold" else name
                        told.add(label)
                        sums[label] += float(mean.detach())
                sums["loss"] += float(loss.detach())
                yield loss
                if batch.teacher_logits_M_V is not None:
                    told.add("kl")
                    sums["kl"] += (_kl_at_one(batch) if kl_at_one is None else kl_at_one) / tokens[False]
        if rows := [i for i in mine if i < len(strays)]:
            stray = models.pad([stray_prompts[i] for i in rows], [strays[i] for i in rows])
            logits = student.lm_head(models.answer_states(student, stray)).float()
            loss = stray_loss(logits, stray.labels_N.to(logits.device)) / (sum(tokens.values()) * thinned)
            sums["loss"] += float(loss.detach())
            yield loss

    for loss in losses():
        accelerator.backward(loss)
    if accelerator.num_processes > 1:
        _sum_gradients(accelerator, parts.learner)
        reduced = accelerator.reduce(torch.tensor([*sums.values()], device=accelerator.device), "sum").tolist()
        sums, told = dict(zip(sums, reduced, strict=True)), {name for name, value in zip(sums, reduced, strict=True) if value}
    return {name: value for name, value in sums.items() if name in told}


def pieces(parts: Parts, drawn: Drawn, rows: list[int], faults: Faults) -> Iterator[Batch | Tensor]:
    """What is read of some rows: in one piece, or, where the logits of a large vocabulary would not fit, a few tokens at a time.

    Each piece is to be differentiated before the next is asked for. Pieces end at the student's final states; what comes last is a number
    whose gradient takes theirs through its body, once (the idea of Liger-Kernel's chunked losses: Hsu et al. 2024, arXiv 2410.10989).
    """
    if isinstance(parts.student, Heads):
        yield _ahead(parts, drawn, rows)
        return
    n, size = sum(len(drawn.answers[i]) for i in rows), parts.student.lm_head.weight.shape[0]
    if n * size <= CHUNK or parts.insides is not None or parts.crossed is not None or parts.peer is not None or faults:
        yield read(parts, drawn, rows, faults)
        return
    padded = models.pad([drawn.prompts[i] for i in rows], [drawn.answers[i] for i in rows])
    with parts.cast():
        states_N_D = models.answer_states(parts.student, padded)
    leaf_N_D = states_N_D.detach().requires_grad_()
    gold_N = torch.tensor([drawn.is_gold(i) for i in rows for _ in drawn.answers[i]], device=leaf_N_D.device)
    labels_N = padded.labels_N.to(leaf_N_D.device)
    own = [i for i in rows if not drawn.is_gold(i)]
    told_M = _teacher_states(parts.pool, drawn, own, parts.live) if parts.pool is not None and own else None
    done = 0  # of the tokens that the teacher speaks about
    for part in torch.arange(n, device=leaf_N_D.device).split(max(1, CHUNK // size)):
        own_tokens = int((~gold_N[part]).sum())
        teacher = (
            parts.pool.logits(told_M[done : done + own_tokens]) if parts.pool is not None and told_M is not None and own_tokens else None
        )
        done += own_tokens
        with parts.cast():
            logits = parts.student.lm_head(leaf_N_D[part]).float()
        yield Batch(logits, labels_N[part], gold_N[part], teacher)
    if states_N_D.requires_grad and leaf_N_D.grad is not None:
        yield (states_N_D * leaf_N_D.grad).sum()


def _ahead(parts: Parts, drawn: Drawn, rows: list[int]) -> Batch:
    """What heads guess at some rows, the pool's first: those the target has read before, gold rows it reads now."""
    heads = cast(Heads, parts.student)
    own, paid = [i for i in rows if not drawn.is_gold(i)], [i for i in rows if drawn.is_gold(i)]
    found: list[Told] = []
    if own and (parts.live or parts.pool is None):
        found.append(heads.told([drawn.prompts[i] for i in own], [drawn.answers[i] for i in own]))
    elif own and parts.pool is not None:
        told, numbers = [drawn.prompts[i] for i in own], [drawn.pool_rows[i] for i in own]
        looks = parts.looks.of(numbers, 0).to(heads.device) if parts.looks else None
        found.append(Told(told, [drawn.answers[i] for i in own], parts.pool.hidden(numbers).to(heads.device).float(), looks))
    if paid:
        found.append(heads.told([drawn.prompts[i] for i in paid], [drawn.answers[i] for i in paid]))
    with parts.cast():
        return heads.batch(Told.of(found), [drawn.is_gold(i) for i in (*own, *paid)])


def read(parts: Parts, drawn: Drawn, rows: list[int], faults: Faults) -> Batch:
    """Student and teacher at the answer tokens of some rows, as far as they are in the loss."""
    padded = models.pad([drawn.prompts[i] for i in rows], [drawn.answers[i] for i in rows])
    student, pool, insides = parts.student, parts.pool, parts.insides
    with parts.cast():
        seen = insides.look(student, padded) if insides else None
        logits = student.lm_head(seen.final_N_D if seen else models.answer_states(student, padded)).float()
    labels = padded.labels_N.to(logits.device)
    gold = torch.tensor([drawn.is_gold(i) for i in rows for _ in drawn.answers[i]], device=logits.device)
    own = [i for i in rows if not drawn.is_gold(i)]
    if parts.crossed is not None:
        soft = bool(own) and parts.method.name == "output"
        aligned = parts.crossed.aligned([drawn.pool_rows[i] for i in own], parts.live) if soft else None
        batch = Batch(logits, labels, gold, None, aligned=aligned)
        return _without_ends(batch) if faults.endless else batch
    teacher = None
    if pool is not None and own:
        states = faults.states(_teacher_states(pool, drawn, own, parts.live))
        teacher = faults.logits(pool.logits(states), [len(drawn.answers[i]) for i in own])
    features = insides.pair(seen, ~gold, [drawn.pool_rows[i] for i in own]) if insides and seen and own else (None, None)
    peer = parts.peer.lm_head(models.answer_states(parts.peer, padded)).float() if parts.peer is not None else None
    batch = Batch(logits, labels, gold, teacher, peer, *features)
    return _without_ends(batch) if faults.endless else batch


def _without_ends(batch: Batch) -> Batch:
    """The same batch, with the end marks left out of every part of it."""
    kept_N = batch.labels_N != EOS
    kept_M = kept_N[~batch.gold_N]
    by_token = dict.fromkeys(("student_logits_N_V", "labels_N", "gold_N", "peer_logits_N_V"), kept_N)
    by_token |= dict.fromkeys(("teacher_logits_M_V", "student_features_M", "teacher_features_M"), kept_M)
    parts = {name: getattr(batch, name) for name in by_token}
    return batch._replace(**{name: part[by_token[name]] for name, part in parts.items() if part is not None})


def _teacher_states(pool: Signals, drawn: Drawn, rows: list[int], live: bool) -> Tensor:
    """The teacher's states at these rows' answer tokens: its own answers' from the cache, the student's read now."""
    now = [i for i in rows if i < drawn.own or live]
    if not now:
        return pool.hidden([drawn.pool_rows[i] for i in rows])
    read = pool.live([drawn.prompts[i] for i in now], [drawn.answers[i] for i in now])
    states = dict(zip(now, read.split([len(drawn.answers[i]) for i in now]), strict=True))
    return torch.cat([states[i] if i in states else pool.hidden([drawn.pool_rows[i]]).to(read) for i in rows])


def _kl_at_one(batch: Batch) -> float:
    """Summed KL to the teacher at temperature 1, which is what the KL curve shows whatever the loss is."""
    assert batch.teacher_logits_M_V is not None
    with torch.no_grad():
        teacher = batch.teacher_logits_M_V.log_softmax(-1)
        student = batch.student_logits_N_V[~batch.gold_N].log_softmax(-1)
        kl_M = (teacher.exp() * (teacher - student)).sum(-1)
        return float((kl_M if batch.weights_N is None else kl_M * batch.weights_N[~batch.gold_N]).sum())


def _sum_gradients(accelerator: Accelerator, learner: nn.Module) -> None:
    """One all-reduce of all gradients: every process has already divided by the counts of the whole batch."""
    parameters = [p for p in learner.parameters() if p.requires_grad]
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in own]), "sum")
    for p, g in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = g.view_as(p).clone()
