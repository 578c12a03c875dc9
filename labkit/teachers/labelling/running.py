"""Run a plan: the loop in a thread of its own, so that it works inside a notebook, while `watch` is called in the caller's.

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
from labkit.teachers.labelling.answers import assemble
from labkit.teachers.labelling.journal import Journal
from labkit.teachers.labelling.loop import Loop
from labkit.teachers.labelling.plan import READ, LabelPlan
from labkit.teachers.labelling.progress import Progress, Report
from labkit.teachers.labelling.settings import hidden

LATER = "What was answered is kept: run the same again to go on where it stopped."
MOST_KEPT = 64 << 20  # bytes of disk held in reserve


def run(plan: LabelPlan, *, terms: str = "", watch: Callable[[Progress], None] | None = None) -> Report:
    """Send what is to be sent, and write the answers; `terms="read"` says that you read the provider's terms of use and that they allow
    what you mean to do. One that is interrupted waits for what is under way, unless one interrupts again. Raises `LabError` if no endpoint
    can be used or the disk is full; what was answered is kept."""
    if terms != READ:
        raise LabError(f"{plan.question()} Say so with terms='read' (--terms read): it is kept with the answers.")
    began, said = time.monotonic(), queue.SimpleQueue[Progress | None]()
    settings = plan.settings
    keys = {settings.secret(url) for url in settings.endpoints}
    trouble: BaseException | None = None

    with Journal(plan.answers, _reserve(plan), lambda text: hidden(text, keys)) as journal:
        plan = plan.looked_up()  # now that nobody else can add to it
        job = Loop(plan, journal, said.put)
        if plan.todo:
            trouble = _in_thread(job, said, watch)
        found = assemble(plan, journal.path, job.failed)
        if watch and plan.todo and trouble is None:
            watch(job.progress())
    if trouble is not None:
        raise trouble
    if job.fatal:
        raise LabError(f"{job.fatal} {LATER}")
    money = job.spent.money(settings)
    return Report(plan.answers, len(plan.requests), *found, job.stopped, job.spent, money, job.again, time.monotonic() - began)


def _in_thread(job: Loop, said: queue.SimpleQueue, watch: Callable[[Progress], None] | None) -> BaseException | None:
    """Run the job's loop, and hand what it tells to `watch` here. What went wrong in either is returned once the loop has ended."""
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
            said.put(None)

    def call(what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(what)

    thread = threading.Thread(target=body, name="labelling", daemon=True)
    thread.start()
    interrupted = ended = False
    while not ended:
        try:
            told = said.get()
            ended = told is None
            if told is not None and watch and not trouble:
                watch(told)
        except KeyboardInterrupt:
            if interrupted:
                call(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
            else:
                call(lambda: job.stop("interrupted"))
                call(lambda: job.note("Stopping: what is under way is paid for, and waited for. Interrupt again to give it up."))
            interrupted = True
        except Exception as error:  # of `watch`
            trouble.append(error)
            call(lambda: job.stop("its watcher failed"))
    thread.join()
    return trouble[0] if trouble else None


def _reserve(plan: LabelPlan) -> int:
    """Bytes that all answers under way could fill, journal rows with their alternatives and all."""
    settings = plan.settings
    longest = max((len(plan.text_of(place).encode()) for place in plan.todo), default=0)
    token = 8 + (0 if settings.logprobs is None else 80 + 40 * settings.logprobs)
    return min(MOST_KEPT, len(settings.endpoints) * settings.concurrency * (2_000 + 2 * longest + token * settings.max_tokens))
