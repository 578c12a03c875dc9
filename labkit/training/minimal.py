"""Distillation in one loop, without options. Read this first; `training/loop.py` does the same, with all options.

    student, losses = distil("57k", steps=100)

This file is for reading; nothing in the lab uses it. A test trains with both loops and compares losses and weights.
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

    size: name of the student's size.
    steps: number of updates.
    teacher: name of a shipped teacher.
    questions: number of questions that the teacher answers.
    batch: questions per step.
    temperature: softens both distributions.
    learning_rate: the peak learning rate of AdamW.
    seed: of the student's weights and of the order of the questions.

    Returns the student, and the loss of each step in nats per answer token.
    """
    student = models.student(size, seed).train()
    pool = Signals(models.teacher(teacher), Atlas("half").questions(questions, POOL_SEED))
    order = Order(len(pool), seed, growing=True)
    optimiser = torch.optim.AdamW(student.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY)
    losses = []
    for step in range(steps):
        # The numbers of this step's questions. The teacher answers those that it has not answered yet.
        rows = order.take(step * batch, batch)
        for _ in pool.prepare(rows):
            pass

        # B rows of T tokens: prompt and answer. is_answer is True where the next token belongs to the answer: N positions.
        tokens_B_T, is_answer_B_T, _ = models.pad([pool.prompt(i) for i in rows], [pool.answer(i) for i in rows])

        # Logits of the next token at these positions, over a vocabulary of V tokens.
        teacher_logits_N_V = pool.logits(pool.hidden(rows))
        student_logits_N_V = student(tokens_B_T).logits[is_answer_B_T]

        # KL(teacher || student) of the softened distributions. The factor T squared keeps the size of the gradient when T changes.
        log_p_N_V = (teacher_logits_N_V / temperature).log_softmax(-1)
        log_q_N_V = (student_logits_N_V / temperature).log_softmax(-1)
        kl_N = (log_p_N_V.exp() * (log_p_N_V - log_q_N_V)).sum(-1)
        loss = temperature**2 * kl_N.mean()

        # One update. The learning rate rises over the first steps, then falls along a cosine.
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        falling = 0.05 + 0.475 * (1 + math.cos(math.pi * step / steps))
        optimiser.param_groups[0]["lr"] = learning_rate * min(1.0, (step + 1) / WARMUP) * falling
        optimiser.step()
        losses.append(float(loss.detach()))
    return student.eval(), losses
