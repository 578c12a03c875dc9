"""Train draft heads for SmolLM2-135M, and time decoding with and without them: `labkit build drafts` (two hours on 2 cores).

The heads are the first seeds of the sweeps `smollm2_*`. They are kept in the lab's home folder; one EAGLE head ships. All ways of decoding
take turns on the same held-out prompts, so that a slow phase of the machine affects all. The speed-up of a way is the time of plain
decoding divided by its own, summed over prompts, with a band over groups of prompts. Needs `labkit fetch smollm2` and an idle machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labkit import models
from labkit.base.files import made_here
from labkit.base.manifest import seal
from labkit.base.stats import band
from labkit.models import pretrained
from labkit.models.heads import io as heads_io
from labkit.records.experiment import TUNED_RATE, Experiment
from labkit.records.measurements import write
from labkit.speculative.decode import plain, speculate
from labkit.speculative.measure import pooled
from labkit.speculative.near_ties import first_difference
from labkit.speculative.result import Speculation
from labkit.studies.run import begin, completed, keep
from labkit.studies.sweep import sweep
from labkit.tasks.atlas.facts import Atlas
from labkit.tasks.custom.rows import read_rows, split
from labkit.training.loop import Run
from labkit.training.setup import LOOKED

SWEEPS = ("smollm2_heads", "smollm2_medusa", "smollm2_eagle")
SHIPS = "eagle, all questions"
RACE: dict[str, dict[str, Any]] = {"57k": {}, "medusa": {}, "eagle": {"method": "next_state", "feature": 10.0}, "eagle3": {}}
RACED = 200  # steps of 128 rows
GROUPS, EACH, LONGEST = 5, 8, 48  # groups of prompts, and the size of each: not used for training or exams
# Depth of a proposal, and number of candidates in all (0: one chain).
SHAPES = ((3, 0), (3, 6))
MORE_SHAPES = ((2, 0), (2, 4), *SHAPES, (4, 0), (4, 6), (4, 8), (6, 0), (6, 12))  # of the heads that ship


class Way(NamedTuple):
    draft: str
    how: str
    decode: Callable[[Any, str], Speculation]


def heads_of(name: str, recipe: Experiment, target: Any) -> Any:
    """The trained heads of a recipe: read from the home folder, or trained now and recorded."""
    path = made_here("heads") / f"{recipe.key}.safetensors"
    if not path.exists():
        run = begin(recipe)
        made = completed(run)
        heads_io.save(run.student, path, {"arm": name, "recipe": recipe.recipe})
        keep(made)
        print(name, recipe.seed, {skill: round(value, 3) for skill, value in made.skills.items()}, flush=True)
    return heads_io.load(path, target)


def ways(target: Any) -> list[Way]:
    """All ways of decoding that are timed; the first is plain decoding."""
    found = [Way("none", "one by one", lambda t, q: plain(t, q, limit=LONGEST))]
    for arm, recipe in ((arm, grid.recipe(arm)) for grid in map(sweep, SWEEPS) for arm in grid.arms):
        heads = heads_of(arm, recipe, target)
        for gamma, candidates in MORE_SHAPES if arm == SHIPS else SHAPES:

            def decode(t: Any, q: str, heads=heads, gamma=gamma, candidates=candidates) -> Speculation:
                return speculate(t, heads, q, gamma, candidates=candidates, limit=LONGEST)

            found.append(Way(arm, f"gamma {gamma}" + (f", {candidates} candidates" if candidates else ""), decode))
    return found


def timed() -> list[dict]:
    """A row for every way: speed-up with its band, acceptance, tokens a round, and how many texts differ from plain decoding's."""
    target = pretrained.load("smollm2", longest=LONGEST)
    _, held = split(read_rows("questions"))
    prompts = [row.prompt for row in held[LOOKED : LOOKED + GROUPS * EACH]]
    every = ways(target)
    said: list[list[Speculation]] = [[] for _ in every]
    for n, prompt in enumerate(prompts):
        for i in sorted(range(len(every)), key=lambda i: (i + n) % len(every)):
            said[i].append(every[i].decode(target, prompt))
        print(n + 1, "of", len(prompts), flush=True)
    alone, rows = said[0], []
    for way, own in zip(every, said, strict=True):
        groups = [range(g, len(prompts), GROUPS) for g in range(GROUPS)]
        ratios = [sum(alone[i].seconds for i in g) / sum(own[i].seconds for i in g) for g in groups]
        partings = [
            first_difference(target, target.chat.prompts([q])[0], a.ids, b.ids)
            for q, a, b in zip(prompts, alone, own, strict=True)
            if a.ids != b.ids
        ]
        rows.append(
            {
                "draft": way.draft,
                "how": way.how,
                "speedup": sum(one.seconds for one in alone) / sum(one.seconds for one in own),
                "low": (spread := band(ratios)).low,
                "high": spread.high,
                **pooled(own)._asdict(),
                "prompts": len(prompts),
                "other texts": len(partings),
                "of them near-ties": sum(1 for p in partings if p and p.near_tie),
            }
        )
    return rows


def raced() -> list[dict]:
    """On Atlas: a draft and three kinds of heads, trained from scratch on equally many rows of soft labels; greedy decoding of one exam."""
    target, asked, rows = models.teacher("atlas-3m"), [q.text for q in Atlas("half").exam(20)], []
    for seed in range(3):
        for student, changes in RACE.items():
            run = Run(Experiment(student=student, learning_rate=TUNED_RATE[student], steps=RACED, seed=seed, **changes), exams=0)
            for _ in run:
                pass
            done = [speculate(target, run.student.eval(), question, 4) for question in asked]
            rows.append({"guesser": student, "seed": seed, **pooled(done)._asdict()})
            print(rows[-1], flush=True)
    alone = [speculate(target, target, question, 4) for question in asked]  # the upper limit: answers are short
    return [*rows, {"guesser": "the target itself", "seed": 0, **pooled(alone)._asdict()}]


def ship(folder: Path) -> None:
    """Copy the heads that ship into the folder, with their checksum."""
    folder.mkdir(exist_ok=True)
    path = folder / "smollm2-eagle.safetensors"
    recipe = sweep(SWEEPS[-1]).recipe(SHIPS)
    heads_of(SHIPS, recipe, pretrained.load("smollm2", longest=LONGEST))
    shutil.copy(made_here("heads") / f"{recipe.key}.safetensors", path)
    entry = {"licence": "Apache-2.0", "recipe": recipe.recipe, "of": "SmolLM2-135M-Instruct"}
    seal(folder, "labkit build drafts smollm2-eagle", {path.name: entry})


PARTS: dict[str, Callable[[Path], None]] = {
    "guessers": lambda folder: write(folder.parent / "measurements", "guessers", raced(), "labkit build drafts guessers"),
    "speculation": lambda folder: write(folder.parent / "measurements", "speculation", timed(), "labkit build drafts speculation"),
    "smollm2-eagle": ship,
}


def build(folder: Path, names: Sequence[str] = ()) -> None:
    for name in names or PARTS:
        PARTS[name](folder)


if __name__ == "__main__":
    build(Path(__file__).parent.parent / "drafts")
