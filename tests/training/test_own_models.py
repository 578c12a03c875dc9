"""A learner's own models and data, through the one engine: small random models with real tokenizers stand for the large ones."""

from __future__ import annotations

import functools
import gzip
import json
import math
import re
import shlex
import shutil
import subprocess
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
import torch
from helpers import made, toml
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import answer_logprobs
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import labkit
from labkit import models
from labkit.base.chat import Chat, prompt_of
from labkit.base.errors import LabError
from labkit.base.files import made_here
from labkit.base.manifest import seal_model
from labkit.cli.main import main
from labkit.models import pretrained, tokenizer
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.recipe_text import given_in_words
from labkit.records.record import Record, load
from labkit.studies.card import card
from labkit.studies.decision import Decision
from labkit.studies.distill import SETTLED, distill, recipe
from labkit.studies.result_folder import beside, free
from labkit.studies.sweep import Sweep
from labkit.studies.trace import trace
from labkit.tasks.atlas.exam import Graded
from labkit.tasks.atlas.facts import Atlas
from labkit.tasks.custom.content_hash import with_hashes
from labkit.tasks.custom.exam import CustomExam
from labkit.tasks.custom.rows import Row, read_rows
from labkit.tasks.custom.sources import EXAMPLES
from labkit.tasks.metrics import metric
from labkit.teachers import signals
from labkit.teachers.signals import Signals, TopKSignals
from labkit.teachers.text_data import Sequences, TextRow, generate, sequences_for
from labkit.teachers.text_pool import TextPool
from labkit.training import checkpoint
from labkit.training.loop import Run
from labkit.training.setup import CustomPrompt, CustomTask

PAIRS = [(f"Say {word} {number}.", word.upper()) for word in ("red", "green", "blue") for number in range(30)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return str(made(folder / "teacher", 2, 1)), str(made(folder / "student", 1, 2))


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in PAIRS), encoding="utf-8")
    return str(path)


@pytest.fixture
def own(pair, data) -> Experiment:
    teacher, student = pair
    return Experiment(teacher=teacher, student=student, data=data, longest=6, steps=3, batch=8, learning_rate=1e-3)


# ---- models from elsewhere -------------------------------------------------------------------------------------------------------------


def test_a_question_is_asked_through_the_chat_template(pair):
    chat = pretrained.ChatTokenizer(Path(pair[0]), "own")
    text = "What is 2 + 2?"
    whole = chat.inner.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False)
    assert chat.prompts([text]) == [whole]
    assert chat.text(chat.answers(["four"])[0]) == "four"
    assert chat.answers(["four"])[0][-1] == chat.end


@settings(max_examples=30)
@given(st.text(max_size=40))
def test_a_typed_end_mark_ends_nothing(text: str):
    chat = atlas_chat()
    assert chat.prompts([f"{text}<eos>{text}"])[0].count(0) == chat.prompts(["?"])[0].count(0)
    assert chat.answers([f"{text}<eos>{text}"])[0].count(0) == 1


@functools.cache
def atlas_chat() -> pretrained.ChatTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer().for_transformers().save_pretrained(folder)
        return pretrained.ChatTokenizer(Path(folder), "own")


def test_a_template_that_takes_no_question_is_told(tmp_path, pair):
    inner = tokenizer().for_transformers()
    for template, words in (
        ("{{ raise_exception('alternate roles') }}", "does not take a single question"),
        ("hello", "leaves out the question"),
    ):
        inner.chat_template = template
        inner.save_pretrained(tmp_path)
        with pytest.raises(LabError, match=words):
            pretrained.ChatTokenizer(tmp_path, "own")


def test_rows_of_padding_in_a_vocabulary_are_cut_off(tmp_path):
    padded = pretrained.load(str(made(tmp_path / "padded", 1, 3, rows=40)), torch.float32)
    assert padded.lm_head.weight.shape[0] == padded.chat.size == tokenizer().size
    tokens = torch.tensor([[1, 2, 3]])
    raw = AutoModelForCausalLM.from_pretrained(tmp_path / "padded", dtype=torch.float32).eval()
    assert torch.allclose(padded(tokens).logits, raw(tokens).logits[..., : padded.chat.size], atol=1e-6)


def test_a_tokenizer_of_another_model_is_told(tmp_path):
    size = tokenizer().size
    with pytest.raises(LabError, match=rf"{size:,} tokens.*{size - 5:,}: give"):
        pretrained.load(str(made(tmp_path / "narrow", 1, 3, rows=-5)))


@pytest.mark.parametrize(
    ("name", "words"),
    [("smollm2", "labkit fetch smollm2"), ("./nowhere", "no such folder"), ("someone/some-model", "labkit fetch someone/some-model")],
)
def test_a_model_that_is_not_here_says_how_to_get_it(name, words):
    with pytest.raises(LabError, match=words):
        pretrained.load(name)


