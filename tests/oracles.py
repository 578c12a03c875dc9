"""Slow ways that are plainly right, which several test files compare the lab's with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def answer_logprobs(model, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Log-probabilities `(answer tokens, V)` in double precision where an answer stands: one row, one plain pass, no padding."""
    return model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)


def answer_logprob(model, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Of the whole answer, its end mark included, in nats."""
    return float(answer_logprobs(model, prompt, answer).gather(1, torch.tensor([answer]).T).sum())
