"""The pages that follow from the lessons and the code: docs/course.md and docs/api.md."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import labkit
from labkit.base.files import REPOSITORY
from labkit.lessons.catalogue import LESSONS

FACTS = re.compile(r"^\d+ minutes · goal: (.+) · before this: (.+)$", re.M)
EXERCISE = re.compile(r"\b(easy|medium|hard), (\d+) minutes?\b")
COURSE = """# The course

`labkit build pages` makes this page from the lessons; a test compares them. [Teaching with the lab](teaching.md) has a syllabus of two
lengths, and what a class needs.

| lesson | question | you can then | before it | minutes | exercises, with minutes |
|---|---|---|---|---|---|
"""
AFTER = """
There is no lesson 12. The number is not used, and nothing is missing.

A lesson is a notebook. It begins with a prediction, trains a student live, compares it with recorded runs, and ends with exercises whose
check names what went wrong. What you did is kept on your machine: predictions and their scores, exercises passed, records of runs.
`labkit handin --name "Your name"` writes it as one page. Words that you do not know are in the [glossary](glossary.md).
"""
API = """# The names of `labkit`

`labkit build pages` makes this page from the docstrings; a test compares them. In Python, `help(labkit.record)` shows the same.

| name | what it is |
|---|---|
"""


def course() -> str:
    """The page of the course."""
    return COURSE + "".join(map(_row, LESSONS)) + AFTER


def _row(number: str) -> str:
    lesson = LESSONS[number]
    (path,) = (REPOSITORY / "notebooks").glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    facts = FACTS.search(text)
    goal, before = facts.groups() if facts else ("", "")
    exercises = ", ".join(f"{level} {minutes}" for level, minutes in EXERCISE.findall(text))
    title = f"[{number} {lesson.title}](../notebooks/{path.name})"
    return f"| {title} | {lesson.question} | {goal} | {before} | {lesson.minutes} | {exercises} |\n"


def api() -> str:
    """The page of all public names."""
    names = sorted(labkit.__all__, key=str.lower)
    alike = [name.lower() for name in names]
    rows = ""
    for place, name in enumerate(names):
        again = "-1" if alike[place] in alike[:place] else ""  # as GitHub names the second of two headings
        rows += f"| [`{name}`](#labkit{alike[place]}{again}) | {_sentence(inspect.getdoc(getattr(labkit, name)) or '')} |\n"
    return API + rows + "".join(map(_section, names))


def _section(name: str) -> str:
    found = inspect.unwrap(getattr(labkit, name))
    file = Path(inspect.getfile(found)).relative_to(REPOSITORY)
    text = f"\n## labkit.{name}\n\n[`{file}`](../{file})\n\n```python\n{_call(name, found)}\n```\n\n```text\n{inspect.getdoc(found)}\n```\n"
    methods = list(_methods(found)) if isinstance(found, type) else []
    return text + ("\n| method | what it does |\n|---|---|\n" + "".join(methods) if methods else "")


def _methods(owner: type) -> Iterator[str]:
    for name, member in vars(owner).items():
        if not name.startswith("_") and (text := inspect.getdoc(member)) and not isinstance(member, type):
            function = inspect.unwrap(getattr(member, "fget", None) or getattr(member, "__func__", member))
            if inspect.isfunction(function):
                yield f"| `{name}`{'' if isinstance(member, property) else '()'} | {_sentence(text)} |\n"


def _call(name: str, found: Any) -> str:
    """How it is called: with its arguments as the source has them."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(found))).body
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return "\n".join(textwrap.wrap(f"labkit.{name}({ast.unparse(node.args)}){returns}", 100, subsequent_indent="    "))
    assert isinstance(node, ast.ClassDef)
    made = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    return f"labkit.{name}({ast.unparse(made.args).removeprefix('self, ') if made else '...'})"


def _sentence(text: str) -> str:
    """The first sentence of a docstring, for a cell of a table."""
    first = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.:]) (?=[A-Z]|\w+: )", first)[0].rstrip(":").replace("|", "\\|")


def build(folder: Path) -> None:
    (folder / "course.md").write_text(course(), encoding="utf-8")
    (folder / "api.md").write_text(api(), encoding="utf-8")