def test_a_setting_that_the_model_ignores_is_ignored_and_half_a_file_refused(tmp_path, pair):
    folder = made(tmp_path / "soft", 1, 1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"final_logit_softcapping": 30.0}))
    assert pretrained.load(str(folder)).traits.head == "linear"
    (folder / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(LabError, match=r"has a damaged model\.safetensors"):
        pretrained.load(str(folder))


def test_a_student_that_is_cut_out_is_cut_again_with_its_teacher(home, monkeypatch):
    from labkit.cli import fetch as command
    from labkit.models import fetch

    seeds = iter((1, 2, 3))
    monkeypatch.setattr(fetch, "fetch", lambda name, source, again: made(home / "models" / name, 3, next(seeds)))
    monkeypatch.setitem(command.CUTS, "smollm2-15", ("smollm2", 2, "spread"))
    found = []
    for words in ([], [], ["--again"]):
        assert main(["fetch", "smollm2-15", *words]) == 0
        found.append(pretrained.load("smollm2-15").lm_head.weight)
    assert torch.equal(found[0], found[1]), "it was here"
    assert torch.equal(found[2], pretrained.load("smollm2").lm_head.weight)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_saved_model_that_was_changed_is_refused(tmp_path, pair, name):
    pretrained.save(pretrained.load(pair[0]), tmp_path / "kept")
    file = tmp_path / "kept" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(LabError, match=rf"{name} is damaged or edited"):
        pretrained.load(str(tmp_path / "kept"))


def test_a_saved_model_is_the_same_model(tmp_path, pair):
    model = pretrained.load(pair[0], torch.float32)
    pretrained.save(model, tmp_path / "kept")
    again = pretrained.load(str(tmp_path / "kept"), torch.float32)
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.allclose(model.to(torch.bfloat16).float()(tokens).logits, again(tokens).logits, atol=1e-5)
    assert again.chat.fingerprint == model.chat.fingerprint


def test_a_prompt_longer_than_the_context_is_told(tmp_path):
    model = pretrained.load(str(made(tmp_path / "short", 1, 1, max_position_embeddings=16)), torch.float32)
    with pytest.raises(LabError, match="context is 16"):
        models.write(model, model.chat.prompts(["word " * 40]))


# ---- signals ---------------------------------------------------------------------------------------------------------------------------


def test_what_is_kept_of_a_teacher_gives_back_its_likeliest_tokens(pair):
    teacher = pretrained.load(pair[0], torch.float32, 6)
    asked = [CustomPrompt(p, (r,), r) for p, r in PAIRS[:40]]
    full, top = Signals(teacher, asked, chunk=8, temperature=0.0), TopKSignals(teacher, asked, k=32, chunk=8, temperature=0.0)
    rows = [3, 0, 39]
    list(full.prepare(range(40)))
    list(top.prepare(range(40)))
    assert [top.answer(i) for i in rows] == [full.answer(i) for i in rows]
    exact, rebuilt = (pool.logits(pool.hidden(rows)).log_softmax(-1) for pool in (full, top))
    best = exact.topk(20).indices  # the states of the other are in fp16, so that which is the last of 32 may differ
    assert torch.allclose(rebuilt.gather(1, best), exact.gather(1, best), atol=4e-3), "fp16"
    assert torch.allclose(rebuilt.exp().sum(-1), torch.ones(len(rebuilt)), atol=1e-4)
    assert full.folder != top.folder
    again = TopKSignals(teacher, asked, k=32, chunk=8, temperature=0.0)
    list(again.prepare(rows))
    assert again.teacher_tokens == 0, "it was on disk"
    assert torch.equal(again.hidden(rows), top.hidden(rows))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_long_gold_response_is_read_no_further_than_an_answer_goes(pair, temperature, monkeypatch):
    """The teacher's own answers as gold, with 300 tokens more behind each: what is said is as without a guess, and never longer."""
    teacher = pretrained.load(pair[0], torch.float32, 6)
    prompts = teacher.chat.prompts([prompt for prompt, _ in PAIRS[:20]])
    plain = [written.ids for written in models.write(teacher, prompts)]
    read: list[int] = []
    states = signals.answer_states
    monkeypatch.setattr(signals, "answer_states", lambda model, rows: read.append(len(rows.labels_N)) or states(model, rows))
    said = signals.sample_answers(teacher, prompts, [[*ids, *[5] * 300] for ids in plain], 0, temperature)
    assert sum(read) == 6 * len(prompts), "what is read is what takes memory"
    if not temperature:
        assert [answer.ids for answer in said] == plain
        assert any(ids[-1] != teacher.chat.end for ids in plain), "else nothing is cut"
    assert all(len(answer.ids) <= 2 * 6 and len(answer.ids) == len(answer.hidden) for answer in said)


def test_no_guess_of_the_small_world_is_cut():
    """So that what the shipped teachers say to shipped recipes stays as it was."""
    for q in Atlas("whole").exam(100):
        for ids in tokenizer().answers(q.answers):
            assert len(ids) <= tokenizer().longest


# ---- one engine ------------------------------------------------------------------------------------------------------------------------


def steps(exp: Experiment) -> tuple[list[dict], Run]:
    run = Run(exp, exams=0)
    return [dict(event.values) for event in run if isinstance(event, ev.Step)], run


@pytest.mark.parametrize("changes", [{}, {"mix": 0.5}, {"method": "answers"}, {"method": "gold", "teacher": "none"}, {"divergence": "jsd"}])
def test_a_few_tokens_at_a_time_give_the_same_student(own, changes, settings):
    """The chunked path against the plain one: losses, norms of gradients and weights, in chunks that do not divide the tokens."""
    plain, one = steps(own.but(**changes))
    settings(logits=7 * tokenizer().size)
    few, other = steps(own.but(**changes))
    for a, b in zip(plain, few, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name] == pytest.approx(b[name], rel=2e-4, abs=1e-6) for name in a)
    for p, q in zip(one.student.parameters(), other.student.parameters(), strict=True):
        assert torch.allclose(p, q, atol=2e-5)


def test_a_trace_spells_a_row_as_the_student_reads_it(own):
    found = trace(own)
    assert any(question in found.example[0] for question, _ in PAIRS), found.example
    assert "Chunked.losses" in str(found)


def test_large_students_read_a_batch_in_passes(own, monkeypatch):
    from labkit.training import batches

    plain, _ = steps(own)
    monkeypatch.setattr(batches, "LARGE", 100)
    monkeypatch.setattr(batches, "MICRO", 40)
    passes, _ = steps(own)
    assert [s["loss"] for s in passes] == pytest.approx([s["loss"] for s in plain], rel=1e-5)
    assert sorted(row for rows in batches.split_by_length([30, 9, 9, 41], 10**9, 1) for row in rows) == [0, 1, 2, 3]


def test_the_first_loss_by_hand(own):
    """Mean KL over the teacher's own greedy answers, from two plain forward passes."""
    told, _ = steps(own.but(steps=1))
    subject = CustomTask(own)
    teacher, student = subject.teacher().float(), subject.student(0).eval()
    pool = subject.pool(teacher)
    rows, _ = subject.feed(pool).next_rows(own.batch, 0.0)
    list(pool.prepare(rows))
    total, count = 0.0, 0
    for row in rows:
        prompt, answer = pool.prompt(row), pool.answer(row)
        a, b = (answer_logprobs(m, prompt, answer) for m in (teacher, student))
        total, count = total + float((a.exp() * (a - b)).sum()), count + len(answer)
    teacher.to(torch.bfloat16)
    assert told[0]["loss"] == pytest.approx(total / count, rel=2e-2), "the teacher reads in bf16"


