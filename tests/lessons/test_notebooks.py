"""Notebooks as files: thin, without outputs but the claims that nbval compares, opening lessons that exist."""

from __future__ import annotations

import re

import nbformat
import pytest
from conftest import REPOSITORY
from prose import BLOCK

from labkit.lessons.catalogue import LESSONS

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_every_lesson_has_its_notebook_and_every_notebook_its_lesson():
    assert {path.name[:2] for path in NOTEBOOKS} == set(LESSONS)


def test_it_is_valid_and_its_cells_have_names(notebook):
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in ids)


def test_only_compared_claims_keep_their_output(notebook):
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = "keep-output" in cell.metadata.get("tags", [])
        if kept and "labkit.open(" in cell.source:
            continue  # the twin of the board: tests/lessons/test_twin.py
        assert kept == ("NBVAL_CHECK_OUTPUT" in cell.source)
        if kept:
            assert len(cell.outputs) == 1, "a compared claim needs the output it is compared with"
        else:
            assert not cell.outputs
            assert cell.execution_count is None
    assert "widgets" not in notebook.metadata


def test_it_is_thin(notebook):
    words = sum(len(BLOCK.sub("", cell.source).split()) for cell in notebook.cells if cell.cell_type == "markdown")
    lines = [
        line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines() if line.strip() and line[0] != "#"
    ]
    assert words <= 1200
    assert len(lines) <= 90


def test_it_installs_nothing_and_names_only_lessons_that_exist(notebook):
    source = "\n".join(cell.source for cell in notebook.cells)
    assert "pip install" not in source
    assert set(re.findall(r'labkit\.open\("(\d\d)"', source)) <= set(LESSONS)
    assert set(re.findall(r"\b(\d\d)_\w+\.ipynb", source)) <= set(LESSONS)


def test_the_readme_lists_the_lessons_as_the_catalogue_does():
    rows = re.findall(r"^\| \[(\d\d) ([^\]]+)\]\([^)]+\) \| ([^|]+) \| (\d+) \|$", README, re.M)
    assert rows == [(x.number, x.title, x.question, str(x.minutes)) for x in LESSONS.values()]
