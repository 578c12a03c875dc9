"""How likely a model finds answers that are given, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from labkit.models.architectures import LanguageModel
from labkit.models.load import answer_states, pad

ROWS = 200  # read or answered at a time; all in one batch, padded to the longest, would take 200 MB more
TOKENS = 4096  # whose logits are held at a time, over a vocabulary of 1,024; fewer where it is larger


def of_like_length(rows: Sequence[Sequence[int]], size: int = ROWS) -> Iterator[list[int]]:
    """Row numbers, `size` at a time, so that little of a batch is padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def states_of(model: LanguageModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
    """Final states `(len(answer), hidden)` at the tokens of each row's answer."""
    found: dict[int, Tensor] = {}
    for part in of_like_length([[*p, *a] for p, a in zip(prompts, answers, strict=True)]):
        states_N_D = answer_states(model, pad([prompts[i] for i in part], [answers[i] for i in part]))
        found |= zip(part, states_N_D.split([len(answers[i]) for i in part]), strict=True)
    return [found[i] for i in range(len(prompts))]


@torch.no_grad()
def score_answers(
    model: LanguageModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Log-probability in nats of every token of each row's answer, `(len(answer),)`, by a softmax in `dtype`.

    prompts, answers: token ids of the model's own tokenizer, one of each a row; an answer holds its end mark if that is to count.
    """
    if not prompts:
        return []
    states_N_D = torch.cat(states_of(model, prompts, answers))
    labels_N = torch.tensor([token for answer in answers for token in answer], device=states_N_D.device)
    few = max(1, TOKENS * 1024 // model.config.vocab_size)
    pairs = zip(states_N_D.split(few), labels_N.split(few), strict=True)
    scores = [model.lm_head(states).to(dtype).log_softmax(-1).gather(1, labels[:, None])[:, 0] for states, labels in pairs]
    return list(torch.cat(scores).split([len(answer) for answer in answers]))
