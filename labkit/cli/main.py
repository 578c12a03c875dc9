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

from labkit.base.errors import LabError, need, outside
from labkit.base.interrupts import Terminated

COMMANDS = (
    *("lab", "run", "distill", "sweep", "replay", "rerun", "label", "claims", "handin", "grade"),
    *("fetch", "inspect", "build", "prune", "export", "trace", "check"),
)
SIGNALS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}  # with Python's own handlers
STOPPED = "labkit: stopped. An interrupted run continues from its last checkpoint when it is run again."


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    made = argparse.ArgumentParser(
        prog="labkit", description="The Distillation Lab.", epilog="Recipes, records and lessons: see README.md."
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"labkit.cli.{name}")
        command = commands.add_parser(name, help=module.HELP)
        module.add_flags(command)
        command.set_defaults(call=module.run)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code, and as a shell does: 130 after Ctrl-C, 143 after SIGTERM, 141 if nobody reads its output."""
    try:
        with _interruptible():
            from labkit.cli.output import ReaderGone, plain_text  # here, since it takes some time

            try:
                with plain_text():
                    return _command(parser().parse_args(argv))
            except ReaderGone as gone:
                gone.silence()
                return 128 + 13  # of the signal SIGPIPE, which Windows does not have
    except KeyboardInterrupt as stopped:
        print(STOPPED, file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)


def _command(options: argparse.Namespace) -> int:
    """Run one command. Returns its exit code, and prints what a user can act on in one line."""
    try:
        return options.call(options) or 0
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"labkit: {need(error.name or 'a package', f'labkit {options.command}')}", file=sys.stderr)
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
