"""`labkit claims`: the verdict on each claim."""

from __future__ import annotations

import argparse

HELP = "print the verdict on each claim, from the shipped runs"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The command has no flags."""


def run(options: argparse.Namespace) -> int:
    from labkit.studies.claims import claims

    print(claims())
    return 0
