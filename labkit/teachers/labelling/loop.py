"""The loop of a job: it keeps requests under way at all endpoints, writes each outcome at once, and keeps the ceilings."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from labkit.base.chat import to_json
from labkit.teachers.labelling.answers import REFUSED, parts_of, useless
from labkit.teachers.labelling.endpoints import Endpoint
from labkit.teachers.labelling.journal import Journal
from labkit.teachers.labelling.plan import CUT, READ, LabelPlan
from labkit.teachers.labelling.progress import Progress
from labkit.teachers.labelling.replies import Again, EndpointAnswer, Gone, Refused, same_model

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds between tries, doubled each time
WAITS = 30  # how often a server may ask one request to wait
GIVE_UP = 20  # failed requests in a row after which an endpoint is not used any more
FEW = 5  # responses of another kind, such as web pages, after which an endpoint that never answered is not used any more
TELL_EVERY = 1.0  # seconds between two reports of progress
RECENT = 30.0  # seconds over which the rate is measured


class _Ask:
    """One request under way or to be sent again. `most` are its tokens in and out at most, `others` the answers before it first failed."""

    __slots__ = ("most", "others", "place", "tries", "waits")

    def __init__(self, place: int, most: tuple[int, int]) -> None:
        self.place, self.most, self.tries, self.waits, self.others = place, most, 0, 0, 0


class Loop:
    """The state of a running job. Only the loop's thread may use it; call `stop` and `note` from other threads through the event loop."""

    def __init__(self, plan: LabelPlan, journal: Journal, tell: Callable[[Progress], None]) -> None:
        self.plan, self.settings, self.journal, self.tell = plan, plan.settings, journal, tell
        self.fresh = deque(plan.todo)
        self.later: list[tuple[float, int, _Ask]] = []  # a heap by the earliest time to send
        self.order = itertools.count()
        self.under_way: dict[int, _Ask] = {}
        self.spent, self.reserved = plan.spent, (0, 0)
        self.failed: dict[int, str] = {}
        self.earlier = len(set(plan.requests)) - len(plan.todo)
        self.done, self.again, self.trouble = 0, 0, ""
        self.useless = 0  # answers in a row
        self.stopped, self.fatal = "", ""
        self.stamps: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self.endpoints: list[Endpoint] = []
        self.bell = asyncio.Event()
        self.notes: set[str] = set()  # notes that were shown already

    # ---- from outside ------------------------------------------------------------------------------------------------

    def stop(self, why: str) -> None:
        """Send nothing more, and wait for the requests under way. `why` is for the report."""
        self.stopped = self.stopped or why
        self.ring()

    async def run(self) -> None:
        """Send all requests of the plan; return when all are answered, or the job has stopped."""
        self.endpoints = [Endpoint(url, self.settings, self.note) for url in self.settings.endpoints]
        self._write({"started": moment(), "model": self.settings.model, "endpoints": list(self.settings.endpoints), "terms": READ})
        ticker = asyncio.create_task(self._tick())
        try:
            async with asyncio.TaskGroup() as group:
                for endpoint in self.endpoints:
                    for place in range(min(self.settings.concurrency, max(1, len(self.plan.todo)))):
                        group.create_task(self._work(endpoint, place))
        finally:
            ticker.cancel()
            for endpoint in self.endpoints:
                await endpoint.close()
        gone = [endpoint.gone for endpoint in self.endpoints]
        if all(gone) and (self.fresh or self.later):
            self.fatal = self.fatal or gone[0]

    # ---- one worker --------------------------------------------------------------------------------------------------

    async def _work(self, endpoint: Endpoint, place: int) -> None:
        while (ask := await self._take(endpoint, place)) is not None:
            outcome: EndpointAnswer | Again | Refused | Gone = Again("cut off", charged=True)
            self._write({"key": self.plan.requests[ask.place], "sent": list(ask.most), "at": moment()})  # for the account after a kill
            try:
                if self.fatal:  # there was no room for that row
                    outcome = Again(self.fatal, wait=0.0, free=True)
                else:
                    outcome = await endpoint.ask(self.settings.body(self.plan.text_of(ask.place)))
            finally:
                self._settle(ask, endpoint, outcome)

    async def _take(self, endpoint: Endpoint, place: int) -> _Ask | None:
        """Wait for the next request that this worker may send; None if none is left."""
        while (self.fresh or self.later or self.under_way) and not (self.stopped or self.fatal or endpoint.gone):
            now = time.monotonic()
            if place >= endpoint.width:
                await self._pause()
            elif (wait := max(endpoint.not_before, endpoint.next_at) - now) > 0:
                await self._pause(wait)
            elif (ask := self._next(now)) is not None:
                if self.settings.per_minute:
                    endpoint.next_at = now + 60 / self.settings.per_minute
                self.under_way[ask.place] = ask
                return ask
            elif not self.stopped:
                await self._pause(self.later[0][0] - now if self.later and self.later[0][0] > now else None)
        self.ring()
        return None

    def _next(self, now: float) -> _Ask | None:
        """A request that may be sent now without breaking a ceiling, even if it uses its maximum of tokens."""
        if self.later and self.later[0][0] <= now:
            ask = heapq.heappop(self.later)[2]
        elif self.fresh:
            place = self.fresh.popleft()
            ask = _Ask(place, self.plan.most(place))
        else:
            return None
        reserved = self.reserved[0] + ask.most[0], self.reserved[1] + ask.most[1]
        if over := self._over(reserved):
            heapq.heappush(self.later, (0.0, next(self.order), ask))
            if not self.under_way:  # nothing can come back that used less than its maximum
                self.stop(over)
            return None
        self.reserved = reserved
        return ask

    def _over(self, reserved: tuple[int, int]) -> str:
        """The message for the ceiling that would be broken if all requests under way used their maximum, or ''."""
        most = self.spent._replace(lost_in=self.spent.lost_in + reserved[0], lost_out=self.spent.lost_out + reserved[1])
        tokens, money = self.settings.ceiling_tokens, self.settings.ceiling_money
        if tokens is not None and most.tokens > tokens:
            return f"the next request might break the ceiling of {tokens:,} tokens (used: {self.spent.tokens:,})"
        if money is not None and (most.money(self.settings) or 0.0) > money:
            return f"the next request might break the ceiling of {money:g} in money (used: {self.spent.money(self.settings):.4g})"
        return ""

    # ---- outcomes ----------------------------------------------------------------------------------------------------

    def _settle(self, ask: _Ask, endpoint: Endpoint, outcome: EndpointAnswer | Again | Refused | Gone) -> None:
        del self.under_way[ask.place]
        self.reserved = self.reserved[0] - ask.most[0], self.reserved[1] - ask.most[1]
        if not isinstance(outcome, EndpointAnswer):
            lost = list(ask.most) if isinstance(outcome, Again) and outcome.charged else [0, 0]
            self._write({"key": self.plan.requests[ask.place], "lost": lost, "reason": outcome.reason, "at": moment()})
        match outcome:
            case EndpointAnswer():
                self._answered(ask, endpoint, outcome)
            case Again():
                self._again(ask, endpoint, outcome)
            case Refused(reason, own):
                self._fail(ask, endpoint, reason, counts=not own and not endpoint.answers)
            case Gone(reason):
                self._put_back(ask, 0.0)
                self._leave(endpoint, reason)
        self.ring()

    def _answered(self, ask: _Ask, endpoint: Endpoint, answer: EndpointAnswer) -> None:
        tokens = answer.tokens or self.plan.most(ask.place, answer.text + answer.reasoning if answer.finish != CUT else None)
        if self.settings.logprobs is not None and answer.logprobs is None and answer.text and "logprobs" not in endpoint.instead:
            self.note(
                f"{endpoint.host} sends no logprobs, or none in the form of the protocol, although they were requested: the job continues "
                "with text alone."
            )
        if answer.served and not endpoint.others and not same_model(self.settings.model, answer.served):
            endpoint.others = True
            names = f"{endpoint.short(answer.served)!r}, although {self.settings.model!r} was asked for"
            self.note(f"{endpoint.host} answers as {names}: check that it is the teacher you want. The provenance keeps both names.")
        more = {name: getattr(answer, name) for name in ("logprobs", "reasoning", "refusal")}
        row = {
            "key": self.plan.requests[ask.place],
            "prompt": to_json(self.plan.text_of(ask.place)),
            "response": answer.text,
            "finish": answer.finish,
            "tokens": list(tokens),
            "counted": answer.tokens is not None,
            "served": answer.served,
            "endpoint": endpoint.url,
            "at": moment(),
            "terms": READ,
            "max_tokens": self.settings.max_tokens,
            **{name: value for name, value in more.items() if value},
            **({} if answer.with_temperature else {"temperature": None}),
        }
        self._write(row)
        reason = useless(row, parts_of(row), self.settings.max_tokens)
        self.useless = self.useless + 1 if reason and not reason.startswith(REFUSED) else 0
        if self.useless >= GIVE_UP:
            self.stop(f"{GIVE_UP} requests in a row have no usable answer; the last reason: {reason}")
        self.done += 1
        endpoint.answers, endpoint.failures, endpoint.streak = endpoint.answers + 1, 0, endpoint.streak + 1
        if endpoint.width < self.settings.concurrency and endpoint.streak >= endpoint.width:
            endpoint.width, endpoint.streak = endpoint.width + 1, 0

    def _again(self, ask: _Ask, endpoint: Endpoint, outcome: Again) -> None:
        endpoint.foreign += outcome.foreign
        if endpoint.foreign >= FEW and not endpoint.answers:
            self._put_back(ask, 0.0)
            return self._leave(endpoint, f"{endpoint.url} sends {outcome.reason}: check the address and what stands behind it.")
        now = time.monotonic()
        if not ask.tries + ask.waits:
            ask.others = endpoint.answers
        ask.tries, ask.waits = ask.tries + (not outcome.free), ask.waits + outcome.free
        if ask.tries >= self.settings.tries or ask.waits > WAITS:
            if not outcome.end or endpoint.answers > ask.others:  # it answers others: then this request is at fault
                return self._fail(ask, endpoint, f"{outcome.reason}, {ask.tries or ask.waits} times", excerpt=outcome.excerpt)
            self._put_back(ask, 0.0)
            ask.tries = 0
            return self._leave(endpoint, outcome.end)
        self.again, self.trouble = self.again + 1, outcome.reason
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (ask.tries + ask.waits - 1)) * random.uniform(0.5, 1.0)
        if outcome.wait is not None:
            wait = outcome.wait * random.uniform(1.0, 1.1)  # not earlier, and not all requests at once
        if outcome.free and wait:  # too many requests: halve the width, once for all that were under way
            if endpoint.not_before <= now:
                endpoint.width, endpoint.streak = max(1, endpoint.width // 2), 0
            endpoint.not_before = max(endpoint.not_before, now + (outcome.wait or 0.0))
        self._put_back(ask, now + wait)

    def _fail(self, ask: _Ask, endpoint: Endpoint, reason: str, counts: bool = True, excerpt: str = "") -> None:
        self.failed[ask.place] = reason
        endpoint.failures += counts
        begins = f" {endpoint.host} sent a response that begins {excerpt!r}." if excerpt else ""
        if endpoint.failures >= GIVE_UP:
            self._leave(endpoint, f"{endpoint.host} did not answer {GIVE_UP} requests in a row; the last reason: {reason}.{begins}")
        elif excerpt and not endpoint.quoted:
            endpoint.quoted = True
            self.note(f"A request failed, since its answer cannot be read.{begins}")

    def _leave(self, endpoint: Endpoint, reason: str) -> None:
        """Send nothing more to an endpoint; the others continue."""
        if not endpoint.gone:
            endpoint.gone = endpoint.redact(reason)
            if not all(other.gone for other in self.endpoints):
                self.note(f"{endpoint.gone} The job continues with the other endpoints.")

    def _put_back(self, ask: _Ask, ready: float) -> None:
        heapq.heappush(self.later, (ready, next(self.order), ask))

    def _write(self, row: dict) -> None:
        self.spent = self.spent.with_row(row)
        try:
            self.journal.write(row)
        except OSError as error:
            self.fatal = self.fatal or f"an answer could not be stored: {error.strerror or error}. Make room on the disk."
        if self.journal.trouble and not self.fatal:
            why = self.journal.trouble.strerror or self.journal.trouble
            self.fatal = f"{self.journal.path} cannot grow: {why}. Nothing more is sent. Make room on the disk."

    # ---- time and progress -------------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Wake all workers that wait for a change."""
        self.bell.set()
        self.bell = asyncio.Event()

    async def _pause(self, seconds: float | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.bell.wait()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY)
            self.tell(self.progress())

    def note(self, text: str) -> None:
        """Show a message once."""
        if text not in self.notes:
            self.notes.add(text)
            self.tell(self.progress(text))

    def progress(self, note: str = "") -> Progress:
        """The progress so far, with an optional message."""
        now = time.monotonic()
        self.stamps.append((now, self.done))
        while len(self.stamps) > 2 and self.stamps[1][0] < now - RECENT:
            self.stamps.popleft()
        (then, before), total = self.stamps[0], self.earlier + len(self.plan.todo)
        rate = (self.done - before) / (now - then) if now > then else 0.0
        money = self.spent.money(self.settings)
        left = (len(self.plan.todo) - self.done - len(self.failed)) / rate if rate else None
        return Progress(self.earlier + self.done, total, len(self.failed), self.again, self.spent, money, rate, left, self.trouble, note)


def moment() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
