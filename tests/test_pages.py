"""The pages that are made from lessons and code are current, and every link between documents leads to something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

import labkit
from labkit.cli.build import recipe_of
from labkit.lessons.catalogue import LESSONS

DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])


@pytest.mark.parametrize("name", ["course", "api"])
def test_a_made_page_is_current(name: str):
    made = getattr(recipe_of("pages"), name)()
    assert (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8") == made, "run: labkit build pages"


def test_the_course_lists_the_lessons_as_the_catalogue_does():
    text = (REPOSITORY / "docs" / "course.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d\d) ([^\]]+)\]\([^)]+\) \| ([^|]+) \| [^|]* \| [^|]* \| (\d+) \| [^|]* \|$", text, re.M)
    assert rows == [(x.number, x.title, x.question, str(x.minutes)) for x in LESSONS.values()]
    assert "There is no lesson 12." in text and "12" not in LESSONS


def test_the_names_are_all_public_names():
    text = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## labkit\.(\w+)$", text, re.M)) == sorted(labkit.__all__)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_to_something(path: Path):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.S)
    lost = []
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        file, _, part = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        if not place.exists() or (part and part not in anchors(place)):
            lost.append(target)
    assert not lost


def anchors(path: Path) -> set[str]:
    """The names under which GitHub offers a document's headings: a second one of a name gets a number."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S), re.M):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names


def test_the_readme_is_short():
    text = re.sub(r"<!--.*?-->", "", (REPOSITORY / "README.md").read_text(encoding="utf-8"), flags=re.S)
    assert len([line for line in text.splitlines() if line.strip()]) <= 45
