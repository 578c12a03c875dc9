"""Sequence-level distillation: the teacher's text is the data set. It is kept with its history of decoding and filters.

    data = generate(teacher, Atlas("half").questions(1000), "greedy")
    data = keep(data, "truth", world)         # data.history has the number of rows after each step
    data.save("answers.jsonl"); Sequences.load("answers.jsonl")

Only text goes from teacher to student, so the two may have any tokenizers (Kim & Rush 2016, arXiv 1606.07947).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaForCausalLM

from labkit import models
from labkit.base.chat import from_json, to_json
from labkit.base.errors import DataError, LabError, reading, unknown
from labkit.base.files import made_here, read_lines, write_lines
from labkit.base.settings import default
from labkit.models import EOS, fingerprint, tokenizer_of
from labkit.models.damage import refuse_damaged
from labkit.records.experiment import Experiment
from labkit.records.names import DECODINGS
from labkit.tasks.atlas.facts import Atlas, normalise
from labkit.tasks.types import Asked
from labkit.teachers.signals import PASS, distinct, sample_answers

WIDE = 10_000  # from this vocabulary size on fewer rows are written at a time, because logits need much memory
CONFIDENT = 0.5  # lowest probability of a whole answer that the confidence filter keeps
VOTERS = ("atlas-900k", "atlas-200k")  # the other teachers of a vote
BEAMS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class TextRow:
    """One prompt and the teacher's response."""

    prompt: str
    response: str
    logprob: float  # of the whole response under the teacher, in nats, at temperature 1


@dataclasses.dataclass(frozen=True, slots=True)
class Sequences:
    """The data set of a sequence run."""

    rows: tuple[TextRow, ...]
    history: tuple[dict[str, Any], ...]  # settings of the decoding, then each filter with the number of rows before and after it

    def __len__(self) -> int:
        return len(self.rows)

    def save(self, path: str | Path) -> Path:
        """Write JSON lines with a checksum, the history first, gzipped if the name ends in .gz; atomically. Returns the path."""
        path = Path(path)
        rows = [dataclasses.asdict(row) | {"prompt": to_json(row.prompt)} for row in self.rows]
        write_lines(path, (json.dumps(line, ensure_ascii=False) for line in [{"history": list(self.history)}, *rows]))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Sequences:
        """Read a data set that `save` wrote. Raises `DataError` if the file cannot be read."""
        path = Path(path)
        mend = "Write it again with `generate(...).save(path)`."
        with reading(path, mend, "is not a data set of sequences"):
            first, *lines = read_lines(path, mend)
            rows = [TextRow(**row | {"prompt": from_json(row["prompt"])}) for row in map(json.loads, filter(None, lines))]
            if not all(isinstance(row.response, str) and isinstance(row.logprob, float | int) for row in rows):
                raise TypeError("a response must be a text, and its logprob a number")
            return cls(tuple(rows), tuple(map(dict, json.loads(first)["history"])))


# ---- writing ---------------------------------------------------------------------------------------------------------------------


