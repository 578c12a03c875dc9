"""Label prompts with a teacher behind an endpoint: any OpenAI-compatible server, hosted or local (no torch).

    job = labelling.plan("prompts.jsonl", "answers.jsonl", endpoints=["http://127.0.0.1:8000/v1"], model="smollm2")
    print(job)                                # requests, tokens, money, what leaves the machine; nothing is sent yet
    report = labelling.run(job, terms="read", watch=print)

Each answer is written at once into a journal next to the answers. So a job that is killed or run again loses nothing and pays for no
request twice.
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
    """Send the requests of a plan and write the answers; see `running.run`. This imports the `openai` client."""
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
    """Label prompts: `plan` and `run` in one call.

    prompts: a file, an example or a list of prompts.
    answers: the file to write.
    endpoints: base addresses of servers of the same model.
    model: its name at the servers.
    terms: "read" if you have read the provider's terms of use; see `running.run`.
    watch: gets the progress about once a second.
    settings: those of `Settings`.
    """
    return run(plan(prompts, answers, endpoints=endpoints, model=model, **settings), terms=terms, watch=watch)
