"""One server that answers requests, through the `openai` client; and what its answers and errors mean for a job.

The client's own retries are switched off. They ignore the rate limit, happen only after a bad status (not after incomplete JSON), wait at
most 8 seconds, and hold back one request only, although a server's `Retry-After` is meant for all of them.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import Callable
from typing import Any

from labkit.base.errors import need, suggest
from labkit.teachers.labelling.replies import Again, EndpointAnswer, Gone, Refused, is_page, read
from labkit.teachers.labelling.settings import Settings, here, hidden, host_of

try:
    import httpx2
    import openai
except ModuleNotFoundError:
    raise need("openai", "Asking an endpoint") from None

# All headers that are sent; the client's headers about this machine (system, Python, organisation) are removed.
HEADERS = {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent", "authorization"}
LONG = re.compile(
    r"context.{0,20}(length|window|size)|maximum.{0,20}(context|length)|too (long|many tokens|large)|exceed.{0,40}(context|token)", re.I
)
# Words about the range of a parameter, so that another value may do.
RANGE = re.compile(r"range|between|greater|\bless|at (most|least)|positive|exceed|m(in|ax)imum|[<>\u2264\u2265]")
NUMBER = re.compile(r"(?<![\w.])(?<![A-Za-z]-)\d+(?!\w|\.\d)")  # not in a model's name
PATIENCE = 15 * 60.0  # longest wait in seconds that a server may ask for
DAY = 24 * 3600.0


class Marks:
    """Finds answers that were sent twice, by their ids, if the server gives each answer its own id."""

    KEPT = 10_000

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._unique, self._doubted = True, False

    def seen(self, mark: str, content: bytes) -> bool:
        """Whether the same answer came before.

        mark: the server's id of the answer.
        content: the whole response.
        """
        if not mark or not self._unique:
            return False
        before, now = self._seen.get(mark), hash(content)
        self._seen[mark] = now
        if len(self._seen) > self.KEPT:
            del self._seen[next(iter(self._seen))]
        if before is None:
            return False
        if before != now or (self._doubted and len(self._seen) == 1):
            self._unique = False  # the server uses one id for all answers
            return False
        self._doubted = True
        return True


class Endpoint:
    """One server. `width` is the number of requests that it gets at a time: halved when it has too many, raised again by its answers."""

    def __init__(self, url: str, settings: Settings, say: Callable[[str], None]) -> None:
        self.url, self.host, self.settings, self.say = url, host_of(url), settings, say
        self.width, self.streak, self.answers, self.failures = settings.concurrency, 0, 0, 0
        self.not_before, self.next_at, self.gone = 0.0, 0.0, ""  # earliest times to send, by the server's request and by the user's rate
        self.instead: dict[str, dict[str, Any]] = {}  # parameters that this server does not take, and what it gets in their place
        self.foreign, self.others = 0, False  # responses of another kind than answers; whether another model has answered
        self.alone = False  # whether each request gets a connection of its own
        self.quoted = False  # whether the beginning of a response that cannot be read was shown
        self._key_name, self._key = settings.names_of_keys()[url], settings.secret(url)
        self._marks = Marks()
        self._clients: list[openai.AsyncOpenAI] = []
        self._network: Any = None  # of the newest client
        self._connect()

    def _connect(self) -> None:
        """Open a client with new connections."""
        self._network = network = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,  # data for one host must not go to another
            trust_env=not here(self.url),  # no proxy for a server on this machine
            event_hooks={"request": [self._strip, self._sweep]},
        )
        key, timeout = self._key or "none", self.settings.timeout
        self.client = openai.AsyncOpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=timeout, http_client=network)
        self._clients.append(self.client)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.close()

    async def _strip(self, request: Any) -> None:
        for name in list(request.headers):
            if name not in HEADERS or (name == "authorization" and not self._key):
                del request.headers[name]

    async def _sweep(self, request: Any) -> None:
        """Close idle connections on which a server has sent more than one response: the next request would get what is left over.

        Later copies may come while that request is under way. So from then on each request gets a connection of its own.
        """
        pool = getattr(self._network._transport_for_url(request.url), "_pool", None)  # the client does not show it otherwise
        idle = [connection for connection in getattr(pool, "connections", ()) if connection.is_idle()]
        if not self.alone and any(map(_left_over, idle)):
            self.alone = True
            self.say(
                f"{self.host} sends more responses than it gets requests: each request has a connection of its own from now on. Check that "
                "the answers before fit their prompts."
            )
        for connection in idle if self.alone else ():
            await connection.aclose()

    def redact(self, text: str) -> str:
        """The text without the endpoint's key."""
        return hidden(text, [self._key])

    async def ask(self, body: dict[str, Any]) -> EndpointAnswer | Again | Refused | Gone:
        """Send one request once. Returns its outcome."""
        client, sent = self.client, self._body(body)
        try:
            async with asyncio.timeout(self.settings.timeout):  # for the whole answer
                # not `chat.completions.create`, whose checks of all fields take another 0.5 ms a request
                response = await client.post("/chat/completions", body=sent, cast_to=httpx2.Response)
            outcome = read(response.content, response.headers.get("content-type", ""), self.short)
            if client is not self.client or (isinstance(outcome, EndpointAnswer) and self._marks.seen(outcome.mark, response.content)):
                # If a server answers twice, the next request on the connection gets the second copy, and each later one the answer of
                # the request before it. So these connections are not used any more.
                if client is self.client:
                    self._connect()
                return Again("an answer that was sent twice", charged=True)
            return outcome._replace(with_temperature="temperature" in sent) if isinstance(outcome, EndpointAnswer) else outcome
        except (TimeoutError, openai.APITimeoutError) as error:
            unsent = type(error.__cause__).__name__ == "ConnectTimeout"
            return self._unreached(f"no answer within {self.settings.timeout:g} s", unsent)
        except openai.APIConnectionError as error:
            unsent = type(error.__cause__).__name__ in ("ConnectError", "ProxyError", "UnsupportedProtocol")
            return self._unreached(f"the connection failed ({self.short(error.__cause__ or error)})", unsent)
        except openai.APIStatusError as error:
            return await self._status(error, body, sent)

    def _unreached(self, reason: str, unsent: bool) -> Again:
        """The outcome of a request without a response. `unsent`: whether it did not reach the server."""
        end = f"{self.url} cannot be reached ({reason}): check the address, the network, and that the server runs."
        return Again(reason, charged=not unsent, end=end if unsent else "")

    def _body(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A request as this server takes it."""
        return {n: v for name, value in asked.items() for n, v in self.instead.get(name, {name: value}).items()}

    def _adapt(self, sent: dict[str, Any], message: str, error: openai.APIStatusError) -> bool:
        """Learn from the refusal of a request which parameter this server does not take. Returns whether it is known now.

        A server that has answered takes all that it was sent, so a later refusal has another cause.
        """
        words, text = f"{error.param or ''} {message}".lower(), f"{error.status_code}: {message}"
        if self.answers:
            return False
        if "temperature" in sent and "temperature" in words and not RANGE.search(words):
            self.instead["temperature"] = {}
            self.say(f"{self.host} takes no temperature ({text}): the job continues without one, so the server's own holds.")
        elif "logprobs" in sent and "logprobs" in words:
            fewer = max((int(n) for n in NUMBER.findall(message) if int(n) < sent["top_logprobs"]), default=0)
            if fewer:
                self.instead["top_logprobs"] = {"top_logprobs": fewer}
                self.say(f"{self.host} gives {fewer} alternatives a token at most ({text}): the job continues with these.")
            else:
                self.instead |= {"logprobs": {}, "top_logprobs": {}}
                self.say(f"{self.host} offers no logprobs ({text}): the job continues with text alone.")
        elif "max_tokens" in sent and "max_completion_tokens" in words:
            self.instead["max_tokens"] = {"max_completion_tokens": sent["max_tokens"]}
        else:
            return False
        return True

    async def _status(self, error: openai.APIStatusError, body: dict[str, Any], sent: dict[str, Any]) -> Again | Refused | Gone:
        """The outcome of a status other than success, to a body that was sent as `sent`."""
        status, code, headers = error.status_code, str(error.code or ""), error.response.headers
        page = is_page(error.response.content[:100], headers.get("content-type", ""))
        message = "a web page" if page else self.short(_message(error.body))
        text = f"{status}: {message}" if message else str(status)
        match status:
            case 401 if not self._key:
                name = self._key_name
                return Gone(f"{self.host} needs a key ({text}): export it as {name or 'a variable'} and name it with --key-env.")
            case 401:
                return Gone(
                    f"{self.host} does not accept the key in ${self._key_name} ({text}): export the right one and run the same again."
                )
            case 402:
                return Gone(f"{self.host} asks for payment ({text}): add credit to the account and run the same again.")
            case 429 if "quota" in code or "billing" in code:
                return Gone(f"{self.host} has no credit left for this key ({text}): add credit to the account and run the same again.")
            case 404 | 405:
                return await self._no_model(text)
            case 400 | 413 | 422 if (LONG.search(message) and "logprobs" not in message) or "context_length" in code:
                return Refused(f"longer than the model's context ({text})", own=True)
            case 400 | 403 | 422 if self._body(body) != sent or self._adapt(sent, message, error):
                return Again(text, wait=0.0, free=True)  # the first: it was sent before the server had refused another
            case 403 if not self.answers:
                fix = "request access to a gated model on the provider's page first"
                return Gone(f"{self.host} does not let this key use {self.settings.model} ({text}): {fix}.")
            case 400 | 422 if "model" in code or re.search(
                r"model.{0,80}(not (found|exist)|unknown|does not exist)|pinned to", message, re.I
            ):
                return await self._no_model(text)
            case _ if status in (408, 409, 425, 429) or status >= 500:
                wait = _retry_after(headers)
            case _ if 300 <= status < 400:
                where = self.short(headers.get("location", "elsewhere"))
                return Gone(f"{self.host} redirects requests to {where}: if you trust that address, give it as the endpoint.")
            case _:
                return Refused(f"refused ({text})")
        if wait is not None and wait > PATIENCE:
            long = f"{wait / 60:,.0f} minutes" if wait < DAY else "a day or more"
            return Gone(f"{self.host} asks to wait {long} ({text}): run the same again then.")
        return Again(text, wait=wait, free=status == 429 or wait is not None)

    async def _no_model(self, text: str) -> Again | Gone:
        """The outcome for a missing model or address. A server that has answered, or lists the model, may only be starting anew."""
        model, checks = self.settings.model, "check --model, and the end of the address on the provider's page (mostly /v1)"
        if self.answers:
            return Again(text, end=f"{self.host} no longer answers at {self.url} ({text}): check that it still serves {model!r}.")
        sentence = f"{self.host} has no model {model!r} at {self.url} ({text})."
        try:
            async with asyncio.timeout(10):
                listed = await self.client.get("/models", cast_to=httpx2.Response)
            names = [self.short(model["id"]) for model in listed.json()["data"]]
        except Exception:  # the list is optional: after any error the message goes without it
            return Gone(f"{sentence} {checks[0].upper()}{checks[1:]}.")
        if model in names:
            return Again(text, end=f"{self.url} lists the model {model!r}, but does not answer requests to it ({text}): {checks}.")
        return Gone(suggest(f"{sentence} It has no", model, names[:12]) if names else f"{sentence} It lists no model.")

    def short(self, text: object) -> str:
        """A server's text on one line of at most 200 characters, without keys and control characters."""
        words = " ".join("".join(c if c.isprintable() else " " for c in self.redact(str(text))).split())
        return words if len(words) <= 200 else words[:199] + "…"


def _left_over(connection: Any) -> bool:
    """Whether bytes wait in the buffers of a connection, those of HTTP or of its stream. (Those in its socket are found by the client.)"""
    while connection is not None and not hasattr(connection, "_h11_state"):
        connection = getattr(connection, "_connection", None)
    stream = getattr(getattr(connection, "_network_stream", None), "_stream", None)
    stream = getattr(stream, "transport_stream", stream)  # below an encrypted one
    queue = getattr(getattr(stream, "_protocol", None), "read_queue", ())
    return connection is not None and any(part.strip() for part in (connection._h11_state.trailing_data[0], *queue))


def _message(body: object) -> object:
    """The message in the body of an error, in any of the forms that servers use."""
    while isinstance(body, dict):
        body = next((body[name] for name in ("message", "error", "detail", "msg") if body.get(name)), "")
    return body or ""


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait, from headers in milliseconds, in seconds, or with a date; None if there are none."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name)) / unit
            return seconds if 0 <= seconds < float("inf") else None
        except (TypeError, ValueError):
            continue
    until, now = _seconds(headers.get("retry-after")), _seconds(headers.get("date"))  # both by the server's clock
    return None if until is None else max(0.0, until - (time.time() if now is None else now))


def _seconds(date: str | None) -> float | None:
    """A date of a header in seconds since 1970, or None if there is none."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except (TypeError, ValueError, OverflowError):
        return None
