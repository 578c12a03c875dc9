"""The registry that all lists of decorated functions are."""

import importlib
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from labkit.base.errors import LabError
from labkit.base.registry import Registry


class Entry(NamedTuple):
    name: str
    label: str
    work: Any
    size: int = 1


def registry(*parts: str) -> Registry[Entry]:
    return Registry("thing", Entry, "work", *parts)


def function() -> None: ...


def test_an_entry_is_a_decorated_function_and_order_is_kept():
    things = registry()
    for name in ("second", "first"):
        assert things.register(name, name.upper(), size=2)(function) is function
    assert list(things) == ["second", "first"]
    assert things["first"] == Entry("first", "FIRST", function, 2)
    assert len(things) == 2
    assert "third" not in things
    assert things.get("third") is None
    assert {**things} == dict(things.items())


def test_a_name_has_one_function_but_a_cell_may_be_run_again():
    things = registry()
    for label in ("as it was", "run again"):

        @things.register("one", label)
        def mine() -> None: ...

    assert things["one"].label == "run again"
    with pytest.raises(LabError, match=f"thing 'one' is already defined in {__name__}"):
        things.register("one", "another")(function)


def test_an_unknown_name_tells_the_nearest():
    things = registry()
    things.register("forward", "")(function)
    with pytest.raises(LabError, match=r"unknown thing 'foward'. Did you mean 'forward'\? Choose from: forward"):
        things["foward"]
    with pytest.raises(TypeError, match="colour"):
        things.register("backward", "", colour="red")(function)


@pytest.mark.parametrize(
    ("where", "part", "name"),
    [
        ("labkit.diagnosis.failures", "limits", "FAILURES"),
        ("labkit.tasks.metrics", "python", "METRICS"),
        ("labkit.lessons.exercises", "lesson_11", "EXERCISES"),
    ],
)
def test_parts_are_imported_on_use_and_their_order_is_fixed(where: str, part: str, name: str):
    """A package is cheap to import, and who imports one of its files first changes nothing."""
    code = f"import sys; from {where} import {name}; assert '{where}.{part}' not in sys.modules; import {where}.{part}; print(list({name}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(list(getattr(importlib.import_module(where), name)))
    assert found.count("'") >= 10
