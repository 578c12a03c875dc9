"""Prerequisites: the runs that a run needs first. They make its warm start, assistant, earlier generations or teacher, each once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit import models
from labkit.base import tensors
from labkit.base.errors import LabError, reading
from labkit.base.files import data_dir, made_here
from labkit.base.settings import Settings, default
from labkit.models import lora
from labkit.models.architectures import LanguageModel
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, TUNED_RATE, Experiment

STRANGER = 2_000_000  # added to a seed for the initial weights of a "stranger" teacher
SEEDS = int(KNOBS["seed"].knob.high) + 1  # a larger seed is taken modulo this


class Prerequisites(NamedTuple):
    """Makes what a run needs before its first step."""

    begin: Callable[[Experiment], Any]  # starts a run without exams
    stopping: Callable[[], bool]  # whether the run that needs them is to stop, and they with it
    settings: Settings

    def warm_up(self, experiment: Experiment, student: LanguageModel, seed: int) -> Iterator[ev.Event]:
        """Load the warm start into the student. It is shipped, or trained once for a size and seed on gold labels, and kept.

        Raises `LabError` if it cannot be made or loaded.
        """
        recipe = warm_recipe(experiment, seed, self.settings)
        shipped, own = (folder / f"{recipe.key}.safetensors" for folder in (data_dir() / "starts", made_here("starts")))
        path = shipped if shipped.exists() else own
        kept = yield from self.trained(recipe, path, "warm start")
        with reading(path, "Delete it: the next run makes the warm start again."):
            for name, parameter in student.named_parameters():
                if "lora_" not in name:  # an adapter starts at zero effect
                    tensors.fill(parameter, kept, name.replace(".base_layer", ""))

    def successor(self, experiment: Experiment, before: Sequence[Experiment], device: torch.device) -> LlamaForCausalLM:
        """The model that answers the questions in place of the teacher: the student of the last recipe.

        before: recipes in order. Each is run once and its student is kept.

        Raises `LabError` if one cannot be made or loaded. Source: assistants are from Mirzadeh et al. 2019, arXiv 1902.03393.
        """
        for recipe in before:
            path = made_here("assistants") / f"{recipe.key}.safetensors"
            what = "assistant" if experiment.assistant != "none" else experiment.teacher if recipe.favourite else "student before"
            work, weights = self.trained(recipe, path, what), None
            while weights is None:
                try:
                    next(work)  # its events come before the run has started, and are not shown
                except StopIteration as trained:
                    weights = trained.value
            if self.stopping():
                break
        model = models.student(recipe.student)
        if recipe.adapter:
            lora.add(model, recipe.adapter, recipe.seed)
        assert weights is not None
        with reading(path, f"Delete it: the next run makes the {what} again."):
            for name, parameter in model.named_parameters():
                tensors.fill(parameter, weights, name)
        return model.to(device).eval().requires_grad_(False)

    def trained(self, recipe: Experiment, path: Path, what: str) -> Generator[ev.Event, None, dict[str, Tensor]]:
        """The final weights of a recipe, from the file at `path`. If there is none, train the recipe and write it.

        what: the name of the model in messages.

        Yields warnings about progress. Raises `LabError` if the training fails or the file is damaged.
        """
        if not path.exists():
            before = self.begin(recipe)
            for event in before:
                if isinstance(event, ev.Failed):
                    raise LabError(f"the {what} could not be made: {event.message}")
                if isinstance(event, ev.Step) and event.step % 50 == 1:
                    yield ev.Warned(0, f"Making the {what}, once: step {event.step} of {recipe.steps}.")
                if self.stopping():
                    before.stop()
            assert before.student is not None
            if self.stopping():
                return dict(before.student.named_parameters())
            tensors.save(path, dict(before.student.named_parameters()), {"recipe": recipe.key})
        mend = f"Delete it: the next run makes the {what} again."
        with reading(path, mend):
            kept, note = tensors.load(path, mend)
            if note.get("recipe", recipe.key) != recipe.key:  # shipped ones have no note
                raise ValueError(f"it is of the recipe {note['recipe']}")
        return kept


def warm_recipe(experiment: Experiment, seed: int, settings: Settings | None = None) -> Experiment:
    """The recipe that makes a warm start: training on true gold labels. It is the same for all arms of a size and seed."""
    sizes = settings or default()
    fields = {"teacher": "none", "gold_noise": 0.0, "falsehoods": 0.0, "favourite": 0.0, "facts": 0}
    return experiment.baseline().but(seed=seed % SEEDS, start="random", gold=sizes.warm_gold, steps=sizes.warm_steps, **fields)


def made_teacher_recipe(experiment: Experiment, settings: Settings | None = None) -> Experiment:
    """The recipe that makes a teacher from the student's own warm start ("sibling") or from that of another seed ("stranger").

    In this short training every question with several answers has the same one. A quarter of the tuned learning rate keeps the teacher near
    its initial weights.

    Source: after Cloud et al. 2025, arXiv 2507.14805.
    """
    seed = experiment.seed + (STRANGER if experiment.teacher == "stranger" else 0)
    warm, steps = warm_recipe(experiment, seed, settings), (settings or default()).made_teacher_steps
    return warm.but(start="warm", favourite=1.0, steps=steps, learning_rate=TUNED_RATE[experiment.student] / 4)


def earlier(exp: Experiment) -> list[Experiment]:
    """Recipes of the assistant or of the earlier generations, in order. The student of the last one is the teacher; most runs have none."""
    if exp.assistant != "none":
        return [assistant_recipe(exp)]
    return [exp.but(generations=n) for n in range(1, exp.generations)]


def assistant_recipe(experiment: Experiment) -> Experiment:
    """The recipe that makes an assistant: the same, for a student of the assistant's size, at the learning rate tuned for that size."""
    size = experiment.assistant
    return experiment.but(student=size, assistant="none", learning_rate=TUNED_RATE[size], start="random", adapter=0)