def test_half_precision_is_near(own):
    plain, half = steps(own)[0], steps(own.but(precision="bf16"))[0]
    assert half[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-2)
    assert half[0]["loss"] != plain[0]["loss"]


def test_text_crosses_tokenizers(own):
    """A student with the lab's own tokenizer, and a teacher with chat tokens: text passes, and what reads token by token is refused."""
    crossed = own.but(student="22k", method="sequence", learning_rate=3e-2)
    record = Record(Run(crossed))
    assert record.complete
    assert "kl" not in record.evaluations[-1].fidelity
    with pytest.raises(LabError, match="set method='sequence'"):
        list(Run(crossed.but(method="output")))


def test_a_knob_is_not_turned_to_labels_that_are_not_there(own):
    run = Run(own)
    next(run)
    assert run.known["gold_rows"] > 0
    run.turn(mix=0.5)
    run.known = {"gold_rows": 0}
    with pytest.raises(LabError, match="has none: add them, or set mix=0"):
        run.turn(mix=0.25)
    assert run.knobs["mix"] == 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"faults": "missing_end"}, "built-in Atlas task"),
        ({"start": "warm"}, "leave out start"),
        ({"teacher": "sibling"}, "built-in Atlas task"),
        ({"keep": "truth", "method": "sequence"}, "asks Atlas what is true"),
        ({"decoding": "beam", "method": "sequence"}, "choose 'greedy'"),
        ({"method": "online", "top_k": 8}, "set signals='live'"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
    ],
)
def test_what_does_not_go_together_is_refused(own, changes, words):
    with pytest.raises(LabError, match=words):
        list(Run(own.but(**changes)))


def test_a_model_from_elsewhere_needs_questions(pair):
    with pytest.raises(LabError, match="set data="):
        list(Run(Experiment(teacher=pair[0])))


def test_data_that_has_changed_is_not_taken_for_the_same(own, data):
    named = recipe(own.teacher, own.student, data, steps=3)
    Path(data).write_text(json.dumps({"prompt": "new", "response": "x"}) + "\n" + Path(data).read_text())
    with pytest.raises(LabError, match="has changed since"):
        list(Run(named))


def test_a_record_is_of_what_the_file_held_then(own, data):
    """`labkit run` and `labkit sweep` on a file by its plain name, before and after the file has changed."""
    done: list[ev.Event] = []
    first = labkit.record(own, watch=done.append)
    labkit.record(own, watch=done.append)
    assert [type(event) for event in done].count(ev.Finished) == 1, "nothing has changed, so nothing is run"
    grid = Sweep(own, {"temperature": [1.0]}, seeds=1)
    grid.run(tell=lambda line: None)
    assert not grid.missing()
    Path(data).write_text("".join(json.dumps({"prompt": p, "response": r.lower()}) + "\n" for p, r in PAIRS), encoding="utf-8")
    assert len(grid.missing()) == 2, "the run and its baseline"
    second = labkit.record(own, watch=done.append)
    assert [type(event) for event in done].count(ev.Finished) == 2
    assert second.experiment.key != first.experiment.key
    assert "label budget" not in second.references, "the baseline on record learned from the other labels"


class Stopped(Exception):
    pass


def until(what: str, step: int):
    """A watcher of `distill` that stops it there, as Ctrl-C does."""

    def watch(of: str, event: ev.Event) -> None:
        if of == what and isinstance(event, ev.Step) and event.step == step:
            raise Stopped

    return watch


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_checkpoint_of_another_model_is_not_gone_on_from(data, tmp_path, who, layers):
    """Cut off, a model replaced in its folder, the same command: it begins anew, as does one that never saw the old weights."""
    teacher, student = made(tmp_path / "teacher", 2, 1), made(tmp_path / "student", 1, 2)
    run = functools.partial(distill, str(teacher), str(student), data, steps=27, batch=4, longest=4, baseline=False)
    with pytest.raises(Stopped):
        run(watch=until("distilled", 26))
    shutil.rmtree(tmp_path / who)
    made(tmp_path / who, layers, 7)
    told: list[ev.Event] = []
    done = run(watch=lambda what, event: told.append(event))
    assert not [event for event in told if isinstance(event, ev.Warned)]
    assert [event.step for event in told if isinstance(event, ev.Step)] == list(range(1, 28))
    assert getattr(done.experiment, who).startswith(f"{tmp_path / who}#")
    assert "#" not in done.record.started.title


def test_a_checkpoint_of_the_same_models_is_gone_on_from(pair, data):
    run = functools.partial(distill, *pair, data, steps=27, batch=4, longest=4, baseline=False)
    with pytest.raises(Stopped):
        run(watch=until("distilled", 26))
    told: list[ev.Event] = []
    run(watch=lambda what, event: told.append(event))
    assert ["goes on from step 25" in event.message for event in told if isinstance(event, ev.Warned)] == [True]


def test_a_folder_of_ones_own_refuses_a_checkpoint_of_another_student(data, tmp_path):
    exp = Experiment(
        teacher="none", method="gold", student=str(made(tmp_path / "s", 1, 2)), data=data, steps=4, batch=4, learning_rate=1e-3
    )
    first = Run(exp, tmp_path / "run", 2)
    assert any(isinstance(event, ev.Step) and event.step == 3 for event in first)
    first._events.close()
    shutil.rmtree(tmp_path / "s")
    made(tmp_path / "s", 2, 7)
    with pytest.raises(LabError, match="belongs to another recipe"):
        list(Run(exp, tmp_path / "run", 2))


def test_a_baseline_of_another_student_is_not_this_ones(data, tmp_path):
    teacher, student = made(tmp_path / "teacher", 2, 1), made(tmp_path / "student", 1, 2)
    run = functools.partial(distill, str(teacher), str(student), data, steps=2, batch=4, longest=4)
    run()
    assert "label budget" in run(baseline=False).record.references
    shutil.rmtree(student)
    made(student, 1, 7)
    assert "label budget" not in run(baseline=False).record.references


