"""Try the lab on every model of the zoo, each in a process of its own, and write the results and their table.

    PYTHONPATH=tests python -m zoo.run                            # what has no result yet with this release of transformers
    PYTHONPATH=tests python -m zoo.run --again                    # everything
    PYTHONPATH=tests python -m zoo.run --types llama gpt2 --tries load chain --jobs 2

Results are kept by the version of `transformers`, in tests/zoo/results.json; docs/models.md is the table. Any interpreter that has what the
lab needs can run it. A type that its release of `transformers` lacks is left out.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import labkit  # noqa: F401 # isort: skip - before torch, as everywhere
import torch
from transformers.utils import logging
from zoo import build, models_page, tries

PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers")
WARM = ("pandas", "peft", "matplotlib.pyplot", "labkit.views.report", "labkit.training.loop")  # imported once, before the forks
RESULTS = "results.jsonl"  # a line for each try


class Child(NamedTuple):
    """A process that tries one kind."""

    kind: str
    process: Any
    folder: Path  # of its models and results
    end: float  # when it is stopped


def main() -> None:
    """The command."""
    options = _options()
    torch.set_num_threads(1)
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    for name in WARM:
        importlib.import_module(name)
    gc.freeze()  # so that children share what is imported
    results = models_page.results() if models_page.RESULTS.exists() else {}
    own = results.setdefault(importlib.metadata.version("transformers"), {"kinds": {}, "unbuilt": {}})
    own["date"], own["machine"] = str(datetime.date.today()), f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    own["versions"] = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    kinds = [kind for kind in build.kinds() if not options.types or kind in options.types]
    if not options.types and not options.again:
        kinds = [kind for kind in kinds if kind not in own["unbuilt"] and set(options.tries) - own["kinds"].get(kind, {}).keys()]
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        for kind, found in _tried(kinds, options, Path(folder)):
            own["unbuilt"].pop(kind, None)
            if "unbuilt" in found:
                own["unbuilt"][kind] = found["unbuilt"]
                own["kinds"].pop(kind, None)
            else:
                own["kinds"][kind] = own["kinds"].get(kind, {}) | found
            models_page.write(results)
            print(f"{time.time() - began:6.0f} s  {kind}: " + ", ".join(f"{name} {said[:60]}" for name, said in found.items()), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--types", nargs="+", help="types or variants; by default all that have no result yet")
    parser.add_argument("--tries", nargs="+", choices=list(tries.TRIES), default=list(tries.TRIES))
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, of one thread each")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one kind")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    return parser.parse_args()


def _tried(kinds: list[str], options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each kind with its results, in the order in which they end."""
    context, waiting, running = multiprocessing.get_context("fork"), kinds[::-1], list[Child]()
    while waiting or running:
        while waiting and len(running) < options.jobs:
            kind = waiting.pop()
            own = folder / re.sub(r"\W+", "-", kind)
            process = context.Process(target=_try, args=(kind, options.tries, own))
            process.start()
            running.append(Child(kind, process, own, time.time() + options.limit))
        wait([child.process.sentinel for child in running], timeout=1)
        for child in running[:]:
            if child.process.is_alive() and time.time() < child.end:
                continue
            why = f"no result within {options.limit:g} s" if child.process.is_alive() else "the process died"
            child.process.kill()
            child.process.join()
            running.remove(child)
            file = child.folder / RESULTS
            found = dict(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()) if file.exists() else {}
            if not found:
                found = {"unbuilt": why}
            elif "unbuilt" not in found:
                found = {name: found.get(name, f"bare: {why}") for name in options.tries}
            shutil.rmtree(child.folder, ignore_errors=True)
            yield child.kind, found


def _try(kind: str, names: Iterable[str], folder: Path) -> None:
    folder.mkdir()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.environ["LABKIT_HOME"] = str(folder / "home")
    with (folder / RESULTS).open("w", encoding="utf-8", buffering=1) as lines:
        try:
            one = tries.Specimen(kind, folder)
        except Exception as error:
            lines.write(json.dumps(["unbuilt", tries.told(error)]) + "\n")
            return
        for result in tries.outcomes(one, names):
            lines.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
