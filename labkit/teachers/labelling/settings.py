"""What is asked of whom, and within which limits: the settings of one labelling job, checked before anything is sent."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from labkit.base.errors import LabError

KEY_ENV = "OPENAI_API_KEY"
SHORTEST = 12  # characters of a key that is worth hiding: shorter ones, as servers of one's own are sent, are words that answers hold


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One job. Model, system, temperature, max_tokens and logprobs make the request; the rest says how it is sent, and may change
    between a killed job and its continuation.

    endpoints: base addresses of OpenAI-compatible servers of the same model. logprobs: alternatives a token, None for none asked.
    concurrency, per_minute: requests under way at a time, and sent a minute, at each endpoint. price_in, price_out: of a million tokens
    read and written. ceiling_tokens, ceiling_money: what the job may use up in all, with what its journal holds already. timeout: of one
    request in seconds, from first byte to last. tries: how often a request is sent before its row fails. key_env: the names of
    environment variables with keys, one for all endpoints or one each; an empty name sends none.
    """

    endpoints: tuple[str, ...]
    model: str
    system: str = ""
    temperature: float = 0.0
    samples: int = 1
    max_tokens: int = 256
    logprobs: int | None = None
    concurrency: int = 8
    per_minute: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    ceiling_tokens: int | None = None
    ceiling_money: float | None = None
    timeout: float = 120.0
    tries: int = 6
    key_env: tuple[str, ...] = (KEY_ENV,)

    def __post_init__(self) -> None:
        given = (self.endpoints,) if isinstance(self.endpoints, str) else tuple(self.endpoints)
        names = (self.key_env,) if isinstance(self.key_env, str) else tuple(self.key_env)
        object.__setattr__(self, "endpoints", tuple(address(url) for url in given))
        object.__setattr__(self, "key_env", names)
        if not self.endpoints or len(set(self.endpoints)) < len(self.endpoints):
            raise LabError("give one endpoint or several different ones, such as http://127.0.0.1:8000/v1.")
        if not self.model:
            raise LabError("the model has no name: give the one its server knows it by (GET /v1/models lists them).")
        whole = {"samples": (1, 10_000), "max_tokens": (1, 10**6), "concurrency": (1, 512), "tries": (1, 100)}
        for name, (low, high) in whole.items():
            if not isinstance(getattr(self, name), int) or not low <= getattr(self, name) <= high:
                raise LabError(f"{name}={getattr(self, name)!r} must be a whole number from {low:,} to {high:,}.")
        for name in ("per_minute", "price_in", "price_out", "ceiling_tokens", "ceiling_money", "timeout"):
            value, free = getattr(self, name), name.startswith("price")
            if value is not None and not (math.isfinite(value) and (value > 0 or (free and value == 0))):
                raise LabError(f"{name}={value!r} must be a number {'not below' if free else 'above'} 0.")
        if not 0 <= self.temperature <= 2:
            raise LabError(f"temperature={self.temperature!r} must be from 0 (always the likeliest) to 2.")
        if self.samples > 1 and self.temperature == 0:
            raise LabError(f"samples={self.samples} at temperature 0 would pay for one answer {self.samples} times: raise the temperature.")
        if self.logprobs is not None and not 0 <= self.logprobs <= 20:
            raise LabError(f"logprobs={self.logprobs} must be from 0 to 20 alternatives a token; 20 is what endpoints allow.")
        if self.ceiling_money is not None and not self.priced:
            raise LabError("a ceiling in money needs both prices, of a million tokens: price_in and price_out.")
        if len(names) not in (1, len(self.endpoints)):
            raise LabError(f"{len(names)} names of keys for {len(self.endpoints)} endpoints: give one for all, or one each ('' for none).")

    @property
    def priced(self) -> bool:
        return self.price_in is not None and self.price_out is not None

    def money(self, tokens_in: float, tokens_out: float) -> float | None:
        """What so many tokens cost, or None if the prices are not known."""
        if self.price_in is None or self.price_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    def body(self, prompt: str) -> dict[str, Any]:
        """The request for one prompt: all that is sent."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        asked = {} if self.logprobs is None else {"logprobs": True, "top_logprobs": self.logprobs}
        return {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": prompt}],
            "temperature": float(self.temperature),
            "max_tokens": self.max_tokens,
            **asked,
        }

    def key(self, prompt: str, sample: int) -> str:
        """What a request is known by in the journal: a hash of all of it and of the number of the sample, but not of the server."""
        whole = json.dumps([self.body(prompt), sample], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    def names_of_keys(self) -> dict[str, str]:
        """For each endpoint the environment variable whose value it is sent, or ''."""
        names = self.key_env * len(self.endpoints) if len(self.key_env) == 1 else self.key_env
        return dict(zip(self.endpoints, names, strict=False))

    def secret(self, url: str) -> str | None:
        """The key for an endpoint, out of the environment. Raises `LabError` where sending it would give it away."""
        name = self.names_of_keys()[url]
        key = os.environ.get(name, "").strip() if name else ""
        if not key:
            return None
        if not key.isascii() or not key.isprintable() or " " in key:
            raise LabError(f"the key in ${name} has characters that no key has (a space or a line break?): export it again.")
        if url.startswith("http://") and not here(url):
            raise LabError(
                f"{url} is not encrypted, so the key in ${name} would be readable on the way: use https, or send none with --key-env ''."
            )
        return key


def hidden(text: str, keys: Iterable[str | None]) -> str:
    """`text` without any of these keys, which servers like to quote; short ones are no secrets and stay (`SHORTEST`)."""
    for key in keys:
        text = text.replace(key, "[key]") if key and len(key) >= SHORTEST else text
    return text


def address(url: str) -> str:
    """An endpoint's base address as the client wants it, ending in its version (`/v1` if none is given)."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise LabError(f"the endpoint {url!r} is no address: {error}. Give one such as http://127.0.0.1:8000/v1.") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise LabError("the endpoint's address holds a user name, password or query: keys belong in the environment (--key-env).")
    if parts.scheme not in ("http", "https") or not host:
        raise LabError(f"the endpoint {url!r} must begin with http:// or https:// and name a host, such as http://127.0.0.1:8000/v1.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc.lower()}{path or '/v1'}"


def host_of(url: str) -> str:
    return urlsplit(url).netloc


def here(url: str) -> bool:
    """Whether an address is this machine's own, so that what is sent there does not leave it."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())
