"""Every number under "Measured" in README is what its source says: tests/bench.json, the runs that ship, or the measurements."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from conftest import REPOSITORY

import labkit
from labkit.base.stats import band
from labkit.losses.divergences import DIVERGENCES
from labkit.records.names import SKILLS
from labkit.studies.claims import CLAIMS, runs_of
from labkit.studies.claims.speculation import rejections_saved, saved
from labkit.studies.sweep import sweep
from labkit.tasks.atlas.facts import Atlas

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BENCH = json.loads((REPOSITORY / "tests" / "bench.json").read_text(encoding="utf-8"))
WAYS = ("ours", "liger")
LARGE = "V=49,152, a step on 4,096 answer tokens"
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in README.split("## Measured")[1].split("## How")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| what")
]


def at(second: int) -> float:
    """Recovery after so many seconds of lesson 00."""
    found = dict(point.split(" s: ") for point in BENCH["200k: recovery as it went"])
    return float(found[str(second)])


def panel() -> float:
    return int(re.search(r"(\d+)%", BENCH["in JupyterLab: recovery panel at the end"])[1]) / 100


def failures() -> list[float]:
    """Named in every unseen run, of how many, in how many runs; false alarms of the runs with looks: from the page, which has a test."""
    page = (REPOSITORY / "docs" / "failures.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| [^|]+ \| (\d+) \| (\d+)% \|", page.split("## False alarms")[0], re.M)
    runs, false = re.search(r"with looks at batches \| (\d+) \| (\d+) \|", page).groups()
    (seeds,) = {seeds for seeds, _ in named}
    return [sum(share == "100" for _, share in named), len(named), int(seeds), int(seeds), int(false) / int(runs), int(runs)]


def recovered(arm: str) -> float:
    return band([run.recovery().mean for run in runs_of(sweep("sizes"), arm)]).middle


def eagle() -> list[float]:
    told = labkit.measured("speculation").set_index(["draft", "how"]).loc[("eagle, all questions", "gamma 4, 6 candidates")]
    return [told["speedup"], told["low"], told["high"], told["tokens_per_round"]]


def spared() -> list[float]:
    grid = sweep("smollm2_heads")
    return list(saved(runs_of(grid, "eagle, next state and soft labels"), runs_of(grid, "eagle, target's text"))[:3])


def pairs() -> list[float]:
    each = BENCH["sweep of six runs of 300 steps: the same, each pair"]
    return [BENCH["sweep of six runs of 300 steps: one worker / two workers of one thread, time"], min(each), max(each)]


def bench(*labels: str, times: float = 1.0) -> Callable[[], list[float]]:
    """Numbers of a bench run by the beginning of their labels."""
    return lambda: [times * next(BENCH[label] for label in BENCH if label.startswith(begun)) for begun in labels]


SOURCES: dict[str, Callable[[], list[float]]] = {  # by how a row begins
    "lesson 00": lambda: [*bench("200k: seconds of work", "200k: recovery, core")(), 300, at(55), 55,
                          *bench("200k: recovery, two-hop", "200k: recovery, chain")()],
    "the same inside JupyterLab": lambda: [*bench("in JupyterLab: Run to finished")(), panel()],
    "questions trained a second": bench("questions/s cached", "questions/s live", "questions/s TRL", "cached / TRL", "live / TRL"),
    "the board's share": bench("board's share", "in JupyterLab: browser CPU"),
    "a slider moved": lambda: [*bench("in JupyterLab: slider to drawn change, ms, median")(), 20],
    "a student's answers with the KV cache": bench("57k student, 24", "200k student, 24", "900k student, 24"),
    "questions a second beside": bench(*(f"{way} / output" for way in ("hidden", "similarity", "relations", "sequence", "online"))),
    "a step over a large vocabulary": bench(*(f"{LARGE}: {what}, {way} / naive" for way in WAYS for what in ("memory", "time"))),
    "failures named": failures,
    "recovery over 300 gold labels": lambda: [recovered("815k"), recovered("284k")],
    "SmolLM2-135M with the shipped EAGLE": eagle,
    "transformers' assisted generation": bench(*(f"assisted generation / speculate, time, {name}" for name in ("SmolLM2", "atlas"))),
    "`labkit label`": bench("labelling: share of a 50 ms server", "labelling: ms a request"),
    "rejections that soft labels spare an EAGLE": spared,
    "rejections that forward KL spares": lambda: list(rejections_saved("the target's text")["forward KL"][:3]),
    "a sweep of six runs": pairs,
    "peak memory": bench("peak memory of the lesson"),
    "`import labkit`": bench("import labkit", times=1000),  # ms
}  # fmt: skip


def agree(printed: str, values: list[float]) -> None:
    """Each number of a text, in order, is its value rounded as it is printed."""
    found = re.findall(r"([−-]?\d[\d,]*(?:\.\d+)?)(%?)", printed)
    assert len(found) == len(values), (printed, values)
    for (number, percent), value in zip(found, values, strict=True):
        digits = len(number.partition(".")[2]) + 2 * bool(percent)
        given = float(number.replace(",", "").replace("−", "-")) / (100 if percent else 1)
        assert given == pytest.approx(value, abs=0.5000001 * 10**-digits), f"{printed}: {number}{percent} is {value:.6g}"


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:30] for row in ROWS])
def test_a_measured_row_is_what_its_source_says(row):
    what, measured, _ = row
    (source,) = [source for begun, source in SOURCES.items() if what.startswith(begun)]
    agree(measured, source())


def test_every_row_names_where_its_numbers_come_from():
    kinds = {"sweep": REPOSITORY / "data" / "sweeps", "measurement": REPOSITORY / "data" / "measurements", "page": REPOSITORY / "docs"}
    for _, _, origin in ROWS:
        kind, _, name = origin.partition(" ")
        assert origin == "bench" or [path for path in kinds[kind].iterdir() if path.stem == name.strip("`")], origin


def test_what_readme_says_in_sentences():
    world, run = Atlas("whole"), runs_of(sweep("minute"), "soft labels")[0].started
    sizes = re.search(r"A student of ([\d,]+),000 parameters is distilled from a real trained teacher of ([\d.]+) million", README)
    agree(" ".join(sizes.groups()), [run.student_parameters / 1e3, run.teacher_parameters / 1e6])
    elements = len(world.facts("symbol"))
    agree(re.search(r"\d+ countries, [\d,]+ cities, \d+ elements", README)[0], [len(world.countries), len(world.cities), elements])
    words = {8: "eight", 10: "ten"}
    assert f"{words[len(SKILLS)]} skills" in README and f"{words[len(DIVERGENCES)]} divergences" in README
    softness = CLAIMS["soft targets"].measure().effects["questions with one right answer"]
    told = re.search(r"small: (\+0\.\d+) .*?\(95%\s+band (\S+) to (\S+)\)", README, re.S)
    agree(" ".join(told.groups()).replace("+", ""), list(softness[:3]))
    assert softness.verdict in README
