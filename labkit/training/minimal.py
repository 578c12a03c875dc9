"""Distillation in one loop, without options. Read this first; `training/loop.py` does the same and all the rest.

    student, losses = distil("57k", steps=100)

Nothing in the lab uses this file: it is for reading. A test trains both ways and compares losses and weights.
"""

from __future__ import annotations

import math

import torch

from labkit import models
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers.signals import POOL_SEED, Signals
from labkit.training.batches import Order

WARMUP, WEIGHT_DECAY, BETAS = 30, 0.01, (0.9, 0.95)


def distil(
    size: str = "57k",
    steps: int = 100,
    *,
    teacher: str = "atlas-3m",
    questions: int = 20_000,
    batch: int = 128,
    temperature: float = 1.0,
    learning_rate: float = 0.006,
    seed: int = 0,
) -> tuple[torch.nn.Module, list[float]]:
    """Train a student on its teacher's soft labels.

    size: name of the student's size. steps: updates. teacher: name of a shipped teacher. questions: how many it is asked. batch: questions
    a step. temperature: softens both distributions. learning_rate: of AdamW, at its highest. seed: of the student's weights and the order.

    Returns the student, and the loss of each step in nats an answer token.
    """
    student = models.student(size, seed).train()
    pool = Signals(models.teacher(teacher), Atlas("half").questions(questions, POOL_SEED))
    order = Order(len(pool), seed, growing=True)
    optimiser = torch.optim.AdamW(student.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY)
    losses = []
    for step in range(steps):
        # Questions of this step, as numbers. The teacher answers those that it has not answered yet.
        rows = order.take(step * batch, batch)
        for _ in pool.prepare(rows):
            pass

        # B rows of T tokens, prompt and answer; True where the next token belongs to the answer. There are N such places.
        tokens_B_T, is_answer_B_T, _ = models.pad([pool.prompt(i) for i in rows], [pool.answer(i) for i in rows])

        # What teacher and student say comes next, at these places, over a vocabulary of V tokens.
        teacher_logits_N_V = pool.logits(pool.hidden(rows))
        student_logits_N_V = student(tokens_B_T).logits[is_answer_B_T]

        # KL divergence from the teacher to the student, both softened. T squared keeps the gradient's size when T changes.
        log_p_N_V = (teacher_logits_N_V / temperature).log_softmax(-1)
        log_q_N_V = (student_logits_N_V / temperature).log_softmax(-1)
        kl_N = (log_p_N_V.exp() * (log_p_N_V - log_q_N_V)).sum(-1)
        loss = temperature**2 * kl_N.mean()

        # One update. The rate rises over the first steps and then falls along a cosine.
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        falling = 0.05 + 0.475 * (1 + math.cos(math.pi * step / steps))
        optimiser.param_groups[0]["lr"] = learning_rate * min(1.0, (step + 1) / WARMUP) * falling
        optimiser.step()
        losses.append(float(loss.detach()))
    return student.eval(), losses
