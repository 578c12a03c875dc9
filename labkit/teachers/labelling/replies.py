"""The responses of servers: what a job keeps of an answer, and what a response is that is no answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

# What a name may have at its end and still be the same model's: a date or number, or a word for the newest one.
RELEASE = re.compile(r"[-@:._]((preview|exp)[-.])?\d[\d.-]{2,}$")
NEWEST = re.compile(r"[-@:](latest|main)$|\.gguf$")


class EndpointAnswer(NamedTuple):
    """A server's answer to one request."""

    text: str
    finish: str  # why it ended: "stop", "length", ...
    tokens: tuple[int, int] | None  # in and out, as the server counted them
    served: str  # the model's name, as the server gives it
    logprobs: list[dict[str, Any]] | None  # one dict a token
    reasoning: str
    refusal: str = ""  # the model's words, if it refused
    mark: str = ""  # the server's id of the answer
    with_temperature: bool = True  # whether one was sent


class Again(NamedTuple):
    """The request must be sent again."""

    reason: str
    wait: float | None = None  # seconds that the server asks to wait
    charged: bool = False  # whether it may have been billed
    free: bool = False  # whether it does not count as a try
    unreachable: bool = False  # whether it did not reach the server
    foreign: bool = False  # whether the response is of another kind than an answer


class Refused(NamedTuple):
    """The server does not answer this request, but may answer others."""

    reason: str
    own: bool = False  # whether the prompt is the cause


class Gone(NamedTuple):
    """The endpoint cannot answer any request."""

    reason: str


def read(content: bytes, kind: str, short: Callable[[object], str]) -> EndpointAnswer | Again:
    """Parse a response.

    content: its body.
    kind: its content type.
    short: makes one short line of a server's text.
    """
    try:
        response = json.loads(content, parse_constant=lambda _: None)
        if isinstance(response.get("error"), dict) and not response.get("choices"):
            return Again(f"an error in place of an answer ({short(response['error'].get('message', ''))})")
        if not response.get("choices"):
            return _foreign("an answer without choices, unlike those of OpenAI-compatible servers", content, short)
        choice = min(response["choices"], key=lambda choice: choice.get("index") or 0)
        message = choice["message"]
        text, reasoning = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
        if isinstance(text, list):  # some servers write text and thoughts in parts
            thoughts = [inner["text"] for part in text if part.get("type") == "thinking" for inner in part["thinking"]]
            text, reasoning = "".join(part["text"] for part in text if part.get("type") == "text"), reasoning or "".join(thoughts)
        if not isinstance(text, str | None):
            raise TypeError(text)
        logprobs = [_logprob(token) for token in (choice.get("logprobs") or {}).get("content") or []]
        return EndpointAnswer(
            _text(text),
            str(choice.get("finish_reason") or "unknown"),
            _usage(response.get("usage"), bool(text or reasoning)),
            _text(str(response.get("model") or "")),
            logprobs or None,
            _text(reasoning),
            _text(message.get("refusal")),
            str(response.get("id") or ""),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        start = content[:100].lstrip().lower()
        if "text/event-stream" in kind or start.startswith((b"data:", b"event:")):
            return _foreign("a stream, although none was asked for", content, short)
        if "text/html" in kind or start.startswith((b"<!doctype", b"<html")):
            return _foreign("a web page (a log-in page or a wrong address), not an answer", content, short)
        return Again("an answer that cannot be read", charged=True)


def _foreign(what: str, content: bytes, short: Callable[[object], str]) -> Again:
    return Again(f"{what}: {short(content[:120].decode(errors='replace'))!r}", charged=True, foreign=True)


def same_model(asked: str, served: str) -> bool:
    """Whether two names may be of the same model: without folders and the owner, and one of them without its release."""
    asked, served = (NEWEST.sub("", name.rstrip("/").rsplit("/", 1)[-1].lower()) for name in (asked, served))
    return asked in (served, RELEASE.sub("", served)) or RELEASE.sub("", asked) == served


def _text(text: object) -> str:
    """A text without lone surrogates, which JSON can contain but a UTF-8 file cannot; '' for anything else."""
    return text.encode(errors="replace").decode() if isinstance(text, str) else ""


def _usage(usage: object, written: bool) -> tuple[int, int] | None:
    """The tokens in and out, or None if the server did not count them: no prompt has none, and no text."""
    if not isinstance(usage, dict):
        return None
    pair = usage.get("prompt_tokens"), usage.get("completion_tokens")
    least = (1, int(written))
    return pair if all(type(n) is int and n >= low for n, low in zip(pair, least, strict=True)) else None  # type: ignore[return-value]


def _logprob(token: dict[str, Any]) -> dict[str, Any]:
    """One token: its text, its logprob, and its alternatives as pairs; also the bytes of those that are only a part of a character."""
    top = token.get("top_logprobs") or []
    kept = {"token": token["token"], "logprob": token["logprob"], "top": [[t["token"], t["logprob"]] for t in top]}
    if own := _part(token):
        kept["bytes"] = own
    if any(parts := [_part(t) for t in top]):
        kept["top_bytes"] = parts
    return kept


def _part(token: dict[str, Any]) -> list[int] | None:
    """The bytes of a token whose text does not say them."""
    own = token.get("bytes")
    return own if own and bytes(own) != str(token["token"]).encode(errors="replace") else None
