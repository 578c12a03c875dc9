"""Sequence-level distillation: the teacher's text is the data set, kept with where it came from, and filtered in the open.

    data = generate(teacher, Atlas("half").questions(1000), "greedy")
    data = keep(data, "truth", world)         # data.history says what each step left over
    data.save("answers.jsonl"); Sequences.load("answers.jsonl")

Only text passes from teacher to student, so any pair of tokenizers will do (Kim & Rush 2016, arXiv 1606.07947).
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from labkit import models
from labkit.base.errors import DataError, LabError, unknown
from labkit.base.files import made_here, write_whole
from labkit.base.settings import default
from labkit.models import EOS, AtlasTokenizer, fingerprint, tokenizer, tokenizer_of
from labkit.records.experiment import Experiment
from labkit.records.names import DECODINGS
from labkit.tasks.atlas.facts import Atlas, normalise
from labkit.tasks.types import Asked
from labkit.teachers.signals import PASS, distinct, sample_answers

WIDE = 10_000  # tokens of a vocabulary whose logits take so much room that fewer rows are written at a time
CONFIDENT = 0.5  # least probability of a whole answer that the confidence filter keeps
VOTERS = ("atlas-900k", "atlas-200k")  # the other teachers of a vote
BEAMS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class TextRow:
    """One prompt and the teacher's response; `logprob` is what the teacher gives the whole response, in nats, at temperature 1."""

    prompt: str
    response: str
    logprob: float


