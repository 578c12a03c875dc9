"""Notebooks as files: thin, all of one shape, without test code and without outputs, opening lessons that exist."""

from __future__ import annotations

import ast
import re

import nbformat
import pytest
from conftest import REPOSITORY
from prose import BLOCK

from labkit.lessons.catalogue import LESSONS
from labkit.lessons.exercises import EXERCISES

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
OPENING = ("bootstrap", "open")  # the cells that set up and show the board; the same in every lesson
CHECK = re.compile(r'labkit\.check\("(\d\d\.\w+)"')
EXERCISE = re.compile(r"labkit\.check\(|EXERCISES\[")
SUMMARIES = {"Read it", "Hint", "Solution", "One answer"}  # what a folded text may be called
MOST_WORDS, MOST_LINES, LONGEST_CELL, WIDEST = 1_300, 45, 12, 95
BOLD_LINE, ONE_LINE = 112, 135  # letters on a line of a cell 1,050 px wide, as measured in JupyterLab: 8.5 and 7 px each


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def texts(notebook) -> list[str]:
    """The Markdown cells, without the blocks of numbers, which no reader sees."""
    return [BLOCK.sub("", cell.source).strip() for cell in notebook.cells if cell.cell_type == "markdown"]


def code(notebook) -> list:
    """The code cells, without those that set up and show the board."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.id not in OPENING]


def headings(notebook) -> list[str]:
    return re.findall(r"^#{2,4} (.+)$", "\n".join(texts(notebook)), re.M)


def test_every_lesson_has_its_notebook_and_every_notebook_its_lesson():
    assert {path.name[:2] for path in NOTEBOOKS} == set(LESSONS)


def test_it_is_valid_and_its_cells_have_names(notebook):
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in ids)


def test_only_the_board_keeps_an_output(notebook):
    for cell in notebook.cells:
        if cell.cell_type != "code" or (cell.id == "open" and "keep-output" in cell.metadata.get("tags", [])):
            continue  # the twin of the board: tests/lessons/test_twin.py
        assert not cell.outputs, cell.id
        assert cell.execution_count is None, cell.id
    assert "widgets" not in notebook.metadata


def test_it_is_thin(notebook):
    words = sum(len(text.split()) for text in texts(notebook))
    lines = [
        line
        for cell in code(notebook)
        if not EXERCISE.search(cell.source)
        for line in cell.source.splitlines()
        if line.strip() and line[0] != "#"
    ]
    assert words <= MOST_WORDS
    assert len(lines) <= MOST_LINES


def test_its_cells_are_short_and_narrow(notebook):
    long = {cell.id: n for cell in code(notebook) if (n := len(cell.source.splitlines())) > LONGEST_CELL}
    wide = {cell.id: line for cell in code(notebook) for line in cell.source.splitlines() if len(line) > WIDEST}
    assert not long, f"over {LONGEST_CELL} lines: what draws a figure belongs to labkit/lessons/figures"
    assert not wide, f"over {WIDEST} letters: JupyterLab cuts them at the right edge"


def test_its_first_cell_says_what_it_is_for_and_what_to_press(notebook, path):
    lesson = LESSONS[path.name[:2]]
    title, hook, facts, *steps = [line.rstrip("\\") for line in texts(notebook)[0].splitlines() if line.strip()]
    assert title == f"# {lesson.title}"
    assert re.fullmatch(r"\*\*.+\*\*", hook)
    before = r"(?:nothing|lessons? \d\d(?:(?:, | and )\d\d)*)"
    assert re.fullmatch(rf"{lesson.minutes} minutes · goal: .+ · before this: {before}", facts), facts
    assert [step[:3] for step in steps] == ["1. ", "2. ", "3. "]
    assert "Shift+Enter" in steps[0]
    assert "Save prediction" in steps[1]
    assert "Run" in steps[2]
    assert len(hook) <= BOLD_LINE, "one line, so that the board is seen in the first window"
    assert max(map(len, (facts, *steps))) <= ONE_LINE, "one line each"


def test_it_ends_with_transfer_doubt_and_what_comes_next(notebook):
    found = headings(notebook)
    assert found[-3:-1] == ["Transfer", "What would change my mind"]
    assert "next" in found[-1]


def test_every_exercise_says_how_hard_and_how_long_it_is(notebook):
    asked = {name for cell in code(notebook) for name in CHECK.findall(cell.source)}
    told = re.findall(r"\b(?:easy|medium|hard), \d+ minutes?\b", "\n".join(texts(notebook)))
    assert asked
    assert len(told) >= len(asked), f"{sorted(asked)}: write (easy, 3 minutes) and the like before each"


def test_conclusions_are_folded_under_their_figures(notebook):
    page = "\n".join(texts(notebook))
    assert "<details><summary>Read it</summary>" in page
    assert not re.search(r"<details[^>]+open", page)
    assert set(re.findall(r"<summary>(.*?)</summary>", page)) <= SUMMARIES
    for cell in (cell for cell in notebook.cells if "<summary>Read it" in cell.source):
        before = notebook.cells[notebook.cells.index(cell) - 1]
        assert before.cell_type == "code", f"{cell.id}: a conclusion stands under what it reads"


def test_an_unusual_word_leads_to_the_glossary(notebook):
    assert any("](../docs/glossary.md" in text for text in texts(notebook))


def test_no_test_code_stands_before_a_learner(notebook):
    for cell in code(notebook):
        assert "NBVAL" not in cell.source, cell.id
        assert "keep-output" not in cell.metadata.get("tags", []), cell.id
        for call in (node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)):
            if getattr(call.func, "id", "") == "print":
                tests = [a for a in call.args if isinstance(a, ast.Compare) or getattr(getattr(a, "func", None), "id", "") == "bool"]
                assert not tests, f"{cell.id} prints True or False: that is a test, and belongs to tests/"


def test_every_exercise_is_set_in_a_lesson_of_its_number():
    set_in = {path.name[:2]: CHECK.findall(path.read_text(encoding="utf-8").replace('\\"', '"')) for path in NOTEBOOKS}
    assert sorted({name for names in set_in.values() for name in names}) == sorted(EXERCISES)
    assert all(name.startswith(number) for number, names in set_in.items() for name in names)


def test_it_installs_nothing_and_names_only_lessons_that_exist(notebook):
    source = "\n".join(cell.source for cell in notebook.cells)
    assert "pip install" not in source
    assert set(re.findall(r'labkit\.open\("(\d\d)"', source)) <= set(LESSONS)
    assert set(re.findall(r"\b(\d\d)_\w+\.ipynb", source)) <= set(LESSONS)
