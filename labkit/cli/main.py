"""The command line: `python -m labkit lab`, `labkit run --student 57k --temperature 2`, and so on.

A command is a file of this folder with `HELP`, `add_flags` and `run`. An error that a user can act on is printed in one line, with exit
code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

import labkit
from labkit.base.errors import LabError, nearest, need, outside, unknown
from labkit.base.interrupts import Terminated

COMMANDS = (
    *("lab", "run", "distill", "sweep", "replay", "rerun", "label", "claims", "handin", "grade"),
    *("fetch", "inspect", "build", "prune", "export", "trace", "check"),
)
SIGNALS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}  # with Python's own handlers
STOPPED = "labkit: stopped. An interrupted run continues from its last checkpoint when it is run again."


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as all errors of the lab, without the usage of some fifty flags before it."""

    def error(self, message: str) -> NoReturn:
        raise LabError(f"{message}. `{self.prog} --help` shows how it is called.")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    made = _Parser(prog="labkit", description="The Distillation Lab.", epilog="Recipes, records and lessons: see README.md.")
    made.add_argument("--version", action="version", version=f"labkit {labkit.__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"labkit.cli.{name}")
        command = commands.add_parser(name, help=module.HELP)
        module.add_flags(command)
        command.set_defaults(call=module.run, parser=command)
    return made


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The command and its flags. Raises `LabError` for one that there is not, with the nearest."""
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise unknown("command", argv[0], COMMANDS)
    made = parser()
    if argv and argv[0].startswith("-") and not any(flag.startswith(argv[0]) for flag in made._option_string_actions):
        raise _no(made, argv[0])
    options, left = made.parse_known_args(argv)
    if left:
        raise _no(options.parser, left[0])
    return options


def _no(command: argparse.ArgumentParser, word: str) -> LabError:
    """The error for a flag or argument that a command does not have, with the nearest flag."""
    flag, kind = word.partition("=")[0], "flag" if word.startswith("-") else "argument"
    near = nearest(flag, list(command._option_string_actions)) if kind == "flag" else ""
    hint = f" Did you mean {near}?" if near else ""
    return LabError(f"{command.prog} has no {kind} {flag}.{hint} `{command.prog} --help` lists all.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code, and as a shell does: 130 after Ctrl-C, 143 after SIGTERM, 141 if nobody reads its output."""
    try:
        with _interruptible():
            from labkit.cli.output import ReaderGone, plain_text  # here, since it takes some time

            try:
                with plain_text():
                    return _command(sys.argv[1:] if argv is None else argv)
            except ReaderGone as gone:
                gone.silence()
                return 128 + 13  # of the signal SIGPIPE, which Windows does not have
    except KeyboardInterrupt as stopped:
        print(STOPPED, file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)


def _command(argv: Sequence[str]) -> int:
    """Run one command. Returns its exit code, and prints what a user can act on in one line."""
    try:
        if not argv:
            parser().print_help()
            return 2
        options = _parsed(argv)
        return options.call(options) or 0
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"labkit: {need(error.name or 'a package', f'labkit {argv[0]}')}", file=sys.stderr)
        return 2
    except Exception as error:
        from labkit.cli.output import ReaderGone

        what, fix = outside(error)
        if not what or isinstance(error, ReaderGone):
            raise
        print(f"labkit: {what}. {fix}", file=sys.stderr)
        return 2


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise `KeyboardInterrupt` in the block.

    While a package is imported they end the process at once: compiled packages would turn the exception into another error.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        place = frame
        while place is not None:
            if place.f_code.co_filename.startswith("<frozen importlib"):
                with contextlib.suppress(RuntimeError):  # the interrupt came in the middle of a print
                    sys.stdout.flush()
                    print(STOPPED, file=sys.stderr, flush=True)
                os._exit(128 + number)
            place = place.f_back
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    ours = {number: before for number, before in SIGNALS.items() if mine and signal.getsignal(number) is before}  # else others handle it
    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number, before in ours.items():
            signal.signal(number, before)