def test_a_card_beside_the_weights_may_change(pair, data):
    exp = Experiment(teacher=pair[0], student=pair[1], data=data)
    before = with_hashes(exp)
    (Path(pair[1]) / "README.md").write_text("A student.")
    (Path(pair[1]) / "manifest.json").unlink(missing_ok=True)  # as its own message advises after an edit
    assert with_hashes(before) == before
    seal_model(Path(pair[1]))
    assert with_hashes(exp) == with_hashes(before) == before


@pytest.mark.parametrize("named", ["{}:judge", "python:{}:judge"])
def test_a_score_of_ones_own_that_was_edited_is_another_recipe_and_is_read_again(pair, data, tmp_path, named: str):
    file = tmp_path / "mine.py"
    file.write_text("def judge(answer, reference, prompt): return 1")
    run = functools.partial(distill, *pair, data, steps=2, batch=4, longest=4, score=named.format(file))
    first = run()
    assert first.metric == named.format(file), "what a learner reads has no mark"
    assert set(first.table().iloc[:, 0]) == {1.0}
    assert metric(first.experiment.score)(["Pau"], [Row("Say", "Pau", 1)]).mean == 1
    file.write_text("def judge(answer, reference, prompt): return 0.25")
    with pytest.raises(LabError, match=r"mine\.py:judge has changed"):
        with_hashes(first.experiment)
    second = run()
    assert set(second.table().iloc[:, 0]) == {0.25}, "in the same kernel, and on the baseline's old record"
    assert first.experiment.key != second.experiment.key


def test_the_key_of_shipped_data_is_its_name():
    for name in EXAMPLES:
        exp = Experiment(data=name, student="smollm2-15", teacher="smollm2")
        assert with_hashes(exp) == exp
    assert with_hashes(Experiment()) == Experiment()


def test_the_exam_scores_and_says_whose_mistakes_they_are(pair):
    teacher = pretrained.load(pair[0], torch.float32, 6)
    rows = [CustomPrompt(p, (r,), r) for p, r in PAIRS[:8]]
    exam = CustomExam(rows, teacher, "exact")
    grades = exam.grade(teacher)
    assert grades.fidelity["kl"] == pytest.approx(0, abs=1e-5)
    assert grades.fidelity["agreement"] == 1
    assert grades.fidelity["acceptance"] == pytest.approx(1, abs=1e-5)
    assert grades.truth["inherited"] + grades.truth["right"] == 1, "a teacher repeats its own mistakes"
    told = CustomExam([CustomPrompt(q.text, (a.text,), a.text) for q, a in zip(rows, grades.answers, strict=True)], teacher, "exact")
    assert told.teacher_grades.skills == {"exact": 1.0}
    _, tokens, theirs, mine = exam.probe(teacher)
    assert len(tokens) == len(theirs) == len(mine) == 8
    assert theirs == pytest.approx(mine, abs=1e-6)


def test_a_reference_that_cannot_be_scored_is_told_by_its_line_before_anyone_is_asked(own, data, monkeypatch):
    """The line of the file, in which a broken one comes first, and not the number of the held-out prompt."""
    lines = ["{"] + [json.dumps({"prompt": p, "response": "{}"}) for p, _ in PAIRS]
    Path(data).write_text("\n".join(lines))
    last = CustomTask(own).held[-1].line
    assert json.loads(lines[last - 1])["prompt"] == CustomTask(own).held[-1].text
    Path(data).write_text("\n".join([*lines[: last - 1], lines[last - 1].replace("{}", "no JSON"), *lines[last:]]))
    subject = CustomTask(own.but(score="fields"))
    teacher = subject.teacher()
    monkeypatch.setattr("labkit.tasks.custom.exam.write", lambda *_: pytest.fail("the teacher was asked"))
    with pytest.raises(LabError, match=f"the reference of line {last}, 'no JSON', is not JSON"):
        subject.exam(teacher)


# ---- turns, and reasoning --------------------------------------------------------------------------------------------------------------


def rewritten(data: str, change: Callable[[str, str], dict]) -> str:
    """The file, with each pair as another row."""
    Path(data).write_text("".join(json.dumps(change(*pair)) + "\n" for pair in PAIRS), encoding="utf-8")
    return data


@pytest.mark.parametrize("method", ["output", "sequence"])
def test_a_chat_keeps_its_turns_up_to_the_tokenizer(pair, data, monkeypatch, method):
    asked: list[str] = []
    prompts = pretrained.ChatTokenizer.prompts
    monkeypatch.setattr(pretrained.ChatTokenizer, "prompts", lambda self, texts: prompts(self, asked.extend(texts) or texts))
    rewritten(data, lambda p, r: {"system": "Be brief.", "prompt": p, "response": r})
    for _ in range(2):  # the second time from the cached text and signals
        distill(*pair, data, steps=2, batch=4, longest=4, method=method, mix=0.5 * (method == "output"), say=lambda line: None)
    of_the_file = [text for text in asked if "Say " in text]
    assert len(of_the_file) > 400 and {type(text) for text in of_the_file} == {Chat}


def test_what_a_teacher_gave_to_the_text_of_a_chat_is_not_what_it_gave_to_its_turns(pair, tmp_path):
    teacher = pretrained.load(pair[0])
    chat = prompt_of([("system", "Be brief."), ("user", "Say red 1.")])
    both = [[CustomPrompt(text, ("",), "")] for text in (chat, str(chat))]
    assert len({Signals(teacher, asked, tmp_path).folder for asked in both}) == 2
    folder = made_here("sequences")
    for number, asked in enumerate(both, 1):
        work = sequences_for(Experiment(data="x"), teacher, asked, None)
        list(work)
        assert len(list(folder.glob("*.jsonl.gz"))) == number
    kept = Sequences((TextRow(chat, "red", -1.0), TextRow(str(chat), "red", -1.0)), ())
    assert [type(row.prompt) for row in Sequences.load(kept.save(tmp_path / "kept.jsonl")).rows] == [Chat, str]