@dataclasses.dataclass(frozen=True, slots=True)
class Sequences:
    """Rows, and their history: how they were written, then every filter with the number of rows it was given and left."""

    rows: tuple[TextRow, ...]
    history: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def save(self, path: str | Path) -> Path:
        """JSON lines, the history first, gzipped if the name ends in .gz; whole or not at all."""
        path = Path(path)
        lines = [{"history": list(self.history)}, *map(dataclasses.asdict, self.rows)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        write_whole(path, lambda to: to.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Sequences:
        """Raises `DataError` naming the file and what is wrong with it."""
        path = Path(path)
        try:
            raw = path.read_bytes()
            text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
            first, *lines = text.removesuffix("\n").split("\n")  # a text may hold other separators of lines
            return cls(tuple(TextRow(**json.loads(line)) for line in lines), tuple(json.loads(first)["history"]))
        except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
            raise DataError(f"{path} is no data set of sequences ({error}). Write it again with `generate(...).save(path)`.") from None


# ---- writing ---------------------------------------------------------------------------------------------------------------------


def generate(
    teacher: LlamaForCausalLM,
    questions: Sequence[Asked],
    decoding: str = "greedy",
    temperature: float = 1.0,
    samples: int = 1,
    seed: int = 0,
) -> Sequences:
    """The teacher's responses, a row (or `samples` rows) for every question asked, in order.

    decoding: greedy; sample, at `temperature`; beam, the likeliest of 4; interpolated, of 4 beams the one nearest to the gold label
    (Kim & Rush, section 3.3). A question asked twice is answered once, unless it has many right answers and they are sampled.
    Raises `LabError` for a decoding that does not exist, or cannot give several samples.
    """
    work = writing(teacher, questions, decoding, temperature, samples, seed)
    try:
        while True:
            next(work)
    except StopIteration as done:
        return done.value


def writing(
    teacher: LlamaForCausalLM,
    questions: Sequence[Asked],
    decoding: str,
    temperature: float,
    samples: int,
    seed: int,
    folder: Path | None = None,
    chunk: int | None = None,
) -> Generator[tuple[int, int], None, Sequences]:
    """`generate`, telling as it goes how many of the different questions are answered, and of how many. What is written goes into `folder`
    bit by bit, and what is there already is not asked again."""
    if decoding not in DECODINGS:
        raise unknown("decoding", decoding, DECODINGS)
    if samples != 1 and decoding != "sample":
        raise LabError(f"samples={samples} with decoding={decoding!r}: only decoding='sample' gives different answers to one question.")
    entries, golds, entry_of_row = distinct(questions, again=decoding == "sample")
    texts = [text for text, _ in entries for _ in range(samples)]
    labels = [gold for gold in golds for _ in range(samples)]
    found: list[TextRow] = []
    own = tokenizer_of(teacher)
    size = PASS if decoding in ("beam", "interpolated") else (chunk or default().chunk) if own.size < WIDE else PASS // 2
    for start in range(0, len(texts), size):
        asked, wanted = texts[start : start + size], labels[start : start + size]
        kept = folder / f"{start:08}.jsonl.gz" if folder else None
        said = _kept(kept, asked)
        if said is None:
            said = tuple(_answer(teacher, asked, wanted, decoding, temperature, seed * 1_000_003 + start))
            if kept:
                Sequences(said, ()).save(kept)
        found += said
        yield len(found) // samples, len(entries)
    how: dict[str, Any] = {"decoding": decoding, "samples": samples, "seed": seed, "rows": len(entry_of_row) * samples}
    how |= {"temperature": temperature} if decoding == "sample" else {}
    how |= {"teacher": fingerprint(teacher), "tokenizer": own.fingerprint}
    rows = [found[entry * samples + i] for entry in entry_of_row for i in range(samples)]
    return Sequences(tuple(rows), (how,))


def _kept(path: Path | None, asked: Sequence[str]) -> tuple[TextRow, ...] | None:
    """The answers to these that a run left before it was killed."""
    try:
        rows = Sequences.load(path).rows if path and path.exists() else ()
    except DataError:  # damaged: they are written again
        return None
    return rows if [row.prompt for row in rows] == list(asked) else None


def _answer(
    teacher: LlamaForCausalLM, texts: Sequence[str], labels: Sequence[str], decoding: str, temperature: float, seed: int
) -> list[TextRow]:
    own = tokenizer_of(teacher)
    prompts = own.prompts(texts)
    if decoding in ("beam", "interpolated"):
        wanted = labels if decoding == "interpolated" else [None] * len(labels)
        chosen = [_choose(beams, gold) for beams, gold in zip(_beams(teacher, prompts), wanted, strict=True)]
    else:
        said = sample_answers(teacher, prompts, own.answers(labels), seed, temperature if decoding == "sample" else 0.0)
        chosen = [(answer.ids, answer.logprob) for answer in said]
    return [TextRow(text, own.text(ids), logprob) for text, (ids, logprob) in zip(texts, chosen, strict=True)]


@torch.no_grad()
def _beams(teacher: LlamaForCausalLM, prompts: Sequence[Sequence[int]]) -> list[list[tuple[list[int], float]]]:
    """The `BEAMS` likeliest answers found for each prompt, best first, each with its log-probability."""
    width = max(map(len, prompts))
    tokens = torch.tensor([[EOS] * (width - len(p)) + list(p) for p in prompts])
    visible = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = teacher.generate(
        tokens.to(teacher.device),
        attention_mask=visible.to(teacher.device),
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        length_penalty=0.0,  # so that scores are plain log-probabilities
        max_new_tokens=tokenizer_of(teacher).longest,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    texts = [[*row[: row.index(EOS)], EOS] if EOS in row else row for row in out.sequences[:, width:].tolist()]
    scored = list(zip(texts, out.sequences_scores.tolist(), strict=True))
    return [scored[i : i + BEAMS] for i in range(0, len(scored), BEAMS)]


def _choose(beams: Sequence[tuple[list[int], float]], gold: str | None) -> tuple[list[int], float]:
    """The likeliest beam, or the one nearest to the gold label in edits of tokens (the likelier of two as near)."""
    if gold is None:
        return max(beams, key=lambda beam: beam[1])
    wanted = tokenizer().answers([gold])[0]
    return min(beams, key=lambda beam: (edits(beam[0], wanted), -beam[1]))


def edits(one: Sequence[int], other: Sequence[int]) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


# ---- filtering -------------------------------------------------------------------------------------------------------------------


def keep(data: Sequences, rule: str, world: Atlas | None, others: Sequence[Sequences] = ()) -> Sequences:
    """The rows a filter lets pass, with its count in the history.

    truth: right, by Atlas. confidence: the teacher gives the whole answer at least 0.5. agreement: the answer at least half of a
    question's samples give. distinct: each prompt and response once. vote: answers that one of `others`, what other teachers said to
    the same prompts, gives too. Raises `LabError` for an unknown rule, for agreement without several samples, for a vote without
    others, and when nothing is left.
    """
    said = [{(row.prompt, normalise(row.response)) for row in other.rows} for other in others]

    def voted(rows: Sequence[TextRow], world: Atlas | None) -> list[TextRow]:
        return [row for row in rows if any((row.prompt, normalise(row.response)) in answers for answers in said)]

    rules = {"truth": _true, "confidence": _confident, "agreement": _agreed, "distinct": _distinct, "vote": voted}
    if rule not in rules:
        raise unknown("filter", rule, rules)
    if rule == "vote" and not others:
        raise LabError(
            "the filter 'vote' needs what other teachers said: give their data sets too, as in keep(mine, 'vote', world, [theirs])."
        )
    if rule == "agreement" and data.history[0].get("samples", 1) < 2:
        raise LabError("the filter 'agreement' needs several answers to a question: set samples=5 with decoding='sample'.")
    rows = tuple(rules[rule](data.rows, world))
    if not rows:
        raise LabError(f"the filter {rule!r} leaves none of {len(data)} rows, and there is nothing to learn from: choose a milder one.")
    return Sequences(rows, (*data.history, {"filter": rule, "given": len(data), "left": len(rows)}))


def _true(rows: Sequence[TextRow], world: Atlas | None) -> list[TextRow]:
    assert world is not None, "only Atlas knows what is true"
    asked = {row.prompt: world.find(row.prompt) for row in rows}
    return [row for row in rows if (question := asked[row.prompt]) is not None and world.is_right(question, row.response)]


def _confident(rows: Sequence[TextRow], world: Atlas | None) -> list[TextRow]:
    return [row for row in rows if row.logprob >= math.log(CONFIDENT)]


def _agreed(rows: Sequence[TextRow], world: Atlas | None) -> list[TextRow]:
    answers: dict[str, Counter[str]] = {}
    for row in rows:
        answers.setdefault(row.prompt, Counter())[row.response] += 1
    return [row for row in rows if answers[row.prompt][row.response] * 2 >= answers[row.prompt].total()]


def _distinct(rows: Sequence[TextRow], world: Atlas | None) -> list[TextRow]:
    first: dict[tuple[str, str], TextRow] = {}
    for row in rows:
        first.setdefault((row.prompt, row.response), row)
    return list(first.values())


def sequences_for(
    experiment: Experiment, teacher: LlamaForCausalLM, questions: Sequence[Asked], world: Atlas | None, chunk: int | None = None
) -> Generator[tuple[int, int], None, Sequences]:
    """The data set of a sequence run, telling as it goes how many questions are answered, of how many; kept on disk for the next. `world`
    is None where Atlas cannot say what is true."""
    exp = experiment
    said = hashlib.blake2b("\n".join(q.text + q.gold for q in questions).encode(), digest_size=8).hexdigest()
    own = tokenizer_of(teacher)
    how = f"{exp.decoding}-{exp.sampling_temperature:g}-{exp.samples}-{fingerprint(teacher)}-{own.fingerprint}-{said}"
    how += f"-{own.longest}" if world is None else ""
    path = made_here("sequences") / f"{how}.jsonl.gz"
    try:
        data = Sequences.load(path)
    except DataError:  # not there yet, or damaged: it is written (again)
        begun = made_here("sequences") / f"{how}.part"
        data = yield from writing(teacher, questions, exp.decoding, exp.sampling_temperature, exp.samples, 0, begun, chunk)
        data.save(path)
        shutil.rmtree(begun, ignore_errors=True)
    others = []
    for voter in VOTERS if exp.keep == "vote" else ():
        others.append((yield from sequences_for(exp.but(teacher=voter, keep="all"), models.teacher(voter), questions, world, chunk)))
    return data if exp.keep == "all" else keep(data, exp.keep, world, others)


# ---- as a pool to train on ---------------------------------------------------------------------------------------------------------


class TextPool:
    """The rows of a data set as a student reads them, in its own vocabulary. Raises `LabError` for one that says nothing, or only one
    thing."""

    growing = False  # all there from the start

    def __init__(self, data: Sequences, own: AtlasTokenizer | None = None) -> None:
        if not any(row.response.strip() for row in data.rows):
            raise LabError(
                f"all {len(data)} responses are empty: the teacher ended at once. Ask a teacher that answers, or decode otherwise."
            )
        if len(data) > 1 and len({(row.prompt, row.response) for row in data.rows}) == 1:
            raise LabError(f"the {len(data)} rows are one row repeated ({data.rows[0].prompt!r}): ask different questions.")
        self.data = data
        own = own or tokenizer()
        self._prompts = own.prompts([row.prompt for row in data.rows])
        self._answers = own.answers([row.response for row in data.rows])

    def __len__(self) -> int:
        return len(self.data)

    def prompt(self, row: int) -> list[int]:
        return self._prompts[row]

    def answer(self, row: int) -> list[int]:
        return self._answers[row]
