"""Writes the answers of a job from its journal, in the order of the prompts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base.errors import DataError
from labkit.base.files import write_whole
from labkit.tasks.custom.rows import Row
from labkit.teachers.labelling.journal import rows
from labkit.teachers.labelling.plan import CUT, LabelPlan, answered

OURS = ("response", "logprobs", "reasoning", "provenance")  # the fields that labelling adds to a row


class _NoAnswer(Exception):
    """There is no answer to write."""


class Assembled(NamedTuple):
    """What `assemble` has written."""

    written: int  # answers in the file
    cut: int  # of these, the answers that were cut off at max_tokens
    failed: tuple[tuple[int, int, str], ...]  # line, sample and reason of each request without a usable answer
    left: int  # requests not sent yet


def assemble(plan: LabelPlan, journal: Path, failed: Mapping[int, str]) -> Assembled:
    """Write the answers. The file is replaced as a whole, and never by an empty one. Failed requests go into a file next to it.

    journal: path of the journal.
    failed: reasons of failed requests, by their place in the plan.

    Raises `DataError` if the file cannot be written.
    """
    starts = {row["key"]: start for start, row in rows(journal) if answered(row)}
    samples, written, cut, left = plan.settings.samples, 0, 0, 0
    missing: list[tuple[int, int, str]] = []
    reasons = {plan.requests[place]: reason for place, reason in failed.items()}

    def lines() -> Iterator[str]:
        nonlocal written, cut, left
        with journal.open("rb") as file:
            for place, key in enumerate(plan.requests):
                prompt, sample = plan.prompts.rows[place // samples], place % samples
                reason = reasons.get(key, "")
                left += key not in starts and not reason
                if key in starts:
                    file.seek(starts[key])
                    row = json.loads(file.readline())
                    reason = _useless(row)
                    if not reason:
                        written, cut = written + 1, cut + (row["finish"] == CUT)
                        yield json.dumps(_answer(plan, prompt, sample, row), ensure_ascii=False, default=str) + "\n"
                if reason:
                    missing.append((prompt.line, sample, reason))

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(lines())
        if not written:
            raise _NoAnswer

    failures = plan.answers.with_name(plan.answers.name + ".failed")
    try:
        with contextlib.suppress(_NoAnswer):
            write_whole(plan.answers, write)
        if missing:
            text = [json.dumps({"line": line, "sample": sample, "reason": reason}) + "\n" for line, sample, reason in missing]
            write_whole(failures, lambda path: path.write_text("".join(text), encoding="utf-8"))
        else:
            failures.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write {plan.answers}: {error.strerror or error}. All answers are in {journal}: make room and run the same again."
        ) from None
    return Assembled(written, cut, tuple(missing), left)


def _useless(row: Mapping[str, Any]) -> str:
    """Why an answer cannot be used for training, or '' if it can."""
    if row["finish"] == "content_filter":
        return "the provider's filter withheld the answer"
    return "" if row["response"].strip() else f"an empty answer (finish {row['finish']!r})"


def _answer(plan: LabelPlan, prompt: Row, sample: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the answers file: the prompt with its other fields, the response, and its provenance."""
    settings = plan.settings
    extra = {name: row[name] for name in ("logprobs", "reasoning") if name in row}
    source = {
        "model": settings.model,
        "served": row["served"],
        "endpoint": row["endpoint"],
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        **({"system": settings.system} if settings.system else {}),
        "sample": sample,
        "finish": row["finish"],
        "tokens_in": row["tokens"][0],
        "tokens_out": row["tokens"][1],
        "tokens_counted": row["counted"],
        "at": row["at"],
        "terms": row["terms"],
        "request": row["key"],
    }
    return {
        "prompt": prompt.prompt,
        **{k: v for k, v in prompt.fields.items() if k not in ("prompt", *OURS)},
        "response": row["response"],
        **extra,
        "provenance": source,
    }
