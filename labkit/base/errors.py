"""Errors that a user can act on: each message gives the value, the rule and the fix."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

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


def told(error: BaseException) -> str:
    """What an error says on a screen. One that is not ours also says its kind, since its words alone are often too few."""
    return f"{error}" if isinstance(error, LabError) else f"{type(error).__name__}: {error}"


def not_written(path: object, error: Exception) -> NotWritten | None:
    """The error for a file that cannot be written, from what its writer has raised; None if that is not of the disk, or of a file that
    stands elsewhere, as one that was read meanwhile."""
    other, folder = getattr(error, "filename", None), os.path.dirname(os.path.abspath(str(path)))
    if not _of_the_disk(error) or (other and not os.path.abspath(str(other)).startswith(os.path.join(folder, ""))):
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
    names = [str(choice) for choice in choices]
    near = nearest(name, names)
    hint = f" Did you mean {near!r}?" if near else ""
    return f"{what} {shown(name)}.{hint} Choose from: {', '.join(names)}."


def nearest(name: object, names: Sequence[str], cutoff: float = 0.5) -> str:
    """The name that was probably meant; "" if none is alike.

    cutoff: how much alike it must be, from 0 to 1.
    """
    given = (name if isinstance(name, str) else shown(name))[:SHOWN]
    begun = [choice for choice in names if isinstance(name, str) and name and choice.startswith(name)]  # as temp for temperature
    return next(iter(begun or difflib.get_close_matches(given, names, n=1, cutoff=cutoff)), "")


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
