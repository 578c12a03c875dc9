"""Odd responses of an endpoint, by their kind.

What a response holds for its prompt:
  kept     a whole answer, perhaps with odd optional fields: it must be kept, and never be asked for again
  useless  a whole response without an answer to train on: it is told, and paid for once
  none     nothing that could be taken for an answer: the prompt is asked again
  either   an answer that may be kept or refused, as it is malformed
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from faulty import response

KEPT, USELESS, NONE, EITHER = "kept", "useless", "none", "either"
KEY = "sk-a-secret-that-must-stay-0123456789"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
ERROR = {"error": {"message": "something is wrong", "type": "server_error"}}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5}


class Kind(NamedTuple):
    """A kind of response.

    gives: what it holds; see above.
    parts: what goes over the wire, from the right completion; see `faulty`.
    text: its answer, from that of the completion.
    alone: whether it may harm other requests, since it spoils their connection.
    slow: whether it takes longer than the job waits.
    """

    gives: str
    parts: Callable[[dict[str, Any]], list[Any]]
    text: Callable[[str], str] = str
    alone: bool = True
    slow: bool = False


def _json(gives: str, change: Callable[[dict[str, Any]], object], text: Callable[[str], str] = str) -> Kind:
    return Kind(gives, lambda right: [response(200, change(right))], text, alone=False)


def _top(gives: str = KEPT, **fields: Any) -> Kind:
    return _json(gives, lambda right: right | fields)


def _choice(gives: str = KEPT, **fields: Any) -> Kind:
    return _json(gives, lambda right: right | {"choices": [right["choices"][0] | fields]})


def _message(gives: str = KEPT, **fields: Any) -> Kind:
    return _json(gives, lambda right: saying(right, **fields))


def saying(right: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return right | {"choices": [right["choices"][0] | {"message": right["choices"][0]["message"] | fields}]}


def _words(change: Callable[[str], Any], text: Callable[[str], str] | None = None) -> Kind:
    """An answer of other words. `text` is what must be kept of them."""
    return _json(KEPT, lambda right: saying(right, content=change(text_of(right))), text or change)


def _bytes(gives: str, change: Callable[[bytes], bytes], **headers: str) -> Kind:
    return Kind(gives, lambda right: [response(200, change(json.dumps(right).encode()), headers)], alone=False)


def _status(status: int, body: Any = ERROR, gives: str = NONE, **headers: Any) -> Kind:
    told = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return Kind(gives, lambda right: [response(status, body, told)], alone=False)


def _wire(gives: str, parts: Callable[[bytes, bytes], list[Any]], alone: bool = True, slow: bool = False) -> Kind:
    """What goes over the wire in place of a head and a body."""

    def of(right: dict[str, Any]) -> list[Any]:
        head, end, body = response(200, right).partition(b"\r\n\r\n")
        return parts(head + end, body)

    return Kind(gives, of, alone=alone, slow=slow)


def text_of(right: dict[str, Any]) -> str:
    return right["choices"][0]["message"]["content"]


def _chunks(body: bytes, size: int = 100) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def _slowly(whole: bytes, size: int = 40, pause: float = 0.002) -> list[Any]:
    return [part for at in range(0, len(whole), size) for part in (whole[at : at + size], pause)]


def _with(right: dict[str, Any], token: dict[str, Any]) -> bytes:
    return json.dumps(right | {"choices": [right["choices"][0] | {"logprobs": {"content": [token]}}]}).encode()


def _logprobs(given: Any) -> Kind:
    return _choice(logprobs=given)


def _error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message} | more}


def _another(right: dict[str, Any]) -> dict[str, Any]:
    """A response of an id of its own, which nobody has asked for."""
    return saying(right, content="nobody's answer") | {"id": f"{right['id']}-other"}


TOKEN = {"token": "Ans", "logprob": -0.5, "bytes": [65, 110, 115], "top_logprobs": [{"token": "Ans", "logprob": -0.5, "bytes": None}]}
SAME = {"role": "assistant", "content": "the other one"}
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

STATUSES = {
    **{f"status {n}": _status(n) for n in (400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 425, 429, 451, 500, 502, 503, 504, 529)},
    "status 302 to elsewhere": _status(302, b"", location="https://elsewhere.example/v1"),
    "status 307 to a path with the key": _status(307, b"", location=f"/v1/{KEY}"),
    "status 308 without a place": _status(308, b""),
    "status 304": _status(304, b""),
    "status 204": _status(204, b""),
    "status 205": _status(205, b""),
    "status 206, whole": Kind(EITHER, lambda right: [response(206, right)], alone=False),
    "status 999": _status(999),
    "429 for 20 ms": _status(429, retry_after="0.02"),
    "429 in milliseconds": _status(429, retry_after_ms="20"),
    "429 until a date that has passed": _status(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "429 until a date far away": _status(429, retry_after="Wed, 21 Oct 2099 07:28:00 GMT"),
    "429 for soon": _status(429, retry_after="soon"),
    "429 for a very long time": _status(429, retry_after=10**30),
    "429 for less than nothing": _status(429, retry_after=-5),
    "429 for ever": _status(429, retry_after="inf"),
    "429 without credit": _status(429, _error("no credit", code="insufficient_quota")),
    "503 with a page": _status(503, b"<html>busy</html>", content_type="text/html"),
    "400 of the model's context": _status(400, _error("maximum context length is 10 tokens")),
    "400 of the temperature": _status(400, _error("temperature is not supported")),
    "400 of a model": _status(400, _error("the model does not exist", code="model_not_found")),
    "400 that quotes the key": _status(400, _error(f"bad request of {KEY}: " + KEY * 9)),
    "401 that quotes the key": _status(401, _error(f"no such key: {KEY}")),
    "422 with a list": _status(422, {"detail": [{"msg": "wrong", "loc": ["body", 3]}]}),
    "500 with an error of numbers": _status(500, {"error": 3}),
    "500 with a nested error": _status(500, {"error": {"message": {"message": [None, {}]}}}),
    "500 with bytes": _status(500, bytes(range(256))),
    "500 with 1 MB": _status(500, _error("x\n" * 500_000)),
}
BODIES = {
    "empty body": _bytes(NONE, lambda body: b""),
    "half a JSON": _bytes(NONE, lambda body: body[:-20]),
    "a log-in page": _bytes(NONE, lambda body: b"<!DOCTYPE html><title>Log in</title>", **{"content-type": "text/html"}),
    "Latin-1": _json(
        EITHER, lambda right: json.dumps(saying(right, content="\xe9" + text_of(right)), ensure_ascii=False).encode("latin-1")
    ),
    "UTF-16": _bytes(EITHER, lambda body: body.decode().encode("utf-16")),
    "a byte order mark": _bytes(KEPT, lambda body: b"\xef\xbb\xbf" + body),
    "blank lines before": _bytes(KEPT, lambda body: b"\n \r\n\t" * 50 + body),
    "deep nesting": _bytes(EITHER, lambda body: body[:-1] + b', "x": ' + b"[" * 9**5 + b"]" * 9**5 + b"}"),
    "fields twice": _bytes(EITHER, lambda body: body[:-1] + b', "choices": [], "id": 4, "id": 5}'),
    "a number that is none": _bytes(KEPT, lambda body: body[:-1] + b', "x": [NaN, Infinity, -Infinity]}'),
    "a number of 5,000 digits": _bytes(KEPT, lambda body: body[:-1] + b', "x": ' + b"9" * 5000 + b"}"),
    "a comma too many": _bytes(NONE, lambda body: body[:-1] + b",}"),
    "two JSONs": _bytes(NONE, lambda body: body + b"\n" + body),
    "the key where a quotation ends": _bytes(NONE, lambda body: b"x" * 94 + KEY.encode()),
    "a stream": _bytes(NONE, lambda body: b'data: {"choices":[{"index":0,"delta":{"content":"Par"}}]}\n\ndata: [DONE]\n\n'),
    "a stream by its type": _bytes(NONE, lambda body: b"event: x\ndata: {}\n\n", **{"content-type": "text/event-stream"}),
    "an answer of a stream's type": _bytes(KEPT, bytes, **{"content-type": "text/event-stream"}),
    "an answer of a page's type": _bytes(KEPT, bytes, **{"content-type": "text/html; charset=utf-16"}),
    "an answer of an odd type": _bytes(KEPT, bytes, **{"content-type": ";;;=\xff"}),
    **{f"{name} for a body": _bytes(NONE, lambda body, name=name: name.encode()) for name in ("null", "7", '"text"', "[]", "[{}]", "{}")},
    "an error in a 200": _json(NONE, lambda right: ERROR),
    "an error in a 200, paid for": _json(NONE, lambda right: ERROR | {"usage": USAGE, "choices": []}),
    "an error beside an answer": _top(EITHER, **ERROR),
    "no error beside an answer": _top(error={}),
}
CHOICES = {
    **{f"choices {given!r}": _top(NONE, choices=given) for given in ([], None, "text", 7, [None], ["text"], {}, [{}])},
    "choices left out": _json(NONE, lambda right: {name: right[name] for name in right if name != "choices"}),
    "several choices": _json(KEPT, lambda right: right | {"choices": [{"index": 1, "message": SAME}, *right["choices"]]}),
    **{f"index {given!r}": _choice(index=given) for given in ("a", None, -3, 2.5, 10**30, [])},
    **{f"message {given!r}": _choice(NONE, message=given) for given in (None, "text", 7, [])},
    **{f"content {given!r}": _message(NONE, content=given) for given in (7, True, {"text": "a"}, [7], [{"text": 3}])},
    **{f"empty content {given!r}": _message(USELESS, content=given) for given in (None, "", " \n", [], [{"type": "image"}])},
    "content of parts": _words(lambda text: [{"type": "text", "text": text[:5]}, text[5:], {"type": "image"}], str),
    "content with NULs": _words(lambda text: f"\0{text}\0"),
    "content with lone surrogates": _words(lambda text: f"\ud800{text}\udfff", lambda text: f"?{text}?"),
    "content of 1 MB": _words(lambda text: text + " long" * 200_000),
    "content with odd line ends": _words(lambda text: f"a\r\nb\u2028c\x85{text}\x1b[2J"),
    "content with the key": _words(lambda text: f"{text} {KEY}", lambda text: f"{text} [key]"),
    "content that is JSON": _words(lambda text: json.dumps({"prompt": text, "response": [None]})),
    "role 7": _message(role=7),
    "no calls of tools": _message(tool_calls=[], function_call=None, refusal=None),
    "a call of a tool": _message(USELESS, tool_calls=[{"id": "1", "function": {"name": "f"}}]),
    "a call of a tool, oddly": _message(USELESS, tool_calls="f()"),
    "a refusal": _message(USELESS, refusal="I can't."),
    "a refusal 7": _message(refusal=7),
    "a thought of its own": _message(reasoning_content="hmm"),
    "a thought of odd form": _message(reasoning={"a": 1}, reasoning_content=[7]),
    "a thought with lone surrogates": _message(reasoning="\udc00hmm"),
    "a thought alone": _message(USELESS, content=None, reasoning="hmm"),
}
FIELDS = {
    **{f"finish {given!r}": _choice(finish_reason=given) for given in (None, 7, ["stop"], {"type": "stop"}, "eos", "length", "\ud800")},
    "withheld": _choice(USELESS, finish_reason="content_filter"),
    **{f"usage {given!r}": _top(usage=given) for given in (None, 7, [10, 5], {}, {"prompt_tokens": "10", "completion_tokens": "5"})},
    **{f"usage of {n!r}": _top(usage={"prompt_tokens": n, "completion_tokens": n}) for n in (0, -5, 10**30, 2.5, True, None, [])},
    **{f"id {given!r}": _top(id=given) for given in (None, "always the same", 7, ["x"], {})},
    "id of 1 MB": _top(id="i" * 10**6),
    **{f"model {given!r}": _top(model=given) for given in (None, "another", 7, ["x"], "\ud800")},
    "model with the key": _top(model=KEY),
    **{
        f"logprobs {given!r}": _logprobs(given)
        for given in (None, "text", 7, [TOKEN], {"content": None}, {"content": "text"}, {"content": [7]})
    },
    "logprobs without a number": _logprobs({"content": [{"token": "a"}]}),
    "logprobs of texts": _logprobs({"content": [TOKEN | {"logprob": "-0.5"}]}),
    "logprobs of no number": _logprobs({"content": [TOKEN | {"logprob": float("nan")}]}),
    "logprobs without an end": _json(KEPT, lambda right: _with(right, TOKEN).replace(b"-0.5", b"-1e999")),
    "logprobs of huge numbers": _logprobs({"content": [TOKEN | {"logprob": 10**400}]}),
    "logprobs of odd alternatives": _logprobs({"content": [TOKEN | {"top_logprobs": [7, None]}]}),
    "logprobs of odd bytes": _logprobs({"content": [TOKEN | {"bytes": given} for given in ("x", [-1], [999], {"a": 1}, 7)]}),
    "logprobs of lone surrogates": _logprobs({"content": [TOKEN | {"token": "\ud800"}]}),
    "logprobs of 5,000 tokens": _logprobs({"content": [TOKEN] * 5000}),
}
WIRES = {
    "dropped before the head": _wire(NONE, lambda head, body: [None]),
    "dropped within the head": _wire(NONE, lambda head, body: [head[:20], None]),
    "dropped after the head": _wire(NONE, lambda head, body: [head, None]),
    "dropped within the body": _wire(NONE, lambda head, body: [head + body[:-20], None]),
    "reset before the head": _wire(NONE, lambda head, body: [...]),
    "reset within the body": _wire(NONE, lambda head, body: [head + body[:-20], 0.01, ...]),
    "a length too short": _wire(NONE, lambda head, body: [HEAD + b"content-length: %d\r\n\r\n" % (len(body) - 30) + body]),
    "a length too long": _wire(NONE, lambda head, body: [HEAD + b"content-length: %d\r\n\r\n" % (len(body) + 30) + body, None]),
    "a length too long, left open": _wire(NONE, lambda head, body: [HEAD + b"content-length: 9999\r\n\r\n" + body, 99.0], slow=True),
    **{
        f"length {given}": _wire(EITHER, lambda head, body, given=given: [HEAD + f"content-length: {given}\r\n\r\n".encode() + body, None])
        for given in ("-5", "many", "9" * 30, "5, 6", "")
    },
    "no length, closed": _wire(KEPT, lambda head, body: [HEAD + b"\r\n" + body, None]),
    "HTTP/1.0, closed": _wire(KEPT, lambda head, body: [HEAD.replace(b"/1.1", b"/1.0") + b"\r\n" + body, None]),
    "closed with a word": _wire(KEPT, lambda head, body: [head[:-2] + b"connection: close\r\n\r\n" + body, None], alone=False),
    "closed without a word": _wire(KEPT, lambda head, body: [head + body, None]),
    "chunked": _wire(KEPT, lambda head, body: [CHUNKED + _chunks(body) + b"0\r\n\r\n"], alone=False),
    "chunked by bytes": _wire(KEPT, lambda head, body: [CHUNKED + _chunks(body, 1) + b"0\r\nx: y\r\n\r\n"], alone=False),
    "chunked, and cut": _wire(NONE, lambda head, body: [CHUNKED + _chunks(body)[:-40], None]),
    "chunked, without an end": _wire(NONE, lambda head, body: [CHUNKED + _chunks(body), None]),
    "chunked by odd sizes": _wire(NONE, lambda head, body: [CHUNKED + b"zz\r\n" + body, None]),
    "chunked by wrong sizes": _wire(NONE, lambda head, body: [CHUNKED + b"5\r\n" + body + b"\r\n0\r\n\r\n", None]),
    "chunked, with a length": _wire(
        EITHER, lambda head, body: [CHUNKED[:-2] + b"content-length: 4\r\n\r\n" + _chunks(body) + b"0\r\n\r\n"]
    ),
    "in small parts": _wire(KEPT, lambda head, body: _slowly(head + body), alone=False),
    "drop by drop": _wire(NONE, lambda head, body: _slowly(head + body, 10, 0.05), slow=True),
    "silence": _wire(NONE, lambda head, body: [99.0], slow=True),
    "silence after the head": _wire(NONE, lambda head, body: [head, 99.0], slow=True),
    "silence before the last byte": _wire(NONE, lambda head, body: [head + body[:-1], 99.0], slow=True),
    "twice at once": _wire(KEPT, lambda head, body: [(head + body) * 2]),
    "twice, a little later": _wire(KEPT, lambda head, body: [head + body, 0.01, head + body]),
    "with bytes behind": _wire(KEPT, lambda head, body: [head + body + b"junk\x00\xff"]),
    "with lines behind": _wire(KEPT, lambda head, body: [head + body + b"\r\n\r\n"]),
    "with another answer behind": Kind(KEPT, lambda right: [response(200, right) + response(200, _another(right))]),
    "gzip": Kind(KEPT, lambda right: [response(200, gzip.compress(json.dumps(right).encode()), {"content-encoding": "gzip"})], alone=False),
    "gzip, and cut": Kind(
        NONE, lambda right: [response(200, gzip.compress(json.dumps(right).encode())[:-30], {"content-encoding": "gzip"})]
    ),
    **{f"{name} that is none": _bytes(EITHER, bytes, **{"content-encoding": name}) for name in ("gzip", "deflate", "br", "zstd", "x", "")},
    "a header of 200 KB": _wire(EITHER, lambda head, body: [head[:-2] + b"x: " + b"y" * 200_000 + b"\r\n\r\n" + body]),
    "a thousand headers": _wire(EITHER, lambda head, body: [head[:-2] + b"x: y\r\n" * 1000 + b"\r\n" + body]),
    **{
        f"a header {line!r}": _wire(EITHER, lambda head, body, line=line: [head[:-2] + line + b"\r\n\r\n" + body])
        for line in (b"x", b": y", b"x: \xff\xfe", b"x: \0", b"x y: z", b" folded")
    },
    "no reason": _wire(KEPT, lambda head, body: [head.replace(b"200 Told", b"200") + body], alone=False),
    **{
        f"begins {start!r}": _wire(EITHER, lambda head, body, start=start: [head.replace(b"HTTP/1.1 200 Told", start) + body, None])
        for start in (
            b"HTTP/2.0 200 OK",
            b"HTTP/0.9 200",
            b"http/1.1 200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 -1 X",
            b"SSH-2.0-x",
            b"\r\n\r\n",
            b"",
        )
    },
    "no head": _wire(EITHER, lambda head, body: [body, None]),
    "first a 100": _wire(KEPT, lambda head, body: [b"HTTP/1.1 100 Continue\r\n\r\n" + head + body], alone=False),
    "first many 103": _wire(KEPT, lambda head, body: [b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" * 50 + head + body], alone=False),
    "status 101": _wire(NONE, lambda head, body: [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", None]),
}
KINDS = STATUSES | BODIES | CHOICES | FIELDS | WIRES
