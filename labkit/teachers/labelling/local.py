"""A local model behind a local endpoint, so that labelling can be tried without a provider.

    with serving("smollm2") as url:
        labelling.label(prompts, "answers.jsonl", endpoints=url, model="smollm2", terms="read")
    again(recorded_answers.recorded()[:8])   # some recorded questions again: the old and the new answer

It answers one request at a time, with text alone. For more than a few prompts use a real server (`transformers serve`, llama.cpp, vLLM).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from labkit.base.chat import from_json
from labkit.base.errors import LabError
from labkit.base.files import made_here
from labkit.base.interrupts import uninterrupted
from labkit.records.names import FETCHABLE
from labkit.tasks.atlas.extraction import read
from labkit.teachers import labelling
from labkit.teachers.labelling.plan import READ, plan
from labkit.teachers.recorded_answers import RecordedAnswer

if TYPE_CHECKING:
    import pandas


@contextlib.contextmanager
def serving(name: str) -> Iterator[str]:
    """A context manager that serves a model until the block ends. Yields the server's base address.

    Raises `LabError` if the model is not on this machine.
    """
    with uninterrupted():
        from labkit.models import pretrained

    model, turn, count = pretrained.load(name), threading.Lock(), itertools.count(1)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        with turn:
            number = next(count)
            return {"id": f"local-{number}", "model": name, **_answer(model, asked, seed=number)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open

        def do_POST(self) -> None:
            try:
                reply, status = answer(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))), 200
            except (LabError, ValueError, KeyError, TypeError, IndexError) as error:
                reply, status = {"error": {"message": str(error)}}, 400
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: the job reports its progress."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), name="teacher", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def _answer(model: Any, asked: dict[str, Any], seed: int) -> dict[str, Any]:
    """One answer in the format of the protocol."""
    from labkit.models import write

    tokens = model.chat
    prompt = tokens.prompts([from_json(asked["messages"])])
    limit, temperature = int(asked.get("max_tokens") or tokens.longest), float(asked.get("temperature") or 0.0)
    ids = write(model, prompt, temperature=temperature, seed=seed, limit=limit)[0].ids
    finish = "stop" if ids[-1] in tokens.ends else "length"
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": tokens.text(ids)}, "finish_reason": finish}],
        "usage": {"prompt_tokens": len(prompt[0]), "completion_tokens": len(ids)},
    }


def again(said: Sequence[RecordedAnswer], endpoint: str = "", model: str = "smollm2", terms: str = "", **settings: Any) -> pandas.DataFrame:
    """Ask recorded questions again. Questions with an answer from an earlier call are not sent again.

    said: the recorded answers.
    endpoint: base address of a server; by default a fetched model on this machine answers.
    model: the model's name.
    terms: "read", needed for another's endpoint; see `labelling.run`.
    settings: those of `labelling.Settings`.

    Returns a table of what each new answer names, and what the recorded one named.

    Raises `LabError` if there is no such model here, or if the terms were not read.
    """
    import pandas

    asked = [s.question.text for s in said]
    path = made_here("labels") / f"{model.replace('/', '--')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not endpoint and model in FETCHABLE:
        terms = READ  # these are Apache-2.0
    with contextlib.nullcontext(endpoint) if endpoint else serving(model) as url:
        report = labelling.run(plan(asked, path, endpoints=url, model=model, **{"max_tokens": 32, **settings}), terms=terms)
    lines = path.read_text(encoding="utf-8").splitlines() if report.written else []
    rows = {from_json(row["prompt"]): row for row in map(json.loads, lines)}
    result = []
    for s in said:
        if (row := rows.get(s.question.text)) is not None:
            now = read(s.question, row["response"], cut=row["provenance"]["finish"] == "length")
            result.append(
                {"question": s.question.text, "says": row["response"], "names": now.named, "right": now.right, "named then": s.named}
            )
    return pandas.DataFrame(result, columns=["question", "says", "names", "right", "named then"])