@pytest.mark.parametrize(
    ("learn", "written"), [("answer", "RED"), ("reasoning", "It is red."), ("both", "<think>\nIt is red.\n</think>\n\nRED")]
)
def test_what_is_learned_is_not_what_the_exam_asks_for(own, data, learn, written):
    rewritten(data, lambda p, r: {"prompt": p, "response": r, "reasoning": f"It is {r.lower()}."})
    exp = own.but(method="gold", learn=learn)
    task = CustomTask(exp)
    sampler = task.feed(None)
    learned = {tokenizer().text(answer) for answer in sampler.draw([], sampler.next_rows(task.answered, 1.0)[1]).answers}
    assert learned == {written.replace("RED", r).replace("red", r.lower()) for r in ("RED", "GREEN", "BLUE")}
    exam = task.exam(None)
    assert {row.response for row in exam.rows} == {"RED", "GREEN", "BLUE"}
    assert exam.scored([Graded(f"<think>\nhm\n</think>\n\n{row.response}", 1.0, True) for row in exam.rows]).mean == 1
    assert exam.scored([Graded(f"<think>\n{row.response}", 1.0, True) for row in exam.rows]).mean == 0
    assert task.experiment.baseline().learn == learn
    assert any(f"learn={learn}" in warning or "learn=both" in warning for warning in task.warnings)
    with pytest.raises(LabError, match="or learn has changed"):
        with_hashes(task.experiment.but(learn="both" if learn != "both" else "reasoning"))


def test_rows_without_reasoning_have_none_to_learn(own, data):
    assert CustomTask(own.but(learn="both")).answered == CustomTask(own).answered > 60
    with pytest.raises(LabError, match="has none: add them"):
        CustomTask(own.but(learn="reasoning", method="gold"))


# ---- distil ----------------------------------------------------------------------------------------------------------------------------


def test_distil_leaves_a_student_that_can_be_used(pair, data, tmp_path):
    seen: list[str] = []
    out = tmp_path / "out"
    done = distill(*pair, data, out, steps=4, batch=8, longest=6, learning_rate=1e-3, watch=lambda what, event: seen.append(what))
    assert list(dict.fromkeys(seen)) == ["gold labels", "distilled"]
    assert list(done.table().index) == [
        "the student as it came", "the student, fine-tuned on the gold labels", "the student, distilled", "the teacher",
    ]  # fmt: skip
    assert set(done.record.references) >= {"untouched", "label budget", "teacher"}
    assert (out / "report.html").stat().st_size > 1000
    again = pretrained.load(str(out), torch.float32, 6)
    exam = CustomTask(done.experiment).exam(None)
    assert len(exam.grade(again).answers) == len(exam.rows)
    card = (out / "README.md").read_text()
    assert shlex.join(done.experiment.words(SETTLED)) in card
    assert "nan" not in card
    assert list(done.record.table().columns) == ["untouched", "label budget", "student", "teacher", "recovery"]


HOSTILE = "<img src=x onerror=alert(1)> ![t](http://tracker/p.png) www.tracker.org ``tick` \x1b[2J"


def test_nothing_in_a_card_is_markup_of_the_data_and_its_rows_can_be_left_out(pair, tmp_path, capsys):
    data = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"{HOSTILE} {n}", "response": f"{HOSTILE} {-n}"} for n in range(40)]
    rows += [{"question": "one?", "choices": ["a", "b"], "answer": HOSTILE}]  # a warning quotes it
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["distill", "--teacher", pair[0], "--student", pair[1], "--data", str(data), "--steps", "2", "--batch", "4", "--longest", "4"]
    told = []
    for name, more in (("shown", []), ("hidden", ["--no-examples"])):
        assert main([*command, "--out", str(tmp_path / name), "--no-baseline", *more]) == 0
        told.append((tmp_path / name / "README.md").read_text(encoding="utf-8"))
        assert ("show prompts and answers" in capsys.readouterr().out) is (name == "shown")
    shown, hidden = told
    rows = [line for line in shown.splitlines() if "onerror" in line]
    assert rows and "show prompts and answers of the data" in shown
    for row in rows:
        assert "<img" not in re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", row), "all of it is in code spans"
        assert "\x1b" not in row
    assert "--no-examples" in hidden and "show prompts" not in hidden
    record = load(tmp_path / "hidden" / "record.jsonl.gz")
    assert record.skills and not [event for event in record.events if isinstance(event, ev.Sampled | ev.Probe)]
    for file in (tmp_path / "hidden").glob("[!.]*.*"):
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert b"onerror" not in content and b"tracker" not in content, file


def test_all_that_others_wrote_is_in_code_spans_of_a_card():
    """Elsewhere a bare address becomes a link on GitHub, and the name of a model, a metric or a mark may hold one."""
    hostile = "[x](y)`|www.tracker.org\n# http://tracker"
    names = types.SimpleNamespace(**dict.fromkeys(("student", "teacher", "data", "score"), hostile))
    scores = pandas.DataFrame({hostile: [0.5], "low": [math.nan]}, index=["the student"])
    done = types.SimpleNamespace(experiment=names, metric=hostile, own="distilled", notes={"teacher": [hostile]})
    done.table, done.verdict, done.decision = (lambda: scores), (lambda: ""), (lambda: Decision("", ()))
    made = card(done, types.SimpleNamespace(rows=[]), "labkit distill", examples=False)
    assert made.count("www.tracker.org") == 6
    for line in made.splitlines():
        left = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", line)
        assert "tracker" not in left and "[x]" not in left
    assert r"\|www" in next(line for line in made.splitlines() if line.startswith("| model")), "a cell of a table ends at any other bar"


