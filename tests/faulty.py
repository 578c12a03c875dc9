"""An OpenAI-compatible server on loopback that fails as it is told to, and remembers what it was asked.

    with Server(lambda prompt, nth: "500" if nth == 1 else "ok") as server: ...      # server.url, server.asked, server.answered
    python tests/faulty.py 0.05                                                       # one that only takes 50 ms; prints its address

`behave(prompt, nth)` says what becomes of the nth time a prompt is asked: the name of a fault; a status with its body and headers; or a
list of what goes over the wire: bytes, seconds to wait, and at its end perhaps None to close the connection, or ... to reset it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

Behaviour = str | tuple[int, Any] | tuple[int, Any, dict[str, str]] | list[Any]


class Server:
    def __init__(self, behave: Callable[[str, int], Behaviour] | None = None, delay: float = 0.0) -> None:
        self.behave, self.delay = behave or (lambda prompt, nth: "ok"), delay
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times, self.answered = Counter[str](), Counter[str]()  # by prompt
        self.numbers, self.numbered = itertools.count(1), True  # each answer has an id of its own, as from any good server
        self.models = ["teacher-large", "teacher-small"]
        self.under_way = self.peak = 0
        self.busy, self.first, self.last = 0.0, 0.0, 0.0  # seconds of all requests, and when the first came and the last went
        self.open_again = threading.Event()  # what `hold` waits for
        self._started = threading.Event()

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._end.wait()
        server.close()
        for task in self._tasks:
            task.cancel()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False closes the connection."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        began = time.perf_counter()
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
        if lines[0].startswith("GET"):
            page = {"busy": self.busy, "wall": self.last - self.first, "peak": self.peak, "data": [{"id": m} for m in self.models]}
            writer.write(response(200, page))
            return True
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.first = self.first or began
        prompt = body["messages"][-1]["content"]
        self.asked.append(body)
        self.headers.append(headers)
        self.times[prompt] += 1
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            return await self._answer(writer, self.behave(prompt, self.times[prompt]), body, prompt)
        finally:
            self.under_way -= 1
            self.last = time.perf_counter()
            self.busy += self.last - began

    async def _answer(self, writer: asyncio.StreamWriter, how: Behaviour, body: dict[str, Any], prompt: str) -> bool:
        if isinstance(how, tuple):
            writer.write(response(*how))
            return True
        if isinstance(how, list):
            return await self._parts(writer, how)
        right = completion(body, prompt, next(self.numbers) if self.numbered else 1)
        whole = response(200, right)
        match how:
            case "ok":
                pass
            case "500":
                whole = response(500, {"error": {"message": "the server broke"}})
            case "drop":
                return False
            case "half":  # the connection ends in the middle of the body
                writer.write(whole[:-20])
                await writer.drain()
                return False
            case "cut":  # a whole response, with half a JSON in it
                whole = response(200, json.dumps(right)[:-20].encode())
            case "garbage":
                whole = response(200, b"<html>Bad gateway \xff</html>")
            case "strange":
                whole = response(200, {"choices": [], "usage": None})
            case "wrong type":
                whole = response(200, {"choices": [{"message": {"content": {"text": 3}}}]})
            case "twice":
                whole += whole
            case "twice, late":  # when the next request is under way, if the server takes its time
                self._loop.call_later(0.01, writer.write, whole)
            case "hang":
                await self._end.wait()
            case "hold":
                while not self.open_again.is_set():
                    await asyncio.sleep(0.005)
            case "drip":
                for byte in whole:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.02)
            case "late":  # so that answers come in another order than requests went out
                await asyncio.sleep(0.03 * (int(prompt.rsplit(" ", 1)[1]) % 3))
            case "choices":  # in another order than their index says
                other = dict(right["choices"][0], index=1, message={"role": "assistant", "content": "the other one"})
                whole = response(200, right | {"choices": [other, *right["choices"]]})
            case "length" | "content_filter":
                whole = response(200, right | {"choices": [dict(right["choices"][0], finish_reason=how)]})
            case "empty":
                message = {"role": "assistant", "content": None}
                whole = response(200, right | {"choices": [dict(right["choices"][0], message=message)]})
            case "no usage":
                whole = response(200, {name: value for name, value in right.items() if name != "usage"})
            case "no logprobs":
                whole = response(200, completion(body | {"logprobs": False}, prompt))
            case _:
                raise ValueError(how)
        writer.write(whole)
        self.answered[prompt] += how in (
            "ok",
            "late",
            "hold",
            "twice",
            "twice, late",
            "length",
            "empty",
            "choices",
            "no usage",
            "no logprobs",
        )
        return True

    async def _parts(self, writer: asyncio.StreamWriter, parts: list[Any]) -> bool:
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            elif isinstance(part, float):
                await asyncio.sleep(part)
            elif part is ...:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not parts or isinstance(parts[-1], bytes | float)


def completion(body: dict[str, Any], prompt: str, number: int = 1) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"Answer to {prompt}"}}
    if body.get("logprobs"):
        top = [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in (("Ans", -0.5), ("An", -1.5))]
        whole = [{"token": "Ans", "logprob": -0.5, "bytes": list(b"Ans"), "top_logprobs": top[: body["top_logprobs"]]}]
        choice["logprobs"] = {"content": whole}
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"] + "-2026",
        "choices": [choice],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def response(status: int, body: Any, headers: dict[str, str] | None = None) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"content-type": "application/json", "content-length": str(len(content))} | (headers or {})
    return f"HTTP/1.1 {status} Told\r\n{''.join(f'{n}: {v}' + chr(13) + chr(10) for n, v in told.items())}\r\n".encode() + content


if __name__ == "__main__":
    with Server(delay=float(sys.argv[1])) as server:
        print(server.url, flush=True)
        sys.stdin.read()
