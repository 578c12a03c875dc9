"""The answers of a job, put together from its journal in the order of the prompts."""

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
    """There is nothing to write."""


class Assembled(NamedTuple):
    """written: answers in the file. cut: those of them that ran into max_tokens. failed: line, sample and reason of every request without
    an answer to learn from. left: how many were not asked yet."""

    written: int
    cut: int
    failed: tuple[tuple[int, int, str], ...]
    left: int


def assemble(plan: LabelPlan, journal: Path, failed: Mapping[int, str]) -> Assembled:
    """Write the answers, whole or not at all, and never none in place of some; what failed stands in a file beside them too."""
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

    beside = plan.answers.with_name(plan.answers.name + ".failed")
    try:
        with contextlib.suppress(_NoAnswer):
            write_whole(plan.answers, write)
        if missing:
            told = [json.dumps({"line": line, "sample": sample, "reason": reason}) + "\n" for line, sample, reason in missing]
            write_whole(beside, lambda path: path.write_text("".join(told), encoding="utf-8"))
        else:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write {plan.answers}: {error.strerror or error}. Every answer is safe in {journal}: make room and run the same again."
        ) from None
    return Assembled(written, cut, tuple(missing), left)


def _useless(row: Mapping[str, Any]) -> str:
    """Why an answer that was paid for is none to learn from, or ''."""
    if row["finish"] == "content_filter":
        return "the provider's filter held the answer back"
    return "" if row["response"].strip() else f"an empty answer (finish {row['finish']!r})"


def _answer(plan: LabelPlan, prompt: Row, sample: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the answers: the prompt and its other fields, the response, and where it comes from."""
    settings = plan.settings
    told = {name: row[name] for name in ("logprobs", "reasoning") if name in row}
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
        **told,
        "provenance": source,
    }
