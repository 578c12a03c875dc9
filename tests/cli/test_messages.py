"""Every command that is written down exists: in messages, docstrings, documents, recipes and notebooks, with its parts and its flags."""

from __future__ import annotations

import argparse
import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.cli.build import RECIPES, recipe_of
from labkit.cli.main import parser

ROOT = Path(__file__).resolve().parents[2]
COMMANDS: dict[str, argparse.ArgumentParser] = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices  # type: ignore[assignment]
# In backticks, quotes, at a line's start or behind python -m it is a command; elsewhere "labkit" may be the subject of a sentence.
STARTS = re.compile(r"(python -m |[`\"']|^\s*(?:\$ )?)?(?<![\w.:/=-])labkit (?=[a-z])", re.M)


def texts() -> Iterator[tuple[str, str]]:
    """Where, and what: strings of the package and of data's recipes with a gap for what is filled in, documents, cells of notebooks."""
    for path in sorted([*(ROOT / "labkit").rglob("*.py"), *(ROOT / "data" / "recipes").glob("*.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                yield f"{path.relative_to(ROOT)}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").rglob("*.md"), *(ROOT / "data").rglob("*.toml")]
    for path in sorted(documents):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            yield f"{path.name}, cell {number}", "".join(cell["source"])


def commands() -> Iterator[tuple[str, list[str]]]:
    """The words of every command line found, up to where it ends: a quotation mark, a full stop, or a line's end."""
    for where, text in texts():
        if text.startswith("build ") and where.startswith("labkit/"):  # which messages put behind "labkit"
            yield where, text.split()
        for found in STARTS.finditer(text):
            line = re.split(r"[`\n;|()#]|[.,:](?:\s|$)|\s(?:and|or|again|with|runs|brings|does|first)\b|\\n", text[found.end() :])[0]
            words = line.replace('"', " ").replace("'", " ").split()
            if words and "=" not in words[0] and (found[1] or words[0] in COMMANDS):
                yield where, words


FOUND = list(commands())
RECIPE = functools.cache(recipe_of)


def test_there_are_commands_to_be_read():
    assert {words[0] for _, words in FOUND} >= {"run", "build", "fetch", "label", "distill", "lab"}


@pytest.mark.parametrize(("where", "words"), FOUND, ids=[f"{where} {' '.join(words[:3])}" for where, words in FOUND])
def test_a_command_that_is_written_down_exists(where: str, words: list[str]):
    name, *rest = words
    assert name in COMMANDS, f"{where} names the command {name!r}"
    known = COMMANDS[name]._option_string_actions
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{where} gives {name} the flag {word}"
    if name == "build" and rest and "{" not in rest[0] and not rest[0].isupper():
        assert rest[0] in RECIPES, f"{where} builds {rest[0]!r}"
        if not rest[1:]:
            return
        recipe = RECIPE(rest[0])
        parts = next((getattr(recipe, parts) for parts in ("TEACHERS", "MEASUREMENTS", "PARTS") if hasattr(recipe, parts)), ())
        for part in rest[1:]:
            assert part in parts or "{" in part or part.isupper(), f"{where} builds {part!r} of {rest[0]}"


# ---- names of modules ------------------------------------------------------------------------------------------------------------

GONE = "adapters|audit|engine|exactness|inspection|own_data|pens|pinning|reports|subjects|topk"
FORMER = re.compile(rf"(?<![\w./-])(?:(?:{GONE})(?:`|\.\w+)|live\.board)")
DOTTED = re.compile(r"`(\w+)\.(?!(?:py|js|jsonl?)\b)(\w+)(?:\(\))?`")  # a module, and a name that it has
MODULES: dict[str, list[Path]] = {}
for path in sorted((ROOT / "labkit").rglob("*.py")):
    MODULES.setdefault(path.parent.name if path.stem == "__init__" else path.stem, []).append(path)


def has(path: Path, name: str) -> bool:
    """Whether a module defines or imports a name, or is a package with such a part."""
    words = rf"^(?:(?:def|class) {name}\b|{name}\b.*=|from .* import .*\b{name}\b|    {name},$|    \"{name}\")"
    inside = path.stem == "__init__" and {name, f"{name}.py"} & {part.name for part in path.parent.iterdir()}
    return bool(inside or re.search(words, path.read_text(encoding="utf-8"), re.M))


def test_a_module_that_is_written_down_exists_and_has_the_name():
    for where, text in texts():
        if where.startswith("labkit/"):
            assert not (former := FORMER.search(text)), f"{where} names {former[0]}, and there is no such module any more"
            for module, name in DOTTED.findall(text):
                known = module not in MODULES or any(has(path, name) for path in MODULES[module])
                assert known, f"{where} names `{module}.{name}`, which is not there"
