"""A teacher behind an endpoint labels your prompts: any OpenAI-compatible server, hosted or your own (no torch).

    job = labelling.plan("prompts.jsonl", "answers.jsonl", endpoints=["http://127.0.0.1:8000/v1"], model="smollm2")
    print(job)                                # requests, tokens, money, what leaves the machine; nothing is sent yet
    report = labelling.run(job, terms="read", watch=print)

What was answered is in a journal beside the answers at once, so a job that is killed or run again loses nothing and pays nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit.tasks.custom.sources import Source
from labkit.teachers.labelling.plan import LabelPlan, Spent, plan
from labkit.teachers.labelling.progress import Progress, Report
from labkit.teachers.labelling.settings import Settings


def run(plan: LabelPlan, *, terms: str = "", watch: Callable[[Progress], None] | None = None) -> Report:
    """Send what a plan is to send, and write the answers: see `running.run`, which brings the `openai` client."""
    from labkit.teachers.labelling import running

    return running.run(plan, terms=terms, watch=watch)


def label(
    prompts: Source,
    answers: str | Path,
    *,
    endpoints: str | Sequence[str],
    model: str,
    terms: str = "",
    watch: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> Report:
    """Plan and run in one: a file or list of prompts in, a file of answers out. `watch` gets the progress about once a second."""
    return run(plan(prompts, answers, endpoints=endpoints, model=model, **settings), terms=terms, watch=watch)
