"""A custom metric: a Python function in a file. The file is executed without any protection."""

from __future__ import annotations

import importlib.util
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.base.errors import LabError, unknown
from labkit.base.files import expanded
from labkit.tasks.custom.rows import Row
from labkit.tasks.metrics.registry import each, register


def _function(spec: str) -> Callable[..., Any]:
    """Run the file and return its function. Raises `LabError` if that fails."""
    file, _, name = spec.rpartition(":")
    path = expanded(file)
    if not file or not path.is_file():
        raise LabError(f"{spec!r} must name an existing file: write path/to/file.py:function.")
    loader = importlib.util.spec_from_file_location(f"labkit_own_{path.stem}", path)
    if loader is None or loader.loader is None:
        raise LabError(f"{path} cannot be loaded as Python: its name must end in .py.")
    module = importlib.util.module_from_spec(loader)
    sys.modules[loader.name] = module  # dataclasses in the file need it
    try:
        loader.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise LabError(f"{path} cannot be run: {_one_line(error, path)}. Fix it, then try again.") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise unknown(f"function in {path}:", name, [n for n, value in vars(module).items() if callable(value) and n[0] != "_"])
    return function


@register(
    "python",
    "your own function",
    "a function of (answer, reference, prompt) in your own file, which is executed without protection",
    reference=False,
    argument="path/to/file.py:function",
    needed=True,
    read=_function,
)
@each
def python(answer: str, row: Row, given: Callable[..., Any]) -> float:
    called = f"{getattr(given, '__name__', 'your function')}() on line {row.line} (prompt {row.prompt[:60]!r}, answer {answer[:60]!r})"
    path = Path(given.__code__.co_filename) if hasattr(given, "__code__") else None
    try:
        value = given(answer, row.response, row.prompt)
    except (Exception, SystemExit) as error:
        raise LabError(f"{called} failed: {_one_line(error, path)}. Fix the function; nothing was scored.") from None
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        raise LabError(f"{called} returned {value!r}: it must return a finite number, True or False.")
    return number


def _one_line(error: BaseException, path: Path | None) -> str:
    """An error as one line: type, message, and the last line of the file at `path` in its traceback."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if path and Path(f.filename) == path]
    return f"{type(error).__name__}: {error}".rstrip(": ") + (f" (line {lines[-1]} of the file)" if lines else "")
