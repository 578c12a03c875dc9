"""`labkit inspect`: what a model's folder is, and what the lab can do with it."""

from __future__ import annotations

import argparse

HELP = "say in one screen what a model is, and what the lab can do with it"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a fetched model, a folder or a hub id")
    parser.add_argument(
        "--template-option", default="", metavar="NAME=VALUE", help="switches of its chat template, as in enable_thinking=false"
    )


def run(options: argparse.Namespace) -> int:
    """Returns exit code 0 if the lab can use the model, 1 if not."""
    from labkit.studies.inspection import inspect

    found = inspect(options.model, options.template_option)
    print(found)
    return 0 if found.works else 1
