"""One word for one thing: the glossary's names exist, and the words it replaces are gone from code, documents and lessons."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY

GLOSSARY = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in GLOSSARY.splitlines() if line.startswith("| ")]
ROWS = [row for row in ROWS if row[0] != "term"]
FILES = [
    *(REPOSITORY / "labkit").rglob("*.py"),
    *(REPOSITORY / "notebooks").glob("*.ipynb"),
    *(path for path in REPOSITORY.glob("*.md") if path.name not in ("LOG.md", "CHANGELOG.md")),
    *(path for path in (REPOSITORY / "docs").glob("*.md") if path.name != "glossary.md"),
    *(REPOSITORY / "data").glob("**/*.md"),
]
TEXTS = {path: path.read_text(encoding="utf-8") for path in FILES}
CODE = "\n".join(text for path, text in TEXTS.items() if path.suffix == ".py")
REPLACED = sorted({word for row in ROWS for word in row[3].split(", ") if word})


def test_the_glossary_is_a_table_of_four_columns_without_a_term_twice():
    assert all(len(row) == 4 and row[0] and row[1] for row in ROWS)
    terms = [term for row in ROWS for term in row[0].split(", ")]
    assert len(set(terms)) == len(terms) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_name_in_the_code_exists(row: list[str]):
    names = re.findall(r"`([^`]+)`", row[2])
    assert names
    for name in names:
        for part in re.findall(r"\w+", name):
            assert re.search(rf"\b{part}\b", CODE), f"{name} is nowhere in the code"


@pytest.mark.parametrize("word", REPLACED)
def test_a_replaced_word_is_gone(word: str):
    found = [
        f"{path.relative_to(REPOSITORY)}: {match[0]!r}"
        for path, text in TEXTS.items()
        for match in re.finditer(rf"\b{word}(?:s|es)?\b.{{0,30}}", text, re.I)
    ]
    assert not found, f"{word!r} is used for what the glossary calls otherwise: {found[:8]}"
