"""Metrics of JSON answers: by a schema, or field by field with the reference."""

from __future__ import annotations

import collections
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from labkit.base.errors import LabError, need, reading
from labkit.base.files import expanded
from labkit.tasks.custom.rows import Row
from labkit.tasks.metrics.registry import Look, columns, register
from labkit.tasks.metrics.text import f1, plain


class _NotJSON(ValueError):
    pass


def _json(text: str) -> Any:
    """Parse the whole text as strict JSON (no NaN); a code fence around it is removed."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text, re.DOTALL)
    try:
        return json.loads(fenced.group(1) if fenced else text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        raise _NotJSON("not JSON") from None


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def _schema(path: str) -> Any:
    """A validator for a schema file. It never uses the network. Raises `LabError` if the file is no valid schema."""
    try:
        import jsonschema
        from jsonschema_specifications import REGISTRY
    except ModuleNotFoundError:
        raise need("jsonschema", "scoring answers against a JSON schema") from None
    file = expanded(path)
    with reading(f"the schema {path}", "Give the path of a JSON Schema file.", "cannot be read as JSON"):
        schema = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(schema, dict):
        raise LabError(f'{path} is not a JSON Schema: its top level must be an object, such as {{"type": "object"}}.')
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        place = "/".join(map(str, error.absolute_path)) or "the top level"
        raise LabError(f"{path} is not a JSON Schema: at {place}, {error.message}. Fix it there.") from None
    return kind(schema, registry=REGISTRY)


@register(
    "schema",
    "JSON schema",
    "the whole answer is JSON and valid by a schema file; whether its values are right does not count",
    reference=False,
    argument="a schema file",
    needed=True,
    read=_schema,
)
def schema(answers: Sequence[str], rows: Sequence[Row], given: Any) -> Look:
    import jsonschema
    from referencing.exceptions import Unresolvable

    scores, reasons = [], collections.Counter[str]()
    for answer in answers:
        try:
            error = jsonschema.exceptions.best_match(given.iter_errors(_json(answer)))
            reason = f"{error.json_path}: {error.validator} is not met" if error else ""
        except _NotJSON as not_json:
            reason = str(not_json)
        except Unresolvable as missing:
            raise LabError(f"the schema refers to {missing.ref!r}, which is not in its file: copy that part into its $defs.") from None
        except RecursionError:
            reason = "nested too deeply"
        reasons.update([reason] if reason else [])
        scores.append(float(not reason))
    return columns(scores), {"reasons": dict(reasons.most_common())}


def _fields(value: Any, at: str = "$") -> list[tuple[str, str]]:
    """Every value of a JSON document with its path. Texts are in the form of `plain`, and 3.0 is 3."""
    if isinstance(value, dict) and value:
        return [pair for key in value for pair in _fields(value[key], f"{at}.{key}")]
    if isinstance(value, list) and value:
        return [pair for i, item in enumerate(value) for pair in _fields(item, f"{at}[{i}]")]
    if isinstance(value, str):
        return [(at, f"text {plain(value)}")]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return [(at, json.dumps(value))]


@register("fields", "field F1", "JSON fields shared with the reference, name and value; an answer that is not JSON gets 0")
def fields(answers: Sequence[str], rows: Sequence[Row], _: Any) -> Look:
    scores, broken = [], 0
    for answer, row in zip(answers, rows):
        try:
            wanted = _fields(_json(row.response or ""))
        except _NotJSON:
            raise LabError(f"the reference of line {row.line}, {row.response!r}, is not JSON: correct it, or use another metric.") from None
        try:
            given = _fields(_json(answer))
        except _NotJSON:
            given, broken = [], broken + 1
        scores.append(f1((collections.Counter(given) & collections.Counter(wanted)).total(), len(given), len(wanted)))
    return columns(scores), {"answers that are not JSON": broken}
