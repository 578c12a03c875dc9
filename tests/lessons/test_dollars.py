"""A dollar sign in a lesson never begins a formula by accident."""

from __future__ import annotations

import json
import re

import pytest

from labkit.base.files import data_dir

BOOKS = sorted((data_dir().parent / "notebooks").glob("*.ipynb"))


def accidents(text: str) -> list[str]:
    """Formulas that begin or end with a space, or stand before a digit: prices, as a rule."""
    text = re.sub(r"```.*?```|`[^`]*`|\\\$", "", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    formulas = re.finditer(r"\$([^$]+)\$", text)
    return [found[0][:60] for found in formulas if found[1] != found[1].strip() or text[found.end() : found.end() + 1].isdigit()]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.name)
def test_every_dollar_sign_is_of_a_formula_or_escaped(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert not [said for text in texts for said in accidents(text)]


def test_a_price_is_found():
    assert accidents("for less than $500, and fine-tuned a model for less than $100.") == ["$500, and fine-tuned a model for less than $"]
    assert accidents(r"with $n = 100$ it is $\log_2 n$ bits, $$x$$, `$5` and \$7") == []
