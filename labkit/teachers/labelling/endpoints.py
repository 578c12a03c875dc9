"""One server that answers requests: the maintained `openai` client, and what its answers and refusals mean for a job.

The client's own retries are switched off. It would retry unseen: outside the rate limit, after a bad status only (not after half a JSON),
for at most 8 seconds between tries, and one request at a time, where a server's `Retry-After` is meant for all that are under way.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from labkit.base.errors import need, suggest
from labkit.teachers.labelling.settings import Settings, here, hidden, host_of

try:
    import httpx2
    import openai
except ModuleNotFoundError:
    raise need("openai", "Asking an endpoint") from None

# All that is sent beside the request; the client's own headers about this machine (system, Python, organisation) are taken off.
HEADERS = {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent", "authorization"}
LONG = re.compile(
    r"context.{0,20}(length|window|size)|maximum.{0,20}(context|length)|too (long|many tokens|large)|exceed.{0,40}(context|token)", re.I
)
PATIENCE = 15 * 60.0  # seconds a server may ask to wait


class EndpointAnswer(NamedTuple):
    """tokens: in and out, as the server counted them, or None. logprobs: a dict a token, or None. mark: what the server calls it."""

    text: str
    finish: str
    tokens: tuple[int, int] | None
    served: str
    logprobs: list[dict[str, Any]] | None
    reasoning: str
    mark: str = ""


class Again(NamedTuple):
    """To be sent again. wait: seconds the server asks for. charged: it may have been paid for. free: not to be counted as a try.
    unreachable: it never got there."""

    reason: str
    wait: float | None = None
    charged: bool = False
    free: bool = False
    unreachable: bool = False


class Refused(NamedTuple):
    """This request will not be answered; the next may. own: it is the prompt's own fault."""

    reason: str
    own: bool = False


class Gone(NamedTuple):
    """This endpoint can answer none of them."""

    reason: str


class Marks:
    """Finds answers that were sent twice by the ids servers give them, if this server gives each one an id of its own."""

    KEPT = 10_000

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._unique, self._doubted = True, False

    def seen(self, mark: str, content: bytes) -> bool:
        """Whether the very same answer came before."""
        if not mark or not self._unique:
            return False
        before, now = self._seen.get(mark), hash(content)
        self._seen[mark] = now
        if len(self._seen) > self.KEPT:
            del self._seen[next(iter(self._seen))]
        if before is None:
            return False
        if before != now or (self._doubted and len(self._seen) == 1):
            self._unique = False  # one id for all that it says
            return False
        self._doubted = True
        return True


