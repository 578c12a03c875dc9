"""`run(experiment)`: the one training loop of the lab, as a generator of events.

    for event in run(Experiment(student="57k")): ...

Nothing here draws, prints or waits. Whoever iterates decides the pace: time spent outside the generator is not counted, so a
paused run is simply one that nobody is asking for its next event. Between two steps the loop looks at its hot knobs once.
"""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import LlamaForCausalLM

from labkit import models
from labkit.base.errors import LabError, unknown
from labkit.base.settings import Settings, default
from labkit.models import lora
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads
from labkit.models.layers import copy_layers
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.model_folders import unmarked
from labkit.records.names import KIN, Size
from labkit.records.rules import refuse
from labkit.tasks.atlas.exam import Examiner
from labkit.teachers.cross_tokenizer_pool import Crossed
from labkit.teachers.features import Insides, TeacherFeatures
from labkit.teachers.text_data import TextPool
from labkit.training.batch_check import inspect
from labkit.training.checkpoint import Folder, give_back, keep
from labkit.training.faults import Faults
from labkit.training.methods import comparison, method
from labkit.training.on_policy import OnPolicy
from labkit.training.prerequisites import Prerequisites, earlier, kin_recipe
from labkit.training.setup import OwnSubject, subject_of
from labkit.training.step import Parts, gradients

WARMUP = 30
PEER = 1_000_000  # added to a seed for the second student of a mutual run
EXPLODED = 20.0  # nats per answer token; an untrained student is at log(1024) = 6.9


