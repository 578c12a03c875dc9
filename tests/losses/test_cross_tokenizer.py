"""Students with another vocabulary: their losses against plain KL and brute force, their runs, exams and refusals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import TEACHER
from oracles import answer_logprob
from table import table_teacher

import labkit
from labkit import models
from labkit.base.errors import DataError, LabError
from labkit.losses.cross_tokenizer import losses as alignment
from labkit.losses.cross_tokenizer.losses import ALIGNMENTS, cross_tokenizer_terms
from labkit.losses.cross_tokenizer.spans import LEAST, segmentations, spans
from labkit.models import EOS, tokenizer
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.record import Record
from labkit.tasks.atlas.exam import Exam
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers.cross_tokenizer_pool import CrossTokenizerPool, answers_of, spellings
from labkit.teachers.signals import Signals
from labkit.training.batches import transfer_questions
from labkit.training.loop import Run
from labkit.training.methods import comparison

TINY = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=4, vocabulary="other")


@pytest.fixture
def pool(tiny_teacher) -> Signals:
    found = Signals(tiny_teacher, transfer_questions(TINY, Atlas("half")), chunk=32)
    list(found.prepare(range(48)))
    return found


def plain(pool: Signals, count: int = 12) -> list[int]:
    """Rows whose answer the teacher wrote as its tokenizer would cut it: a weak teacher spells some of its words in other pieces."""
    both = CrossTokenizerPool(pool, "atlas", "spans")
    found = [row for row in range(48) if both.answer(row) == pool.answer(row)][:count]
    assert len(found) == count
    return found


def terms(pool: Signals, across: str, vocabulary: str = "atlas", rows=range(12), temperature: float = 1.0, student=None):
    """An alignment's terms for a fresh student, and what plain output distillation would compare."""
    both = CrossTokenizerPool(pool, vocabulary, across)
    student = student or models.student("22k", 3, vocabulary=vocabulary)
    read = models.pad([both.prompt(i) for i in rows], [both.answer(i) for i in rows])
    logits = student.lm_head(models.answer_states(student, read)).float()
    return cross_tokenizer_terms(both.aligned(rows), logits, comparison(TINY), temperature), pool.logits(pool.hidden(rows)), logits


# ---- with one vocabulary on both sides, an alignment is what it should be ---------------------------------------------------------


