"""The responses of servers: what a job keeps of an answer, and what a response is that is no answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

CALLS = "tool_calls"  # finish reason of a message that calls a tool: its text, if it has one, is no answer
MOST_DIGITS = 300  # of a whole number, which a float can hold then
MOST_COUNTED = 10**9  # more tokens than any request has

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
    foreign: bool = False  # whether the response is of another kind than an answer
    end: str = ""  # if all tries end so, the endpoint is not used any more, for this reason
    excerpt: str = ""  # the beginning of a response that cannot be read


class Refused(NamedTuple):
    """The server does not answer this request, but may answer others."""

    reason: str
    own: bool = False  # whether the prompt is the cause


class Gone(NamedTuple):
    """The endpoint cannot answer any request."""

    reason: str


def read(content: bytes, kind: str, short: Callable[[object], str]) -> EndpointAnswer | Again:
    """Parse a response. Only its text must be readable, as it is paid for: other fields that are not are left out.

    content: its body.
    kind: its content type.
    short: makes one short line of a server's text.
    """
    try:
        response = json.loads(content, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
        if isinstance(response.get("error"), dict) and not response.get("choices"):
            return Again(f"an error in place of an answer ({short(response['error'].get('message', ''))})")
        if not response.get("choices"):
            return _foreign("an answer without choices, unlike those of OpenAI-compatible servers", content, short)
        choice = min(response["choices"], key=_index)
        message = choice["message"]
        said = _said(message)
        calls = message.get("tool_calls") or message.get("function_call")
        return EndpointAnswer(
            said.text,
            CALLS if calls or choice.get("finish_reason") == "function_call" else str(choice.get("finish_reason") or "unknown"),
            _usage(response.get("usage"), bool(said.text or said.reasoning)),
            _text(str(response.get("model") or "")),
            _logprobs(choice.get("logprobs")),
            said.reasoning,
            said.refusal,
            str(response.get("id") or ""),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        start = content[:100].lstrip().lower()
        if "text/event-stream" in kind or start.startswith((b"data:", b"event:")):
            return _foreign("a stream, although none was asked for", content, short)
        if is_page(start, kind):
            return _foreign("a web page (a log-in page or a wrong address), not an answer", content, short)
        return Again("an answer that cannot be read", charged=True, excerpt=_excerpt(content, short))


def _finite(number: str) -> float | None:
    """A number of JSON; None for one that is too large, as 1e999, which no row of the journal can hold."""
    return value if math.isfinite(value := float(number)) else None


def _whole(number: str) -> int | None:
    """A whole number of JSON; None for one with more digits than any field has, which may be more than Python reads."""
    return int(number) if len(number) <= MOST_DIGITS else None


def is_page(start: bytes, kind: str) -> bool:
    """Whether a response is a web page. `start` is its beginning, `kind` its content type."""
    return "text/html" in kind or start.lstrip().lower().startswith((b"<!doctype", b"<html"))


def _foreign(what: str, content: bytes, short: Callable[[object], str]) -> Again:
    return Again(f"{what}: {_excerpt(content, short)!r}", charged=True, foreign=True)


def _excerpt(content: bytes, short: Callable[[object], str]) -> str:
    return short(content.decode(errors="replace"))[:120]  # cut last: a part of a key is not known as one


def same_model(asked: str, served: str) -> bool:
    """Whether two names may be of the same model: without folders and the owner, and one of them without its release."""
    asked, served = (NEWEST.sub("", name.rstrip("/").rsplit("/", 1)[-1].lower()) for name in (asked, served))
    return asked in (served, RELEASE.sub("", served)) or RELEASE.sub("", asked) == served


def _text(text: object) -> str:
    """A text without lone surrogates, which JSON can contain but a UTF-8 file cannot; '' for anything else."""
    return text.encode(errors="replace").decode() if isinstance(text, str) else ""


def _index(choice: Mapping[str, Any]) -> int:
    """The number of a choice; 0 if it has none that can be read."""
    number = choice.get("index")
    return number if isinstance(number, int) else 0


class _Said(NamedTuple):
    """The parts of a message."""

    text: str
    reasoning: str
    refusal: str


def _said(message: Mapping[str, Any]) -> _Said:
    """What a message says. Some servers write text, thoughts and refusals as parts of its content. Raises `TypeError` for other content."""
    content, refusal = message.get("content"), _text(message.get("refusal"))
    own = next((text for name in ("reasoning_content", "reasoning") if (text := _text(message.get(name)))), "")
    if not isinstance(content, list):
        if not isinstance(content, str | None):
            raise TypeError(content)
        return _Said(_text(content), own, refusal)
    texts, thoughts = [], []
    for part in content:
        match part if isinstance(part, dict) else {"text": part}:
            case {"type": "thinking" | "reasoning"}:
                thoughts.append(_thought(part))
            case {"type": "refusal"}:
                refusal = refusal or _text(part.get("refusal"))
            case {"text": words}:  # of type "text" or "output_text"
                if not isinstance(words, str | None):
                    raise TypeError(words)
                texts.append(_text(words))
    return _Said("".join(texts), own or "".join(thoughts), refusal)


def _thought(part: Mapping[str, Any]) -> str:
    """A part that is a thought: a text, or the list of its parts."""
    inner = part.get("thinking") or part.get("text") or ""
    pieces = inner if isinstance(inner, list) else [inner]
    return "".join(_text(piece.get("text") if isinstance(piece, dict) else piece) for piece in pieces)


def _usage(usage: object, written: bool) -> tuple[int, int] | None:
    """The tokens in and out, or None if the server did not count them: no prompt has none, and no text."""
    if not isinstance(usage, dict):
        return None
    pair = usage.get("prompt_tokens"), usage.get("completion_tokens")
    least = (1, int(written))
    right = all(type(n) is int and low <= n < MOST_COUNTED for n, low in zip(pair, least, strict=True))
    return pair if right else None  # type: ignore[return-value]


def _logprobs(given: Any) -> list[dict[str, Any]] | None:
    """One dict a token, or None if there are none in the form of the protocol."""
    try:
        return [_logprob(token) for token in given["content"]] or None
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _logprob(token: dict[str, Any]) -> dict[str, Any]:
    """One token: its text, its logprob, and its alternatives as pairs; also the bytes of those that are only a part of a character.

    Raises `TypeError` or another error of `_logprobs` for a token of another form.
    """
    top = token.get("top_logprobs") or []
    kept = {"token": token["token"], "logprob": token["logprob"], "top": [[t["token"], t["logprob"]] for t in top]}
    for text, value in ((kept["token"], kept["logprob"]), *kept["top"]):
        if not isinstance(text, str) or not isinstance(value, int | float | None):
            raise TypeError(text, value)
    if own := _part(token):
        kept["bytes"] = own
    if any(parts := [_part(t) for t in top]):
        kept["top_bytes"] = parts
    return kept


def _part(token: dict[str, Any]) -> list[int] | None:
    """The bytes of a token whose text does not say them; None if they cannot be read."""
    try:
        own = token.get("bytes")
        return own if own and bytes(own) != str(token["token"]).encode(errors="replace") else None
    except (TypeError, ValueError):
        return None
