"""`make bench`: how fast the lab is, each number beside what it is compared with. Writes benchmarks/results.json.

python benchmarks/bench.py          # all of them, about forty minutes on 2 cores
python benchmarks/bench.py trl      # one or more of BENCHES; the rows of the others stay
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from drafts import speculation
from engine import generation, trl, ways
from page import board, imports, lesson
from processes import classroom, labelling, spinning, sweeps
from rows import HERE
from vocabulary import vocabulary

MEASUREMENTS = (imports, trl, lesson, board, vocabulary, generation, ways, labelling, sweeps, spinning, classroom, speculation)
BENCHES: dict[str, Callable[[], list[dict[str, Any]]]] = {measure.__name__: measure for measure in MEASUREMENTS}
RESULTS = HERE / "results.json"


def main(names: list[str]) -> None:
    if unknown := [name for name in names if name not in BENCHES]:
        sys.exit(f"no measurement is called {', '.join(unknown)}: there are {', '.join(BENCHES)}.")
    for name in names or BENCHES:
        found = [{"bench": name, **row} for row in BENCHES[name]()]
        write([row for row in read() if row["bench"] != name] + found)
        for row in found:
            print(json.dumps(row, ensure_ascii=False), flush=True)


def read() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []


def write(rows: list[dict[str, Any]]) -> None:
    """A row a line, in the order of the measurements."""
    lines = [json.dumps(row, ensure_ascii=False) for row in sorted(rows, key=lambda row: list(BENCHES).index(row["bench"]))]
    RESULTS.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
