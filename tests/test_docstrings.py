"""Public docstrings: there is one, and it has its parts in one order: what, arguments, returns, raises, source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from test_structure import FILES

import labkit

PARTS = (  # as they begin, in the order in which they stand
    ("arguments", re.compile(r"^(?:\w+(?:, \w+)*|\*+\w+): ", re.M)),
    ("returns", re.compile(r"(?:^|(?<=[.:)`] ))(?:Returns|Yields)\b", re.M)),
    ("raises", re.compile(r"(?:^|(?<=[.:)`] ))Raises\b", re.M)),
    ("source", re.compile(r"(?:^|(?<=[.:)`] ))Source: ", re.M)),
)
ERRORS = ("LabError", "DataError", "MissingPackage", "unknown")
Defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(name: str) -> Iterator[tuple[str, Defined, bool]]:
    """Public functions, classes and methods of a file with their qualified names, and whether it stands in a class."""

    def of(body: list[ast.stmt], inside: str) -> Iterator[tuple[str, Defined, bool]]:
        for node in body:
            if isinstance(node, Defined) and not node.name.startswith("_"):
                yield inside + node.name, node, bool(inside)
                if isinstance(node, ast.ClassDef):
                    yield from of(node.body, f"{inside}{node.name}.")

    yield from of(ast.parse(FILES[name].read_text(encoding="utf-8")).body, "")


def entered(node: Defined) -> bool:
    """Whether a decorator enters it into a registry: its row says what it is."""
    return any(isinstance(d, ast.Call) or not getattr(d, "id", getattr(d, "attr", "")) for d in node.decorator_list)


@pytest.mark.parametrize("name", FILES)
def test_every_public_function_and_class_says_what_it_is(name: str):
    command = name.startswith("cli.")  # HELP says it
    missing = [
        what
        for what, node, inner in public(name)
        if not inner and not entered(node) and not ast.get_docstring(node) and not (command and node.name in ("run", "add_flags"))
    ]
    assert not missing, f"{name}: no docstring on {', '.join(missing)}"


@pytest.mark.parametrize("name", FILES)
def test_the_parts_of_a_docstring_stand_in_order(name: str):
    wrong = []
    for what, node, _ in public(name):
        text = ast.get_docstring(node) or ""
        places = [(found.start(), part) for part, pattern in PARTS if (found := pattern.search(text))]
        if places != sorted(places):
            wrong.append(f"{what}: {' before '.join(part for _, part in sorted(places))}")
    assert not wrong, f"{name}: {'; '.join(wrong)}"


@pytest.mark.parametrize("name", FILES)
def test_what_raises_says_so(name: str):
    """A public function with a `raise` of its own names the error, where a caller could meet it."""
    silent = []
    for what, node, _ in public(name):
        if isinstance(node, ast.ClassDef) or entered(node):
            continue
        own = {
            getattr(call.func, "id", "")
            for inner in ast.walk(node)
            if isinstance(inner, ast.Raise) and isinstance(call := inner.exc, ast.Call) and isinstance(call.func, ast.Name)
        }
        if own & set(ERRORS) and "Raises" not in (ast.get_docstring(node) or ""):
            silent.append(what)
    assert not silent, f"{name}: raises, but does not say so: {', '.join(silent)}"


def test_the_public_names_explain_their_arguments():
    lost = []
    for exported, home in labkit._HOME.items():
        for what, node, _ in public(home):
            if what != exported or isinstance(node, ast.ClassDef):
                continue
            text = ast.get_docstring(node) or ""
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            names += [a.arg for a in (node.args.vararg, node.args.kwarg) if a]
            lost += [f"{what}({a})" for a in names if not re.search(rf"\b{a}\b", text)]
    assert not lost, f"not explained: {', '.join(lost)}"
