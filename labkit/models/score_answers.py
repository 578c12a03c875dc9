"""The log-probability that a model gives to each token of given answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from labkit.models.architectures import LanguageModel
from labkit.models.parts import answer_states, logits_of, pad, vocabulary_of

ROWS = 200  # rows in a batch; all rows in one batch, padded to the longest, would take 200 MB more
TOKENS = 4096  # tokens whose logits are in memory at a time, for a vocabulary of 1,024; fewer for a larger one


def of_like_length(rows: Sequence[Sequence[int]], size: int = ROWS) -> Iterator[list[int]]:
    """Yields row numbers, `size` at a time, sorted by length so that batches have little padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def states_of(model: LanguageModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
    """Final states `(len(answer), D)` at the tokens of each row's answer."""
    states: dict[int, Tensor] = {}
    for part in of_like_length([[*p, *a] for p, a in zip(prompts, answers, strict=True)]):
        states_N_D = answer_states(model, pad([prompts[i] for i in part], [answers[i] for i in part]))
        states |= zip(part, states_N_D.split([len(answers[i]) for i in part]), strict=True)
    return [states[i] for i in range(len(prompts))]


@torch.no_grad()
def score_answers(
    model: LanguageModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Log-probability in nats of each token of each row's answer, `(len(answer),)`.

    prompts, answers: token ids of the model's tokenizer, one of each per row; an end mark in an answer is scored too.
    dtype: of the softmax.
    """
    if not prompts:
        return []
    states_N_D = torch.cat(states_of(model, prompts, answers))
    labels_N = torch.tensor([token for answer in answers for token in answer], device=states_N_D.device)
    few = max(1, TOKENS * 1024 // vocabulary_of(model))
    pairs = zip(states_N_D.split(few), labels_N.split(few), strict=True)
    scores = [logits_of(model, states).to(dtype).log_softmax(-1).gather(1, labels[:, None])[:, 0] for states, labels in pairs]
    return list(torch.cat(scores).split([len(answer) for answer in answers]))