@pytest.mark.parametrize("across", ["ids", "mapped", "spans"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_among_the_same_tokens_it_is_plain_kl(pool, across, temperature):
    found, teacher, student = terms(pool, across, rows=plain(pool), temperature=temperature)
    wanted = comparison(TINY)(teacher, student, temperature)
    assert torch.allclose(found["crossed"], wanted, atol=2e-3 if temperature == 2 else 2e-5)  # what is left over has a floor


def test_among_the_same_tokens_chunks_are_tokens(pool):
    rows = plain(pool)
    found, teacher, student = terms(pool, "chunks", rows=rows)
    labels = torch.tensor([t for row in rows for t in pool.answer(row)])
    own, theirs = (side.softmax(-1).gather(1, labels[:, None])[:, 0].double() for side in (student, teacher))
    wanted = theirs * (theirs / own).log() + (1 - theirs) * ((1 - theirs) / (1 - own)).log()
    assert torch.allclose(found["crossed"].double(), wanted, atol=1e-4)


def test_uld_is_told_with_the_text_beside_it(pool):
    rows = plain(pool)
    found, teacher, student = terms(pool, "uld", rows=rows)
    sorted_apart = (teacher.softmax(-1).sort(-1).values - student.softmax(-1).sort(-1).values).abs().sum(-1)
    labels = torch.tensor([t for row in rows for t in pool.answer(row)])
    assert torch.allclose(found["crossed"], 1.5 * sorted_apart, atol=1e-5)
    assert torch.allclose(found["hard"], F.cross_entropy(student, labels, reduction="none"))


# ---- across: against a hand-made sum ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", ["other", "small", "bytes"])
def test_spans_are_a_kl_of_outcomes_counted_by_hand(pool, vocabulary):
    """One outcome after the other, in plain Python, from the strings alone."""
    rows, own = range(6), tokenizer(vocabulary)
    found, teacher, student = terms(pool, "spans", vocabulary, rows)
    theirs, mine = teacher.double().softmax(-1), student.detach().double().softmax(-1)
    at, values = [0, 0], []
    for row in rows:
        sides = [
            [tokenizer().pieces[t] for t in pool.answer(row)],
            [own.pieces[t] for t in CrossTokenizerPool(pool, vocabulary, "spans").answer(row)],
        ]
        for span in spans(*sides):
            outcomes = [{}, {}]
            for side, probabilities, pieces, tokens in zip((0, 1), (theirs, mine), (tokenizer().pieces, own.pieces), span[:2], strict=True):
                chances = [probabilities[at[side] + i, pieces.index(sides[side][i])] for i in tokens]
                begun = {sides[0][span.teacher[0]], sides[1][span.student[0]]}
                first = dict(zip(pieces, probabilities[at[side] + tokens[0]].tolist(), strict=True))
                shared = set(tokenizer().pieces) & set(own.pieces) - begun
                outcomes[side] = {piece: first[piece] for piece in shared} | {"span": float(math.prod(chances))}
                outcomes[side]["rest"] = max(1 - sum(outcomes[side].values()), LEAST)
            values.append(sum(p * math.log(p / outcomes[1][k]) for k, p in outcomes[0].items() if p > 0))
        at = [at[0] + len(sides[0]), at[1] + len(sides[1])]
    assert found["crossed"].tolist() == pytest.approx(values, abs=5e-4)


AWKWARD = {  # answers as a teacher's token ids
    "empty": [EOS],
    "unseen characters": tokenizer().answers(["\u65e5\u672c \U0001f5fe"])[0],
    "no characters": [tokenizer().pieces.index(bytes([byte])) for byte in (0xFF, 0xC3, 0x20, 0x80)],  # and no end
    "very long": tokenizer().answers(["Lima, N'Djamena, " * 40])[0],
}


@pytest.mark.parametrize("across", ALIGNMENTS)
@pytest.mark.parametrize("vocabulary", ["other", "small", "bytes"])
def test_awkward_answers_lose_nothing_on_the_way(pool, vocabulary, across):
    rows = [next(row for row in range(len(pool)) if pool.entry(row) == entry) for entry in range(len(AWKWARD))]
    for row, answer in zip(rows, AWKWARD.values(), strict=True):
        pool._answers[pool.entry(row)] = answer
        pool._hidden[pool.entry(row)] = pool.live([pool.prompt(row)], [answer]).half()
    found, teacher, student = terms(pool, across, vocabulary, rows)
    assert all(torch.isfinite(term).all() and len(term) for term in found.values())
    both = CrossTokenizerPool(pool, vocabulary, across)
    aligned, own = both.aligned(rows), tokenizer(vocabulary)
    assert aligned.student_labels_M.tolist() == [token for row in rows for token in both.answer(row)]
    assert [own.spell(both.answer(row)) for row in rows] == [tokenizer().spell(answer) for answer in AWKWARD.values()]
    for spans_of, labels, logits, likely in zip(
        (aligned.span_L, aligned.span_M),
        (aligned.teacher_labels_L, aligned.student_labels_M),
        (teacher, student),
        alignment._likelihoods(aligned, *alignment._sides(aligned, student)),
        strict=True,
    ):
        assert spans_of.tolist() == sorted(spans_of.tolist()) and set(spans_of.tolist()) == set(range(len(likely)))
        whole = logits.log_softmax(-1).gather(1, labels[:, None]).sum()
        assert float(likely.sum()) == pytest.approx(float(whole), rel=1e-5), "spans share out the likelihood of all answers"
    if across == "exact":
        assert torch.allclose(aligned.target_M_W.sum(-1), torch.ones(len(student)), atol=1e-5)
        assert (aligned.target_M_W.gather(1, aligned.student_labels_M[:, None]) > 0).all(), "the answer itself is among all texts"


def test_answers_are_summed_over_segmentations_as_by_brute_force():
    """Every listed text of up to four bytes: all its segmentations, each read by the teacher in one plain pass."""
    teacher = table_teacher({"4": (" I", " In"), " I": ("n", "<end>"), "n": ("<end>", "s"), " In": ("<end>", "s")})  # two ways to " In"
    prompts = tokenizer().prompts(["What is 3 + 4?", "What is 4 + 14?"])
    floor, checked, several = 2e-4, 0, 0
    for prompt, found in zip(prompts, answers_of(teacher, prompts, floor), strict=True):
        assert sum(found.values()) <= 1 + 1e-6
        for text, probability in found.items():
            if len(text) > 4:
                continue
            total, ways = 0.0, 0
            for cut in segmentations(text, [p for p in tokenizer().pieces if p and p in text]):
                ids = [*(tokenizer().pieces.index(piece) for piece in cut), EOS]
                likely = math.exp(answer_logprob(teacher, prompt, ids))
                total, ways = (total + likely, ways + 1) if likely >= floor else (total, ways)
            assert probability == pytest.approx(total, abs=1e-6)
            checked, several = checked + 1, several + (ways > 1)
    assert checked > 10
    assert several > 0


def test_one_answer_s_spellings_add_up_to_what_is_listed(tiny_teacher):
    """`spellings` reads each way by itself; `answers_of` follows all token paths at once: the same sum, but for paths below its floor."""
    question, floor = "What is 3 + 4?", 1e-5
    (listed,) = answers_of(tiny_teacher, tokenizer().prompts([question]), floor)
    several = 0
    for text, probability in listed.items():
        if not text.startswith(b" ") or len(text) > 5:
            continue
        ways = spellings(tiny_teacher, question, text[1:].decode())
        assert all(b"".join(way) == text for way in ways) and list(ways.values()) == sorted(ways.values(), reverse=True)
        assert -1e-6 <= sum(ways.values()) - probability <= len(ways) * floor + 1e-6
        own = tuple(tokenizer().pieces[token] for token in tokenizer().cut(text))
        assert sum(ways.values()) > ways[own] or len(ways) == 1
        several += len(ways) > 1
    assert several > 2


def test_an_answer_with_too_many_spellings_is_refused(tiny_teacher):
    with pytest.raises(LabError, match="a shorter answer"):
        spellings(tiny_teacher, "What is 3 + 4?", "continent of continents " * 3)
    assert sum(spellings(tiny_teacher, "What is 3 + 4?", "\u65e5").values()) < 1e-3
    assert len(spellings(tiny_teacher, "What is 3 + 4?", "")) == 1


def test_exact_targets_are_the_teacher_s_own_where_one_token_is_one_token(pool):
    """At the first token, with nothing cut differently: the exact target is the teacher's distribution, but for what is below the floor."""
    both = CrossTokenizerPool(pool, "atlas", "exact")
    aligned = both.aligned(range(12))
    assert torch.allclose(aligned.target_M_W.sum(-1), torch.ones(len(aligned.target_M_W)), atol=1e-5)
    first = aligned.first_of_student_S[[0]]
    listed = sum(p for _, p in both._texts.of(0))
    teacher = aligned.teacher_logits_L_V[first].softmax(-1)
    assert (aligned.target_M_W[first] * listed - teacher).max() < 1e-2  # fp16 states
    assert (aligned.target_M_W[first] - teacher).abs().sum() <= 2 * (1 - listed) + 0.02


def test_listed_answers_are_kept_and_a_damaged_list_is_made_again(pool):
    whole = CrossTokenizerPool(pool, "bytes", "exact").aligned(range(8)).target_M_W
    (kept,) = pool.folder.glob("answers-*.json.gz")
    for damage in (b"", b"no gzip", kept.read_bytes()[:-7]):
        kept.write_bytes(damage)
        assert torch.equal(CrossTokenizerPool(pool, "bytes", "exact").aligned(range(8)).target_M_W, whole)


# ---- runs ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("across", ALIGNMENTS)
@pytest.mark.parametrize("vocabulary", ["other", "bytes"])
def test_every_crossing_trains(quick, across, vocabulary):
    exp = TINY.but(across=across, vocabulary=vocabulary, faults="wrong_ids" if across == "ids" else "none", mix=0.25)
    run = Run(exp)
    rec = Record(run)
    assert rec.complete
    assert run.student.config.vocab_size == tokenizer(vocabulary).size
    assert {"crossed", "ce", "loss"} <= rec.steps[-1].values.keys() and "kl" not in rec.steps[-1].values
    assert ("hard" in rec.steps[-1].values) == ALIGNMENTS[across].text
    assert rec.evaluations[-1].fidelity.keys() == {"bits_per_byte", "truth_bits_per_byte"}
    assert all(math.isfinite(x) for x in rec.steps[-1].values.values())


@pytest.mark.parametrize("method", ["answers", "sequence", "gold", "mutual"])
def test_text_crosses_by_itself(quick, method):
    rec = Record(Run(TINY.but(method=method, vocabulary="small", teacher="none" if method in ("gold", "mutual") else TEACHER)))
    assert rec.complete


def test_micro_batches_change_nothing(quick, monkeypatch: pytest.MonkeyPatch):
    exp = TINY.but(mix=0.25, batch=16, steps=2)
    whole = Run(exp)
    list(whole)
    monkeypatch.setattr("labkit.training.readers.split_by_length", lambda lengths, *_: [[i] for i in range(len(lengths))])
    alone = Run(exp)
    list(alone)
    for one, other in zip(whole.student.parameters(), alone.student.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4)


@pytest.mark.parametrize("across", ["spans", "exact"])
def test_live_signals_are_the_cached_ones_in_full_precision(quick, across):
    losses = [[s.values["loss"] for s in Record(Run(TINY.but(across=across, signals=how))).steps] for how in ("cached", "live")]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_a_killed_run_goes_on_to_the_same_result(quick, tmp_path: Path):
    exp = TINY.but(across="exact", steps=6)
    whole = Run(exp)
    list(whole)
    cut = Run(exp, tmp_path, 2)
    for event in cut:
        if isinstance(event, ev.Step) and event.step == 5:
            break
    cut.folder._lock.release()
    again = Run(exp, tmp_path, 2)
    assert any(isinstance(event, ev.Warned) for event in list(again))
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    cut.folder.close()


def test_listed_answers_of_other_questions_are_listed_again(pool, tiny_teacher):
    """A file of the same length, but of other questions, in the place of a pool's own."""
    whole = CrossTokenizerPool(pool, "bytes", "exact").aligned(range(8)).target_M_W
    other = Signals(tiny_teacher, transfer_questions(TINY, Atlas("half"))[::-1], chunk=32)
    list(other.prepare(range(48)))
    CrossTokenizerPool(other, "bytes", "exact").aligned(range(8))
    own, theirs = (sorted(signals.folder.glob("answers-*"))[0] for signals in (pool, other))
    own.write_bytes(theirs.read_bytes())
    assert torch.equal(CrossTokenizerPool(pool, "bytes", "exact").aligned(range(8)).target_M_W, whole)
    assert own.read_bytes() != theirs.read_bytes()


def test_a_warm_start_is_its_vocabulary_s_own(quick):
    for vocabulary in ("other", "bytes"):
        assert Record(Run(TINY.but(start="warm", vocabulary=vocabulary))).complete


def test_names_are_checked():
    for changes, words in (
        (dict(vocabulary="byte"), "bytes"),
        (dict(across="span"), "spans"),
        (dict(faults="wrong ids!"), "wrong_ids"),
    ):
        with pytest.raises(LabError, match=words):
            Experiment(**changes)
    with pytest.raises(LabError, match="small"):
        tokenizer("smal")


def test_a_damaged_vocabulary_is_named(tiny_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("atlas", "tokenizers"):
        (tmp_path / name).symlink_to(tiny_data / name)
    (tmp_path / "vocabularies").mkdir()
    for file in ("manifest.json", "bytes.json"):
        text = (tiny_data / "vocabularies" / file).read_text()
        (tmp_path / "vocabularies" / file).write_text(text[:-20] if file == "bytes.json" else text)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    tokenizer.cache_clear()
    with pytest.raises(DataError, match="build vocabularies"):
        tokenizer("bytes")
    tokenizer.cache_clear()


def test_records_made_before_keep_their_names_and_baselines_keep_the_vocabulary():
    assert Experiment(vocabulary="atlas", across="spans", faults="none").key == Experiment().key
    for name in ("label budget", "same questions"):
        assert TINY.but(across="exact").baseline(name).vocabulary == "other"
        assert TINY.but(across="exact").baseline(name).across == "spans"


# ---- exams -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", ["atlas", "other", "bytes"])
def test_bits_per_byte_are_counted_on_the_same_bytes(tiny_teacher, vocabulary):
    exam = Exam(Atlas("half"), tiny_teacher, 2, vocabulary=vocabulary)
    student, own = models.student("22k", 0, vocabulary=vocabulary), tokenizer(vocabulary)
    found = exam.grade(student).fidelity
    for name, said in (
        ("bits_per_byte", [a.text for a in exam.teacher_answers]),
        ("truth_bits_per_byte", [q.gold for q in exam.questions]),
    ):
        nats, size = 0.0, 0
        for question, text in zip(exam.questions, said, strict=True):
            prompt, answer = own.prompts([question.text])[0], own.answers([text])[0]
            nats -= answer_logprob(student, prompt, answer)
            size += len(f" {text}".encode()) + 1
        assert found[name] == pytest.approx(nats / math.log(2) / size, rel=1e-3)
    assert ("kl" in found) == (vocabulary == "atlas")


def test_the_teacher_has_the_same_marks_on_every_paper(tiny_teacher):
    papers = [Exam(Atlas("half"), tiny_teacher, 3, vocabulary=v) for v in ("atlas", "bytes")]
    assert papers[0].teacher_grades == papers[1].teacher_grades


def test_a_student_is_asked_in_its_own_tokens(tiny_data):
    student = models.student("22k", 0, vocabulary="bytes")
    said = labkit.ask(student, "What is the capital of Chad?")
    assert said.truth == "N'Djamena"
    assert isinstance(said.answer, str)
    assert alignment.ALIGNMENTS.keys() == set(models_alignments())


def models_alignments() -> tuple[str, ...]:
    """The recipe's list of alignments is the registry's."""
    from labkit.records.names import ALIGNMENTS

    return ALIGNMENTS
