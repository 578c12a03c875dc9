"""Train the LoRA adapters that make faulty teachers of the large one: `labkit build adapters` (six minutes on 2 cores).

Each is a run of `labkit.run`: the teacher's weights are frozen, and an adapter is trained on gold labels of the half world. For "lies", a
share of the facts always has the same wrong answer. For "noise", a share of all labels is wrong, in a different way each time. The other
labels are true, so that the teacher keeps the rest of its knowledge.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from labkit.base.manifest import seal
from labkit.records.experiment import Experiment

TEACHER = Experiment(  # copied: begins with the teacher's weights
    method="gold", student="3m", start="copied", adapter=8, scale="half", gold=40_000, learning_rate=5e-3
)
TEACHERS = {
    "atlas-3m-lies-10": TEACHER.but(falsehoods=0.1, steps=120),
    "atlas-3m-lies-30": TEACHER.but(falsehoods=0.3, steps=300),  # many false facts to memorise
    "atlas-3m-noise-30": TEACHER.but(gold_noise=0.3, steps=100),  # nothing to memorise
}
FILES = ("adapter_config.json", "adapter_model.safetensors")


def build(folder: Path, names: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    from labkit.base.files import home_dir
    from labkit.models import lora
    from labkit.records import events as ev
    from labkit.training.loop import Run

    for name in names or list(TEACHERS):
        recipe = TEACHERS[name]
        run = Run(recipe, home_dir() / "build" / name, checkpoint_every=25)
        for event in run:
            if isinstance(event, ev.Step) and event.step % 25 == 0:
                say(f"{name} step {event.step}/{recipe.steps}, loss {event.values['loss']:.3f}, {event.seconds:.0f} s")
            elif isinstance(event, ev.Failed):
                raise SystemExit(f"{event.message}. {event.advice}")
        assert run.student is not None
        lora.save(run.student, folder / name, torch.float16)
        enter(folder / name, recipe)


def enter(folder: Path, recipe: Experiment) -> None:
    """Write the manifest: checksums, licence, and how each file was made."""
    for file in FILES:
        (folder / file).chmod(0o644)  # safetensors makes it readable by its owner only
    note = {"recipe": recipe.recipe, "base": recipe.teacher, "lies": recipe.falsehoods, "noise": recipe.gold_noise}
    seal(folder, f"labkit build adapters {folder.name}", {file: {"licence": "Apache-2.0"} for file in FILES}, note)


if __name__ == "__main__":
    import sys

    build(Path(__file__).parent.parent / "adapters", sys.argv[1:] or None)
