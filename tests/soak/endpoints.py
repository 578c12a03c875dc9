"""Faulty endpoints: each kind of odd response, given to some requests of a labelling job. The server's own book is the judge."""

from __future__ import annotations

import itertools
import json
import os
import random
from pathlib import Path
from typing import Any, NamedTuple

from faulty import Server, completion, response
from soak.core import LOST, RIGHT, SILENT, TOLD, Case, Family, Wrong, no_traceback, said
from soak.responses import EITHER, KEPT, KEY, KINDS, USAGE, USELESS, Kind, saying, text_of

from labkit.base.errors import LabError
from labkit.teachers import labelling
from labkit.teachers.labelling import loop, running


class Row(NamedTuple):
    """What the server has sent for a prompt once."""

    prompt: str
    gives: str
    text: str
    tokens: int  # that its usage tells


class Book:
    """Behaves as a case says, and writes down what it sends."""

    def __init__(self, case: Case) -> None:
        self.case, self.kinds, self.server = case, [KINDS[name] for name in (case["kind"], *case["beside"])], Server(self.behave)
        self.slow = any(kind.slow for kind in self.kinds)
        self.count = min(case["prompts"], 6 if self.slow else 25)
        self.rows: list[Row] = []
        self.numbers, self.well = itertools.count(1), False

    def behave(self, prompt: str, nth: int) -> list[Any]:
        number, place = next(self.numbers), int(prompt.rsplit(" ", 1)[1])
        body = next(body for body in reversed(self.server.asked) if body["messages"][-1]["content"] == prompt)
        right = completion(body, prompt, number)
        right = saying(right, content=f"Answer {number} to {prompt}")
        if self.well or not self._odd(place, nth):
            kind = Kind(KEPT, lambda right: [response(200, right)])
        else:
            kind = random.Random(f"{self.case['seed']} {place} {nth}").choice(self.kinds)
        parts = kind.parts(right)
        told = b"".join(part for part in parts if isinstance(part, bytes))
        paid = kind.gives == KEPT and json.dumps(USAGE)[1:-1].encode() in told
        self.rows.append(Row(prompt, kind.gives, kind.text(text_of(right)), sum(USAGE.values()) * paid))
        return parts

    def _odd(self, place: int, nth: int) -> bool:
        count = self.count
        match self.case["when"]:
            case "first":
                return nth == 1
            case "middle":
                return count // 3 <= place < 2 * count // 3 + 1
            case "some":
                return random.Random(f"{self.case['seed']} {nth} {place}").random() < 0.3
        return True  # always


def draw(rng: random.Random) -> Case:
    """How the responses of the case's kind are given; sometimes with those of another kind."""
    return {
        "beside": [rng.choice(list(KINDS))] if rng.random() < 0.25 else [],
        "when": rng.choice(("first", "always", "middle", "some")),
        "prompts": rng.randint(3, 25),
        "concurrency": rng.choice((1, 2, 4, 8)),
        "logprobs": rng.choice((None, 2)),
        "tries": rng.choice((1, 2, 3)),
        "seed": rng.randrange(10**6),
    }


def attempt(case: Case, folder: Path) -> str:
    """Label while the server is faulty, and again when it is well."""
    loop.FIRST_WAIT, loop.LONGEST_WAIT = 0.005, 0.05
    os.environ["OPENAI_API_KEY"] = KEY
    book = Book(case)
    prompts = [f"question {n}" for n in range(book.count)]
    strict = not any(kind.alone or kind.slow for kind in book.kinds)
    with book.server:
        first = _label(book, folder, prompts)
        written = _judge(book, folder, prompts, first, strict)
        known, book.well = len(book.rows), True
        useless = {row.prompt for row in book.rows if row.gives == USELESS}
        second = _label(book, folder, prompts)
        again = {row.prompt for row in book.rows[known:]} & (written | (useless if strict else set()))
        if again:
            raise Wrong(LOST, f"asked again, although answered: {sorted(again)}")
        finished = _judge(book, folder, prompts, second, strict)
        if second is None or set(prompts) - finished - useless or not written <= finished:
            raise Wrong(LOST, f"not complete when the server is well again: {sorted(set(prompts) - finished)}; {said()}")
    return RIGHT if first and written == set(prompts) else TOLD


def _label(book: Book, folder: Path, prompts: list[str]) -> labelling.Report | None:
    """Label as `labkit label` does. Returns None if it ended with a sentence."""
    timeout = 0.4 if book.slow else 20.0
    settings = {"timeout": timeout} | {name: book.case[name] for name in ("concurrency", "logprobs", "tries")}
    try:
        job = labelling.plan(prompts, folder / "answers.jsonl", endpoints=book.server.url, model="teacher", **settings)
        report = running.run(job, terms="read", watch=lambda progress: print(progress, flush=True))
        print(report, flush=True)
        return report
    except LabError as error:
        print(f"labkit: {error}", flush=True)
        return None


def _judge(book: Book, folder: Path, prompts: list[str], report: labelling.Report | None, strict: bool) -> set[str]:
    """Compare what is in the folder with what the server has sent. Returns the prompts that have an answer.

    strict: whether each whole answer must be kept: connections were sound.
    """
    no_traceback(said())
    answers = _rows(folder / "answers.jsonl")
    written = [row["prompt"] for row in answers]
    for row in answers:
        right = {sent.text for sent in book.rows if sent.prompt == row["prompt"] and sent.gives in (KEPT, EITHER)}
        if row["response"] not in right:
            raise Wrong(SILENT, f"the answer to {row['prompt']} is {row['response'][:200]!r}, and may be {[t[:200] for t in right]}")
    if written != [prompt for prompt in prompts if prompt in written]:
        raise Wrong(SILENT, f"the answers are not in order, each once: {written}")
    failed = [prompts[row["line"] - 1] for row in _rows(folder / "answers.jsonl.failed")]
    left = report.left if report else len(prompts) - len(written) - len(failed)
    if set(failed) & set(written) or len(written) + len(failed) + left != len(prompts) or left < 0:
        raise Wrong(LOST, f"{len(written)} written, {failed} failed and {left} left are not {len(prompts)} prompts")
    for place, sent in enumerate(book.rows if strict else ()):
        later = [row.text for row in book.rows[place + 1 :] if row.prompt == sent.prompt]
        if sent.gives in (KEPT, USELESS) and (later or (sent.gives == KEPT and sent.prompt not in written)):
            raise Wrong(LOST, f"{sent.text[:200]!r} was thrown away, and asked for {len(later)} times more: {said()}")
    spent = labelling.plan(prompts, folder / "answers.jsonl", endpoints=book.server.url, model="teacher").spent.tokens
    if (told := sum(row.tokens for row in book.rows)) > spent or (report and report.spent.tokens < told):
        raise Wrong(LOST, f"the server has told {told} tokens, and the job {spent}")
    _no_key(folder)
    return set(written)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line] if path.exists() else []


def _no_key(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder.parent / "said"):
        text = path.read_text(errors="replace") if path.is_file() else ""
        if (place := max(text.find(KEY[:20]), text.find(KEY[-20:]))) >= 0:
            raise Wrong(SILENT, f"a part of the key is in {path.name}: {text[max(0, place - 80) :][:150]!r}")


FAMILIES = {"endpoint faults": Family(draw, attempt, aim=240, short=12, kinds=tuple(KINDS))}
