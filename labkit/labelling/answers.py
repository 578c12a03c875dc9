"""The answers of a job, put together from its journal in the order of the prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.errors import DataError
from labkit.labelling.journal import rows
from labkit.labelling.plan import Plan, answered
from labkit.labelling.prompts import Prompt
from labkit.paths import write_whole

NOT_ASKED = "not asked yet"
CUT = "length"  # what servers call an answer that ran into max_tokens


def assemble(plan: Plan, journal: Path, failed: Mapping[int, str]) -> tuple[int, int, tuple[tuple[int, int, str], ...]]:
    """Write the answers, whole or not at all. Returns how many there are, how many of them were cut off, and which there are not, with
    line, sample and reason; these stand in a file beside the answers too."""
    starts = {row["key"]: start for start, row in rows(journal) if answered(row)}
    samples, written, cut = plan.settings.samples, 0, 0
    missing: list[tuple[int, int, str]] = []
    reasons = {plan.requests[place]: reason for place, reason in failed.items()}

    def lines() -> Iterator[str]:
        nonlocal written, cut
        with journal.open("rb") as file:
            for place, key in enumerate(plan.requests):
                prompt, sample = plan.prompts.rows[place // samples], place % samples
                reason = reasons.get(key, NOT_ASKED)
                if key in starts:
                    file.seek(starts[key])
                    row = json.loads(file.readline())
                    reason = _useless(row)
                    if not reason:
                        written, cut = written + 1, cut + (row["finish"] == CUT)
                        yield json.dumps(_answer(plan, prompt, sample, row), ensure_ascii=False) + "\n"
                if reason:
                    missing.append((prompt.line, sample, reason))

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(lines())

    beside = plan.answers.with_name(plan.answers.name + ".failed")
    try:
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
    return written, cut, tuple(missing)


def _useless(row: Mapping[str, Any]) -> str:
    """Why an answer that was paid for is none to learn from, or ''."""
    if row["finish"] == "content_filter":
        return "the provider's filter held the answer back"
    return "" if row["response"].strip() else f"an empty answer (finish {row['finish']!r})"


def _answer(plan: Plan, prompt: Prompt, sample: int, row: Mapping[str, Any]) -> dict[str, Any]:
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
    return {"prompt": prompt.text, **prompt.fields, "response": row["response"], **told, "provenance": source}