def test_distil_twice_into_one_folder_and_never_over_anything_else(pair, data, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(LabError, match="choose another --out"):
        distill(*pair, data, tmp_path, steps=2)
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    run = functools.partial(distill, *pair, data, tmp_path / "out", batch=8, longest=4, baseline=False)
    run(steps=1)
    before = {file.name: file.read_bytes() for file in tmp_path.glob("out/*")}
    (tmp_path / "out-2").mkdir()
    with pytest.raises(LabError, match=rf"out holds the result of a distillation of \d.*--out {tmp_path}/out-3\), or .* --force"):
        run(steps=2, watch=lambda what, event: pytest.fail("it has begun"))
    assert {file.name: file.read_bytes() for file in tmp_path.glob("out/*")} == before
    assert run(steps=2, force=True).record.steps[-1].step == 2
    assert load(tmp_path / "out" / "record.jsonl.gz").experiment.steps == 2


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("where", "again"), [("weights", False), ("report", True), ("card", False)])
def test_a_full_disk_costs_no_training(pair, data, tmp_path, monkeypatch, where, again):
    """The result cannot be written; the same command, once there is room, trains not one step, and gives the very student."""
    told: list[tuple[str, ev.Event]] = []
    run = functools.partial(distill, *pair, data, batch=4, longest=4, watch=lambda *said: told.append(said))
    if again:  # over an earlier result, which stays as it was
        run(out=tmp_path / "out", steps=2, baseline=False)
    before = {file.name: file.read_bytes() for file in tmp_path.glob("out/*")}
    with monkeypatch.context() as patch:
        if where == "weights":
            patch.setattr(LlamaForCausalLM, "save_pretrained", full)
        else:
            patch.setattr(*(("labkit.views.report.write_whole", full) if where == "report" else ("labkit.studies.distill.card", full)))
        with pytest.raises(LabError, match=r"No space left.*same command"):
            run(out=tmp_path / "out", steps=5, force=again)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("out/*")} == before, "all or nothing"
    told.clear()
    run(out=tmp_path / "out", steps=5, force=again)
    warned = [what for what, event in told if isinstance(event, ev.Warned) and "step 5" in event.message]
    assert sorted(warned) == ["distilled", "gold labels"]
    run(out=tmp_path / "fresh", steps=5)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_what_is_finished_is_not_trained_again(pair, data):
    """Stopped in the second of two runs, and given again: of the first, nothing is left to train."""
    run = functools.partial(distill, *pair, data, steps=5, batch=4, longest=4)
    with pytest.raises(Stopped):
        run(watch=until("distilled", 2))
    told: list[tuple[str, ev.Event]] = []
    run(watch=lambda *said: told.append(said))
    assert [(what, "step 5" in event.message) for what, event in told if isinstance(event, ev.Warned)] == [("gold labels", True)]
    again: list[tuple[str, ev.Event]] = []
    run(watch=lambda *said: again.append(said))
    assert not [event for _, event in again if isinstance(event, ev.Warned)], "once all is done, nothing is left to go on from"


def test_no_room_for_the_result_is_told_before_the_first_step(pair, data, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 40_000))
    with pytest.raises(LabError, match=r"0\.0 MB.* 4\.\d MB: free some space"):
        distill(*pair, data, tmp_path / "out", steps=5, watch=lambda what, event: pytest.fail("it has begun"))


