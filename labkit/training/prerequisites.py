"""The runs that come before a run: its warm start, an assistant, earlier generations, a teacher that is made for it. Each is made once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit import models
from labkit.base import tensors
from labkit.base.errors import DataError, LabError
from labkit.base.files import data_dir, made_here
from labkit.base.settings import Settings, default
from labkit.models import lora
from labkit.models.architectures import LanguageModel
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, TUNED_RATE, Experiment

STRANGER = 2_000_000  # added to a seed for the first weights of a teacher that is no kin
SEEDS = int(KNOBS["seed"].knob.high) + 1  # counted on from 0 behind the last


class Prerequisites(NamedTuple):
    """begin: starts a run without exams. stopping: whether the run that they come before is to stop, and they with it."""

    begin: Callable[[Experiment], Any]
    stopping: Callable[[], bool]
    settings: Settings

    def warm_up(self, experiment: Experiment, student: LanguageModel, seed: int) -> Iterator[ev.Event]:
        """Put the warm start into the student: shipped, or made once for a size and seed, by the same loop on gold labels, and kept."""
        recipe = warm_recipe(experiment, seed, self.settings)
        shipped, own = (folder / f"{recipe.key}.safetensors" for folder in (data_dir() / "starts", made_here("starts")))
        kept = yield from self.trained(recipe, shipped if shipped.exists() else own, "warm start")
        with torch.no_grad():
            for name, parameter in student.named_parameters():
                if "lora_" not in name:  # an adapter begins as no change at all
                    parameter.copy_(kept[name.replace(".base_layer", "")])

    def successor(self, experiment: Experiment, before: Sequence[Experiment], device: torch.device) -> LlamaForCausalLM:
        """Who answers the questions in a teacher's place: the student that the last of these recipes ends with, each of them run once,
        by the same loop, and kept (an assistant: Mirzadeh et al. 2019, arXiv 1902.03393)."""
        for recipe in before:
            path = made_here("assistants") / f"{recipe.key}.safetensors"
            what = "assistant" if experiment.assistant != "none" else experiment.teacher if recipe.favourite else "student before"
            work, weights = self.trained(recipe, path, what), None
            while weights is None:
                try:
                    next(work)  # what it tells comes before the run has started, so there is nobody to tell
                except StopIteration as trained:
                    weights = trained.value
            if self.stopping():
                break
        model = models.student(recipe.student)
        if recipe.adapter:
            lora.add(model, recipe.adapter, recipe.seed)
        assert weights is not None
        model.load_state_dict(weights, strict=False)  # the head is the embedding
        return model.to(device).eval().requires_grad_(False)

    def trained(self, recipe: Experiment, path: Path, what: str) -> Generator[ev.Event, None, dict[str, Tensor]]:
        """The weights a recipe ends with: those kept at `path` or, once, trained by the same loop and put there."""
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
            tensors.save(path, dict(before.student.named_parameters()))
        try:
            return tensors.load(path)[0]
        except DataError as error:
            raise DataError(f"the {what} cannot be used: {error} Delete the file; the next run makes it again.") from None


def warm_recipe(experiment: Experiment, seed: int, settings: Settings | None = None) -> Experiment:
    """The run that makes a warm start: true hard labels, the same for every arm of a size and seed."""
    how = settings or default()
    fields = {"teacher": "none", "gold_noise": 0.0, "falsehoods": 0.0, "favourite": 0.0, "facts": 0}
    return experiment.baseline().but(seed=seed % SEEDS, start="random", gold=how.warm_gold, steps=how.warm_steps, **fields)


def made_teacher_recipe(experiment: Experiment, settings: Settings | None = None) -> Experiment:
    """The run that makes a teacher out of the student's own warm start ("sibling"), or another seed's ("stranger"): a short course in which
    every question with many answers has the same one (after Cloud et al. 2025, arXiv 2507.14805). A quarter of the tuned rate keeps it near
    where it began."""
    seed = experiment.seed + (STRANGER if experiment.teacher == "stranger" else 0)
    warm, steps = warm_recipe(experiment, seed, settings), (settings or default()).made_teacher_steps
    return warm.but(start="warm", favourite=1.0, steps=steps, learning_rate=TUNED_RATE[experiment.student] / 4)


def earlier(exp: Experiment) -> list[Experiment]:
    """The runs that come before this one, in order, the last of which teaches it: the assistant's, or the generations'; mostly none."""
    if exp.assistant != "none":
        return [assistant_recipe(exp)]
    return [exp.but(generations=n) for n in range(1, exp.generations)]


def assistant_recipe(experiment: Experiment) -> Experiment:
    """The run that makes an assistant: the same, for a student of its size, at the rate tuned for that."""
    size = experiment.assistant
    return experiment.but(student=size, assistant="none", learning_rate=TUNED_RATE[size], start="random", adapter=0)