def generate(
    teacher: LlamaForCausalLM,
    questions: Sequence[Asked],
    decoding: str = "greedy",
    temperature: float = 1.0,
    samples: int = 1,
    seed: int = 0,
) -> Sequences:
    """Let the teacher answer questions. A question that occurs twice is answered once, unless it has many right answers and is sampled.

    decoding: "greedy"; "sample"; "beam", the likeliest of 4 beams; "interpolated", the one of 4 beams that is nearest to the gold label.
    temperature: of "sample".
    samples: answers to each question; more than 1 only with "sample".

    Returns `samples` rows for each question, in order.

    Raises `LabError` for an unknown decoding, or one that cannot give several samples.

    Source: Kim & Rush 2016, arXiv 1606.07947; "interpolated" is in section 3.3.
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
    """`generate` with progress: yields the number of answered distinct questions, and of all.

    folder: where finished chunks are kept; chunks that are there already are not computed again.
    chunk: texts in a chunk.

    Raises `LabError` as `generate` does.
    """
    if decoding not in DECODINGS:
        raise unknown("decoding", decoding, DECODINGS)
    if samples != 1 and decoding != "sample":
        raise LabError(f"samples={samples} with decoding={decoding!r}: only decoding='sample' gives different answers to one question.")
    entries, golds, entry_of_row = distinct(questions, again=decoding == "sample")
    texts = [text for text, _ in entries for _ in range(samples)]
    labels = [gold for gold in golds for _ in range(samples)]
    written: list[TextRow] = []
    tokens = tokenizer_of(teacher)
    size = PASS if decoding in ("beam", "interpolated") else (chunk or default().chunk) if tokens.size < WIDE else PASS // 2
    for start in range(0, len(texts), size):
        asked, wanted = texts[start : start + size], labels[start : start + size]
        kept = folder / f"{start:08}.jsonl.gz" if folder else None
        rows = _kept(kept, asked)
        if rows is None:
            rows = tuple(_answer(teacher, asked, wanted, decoding, temperature, seed * 1_000_003 + start))
            if kept:
                Sequences(rows, ()).save(kept)
        written += rows
        yield len(written) // samples, len(entries)
    settings: dict[str, Any] = {"decoding": decoding, "samples": samples, "seed": seed, "rows": len(entry_of_row) * samples}
    settings |= {"temperature": temperature} if decoding == "sample" else {}
    settings |= {"teacher": fingerprint(teacher), "tokenizer": tokens.fingerprint}
    return Sequences(tuple(written[entry * samples + i] for entry in entry_of_row for i in range(samples)), (settings,))


def _kept(path: Path | None, asked: Sequence[str]) -> tuple[TextRow, ...] | None:
    """The rows of a finished chunk, or None if there is no file, or if it is damaged or for other questions."""
    try:
        rows = Sequences.load(path).rows if path and path.exists() else ()
    except DataError:  # damaged: the chunk is written again
        return None
    return rows if [to_json(row.prompt) for row in rows] == [to_json(text) for text in asked] else None


def _answer(
    teacher: LlamaForCausalLM, texts: Sequence[str], labels: Sequence[str], decoding: str, temperature: float, seed: int
) -> list[TextRow]:
    tokens = tokenizer_of(teacher)
    prompts = tokens.prompts(texts)
    if decoding in ("beam", "interpolated"):
        wanted = labels if decoding == "interpolated" else [None] * len(labels)
        golds = [None if gold is None else tokens.answers([gold])[0] for gold in wanted]
        chosen = [_choose(beams, gold) for beams, gold in zip(_beams(teacher, prompts), golds, strict=True)]
    else:
        answers = sample_answers(teacher, prompts, tokens.answers(labels), seed, temperature if decoding == "sample" else 0.0)
        chosen = [(answer.ids, answer.logprob) for answer in answers]
    return [TextRow(text, tokens.written(ids), logprob) for text, (ids, logprob) in zip(texts, chosen, strict=True)]


@torch.no_grad()
def _beams(teacher: LlamaForCausalLM, prompts: Sequence[Sequence[int]]) -> list[list[tuple[list[int], float]]]:
    """The `BEAMS` likeliest answers to each prompt that beam search finds, best first, with their log-probabilities in nats."""
    width = max(map(len, prompts))
    tokens = torch.tensor([[EOS] * (width - len(p)) + list(p) for p in prompts])
    visible = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    ends = tokenizer_of(teacher).ends
    with _own_text(teacher, GenerationConfig(eos_token_id=sorted(ends), pad_token_id=EOS)):
        out = teacher.generate(
            tokens.to(teacher.device),
            attention_mask=visible.to(teacher.device),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            length_penalty=0.0,  # scores are then log-probabilities
            max_new_tokens=tokenizer_of(teacher).longest,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
    texts = [_ended(row, ends) for row in out.sequences[:, width:].tolist()]
    scored = list(zip(texts, out.sequences_scores.tolist(), strict=True))
    refuse_damaged(teacher, [logprob for _, logprob in scored])
    return [scored[i : i + BEAMS] for i in range(0, len(scored), BEAMS)]


@contextlib.contextmanager
def _own_text(teacher: Any, settings: GenerationConfig) -> Iterator[None]:
    """The teacher without its own settings of `generate`, such as a repetition penalty, which would fill in what a call leaves open."""
    before, teacher.generation_config = teacher.generation_config, settings
    try:
        yield
    finally:
        teacher.generation_config = before


def _ended(ids: list[int], ends: Collection[int]) -> list[int]:
    """Tokens up to the first end mark, with it."""
    return ids[: next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))]


def _choose(beams: Sequence[tuple[list[int], float]], gold: Sequence[int] | None) -> tuple[list[int], float]:
    """The likeliest beam, or the one with the fewest token edits to the gold label, and of these the likeliest."""
    if gold is None:
        return max(beams, key=lambda beam: beam[1])
    return min(beams, key=lambda beam: (edits(beam[0], gold), -beam[1]))


def edits(one: Sequence[int], other: Sequence[int]) -> int:
    """Levenshtein distance between two lists of tokens."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


