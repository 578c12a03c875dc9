"""`labkit build`: rebuild shipped data from its recipe."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from types import ModuleType

from labkit.base.errors import LabError, unknown
from labkit.base.files import data_dir

HELP = "rebuild shipped data from its recipe"
RECIPES = (
    *("tables", "tokenizer", "vocabularies", "examples", "teachers", "card", "adapters", "records"),
    *("measurements", "capacity", "drafts", "claims", "failures", "answers", "scale", "pages", "twins"),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=RECIPES)
    parser.add_argument("names", nargs="*", help="only these (teachers, adapters, measurements, parts of drafts, or lessons of twins)")


def run(options: argparse.Namespace) -> int:
    """Build the named data, or the named parts of it. Raises `LabError` for parts that do not exist."""
    recipe = recipe_of(options.what)
    target = data_dir() / {
        "tables": "atlas",
        "tokenizer": "tokenizers",
        "card": "teachers",
        "capacity": "measurements",
        "claims": "../docs",
        "failures": "../docs",
        "scale": "../docs",
        "pages": "../docs",
        "twins": "../notebooks",
    }.get(options.what, options.what)
    if options.names:
        known = next((getattr(recipe, parts) for parts in ("TEACHERS", "MEASUREMENTS", "PARTS") if hasattr(recipe, parts)), ())
        if not known:
            raise LabError(f"build {options.what} takes no names, and got {' '.join(options.names)}: leave them out.")
        for name in options.names:
            if name not in known:
                raise unknown(f"part of build {options.what}:", name, known)
        recipe.build(target, options.names)
    else:
        recipe.build(target)
    print(f"built {options.what} in {target}")
    return 0


def recipe_of(name: str) -> ModuleType:
    """The module `recipes/NAME.py` in the data folder. Raises `LabError` if there is none."""
    path = data_dir() / "recipes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"labkit_recipe_{name}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise LabError(f"no recipe at {path}: run this in a clone of the lab's repository.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that a recipe's functions can be pickled for other processes
    spec.loader.exec_module(module)
    return module
