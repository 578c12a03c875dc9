"""Writes the answers of a job from its journal, in the order of the prompts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base.chat import to_json
from labkit.base.errors import DataError
from labkit.base.files import write_whole
from labkit.base.thinking import OPENING, Thought, split_thinking
from labkit.tasks.custom.rows import Row
from labkit.teachers.labelling.journal import rows
from labkit.teachers.labelling.plan import CUT, FILTERED, LabelPlan, answered, empty
from labkit.teachers.labelling.replies import CALLS

OURS = ("response", "logprobs", "reasoning", "provenance")  # the fields that labelling adds to a row
REFUSED = "the model refused:"


class _NoAnswer(Exception):
    """There is no answer to write."""


class Assembled(NamedTuple):
    """What `assemble` has written."""

    written: int  # answers in the file
    cut: int  # of these, the answers that were cut off at max_tokens
    cut_thoughts: int  # requests without an answer, because the thought before it was cut off at max_tokens
    empty: int  # requests without an answer, because the model ended it before it had a text
    failed: tuple[tuple[int, int, str], ...]  # line, sample and reason of each request without a usable answer
    left: int  # requests not sent yet


def assemble(plan: LabelPlan, journal: Path, failed: Mapping[int, str]) -> Assembled:
    """Write the answers. The file is replaced as a whole, and never by an empty one. Failed requests go into a file next to it.

    journal: path of the journal.
    failed: reasons of failed requests, by their place in the plan.

    Raises `DataError` if the file cannot be written.
    """
    starts, unmarked = _found(plan, journal)
    samples, written, cut, thoughts, ended, left = plan.settings.samples, 0, 0, 0, 0, 0
    missing: list[tuple[int, int, str]] = []
    reasons = {plan.requests[place]: reason for place, reason in failed.items()}

    def lines() -> Iterator[str]:
        nonlocal written, cut, thoughts, ended, left
        with journal.open("rb") as file:
            for place, key in enumerate(plan.requests):
                prompt, sample = plan.prompts.rows[place // samples], place % samples
                reason = reasons.get(key, "")
                left += key not in starts and not reason
                if key in starts:
                    file.seek(starts[key])
                    row = json.loads(file.readline())
                    parts = parts_of(row, unmarked)
                    thoughts, ended = thoughts + parts.cut, ended + empty(row)
                    reason = useless(row, parts, plan.settings.max_tokens)
                    if not reason:
                        written, cut = written + 1, cut + (row["finish"] == CUT)
                        yield json.dumps(_answer(plan, prompt, sample, row, parts), ensure_ascii=False, default=str) + "\n"
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
    return Assembled(written, cut, thoughts, ended, tuple(missing), left)


def parts_of(row: Mapping[str, Any], unmarked: bool = False) -> Thought:
    """Reasoning and answer of a row of the journal. A server's own reasoning is kept.

    unmarked: whether the first mark of a thought is missing in this job's answers, so that a cut thought has no mark at all.
    """
    text, own, limited = row["response"], row.get("reasoning", ""), row["finish"] == CUT
    if own and not text.lstrip().startswith(OPENING):
        return Thought(own, text, limited and not text.strip())
    thought = split_thinking(text)
    if unmarked and limited and not thought.reasoning:
        thought = Thought(text, "")
    return Thought(own or thought.reasoning, thought.answer, limited and not thought.answer.strip())


def _found(plan: LabelPlan, journal: Path) -> tuple[dict[str, int], bool]:
    """Where the answers begin in the journal, by their keys; and whether most thoughts of this job have no first mark, which some chat
    templates write."""
    starts, asked, votes = {}, set(plan.requests), 0
    for start, row in rows(journal):
        if row and answered(row):
            starts[row["key"]] = start
            if row["key"] in asked and row["finish"] != CUT:
                marked = "reasoning" in row or row["response"].lstrip().startswith(OPENING)
                votes += 1 if not marked and split_thinking(row["response"]).reasoning else -1
    return starts, votes > 0


def useless(row: Mapping[str, Any], parts: Thought, limit: int) -> str:
    """Why an answer cannot be used for training, or '' if it can."""
    if row["finish"] == FILTERED:
        return f"{REFUSED} the provider's filter withheld the answer"
    if row.get("refusal"):
        return f"{REFUSED} {' '.join(row['refusal'].split())[:200]}"
    if row["finish"] == CALLS:
        return "a call of a tool in place of an answer"
    if parts.answer.strip():
        return ""
    if parts.cut:
        return f"the thought was cut at {limit:,} tokens: raise --max-tokens"
    return f"{'a thought without an' if parts.reasoning else 'an empty'} answer (finish {row['finish']!r})"


def _answer(plan: LabelPlan, prompt: Row, sample: int, row: Mapping[str, Any], parts: Thought) -> dict[str, Any]:
    """A row of the answers file: the prompt with its other fields, the response, and its provenance."""
    settings = plan.settings
    extra = {"logprobs": row.get("logprobs"), "reasoning": parts.reasoning}
    source = {
        "model": settings.model,
        "served": row["served"],
        "endpoint": row["endpoint"],
        "temperature": row.get("temperature", settings.temperature),  # None if the server takes none
        "max_tokens": row.get("max_tokens", settings.max_tokens),
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
        "prompt": to_json(prompt.prompt),
        **{k: v for k, v in prompt.fields.items() if k not in ("prompt", *OURS)},
        "response": parts.answer,
        **{name: value for name, value in extra.items() if value},
        "provenance": source,
    }
