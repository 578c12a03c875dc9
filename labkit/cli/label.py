"""`labkit label`: have a teacher behind an endpoint answer prompts. Two questions are asked before anything is sent."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.errors import LabError
from labkit.teachers import labelling
from labkit.teachers.labelling.plan import READ, LabelPlan, plan
from labkit.teachers.labelling.settings import EMPTY, KEY_ENV

if TYPE_CHECKING:
    from labkit.teachers.labelling.progress import Progress

HELP = "have a teacher behind an endpoint answer your prompts"
LINE_EVERY = 5.0  # seconds between lines of progress


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompts", help="as for `labkit distill --data`: JSONL, CSV, parquet, an example")
    parser.add_argument("answers", type=Path, help="file for the answers (JSONL); the journal is kept beside it")
    parser.add_argument(
        "--endpoint", action="append", required=True, metavar="URL", help="an OpenAI-compatible server; repeat for more with the same model"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="the server's name of the model")
    parser.add_argument("--system", default="", metavar="TEXT", help="a system message before every prompt")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="of sampling (default: 0, the likeliest answer)")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="answers to each prompt (default: 1)")
    parser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="the most tokens of an answer, with its thinking (default: 256)"
    )
    parser.add_argument("--logprobs", type=int, metavar="K", help="also ask for logprobs, with K alternatives per token, if offered")
    parser.add_argument("--concurrency", type=int, default=8, metavar="N", help="requests at a time at each endpoint (default: 8)")
    parser.add_argument("--per-minute", type=float, metavar="N", help="the most requests per minute at each endpoint")
    parser.add_argument("--price-in", type=float, metavar="X", help="price of a million input tokens")
    parser.add_argument("--price-out", type=float, metavar="X", help="price of a million output tokens")
    parser.add_argument("--ceiling-tokens", type=int, metavar="N", help="stop before the job uses more tokens, input and output")
    parser.add_argument("--ceiling-money", type=float, metavar="X", help="stop before the job costs more (needs both prices)")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds for one answer (default: 120)")
    parser.add_argument("--tries", type=int, default=6, metavar="N", help="times that a request is sent before it fails (default: 6)")
    parser.add_argument("--ask-again", choices=(EMPTY,), default="", help="send the requests again that got an empty answer")
    parser.add_argument(
        "--key-env",
        action="append",
        metavar="NAME",
        help=f"environment variable with the key, one for all endpoints or one each (default: {KEY_ENV})",
    )
    parser.add_argument("--terms", choices=(READ,), help="confirm that you read the provider's terms of use and may use the answers")
    parser.add_argument("--network", action="store_true", help="allow the prompts to be a data set of the Hugging Face hub")
    parser.add_argument("--yes", action="store_true", help="do not ask before sending")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be sent and what it may cost")


def run(options: argparse.Namespace) -> int:
    """Returns exit code 0 if every request has its answer, 1 if some have none, 130 if the user interrupted."""
    names = ("model", "system", "temperature", "samples", "max_tokens", "logprobs", "concurrency", "per_minute", "price_in", "price_out")
    names += ("ceiling_tokens", "ceiling_money", "timeout", "tries", "ask_again", "network")  # type: ignore[assignment]
    chosen = {name: getattr(options, name) for name in names}
    job = plan(options.prompts, options.answers, endpoints=options.endpoint, key_env=options.key_env or (KEY_ENV,), **chosen)
    print(job, flush=True)
    if options.dry_run:
        return 0
    if job.todo:
        _ask(job, options)
    report = labelling.run(job, terms=READ, watch=_Lines())
    print(report)
    return 130 if report.stopped == "interrupted" else 1 if report.failed or report.left else 0


def _ask(job: LabelPlan, options: argparse.Namespace) -> None:
    """Ask the two questions that only the user can answer. Raises `LabError` if an answer is no."""
    if not (options.terms and options.yes) and not sys.stdin.isatty():
        raise LabError(f"nothing was sent, since there is no terminal to ask in. {job.question()} If so, add --terms read --yes.")
    if not options.terms and _answer(f"{job.question()}\nType 'read' to continue: ") != READ:
        raise LabError("nothing was sent: run the command again when you have read the terms.")
    if not options.yes and _answer(f"Send {len(job.todo):,} requests? [y/N] ") not in ("y", "yes"):
        raise LabError("nothing was sent: the answer was not y.")


def _answer(question: str) -> str:
    try:
        return input(question).strip().lower()
    except EOFError:
        return ""


class _Lines:
    """Prints a line of progress every few seconds, and notes at once."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.note or time.monotonic() - self.last >= LINE_EVERY or progress.done == progress.total:
            print(progress, flush=True)
            self.last = time.monotonic() if not progress.note else self.last
