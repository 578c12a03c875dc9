"""Runs a plan. The loop has its own thread, so that it works inside a notebook; `watch` is called in the caller's thread.

report = labelling.label("prompts.jsonl", "answers.jsonl", endpoints=["http://127.0.0.1:8000/v1"], model="smollm2", terms="read")
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable

from labkit.base.errors import LabError
from labkit.base.interrupts import Terminated
from labkit.teachers.labelling.answers import assemble
from labkit.teachers.labelling.journal import Journal
from labkit.teachers.labelling.loop import Loop
from labkit.teachers.labelling.plan import READ, LabelPlan
from labkit.teachers.labelling.progress import Progress, Report
from labkit.teachers.labelling.settings import hidden

LATER = "All answers so far are kept: run the same again to continue."
MOST_KEPT = 64 << 20  # most bytes of disk to reserve


def run(plan: LabelPlan, *, terms: str = "", watch: Callable[[Progress], None] | None = None) -> Report:
    """Send the requests of a plan and write the answers. After an interrupt it waits for the requests under way; a second interrupt
    cancels them.

    terms: "read" says that you have read the provider's terms of use, and that they allow your use.
    watch: gets the progress about once a second.

    Raises `LabError` if the terms were not read, no endpoint can be used, or the disk is full; all answers so far are kept.
    """
    if terms != READ:
        raise LabError(f"{plan.question()} If they do, use terms='read' (--terms read); this is stored with the answers.")
    began, events = time.monotonic(), queue.SimpleQueue[Progress | None]()
    settings = plan.settings
    keys = {settings.secret(url) for url in settings.endpoints}
    trouble: BaseException | None = None

    with Journal(plan.answers, _reserve(plan), lambda text: hidden(text, keys)) as journal:
        plan = plan.looked_up()  # again, as no other process can write to the journal now
        job = Loop(plan, journal, events.put)
        if plan.todo:
            trouble = _in_thread(job, events, watch)
        assembled = assemble(plan, journal.path, job.failed)
        if watch and plan.todo and trouble is None:
            watch(job.progress())
    if trouble is not None:
        raise trouble
    if job.fatal:
        raise LabError(f"{job.fatal} {LATER}")
    money = job.spent.money(settings)
    took, damage = time.monotonic() - began, tuple(plan.damage())
    return Report(plan.answers, len(plan.requests), *assembled, job.stopped, job.spent, money, job.again, took, damage)


def _in_thread(job: Loop, events: queue.SimpleQueue, watch: Callable[[Progress], None] | None) -> BaseException | None:
    """Run the job's loop in a thread and pass its progress to `watch`. Returns the first error of either, after the loop has ended."""
    trouble: list[BaseException] = []
    loop = asyncio.new_event_loop()

    def body() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(job.run())
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            trouble.append(group.exceptions[0])
        except BaseException as error:
            trouble.append(error)
        finally:
            events.put(None)

    def call(action: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(action)

    thread = threading.Thread(target=body, name="labelling", daemon=True)
    thread.start()
    interrupted = ended = False
    while not ended:
        try:
            progress = events.get()
            ended = progress is None
            if progress is not None and watch and not trouble:
                watch(progress)
        except KeyboardInterrupt as stopped:
            if isinstance(stopped, Terminated):  # whoever ends a process does not wait for answers
                trouble.append(stopped)
            if interrupted or trouble:
                call(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
            else:
                call(lambda: job.stop("interrupted"))
                call(lambda: job.note("Stopping: waiting for the requests under way, which are paid for. Interrupt again to cancel them."))
            interrupted = True
        except Exception as error:  # of `watch`
            trouble.append(error)
            call(lambda: job.stop("the function `watch` failed"))
    thread.join()
    return trouble[0] if trouble else None


def _reserve(plan: LabelPlan) -> int:
    """Bytes that all answers under way may need in the journal, with their alternatives."""
    settings = plan.settings
    longest = max((len(plan.text_of(place).encode()) for place in plan.todo), default=0)
    token = 8 + (0 if settings.logprobs is None else 80 + 40 * settings.logprobs)
    return min(MOST_KEPT, len(settings.endpoints) * settings.concurrency * (2_000 + 2 * longest + token * settings.max_tokens))
