"""The folder of a run: its log of events, and one checkpoint from which it goes on to the bit-identical result.

Both survive a kill at any moment: the checkpoint is replaced whole or not at all, and an incomplete last line of the log is ignored.
A lock keeps the folder to one run at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from labkit import models
from labkit.base import tensors
from labkit.base.errors import UNREADABLE, DataError, not_written, reading
from labkit.base.files import expanded, write_whole
from labkit.models.architectures import LanguageModel
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.record import events_of
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
    threads: int = 0  # with which it gives these bits; 0 in checkpoints of older versions
    referenced: bool = False  # whether the scores of teacher and baselines have been reported
    knobs: Mapping[str, Any] = field(default_factory=dict)
    feed: Mapping[str, int] = field(default_factory=dict)  # `BatchSampler.position`
    own: Mapping[str, Any] = field(default_factory=dict)  # `OnPolicy.state()`

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Position:
        """A position from a checkpoint, without the fields that this version does not know."""
        return cls(**{entry.name: kept[entry.name] for entry in fields(cls) if entry.name in kept.keys()})  # noqa: SIM118 - not of a list


class Folder:
    """The log and the checkpoint of one run. The checkpoint has length and hash of the log at that moment, so that both belong together."""

    def __init__(self, path: str | Path, experiment: Experiment) -> None:
        self.path, self.experiment = (path := expanded(path)), experiment
        self.checkpoint, self.log = path / "checkpoint.safetensors", path / "events.jsonl"
        self._open: BinaryIO | None = None
        self._written, self._digest = 0, hashlib.blake2b(digest_size=16)  # of the log: bytes, and the hash of them
        self.torn = ""  # why `load` began anew
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
            self._open = self.log.open("ab" if self.checkpoint.exists() else "wb")
        line = (ev.dumps(event) + "\n").encode()
        try:
            self._open.write(line)
            self._open.flush()
        except OSError as error:
            raise not_written(self.log, error) or error from None
        self._written += len(line)
        self._digest.update(line)

    def close(self) -> None:
        if self._open:
            with contextlib.suppress(OSError):  # of a line that the disk has not taken, as `write_down` has told
                self._open.close()
            self._open = None
        self._lock.release()

    def told(self) -> Sequence[ev.Event]:
        """The events that were logged before the checkpoint. Cuts the log to them."""
        log = self._log_of_checkpoint()
        assert log is not None, "`load` has checked it"
        self._written, self._digest = len(log), hashlib.blake2b(log, digest_size=16)
        if self._lock.is_locked:  # one of several processes writes it
            write_whole(self.log, lambda to: to.write_bytes(log))
        return list(events_of(log.split(b"\n"), self.log))

    def _log_of_checkpoint(self) -> bytes | None:
        """The log as it was when the checkpoint was written; None if it has lost something since, or was changed."""
        with contextlib.suppress(*UNREADABLE):
            note = tensors.note(self.checkpoint)
            if "log" not in note:
                return self._log_until(json.loads(note["position"])["step"])
            length, digest = json.loads(note["log"])
            log = self.log.read_bytes()[:length] if length else b""
            if len(log) == length and hashlib.blake2b(log, digest_size=16).hexdigest() == digest:
                return log
        return None

    def _log_until(self, step: int) -> bytes:
        """The log up to a step, for a checkpoint of an older version, which has no hash of it."""
        kept = list[bytes]()
        for line in self.log.read_bytes().splitlines(keepends=True):
            row = json.loads(line)
            last = row["event"] == "evaluated" and row.get("final") and step < self.experiment.steps
            if row["event"] in ("finished", "failed") or last or row.get("step", 0) > step:
                break
            kept.append(line)
        return b"".join(kept)

    def turned(self) -> bool:
        """Whether knobs were turned in the run that left the checkpoint. Going on from it would not give the result of the recipe."""
        if not self.checkpoint.exists():
            return False
        try:
            with reading(self.checkpoint, ""):
                knobs = json.loads(tensors.note(self.checkpoint)["position"])["knobs"]
                return any(KNOBS[name].knob.identity and value != getattr(self.experiment, name) for name, value in knobs.items())
        except DataError:
            return False  # `load` reports what is wrong with it

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
        if self._open:
            os.fsync(self._open.fileno())  # before the checkpoint, so that no power cut leaves a checkpoint that is ahead of its log
        note = {"experiment": json.dumps(self.experiment.to_dict()), "position": json.dumps(position)}
        note["log"] = json.dumps([self._written, self._digest.hexdigest()])
        tensors.save(self.checkpoint, kept, note)

    def load(self, learner: nn.Module, optimiser: torch.optim.Optimizer) -> Position | None:
        """Load the checkpoint into learner and optimiser.

        Returns its position; None if there is no checkpoint, or if the log has lost something that it had when the checkpoint was written
        (`torn` then says so): going on would make a record with a hole. Raises `DataError` if it is damaged or belongs to another recipe.
        """
        if not self.checkpoint.exists():
            return None
        fix = f"Delete {self.path} and run again from the start."
        with reading(self.checkpoint, fix):
            kept, note = tensors.load(self.checkpoint, fix)
            position = Position.of(json.loads(note["position"]))
            owner = Experiment.from_dict(json.loads(note["experiment"]))
        if owner.key != self.experiment.key:
            raise DataError(f"{self.checkpoint} belongs to another recipe ({owner.recipe}). Use another folder, or delete this one.")
        if self._log_of_checkpoint() is None:
            self.torn = f"{self.log} has lost or changed lines since the checkpoint at step {position.step}: the run begins anew."
            if self._lock.is_locked:
                self.forget()
            return None
        with reading(self.checkpoint, fix):
            for name, parameter in learner.named_parameters():
                tensors.fill(parameter, kept, f"weight/{name}")
                if not parameter.requires_grad:
                    continue
                state = {key: kept[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                optimiser.state[parameter] = {key: value.to(parameter.device, copy=True) for key, value in state.items()}
        position.teacher_tokens = max(position.teacher_tokens, self.paid())  # also of chunks that were labelled after the checkpoint
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
