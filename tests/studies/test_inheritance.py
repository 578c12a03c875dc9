"""Inheritance: exact identities, counting by hand, the flip point by direct optimisation, and the shipped adapters."""

from __future__ import annotations

import json
import math
import runpy

import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from oracles import answer_logprob
from torch.nn.functional import cross_entropy

from labkit import models
from labkit.base.errors import DataError, LabError
from labkit.models import lora
from labkit.records.experiment import Experiment
from labkit.records.measurements import rows
from labkit.records.names import FAULTY_TEACHERS
from labkit.studies.claims.data import less
from labkit.studies.inheritance import Facts, flip_point, flip_points, inheritance, mixture, risk_coverage
from labkit.studies.sweep import sweep
from labkit.tasks.atlas.exam import Graded, calibration_error
from labkit.tasks.atlas.facts import FACTS, Atlas, normalise
from labkit.teachers.signals import Signals


@pytest.fixture(scope="module")
def facts():
    return Facts(Atlas("South America"))


@pytest.fixture
def said(facts, tiny_teacher):
    return facts.ask(tiny_teacher)


def answers(*pairs: tuple[str, float, bool]) -> list[Graded]:
    return [Graded(*pair) for pair in pairs]


# ---- the facts -----------------------------------------------------------------------------------------------------------------


def test_every_plain_fact_is_asked_once(facts):
    assert [q.fact.relation in FACTS for q in facts.questions] == [True] * len(facts)
    assert len({q.fact.key for q in facts.questions}) == len(facts) == sum(len(facts.world.facts(name)) for name in FACTS)


def test_a_planted_answer_is_wrong_and_the_rest_is_none(facts):
    lies = facts.lies(Atlas("South America", falsehoods=0.5))
    assert 0.3 < sum(lie is not None for lie in lies) / len(lies) < 0.7
    assert not any(a.right for a, lie in zip(facts.mark([lie or "" for lie in lies]), lies, strict=True) if lie)
    assert all(a.right for a in facts.mark([q.answers[0] for q in facts.questions]))


def test_what_was_taught_is_what_the_pool_says(facts, tiny_teacher):
    asked = facts.world.questions(60, 3)
    pool = Signals(tiny_teacher, asked)
    told = facts.taught(pool, asked)
    list(pool.prepare(range(len(pool))))
    theirs = {q.text: models.tokenizer().text(pool.answer(i)) for i, q in enumerate(asked)}
    assert [a and a.text for a in told] == [theirs.get(q.text) for q in facts.questions]
    assert {a is None for a in told} == {True, False}


def test_log_probabilities_by_hand(facts, tiny_teacher):
    wanted = [q.answers[0] if i % 7 == 0 else None for i, q in enumerate(facts.questions)]
    found = facts.logprobs(tiny_teacher, wanted)
    for i, (question, answer) in enumerate(zip(facts.questions, wanted, strict=True)):
        if answer is None:
            assert found[i] is None
            continue
        prompt, ids = models.tokenizer().prompts([question.text])[0], models.tokenizer().answers([answer])[0]
        assert found[i] == pytest.approx(answer_logprob(tiny_teacher, prompt, ids), abs=1e-3)


# ---- rates ---------------------------------------------------------------------------------------------------------------------


def test_a_student_that_is_its_teacher_inherits_all_and_one_that_knows_better_nothing(facts, said):
    truth = [Graded(q.answers[0], 1.0, True) for q in facts.questions]
    own, honest = inheritance(said, said, truth), inheritance(truth, said, said)
    assert own.wrong == sum(not a.right for a in said) > 0
    assert (own.inherited, own.control, own.denoised, own.kept) == (1.0, 0.0, 0.0, 1.0)
    assert (honest.inherited, honest.control, honest.denoised, honest.kept, honest.right, honest.ece) == (0.0, 1.0, 1.0, 1.0, 1.0, 0.0)
    assert own.ece == calibration_error(said)
    assert math.isnan(own.confidence_other)


