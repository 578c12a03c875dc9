"""Every kind of file that the lab reads: how it is made, and how it is read. `damage` harms them.

Add a kind for each new reader; tests/soak/test_soak.py fails for one that no kind reaches.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers import made
from soak.core import REPOSITORY, home

from labkit import models
from labkit.base import settings, tensors
from labkit.base.files import append_row, data_dir, made_here, rows_of
from labkit.diagnosis.incidents import history
from labkit.lessons import handin, passed, predictions
from labkit.models import lora, pretrained
from labkit.models.heads import io as heads_io
from labkit.records import events as ev
from labkit.records import measurements, results, shards
from labkit.records import record as records
from labkit.records.experiment import Experiment
from labkit.records.recipe_text import given_in_toml
from labkit.studies.sweep import Sweep, _sweep, sweep
from labkit.tasks.atlas import tables
from labkit.tasks.atlas.facts import SKILLS, Atlas
from labkit.tasks.custom.rows import read_rows
from labkit.tasks.metrics.structure import _schema
from labkit.teachers import cross_tokenizer_pool, text_data
from labkit.teachers.labelling import journal
from labkit.teachers.recorded_answers import recorded
from labkit.teachers.signals import Signals
from labkit.teachers.text_data import Sequences, TextRow
from labkit.teachers.topk_store import TopKStore
from labkit.training.checkpoint import Folder, Position
from labkit.training.prerequisites import Prerequisites, warm_recipe

AGAIN = "made again"  # what a reader of a cache returns that makes it anew


class Kind(NamedTuple):
    """A kind of file.

    make: writes one into an empty folder, with what it needs beside it, and returns its path.
    read: reads it.
    sealed: whether a change of its content is always seen. With rows, it is a list to which rows are added, each sealed by itself: all that
        is read must have been written.
    flips: how many single bits the test in tests/base turns.
    fields: whether each field of its JSON is replaced too.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    sealed: bool = True
    flips: int = 60
    fields: bool = True
    rows: bool = False


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


CROSSINGS = "a teacher/answers-0.001-00000.json.gz 0-8"


def _crossings(path: Path) -> Path:
    plain = [{f"answer {n}": 0.5 / (n + 1), "other": 0.25} for n in range(8)]
    path.write_bytes(gzip.compress(json.dumps({"of": CROSSINGS, "answers": plain}).encode()))
    return path


def _read_crossings(path: Path) -> Any:
    chunk = cross_tokenizer_pool._read(path, CROSSINGS, 8)
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
    def write(path: Path) -> Path:
        for row in rows:
            append_row(path, row)
        return path

    return write


