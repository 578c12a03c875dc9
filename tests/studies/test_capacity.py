"""Stores of facts, the bits of them a model holds, and who may stand between teacher and student."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from conftest import TEACHER
from oracles import answer_logprob
from safetensors.torch import load_file

from labkit import models
from labkit.base import tensors
from labkit.base.errors import LabError
from labkit.base.files import made_here
from labkit.records import events as ev
from labkit.records.experiment import TUNED_RATE, Experiment
from labkit.records.record import Record
from labkit.studies.capacity import held, information, knee, per_parameter
from labkit.tasks.atlas.facts import FACTS, Atlas, ask_about
from labkit.teachers import signals
from labkit.training.batches import BatchSampler, gold_questions, transfer_questions
from labkit.training.loop import Run
from labkit.training.prerequisites import assistant_recipe, earlier

# ---- the store -----------------------------------------------------------------------------------------------------------------


def test_a_larger_store_holds_the_smaller_and_no_fact_twice():
    world = Atlas("half")
    large = world.store(300)
    assert world.store(100) == large[:100]
    assert len({q.fact.key for q in large}) == 300
    assert {q.fact.relation for q in large} == set(FACTS)
    for question in large:
        assert len(question.answers) == 1
        assert question == ask_about(question.fact)


def test_a_store_may_be_made_up_and_keeps_its_questions():
    truth, lies = Atlas("half").store(80), Atlas("half", falsehoods=1.0).store(80)
    assert [q.text for q in truth] == [q.text for q in lies]
    assert all(a.gold != b.gold for a, b in zip(truth, lies, strict=True))
    assert lies == Atlas("half", falsehoods=1.0).store(80), "the same lie every time"


def test_every_fact_of_a_store_exists_and_no_more():
    world = Atlas("Oceania")
    count = sum(len(world.facts(r)) for r in FACTS)
    assert len(world.store(count)) == count
    for n in (0, count + 1):
        with pytest.raises(LabError, match=f"{count} facts with one answer"):
            world.store(n)


@pytest.mark.parametrize("seed", [0, 3])
def test_all_facts_are_met_equally_often(seed: int):
    exp = Experiment(student="7k", method="gold", teacher="none", facts=30, batch=10, seed=seed)
    feed = BatchSampler(exp, gold_questions(exp, Atlas(exp.scale)), None, models.tokenizer())
    met: Counter[tuple[int, ...]] = Counter()
    for _ in range(12):
        drawn = feed.draw(*feed.next_rows(exp.batch, 1.0))
        met.update(map(tuple, drawn.prompts))
    assert set(met.values()) == {4}
    assert set(met) == {tuple(p) for p in models.tokenizer().prompts([q.text for q in Atlas("half").store(30)])}


def test_a_store_leaves_nothing_out():
    assert transfer_questions(Experiment(facts=50), Atlas("half")) == Atlas("half").store(50)


# ---- the bits ------------------------------------------------------------------------------------------------------------------


def test_bits_are_what_adding_up_by_hand_gives():
    world, model = Atlas("half"), models.student("7k", 3)
    questions = world.store(25)
    found = held(model, world, questions)
    bits, right = 0.0, 0
    for question in questions:
        prompt, answer = models.tokenizer().prompts([question.text])[0], models.tokenizer().answers([question.gold])[0]
        others = [f.answers[0] for f in world.facts(question.fact.relation)]
        bits += math.log2(len(others) / others.count(question.gold)) + answer_logprob(model, prompt, answer) / math.log(2)
        right += models.write(model, [prompt])[0].ids == answer
    assert found.bits == pytest.approx(bits, rel=1e-4)
    assert found.right == right / 25
    assert per_parameter(found, model) == found.bits / 7_038


def test_a_guesser_by_frequency_holds_nothing_and_a_knower_all(monkeypatch):
    """The identity behind the measure: with the answers' own frequencies as the model's probabilities, bits are 0; with certainty, all."""
    world = Atlas("half")
    questions = [q for q in world.store(200) if q.fact.relation == "symbol"]
    counts = Counter(f.answers[0] for f in world.facts("symbol"))
    costs = [-math.log(counts[q.gold] / counts.total()) for q in questions]
    asked = information(world, questions)
    assert sum(asked) - sum(costs) / math.log(2) == pytest.approx(0, abs=1e-9)
    assert sum(asked) == pytest.approx(len(questions) * math.log2(counts.total())), "every element has its own symbol"


def test_the_knee_is_where_a_store_is_no_longer_held():
    assert knee({1: 1.0, 2: 2.0, 4: 3.6, 8: 4.0}) == pytest.approx(4.0), "exactly nine tenths of 4 are held"
    assert knee({1: 1.0, 4: 3.2}) == pytest.approx(2.0), "half-way down from all to four fifths, on a logarithmic scale"
    assert knee({4: 3.2, 1: 1.0}) == knee({1: 1.0, 4: 3.2})
    assert knee({1: 0.5, 2: 0.1}) == 0.0
    assert knee({1: 1.0, 2: 1.95}) == math.inf
    assert knee({1: 1.0, 4: 3.2}, share=0.8) == math.inf
    for stores, share in (({}, 0.9), ({1: 1.0}, 1.0), ({1: 1.0}, 0.0)):
        with pytest.raises(LabError, match="between 0 and 1"):
            knee(stores, share)


def test_a_student_is_asked_in_its_own_tokens():
    world = Atlas("whole")
    found = held(models.student("7k", vocabulary="bytes"), world, world.store(16))
    assert found.asked > 0 > found.bits, "a fresh student is surer of nothing, and says so byte by byte"


def test_training_puts_bits_in_and_no_facts_are_refused():
    world, exp = Atlas("half"), Experiment(student="22k", method="gold", teacher="none", facts=16, batch=16, steps=60, learning_rate=3e-2)
    before = held(models.student("22k"), world, world.store(16))
    run = Run(exp, exams=0)
    assert not [e for e in run if isinstance(e, ev.Evaluated)], "no exams were asked for"
    assert run.student is not None
    after = held(run.student, world, world.store(16))
    assert before.bits < 0 < after.bits <= after.asked == before.asked
    with pytest.raises(LabError, match="no facts to hold"):
        held(run.student, world, [])


# ---- assistants ----------------------------------------------------------------------------------------------------------------

TINY = Experiment(student="7k", teacher=TEACHER, assistant="22k", questions=128, gold=40, batch=8, steps=6, learning_rate=5e-2)


def test_an_assistant_is_distilled_once_and_is_who_teaches(quick):
    record = Record(Run(TINY))
    (path,) = made_here("assistants").iterdir()
    recipe = assistant_recipe(TINY)
    assert (recipe.student, recipe.assistant, recipe.learning_rate, recipe.teacher) == ("22k", "none", TUNED_RATE["22k"], TEACHER)
    alone = Run(recipe)
    list(alone)
    kept, _ = tensors.load(path)
    for name, parameter in alone.student.named_parameters():
        assert torch.equal(kept[name], parameter)
    # the same run with the assistant as the teacher by hand: its signals are its own
    pool = signals.Signals(alone.student.eval(), transfer_questions(TINY, Atlas(TINY.scale)))
    assert pool.folder.is_dir(), "the assistant's answers were cached under the assistant's weights"
    assert record.references["teacher"].recipe == TEACHER, "it is still measured against the teacher"
    made = path.stat().st_mtime_ns
    again = Record(Run(TINY))
    assert path.stat().st_mtime_ns == made
    assert [s.values["loss"] for s in again.steps] == [s.values["loss"] for s in record.steps]


CHAIN = TINY.but(assistant="none", generations=3)


def test_each_generation_is_taught_by_the_one_before_it_and_is_made_once(quick):
    record = Record(Run(CHAIN))
    folder = made_here("assistants")
    first, second = earlier(CHAIN)
    assert (first, second) == (CHAIN.but(generations=1), CHAIN.but(generations=2))
    assert {path.stem for path in folder.iterdir()} == {first.key, second.key}
    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    for recipe in (first, second):
        alone = Run(recipe)
        list(alone)
        kept, _ = tensors.load(folder / f"{recipe.key}.safetensors")
        for name, parameter in alone.student.named_parameters():
            assert torch.equal(kept[name], parameter)
        pool = signals.Signals(alone.student.eval(), transfer_questions(CHAIN, Atlas(CHAIN.scale)))
        assert pool.folder.is_dir(), "its answers were cached under its own weights"
    again = Record(Run(CHAIN))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == made
    assert [s.values["loss"] for s in again.steps] == [s.values["loss"] for s in record.steps]
    assert record.references["teacher"].recipe == TEACHER, "it is still measured against the teacher"


def test_a_chain_that_was_cut_off_makes_only_what_is_missing(quick):
    list(Run(CHAIN))
    first, second = (made_here("assistants") / f"{recipe.key}.safetensors" for recipe in earlier(CHAIN))
    kept, whole = first.stat().st_mtime_ns, load_file(second)
    second.unlink()
    list(Run(CHAIN))
    assert first.stat().st_mtime_ns == kept
    again = load_file(second)
    assert again.keys() == whole.keys() and all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_chain_that_is_stopped_keeps_no_half_trained_student(quick):
    run = Run(CHAIN)
    run.stop()
    assert Record(run).finished.reason == "stopped"
    assert not list(made_here("assistants").glob("*"))


@pytest.mark.parametrize("changes", [{"adapter": 2}, {"method": "sequence"}, {"method": "relations"}])
def test_other_recipes_have_generations_too(quick, changes):
    recipe = CHAIN.but(generations=2, steps=2, **changes)
    assert Record(Run(recipe)).complete
    assert [path.stem for path in made_here("assistants").iterdir()] == [recipe.but(generations=1).key]


@pytest.mark.parametrize("many", [0, 9, 1.5])
def test_generations_are_a_few(many):
    with pytest.raises(LabError, match="generations"):
        Experiment(generations=many)


def test_new_knobs_leave_old_keys_alone():
    assert Experiment(facts=0, assistant="none", generations=1).key == Experiment().key
    assert len({Experiment(**new).key for new in ({}, {"facts": 10}, {"assistant": "57k"}, {"generations": 2})}) == 4
    assert Experiment(facts=10).baseline().facts == 10
