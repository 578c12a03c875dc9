"""The teacher's text: greedy, sampled, beams and the one nearest to gold, each against an independent way; filters; files; training."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import pytest
import torch
from conftest import TEACHER
from oracles import answer_logprob

from labkit import models
from labkit.base.errors import DataError, LabError
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import DECODINGS, KEEP
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers import text_data
from labkit.teachers.text_data import Sequences, TextRow, edits, generate, keep
from labkit.teachers.text_pool import TextPool
from labkit.training.loop import Run

TINY = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=8, method="sequence")


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def questions() -> list:
    return Atlas("half").questions(60, 7)


def told(events) -> list[ev.Step]:
    return [e for e in events if isinstance(e, ev.Step)]


def logprob(model, prompt: str, response: str) -> float:
    p, a = models.tokenizer().prompts([prompt])[0], models.tokenizer().answers([response])[0]
    return answer_logprob(model, p, a)


# ---- writing -------------------------------------------------------------------------------------------------------------------


def test_greedy_is_what_the_teacher_writes_by_itself(questions, tiny_teacher):
    data = generate(tiny_teacher, questions, "greedy")
    alone = [models.write(tiny_teacher, models.tokenizer().prompts([q.text]))[0] for q in questions]
    assert [r.prompt for r in data.rows] == [q.text for q in questions]
    assert [r.response for r in data.rows] == [models.tokenizer().text(w.ids) for w in alone]
    assert [r.logprob for r in data.rows] == pytest.approx([sum(w.logprobs) for w in alone], abs=1e-3)


def test_samples_follow_the_teacher_s_distribution_at_their_temperature(tiny_teacher):
    question = next(q for q in Atlas("half").questions(60, 7) if q.text.endswith("country?"))  # begun with words, which text gives back
    for temperature in (1.0, 0.5):
        data = generate(tiny_teacher, [question], "sample", temperature=temperature, samples=600, seed=3)
        first = Counter(models.tokenizer().answers([r.response])[0][0] for r in data.rows)
        prompt = torch.tensor(models.tokenizer().prompts([question.text]))
        with torch.no_grad():
            p = (tiny_teacher(prompt).logits[0, -1].double() / temperature).softmax(-1)
        for token, share in sorted(enumerate(p.tolist()), key=lambda x: -x[1])[:4]:
            assert abs(first[token] / 600 - share) < 4 * math.sqrt(share * (1 - share) / 600) + 0.01


def test_the_likeliest_beam_beats_greedy_and_matches_its_own_score(questions, tiny_teacher):
    greedy, beam = (generate(tiny_teacher, questions[:24], decoding) for decoding in ("greedy", "beam"))
    for one, other in zip(greedy.rows, beam.rows, strict=True):
        assert other.logprob >= one.logprob - 1e-3
        if "�" not in other.response:  # a broken letter does not come back as the same tokens
            again = models.tokenizer().answers([other.response])[0]
            if models.tokenizer().text(again) == other.response and len(again) < 28:
                assert other.logprob >= logprob(tiny_teacher, other.prompt, other.response) - 1e-2


def test_beam_finds_the_mode_of_a_short_world(tiny_teacher):
    """Against every answer of one token and an end: none of them is likelier than the beam."""
    question = next(q for q in Atlas("half").questions(60, 7) if q.skill == "city")
    (row,) = generate(tiny_teacher, [question], "beam").rows
    prompt = models.tokenizer().prompts([question.text])[0]
    rows = models.pad([prompt] * 1023, [[t, models.EOS] for t in range(1, 1024)])
    with torch.no_grad():
        scores = tiny_teacher(rows.tokens_B_T).logits[rows.mask_B_T].log_softmax(-1).gather(1, rows.labels_N[:, None])[:, 0]
    assert row.logprob >= float(scores.view(1023, 2).sum(1).max()) - 1e-4


def test_beams_end_where_other_answers_do(questions, tiny_teacher, monkeypatch):
    monkeypatch.setattr(models.tokenizer_of(tiny_teacher), "longest", 1)
    assert {len(ids) for row in text_data._beams(tiny_teacher, models.tokenizer().prompts(["Who?"])) for ids, _ in row} == {1}


def test_the_interpolated_answer_is_the_beam_nearest_to_gold(questions, tiny_teacher):
    data = generate(tiny_teacher, questions[:12], "interpolated")
    for row, question in zip(data.rows, questions, strict=False):
        beams = text_data._beams(tiny_teacher, models.tokenizer().prompts([question.text]))[0]
        gold = models.tokenizer().answers([question.gold])[0]
        assert row.response in {
            models.tokenizer().text(ids) for ids, _ in beams if edits(ids, gold) == min(edits(i, gold) for i, _ in beams)
        }


@pytest.mark.parametrize(
    ("one", "other", "wanted"), [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
)
def test_edits(one: str, other: str, wanted: int):
    assert edits(list(map(ord, one)), list(map(ord, other))) == wanted
    assert edits(list(map(ord, other)), list(map(ord, one))) == wanted


def test_the_history_says_how(questions, tiny_teacher):
    (how,) = generate(tiny_teacher, questions, "sample", temperature=0.7, samples=2, seed=5).history
    assert (how["decoding"], how["temperature"], how["samples"], how["seed"], how["rows"]) == ("sample", 0.7, 2, 5, 120)
    assert how["teacher"] == models.fingerprint(tiny_teacher)


# ---- filtering and keeping -----------------------------------------------------------------------------------------------------


def rows(*pairs: tuple[str, str, float]) -> Sequences:
    return Sequences(tuple(TextRow(*pair) for pair in pairs), ({"decoding": "sample", "samples": 2},))


CHAD, PERU = "What is the capital of Chad?", "What is the capital of Peru?"
SOME = rows((CHAD, "N'Djamena", -0.1), (CHAD, "Lima", -3.0), (CHAD, "N'Djamena", -0.1), (PERU, "Quito", -0.2), (PERU, "Quito", -0.2))


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("truth", [(CHAD, "N'Djamena")] * 2),
        ("confidence", [(CHAD, "N'Djamena")] * 2 + [(PERU, "Quito")] * 2),
        ("agreement", [(CHAD, "N'Djamena")] * 2 + [(PERU, "Quito")] * 2),
        ("distinct", [(CHAD, "N'Djamena"), (CHAD, "Lima"), (PERU, "Quito")]),
    ],
)
def test_filters_keep_what_they_say_and_count_it(rule: str, left: list):
    found = keep(SOME, rule, Atlas("whole"))
    assert [(r.prompt, r.response) for r in found.rows] == left
    assert found.history == (*SOME.history, {"filter": rule, "given": 5, "left": len(left)})


def test_every_filter_of_a_recipe_exists():
    for rule in set(KEEP) - {"all"}:
        assert keep(SOME, rule, Atlas("whole"), [SOME]).history[-1]["filter"] == rule


def test_a_vote_keeps_what_one_of_the_others_says_too_to_the_same_prompt():
    one, other = rows((CHAD, "ndjamena", -5.0), (PERU, "Lima", -0.1)), rows((PERU, "Arequipa", -0.1), ("Another?", "Quito", -0.1))
    assert [r.response for r in keep(SOME, "vote", Atlas("whole"), [one, other]).rows] == ["N'Djamena"] * 2
    assert keep(SOME, "vote", Atlas("whole"), [other, SOME]).rows == SOME.rows
    with pytest.raises(LabError, match="leaves none"):
        keep(SOME, "vote", Atlas("whole"), [other])


def test_saved_and_loaded_it_is_the_same(tmp_path):
    for name in ("a.jsonl", "b.jsonl.gz"):
        assert Sequences.load(SOME.save(tmp_path / name)) == SOME
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[1])["prompt"] == CHAD


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: generate(t, [], "greddy"), "Did you mean 'greedy'"),
        (lambda t: generate(t, [], "beam", samples=3), "only decoding='sample'"),
        (lambda t: keep(SOME, "thruth", Atlas("whole")), "Did you mean 'truth'"),
        (lambda t: keep(rows((PERU, "Quito", -0.2)), "truth", Atlas("whole")), "leaves none of 1 rows"),
        (lambda t: keep(Sequences(SOME.rows, ({"samples": 1},)), "agreement", Atlas("whole")), "samples=5"),
        (lambda t: keep(SOME, "vote", Atlas("whole")), "the answers of other teachers"),
        (lambda t: TextPool(rows((PERU, "", -0.2), (PERU, " ", -0.3))), "all 2 responses are empty"),
        (lambda t: TextPool(rows((PERU, "Lima", -0.2), (PERU, "Lima", -0.3))), "all the same"),
    ],
)
def test_bad_input_is_told(tiny_teacher, call, words: str):
    with pytest.raises(LabError, match=words):
        call(tiny_teacher)


@pytest.mark.parametrize("content", [b"", b"rubbish", b'{"history": []}\n{"prompt": 1}\n'])
def test_a_damaged_file_is_named(tmp_path, content: bytes):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.jsonl"):
        Sequences.load(tmp_path / "x.jsonl")


# ---- training --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_student_is_trained_on_the_text(decoding: str):
    events = list(Run(TINY.but(decoding=decoding, steps=4)))
    assert events[-1].reason == "completed"
    assert {"loss", "hard"} <= told(events)[0].values.keys()
    assert "kl" not in told(events)[0].values, "the teacher's text says nothing of its probabilities"
    labelled = [e for e in events if isinstance(e, ev.Labelled)]
    assert labelled[-1].done == labelled[-1].total
    assert events.index(labelled[-1]) < events.index(told(events)[0])


def test_the_first_loss_by_hand(tiny_teacher):
    exp = TINY.but(steps=1, keep="distinct")
    data = keep(generate(tiny_teacher, Atlas(exp.scale).questions(exp.questions, 7)), "distinct", Atlas(exp.scale))
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(exp.seed * 1_000_003)).tolist()[: exp.batch]
    tokens, mask, labels = models.pad(
        models.tokenizer().prompts([data.rows[i].prompt for i in order]), models.tokenizer().answers([data.rows[i].response for i in order])
    )
    student = models.student(exp.student, exp.seed)
    with torch.no_grad():
        wanted = torch.nn.functional.cross_entropy(student(tokens).logits[mask], labels)
    assert told(Run(exp))[0].values["loss"] == pytest.approx(float(wanted), rel=1e-4)


def test_the_text_is_written_once_and_kept(home):
    list(Run(TINY.but(steps=1)))
    (path,) = home.rglob("sequences/*.jsonl.gz")
    before = path.read_bytes()
    events = list(Run(TINY.but(steps=1, seed=3, keep="distinct")))
    assert not [e for e in events if isinstance(e, ev.Labelled)]
    path.write_bytes(b"rubbish")
    list(Run(TINY.but(steps=1)))
    assert path.read_bytes() == before, "and written again if it is damaged"


def test_a_killed_run_goes_on_to_the_same_result(tmp_path):
    exp = TINY.but(decoding="sample", samples=2, keep="distinct")
    whole = Run(exp)
    list(whole)
    first = Run(exp, tmp_path, 3)
    list(itertools.takewhile(lambda e: not (isinstance(e, ev.Step) and e.step == 5), first))
    first.folder._lock.release()
    again = Run(exp, tmp_path, 3)
    events = list(again)
    assert any(isinstance(e, ev.Warned) and "goes on from step 3" in e.message for e in events)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)


def test_what_a_killed_run_wrote_is_not_asked_again(home, monkeypatch, settings):
    """Killed between two chunks, and a chunk of the rest damaged: only what is not there is written, to the same text."""
    settings(chunk=64)
    exp = TINY.but(decoding="sample", samples=2, steps=1)
    list(Run(exp))
    (path,) = home.rglob("sequences/*.jsonl.gz")
    assert list(home.rglob("*.part")) == []
    whole = path.read_bytes()
    path.unlink()
    asked: list[int] = []
    answer = text_data._answer
    monkeypatch.setattr(text_data, "_answer", lambda teacher, texts, *how: asked.append(len(texts)) or answer(teacher, texts, *how))
    first = Run(exp)
    total = next(event.total for event in first if isinstance(event, ev.Labelled)) * 2
    next(event for event in first if isinstance(event, ev.Labelled) and event.done == 96)
    first.close()
    assert asked == [64, 64, 64]
    (second,) = home.rglob("00000064.jsonl.gz")
    second.write_bytes(b"rubbish")
    asked.clear()
    list(Run(exp))
    assert sum(asked) == total - 2 * 64
    assert path.read_bytes() == whole
    assert list(home.rglob("*.part")) == []


def test_a_text_may_hold_any_separator(tmp_path):
    data = Sequences((TextRow("a\u2028b", "c\x85d\x0c\r", -1.0),), ({"decoding": "greedy"},))
    assert Sequences.load(data.save(tmp_path / "rows.jsonl")) == data


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keep": "agreement"}, "samples=5"),
        ({"samples": 3}, "set samples=1, or decoding='sample'"),
        ({"teacher": "none"}, "needs a teacher"),
    ],
)
def test_what_makes_no_sense_is_told_before_any_step(changes: dict, words: str):
    events = []
    with pytest.raises(LabError, match=words):
        for event in Run(TINY.but(**changes)):
            events.append(event)
    assert not told(events)
