"""The command line: `python -m labkit lab`, `labkit run --student 57k --temperature 2`, and so on.

A command is a file of this folder with `HELP`, `add_flags` and `run`. An error that a user can act on is printed in one line, with exit
code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from labkit.base.errors import LabError, need, outside
from labkit.cli import build, check, claims, distill, export, fetch, inspect, lab, label, prune, replay, run, sweep, trace

COMMANDS = (lab, run, distill, sweep, replay, label, claims, fetch, inspect, build, prune, export, trace, check)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    made = argparse.ArgumentParser(
        prog="labkit", description="The Distillation Lab.", epilog="Recipes, records and lessons: see README.md."
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        command = commands.add_parser(module.__name__.rpartition(".")[2], help=module.HELP)
        module.add_flags(command)
        command.set_defaults(call=module.run)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code."""
    options = parser().parse_args(argv)
    try:
        return options.call(options) or 0
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"labkit: {need(error.name or 'a package', f'labkit {options.command}')}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as after `labkit inspect MODEL | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush does not fail as well
        return 1
    except Exception as error:
        what, fix = outside(error)
        if not what:
            raise
        print(f"labkit: {what}. {fix}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("labkit: stopped. An interrupted run continues from its last checkpoint when it is run again.", file=sys.stderr)
        return 130