def test_a_distillation_that_fails_leaves_no_folder(pair, data, tmp_path, monkeypatch):
    """Before the first step, in it, and while the result is written; what was there before stays."""
    (tmp_path / "mine").mkdir()
    run = functools.partial(distill, *pair, data, steps=2, batch=4, longest=4, baseline=False)
    with pytest.raises(LabError, match="is not JSON"):
        run(tmp_path / "a" / "b", score="fields")
    with pytest.raises(Stopped):
        run(tmp_path / "a" / "b", watch=until("distilled", 1))
    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", full)
    for out in ("a/b", "mine", "mine/b"):
        with pytest.raises(LabError, match="No space left"):
            run(tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.jsonl"]
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("out", [".", "../out", "out/..", ".."])
def test_a_folder_without_a_name_of_its_own_has_a_place_beside_it(tmp_path, monkeypatch, out: str):
    """As `labkit distill --out .` in an empty folder, and once more."""
    here = tmp_path / "here" / "out" / "deep" if out == ".." else tmp_path / "here" / "out"
    (here / "out").mkdir(parents=True)
    monkeypatch.chdir(here)
    whole = Path(out).resolve()
    assert beside(Path(out), "-data.jsonl").resolve() == whole.with_name(f"{whole.name}-data.jsonl")
    (whole / "record.jsonl.gz").write_bytes(b"")
    with pytest.raises(LabError, match=f"name another folder .--out .*{whole.name}-2"):
        free(Path(out), {}, force=False)


@pytest.mark.parametrize("before", [None, '{"prompt": "an earlier one"}\n'])
def test_the_data_beside_a_result_goes_with_it_unless_a_run_can_go_on(pair, tmp_path, monkeypatch, capsys, before):
    path, out = tmp_path / "mail.csv", tmp_path / "new" / "out"
    path.write_text("mail,team\n" + "".join(f"{prompt},{answer}\n" for prompt, answer in PAIRS), encoding="utf-8")
    plain = out.with_name("out-data.jsonl")
    if before:
        plain.parent.mkdir()
        plain.write_text(before)
    command = ["distill", "--teacher", pair[0], "--student", pair[1], "--data", str(path), "--steps", "2", "--batch", "8", "--longest", "4"]
    command += ["--out", str(out), "--no-baseline", "--prompt-column", "mail", "--response-column", "team"]
    assert main([*command, "--method", "hidden", "--layers", "9:9"]) == 2
    assert plain.read_text() == before if before else not out.parent.exists()
    with monkeypatch.context() as patch:
        patch.setattr(LlamaForCausalLM, "save_pretrained", full)
        assert main(command) == 2
    assert not out.exists() and len(read_rows(plain)) == len(PAIRS), "the student is trained: the same command goes on"
    capsys.readouterr()
    assert main(command) == 0
    assert "goes on from step 2" in capsys.readouterr().out and (out / "model.safetensors").exists()


def test_a_full_disk_under_the_checkpoints_is_said_in_words(pair, data, monkeypatch):
    monkeypatch.setattr("labkit.training.checkpoint.tensors.save", full)
    with pytest.raises(LabError, match=r"No space left.*LABKIT_HOME"):
        distill(*pair, data, steps=2, batch=4, longest=4)


def test_old_weights_do_not_outlive_a_new_result(pair, data, tmp_path):
    """Sharded weights of an earlier student beside the new one's would be read in place of them."""
    out = tmp_path / "out"
    distill(*pair, data, out, steps=1, batch=4, longest=4, baseline=False)
    (out / "model-00001-of-00002.safetensors").write_bytes(b"old")
    (out / "notes.txt").write_text("mine")
    distill(*pair, data, out, steps=1, batch=4, longest=4, baseline=False, force=True)
    assert [file.name for file in out.glob("*.safetensors")] == ["model.safetensors"]
    assert (out / "notes.txt").read_text() == "mine"


def test_distil_chooses_what_works(pair, data):
    assert recipe(*pair, data).method == "output"
    assert recipe(pair[0], "22k", data).method == "sequence"
    assert recipe(*pair, data, adapter=4).learning_rate > recipe(*pair, data).learning_rate
    with pytest.raises(LabError, match="different tokenizers"):
        recipe(pair[0], "22k", data, method="output")


def test_distil_tells_what_it_could_not_use_and_what_passes_between_tokenizers(pair, data):
    with open(data, "a") as file:
        file.write("{broken\n" + json.dumps({"prompt": "Say 3", "response": "", "note": "x"}) + "\n")
    said: list[str] = []
    distill(pair[0], "22k", data, steps=2, batch=8, longest=4, baseline=False, score="regex:^[A-Z]$", say=said.append)
    assert said[0] == read_rows(data).summary and len(said) == 4 and said[3].startswith("teacher: Self-check passed")
    assert all(part in said[1] for part in (pair[0], "22k", "method=sequence"))
    assert "0.000" in said[2] and "regex:^[A-Z]$" in said[2]


def test_rows_that_a_model_has_no_room_for_cost_themselves_alone(pair, data, tmp_path):
    """Long prompts, of which some are held out, and a long response; told by line, and the run goes on without them."""
    short = str(made(tmp_path / "short", 1, 1, max_position_embeddings=64))
    long = [{"prompt": f"Say {n} " + "word " * 80, "response": "A"} for n in range(20)] + [{"prompt": "Say much", "response": "A " * 80}]
    with open(data, "a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in long))
    said: list[str] = []
    done = distill(short, pair[1], data, steps=2, batch=8, longest=4, say=said.append)
    assert done.record.complete and f"{data}: 90 rows" in said[0] and "21 could not be used" in said[0]
    assert re.search(rf"line 91: .* \d+ tokens .*{short} .* 64: shorten", said[0])
    assert any(isinstance(event, ev.Warned) and "21 rows could not be used; line 91" in event.message for event in done.record.events)
    with pytest.raises(LabError, match=r"no row of .* line 1: .* smaller longest \(it is 60\)"):
        distill(pair[0], short, data, steps=2, longest=60)


@pytest.fixture
def started(monkeypatch) -> Callable[..., Experiment]:
    """The experiment that a command line begins to train, without its baseline."""

    def begin(exp: Experiment, exams: int) -> None:
        raise LabError(f"begun: {toml(exp)}")

    def of(*words: str, capsys: pytest.CaptureFixture) -> Experiment:
        monkeypatch.setattr("labkit.studies.distill.begin", begin)
        assert main(["distill", *words, "--no-baseline", "--longest", "4"]) == 2
        return Experiment.from_toml(capsys.readouterr().err.split("begun: ")[1])

    return of


def test_what_is_given_is_given_whatever_its_value(pair, tmp_path, started, capsys):
    """Values that are the small world's defaults are not the defaults here, so that a flag, a word or a line of TOML must tell."""
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"prompt": f"say {n}", "response": "yes"}) + "\n" for n in range(500)))
    files = {"teacher": pair[0], "student": pair[1], "data": str(tmp_path / "d.jsonl")}
    told = {"steps": 600, "batch": 128, "gold": 300, "learning_rate": 0.006}
    words = [f"{name}={value}" for name, value in (files | told).items()]
    flags = [part for name, value in (files | told).items() for part in (f"--{name.replace('_', '-')}", str(value))]
    (tmp_path / "r.toml").write_text("[experiment]\n" + "".join(f"{name} = {value!r}\n" for name, value in (files | told).items()))
    whole = Experiment(**files).recipe.split()  # the lab's own recipe, which leaves out what is at its default
    run = functools.partial(started, "--out", str(tmp_path / "out"), capsys=capsys)
    for asked in (words, flags, ["--toml", str(tmp_path / "r.toml")], whole):
        exp = run(*asked)
        assert {name: getattr(exp, name) for name in told} == told, asked
    usual = run(*words[:3])
    assert (usual.steps, usual.batch, usual.learning_rate) == (100, 16, 1e-4)
    assert usual.gold > 300
    assert main(["distill", words[0], words[2], "student=22k", "method=output", "--out", str(tmp_path / "out")]) == 2
    assert "different tokenizers" in capsys.readouterr().err


@pytest.mark.parametrize("knobs", [{}, {"steps": 600, "batch": 128, "learning_rate": 6e-3}, {"student": "22k", "score": "regex:^A$"}])
def test_the_words_of_a_card_are_the_same_run(pair, data, knobs):
    exp = recipe(**({"teacher": pair[0], "student": pair[1], "data": data} | knobs))
    assert recipe(**given_in_words(exp.words(SETTLED), KNOBS)) == exp
    assert recipe(**exp.to_dict()) == exp


def test_the_command_on_a_card_makes_it_again(pair, tmp_path):
    """As it stands there, in a shell: what has a meaning to it is quoted, and the folder is named."""
    (tmp_path / "own data.jsonl").write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in PAIRS), encoding="utf-8")
    (tmp_path / "d.jsonl").symlink_to(tmp_path / "own data.jsonl")
    out = tmp_path / "my result"
    done = distill(*pair, tmp_path / "d.jsonl", out, steps=2, batch=4, longest=4, score="regex:^(RED|$HOME).*$", baseline=False)
    (line,) = (line for line in (out / "README.md").read_text().splitlines() if line.startswith("    labkit distill"))
    words = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    shutil.rmtree(out)
    assert main(words[1:]) == 0
    again = labkit.load(out / "record.jsonl.gz")
    assert again.experiment == done.experiment
    assert line in (out / "README.md").read_text()


