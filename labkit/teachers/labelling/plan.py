"""What a job will send, to whom, and what it may cost: worked out, and said, before anything leaves the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labkit.base.errors import LabError
from labkit.tasks.custom.rows import CustomRows, read_rows
from labkit.tasks.custom.sources import Source
from labkit.teachers.labelling.journal import Journal, rows
from labkit.teachers.labelling.settings import Settings, here, host_of

BYTES_A_TOKEN = 4  # of English, about; other scripts have more tokens
TEMPLATE = 8  # tokens that a chat template puts around a message, about
READ = "read"
CUT = "length"  # what servers call an answer that ran into max_tokens
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
}  # what a row of the journal has, if it is one


class Spent(NamedTuple):
    """Tokens read and written, as servers reported them (where they did not, the most that it can have been), and tokens of requests
    that came to nothing but may have been charged."""

    tokens_in: int = 0
    tokens_out: int = 0
    lost_in: int = 0
    lost_out: int = 0

    @property
    def tokens(self) -> int:
        return sum(self)

    def money(self, settings: Settings) -> float | None:
        return settings.money(self.tokens_in + self.lost_in, self.tokens_out + self.lost_out)

    def with_row(self, row: Mapping[str, Any]) -> Spent:
        """After one more row of the journal."""
        used, lost = (row.get(name) if _pair(row.get(name)) else (0, 0) for name in ("tokens", "lost"))
        return Spent(*(a + b for a, b in zip(self, (*used, *lost), strict=True)))  # type: ignore[misc]


class LabelPlan(NamedTuple):
    """A job before it is run. `print(plan)` says what it will do; `labelling.run(plan, terms="read")` does it.

    requests: the key of every request, in the order of prompts and samples. todo: where in `requests` those stand that are not
    answered yet; equal requests are sent once. spent: what the journal says was used up before.
    """

    prompts: CustomRows
    answers: Path
    settings: Settings
    requests: Sequence[str]
    todo: Sequence[int]
    spent: Spent

    def text_of(self, place: int) -> str:
        """The prompt of a request."""
        return self.prompts.rows[place // self.settings.samples].prompt

    @property
    def tokens_in(self) -> int:
        """Tokens that are still to be read by the teacher, about."""
        return sum(about(self.text_of(place)) for place in self.todo) + len(self.todo) * self._system

    @property
    def tokens_out(self) -> int:
        """Tokens that are still to be written, at most."""
        return len(self.todo) * self.settings.max_tokens

    @property
    def _system(self) -> int:
        return about(self.settings.system) if self.settings.system else 0

    def most(self, place: int, written: str | None = None) -> tuple[int, int]:
        """Tokens in and out of one request, at most, once it is known what was written too: a token is a byte or more."""
        read, limit = len(self.text_of(place).encode()) + len(self.settings.system.encode()) + 8 * TEMPLATE, self.settings.max_tokens
        return read, limit if written is None else min(limit, len(written.encode()) + 1)  # and the end mark

    def looked_up(self) -> LabelPlan:
        """The same with what the journal holds by now taken off."""
        seen, spent = set(), Spent()
        for _, row in rows(Journal(self.answers).path):
            spent = spent.with_row(row)
            if answered(row):
                seen.add(row["key"])
        todo = []
        for place, key in enumerate(self.requests):
            if key not in seen:
                seen.add(key)
                todo.append(place)
        return self._replace(todo=todo, spent=spent)

    def question(self) -> str:
        """What the user has to look up, since no program can."""
        hosts = ", ".join(host_of(url) for url in self.settings.endpoints if not here(url))
        whose = f"the terms of use of {hosts}" if hosts else f"the licence of {self.settings.model}"
        return f"Some providers and licences forbid training models on outputs. Read {whose} first: do they allow what you mean to do?"

    def __str__(self) -> str:
        return "\n".join([self._requests(), *self._cost(), *self._leaves()])

    def _requests(self) -> str:
        prompts, samples, all_of_them = len(self.prompts.rows), self.settings.samples, len(self.requests)
        told = f"{prompts:,} prompts in {self.prompts.source}"
        if broken := self.prompts.problems:
            listed = "; ".join(map(str, broken[:10]))
            told += f" ({len(broken):,} broken lines left out: {listed}{'; ...' if len(broken) > 10 else ''})"
        told += f", {samples} answers each" if samples > 1 else ""
        different = len(set(self.requests))
        parts = [f"{all_of_them - different:,} repeat another and are sent once"] if different < all_of_them else []
        parts += [f"{different - len(self.todo):,} are answered already"] if len(self.todo) < different else []
        return f"{told}: {all_of_them:,} requests" + "".join(f", {part}" for part in parts) + f"; {len(self.todo):,} to send."

    def _cost(self) -> list[str]:
        settings, tokens_in, tokens_out = self.settings, self.tokens_in, self.tokens_out
        lines = [f"About {tokens_in:,} tokens to be read and at most {tokens_out:,} written ({settings.max_tokens:,} an answer)."]
        money = settings.money(tokens_in, tokens_out)
        if money is None:
            lines.append("Money: not known, since no prices were given (--price-in and --price-out, of a million tokens).")
        else:
            prices = f"{settings.price_in:g} a million tokens read, {settings.price_out:g} written"
            lines.append(f"Money: at most about {money:,.4g}, in the currency of the prices ({prices}).")
        if self.spent.tokens:
            before = self.spent.money(settings)
            lines.append(f"Used up before: {self.spent.tokens:,} tokens" + (f", {before:,.4g} in money." if before is not None else "."))
        ceilings = [f"{settings.ceiling_tokens:,} tokens"] if settings.ceiling_tokens else []
        ceilings += [f"{settings.ceiling_money:,.4g} in money"] if settings.ceiling_money else []
        return lines + ([f"Stops before it has used up {' or '.join(ceilings)} in all."] if ceilings else [])

    def _leaves(self) -> list[str]:
        settings = self.settings
        fields = ["the prompt", *(["the system text"] if settings.system else []), "the model's name", "temperature", "max_tokens"]
        fields += ["top_logprobs"] if settings.logprobs is not None else []
        lines = [f"Sent with each request: {', '.join(fields)}; nothing else of a row, and no name of a file."]
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
    """Look at the prompts, which are read as `labkit distill` reads data, and at what the journal beside `answers` holds already; sends
    nothing. network: `prompts` may be a hub data set. `settings` are those of `Settings`."""
    chosen = Settings(endpoints=endpoints, model=model, **settings)  # type: ignore[arg-type]
    asked, target = read_rows(prompts, network=network), Path(answers)
    if isinstance(prompts, str | Path) and target.resolve() == Path(prompts).resolve():
        raise LabError(f"answers would replace the prompts in {target}: give them a name of their own.")
    if target.is_dir():
        raise LabError(f"{target} is a folder: name a file for the answers, such as {target / 'answers.jsonl'}.")
    journal = Journal(target).path
    if target.exists() and target.stat().st_size and not journal.exists():
        raise LabError(
            f"{target} is there already, and nothing was labelled into it (no {journal.name} is beside it), so the answers would replace "
            "what it holds: give them another name, or move it away."
        )
    requests = [chosen.key(row.prompt, sample) for row in asked.rows for sample in range(chosen.samples)]
    return LabelPlan(asked, target, chosen, requests, (), Spent()).looked_up()


def answered(row: Mapping[str, Any]) -> bool:
    """Whether a row of the journal holds an answer, that of its `key`."""
    return row.keys() >= ANSWER and isinstance(row["response"], str)


def about(text: str) -> int:
    """How many tokens a message has, roughly."""
    return math.ceil(len(text.encode()) / BYTES_A_TOKEN) + TEMPLATE


def _pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(n, int) and n >= 0 for n in value)
