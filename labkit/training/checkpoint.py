"""The folder of a run: its log of events, and one checkpoint from which it goes on to the bit-identical result.

Both survive a kill at any moment: the checkpoint is replaced whole or not at all, and an incomplete last line of the log is ignored.
A lock keeps the folder to one run at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from labkit import models
from labkit.base import tensors
from labkit.base.errors import DataError
from labkit.base.files import write_whole
from labkit.models.architectures import LanguageModel
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.record import read_events
from labkit.training.batches import LARGE

PAID = "teacher_tokens"  # a file of a run's folder


@dataclass
class Position:
    """The position of a run: all its state beside weights and optimiser."""

    step: int = 0
    seen: int = 0  # questions
    tokens: int = 0  # that the student has read, prompts included
    teacher_tokens: int = 0
    seconds: float = 0.0
    referenced: bool = False  # whether the scores of teacher and baselines have been reported
    knobs: Mapping[str, Any] = field(default_factory=dict)
    feed: Mapping[str, int] = field(default_factory=dict)  # `BatchSampler.position`
    own: Mapping[str, Any] = field(default_factory=dict)  # `OnPolicy.state()`

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Position:
        """A position from a checkpoint, without the fields that this version does not know."""
        return cls(**{entry.name: kept[entry.name] for entry in fields(cls) if entry.name in kept})


class Folder:
    """The log and the checkpoint of one run."""

    def __init__(self, path: Path, experiment: Experiment) -> None:
        self.path, self.experiment = path, experiment
        self.checkpoint, self.log = path / "checkpoint.safetensors", path / "events.jsonl"
        self._open: TextIO | None = None
        self._lock = FileLock(path / "lock")

    def claim(self) -> bool:
        """Lock the folder. Returns whether that worked: False if another run has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def write_down(self, event: ev.Event) -> None:
        """Append an event to the log. Without a checkpoint to go on from, the log starts empty."""
        if self._open is None:
            self._open = self.log.open("a" if self.checkpoint.exists() else "w", encoding="utf-8")
        self._open.write(ev.dumps(event) + "\n")
        self._open.flush()

    def close(self) -> None:
        if self._open:
            self._open.close()
            self._open = None
        self._lock.release()

    def told(self, step: int) -> Sequence[ev.Event]:
        """The logged events up to the checkpoint at `step`, without the end that the run may have had there. Cuts the log to them."""
        events: list[ev.Event] = []
        for event in read_events(self.log) if self.log.exists() else ():
            ended = isinstance(event, ev.Finished | ev.Failed) or (
                isinstance(event, ev.Evaluated) and event.final and step < self.experiment.steps
            )
            if ended or getattr(event, "step", 0) > step:
                break
            events.append(event)
        text = "".join(ev.dumps(event) + "\n" for event in events)
        write_whole(self.log, lambda to: to.write_text(text, encoding="utf-8"))
        return events

    def turned(self) -> bool:
        """Whether knobs were turned in the run that left the checkpoint. Going on from it would not give the result of the recipe."""
        try:
            knobs = json.loads(tensors.note(self.checkpoint)["position"])["knobs"] if self.checkpoint.exists() else {}
        except (DataError, KeyError, ValueError):
            return False  # `load` reports what is wrong with it
        return any(KNOBS[name].knob.identity and value != getattr(self.experiment, name) for name, value in knobs.items())

    def pay(self, tokens: int) -> None:
        """Note what the teacher's answers have cost so far. They survive a kill that comes before the first checkpoint: so does this."""
        write_whole(self.path / PAID, lambda to: to.write_text(str(tokens)))

    def paid(self) -> int:
        """The tokens that `pay` has noted last; 0 if it has not, or if the note is damaged."""
        try:
            return int((self.path / PAID).read_text())
        except (OSError, ValueError):
            return 0

    def forget(self) -> None:
        """Delete the checkpoint, so that the next run starts from the beginning."""
        self.checkpoint.unlink(missing_ok=True)

    def save(self, learner: nn.Module, optimiser: torch.optim.Optimizer, position: Mapping[str, Any]) -> None:
        """Write weights and optimiser state to one safetensors file, with position and recipe as JSON in its header."""
        kept = {}
        for name, parameter in learner.named_parameters():
            kept[f"weight/{name}"] = parameter
            kept |= {f"{key}/{name}": value for key, value in optimiser.state.get(parameter, {}).items()}
        note = {"experiment": json.dumps(self.experiment.to_dict()), "position": json.dumps(position)}
        tensors.save(self.checkpoint, kept, note)

    def load(self, learner: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Load the checkpoint into learner and optimiser.

        Returns its position; None if there is no checkpoint. Raises `DataError` if it is damaged or belongs to another recipe.
        """
        if not self.checkpoint.exists():
            return None
        fix = f"Delete {self.path} and run again from the start."
        try:
            kept, note = tensors.load(self.checkpoint)
            position: dict[str, Any] = json.loads(note["position"])
            owner = Experiment.from_dict(json.loads(note["experiment"]))
        except (DataError, KeyError, ValueError) as error:
            raise DataError(f"the checkpoint {self.checkpoint} cannot be used: {error} {fix}") from None
        if owner.key != self.experiment.key:
            raise DataError(f"{self.checkpoint} belongs to another recipe ({owner.recipe}). Use another folder, or delete this one.")
        with torch.no_grad():
            for name, parameter in learner.named_parameters():
                parameter.copy_(kept[f"weight/{name}"])
                if not parameter.requires_grad:
                    continue
                state = {key: kept[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                optimiser.state[parameter] = {key: value.to(parameter.device, copy=True) for key, value in state.items()}
        return position


# ---- the last good student, in memory ----------------------------------------------------------------------------------------------


@torch.no_grad()
def keep(student: LanguageModel, good: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Copy the trained weights, into `good` if given; those of a large student in half precision, as it would be saved.

    Returns the copy, for `give_back`.
    """
    kind = torch.bfloat16 if models.parameters(student) > LARGE else torch.float32
    good = {} if good is None else good
    for name, parameter in student.named_parameters():
        if name in good:
            good[name].copy_(parameter)  # in place: two copies would not fit beside a large student
        elif parameter.requires_grad:
            good[name] = parameter.to(kind, copy=True)
    return good


@torch.no_grad()
def give_back(student: LanguageModel, good: Mapping[str, Tensor]) -> None:
    """Put the weights that `keep` copied back into the student."""
    for name, parameter in student.named_parameters():
        if name in good:
            parameter.copy_(good[name])
