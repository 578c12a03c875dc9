"""No shuffling, duplicate, damaged file or other teacher can hand a student another question's answer."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from labkit import models
from labkit.base import tensors
from labkit.tasks.atlas.facts import Atlas, Question
from labkit.teachers import signals
from labkit.teachers.signals import Signals


@pytest.fixture(autouse=True)
def small_chunks(settings):
    settings(chunk=16)


def pool(n: int = 60, seed: int = 7) -> list[Question]:
    return Atlas("half").questions(n, seed)


def prepared(teacher, questions, folder: Path | None = None, order=None) -> Signals:
    made = Signals(teacher, questions, folder)
    for _ in made.prepare(order if order is not None else range(len(questions))):
        pass
    return made


def distinct(questions: list[Question]) -> int:
    """How many answers the teacher owes: one a single-answer text, one an asking of an open one."""
    return len({q.text for q in questions if len(q.answers) == 1}) + sum(len(q.answers) > 1 for q in questions)


def same(a: Signals, b: Signals, rows) -> bool:
    return all(a.answer(i) == b.answer(i) and torch.equal(a.hidden([i]), b.hidden([i])) for i in rows)


def assert_each_row_is_its_own(kept: Signals, teacher, questions: list[Question], rows) -> None:
    """The stored states of every row against a fresh pass of the teacher over that very row."""
    for row in rows:
        prompt, answer = kept.prompt(row), kept.answer(row)
        assert prompt == models.tokenizer().prompts([questions[row].text])[0]
        with torch.no_grad():
            wanted = models.answer_states(teacher, models.pad([prompt], [answer]))
        found = kept.hidden([row])
        assert found.dtype == torch.float16
        assert found.shape == wanted.shape == (len(answer), teacher.config.hidden_size)
        torch.testing.assert_close(found.float(), wanted, rtol=1e-3, atol=2e-3)


# ---- pairing -----------------------------------------------------------------------------------------------------------


def test_each_row_gets_the_states_behind_its_own_answer(tiny_teacher):
    questions = pool()
    order = random.Random(1).sample(range(60), 60)
    assert_each_row_is_its_own(prepared(tiny_teacher, questions, order=order), tiny_teacher, questions, order)


def test_a_shuffled_pool_pairs_each_text_with_an_answer_of_its_own(tiny_teacher):
    questions = pool()
    random.Random(2).shuffle(questions)
    assert_each_row_is_its_own(prepared(tiny_teacher, questions), tiny_teacher, questions, range(60))


def test_a_batch_in_any_order_lines_up_with_the_student_s_positions(tiny_teacher):
    kept = prepared(tiny_teacher, pool())
    rows = random.Random(3).choices(range(60), k=24)  # with repeats
    batch = models.pad([kept.prompt(i) for i in rows], [kept.answer(i) for i in rows])
    with torch.no_grad():
        wanted = models.answer_states(tiny_teacher, batch)
    torch.testing.assert_close(kept.hidden(rows).float(), wanted, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(kept.live([kept.prompt(r) for r in rows], [kept.answer(r) for r in rows]), wanted)
    torch.testing.assert_close(kept.logits(kept.hidden(rows)), tiny_teacher.lm_head(wanted), rtol=1e-2, atol=2e-2)
    assert not kept.logits(kept.hidden(rows)).requires_grad


def test_the_order_of_asking_changes_nothing(tiny_teacher, tmp_path: Path):
    questions = pool()
    forwards = prepared(tiny_teacher, questions, tmp_path / "a")
    backwards = prepared(tiny_teacher, questions, tmp_path / "b", order=range(59, -1, -1))
    assert same(forwards, backwards, range(60))
    assert forwards.folder.name == backwards.folder.name
    assert forwards.folder != backwards.folder


@pytest.mark.parametrize("guess", ["Ghana", "Chad", "nonsense and more of it"])
def test_a_guess_changes_no_distribution(tiny_teacher, guess: str):
    """Chi-square of the first two tokens over 4,000 answers, against the product of the teacher's own probabilities."""
    tokenizer = models.tokenizer()
    prompt, n = tokenizer.prompts(["Name a country in Africa."])[0], 4_000
    said = signals.sample_answers(tiny_teacher, [prompt] * n, [tokenizer.answers([guess])[0]] * n, seed=5)
    found = Counter(tuple(answer.ids[:2]) for answer in said)
    assert all(models.EOS not in answer.ids[:-1] for answer in said)
    with torch.no_grad():
        first = tiny_teacher(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        begun = [t for t in range(1, 1024) if first[t] * n >= 5]
        second = tiny_teacher(torch.tensor([[*prompt, t] for t in begun])).logits[:, -1].softmax(-1)
    wanted = {(t, u): float(first[t] * second[row, u]) * n for row, t in enumerate(begun) for u in range(1024)}
    wanted[models.EOS,] = float(first[models.EOS]) * n
    common = {pair for pair, count in wanted.items() if count >= 5}
    assert len(common) > 10
    cells = [(found[pair], wanted[pair]) for pair in common]
    cells.append((n - sum(f for f, _ in cells), n - sum(w for _, w in cells)))
    statistic, freedom = sum((f - w) ** 2 / w for f, w in cells), len(cells) - 1
    assert abs(statistic - freedom) < 4.5 * (2 * freedom) ** 0.5, (statistic, freedom)


# ---- duplicates --------------------------------------------------------------------------------------------------------


def test_duplicates_are_labelled_once_and_open_questions_each_time(tiny_teacher):
    half = Atlas("half")
    single = next(q for q in pool() if len(q.answers) == 1)
    many = half.find("Name a country in Africa.")
    questions = [single, many, single, many, many, single, *[many] * 20]
    kept = prepared(tiny_teacher, questions)
    assert kept.total == kept.labelled == 1 + 23
    assert kept.answer(0) == kept.answer(2) == kept.answer(5)
    assert torch.equal(kept.hidden([0]), kept.hidden([5]))
    answers = {tuple(kept.answer(i)) for i, q in enumerate(questions) if q is many}
    assert len(answers) > 3, "each asking draws its own answer"
    assert_each_row_is_its_own(kept, tiny_teacher, questions, range(len(questions)))


def test_the_gold_label_is_none_of_the_teacher_s_business(tiny_teacher, tmp_path: Path):
    questions = pool()
    lied_to = [dataclasses.replace(q, gold="Atlantis") for q in questions]
    assert same(prepared(tiny_teacher, questions, tmp_path / "a"), prepared(tiny_teacher, lied_to, tmp_path / "b"), range(60))


# ---- progress and cost -------------------------------------------------------------------------------------------------


def test_progress_counts_distinct_questions_and_work_is_done_when_first_needed(tiny_teacher):
    questions = pool()
    made = Signals(tiny_teacher, questions)
    assert made.total == distinct(questions)
    assert made.labelled == 0
    assert not made.folder.exists()
    told = list(made.prepare(range(10)))
    assert told == [16]
    assert made.labelled == 16
    assert list(made.prepare(range(10))) == []
    told += list(made.prepare(range(60)))
    assert told == sorted(set(told))
    assert told[-1] == made.labelled == made.total
    tokens = [made.answer(i) for i in {made._entry_of_row[i]: i for i in range(60)}.values()]
    assert made.bytes == sum(map(len, tokens)) * tiny_teacher.config.hidden_size * 2
    assert made.teacher_tokens == sum(map(len, tokens)) + sum(map(len, made._prompts))


def test_what_is_on_disk_costs_no_teacher(tiny_teacher):
    questions = pool()
    first = prepared(tiny_teacher, questions)
    assert first.teacher_tokens > 0
    assert len(list(first.folder.glob("*.safetensors"))) == -(-first.total // 16)
    second = prepared(tiny_teacher, questions)
    assert second.teacher_tokens == 0
    assert second.damaged == []
    assert second.labelled == first.labelled
    assert second.bytes == first.bytes
    assert same(first, second, range(60))


def test_another_teacher_has_another_folder(tiny_teacher):
    other = models.student("200k", 1).eval()
    ours, theirs = Signals(tiny_teacher, pool()), Signals(other, pool())
    assert ours.folder != theirs.folder
    assert Signals(tiny_teacher, pool(59)).folder != ours.folder
    assert Signals(tiny_teacher, pool(seed=8)).folder != ours.folder
    assert Signals(tiny_teacher, pool()).folder == ours.folder


# ---- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "empty", "header", "text", "state", "answer", "not a number"])
def test_a_damaged_chunk_is_relabelled_and_noted(tiny_teacher, how: str):
    questions = pool()
    first = prepared(tiny_teacher, questions)
    path = sorted(first.folder.glob("*.safetensors"))[1]
    raw = bytearray(path.read_bytes())
    match how:
        case "cut":
            path.write_bytes(raw[:-100])
        case "empty":
            path.write_bytes(b"")
        case "header":
            raw[3] ^= 0x55
            path.write_bytes(raw)
        case "text":
            path.write_text("no tensors here")
        case _:  # one flipped bit somewhere in the middle: the file still opens
            kept = load_file(path)
            name = "ids" if how == "answer" else "hidden"
            part = bytearray(kept[name].numpy().tobytes())
            if how == "not a number":
                part[40:42] = b"\x00\x7e"
            else:
                part[40] ^= 2
            where = raw.index(kept[name].numpy().tobytes())
            raw[where : where + len(part)] = part
            path.write_bytes(raw)
    second = prepared(tiny_teacher, questions)
    assert second.damaged == [path]
    assert second.teacher_tokens > 0
    assert same(first, second, range(60))
    third = prepared(tiny_teacher, questions)
    assert third.damaged == [], "the mended file is good"
    assert third.teacher_tokens == 0


def test_a_chunk_written_for_other_questions_is_refused(tiny_teacher, tmp_path: Path):
    questions = pool()
    ours = prepared(tiny_teacher, questions)
    theirs = prepared(tiny_teacher, pool(seed=8), tmp_path)
    path = ours.folder / "00000.safetensors"
    shutil.copy(theirs.folder / path.name, path)
    again = prepared(tiny_teacher, questions)
    assert again.damaged == [path]
    assert same(ours, again, range(60))


def test_swapped_chunks_are_refused(tiny_teacher):
    questions = pool()
    ours = prepared(tiny_teacher, questions)
    a, b = ours.folder / "00000.safetensors", ours.folder / "00001.safetensors"
    a.rename(ours.folder / "x"), b.rename(a), (ours.folder / "x").rename(b)
    again = prepared(tiny_teacher, questions)
    assert again.damaged == [a, b]
    assert same(ours, again, range(60))


@pytest.mark.parametrize("drop", ["keys", "lengths", "ids", "hidden"])
def test_a_chunk_with_a_part_missing_or_short_is_relabelled(tiny_teacher, drop: str):
    questions = pool()
    ours = prepared(tiny_teacher, questions)
    path = ours.folder / "00000.safetensors"
    whole = load_file(path)
    for kept in ({k: v for k, v in whole.items() if k != drop}, whole | {drop: whole[drop][:-1].clone()}):
        save_file(kept, path)
        again = prepared(tiny_teacher, questions)
        assert again.damaged == [path]
        assert same(ours, again, range(60))


def test_a_kill_while_writing_leaves_no_half_file(tiny_teacher, monkeypatch: pytest.MonkeyPatch):
    questions = pool()

    def killed(kept, to, note):
        Path(to).write_bytes(b"half a fi")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tensors, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared(tiny_teacher, questions)
    folder = Signals(tiny_teacher, questions).folder
    assert list(folder.iterdir()) == []
    assert prepared(tiny_teacher, questions).damaged == []