def _rows(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Reads a list as the lab does, and returns the rows that count."""

    def from_path(path: Path) -> Any:
        read(path)
        return [row for row in rows_of(path).values() if row]

    return from_path


def _handed_in(path: Path) -> Path:
    with home(path.parent / "home"):
        _ledger([GUESS, PASS])(predictions.ledger())
        _ledger([INCIDENT])(history.ledger())
        made_here("records").mkdir(parents=True)
        _story().save(made_here("records") / "run.jsonl.gz")
        handin.handin(path, "Ada")
    shutil.rmtree(path.parent / "home")
    return path


def _written(text: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_text(text)
        return path

    return write


def _in_home(read: Callable[[], Any]) -> Callable[[Path], Any]:
    def from_path(path: Path) -> Any:
        with home(path.parent):
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
PASS = {"kind": "pass", "exercise": "00.kl", "answer": "def kl(p, q): ...", "made": "now"}
INCIDENT = {"case": "a", "truth": ["x"], "named": ["x"], "detectors": [], "probes": [], "minutes": 3, "cures": 1, "cured": 1, "made": "now"}
TOML = "[experiment]\ntemperature = 2.0\n"
JOURNAL = [{"key": str(n), "response": f"It is {n}.", "used": [10, 5]} for n in range(6)]
SWEEP = "[sweep]\nseeds = 3\n\n[experiment]\nsteps = 60\n\n[grid]\ntemperature = [1.0, 2.0]\n"
ROWS = [{"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(6)]

OF_A_MODEL = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


def _utf8(path: Path) -> str:
    from labkit.cli.output import read

    return read(path)


def _model(folder: Path) -> Path:
    made(folder / "made", 1, 1)
    pretrained.save(pretrained.load(str(folder / "made")), folder / "saved")
    shutil.rmtree(folder / "made")
    return folder / "saved"


def _models() -> dict[str, Kind]:
    """Each file of a saved model, with the manifest that seals them all and without."""

    def kind(name: str, sealed: bool) -> Kind:
        def make(folder: Path) -> Path:
            saved = _model(folder)
            if not sealed:
                (saved / "manifest.json").unlink()
            return saved / name

        fields = not sealed and name in ("config.json", "generation_config.json", "tokenizer_config.json")
        return Kind(make, lambda path: _logits(pretrained.load(str(path.parent))), sealed, 6, fields)

    found = {f"a model's {name}": kind(name, True) for name in (*OF_A_MODEL, "manifest.json")}
    return found | {f"an unsealed model's {name}": kind(name, False) for name in OF_A_MODEL}


class _Made(Exception):
    """What is asked for is not there, and would be trained now."""


def _train(recipe: Experiment) -> Any:
    raise _Made


BEFORE = Prerequisites(_train, lambda: False, settings.default())
GENERATION = Experiment(student="7k", start="random")


def _kept_student(kind: str, key: str) -> Callable[[Path], Path]:
    """Weights of a student, in the folder and under the name by which a run looks for them."""

    def make(folder: Path) -> Path:
        with home(folder):
            path = made_here(kind) / f"{key}.safetensors"
            tensors.save(path, dict(models.student("7k", 1).named_parameters()), {"recipe": key})
            return path

    return make


def _read_warm_start(path: Path) -> Any:
    student = models.student("7k", 2)
    with home(path.parents[2]):
        try:
            list(BEFORE.warm_up(GENERATION, student, 0))
        except _Made:
            return AGAIN
    return models.fingerprint(student)


def _read_earlier(path: Path) -> Any:
    with home(path.parents[2]):
        try:
            return models.fingerprint(BEFORE.successor(GENERATION, [GENERATION], torch.device("cpu")))
        except _Made:
            return AGAIN


def _shipped(place: str, read: Callable[[], Any]) -> Kind:
    """A file that ships with the lab, in a folder of data of which the others are links."""

    def make(folder: Path) -> Path:
        source, copy = REPOSITORY / "data", folder
        for part in (*Path(place).parent.parts, ""):
            for other in source.iterdir():
                (copy / other.name).symlink_to(other)
            if part:
                source, copy = source / part, copy / part
                copy.unlink()
                copy.mkdir()
        (folder / place).unlink()
        shutil.copyfile(REPOSITORY / "data" / place, folder / place)
        return folder / place

    def from_path(path: Path) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LABKIT_DATA", str(path.parents[len(Path(place).parts) - 1]))
            for cached in (tables.places, models.tokenizer, _sweep):
                cached.cache_clear()
            try:
                return read()
            finally:
                for cached in (tables.places, models.tokenizer, _sweep):
                    cached.cache_clear()

    return Kind(make, from_path, flips=20, fields=False)


SHARD = "architecture_rates"
SHIPPED = {
    "a shipped measurement": _shipped("measurements/flips.json", lambda: measurements.rows("flips")),
    "the shipped results": _shipped("results.csv", lambda: len(results.rows())),
    "a shipped shard": _shipped(
        f"records/{SHARD}.jsonl.xz", lambda: [shards.log(data_dir() / "records" / f"{SHARD}.jsonl.xz", key) for key in _keys()]
    ),
    "a shipped table": _shipped("atlas/places.csv", lambda: sorted(map(len, tables.places().values()))),
    "a shipped tokenizer": _shipped("tokenizers/atlas.json", lambda: models.tokenizer().prompts(["What is the capital of Chad?"])),
    "shipped answers": _shipped("answers/smollm2.jsonl.gz", recorded),
    "a shipped sweep": _shipped("sweeps/rates.toml", lambda: sweep("rates").experiments())._replace(sealed=False),
}


def _keys() -> list[str]:
    return shards.keys(data_dir() / "records" / f"{SHARD}.jsonl.xz")


FILES = (
    {
        "a plain record": Kind(_named("run.jsonl", lambda path: _story().save(path)), _read_record, flips=150),
        "a record": Kind(_named("run.jsonl.gz", lambda path: _story().save(path)), _read_record),
        "a plain data set of text": Kind(_named("text.jsonl", _text), Sequences.load),
        "the cache of texts": Kind(_named("0.jsonl.gz", _text), _read_chunk),
        "the cache of crossings": Kind(_named("0.json.gz", _crossings), _read_crossings, fields=False),
        "a checkpoint": Kind(lambda folder: _run_folder(folder).checkpoint, _read_run, fields=False),
        "a log": Kind(lambda folder: _run_folder(folder).log, _read_run),
        "draft heads": Kind(_named("heads.safetensors", _heads), _read_heads, fields=False),
        "an adapter": _adapter("adapter_model.safetensors")._replace(fields=False),
        "an adapter's settings": _adapter("adapter_config.json"),
        "an adapter's manifest": _adapter("manifest.json"),
        "a shard of top k": Kind(lambda folder: _filled(folder) / "00000.safetensors", _read_store, fields=False),
        "the index of top k": Kind(lambda folder: _filled(folder) / "index.json", _read_store),
        "signals": Kind(_signal_chunk, _read_signals, fields=False),
        "predictions": Kind(
            _named("predictions.jsonl", _ledger([GUESS, {"kind": "truth", "question_id": "00", "truth": 0.3}, PASS])),
            _rows(_in_home(lambda: (predictions.calibration(), passed.passed()))),
            rows=True,
        ),
        "a hand-in": Kind(_named("handin.html", _handed_in), handin.read, fields=False),
        "incidents": Kind(_named("incidents.jsonl", _ledger([INCIDENT])), _rows(_in_home(history.answers)), rows=True),
        "a recipe": Kind(_named("a.toml", _written(TOML)), lambda path: given_in_toml(_utf8(path)), sealed=False, fields=False),
        "a sweep": Kind(_named("a.toml", _written(SWEEP)), lambda path: Sweep.from_toml(_utf8(path)), sealed=False, fields=False),
        "own rows": Kind(_named("own.jsonl", _written("".join(json.dumps(row) + "\n" for row in ROWS))), read_rows, sealed=False),
        "own rows as JSON": Kind(_named("own.json", _written(json.dumps(ROWS))), read_rows, sealed=False, fields=False),
        "own rows as CSV": Kind(_named("own.csv", _written("prompt,response\na,b\nc,d\n")), read_rows, sealed=False, fields=False),
        "a schema": Kind(
            _named("a.json", _written('{"type": "object", "required": ["a"]}')), lambda path: bool(_schema(path)), sealed=False
        ),
        "a warm start": Kind(_kept_student("starts", warm_recipe(GENERATION, 0).key), _read_warm_start, fields=False),
        "an earlier generation": Kind(_kept_student("assistants", GENERATION.key), _read_earlier, fields=False),
        "a journal": Kind(
            _named("answers.jsonl.journal", _ledger(JOURNAL)), _rows(lambda path: list(journal.rows(path))), fields=False, rows=True
        ),
    }
    | _models()
    | SHIPPED
)
