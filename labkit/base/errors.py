"""Errors that a user can act on: each message gives the value, the rule and the fix."""

from __future__ import annotations

import contextlib
import difflib
import errno
import functools
import inspect
import operator
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 80  # characters of a value in a message
_TRAINING = ("torch", "transformers", "accelerate", "tokenizers", "safetensors")


class LabError(ValueError):
    """A value from the user or from a file cannot be used. The message is complete without a traceback."""


class DataError(LabError):
    """A file that the lab needs is missing or damaged. The message names the file, the problem and the command that rebuilds it."""


class NotWritten(OSError, DataError):
    """A file, `filename`, cannot be written, for the reason `strerror`. It is an `OSError` too, for those who expect that of a disk."""

    def __str__(self) -> str:
        full = self.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or not self.errno
        fix = "free some space there, or choose a place that you may write to" if full else "choose a place that you may write to"
        return f"{self.filename} cannot be written ({self.strerror}): {fix}."


class MissingPackage(LabError, ImportError):
    """An optional package is not installed. The message says what works without it."""


# What the code that reads a file raises if the file holds something else than it should. `reading` also knows SafetensorError, by name:
# its package may not be installed.
UNREADABLE = (OSError, EOFError, zlib.error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_PLACE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)  # the path is wrong, not the content


@contextlib.contextmanager
def reading(what: object, mend: str, wrong: str = "is damaged") -> Iterator[None]:
    """Read a file: whatever damaged or foreign content makes the code inside raise becomes a `DataError`.

    what: the file's path, or words for it.
    mend: what to do, in sentences.
    wrong: what is wrong with it, before the reason.

    Raises `DataError` with the file, the reason and the mend. One that is raised inside is passed on, since it has all three.
    """
    try:
        yield
    except DataError:
        raise
    except _PLACE as error:
        raise DataError(f"{what} cannot be read ({error.strerror or error}): check the path and its permissions.") from None
    except Exception as error:
        if not isinstance(error, UNREADABLE) and type(error).__name__ != "SafetensorError":
            raise
        raise DataError(f"{what} {wrong} ({reason(error)}). {mend}") from None


def reason(error: BaseException) -> str:
    """Why some content cannot be read, in one line, from the error that it made."""
    text = " ".join(str(error).split())[:200].rstrip(".")
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case KeyError():
            return f"it lacks {text}"
        case TypeError() | AttributeError():
            return f"its content is of another kind: {text}"
    return text or type(error).__name__


def not_written(path: object, error: Exception) -> NotWritten | None:
    """The error for a file that cannot be written, from what its writer has raised; None if that is not of the disk, or of a file that
    stands elsewhere, as one that was read meanwhile."""
    other = getattr(error, "filename", None)
    if not _of_the_disk(error) or (other and not str(other).startswith(os.path.dirname(str(path)))):
        return None
    why = getattr(error, "strerror", None) or str(error).split("\n")[0]
    return NotWritten(getattr(error, "errno", None), why, str(path))


def _of_the_disk(error: BaseException) -> bool:
    # by name, since its package may not be installed; and tokenizers raises a bare Exception, with the number that Rust writes
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or "(os error " in str(error)


def unknown(what: str, name: object, choices: Iterable[object]) -> LabError:
    """The error for a name that is not in a list: suggests the nearest name and lists all."""
    return LabError(suggest(f"unknown {what}", name, choices))


def suggest(what: str, name: object, choices: Iterable[object]) -> str:
    """The sentence "`what` `name`.", with the nearest choice as a suggestion and the list of all choices."""
    names, given = [str(choice) for choice in choices], (name if isinstance(name, str) else shown(name))[:SHOWN]
    begun = [choice for choice in names if isinstance(name, str) and name and choice.startswith(name)]  # as temp for temperature
    near = begun[:1] or difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{what} {shown(name)}.{hint} Choose from: {', '.join(names)}."


def shown(value: object) -> str:
    """A value for a message: as Python writes it, in one line and cut. What cannot be written, as it is endless, is its type's name."""
    try:
        text = repr(value)
    except Exception:  # too deep, too many digits, or a class with a fault of its own
        return f"<{type(value).__name__}>"
    text = text if isinstance(value, str) else " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\N{HORIZONTAL ELLIPSIS}{text[-1]}"


def half_a_character(text: str) -> bool:
    """Whether a text has half of a character (a surrogate), as a path that is not UTF-8 has. No file and no tokenizer takes it."""
    return re.search("[\ud800-\udfff]", text) is not None


def outside(error: BaseException) -> tuple[str, str]:
    """What went wrong outside the lab, and what a user can do: for an error of the disk or of memory. ("", "") for any other error."""
    text = str(error).split("\n")[0]
    if out_of_memory(error):
        return f"memory ran out ({text})" if text else "memory ran out", "Choose a smaller student, a smaller batch, or fewer questions."
    if isinstance(error, ConnectionError):  # a socket, or the pipe to a worker
        return f"the connection to another process or machine broke off ({text})", "Run the same again."
    if not _of_the_disk(error):
        return "", ""
    why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else text
    return f"a file cannot be read or written ({why})", "Check path, permissions and free space, there and in LABKIT_HOME."


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine, or its accelerator, has no memory left."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error)


def need(package: str, purpose: str) -> MissingPackage:
    """The error for a missing optional package."""
    without = " Recorded runs, predictions and figures work without it." if package in _TRAINING else ""
    return MissingPackage(
        f"{purpose} needs the package {package!r}, which is not installed here. Install it: `pip install {package}`.{without}"
    )


# ---- values of the wrong kind ----------------------------------------------------------------------------------------------------------


def kinds_checked(function: F) -> F:
    """The function, which refuses a value of another kind than its annotation names; or a class, all whose public methods do so.

    The public functions of `labkit` have it. An annotation with other names than those in `_KINDS`, as a recipe or a model, is left
    to the function itself.

    Raises `LabError` with the value, the kinds, and what the docstring says of the argument.
    """
    if isinstance(function, type):
        for name, member in list(vars(function).items()):
            if inspect.isfunction(member) and (name == "__init__" or not name.startswith("_")):
                setattr(function, name, kinds_checked(member))
        return function
    signature = inspect.signature(function)
    kinds = {name: re.sub(r"\[.*\]", "", str(parameter.annotation)).split(" | ") for name, parameter in signature.parameters.items()}
    known = {name: names for name, names in kinds.items() if set(names) <= _KINDS.keys()}
    if not known:
        return function
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
    owner = inspect.unwrap(function).__globals__.get(
        function.__qualname__.partition(".")[0]
    )  # a class explains the arguments of its __init__
    text = inspect.cleandoc(function.__doc__ or owner.__doc__ or "")
    said = re.search(rf"(?:^|\. )(?:\w+, )*{parameter}(?:, \w+)*: (.*?)(?=\.? Raises |\n\n|\n\S|\Z)", text, re.M | re.S)
    more = f": {' '.join(said[1].split()).rstrip('.')}" if said else f", see help({function.__qualname__})"
    return f"{name}={shown(value)} must be {' or '.join(kinds)}{more}."
