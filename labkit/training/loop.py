"""`run(experiment)`: the one training loop of the lab, as a generator of events.

    for event in run(Experiment(student="57k")): ...

The loop draws nothing, prints nothing and never waits. The caller sets the pace: a run is paused while its next event is not asked for,
and the time outside the generator is not counted. Hot knobs are read once between two steps.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from labkit import models
from labkit.base.errors import LabError, unknown
from labkit.base.kinds import kinds_checked
from labkit.base.settings import Settings, default
from labkit.base.threads import Share, Watch, threads_of_a_run
from labkit.models.architectures import LanguageModel
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.machines import Machine
from labkit.records.model_folders import without_hash
from labkit.records.rules import refuse
from labkit.tasks.atlas.exam import Examiner
from labkit.teachers.text_pool import TextPool
from labkit.training import advice
from labkit.training.assembly import PEER, Parts, assemble
from labkit.training.batch_check import check_batch
from labkit.training.batches import BatchSampler, StepRows
from labkit.training.checkpoint import Folder, Position, give_back, keep
from labkit.training.faults import Faults
from labkit.training.methods import comparison, method
from labkit.training.on_policy import OnPolicy
from labkit.training.prerequisites import Prerequisites
from labkit.training.setup import CustomTask, task_of
from labkit.training.step import gradients, schedule

EXPLODED = 20.0  # nats per answer token; an untrained student is at log(1024) = 6.9


class Run(Iterator[ev.Event]):
    """A run under way: an iterator of events, with the live `.student` beside it.

    `turn(temperature=2.0)` changes hot knobs from any thread, from the next step on; `stop()` ends the run after the present step.

    folder: where events and checkpoints are written. A run that was killed goes on from its last checkpoint to the bit-identical result.
    checkpoint_every: steps between two checkpoints; a tenth of the run if not given, but at least 25.
    exams: number of exams during the run, spread evenly; 0 for none.
    settings: questions at a time, number of exams, steps of a made teacher (`Settings`).
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: str | Path | None = None,
        checkpoint_every: int | None = None,
        exams: int | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.experiment = experiment
        self.folder = Folder(folder, experiment) if folder is not None else None
        self.checkpoint_every = checkpoint_every or max(25, experiment.steps // 10)
        self.exams, self.settings = exams, settings or default()
        self.student: LanguageModel | None = None
        self.knobs: Mapping[str, Any] = {n: getattr(experiment, n) for n, entry in KNOBS.items() if entry.knob.hot}
        self.known: dict[str, Any] = {}  # facts about models and data, which the rules need, once these are loaded
        self._stopping = self._failed = self._logging = False  # _logging: only once the folder is known to be this run's
        self._exam: Examiner | None = None
        self._before = Prerequisites(lambda recipe: Run(recipe, exams=0, settings=self.settings), lambda: self._stopping, self.settings)
        self.step, self._busy, self._entered = 0, 0.0, math.inf
        self._share, self._watch, self._fewer = Share(torch.get_num_threads()), Watch(), 0  # _fewer: threads to go on with, if asked to
        self._events = self._guarded()

    def __next__(self) -> ev.Event:
        self._entered, others = time.perf_counter(), torch.get_num_threads()
        torch.set_num_threads(self._share.threads)
        self._share.at_work()
        try:
            return next(self._events)
        finally:
            torch.set_num_threads(others)  # so that a run which is paused, or dropped, does not decide for others
            self._busy, self._entered = self._busy + time.perf_counter() - self._entered, math.inf

    @property
    def seconds(self) -> float:
        """Seconds of work, without pauses."""
        return self._busy + max(0.0, time.perf_counter() - self._entered)

    def turn(self, **changes: Any) -> None:
        """Change hot knobs, or `threads` to fewer, from the next step on. Raises `LabError` for a bad name or value, or a broken rule."""
        fewer = self._share.fewer(changes.pop("threads", None))
        for name in [name for name in changes if name not in self.knobs]:
            if name not in KNOBS:
                raise unknown("knob", name, [*self.knobs, "threads"])
            raise LabError(f"{name} cannot change during a run: stop it, set {name}={changes[name]!r}, and run again.")
        turned = self.experiment.but(**{**self.knobs, **changes})
        refuse(turned)
        refuse(turned, **self.known)
        self.knobs, self._fewer = {name: getattr(turned, name) for name in self.knobs}, fewer or self._fewer

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        """End the generator where it is, and release the folder, so that a later run can go on from its checkpoint."""
        self._events.close()

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def _guarded(self) -> Generator[ev.Event, None, None]:
        """The loop's events, each written to the log. An error is first reported as a last event, `Failed`, and then raised."""
        try:
            with threads_of_a_run(self._share.threads) as self._share:
                torch.set_num_threads(self._share.threads)
                for event in self._train():
                    if self.folder and self._logging:
                        self.folder.write_down(event)
                    yield event
        except Exception as error:
            yield ev.Failed(self.step, *advice.on_error(error))
            raise
        finally:
            if self.folder:
                self.folder.close()
            for name in ("parts", "at", "_good", "_exam"):  # the student stays; optimiser and signals would keep their memory
                vars(self).pop(name, None)

    def _train(self) -> Iterator[ev.Event]:
        refuse(self.experiment)  # before anything is loaded
        task = self.task = task_of(self.experiment, self.settings)
        exp = self.experiment = task.experiment  # with a content hash on each file of the user
        if self.folder:
            self.folder.experiment = exp
        self.known = {"gold_rows": len(task.gold)} if isinstance(task, CustomTask) else {}
        parts = self.parts = assemble(task, self._before)
        self.student = parts.student
        at = self.at = yield from self._begin(parts)
        text = yield from self._text(parts)
        feed = task.feed(text or parts.rows)
        feed.position.update(at.feed)
        on_policy = OnPolicy(exp)
        on_policy.restore(at.own)
        due = self._exam_steps()
        for step in range(at.step + 1, exp.steps + 1):
            if self._stopping:
                break
            self.step = step
            yield from self._turned(step)
            step_rows = yield from self._draw(parts, feed, on_policy)
            yield from self._learn(parts, step_rows, check=task.checks_batches and (step == 1 or step in due))
            if self._failed:
                return
            if step in due:
                yield from self._examine(final=step == exp.steps)
                yield from (ev.Warned(step, *told) for told in self._watch.starved(self.seconds, parts.student.device, self._share.threads))
            self._keep(parts, feed, on_policy, step in due)
        parts.student.eval()
        if at.step < exp.steps and at.step and self.exams != 0:
            yield from self._examine(final=True)
        yield self._finished(parts, on_policy, text)

    def _begin(self, parts: Parts) -> Generator[ev.Event, None, Position]:
        """The first events (those in the log of a run that was cut off, or start and warm start), and the position to go on from."""
        exp, main, task = self.experiment, parts.accelerator.is_main_process, self.task
        alone = not self.folder or not main or self.folder.claim()
        if not alone:
            self.folder = None
        kept = self.folder.load(parts.learner, parts.optimiser) if self.folder else None
        self._logging, self._good = main, keep(parts.student)
        if kept and self.folder:
            at = kept
            said, at.threads = self._share.resumed(at.threads), self._share.threads
            torch.set_num_threads(at.threads)
            self._busy += at.seconds
            self._watch.begin(self.seconds)
            self.knobs, self.step, self._logging = {**self.knobs, **at.knobs}, at.step, False
            yield from self.folder.told()
            self._logging = main
            said += [f"This run was cut off; it goes on from step {at.step}."]
            yield from (ev.Warned(at.step, text) for text in said)
            return at
        yield self._started(parts)
        yield from (ev.Warned(0, warning) for warning in task.warnings)
        yield from [ev.Warned(0, self.folder.torn)] if self.folder and self.folder.torn else []
        if not alone:
            yield ev.Warned(0, "The same recipe is being run elsewhere at this moment, so this run keeps no checkpoint.")
        if exp.start == "warm":
            yield from self._before.warm_up(exp, parts.student, exp.seed)
            if parts.peer is not None:
                yield from self._before.warm_up(exp, parts.peer, exp.seed + PEER)
            keep(parts.student, self._good)
        paid = self.folder.paid() if self.folder else 0
        return Position(teacher_tokens=paid, knobs={name: getattr(exp, name) for name in self.knobs}, threads=self._share.threads)

    def _text(self, parts: Parts) -> Generator[ev.Event, None, TextPool | None]:
        """The teacher's text, which is written now if it is not on disk; None for a method that does not learn from text alone."""
        if not parts.method.text or parts.source is None:
            return None
        work = self.task.texts(parts.source)
        while True:
            try:
                done, total = next(work)
            except StopIteration as written:
                pool = self.task.text_pool(written.value)
                if pool.cut:
                    fix = "raise longest, or switch thinking off (template_option)"
                    yield ev.Warned(0, f"{pool.cut:,} of the teacher's answers are thoughts that were cut, and are left out: {fix}.")
                return pool
            yield ev.Labelled(done, total, self.seconds)

    def _exam_steps(self) -> set[int]:
        """The steps after which there is an exam, and before which a batch is checked."""
        steps = self.experiment.steps
        exams = min(self.settings.evaluations, max(2, steps // 20)) if self.exams is None else self.exams
        early = {min(20, steps)} if exams and self.task.checks_batches else set()
        return {round(steps * i / exams) for i in range(1, exams + 1)} | early

    def _turned(self, step: int) -> Iterator[ev.Event]:
        """Read the hot knobs and the number of threads, and report each that has changed."""
        for name, value in self.knobs.items():
            if value != self.at.knobs[name]:
                if name != "speed":
                    yield ev.KnobTurned(step, self.seconds, name, self.at.knobs[name], value)
                self.at.knobs = {**self.at.knobs, name: value}
        if self._fewer and self._fewer < self._share.threads:
            before, self.at.threads = self._share.threads, self._share.take(self._fewer)
            yield ev.KnobTurned(step, self.seconds, "threads", before, self.at.threads)  # `__next__` gives them to torch

    def _draw(self, parts: Parts, feed: BatchSampler, on_policy: OnPolicy) -> Generator[ev.Event, None, StepRows]:
        """The next rows. The teacher answers those that it has not answered yet; the student writes its share of an on-policy batch."""
        exp, knobs, pool = self.experiment, self.at.knobs, parts.pool
        rows = feed.next_rows(exp.batch, parts.method.gold_share(knobs["mix"]))
        if pool is not None:
            for done in pool.prepare(rows[0]):
                while pool.damaged:
                    yield ev.Warned(self.step, f"{pool.damaged.pop()} was damaged; the teacher has answered its questions again.")
                if self.folder and parts.accelerator.is_main_process:
                    self.folder.pay(self.at.teacher_tokens + pool.kept_tokens)
                yield ev.Labelled(done, pool.total, self.seconds)
        step_rows = feed.draw(*rows)
        if not parts.method.on_policy:
            return step_rows
        late = self.step > round(exp.online_from * exp.steps)
        return on_policy.replace_answers(parts.student, step_rows, self.step, knobs["on_policy"] if late else 0.0)

    def _learn(self, parts: Parts, step_rows: StepRows, check: bool) -> Iterator[ev.Event]:
        """One update of the student from these rows, after a batch check if `check`. Yields `Failed` instead if the loss has exploded."""
        exp, step, knobs, at = self.experiment, self.step, self.at.knobs, self.at
        faults, compare = Faults(knobs["faults"], exp.seed * 1_000_003 + step), comparison(exp, step, parts.divergence)
        rate = knobs["learning_rate"] * schedule(step, exp.steps)
        for group in parts.optimiser.param_groups:
            group["lr"] = rate
        if check:
            first, again = (Faults(knobs["faults"], seed) for seed in (exp.seed * 1_000_003 + step, -step))  # the same faults drawn twice
            yield ev.Inspected(step, check_batch(parts, compare, step_rows, knobs["temperature"], first, again))
        values = gradients(parts, compare, step_rows, knobs, faults)
        values["grad_norm"] = float(parts.accelerator.clip_grad_norm_(parts.own_parameters, 1.0))
        if parts.peer is not None:
            parts.accelerator.clip_grad_norm_(parts.peer.parameters(), 1.0)  # on its own, as if it were trained alone
        values["lr"] = rate
        limit = EXPLODED * max(1.0, knobs["temperature"] ** 2) * parts.reader.starts_at
        if not math.isfinite(values["grad_norm"]) or not values["loss"] < limit:
            give_back(parts.student, self._good)
            if self.folder:
                self.folder.forget()  # going on from it would fail again
            self._failed = True
            yield ev.Failed(
                step,
                f"the loss became {values['loss']:.4g} at step {step}, so the run was stopped",
                advice.on_loss(parts, compare, step_rows, knobs["temperature"]),
            )
            return
        parts.optimiser.step()
        parts.optimiser.zero_grad()
        at.step, at.seen = step, at.seen + len(step_rows.prompts)
        at.tokens += sum(map(len, step_rows.prompts)) + sum(map(len, step_rows.answers))
        yield ev.Step(step, self.seconds, at.seen, values)

    def _keep(self, parts: Parts, feed: BatchSampler, on_policy: OnPolicy, examined: bool) -> None:
        """Keep the student in memory and write a checkpoint, whichever is due."""
        step, due = self.step, self.step % self.checkpoint_every == 0
        if due or examined:
            keep(parts.student, self._good)
        if self.folder and (due or step == self.experiment.steps) and parts.accelerator.is_main_process:
            paid = self.at.teacher_tokens + (parts.pool.teacher_tokens if parts.pool else 0)
            place = dataclasses.replace(self.at, seconds=self.seconds, feed=feed.position, own=on_policy.state(), teacher_tokens=paid)
            self.folder.save(parts.learner, parts.optimiser, dataclasses.asdict(place))

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _started(self, parts: Parts) -> ev.Started:
        exp, teacher, student = self.experiment, parts.teacher, parts.student
        kind = "" if exp.architecture == "llama" else f" {exp.architecture}"
        name, by = without_hash(exp.student), without_hash(exp.teacher)
        checked = "; self-check passed" if any(hasattr(model, "folder") for model in (student, teacher)) else ""
        return ev.Started(
            exp.to_dict(),
            (f"{name}{kind} student, {by} teacher" if teacher is not None else f"{name}{kind} on gold labels") + checked,
            models.parameters(teacher) if teacher is not None else 0,
            models.parameters(student),
            exp.steps,
            exp.facts or (exp.questions if method(exp.method).needs_signal else exp.gold),
            self.task.skills,
            str(Machine.here(self._share.threads, student.device)),
        )

    def _examine(self, final: bool) -> Iterator[ev.Event]:
        """One exam; the final one with fresh questions too. Before the first come the scores of the teacher and of recorded baselines."""
        student, at = self.parts.student, self.at
        exam = self._exam = self._exam or self.task.exam(self.parts.teacher)
        if not at.referenced:
            at.referenced = True
            if self.experiment.teacher != "none":
                yield ev.Reference("teacher", exam.teacher_grades.skills, recipe=self.experiment.teacher)
            yield from self.task.references()
        grades, step = exam.grade(student), at.step
        habits = {**grades.habits, **(exam.beside(student, grades.answers) if final else {})}
        yield ev.Evaluated(step, self.seconds, *grades[:3], grades.ece, grades.truth, final, habits, grades.working)
        yield ev.Sampled(step, tuple(exam.sample(grades.answers)))
        question, tokens, teacher, own = exam.probe(student)
        yield ev.Probe(step, question, tuple(tokens), tuple(teacher), tuple(own))

    def _finished(self, parts: Parts, on_policy: OnPolicy, text: TextPool | None) -> ev.Finished:
        at = self.at
        cost = {"student_tokens": at.tokens * (2 if parts.method.peer else 1), "questions": at.seen}
        cost |= {"rows": len(text)} if text is not None else {}
        cost |= {"student_written_tokens": on_policy.generated} if parts.method.on_policy else {}
        if parts.pool is not None:
            cost |= {"teacher_tokens": at.teacher_tokens + parts.pool.teacher_tokens, "cache_bytes": parts.pool.bytes}
        return ev.Finished(at.step, self.seconds, "stopped" if at.step < self.experiment.steps else "completed", cost)


@kinds_checked
def run(experiment: Experiment | None = None, folder: str | Path | None = None, **changes: Any) -> Run:
    """Start a run.

    experiment: the recipe; the default one if not given.
    folder: where events and checkpoints are written, if given.
    changes: fields of the recipe to change, as in `run(student="57k")`.

    Returns the run: iterate over it for its events.
    """
    return Run(Experiment.of(experiment).but(**changes), folder)
