"""Errors that a user can act on: each message gives the value, the rule and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_TRAINING = ("torch", "transformers", "accelerate", "tokenizers", "safetensors")


class LabError(ValueError):
    """A value from the user or from a file cannot be used. The message is complete without a traceback."""


class DataError(LabError):
    """A file that the lab needs is missing or damaged. The message names the file, the problem and the command that rebuilds it."""


class MissingPackage(LabError, ImportError):
    """An optional package is not installed. The message says what works without it."""


def unknown(what: str, name: object, choices: Iterable[object]) -> LabError:
    """The error for a name that is not in a list: suggests the nearest name and lists all."""
    return LabError(suggest(f"unknown {what}", name, choices))


def suggest(what: str, name: object, choices: Iterable[object]) -> str:
    """The sentence "`what` `name`.", with the nearest choice as a suggestion and the list of all choices."""
    names = [str(choice) for choice in choices]
    begun = [choice for choice in names if isinstance(name, str) and name and choice.startswith(name)]  # as temp for temperature
    near = begun[:1] or difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{what} {name!r}.{hint} Choose from: {', '.join(names)}."


def outside(error: BaseException) -> tuple[str, str]:
    """What went wrong outside the lab, and what a user can do: for an error of the disk or of memory. ("", "") for any other error."""
    text = str(error).split("\n")[0]
    if out_of_memory(error):
        return f"memory ran out ({text})" if text else "memory ran out", "Choose a smaller student, a smaller batch, or fewer questions."
    # by name, since its package may not be installed; and tokenizers raises a bare Exception, with the number that Rust writes
    if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError" and "(os error " not in text:
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
