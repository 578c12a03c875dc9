"""`labkit claims`: the verdicts."""

from __future__ import annotations

import argparse

HELP = "print the verdict on every claim, from the runs that ship"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> int:
    from labkit.studies.claims import claims

    print(claims())
    return 0