class Run(Iterator[ev.Event]):
    """A run under way: an iterator of events, with the live `.student` beside it.

    `turn(temperature=2.0)` changes hot knobs from any thread and takes effect at the next step; `stop()` ends the run in
    order after the present one. With a `folder`, events and checkpoints go there, and a run that was killed goes on from its
    last checkpoint to the bit-identical result. `exams`: how many there are on the way, spread evenly; 0 for none. `settings`: how
    finely it works (`Settings`).
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path | None = None,
        checkpoint_every: int | None = None,
        exams: int | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.experiment = experiment
        self.folder = Folder(folder, experiment) if folder else None
        self.checkpoint_every = checkpoint_every or max(25, experiment.steps // 10)
        self.exams, self.settings = exams, settings or default()
        self.student: LanguageModel | None = None
        self.knobs: Mapping[str, Any] = {n: getattr(experiment, n) for n, entry in KNOBS.items() if entry.knob.hot}
        self.known: dict[str, Any] = {}  # of models and data, once they are loaded
        self._stopping = False
        self._before = Prerequisites(lambda recipe: Run(recipe, exams=0, settings=self.settings), lambda: self._stopping, self.settings)
        self._logging = False  # not before the folder is known to be this run's
        self.step = 0
        self._busy, self._entered = 0.0, math.inf
        self._events = self._guarded()

    def __next__(self) -> ev.Event:
        self._entered = time.perf_counter()
        try:
            return next(self._events)
        finally:
            self._busy += time.perf_counter() - self._entered
            self._entered = math.inf

    @property
    def seconds(self) -> float:
        """Time spent working, pauses left out."""
        return self._busy + max(0.0, time.perf_counter() - self._entered)

    def turn(self, **changes: Any) -> None:
        """Change hot knobs from the next step on. Raises `LabError` for a cold or unknown one, or a value out of range."""
        for name, value in changes.items():
            if name not in self.knobs:
                if name not in KNOBS:
                    raise unknown("knob", name, self.knobs)
                raise LabError(f"{name} cannot change during a run: stop it, set {name}={value!r}, and run again.")
        turned = self.experiment.but(**{**self.knobs, **changes})
        refuse(turned)
        refuse(turned, **self.known)
        self.knobs = {name: getattr(turned, name) for name in self.knobs}

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        """Leave the run where it is; its folder is free for the next that goes on from there."""
        self._events.close()

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def _guarded(self) -> Generator[ev.Event, None, None]:
        """The loop, written down as it goes, with any error it meets told as a last event before it is raised."""
        try:
            for event in self._train():
                if self.folder and self._logging:
                    self.folder.write_down(event)
                yield event
        except Exception as error:
            what = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            yield ev.Failed(self.step, what, _advice(error))
            raise
        finally:
            if self.folder:
                self.folder.close()

    def _train(self) -> Iterator[ev.Event]:
        exp, how = self.experiment, method(self.experiment.method)
        refuse(exp)  # before anything is loaded
        before = earlier(exp)
        accelerator = Accelerator(cpu=not torch.cuda.is_available())
        subject = self.subject = subject_of(exp, self.settings)
        exp = self.experiment = subject.experiment  # which marks the content of a learner's own files
        if self.folder:
            self.folder.experiment = exp
        self.known = {"gold_rows": len(subject.gold)} if isinstance(subject, OwnSubject) else {}
        kin = [kin_recipe(exp, self.settings)] if exp.teacher in KIN else []
        teacher = self._before.successor(exp, kin, accelerator.device) if kin else _on(accelerator.device, subject.teacher())
        student = self.student = subject.student(exp.seed, teacher).to(accelerator.device)
        heads = student if isinstance(student, Heads) else None
        if heads is None:
            refuse(exp, own=_size(student), **({"theirs": _size(teacher)} if teacher is not None else {}))
        peer = subject.student(exp.seed + PEER).to(accelerator.device) if how.peer else None
        if exp.start == "copied" and teacher is not None:
            copy_layers(student, teacher)
        if exp.adapter:
            lora.add(student, exp.adapter, exp.seed)
        source = self._before.successor(exp, before, accelerator.device) if before else teacher
        pool = subject.pool(source) if (how.needs_signal or heads) and source is not None else None
        crossed = Crossed(pool, exp.vocabulary, exp.across) if pool and exp.vocabulary != "atlas" else None
        insides = Insides(how.features, exp.layers, student, pool, exp.seed) if how.features and pool else None
        looks = TeacherFeatures(pool, heads.looks, relations=False) if heads and heads.looks and pool else None
        learner = nn.ModuleDict({"student": student})
        learner.update(({"projectors": insides.projectors} if insides else {}) | ({"peer": peer} if peer is not None else {}))
        own_parameters = [p for name, p in learner.named_parameters() if not name.startswith("peer.")]
        plain = exp.divergence == "forward_kl" and not exp.top_k
        parts = Parts(
            accelerator, how, student, peer, learner, pool, insides, exp.signals == "live", plain, crossed, exp.precision == "bf16", looks
        )
        optimiser = accelerator.prepare(
            torch.optim.AdamW(learner.parameters(), exp.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
        )
        alone = not self.folder or not accelerator.is_main_process or self.folder.claim()
        if not alone:
            self.folder = None
        at = self.folder.load(learner, optimiser) if self.folder else None
        self._logging, good = accelerator.is_main_process, keep(student)
        if at and self.folder:
            self._busy += at["seconds"]
            self.knobs = {**self.knobs, **at["knobs"]}
            self.step = at["step"]
            told = self.folder.told(at["step"])
            logging, self._logging = self._logging, False
            yield from told
            self._logging = logging
            if not told:  # the log is gone: this much can be told again
                at["referenced"] = False
                yield self._started(teacher, student)
            yield ev.Warned(at["step"], f"This run was cut off; it goes on from step {at['step']}.")
        else:
            at = {"step": 0, "seen": 0, "tokens": 0, "teacher_tokens": 0, "referenced": False}
            at["knobs"] = {name: getattr(exp, name) for name in self.knobs}
            yield self._started(teacher, student)
            yield from (ev.Warned(0, warning) for warning in subject.warnings)
            if not alone:
                yield ev.Warned(0, "The same recipe is being run elsewhere at this moment, so this run keeps no checkpoint.")
            if exp.start == "warm":
                for model, seed in ((student, exp.seed), *(((peer, exp.seed + PEER),) if peer is not None else ())):
                    yield from self._before.warm_up(exp, model, seed)
                keep(student, good)
        text: TextPool | None = None
        if how.text and source is not None:
            work = subject.texts(source)
            while text is None:
                try:
                    done, total = next(work)
                    yield ev.Labelled(done, total, self.seconds)
                except StopIteration as written:
                    text = subject.text_pool(written.value)
        feed = subject.feed(text or crossed or pool)
        feed.position.update(at.get("feed", {}))
        own = OnPolicy(exp)
        if "own" in at:
            own.restore(at["own"])
        exam: Examiner | None = None
        exams = min(self.settings.evaluations, max(2, exp.steps // 20)) if self.exams is None else self.exams
        due = {round(exp.steps * i / exams) for i in range(1, exams + 1)} | ({min(20, exp.steps)} if exams and subject.looks else set())

        for step in range(at["step"] + 1, exp.steps + 1):
            if self._stopping:
                break
            self.step = step
            for name, value in self.knobs.items():
                if value != at["knobs"][name]:
                    if name != "speed":
                        yield ev.KnobTurned(step, self.seconds, name, at["knobs"][name], value)
                    at["knobs"] = {**at["knobs"], name: value}
            rows = feed.next_rows(exp.batch, how.gold_share(at["knobs"]["mix"]))
            if pool is not None:
                for done in pool.prepare(rows[0]):
                    while pool.damaged:
                        yield ev.Warned(step, f"{pool.damaged.pop()} was damaged; the teacher has answered its questions again.")
                    yield ev.Labelled(done, pool.total, self.seconds)
            drawn = feed.draw(*rows)
            if how.on_policy:
                late = step > round(exp.online_from * exp.steps)
                drawn = own.take_over(student, drawn, step, at["knobs"]["on_policy"] if late else 0.0)
            rate = at["knobs"]["learning_rate"] * schedule(step, exp.steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            faults, compare = Faults(at["knobs"]["faults"], exp.seed * 1_000_003 + step), comparison(exp, step)
            if subject.looks and (step == 1 or step in due):
                again = Faults(at["knobs"]["faults"], -step)  # other draws
                yield ev.Inspected(step, inspect(parts, compare, drawn, at["knobs"]["temperature"], faults, again))
                faults = Faults(at["knobs"]["faults"], exp.seed * 1_000_003 + step)
            values = gradients(parts, compare, drawn, at["knobs"], faults)
            values["grad_norm"] = float(accelerator.clip_grad_norm_(own_parameters, 1.0))
            if peer is not None:
                accelerator.clip_grad_norm_(peer.parameters(), 1.0)  # by itself, as if it were alone
            values["lr"] = rate
            limit = EXPLODED * max(1.0, at["knobs"]["temperature"] ** 2) * (2 if how.peer or heads else 1)  # a new head says what comes now
            if not math.isfinite(values["grad_norm"]) or not values["loss"] < limit:
                give_back(student, good)
                if self.folder:
                    self.folder.forget()  # it would only lead here again
                yield ev.Failed(
                    step,
                    f"the loss became {values['loss']:.4g} at step {step}, so the run was stopped",
                    "The last good student was kept. Lower the learning rate, or the temperature if the loss is far above 20.",
                )
                return
            optimiser.step()
            optimiser.zero_grad()
            at["step"], at["seen"] = step, at["seen"] + len(drawn.prompts)
            at["tokens"] += sum(map(len, drawn.prompts)) + sum(map(len, drawn.answers))
            yield ev.Step(step, self.seconds, at["seen"], values)

            if step in due:
                exam = exam or subject.exam(teacher)
                yield from self._examine(exam, at, final=step == exp.steps)
            if step % self.checkpoint_every == 0 or step in due:
                keep(student, good)
            if self.folder and (step % self.checkpoint_every == 0 or step == exp.steps) and accelerator.is_main_process:
                paid = at["teacher_tokens"] + (pool.teacher_tokens if pool else 0)
                place = {"seconds": self.seconds, "feed": feed.position, "own": own.state(), "teacher_tokens": paid}
                self.folder.save(learner, optimiser, at | place)

        student.eval()
        stopped = at["step"] < exp.steps
        if stopped and at["step"] and self.exams != 0:
            yield from self._examine(exam or subject.exam(teacher), at, final=True)
        cost = {"student_tokens": at["tokens"] * (2 if how.peer else 1), "questions": at["seen"]}
        if text is not None:
            cost["rows"] = len(text)
        if how.on_policy:
            cost["student_written_tokens"] = own.generated
        if pool is not None:
            cost |= {"teacher_tokens": at["teacher_tokens"] + pool.teacher_tokens, "cache_bytes": pool.bytes}
        yield ev.Finished(at["step"], self.seconds, "stopped" if stopped else "completed", cost)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _started(self, teacher: LlamaForCausalLM | None, student: LanguageModel) -> ev.Started:
        exp = self.experiment
        kind = "" if exp.architecture == "llama" else f" {exp.architecture}"
        name, by = unmarked(exp.student), unmarked(exp.teacher)
        return ev.Started(
            exp.to_dict(),
            f"{name}{kind} student, {by} teacher" if teacher is not None else f"{name}{kind} on gold labels",
            models.parameters(teacher) if teacher is not None else 0,
            models.parameters(student),
            exp.steps,
            exp.facts or (exp.questions if method(exp.method).needs_signal else exp.gold),
            self.subject.skills,
            f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        )

    def _examine(self, exam: Examiner, at: dict[str, Any], final: bool) -> Iterator[ev.Event]:
        """An exam, the last with fresh questions beside it; before the first, the yardsticks: the teacher's, and baselines on record."""
        assert self.student is not None
        if not at["referenced"]:
            at["referenced"] = True
            if self.experiment.teacher != "none":
                yield ev.Reference("teacher", exam.teacher_grades.skills, recipe=self.experiment.teacher)
            yield from self.subject.references()
        grades, step = exam.grade(self.student), at["step"]
        habits = {**grades.habits, **(exam.beside(self.student, grades.answers) if final else {})}
        yield ev.Evaluated(step, self.seconds, grades.skills, grades.fidelity, grades.open, grades.ece, grades.truth, final, habits)
        yield ev.Sampled(step, tuple(exam.sample(grades.answers)))
        question, tokens, teacher, own = exam.probe(self.student)
        yield ev.Probe(step, question, tuple(tokens), tuple(teacher), tuple(own))


