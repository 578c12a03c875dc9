"""The settings of a labelling job: requests, servers and limits. They are checked before anything is sent."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from labkit.base.chat import messages_of
from labkit.base.errors import LabError, unknown

KEY_ENV = "OPENAI_API_KEY"
EMPTY = "empty"
SHORTEST = 12  # least length of a key that is hidden; shorter ones, as for local servers, may be common words


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one job.

    Model, system, temperature, max_tokens and logprobs define a request. The others may change when a job is continued. With a higher
    max_tokens only the answers that were cut off are asked for again.

    Raises `LabError` for a value out of range.
    """

    endpoints: tuple[str, ...]  # base addresses of OpenAI-compatible servers of the same model
    model: str
    system: str = ""
    temperature: float = 0.0
    samples: int = 1  # answers to each prompt
    max_tokens: int = 256
    logprobs: int | None = None  # alternatives at each token; None requests no logprobs
    concurrency: int = 8  # requests under way at a time, at each endpoint
    per_minute: float | None = None  # requests a minute, at each endpoint
    price_in: float | None = None  # of a million tokens read
    price_out: float | None = None  # of a million tokens written
    ceiling_tokens: int | None = None  # most tokens that the job may use in all, with those in its journal
    ceiling_money: float | None = None  # the same in money
    timeout: float = 120.0  # seconds for one request, from its start to its last byte
    tries: int = 6  # how often a request is sent before it fails
    ask_again: str = ""  # "empty": requests whose answer is empty are sent again, and paid for again
    key_env: tuple[str, ...] = (KEY_ENV,)  # environment variables with keys, one for all endpoints or one each; "" sends none

    def __post_init__(self) -> None:
        given = (self.endpoints,) if isinstance(self.endpoints, str) else tuple(self.endpoints)
        names = (self.key_env,) if isinstance(self.key_env, str) else tuple(self.key_env)
        object.__setattr__(self, "endpoints", tuple(address(url) for url in given))
        object.__setattr__(self, "key_env", names)
        if not self.endpoints or len(set(self.endpoints)) < len(self.endpoints):
            raise LabError("give one endpoint or several different ones, such as http://127.0.0.1:8000/v1.")
        if not self.model:
            raise LabError("the model has no name: give the name that its server uses (GET /v1/models lists them).")
        whole = {"samples": (1, 10_000), "max_tokens": (1, 10**6), "concurrency": (1, 512), "tries": (1, 100)}
        for name, (low, high) in whole.items():
            if not isinstance(getattr(self, name), int) or not low <= getattr(self, name) <= high:
                raise LabError(f"{name}={getattr(self, name)!r} must be a whole number from {low:,} to {high:,}.")
        for name in ("per_minute", "price_in", "price_out", "ceiling_tokens", "ceiling_money", "timeout"):
            value, free = getattr(self, name), name.startswith("price")
            if value is not None and not (math.isfinite(value) and (value > 0 or (free and value == 0))):
                raise LabError(f"{name}={value!r} must be a number {'not below' if free else 'above'} 0.")
        if self.ask_again not in ("", EMPTY):
            raise unknown("ask_again", self.ask_again, (EMPTY,))
        if not 0 <= self.temperature <= 2:
            raise LabError(f"temperature={self.temperature!r} must be from 0 (always the likeliest token) to 2.")
        if self.samples > 1 and self.temperature == 0:
            raise LabError(f"samples={self.samples} at temperature 0 would pay for one answer {self.samples} times: raise the temperature.")
        if self.logprobs is not None and not 0 <= self.logprobs <= 1000:
            raise LabError(f"logprobs={self.logprobs} must be from 0 to 1,000 alternatives a token; many endpoints allow 20 at most.")
        if self.ceiling_money is not None and not self.priced:
            raise LabError("ceiling_money needs both prices of a million tokens: set price_in and price_out.")
        if len(names) not in (1, len(self.endpoints)):
            raise LabError(f"{len(names)} names of keys for {len(self.endpoints)} endpoints: give one for all, or one each ('' for none).")

    @property
    def priced(self) -> bool:
        return self.price_in is not None and self.price_out is not None

    def money(self, tokens_in: float, tokens_out: float) -> float | None:
        """The price of these tokens, or None if no prices were given."""
        if self.price_in is None or self.price_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    def body(self, prompt: str) -> dict[str, Any]:
        """The whole body of the request for one prompt. Raises `LabError` if both the prompt and the job have a system message."""
        messages = messages_of(prompt)
        if self.system and any(message["role"] == "system" for message in messages):
            raise LabError(f"the prompt {prompt[:60]!r} has its own system message: remove that one, or leave out --system.")
        system = [{"role": "system", "content": self.system}] if self.system else []
        logprobs = {} if self.logprobs is None else {"logprobs": True, "top_logprobs": self.logprobs}
        return {
            "model": self.model,
            "messages": [*system, *messages],
            "temperature": float(self.temperature),
            "max_tokens": self.max_tokens,
            **logprobs,
        }

    def key(self, prompt: str, sample: int) -> str:
        """The key of a request in the journal: a hash of its body and the number of the sample. The server is not part of it."""
        whole = json.dumps([self.body(prompt), sample], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    def names_of_keys(self) -> dict[str, str]:
        """The environment variable with the key of each endpoint, or '' for none."""
        names = self.key_env * len(self.endpoints) if len(self.key_env) == 1 else self.key_env
        return dict(zip(self.endpoints, names, strict=False))

    def secret(self, url: str) -> str | None:
        """The key for an endpoint from the environment, or None. Raises `LabError` if it is malformed, or the address is not encrypted."""
        name = self.names_of_keys()[url]
        key = os.environ.get(name, "").strip() if name else ""
        if not key:
            return None
        if not key.isascii() or not key.isprintable() or " " in key:
            raise LabError(f"the key in ${name} has characters that no key has, such as a space or a line break: export it again.")
        if url.startswith("http://") and not here(url):
            raise LabError(f"{url} is not encrypted, so others could read the key in ${name}: use https, or send no key with --key-env ''.")
        return key


def hidden(text: str, keys: Iterable[str | None]) -> str:
    """`text` without these keys, which servers often quote. Keys shorter than `SHORTEST` stay."""
    for key in keys:
        text = text.replace(key, "[key]") if key and len(key) >= SHORTEST else text
    return text


def address(url: str) -> str:
    """The base address of an endpoint in the client's form, with its version at the end (`/v1` if `url` has none).

    Raises `LabError` for an invalid address, or one with a user name, password or query.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise LabError(f"the endpoint {url!r} is not an address: {error}. Use http://127.0.0.1:8000/v1, for example.") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise LabError("the endpoint's address has a user name, password or query: put keys into the environment (--key-env).")
    if parts.scheme not in ("http", "https") or not host:
        raise LabError(f"the endpoint {url!r} must begin with http:// or https:// and name a host, such as http://127.0.0.1:8000/v1.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc.lower()}{path or '/v1'}"


def host_of(url: str) -> str:
    """Host and port of an address."""
    return urlsplit(url).netloc


def here(url: str) -> bool:
    """Whether an address is on this machine, so that requests do not leave it."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())
