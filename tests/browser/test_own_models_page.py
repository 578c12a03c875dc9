"""Lesson 13 in a real browser: a run on data of one's own, whose exam has a single score."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import board, jupyterlab, opened, run_named

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parent.parent / "artifacts"


def test_a_run_on_own_data_shows_its_one_score(tmp_path):
    """The bar, the waterfall and the answers are drawn, by the score's own name."""
    ARTIFACTS.mkdir(exist_ok=True)
    with jupyterlab(tmp_path) as address, opened(address, "13_your_own_models.ipynb") as page:
        run_named(page, "open")
        board(page).wait_for()
        page.wait_for_function("Number(document.querySelector('.dlab')?.dataset.klPoints ?? 0) > 20")
        page.wait_for_function("/of 1\\.00/.test(document.querySelector('.dlab').innerText)")
        told = board(page).inner_text()
        page.screenshot(path=ARTIFACTS / "own.png")
    assert "exact" in told
    assert "mean of" not in told
    assert re.search(r"\d+ right, \d+ wrong", told)