def run(experiment: Experiment | None = None, folder: Path | None = None, **changes: Any) -> Run:
    """Start a run: iterate over what is returned. `changes` are fields of the experiment, as in `run(student="57k")`."""
    return Run((experiment or Experiment()).but(**changes), folder)


def schedule(step: int, steps: int) -> float:
    """The learning rate's factor at a step (1-based): linear warm-up, then a cosine down to a twentieth."""
    return min(1.0, step / WARMUP) * (0.05 + 0.475 * (1 + math.cos(math.pi * (step - 1) / steps)))


def _size(model: LanguageModel) -> Size:
    return Size(model.config.hidden_size, model.config.num_hidden_layers, model.config.num_attention_heads)


def _on(device: torch.device, teacher: LlamaForCausalLM | None) -> LlamaForCausalLM | None:
    """The teacher on a device; a copy if that is not the CPU, since `labkit.teacher()` hands the cached one to everybody."""
    return teacher if teacher is None or device.type == "cpu" else copy.deepcopy(teacher).to(device)


def _advice(error: Exception) -> str:
    if isinstance(error, LabError):
        return "Nothing that was finished is lost. Mend what the message says and run again."
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return "The machine ran out of memory. Choose a smaller student, a smaller batch, or fewer questions."
    if isinstance(error, OSError):
        return "Writing or reading a file failed. Check the free space, and that you may write to the lab's home folder (LABKIT_HOME)."
    return "This is a fault of the lab, not yours. The last checkpoint is kept; please report the message above."