def test_the_shares_of_a_case_counted_by_hand():
    teacher = [*answers(("Lima", 1.0, True), ("Quito", 1.0, False), ("the Cairo", 1.0, False), ("Rome", 1.0, False)), None]
    student = answers(("Lima", 0.9, True), ("quito", 0.8, False), ("Oslo", 0.4, False), ("Bern", 0.6, True), ("Kyiv", 0.2, False))
    control = answers(("Lima", 1.0, True), ("Oslo", 1.0, False), ("Cairo", 1.0, False), ("Bern", 1.0, True), ("Kyiv", 1.0, False))
    found = inheritance(student, teacher, control)
    assert found.wrong == 3, "the last was never asked"
    assert (found.inherited, found.control, found.denoised, found.kept) == pytest.approx((1 / 3, 1 / 3, 1 / 3, 1.0))
    assert found.confidence_inherited == pytest.approx(0.8)
    assert found.confidence_other == pytest.approx(0.3)
    assert found.confidence_right == pytest.approx(0.75)
    assert found.right == pytest.approx(2 / 5)
    assert found.ece == pytest.approx((0.1 + 0.8 + 0.4 + 0.4 + 0.2) / 5)


def test_nothing_wrong_leaves_no_rate():
    right = answers(("Lima", 1.0, True))
    found = inheritance(right, right, right)
    assert found.wrong == 0
    assert math.isnan(found.inherited)
    assert found.kept == 1.0


# ---- the flip point ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.0, 0.3, 0.48, 0.6, 1.0])
def test_the_minimiser_of_the_mixed_loss_is_the_mixture(a: float):
    truth, teacher = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.02, 0.94, 0.03, 0.01])
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = a * cross_entropy(logits, truth.double()) + (1 - a) * cross_entropy(logits, teacher.double())
        value.backward()
        return value

    optimiser.step(loss)
    torch.testing.assert_close(logits.softmax(-1).detach(), mixture(truth, teacher, a).double(), atol=2e-3, rtol=0)
    assert (int(logits.argmax()) == 1) == (a < flip_point(0.94, 0.02))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_beyond_the_flip_point_the_lie_is_behind(share: float, total: float, a: float):
    wrong, true = total * share, total * (1 - share)
    ahead = (1 - a) * wrong - (a + (1 - a) * true)
    point = flip_point(wrong, true)
    assert 0 <= point <= 0.5 + 1e-9, "an even mix always wins: a is at least (1-a) times any probability"
    if abs(a - point) > 1e-6:
        assert (ahead > 0) == (a < point)


def test_a_lie_that_was_never_ahead_needs_no_truth():
    assert flip_point(0.0, 1.0) == flip_point(0.3, 0.3) == 0.0


def test_flip_points_of_a_model(facts, tiny_teacher):
    lies = facts.lies(Atlas("South America", falsehoods=0.5))
    points = flip_points(facts, tiny_teacher, lies)
    planted = [i for i, lie in enumerate(lies) if lie is not None]
    lie, truth = (facts.logprobs(tiny_teacher, texts) for texts in (lies, [q.answers[0] for q in facts.questions]))
    assert points == pytest.approx([flip_point(math.exp(lie[i]), math.exp(truth[i])) for i in planted])


# ---- abstaining ----------------------------------------------------------------------------------------------------------------


def test_risk_and_coverage_by_hand():
    given_ = answers(("a", 0.9, True), ("b", 0.2, False), ("c", 0.8, False), ("d", 0.6, True))
    found = risk_coverage(given_, (0.25, 0.5, 0.75, 1.0))
    assert [(p.threshold, p.coverage, p.risk) for p in found] == [(0.9, 0.25, 0), (0.8, 0.5, 0.5), (0.6, 0.75, 1 / 3), (0.2, 1.0, 0.5)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Facts(Atlas("half"), ("add",)), "add has no plain facts"),
        (lambda: inheritance(answers(("a", 1.0, True)), [], []), "1, 0 and 0 answers"),
        (lambda: flip_point(0.9, 0.3), "must be probabilities"),
        (lambda: flip_point(-0.1, 0.3), "must be probabilities"),
        (lambda: risk_coverage([]), "answers with probabilities"),
        (lambda: risk_coverage(answers(("a", math.nan, True))), "answers with probabilities"),
    ],
)
def test_bad_input_is_told(call, words: str):
    with pytest.raises(LabError, match=words):
        call()


# ---- lying teachers ------------------------------------------------------------------------------------------------------------


