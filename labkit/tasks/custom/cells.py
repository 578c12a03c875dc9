"""The cells of rows as Python values: which are empty, which can be a text, and how they are written.

text_of(4.0, "answer")               # "4"
parsed('["a", "b"]', "choices")      # ["a", "b"]
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
from typing import Any

from labkit.tasks.custom.sources import Repeating, Unusable, named

NESTED = frozenset({dict, list, Repeating})  # what JSON is read as that may hold an object


def absent(value: Any) -> bool:
    """Whether a cell is empty: null, or the NaN of a table."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def finite(value: Any) -> Any:
    """A cell as JSON can hold it: NaN and infinity in it become None."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parsed(value: Any, column: str) -> Any:
    """A cell that may hold a list or an object, which a table has as JSON text.

    value: the cell.
    column: its column, for the message.

    Returns the list or object, and any other cell as it is. Raises `Unusable` for a text that only begins like JSON.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value, object_pairs_hook=named)
    except (ValueError, RecursionError):
        raise Unusable(f"{column!r} must be JSON, but is not: write it with json.dumps") from None


def repeated(value: Any) -> set[str]:
    """The names that stand several times in an object of a cell, at any depth."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if NESTED.isdisjoint(map(type, inner)):  # at once, as a cell may be a list of thousands of numbers
        inner = ()
    return {name for one in inner for name in repeated(one)}.union(value.repeated if isinstance(value, Repeating) else ())


def text_of(value: Any, column: str, objects: bool = True) -> str:
    """A cell as text. An object becomes JSON, so that the reference of an extraction task may be an object.

    value: the cell.
    column: its column, for the message.
    objects: whether it may be an object.

    Raises `Unusable` for a value that has no text.
    """
    if isinstance(value, Unusable):
        raise Unusable(f"{column!r} {value}")
    if isinstance(value, float | decimal.Decimal) and not math.isfinite(value) and not absent(value):
        raise Unusable(f"{column!r} is {value}, which is no finite number: write it as a text")
    if isinstance(value, dict) and objects:
        try:
            value = json.dumps(value, ensure_ascii=False, allow_nan=False, default=lambda inner: text_of(inner, column))
        except (ValueError, TypeError, RecursionError) as error:
            raise Unusable(f"{column!r} cannot be written as JSON: {error}") from None
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = str(int(value))  # tables make floats of whole numbers if one is missing
    elif absent(value):
        value = ""
    elif isinstance(value, decimal.Decimal):
        value = format(value, "f")
    elif isinstance(value, int | float | datetime.date | datetime.time | datetime.timedelta | uuid.UUID):
        try:
            value = str(value)
        except ValueError:  # Python writes no whole number of more than 4,300 digits
            raise Unusable(f"{column!r} is a number of too many digits: write it as a text") from None
    if not isinstance(value, str):
        raise Unusable(f"{column!r} must be a text, but is {kind_of(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{column!r} has bytes that are not UTF-8: save the file as UTF-8") from None
    return value


def kind_of(value: Any) -> str:
    """The kind of a value in words, for messages."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null", bytes: "bytes"}
    known = (kinds[kind] for kind in type(value).__mro__ if kind in kinds)
    return next(known, "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")
