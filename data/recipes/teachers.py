"""Train the shipped teachers: `labkit build teachers` (about an hour on 2 CPU cores; a killed build goes on where it stopped).

Each is a run of `labkit.run` on gold labels of the whole world. Three checkpoints of the largest one are kept too, as weaker teachers of
the same size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

QUESTIONS = 200_000
TEACHERS = {  # name: size, steps, learning rate
    "atlas-3m": ("3m", 3_600, 2e-3),
    "atlas-900k": ("900k", 3_000, 3e-3),
    "atlas-200k": ("200k", 3_000, 5e-3),
}
POINTS = {"atlas-3m": {400: "early", 800: "middle", 1_600: "late"}}


def build(folder: Path, names: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    from labkit import models
    from labkit.base.files import home_dir
    from labkit.records import events as ev
    from labkit.records.experiment import Experiment
    from labkit.training.loop import Run

    for name in names or list(TEACHERS):
        (size, steps, rate), command = TEACHERS[name], f"labkit build teachers {name}"
        experiment = Experiment(method="gold", teacher="none", student=size, scale="whole", gold=QUESTIONS, steps=steps, learning_rate=rate)
        run = Run(experiment, home_dir() / "build" / name, checkpoint_every=200)
        for event in run:
            if isinstance(event, ev.Step):
                if event.step in POINTS.get(name, {}) and event.step == run.step:  # not a step that a resumed run reports again
                    point = f"{name}-{POINTS[name][event.step]}"
                    models.save(run.student, folder / point, {"recipe": experiment.recipe, "step": event.step}, command)
                if event.step % 50 == 0:
                    say(f"{name} step {event.step}/{steps}, loss {event.values['loss']:.3f}, {event.seconds:.0f} s")
            elif isinstance(event, ev.Evaluated):
                say(f"{name} step {event.step}: " + ", ".join(f"{k} {v:.2f}" for k, v in event.skills.items()))
            elif isinstance(event, ev.Failed):
                raise SystemExit(f"{event.message}. {event.advice}")
        models.save(run.student, folder / name, {"recipe": experiment.recipe, "step": steps}, command)


if __name__ == "__main__":
    import sys

    build(Path(__file__).parent.parent / "teachers", sys.argv[1:] or None)
