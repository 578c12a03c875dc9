"""Try to break the lab, for two to three hours: kills, damaged files, malformed input, faulty servers, full disks, interrupts.

    make soak                                             # what has not been tried yet; it can be stopped and goes on
    python -m soak.run --again                            # all anew
    python -m soak.run --families "kill run" damage --share 0.1
    python -m soak.run try damage 17                      # one case, as a failure prints it
    python -m soak.run keep damage 17                     # and make it a case of `make test`: tests/soak/cases.jsonl
    python -m soak.run short                              # what `make test` tries: these, and a few of each family

Results are in tests/soak.json, a row for each family: how many cases were tried, and how they ended. Run it with PYTHONPATH=tests.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

import labkit  # noqa: F401 # isort: skip - before torch, as everywhere
from soak.core import REPOSITORY, RIGHT, TOLD, WRONG, Case, Family, Result, case_of, tried

MODULES = ("kills", "damage", "malformed", "malformed_rows", "endpoints", "disk", "interrupts")
WARM = ("pandas", "peft", "labkit.studies.run", "labkit.studies.distill", "labkit.studies.sweep", "labkit.views.report", "labkit.cli.main")
RESULTS = REPOSITORY / "tests" / "soak.json"
CASES = Path(__file__).with_name("cases.jsonl")
EVERY = 20  # cases between two times that results are written


def families() -> dict[str, Family]:
    """All families by name."""
    found: dict[str, Family] = {}
    for name in MODULES:
        found |= importlib.import_module(f"soak.{name}").FAMILIES
    return found


def warm_up() -> None:
    """Import what the children need, once."""
    import torch

    torch.set_num_threads(1)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    for name in WARM:
        importlib.import_module(name)
    gc.freeze()  # so that children share what is imported


def main() -> int:
    """The command. Returns 1 if a case ended wrong."""
    options = _options()
    known = families()
    warm_up()
    with tempfile.TemporaryDirectory(prefix="labkit-soak-") as shared:
        if options.what == "all":
            return _all({n: f for n, f in known.items() if not options.families or n in options.families}, options, Path(shared))
        if options.what == "short":
            return _short(known, Path(shared))
        name, family = options.family, known[options.family]
        case = case_of(name, family, options.number)
        print(json.dumps(case, indent=1))
        result = tried(family, case, Path(shared))
        print(f"{result.outcome} in {result.seconds:.1f} s  {result.what}")
        if options.what == "keep":
            with open(CASES, "a", encoding="utf-8") as file:
                file.write(json.dumps({"family": name, "case": case}) + "\n")
            print(f"kept in {CASES.relative_to(REPOSITORY)}")
    return int(result.outcome in WRONG)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("what", nargs="?", choices=("all", "try", "keep", "short"), default="all")
    parser.add_argument("family", nargs="?", choices=list(families()))
    parser.add_argument("number", nargs="?", type=int)
    parser.add_argument("--families", nargs="+", choices=list(families()), help="only these")
    parser.add_argument("--share", type=float, default=1.0, help="the part of each family's cases to try (default: 1)")
    parser.add_argument("--again", action="store_true", help="also what has been tried")
    options = parser.parse_args()
    if options.what in ("try", "keep") and options.number is None:
        parser.error(f"{options.what} needs a family and a number, as in: {options.what} damage 17")
    return options


def _all(chosen: dict[str, Family], options: argparse.Namespace, shared: Path) -> int:
    failed = 0
    for name, family in chosen.items():
        row = _empty(name) if options.again else _rows().get(name) or _empty(name)
        row.pop("not tried", None)
        if lack := family.lacks():
            row["not tried"] = lack
        numbers = [int(number) for number in row["wrong"]]  # those that ended wrong are tried again, first
        numbers += range(row["tried"], round(family.aim * options.share))
        for number in () if lack else numbers:
            result = tried(family, case_of(name, family, number), shared)
            if before := row["wrong"].pop(str(number), ""):
                row[before] -= 1
            row["tried"], row["seconds"] = max(row["tried"], number + 1), round(row["seconds"] + result.seconds, 3)
            row[result.outcome] += 1
            if result.outcome in WRONG:
                row["wrong"][str(number)] = result.outcome
                print(failure(name, number, result), flush=True)
            if result.outcome in WRONG or number % EVERY == 0:
                _write(row)
        _write(row)
        failed += len(row["wrong"])
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return int(failed > 0)


def _short(known: dict[str, Family], shared: Path) -> int:
    wrong = 0
    for name, case in kept():
        result = tried(known[name], case, shared)
        wrong += result.outcome in WRONG
        print(f"{result.outcome} in {result.seconds:.1f} s: kept, {name}, {case}  {result.what}", flush=True)
    for name, family in known.items():
        for number in range(0 if family.lacks() else family.short):
            result = tried(family, case_of(name, family, number), shared)
            wrong += result.outcome in WRONG
            print(f"{result.outcome} in {result.seconds:.1f} s: {name} {number}", flush=True)
            if result.outcome in WRONG:
                print(failure(name, number, result), flush=True)
    return int(wrong > 0)


def failure(name: str, number: int, result: Result) -> str:
    """What is printed of a case that ended wrong, with the commands that repeat it and that keep it."""
    command = f'PYTHONPATH=tests {Path(sys.executable).name} -m soak.run {{}} "{name}" {number}'
    return f"{result.outcome}: {result.what}\n  again: {command.format('try')}\n  keep:  {command.format('keep')}"


def _empty(name: str) -> dict[str, Any]:
    """A row: how many cases were tried, how they ended, the numbers of those that ended wrong, and the seconds that all took."""
    return {"family": name, "tried": 0} | dict.fromkeys((RIGHT, TOLD, *WRONG), 0) | {"wrong": {}, "seconds": 0.0}


def _rows() -> dict[str, dict[str, Any]]:
    return {row["family"]: row for row in json.loads(RESULTS.read_text())["rows"]} if RESULTS.exists() else {}


def _write(row: dict[str, Any]) -> None:
    """Write a row of the results; another process may write those of other families."""
    with FileLock(Path(tempfile.gettempdir()) / "labkit-soak.lock"):
        rows = _rows() | {row["family"]: row}
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
        page = {"date": str(datetime.date.today()), "machine": machine, "rows": [rows[name] for name in families() if name in rows]}
        part = RESULTS.with_suffix(".part")
        part.write_text(json.dumps(page, indent=1) + "\n")
        part.replace(RESULTS)


def kept() -> list[tuple[str, Case]]:
    """The cases that failed once, by family."""
    lines = CASES.read_text(encoding="utf-8").splitlines() if CASES.exists() else []
    return [(row["family"], row["case"]) for row in map(json.loads, lines)]


if __name__ == "__main__":
    began = time.time()
    code = main()
    print(f"{time.time() - began:.0f} s")
    sys.exit(code)