class Endpoint:
    """One server. width: how many requests it gets at a time, halved when it says that it has too many, raised again by its answers."""

    def __init__(self, url: str, settings: Settings, say: Callable[[str], None]) -> None:
        self.url, self.host, self.settings, self.say = url, host_of(url), settings, say
        self.width, self.streak, self.answers, self.failures = settings.concurrency, 0, 0, 0
        self.not_before, self.next_at, self.gone = 0.0, 0.0, ""  # times: what the server asked for, and what the user's rate allows
        self.without: set[str] = set()  # parameters that this server does not take
        self._key_name, self._key = settings.names_of_keys()[url], settings.secret(url)
        self._marks = Marks()
        self._clients: list[openai.AsyncOpenAI] = []
        self._connect()

    def _connect(self) -> None:
        """Begin with connections that nothing was read from."""
        network = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,  # what was announced for one host must not go to another
            trust_env=not here(self.url),  # no proxy for a server on this machine
            event_hooks={"request": [self._strip]},
        )
        key, timeout = self._key or "none", self.settings.timeout
        self.client = openai.AsyncOpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=timeout, http_client=network)
        self._clients.append(self.client)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def _strip(self, request: Any) -> None:
        for name in list(request.headers):
            if name not in HEADERS or (name == "authorization" and not self._key):
                del request.headers[name]

    def redact(self, text: str) -> str:
        return hidden(text, [self._key])

    async def ask(self, body: dict[str, Any]) -> EndpointAnswer | Again | Refused | Gone:
        """Send one request once, and say what came of it."""
        body = {name: value for name, value in body.items() if name not in self.without}
        if "max_tokens" in self.without:
            body["max_completion_tokens"] = self.settings.max_tokens
        client = self.client
        try:
            async with asyncio.timeout(self.settings.timeout):  # of the whole answer, however slowly it drips
                # not `chat.completions.create`, which looks at every field on the way out and in, for another 0.5 ms a request
                response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            outcome = self._read(response.content)
            if client is not self.client or (isinstance(outcome, EndpointAnswer) and self._marks.seen(outcome.mark, response.content)):
                # A server that answers twice leaves the second copy to be read by whoever uses the connection next, and after that
                # each request gets the answer of the one before: of these connections nothing more is believed.
                if client is self.client:
                    self._connect()
                return Again("an answer that was sent twice", charged=True)
            return outcome
        except (TimeoutError, openai.APITimeoutError) as error:
            never = type(error.__cause__).__name__ == "ConnectTimeout"
            return Again(f"no answer within {self.settings.timeout:g} s", charged=not never, unreachable=never)
        except openai.APIConnectionError as error:
            never = type(error.__cause__).__name__ in ("ConnectError", "ProxyError", "UnsupportedProtocol")
            return Again(f"the connection failed ({self._short(error.__cause__ or error)})", charged=not never, unreachable=never)
        except openai.APIStatusError as error:
            return await self._status(error)

    def _read(self, content: bytes) -> EndpointAnswer | Again:
        """The answer in a response, whatever else it may hold."""
        try:
            told = json.loads(content, parse_constant=lambda _: None)
            if isinstance(told.get("error"), dict) and not told.get("choices"):
                return Again(f"an error in place of an answer ({self._short(told['error'].get('message', ''))})")
            choice = min(told["choices"], key=lambda choice: choice.get("index") or 0)
            message = choice["message"]
            text = message.get("content")
            if isinstance(text, list):  # some servers write text in parts
                text = "".join(part["text"] for part in text if part.get("type") == "text")
            if not isinstance(text, str | None):
                raise TypeError(text)
            logprobs = [_logprob(token) for token in (choice.get("logprobs") or {}).get("content") or []]
            reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
            return EndpointAnswer(
                _clean(text or ""),
                str(choice.get("finish_reason") or "unknown"),
                _usage(told.get("usage")),
                _clean(str(told.get("model") or "")),
                logprobs or None,
                _clean(reasoning) if isinstance(reasoning, str) else "",
                str(told.get("id") or ""),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return Again("an answer that cannot be read", charged=True)

    async def _status(self, error: openai.APIStatusError) -> Again | Refused | Gone:
        """What a status other than success means."""
        status, code, said = error.status_code, str(error.code or ""), self._short(_message(error.body))
        told = f"{status}: {said}" if said else str(status)
        lower = said.lower()
        match status:
            case 401 if not self._key:
                name = self._key_name
                return Gone(f"{self.host} wants a key ({told}): export it as {name or 'a variable'} and name that with --key-env.")
            case 401:
                return Gone(f"{self.host} does not accept the key in ${self._key_name} ({told}): export the right one and run this again.")
            case 402:
                return Gone(f"{self.host} wants to be paid first ({told}): top the account up and run this again.")
            case 403 if not self.answers:
                mend = "a gated model must be asked for on its provider's page first"
                return Gone(f"{self.host} does not let this key use {self.settings.model} ({told}): {mend}.")
            case 429 if "quota" in code or "billing" in code:
                return Gone(f"{self.host} has no credit left for this key ({told}): top the account up and run this again.")
            case 404 | 405:
                return Gone(await self._no_model(told))
            case 400 | 413 | 422 if LONG.search(said) or "context_length" in code:
                return Refused(f"longer than the model's context ({told})", own=True)
            case 400 | 422 if "model" in code or re.search(r"model.{0,80}(not (found|exist)|unknown|does not exist)|pinned to", lower):
                return Gone(await self._no_model(told))
            case 400 | 422 if "logprobs" in lower and self.settings.logprobs is not None and "logprobs" not in self.without:
                self.without |= {"logprobs", "top_logprobs"}
                self.say(f"{self.host} offers no logprobs ({told}): going on without, with text alone.")
                return Again(told, wait=0.0, free=True)
            case 400 | 422 if "logprobs" in lower and "logprobs" in self.without:
                return Again(told, wait=0.0, free=True)  # sent before the first of them was refused
            case 400 | 422 if "max_completion_tokens" in lower:
                self.without |= {"max_tokens"}
                return Again(told, wait=0.0, free=True)
            case 408 | 409 | 425 | 429:
                wait = _retry_after(error.response.headers)
            case _ if status >= 500:
                wait = _retry_after(error.response.headers)
            case _ if 300 <= status < 400:
                where = self._short(error.response.headers.get("location", "elsewhere"))
                return Gone(f"{self.host} sends requests on to {where}: if you trust that address, give it as the endpoint.")
            case _:
                return Refused(f"refused ({told})")
        if wait is not None and wait > PATIENCE:
            return Gone(f"{self.host} asks to wait {wait / 60:,.0f} minutes ({told}): run this again then.")
        return Again(told, wait=wait, free=status == 429 or wait is not None)

    async def _no_model(self, told: str) -> str:
        """The sentence for a model that is not there, with those that are, if the server lists them."""
        sentence = f"{self.host} has no model {self.settings.model!r} at {self.url} ({told})."
        try:
            async with asyncio.timeout(10):
                listed = await self.client.get("/models", cast_to=httpx2.Response)
            names = [self._short(model["id"]) for model in listed.json()["data"]]
        except Exception:  # a courtesy: whatever goes wrong, the sentence stands without it
            return f"{sentence} Check --model, and that the address ends as the provider's page says (mostly in /v1)."
        return suggest(f"{sentence} It knows no", self.settings.model, names[:12]) if names else f"{sentence} It lists no model."

    def _short(self, text: object) -> str:
        """Somebody else's words on one line: no key, no control characters, not too many."""
        words = " ".join("".join(c if c.isprintable() else " " for c in self.redact(str(text))).split())
        return words if len(words) <= 200 else words[:199] + "…"


def _message(body: object) -> object:
    """The words in the body of an error, in any of the forms that servers give it."""
    while isinstance(body, dict):
        body = next((body[name] for name in ("message", "error", "detail", "msg") if body.get(name)), "")
    return body or ""


def _clean(text: str) -> str:
    """Text without halves of character pairs, which JSON can hold and a file cannot."""
    return text.encode(errors="replace").decode()


def _usage(usage: object) -> tuple[int, int] | None:
    if not isinstance(usage, dict):
        return None
    pair = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return pair if all(type(n) is int and n >= 0 for n in pair) else None  # type: ignore[return-value]


def _logprob(token: dict[str, Any]) -> dict[str, Any]:
    """One token: its text, its logprob, and the alternatives as pairs; its bytes where the text is only a part of a character."""
    kept = {
        "token": token["token"],
        "logprob": token["logprob"],
        "top": [[t["token"], t["logprob"]] for t in token.get("top_logprobs") or []],
    }
    if token.get("bytes") and bytes(token["bytes"]) != str(token["token"]).encode(errors="replace"):
        kept["bytes"] = token["bytes"]
    return kept


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait, as a server says it: in milliseconds, seconds, or as a date."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name)) / unit
            return seconds if 0 <= seconds < float("inf") else None
        except (TypeError, ValueError):
            continue
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after")).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
