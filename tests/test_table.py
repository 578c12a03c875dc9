"""The tests' teacher says what its table says, clearly enough for any processor."""

from __future__ import annotations

import pytest
import torch
from table import choices, table_teacher

from labkit import models


@pytest.mark.parametrize("seed", [1, 123])
def test_the_teacher_says_what_the_table_says(seed: int):
    teacher, (table, marks) = table_teacher(seed=seed), choices()
    before = 500
    with torch.no_grad():
        best = teacher(torch.tensor([[models.EOS, before, token] for token in range(len(table))])).logits[:, -1].topk(2)
    for token, (first, _) in enumerate(table):
        assert int(best.indices[token, 0]) == (table[before][0] if token in marks else first), models.tokenizer().token(token)
    assert (best.values[:, 0] - best.values[:, 1]).min() > 0.5, "no rounding turns one into the other"


def test_questions_differ_and_answers_end():
    teacher, tokenizer = table_teacher(), models.tokenizer()
    asked = [f"What is {a} + {b}?" for a in range(4) for b in range(10)]
    said = {tuple(written.ids) for written in models.write(teacher, tokenizer.prompts(asked))}
    assert len(said) == 10, "by the last digit"
    assert all(answer[-1] == models.EOS for answer in said)


def test_a_changed_table():
    teacher = table_teacher({"4": (" Peru", " Chad"), " Peru": ("<end>", " Chad")})
    (written,) = models.write(teacher, models.tokenizer().prompts(["What is 2 + 2 or 4?"]))
    assert models.tokenizer().text(written.ids) == "Peru"
