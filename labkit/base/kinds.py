"""Values of the wrong kind, given to a public call: each is refused in one sentence, by the annotation of its argument."""

from __future__ import annotations

import functools
import inspect
import operator
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from labkit.base.errors import LabError, shown, unknown

F = TypeVar("F", bound=Callable[..., Any])


def kinds_checked(function: F) -> F:
    """The function, which refuses a value of another kind than its annotation names; or a class, all whose public methods do so.

    The public functions of `labkit` have it. An annotation with other names than those in `_KINDS`, as a recipe or a model, is left
    to the function itself.

    Raises `LabError` with the value, the kinds, and what the docstring says of the argument; or, for an argument that there is not, with
    the nearest one.
    """
    if isinstance(function, type):
        for name, member in list(vars(function).items()):
            if inspect.isfunction(member) and (name == "__init__" or not name.startswith("_")):
                setattr(function, name, kinds_checked(member))
        return function
    signature = inspect.signature(function)
    kinds = {name: re.sub(r"\[.*\]", "", str(parameter.annotation)).split(" | ") for name, parameter in signature.parameters.items()}
    known = {name: names for name, names in kinds.items() if set(names) <= _KINDS.keys()}
    fits = {name: _one_of([_KINDS[kind][1] for kind in names]) for name, names in known.items()}
    order = [name for name, p in signature.parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    places = [(place, name, fits[name]) for place, name in enumerate(order) if name in fits]
    rest = next((name for name, p in signature.parameters.items() if p.kind == p.VAR_KEYWORD), "")

    def refuse(parameter: str, name: str, value: Any) -> None:
        raise LabError(_wrong_kind(function, parameter, name, value, [_KINDS[kind][0] for kind in known[parameter]]))

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        for place, name, fit in places:
            if place < len(args) and not fit(args[place]):
                refuse(name, name, args[place])
        for name, value in named.items():
            if name not in kinds and not rest:
                raise unknown(f"argument of {function.__qualname__}:", name, [name for name in kinds if name != "self"])
            parameter = name if name in kinds else rest
            if parameter in fits and not fits[parameter](value):
                refuse(parameter, name, value)
        return function(*args, **named)

    if hasattr(function, "cache_clear"):
        called.cache_clear = function.cache_clear  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


def _one_of(tests: list[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _whole(value: Any) -> bool:
    try:
        return operator.index(value).bit_length() < 64 and type(value).__name__ not in ("bool", "bool_")
    except Exception:  # of many types: arrays and tensors have an index only if they are one number
        return False


def _number(value: Any) -> bool:
    try:
        float(value)
    except OverflowError:  # of a number, but a long one
        return True
    except Exception:
        return False
    return hasattr(value, "__float__") and type(value).__name__ not in ("bool", "bool_")


def _named(name: str) -> Callable[[Any], bool]:
    """Whether a value is of a class of this name, which need not be imported for it."""
    return lambda value: any(kind.__name__ == name for kind in type(value).__mro__)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", lambda value: isinstance(value, str)),
    "int": ("a whole number of 64 bits", _whole),
    "float": ("a number", _number),
    "bool": ("True or False", lambda value: value in (0, 1) if isinstance(value, int) else type(value).__name__ == "bool_"),
    "Path": ("a pathlib.Path", lambda value: isinstance(value, os.PathLike)),
    "Callable": ("a function", callable),
    "Sequence": ("a list", lambda value: hasattr(value, "__len__") and hasattr(value, "__iter__")),
    "Iterable": ("a list", lambda value: hasattr(value, "__iter__")),
    "Record": ("a record (see labkit.record)", _named("Record")),
    "Comparison": ("a comparison (see labkit.compare)", _named("Comparison")),
    "dict": ("a dictionary", lambda value: hasattr(value, "keys") and hasattr(value, "__getitem__")),
    "Literal": ("a text", lambda value: isinstance(value, str)),
    "None": ("None", lambda value: value is None),
}


def _wrong_kind(function: Callable[..., Any], parameter: str, name: str, value: Any, kinds: list[str]) -> str:
    """The message. `name` differs from `parameter` for a value that `**parameter` has taken."""
    # a class explains the arguments of its __init__
    owner = inspect.unwrap(function).__globals__.get(function.__qualname__.partition(".")[0])
    text = inspect.cleandoc(function.__doc__ or owner.__doc__ or "")
    said = re.search(rf"(?:^|\. )(?:\w+, )*{parameter}(?:, \w+)*: (.*?)(?=\.? Raises |\n\n|\n\S|\Z)", text, re.M | re.S)
    more = f": {' '.join(said[1].split()).rstrip('.')}" if said else f", see help({function.__qualname__})"
    return f"{name}={shown(value)} must be {' or '.join(kinds)}{more}."
