"""The score of a given answer is the model's own probability of it, however the rows are batched."""

import pytest
import torch

from labkit import models
from labkit.models import score_answers as module
from labkit.models.score_answers import of_like_length, score_answers, states_of
from labkit.tasks.atlas.facts import Atlas

ASKED = Atlas("half").questions(9, 3)


@pytest.fixture(scope="module")
def rows():
    own = models.tokenizer()
    return own.prompts([q.text for q in ASKED]), own.answers([q.gold for q in ASKED])


@pytest.mark.parametrize(("batch", "tokens"), [(200, 4096), (2, 1), (4, 7)])
def test_each_token_is_scored_after_those_before_it(rows, monkeypatch, batch, tokens):
    """Against one row and one token at a time, without padding."""
    monkeypatch.setattr(module.of_like_length, "__defaults__", (batch,))
    monkeypatch.setattr(module, "TOKENS", tokens)
    model = models.student("22k")
    found = score_answers(model, *rows)
    assert [len(score) for score in found] == [len(answer) for answer in rows[1]]
    for prompt, answer, score in zip(*rows, found, strict=True):
        for place, token in enumerate(answer):
            with torch.no_grad():
                wanted = model(torch.tensor([[*prompt, *answer[:place]]])).logits[0, -1].log_softmax(-1)[token]
            assert float(score[place]) == pytest.approx(float(wanted), abs=1e-5)


def test_rows_come_back_in_their_order_and_no_row_is_none(rows):
    model = models.student("22k")
    backwards = [side[::-1] for side in rows]
    for one, other in zip(score_answers(model, *rows), score_answers(model, *backwards)[::-1], strict=True):
        torch.testing.assert_close(one, other)
    assert score_answers(model, [], []) == []
    assert not score_answers(model, *rows)[0].requires_grad
    assert score_answers(model, *rows, torch.float64)[0].dtype == torch.float64
    assert [len(states) for states in states_of(model, *rows)] == [len(answer) for answer in rows[1]]


def test_batches_hold_every_row_once_and_the_short_ones_first():
    lengths = [5, 1, 4, 2, 3]
    parts = list(of_like_length([[0] * n for n in lengths], 2))
    assert [[lengths[i] for i in part] for part in parts] == [[1, 2], [3, 4], [5]]
