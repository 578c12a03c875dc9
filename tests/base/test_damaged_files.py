"""Every kind of file that the lab reads, damaged in every way that a disk, an editor or a cut copy damages one.

Each case must end right: in the content that was written, in a cache that is made again (`AGAIN`), or in a `LabError`. Never in another
exception, and never in another number without a word.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers import made

from labkit import models
from labkit.base import tensors
from labkit.base.errors import LabError
from labkit.base.files import append_row
from labkit.diagnosis.incidents import history
from labkit.lessons import predictions
from labkit.models import lora, pretrained
from labkit.models.heads import io as heads_io
from labkit.records import events as ev
from labkit.records import record as records
from labkit.records.experiment import Experiment
from labkit.records.recipe_text import given_in_toml
from labkit.studies.sweep import Sweep
from labkit.tasks.atlas.facts import SKILLS, Atlas
from labkit.tasks.custom.rows import read_rows
from labkit.tasks.metrics.structure import _schema
from labkit.teachers import cross_tokenizer_pool, text_data
from labkit.teachers.labelling import journal
from labkit.teachers.signals import Signals
from labkit.teachers.text_data import Sequences, TextRow
from labkit.teachers.topk_store import TopKStore
from labkit.training.checkpoint import Folder, Position

AGAIN = "made again"
DEEP = b"[" * 100_000
KINDS = (
    b"",
    b"\0" * 500,
    b"[]",
    b"null",
    b"3",
    b'"text"',
    b"{}",
    b'{"a": null}',
    DEEP,
    b'{"a":' * 50_000,
    b"[1]\n[2]\n",
    b"\x89PNG\r\n\x1a\n\xff",
)

Case = tuple[str, bytes | None]


class Kind(NamedTuple):
    """A kind of file: how it is made in a folder, how it is read, and whether a change of its content is always seen."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    sealed: bool = True
    flips: int = 60
    fields: bool = True  # whether each field of its JSON is replaced too


