"""The plan of a job: what it will send, to whom, and what it may cost. It is made before anything is sent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base.chat import messages_of
from labkit.base.errors import LabError
from labkit.base.files import left_out
from labkit.base.thinking import split_thinking
from labkit.tasks.custom.rows import CustomRows, read_rows
from labkit.tasks.custom.sources import Source
from labkit.teachers.labelling.journal import Journal, rows
from labkit.teachers.labelling.replies import CALLS
from labkit.teachers.labelling.settings import Settings, here, host_of

BYTES_A_TOKEN = 4  # about, for English; other scripts need more tokens
TEMPLATE = 8  # tokens that a chat template adds to a message, about
READ = "read"
CUT = "length"  # finish reason of an answer that was cut off at max_tokens
FILTERED = "content_filter"  # of one that the provider withheld
ANSWER = {
    "key",
    "response",
    "finish",
    "tokens",
    "counted",
    "served",
    "endpoint",
    "at",
    "terms",
}  # fields of a journal row that is an answer


class Spent(NamedTuple):
    """Tokens used."""

    tokens_in: int = 0  # read by the model, as servers reported them; otherwise the maximum
    tokens_out: int = 0  # written by the model
    lost_in: int = 0  # of failed requests that may have been billed, at most
    lost_out: int = 0

    @property
    def tokens(self) -> int:
        return sum(self)

    def money(self, settings: Settings) -> float | None:
        return settings.money(self.tokens_in + self.lost_in, self.tokens_out + self.lost_out)

    def with_row(self, row: Mapping[str, Any]) -> Spent:
        """The sum with one more row of the journal."""
        used, lost = (row.get(name) if _pair(row.get(name)) else (0, 0) for name in ("tokens", "lost"))
        return Spent(*(a + b for a, b in zip(self, (*used, *lost), strict=True)))  # type: ignore[misc]


class LabelPlan(NamedTuple):
    """A job before it runs. `print(plan)` shows what it will do; `labelling.run(plan, terms="read")` runs it."""

    prompts: CustomRows
    answers: Path
    settings: Settings
    requests: Sequence[str]  # the key of each request, in the order of prompts and samples
    todo: Sequence[int]  # places in `requests` that are not answered yet; equal requests are sent once
    spent: Spent  # tokens used before, by the journal
    in_flight: Sequence[tuple[int, int]] = ()  # of `spent`, the most tokens of each request that has no outcome in the journal
    damaged: Sequence[int] = ()  # lines of the journal whose row is damaged; an answer in one counts as not given
    other: bool = False  # whether another job was at work on these answers when the plan was made

    def text_of(self, place: int) -> str:
        """The prompt of the request at `place`."""
        return self.prompts.rows[place // self.settings.samples].prompt

    @property
    def tokens_in(self) -> int:
        """Tokens that the teacher still has to read, about."""
        return sum(about(self.text_of(place)) for place in self.todo) + len(self.todo) * self._system

    @property
    def tokens_out(self) -> int:
        """Tokens that the teacher still has to write, at most."""
        return len(self.todo) * self.settings.max_tokens

    @property
    def _system(self) -> int:
        return about(self.settings.system) if self.settings.system else 0

    def most(self, place: int, written: str | None = None) -> tuple[int, int]:
        """The most tokens in and out of one request, as a token has at least one byte. `written` is its answer, if that is known."""
        prompt, limit = self.text_of(place), self.settings.max_tokens
        read = len(prompt.encode()) + len(self.settings.system.encode()) + 8 * TEMPLATE * len(messages_of(prompt))
        return read, limit if written is None else min(limit, len(written.encode()) + 1)  # 1 for the end token

    def looked_up(self) -> LabelPlan:
        """The plan without the requests that the journal has answers to by now. An answer to a lower `max_tokens` that was not cut off is
        kept too; its request then has the key of that answer."""
        seen, spent = set(), Spent()
        whole: dict[int, set[str]] = {}  # keys of such answers, by their limit
        flying: dict[str, tuple[int, int]] = {}  # by their keys, the requests that were sent and have no outcome yet
        killed: list[tuple[int, int]] = []  # those that never will have one
        damaged = []
        for line, (_, row) in enumerate(rows(Journal(self.answers).path), 1):
            if row is None:
                damaged.append(line)
                continue
            spent, key = spent.with_row(row), str(row.get("key"))
            if key in flying and ("sent" in row or "lost" in row or "tokens" in row):
                before = flying.pop(key)
                killed += [before] if "sent" in row else []
            if _pair(row.get("sent")):
                flying[key] = tuple(row["sent"])
            if answered(row):
                seen.discard(row["key"])
                if self.settings.ask_again and empty(row):
                    continue
                seen.add(row["key"])
                if 0 < (limit := row.get("max_tokens", 0)) < self.settings.max_tokens and row["finish"] != CUT:
                    whole.setdefault(limit, set()).add(row["key"])
        requests = list(self.requests)
        for limit, keys in whole.items():
            lower = dataclasses.replace(self.settings, max_tokens=limit)
            for place, key in enumerate(requests):
                if key not in seen and (kept := lower.key(self.text_of(place), place % self.settings.samples)) in keys:
                    requests[place] = kept
        todo = []
        for place, key in enumerate(requests):
            if key not in seen:
                seen.add(key)
                todo.append(place)
        killed += flying.values()
        lost_in, lost_out = (sum(tokens) for tokens in zip((spent.lost_in, spent.lost_out), *killed))
        spent = spent._replace(lost_in=lost_in, lost_out=lost_out)
        return self._replace(requests=requests, todo=todo, spent=spent, in_flight=killed, damaged=damaged)

    def question(self) -> str:
        """The question about the terms of use, which only the user can answer."""
        hosts = ", ".join(host_of(url) for url in self.settings.endpoints if not here(url))
        whose = f"the terms of use of {hosts}" if hosts else f"the licence of {self.settings.model}"
        return f"Some providers and licences forbid training models on outputs. Read {whose} first: do they allow your use?"

    def __str__(self) -> str:
        return "\n".join([self._requests(), *self.damage(), *self._cost(), *self._leaves()])

    def _requests(self) -> str:
        prompts, samples, all_of_them = len(self.prompts.rows), self.settings.samples, len(self.requests)
        text = f"{prompts:,} prompts in {self.prompts.source}"
        if broken := self.prompts.problems:
            listed = "; ".join(map(str, broken[:10]))
            text += f" ({len(broken):,} invalid lines skipped: {listed}{'; ...' if len(broken) > 10 else ''})"
        text += f", {samples} answers each" if samples > 1 else ""
        different = len(set(self.requests))
        parts = [f"{all_of_them - different:,} repeat another and are sent once"] if different < all_of_them else []
        parts += [f"{different - len(self.todo):,} are answered already"] if len(self.todo) < different else []
        return f"{text}: {all_of_them:,} requests" + "".join(f", {part}" for part in parts) + f"; {len(self.todo):,} to send."

    def damage(self) -> list[str]:
        """What is wrong in the journal, and what to do."""
        told = left_out(Journal(self.answers).path, self.damaged)
        return [f"{told} An answer that stood there is requested, and paid, again."] if told else []

    def _cost(self) -> list[str]:
        settings, tokens_in, tokens_out = self.settings, self.tokens_in, self.tokens_out
        lines = [f"Tokens: about {tokens_in:,} read and at most {tokens_out:,} written ({settings.max_tokens:,} an answer)."]
        money = settings.money(tokens_in, tokens_out)
        if money is None:
            lines.append("Money: not known, because no prices were given (--price-in and --price-out, of a million tokens).")
        else:
            prices = f"{settings.price_in:g} a million tokens read, {settings.price_out:g} written"
            lines.append(f"Money: at most about {money:,.4g}, in the currency of the prices ({prices}).")
        if self.spent.tokens:
            before = self.spent.money(settings)
            lines.append(f"Used before: {self.spent.tokens:,} tokens" + (f", {before:,.4g} in money." if before is not None else "."))
        if self.other:
            lines.append(f"Another job is at work on {self.answers}, and answers some of these requests: wait until it has ended.")
        if self.in_flight:
            when = "are in flight in the other job" if self.other else "were in flight when the job was killed"
            when += ", or have a damaged row" if self.damaged else ""
            most = sum(map(sum, self.in_flight))
            lines.append(f"{len(self.in_flight):,} requests {when}: up to {most:,} of these tokens may have been billed.")
        ceilings = [f"{settings.ceiling_tokens:,} tokens"] if settings.ceiling_tokens else []
        ceilings += [f"{settings.ceiling_money:,.4g} in money"] if settings.ceiling_money else []
        return lines + ([f"Stops before it has used {' or '.join(ceilings)} in all."] if ceilings else [])

    def _leaves(self) -> list[str]:
        settings = self.settings
        fields = ["the prompt", *(["the system text"] if settings.system else []), "the model's name", "temperature", "max_tokens"]
        fields += ["top_logprobs"] if settings.logprobs is not None else []
        lines = [f"Sent with each request: {', '.join(fields)}; nothing else of a row, and no file name."]
        for url, name in settings.names_of_keys().items():
            key = f"with the key in ${name}" if settings.secret(url) else f"without a key (${name} is not set)" if name else "without a key"
            lines.append(f"  {url}, {key}" + ("; it stays on this machine." if here(url) else "; it leaves this machine."))
        return lines


def plan(
    prompts: Source,
    answers: str | Path,
    *,
    endpoints: str | Sequence[str],
    model: str,
    network: bool = False,
    **settings: Any,
) -> LabelPlan:
    """Plan a job: read the prompts and the journal. Nothing is sent.

    prompts: a source of rows, as for `read_rows`.
    answers: the file to write; the journal is next to it.
    endpoints: base addresses of servers of the same model.
    model: its name at the servers.
    network: whether `prompts` may be fetched as a hub data set.
    settings: those of `Settings`.

    Raises `LabError` for invalid settings or prompts, or if the answers would replace another file.
    """
    chosen = Settings(endpoints=endpoints, model=model, **settings)  # type: ignore[arg-type]
    asked, target = read_rows(prompts, network=network), Path(answers)
    if isinstance(prompts, str | Path) and target.resolve() == Path(prompts).resolve():
        raise LabError(f"the answers would replace the prompts in {target}: use another file name for the answers.")
    if target.is_dir():
        raise LabError(f"{target} is a folder: name a file for the answers, such as {target / 'answers.jsonl'}.")
    journal = Journal(target)
    if target.exists() and target.stat().st_size and not journal.path.exists():
        raise LabError(
            f"{target} exists already and is no file of answers (there is no {journal.path.name}), so its content would be lost: use "
            "another name for the answers, or move the file away."
        )
    requests = [chosen.key(row.prompt, sample) for row in asked.rows for sample in range(chosen.samples)]
    return LabelPlan(asked, target, chosen, requests, (), Spent(), other=journal.in_use()).looked_up()


def answered(row: Mapping[str, Any]) -> bool:
    """Whether a row of the journal is an answer to the request of its `key`."""
    return row.keys() >= ANSWER and isinstance(row["response"], str)


def empty(row: Mapping[str, Any]) -> bool:
    """Whether the model ended the answer of a journal row without a text, so that another try may give one."""
    ended = row["finish"] not in (CUT, CALLS, FILTERED) and not row.get("refusal")
    return ended and not split_thinking(row["response"]).answer.strip()


def about(text: str) -> int:
    """Rough number of tokens in a message."""
    return math.ceil(len(text.encode()) / BYTES_A_TOKEN) + TEMPLATE


def _pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(n, int) and n >= 0 for n in value)
