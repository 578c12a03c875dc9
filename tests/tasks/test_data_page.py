"""docs/data.md says how rows are read: each row of its tables is read here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

from labkit.base.chat import to_json
from labkit.base.errors import LabError
from labkit.tasks.custom.rows import CustomRows, read_rows
from labkit.tasks.custom.shapes import CHATS, PROMPTS, RESPONSES

PAGE = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
TABLES = {
    part.split("\n")[0]: [re.findall(r"`([^`]+)`", line) for line in part.split("\n") if line.startswith("| `")]
    for part in PAGE.split("\n## ")[1:]
}
ASKED, REASONING, TOLD, REFUSED = TABLES.values()


def read(tmp_path: Path, row: str, **settings) -> CustomRows:
    path = tmp_path / "row.jsonl"
    path.write_text(row, encoding="utf-8")
    return read_rows(path, **settings)


def test_the_page_has_its_tables():
    assert [len(table) > 5 for table in TABLES.values()] == [True] * 4
    assert all(len(row) == columns for table, columns in ((ASKED, 3), (REASONING, 3), (TOLD, 2), (REFUSED, 2)) for row in table)


@pytest.mark.parametrize(("row", "asked", "learned"), ASKED)
def test_what_is_asked_and_learned(tmp_path, row, asked, learned):
    (only,) = read(tmp_path, row)
    assert (to_json(only.prompt), only.response) == (json.loads(asked), json.loads(learned))
    assert only.learned == only.response


@pytest.mark.parametrize(("row", "learn", "learned"), REASONING)
def test_what_is_learned_of_rows_with_reasoning(tmp_path, row, learn, learned):
    (only,) = read(tmp_path, row, learn=json.loads(learn))
    assert (only.prompt, only.learned) == ("2 + 2?", json.loads(learned))
    assert only.response == (None if row.endswith('and"}') else "4"), "the reference of an exam"


@pytest.mark.parametrize(("row", "told"), TOLD)
def test_what_the_summary_tells(tmp_path, row, told):
    assert told in read(tmp_path, row).summary


@pytest.mark.parametrize(("row", "reason"), REFUSED)
def test_what_is_refused(tmp_path, row, reason):
    with pytest.raises(LabError, match=re.escape(reason)):
        read(tmp_path, row)


def test_the_order_of_the_columns():
    words = [
        word.lower() for word in re.findall(r"`(\w+)`", PAGE[PAGE.index("- Of several columns") : PAGE.index("A chat is used before")])
    ]
    assert tuple(words) == (*PROMPTS, *RESPONSES)
    assert {"messages", "conversations"} < set(CHATS)