def test_no_model_is_written_over_itself(pair, data, tmp_path):
    student = made(tmp_path / "R", 1, 2)
    distill("none", str(student), data, tmp_path / "R2", method="gold", steps=1, batch=4, longest=4)
    before = (tmp_path / "R2" / "model.safetensors").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "R2")
    for out in ("R2", "R2/../R2", "link"):
        with pytest.raises(LabError, match="folder of the student"):
            distill(pair[0], str(tmp_path / "R2"), data, tmp_path / out, steps=1)
        with pytest.raises(LabError, match="folder of the teacher"):
            distill(str(tmp_path / "R2"), pair[1], data, tmp_path / out, steps=1)
    assert (tmp_path / "R2" / "model.safetensors").read_bytes() == before


def test_an_adapter_is_merged_into_what_is_saved(pair, data, tmp_path):
    done = distill(*pair, data, tmp_path / "out", steps=4, batch=8, longest=4, adapter=4, baseline=False)
    names = [name for name, _ in pretrained.load(str(tmp_path / "out")).named_parameters()]
    assert not any("lora" in name for name in names)
    assert done.record.complete


def test_the_command_line_does_it_all(pair, data, tmp_path, capsys):
    command = ["distill", "--teacher", pair[0], "--student", pair[1], "--data", data, "--steps", "3", "--batch", "8", "--longest", "4"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "mine.jsonl: 90 rows" in told and "tokenizers" not in told
    assert "the student, distilled" in told
    assert "saved to" in told
    decision, verdict = told.index("Decision: "), told.index("the student as it came")
    assert told.index("Loading PyTorch ...") < decision < verdict < told.index("held-out prompts, before and after:")
    assert re.search(r"Exam: \d+ held-out prompts\. It cannot tell a difference under ±0\.\d\d", told)
    assert "Cost of this run: less than US$ 0.01" in told
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["distill", "--teacher", "smollm2", "--student", pair[1], "--data", data, "--out", str(tmp_path / "other")]) == 2
    assert "labkit fetch smollm2" in capsys.readouterr().err


def test_the_command_line_takes_columns_by_name(pair, tmp_path, capsys):
    path, out = tmp_path / "mail.csv", tmp_path / "out"
    path.write_text("id,mail,team\n" + "".join(f"{i},{prompt},{answer}\n" for i, (prompt, answer) in enumerate(PAIRS)), encoding="utf-8")
    command = ["distill", "--teacher", pair[0], "--student", pair[1], "--data", str(path), "--steps", "2", "--batch", "8", "--longest", "4"]
    assert main([*command, "--out", str(out)]) == 2
    assert "no prompt" in capsys.readouterr().err
    assert main([*command, "--out", str(out), "--no-baseline", "--prompt-column", "mail", "--response-column", "team"]) == 0
    assert "Columns not used: id" in capsys.readouterr().out
    plain = tmp_path / "out-data.jsonl"
    assert json.loads(plain.read_text(encoding="utf-8").splitlines()[0]) == {"prompt": PAIRS[0][0], "response": PAIRS[0][1]}
    assert f"data={plain}#" in (out / "README.md").read_text(encoding="utf-8"), "the card's recipe does it again without the columns"
    assert main([*command[:6], "someone/mails", "--out", str(tmp_path / "other")]) == 2
    assert "--network" in capsys.readouterr().err


@pytest.mark.parametrize("large", [1, 10**9])
def test_the_last_good_weights_come_back(pair, monkeypatch, large):
    monkeypatch.setattr(checkpoint, "LARGE", large)
    student = pretrained.load(pair[1], torch.float32).requires_grad_(True)
    wanted = {name: p.detach().clone() for name, p in student.named_parameters()}
    good = checkpoint.keep(student)
    assert len(good) == len(wanted), "the head is the embedding, and is kept once"
    for broken in (math.inf, math.nan):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.fill_(broken)
        checkpoint.give_back(student, good)
        assert all(torch.allclose(p, wanted[name], rtol=1e-2 if large == 1 else 0.0) for name, p in student.named_parameters())
        checkpoint.keep(student, good)


def test_the_thoughts_of_a_teacher_are_told_apart_and_cut_ones_left_out():
    rows = [("a", "<think>\nx\n</think>\n\nA"), ("b", "<think>\nnever"), ("c", "C")]
    data = Sequences(tuple(TextRow(prompt, text, -1.0) for prompt, text in rows), ())
    learned = {
        learn: [tokenizer().text(pool.answer(row)) for row in range(len(pool))]
        for learn in ("answer", "reasoning", "both")
        if (pool := TextPool(data, tokenizer(), learn)) and pool.cut == 1
    }
    assert learned == {"answer": ["A", "C"], "reasoning": ["x", "C"], "both": ["<think>\nx\n</think>\n\nA", "C"]}
    with pytest.raises(LabError, match="all 1 answers of the teacher are thoughts that were cut: raise longest"):
        TextPool(Sequences((TextRow("b", "<think>\nnever", -1.0),), ()))


def test_beams_are_those_without_the_teachers_own_settings(pair, tmp_path):
    """A repetition penalty in generation_config.json would change text and log-probabilities; the lab's other decodings have none."""
    folder = tmp_path / "penalty"
    shutil.copytree(pair[0], folder)
    (folder / "generation_config.json").write_text(json.dumps({"repetition_penalty": 5.0, "eos_token_id": [0, 14]}))
    plain, other = (pretrained.load(str(name), torch.float32, 6) for name in (pair[0], folder))
    asked = [CustomPrompt("Say red 1.", ("",), ""), CustomPrompt("Say blue 2.", ("",), "")]
    one, two = (generate(model, asked, "beam") for model in (plain, other))
    assert other.generation_config.repetition_penalty == 5.0, "it is as it was"
    for row, alone in zip(two.rows, one.rows, strict=True):
        (ids,) = other.chat.answers([row.response])
        assert row.response == alone.response or 14 in ids or row.logprob >= alone.logprob - 1e-4