# ---- filtering -------------------------------------------------------------------------------------------------------------------


def keep(data: Sequences, rule: str, world: Atlas | None, others: Sequence[Sequences] = ()) -> Sequences:
    """Filter a data set.

    rule: which rows are kept.
        "truth": right answers, by Atlas. "confidence": answers to which the teacher gives a probability of at least 0.5.
        "agreement": answers that at least half of the question's samples give. "distinct": each pair of prompt and response once.
        "vote": answers that one of the other teachers gives too.
    world: decides "truth"; other rules do not need it.
    others: answers of other teachers to the same prompts, for "vote".

    Returns the rows kept, with the filter and their number in the history.

    Raises `LabError` for an unknown rule, for agreement without several samples, for a vote without others, or if no row is left.
    """
    answers_of_others = [{(row.prompt, normalise(row.response)) for row in other.rows} for other in others]

    def voted(rows: Sequence[TextRow], world: Atlas | None) -> list[TextRow]:
        return [row for row in rows if any((row.prompt, normalise(row.response)) in known for known in answers_of_others)]

    rules = {"truth": _true, "confidence": _confident, "agreement": _agreed, "distinct": _distinct, "vote": voted}
    if rule not in rules:
        raise unknown("filter", rule, rules)
    if rule == "vote" and not others:
        raise LabError(
            "the filter 'vote' needs the answers of other teachers: give their data sets too, as in keep(data, 'vote', world, [others])."
        )
    if rule == "agreement" and data.history[0].get("samples", 1) < 2:
        raise LabError("the filter 'agreement' needs several answers to a question: set samples=5 with decoding='sample'.")
    rows = tuple(rules[rule](data.rows, world))
    if not rows:
        raise LabError(f"the filter {rule!r} leaves none of {len(data)} rows: use another filter.")
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
    """The data set of a sequence run, from disk if it is there; yields progress as `writing` does.

    world: None if the questions are not those of Atlas.
    chunk: texts that are written at a time.

    Returns the filtered data set.
    """
    exp = experiment
    digest = hashlib.blake2b("\n".join(f"{to_json(q.text)}{q.gold}" for q in questions).encode(), digest_size=8).hexdigest()
    tokens = tokenizer_of(teacher)
    name = f"{exp.decoding}-{exp.sampling_temperature:g}-{exp.samples}-{fingerprint(teacher)}-{tokens.fingerprint}-{digest}"
    name += f"-{tokens.longest}" if world is None else ""
    path = made_here("sequences") / f"{name}.jsonl.gz"
    try:
        data = Sequences.load(path)
    except DataError:  # missing or damaged: it is written (again)
        begun = made_here("sequences") / f"{name}.part"
        data = yield from writing(teacher, questions, exp.decoding, exp.sampling_temperature, exp.samples, 0, begun, chunk)
        data.save(path)
        shutil.rmtree(begun, ignore_errors=True)
    others = []
    for voter in VOTERS if exp.keep == "vote" else ():
        others.append((yield from sequences_for(exp.but(teacher=voter, keep="all"), models.teacher(voter), questions, world, chunk)))
    return data if exp.keep == "all" else keep(data, exp.keep, world, others)
