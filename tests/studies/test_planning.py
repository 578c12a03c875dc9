"""Plans on paper against arithmetic done by hand, against the store's real size, and the page made of them."""

from __future__ import annotations

import pytest
import torch
from conftest import REPOSITORY

from labkit.base.errors import LabError
from labkit.cli.build import recipe_of
from labkit.studies.planning import Machine, Plan
from labkit.teachers.topk_store import TopKStore

ROUND = Machine(flops=1e15, bandwidth=1e12, hour=2.0)
SMALL = Plan(prompts=1_000, prompt_tokens=100, answer_tokens=200, teacher=1e10, student=1e9, vocabulary=50_000, width=1_000, layers=10,
             kept_bytes=1_000, k=10, passes=2, gpus=2, together=8)  # fmt: skip


def test_storage_by_hand():
    assert SMALL.bytes_a_token() == {"text": 2, "top 10": 41, "hidden states": 2_000, "full logits": 100_000}
    assert SMALL.storage()["top 10"] == 41 * 200_000
    assert Plan(vocabulary=2**16 + 1).bytes_a_token()["top 32"] == 6 * 32 + 1


@pytest.mark.parametrize("vocabulary", [40_000, 100_000])
def test_a_store_has_the_planned_size_and_little_more(tmp_path, vocabulary: int):
    rows, n, k = range(64), 250, 32
    with TopKStore(tmp_path, vocabulary=vocabulary, k=k, who="a teacher") as store:
        for row in rows:
            store.add_top([row], [[0] * n], torch.zeros(n, k, dtype=torch.int64), torch.zeros(n, k))
    planned = Plan(prompts=len(rows), answer_tokens=n, vocabulary=vocabulary, k=k).storage()["top 32"]
    assert planned < store.bytes < 1.005 * planned


def test_hours_by_hand():
    assert SMALL.reading_hours(ROUND) == pytest.approx(2 * 1e10 * 300_000 / 1e15 / 3600)
    assert SMALL.training_hours(ROUND) == pytest.approx(6 * 1e9 * 300_000 * 2 / 1e15 / 3600)
    step = (2e10 + 8 * 200 * 10 * 1_000) / 1e12  # weights, and keys and values of the prompt and half an answer: more than the arithmetic
    assert step > 2 * 1e10 * 8 / 1e15
    assert SMALL.writing_hours(ROUND) == pytest.approx((2 * 1e10 * 100_000 / 1e15 + step * 200_000 / 8) / 3600)
    assert SMALL.writing_hours(ROUND, 0.25) == pytest.approx(4 * SMALL.writing_hours(ROUND))
    assert SMALL.gigabytes_a_gpu() == pytest.approx((2e10 + 8 * 300 * 10 * 1_000) / 2 / 1e9)
    seconds = SMALL.training_hours(ROUND) * 3600 / 4
    assert SMALL.loading_gigabytes_a_second(ROUND, 4)["text"] == pytest.approx(2 * 200_000 * 2 / seconds / 1e9)


def test_many_answers_at_a_time_are_bound_by_arithmetic():
    many = Plan(together=4_096, kept_bytes=1)
    reading_the_same = Plan(prompt_tokens=1, answer_tokens=many.prompt_tokens + many.answer_tokens - 1).reading_hours(Machine())
    assert many.writing_hours(Machine()) == pytest.approx(reading_the_same)


def test_the_page_is_made_of_them():
    assert (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8") == recipe_of("scale").page(), "run `labkit build scale`"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Plan(prompts=0), "prompts=0 must be a number above 0"),
        (lambda: Machine(hour=float("nan")), "hour=nan"),
        (lambda: SMALL.reading_hours(ROUND, 1.2), "reached=1.2"),
    ],
)
def test_bad_input_is_told(call, words: str):
    with pytest.raises(LabError, match=words):
        call()