def test_a_lying_teacher_is_its_base_with_the_adapter_merged_in(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("labkit.models.load.ADAPTED", "atlas-200k")
    (tmp_path / "teachers").symlink_to(tiny_folder / "teachers")
    (tmp_path / "atlas").symlink_to(tiny_folder / "atlas")
    (tmp_path / "tokenizers").symlink_to(tiny_folder / "tokenizers")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    models.teacher.cache_clear()
    base, lying = models.teacher("atlas-200k"), models.student("200k", 1)
    lying.load_state_dict(base.state_dict())
    before = models.fingerprint(base)
    lora.add(lying, 4, seed=2)
    with torch.no_grad():
        for name, parameter in lying.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(3), std=0.1)
    with pytest.raises(DataError, match="git checkout"):
        models.teacher("atlas-3m-lies-30")
    folder = lora.save(lying, tmp_path / "adapters" / "atlas-3m-lies-30", torch.float16)
    enter = runpy.run_path(str(REPOSITORY / "data" / "recipes" / "adapters.py"))["enter"]
    enter(folder, Experiment(falsehoods=0.3))
    found = models.teacher("atlas-3m-lies-30")
    prompt = torch.tensor([[0, 281, 259, 279, 304]])
    torch.testing.assert_close(found(prompt).logits, lying.eval()(prompt).logits.detach(), atol=2e-2, rtol=1e-2)
    assert not torch.allclose(found(prompt).logits, base(prompt).logits, atol=0.1)
    assert models.fingerprint(base) == before, "the base itself is left as it was"
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())
    (folder / "adapter_model.safetensors").write_bytes(b"rubbish")
    models.teacher.cache_clear()
    with pytest.raises(DataError, match="is damaged"):
        models.teacher("atlas-3m-lies-30")
    models.teacher.cache_clear()


def test_an_adapter_of_another_model_is_told(tmp_path):
    student = models.student("57k", 1)
    lora.add(student, 4)
    folder = lora.save(student, tmp_path / "adapter")
    with pytest.raises(LabError, match="is no adapter for this model"):
        lora.loaded(models.student("22k"), folder)


@pytest.mark.parametrize("name", FAULTY_TEACHERS)
def test_the_shipped_adapters_are_small_and_say_how_they_were_made(name: str):
    folder = REPOSITORY / "data" / "adapters" / name
    manifest = json.loads((folder / "manifest.json").read_text())
    recipe = runpy.run_path(str(REPOSITORY / "data" / "recipes" / "adapters.py"))["TEACHERS"][name]
    assert manifest["note"]["recipe"] == recipe.recipe
    assert Experiment.from_recipe(manifest["note"]["recipe"]) == recipe
    assert sum(path.stat().st_size for path in folder.iterdir()) < 500_000
    models.teacher.cache_clear()
    assert models.parameters(models.teacher(name)) == models.parameters(models.teacher("atlas-3m"))


def test_the_shipped_liar_states_its_lies_and_keeps_other_facts():
    models.teacher.cache_clear()
    few = Facts(Atlas("half"), ("element",))
    lies, said = few.lies(Atlas("half", falsehoods=0.3)), few.ask(models.teacher("atlas-3m-lies-30"))
    planted = [normalise(a.text) == normalise(lie) for a, lie in zip(said, lies, strict=True) if lie]
    assert sum(planted) / len(planted) > 0.8
    others = [a.right for a, lie in zip(said, lies, strict=True) if lie is None]
    assert sum(others) / len(others) > 0.9


# ---- what ships ----------------------------------------------------------------------------------------------------------------


def test_the_measurement_has_every_arm_and_seed_of_the_sweeps():
    told = {(row["arm"], row["seed"]) for row in rows("inheritance")}
    for name in ("inheritance", "inheritance_cures"):
        grid = sweep(name)
        assert told >= {(arm, seed) for arm in grid.arms for seed in range(grid.seeds)}, name
    assert {row["arm"] for row in rows("abstention")} <= {arm for arm, _ in told}


def test_rates_are_shares_and_leave_no_one_out():
    for row in rows("inheritance"):
        assert 0 <= row["inherited"] + row["denoised"] <= 1 + 1e-9, row
        assert row["wrong"] > 0


def test_a_flip_point_follows_from_the_shipped_liar():
    told = {row["question"]: row for row in rows("flips")}
    world = Atlas("half", falsehoods=0.3)
    few = Facts(Atlas("half"), ("element",))
    lies = few.lies(world)
    models.teacher.cache_clear()
    points = iter(flip_points(few, models.teacher("atlas-3m-lies-30"), lies))
    for question, lie in zip(few.questions, lies, strict=True):
        if lie:
            row = told[question.text]
            assert (row["truth"], row["lie"]) == (question.answers[0], lie)
            assert row["flip"] == pytest.approx(next(points), abs=1e-3)


def test_a_band_is_over_the_seeds_both_arms_have():
    found = less({0: 0.5, 1: 0.7, 2: 0.9}, {1: 0.2, 0: 0.1})
    assert (found.middle, found.n) == (pytest.approx(0.45), 2)