def damages(path: Path, kind: Kind) -> Iterator[Case]:
    """What becomes of a file, each with a name."""
    whole = path.read_bytes()
    yield "gone", None
    for other in KINDS:
        yield f"swapped by {other[:12]!r}", other
        yield f"swapped by gzipped {other[:12]!r}", gzip.compress(other)
    for length in {1, len(whole) // 3, len(whole) - 1}:
        yield f"cut to {length}", whole[:length]
    for place in range(0, len(whole), max(1, len(whole) // kind.flips)):
        yield f"bit {place % 8} of byte {place}", whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
    middle = len(whole) // 2
    yield "zeros", whole[:middle] + bytes(len(whole) - middle)
    if kind.fields:
        yield from _other_fields(whole)


def _other_fields(whole: bytes) -> Iterator[Case]:
    """JSON lines, or one JSON object: each field of each first object of its form with a value of another type, or missing."""
    packed = whole[:2] == b"\x1f\x8b"
    text = gzip.decompress(whole) if packed else whole
    try:
        lines = [json.loads(text)]
    except ValueError:
        lines = [json.loads(line) for line in text.splitlines()]
    tried: set[tuple[str, ...]] = set()
    for number, line in enumerate(lines):
        if not isinstance(line, dict) or (form := (*line, str(line.get("event")))) in tried:
            continue
        tried.add(form)
        for name in line:
            if name == "seal":
                continue
            for value in (None, [], "text", {"a": []}, -1.5, "missing"):
                other = {k: v for k, v in line.items() if k != "seal"} | {name: value}
                if value == "missing":
                    del other[name]
                changed = [json.dumps(row).encode() for row in [*lines[:number], other, *lines[number + 1 :]]]
                data = b"\n".join(changed) + b"\n"
                if number and not packed and b'"seal"' in changed[0]:
                    data = data.replace(changed[0], json.dumps({k: v for k, v in lines[0].items() if k != "seal"}).encode(), 1)
                yield f"line {number} with {name}={value!r}", gzip.compress(data) if packed else data


# ---- how each is made and read ---------------------------------------------------------------------------------------------------------


def _story() -> records.Record:
    scores = dict.fromkeys(SKILLS, 0.5)
    return records.Record(
        [
            ev.Started(Experiment().to_dict(), "t", 3, 2, 2, 2, SKILLS, "m"),
            ev.Labelled(2, 2, 0.1),
            ev.Inspected(1, {"entropy": 1.0}),
            *(ev.Step(step, step / 8, 128 * step, {"loss": 3.0 / step, "kl": 2.0 / step, "grad_norm": 1.0}) for step in (1, 2)),
            ev.Reference("teacher", dict.fromkeys(SKILLS, 1.0)),
            ev.Reference("label budget", dict.fromkeys(SKILLS, 0.25), ((1, 2.0), (2, 1.0)), "labkit", 2),
            ev.Evaluated(2, 0.5, scores, {"kl": 1.0, "agreement": 0.5}, {"validity": 1.0}, 0.1, {"right": 1.0}, True, {"unended": 0.0}),
            ev.Sampled(2, ({"question": "?", "skill": "open", "student": "a", "teacher": "b", "truth": "c", "verdict": "wrong"},)),
            ev.Probe(2, "?", ("a", "b"), (0.5, 0.25), (0.25, 0.5)),
            ev.Warned(2, "careful"),
            ev.Finished(2, 0.75, "completed", {"questions": 256}),
        ]
    )


def _read_record(path: Path) -> Any:
    record = records.load(path)
    record.table(), record.waterfall(), record.curve(), [record.numbers(group) for group in records.GROUPS]
    return [ev.dumps(event) for event in record.events], record.recovery()


def _text(path: Path) -> Path:
    rows = tuple(TextRow(f"What is {n}?", f"It is {n}.", -0.5 * n) for n in range(12))
    return Sequences(rows, ({"decoding": "greedy", "samples": 1, "rows": 12},)).save(path)


def _read_chunk(path: Path) -> Any:
    kept = text_data._kept(path, [f"What is {n}?" for n in range(12)])
    return AGAIN if kept is None else kept


def _crossings(path: Path) -> Path:
    answers = [{f"answer {n}": 0.5 / (n + 1), "other": 0.25} for n in range(8)]
    path.write_bytes(gzip.compress(json.dumps({"of": "these", "answers": answers}).encode()))
    return path


def _read_crossings(path: Path) -> Any:
    chunk = cross_tokenizer_pool._read(path, "these", 8)
    return AGAIN if chunk is None else chunk


def _learner() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    learner = torch.nn.Linear(6, 3)
    optimiser = torch.optim.AdamW(learner.parameters())
    learner(torch.ones(2, 6)).sum().backward()
    optimiser.step()
    return learner, optimiser


def _run_folder(folder: Path) -> Folder:
    kept, (learner, optimiser) = Folder(folder, Experiment()), _learner()
    assert kept.claim()
    for event in _story().events[:5]:
        kept.write_down(event)
    kept.save(learner, optimiser, vars(Position(step=2, seen=9)))
    for event in _story().events[5:]:
        kept.write_down(event)
    kept.close()
    return kept


def _read_run(path: Path) -> Any:
    kept, learner = Folder(path.parent, Experiment()), torch.nn.Linear(6, 3)
    assert kept.claim()
    try:
        kept.turned()
        at = kept.load(learner, torch.optim.AdamW(learner.parameters()))
        return AGAIN if at is None else (at, learner.weight.tolist(), [ev.dumps(event) for event in kept.told()])
    finally:
        kept.close()


def _adapted() -> Any:
    student = models.student("7k", 1)
    lora.add(student, 2, seed=2)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    return student


def _logits(model: Any) -> list[float]:
    with torch.no_grad():
        return model.eval().float()(torch.tensor([[0, 5, 9]])).logits.flatten().tolist()


def _start(path: Path) -> Path:
    tensors.save(path, dict(models.student("7k", 1).named_parameters()), {"recipe": "labkit"})
    return path


def _read_start(path: Path) -> Any:
    kept, note = tensors.load(path)
    return {name: tensor.tolist() for name, tensor in kept.items()}, note


def _heads(path: Path) -> Path:
    heads_io.save(heads_io.make("medusa", models.student("7k", 1), ahead=2), path)
    return path


def _read_heads(path: Path) -> Any:
    return {name: p.tolist() for name, p in heads_io.load(path, models.student("7k", 1)).named_parameters()}


def _store(folder: Path) -> TopKStore:
    return TopKStore(folder, vocabulary=50, k=4, who="a teacher", shard=6)


def _read_store(path: Path) -> Any:
    store = _store(path.parent)
    known = {row: (store.answer(row), [part.tolist() for part in store.read([row])]) for row in range(4) if store.has(row)}
    return (known, store.tokens) if len(known) == 4 else AGAIN


def _filled(folder: Path) -> Path:
    with _store(folder) as store:
        for row in range(4):
            store.add([row], [[row, 7, 9]], torch.randn(3, 50, generator=torch.Generator().manual_seed(row)))
    return folder


def _signals(folder: Path) -> Signals:
    return Signals(models.teacher("atlas-200k"), Atlas("half").questions(8, 7), folder)


def _read_signals(path: Path) -> Any:
    pool = _signals(path.parent.parent)
    kept = pool._read(path, range(min(pool.chunk, pool.total))) if path.exists() else None
    return AGAIN if kept is None else {name: tensor.tolist() for name, tensor in kept.items()}


def _signal_chunk(folder: Path) -> Path:
    pool = _signals(folder)
    list(pool.prepare([0]))
    return pool.folder / "00000.safetensors"


def _ledger(rows: list[dict[str, Any]]) -> Callable[[Path], Path]:
    return _written("".join(json.dumps(row) + "\n" for row in rows))


def _appended(*rows: dict[str, Any]) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        for row in rows:
            append_row(path, row)
        return path

    return write


def _known() -> Any:
    """What the ledger of predictions says; it tells of damage in its sentence, and one without a row begins again."""
    found = predictions.calibration()
    return AGAIN if found["unreadable"] or not found["n"] + found["waiting"] else found


def _solved() -> Any:
    answers, damaged = history.answers()
    return AGAIN if damaged or not answers else answers


def _paid(path: Path) -> Any:
    """The answers of a journal; a damaged line is told, and what stood there is asked again."""
    kept = [row for _, row in journal.rows(path)]
    answers = [{name: row.get(name) for name in PAID} for row in kept if row and "response" in row]
    return AGAIN if None in kept or not answers else answers


def _written(text: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_text(text)
        return path

    return write


def _in_home(read: Callable[[], Any]) -> Callable[[Path], Any]:
    def from_path(path: Path) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LABKIT_HOME", str(path.parent))
            return read()

    return from_path


def _named(name: str, make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    return lambda folder: make(folder / name)


def _adapter(name: str) -> Kind:
    return Kind(
        lambda folder: lora.save(_adapted(), folder) / name,
        lambda path: _logits(lora.loaded(models.student("7k", 1), path.parent)),
        flips=8,
    )


GUESS = {"kind": "prediction", "question_id": "00", "low": 0.1, "high": 0.5, "confidence": 0.8, "unit": "", "made": "now"}
INCIDENT = {"case": "a", "truth": ["x"], "named": ["x"], "detectors": [], "probes": [], "minutes": 3, "cures": 1, "cured": 1, "made": "now"}
PAID = {"key": "k", "response": "Paris", "finish": "stop", "tokens": [10, 5]}
TOML = "[experiment]\ntemperature = 2.0\n"
SWEEP = "[sweep]\nseeds = 3\n\n[experiment]\nsteps = 60\n\n[grid]\ntemperature = [1.0, 2.0]\n"
ROWS = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(6)]

FILES = {
    "a plain record": Kind(_named("run.jsonl", lambda path: _story().save(path)), _read_record, flips=150),
    "a record": Kind(_named("run.jsonl.gz", lambda path: _story().save(path)), _read_record),
    "a plain data set of text": Kind(_named("text.jsonl", _text), Sequences.load),
    "the cache of texts": Kind(_named("0.jsonl.gz", _text), _read_chunk),
    "the cache of crossings": Kind(_named("0.json.gz", _crossings), _read_crossings, fields=False),
    "a checkpoint": Kind(lambda folder: _run_folder(folder).checkpoint, _read_run, fields=False),
    "a log": Kind(lambda folder: _run_folder(folder).log, _read_run),
    "a start": Kind(_named("start.safetensors", _start), _read_start, fields=False),
    "draft heads": Kind(_named("heads.safetensors", _heads), _read_heads, fields=False),
    "an adapter": _adapter("adapter_model.safetensors")._replace(fields=False),
    "an adapter's settings": _adapter("adapter_config.json"),
    "an adapter's manifest": _adapter("manifest.json"),
    "a shard of top k": Kind(lambda folder: _filled(folder) / "00000.safetensors", _read_store, fields=False),
    "the index of top k": Kind(lambda folder: _filled(folder) / "index.json", _read_store),
    "signals": Kind(_signal_chunk, _read_signals, fields=False),
    "predictions": Kind(
        _named("predictions.jsonl", _appended(GUESS, {"kind": "truth", "question_id": "00", "truth": 0.3})), _in_home(_known), flips=500
    ),
    "incidents": Kind(_named("incidents.jsonl", _appended(INCIDENT)), _in_home(_solved), flips=500),
    "a journal": Kind(_named("a.jsonl.journal", _appended(PAID, PAID)), _paid, flips=500),
    "predictions of before": Kind(
        _named("predictions.jsonl", _ledger([GUESS, {"kind": "truth", "question_id": "00", "truth": 0.3}])),
        _in_home(predictions.calibration),
        sealed=False,
    ),
    "incidents of before": Kind(_named("incidents.jsonl", _ledger([INCIDENT])), _in_home(history.answers), sealed=False),
    "a recipe": Kind(_named("a.toml", _written(TOML)), lambda path: given_in_toml(_utf8(path)), sealed=False, fields=False),
    "a sweep": Kind(_named("a.toml", _written(SWEEP)), lambda path: Sweep.from_toml(_utf8(path)), sealed=False, fields=False),
    "own rows": Kind(_named("own.jsonl", _ledger(ROWS)), read_rows, sealed=False),
    "own rows as JSON": Kind(_named("own.json", _written(json.dumps(ROWS))), read_rows, sealed=False, fields=False),
    "own rows as CSV": Kind(_named("own.csv", _written("prompt,response\na,b\nc,d\n")), read_rows, sealed=False, fields=False),
    "a schema": Kind(_named("a.json", _written('{"type": "object", "required": ["a"]}')), lambda path: bool(_schema(path)), sealed=False),
}


def _utf8(path: Path) -> str:
    from labkit.cli.output import read

    return read(path)


@pytest.fixture
def small(tiny_data: Path, settings) -> None:
    settings(chunk=8)


def failures(folder: Path, name: str, kind: Kind) -> list[str]:
    """The cases that end wrong: another exception, or another content that was not noticed."""
    whole = folder / "whole"
    whole.mkdir()
    path = kind.make(whole)
    place, wanted, wrong = path.relative_to(whole), kind.read(path), []
    assert wanted is not AGAIN
    for number, (damage, data) in enumerate(damages(path, kind)):
        copy = folder / str(number)
        shutil.copytree(whole, copy)
        (copy / place).unlink() if data is None else (copy / place).write_bytes(data)
        try:
            found = kind.read(copy / place)
            typed = damage.startswith("line ")  # whoever writes it whole, writes another content
            if kind.sealed and not typed and found is not AGAIN and found != wanted:
                wrong.append(f"{name}, {damage}: {str(found)[:200]}")
        except LabError as error:
            if not str(error).endswith("."):
                wrong.append(f"{name}, {damage}: no sentence: {error}")
        except Exception as error:
            wrong.append(f"{name}, {damage}: {type(error).__name__}: {str(error)[:200]}")
        shutil.rmtree(copy)
    return wrong


@pytest.mark.parametrize("name", FILES)
def test_every_damage_ends_right(small, tmp_path: Path, name: str):
    assert not failures(tmp_path, name, FILES[name])


@pytest.mark.parametrize("sealed", [True, False], ids=["with a manifest", "without"])
def test_every_damage_of_a_model_ends_right(tmp_path: Path, sealed: bool):
    folder = made(tmp_path / "model", 1, 1)
    pretrained.save(pretrained.load(str(folder)), tmp_path / "saved")
    if not sealed:
        (tmp_path / "saved" / "manifest.json").unlink()

    def read(path: Path) -> Any:
        return _logits(pretrained.load(str(path.parent)))

    wrong = []
    for number, file in enumerate(sorted(path.name for path in (tmp_path / "saved").iterdir())):
        (place := tmp_path / str(number)).mkdir()
        fields = not sealed and file in ("config.json", "generation_config.json", "tokenizer_config.json")
        kind = Kind(lambda to, file=file: shutil.copytree(tmp_path / "saved", to, dirs_exist_ok=True) / file, read, sealed, 6, fields)
        wrong += failures(place, file, kind)
    assert not wrong
