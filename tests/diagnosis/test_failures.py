"""Every failure, on recorded runs and live: there when provoked, seen by its symptom, told by its look alone, and gone when cured.

And the panel on which a learner switches them on.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import itertools
import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from conftest import REPOSITORY, TEACHER
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit import models
from labkit.base.errors import LabError
from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures import FAILURES, diagnose, provoke
from labkit.diagnosis.failures.trials import SET_ON, alarms, cost, effect, pair, sightings
from labkit.lessons.break_it import Breakage
from labkit.lessons.catalogue import PANEL, catalogue
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.names import FAULTS, FAVOURITE
from labkit.records.record import Record
from labkit.records.store import Store
from labkit.tasks.atlas import exam as evaluate
from labkit.tasks.atlas.facts import HELD_OUT_SKILLS, Atlas
from labkit.tasks.atlas.questions import ONE_ANSWER
from labkit.teachers import signals
from labkit.training import setup
from labkit.training.batches import transfer_questions
from labkit.training.loop import Run
from labkit.training.prerequisites import made_teacher_recipe
from labkit.views.board.controls import Controls

EVERY = list(FAILURES)
HOSTS = {  # recipes that a failure can be put into where it cannot be put into the default one
    "mean_over_vocabulary": Experiment(mix=0.5),
    "missing_t2": Experiment(mix=0.5, temperature=4.0),
}


def host(name: str) -> Experiment:
    return HOSTS.get(name, Experiment())


# ---- on recorded runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_it_is_provoked_seen_told_and_cured(name: str):
    """The contract of an entry, on runs of seven seeds: the symptom is there beyond the band, and gone with the cure; the detector names
    the runs that have it and no run that was cured of it."""
    entry, runs = FAILURES[name], pair(name)
    for provoked, cured in zip(*runs, strict=True):
        assert entry.within(provoked.experiment)
        assert not entry.within(cured.experiment)
        assert provoked.experiment.seed == cured.experiment.seed
        assert math.isfinite(entry.symptom(Evidence(provoked)))
        assert name not in [diagnosis.failure for diagnosis in diagnose(cured)]
    found = effect(name)
    assert found.n >= 5
    assert found.low > 0, f"{entry.unit}: {found}"
    told = sightings(name)
    assert told.runs >= 5
    assert told.right >= 0.8 * told.runs, told


@pytest.mark.parametrize("name", EVERY)
def test_detectors_do_not_see_the_recipe(name: str):
    """With a recipe, title, seed and knobs that say something else, a run gets the same diagnosis, word for word."""
    other = FAILURES[next(n for n in EVERY if n != name)]
    for run in pair(name).provoked[:2]:
        assert run.started is not None
        lie = dataclasses.replace(
            run.started, experiment=other.provoke(host(other.name)).but(seed=99).to_dict(), title="healthy", questions=1, machine=""
        )
        events = [lie if isinstance(event, ev.Started) else event for event in run.events]
        events.insert(3, ev.KnobTurned(1, 0.0, "faults", "none", "padding_loss"))
        assert diagnose(Record(events)) == diagnose(run)
        assert diagnose(run)


def test_evidence_holds_no_recipe():
    run = pair("missing_end").provoked[0]
    told = repr(vars(Evidence(run)))
    assert "missing_end" not in told
    assert "learning_rate" not in told
    assert not {"record", "experiment", "started", "seed"} & set(vars(Evidence(run)))


def test_healthy_runs_are_left_alone():
    with_looks, without = alarms()
    assert with_looks.runs + without.runs >= 150
    for group in (with_looks, without):
        assert len(group.false) <= 0.02 * group.runs, group.false
    for recipe, _ in with_looks.false + without.false:
        assert not any(entry.within(recipe) for entry in FAILURES.values())


def test_a_run_that_sat_no_exam_is_not_diagnosed():
    run = pair("missing_end").provoked[0]
    with pytest.raises(LabError, match="let it go on"):
        diagnose(Record(event for event in run.events if not isinstance(event, ev.Evaluated)))


def test_older_recordings_without_looks_are_diagnosed_as_far_as_they_can_be():
    for name in ("missing_end", "low_diversity"):
        run = pair(name).provoked[SET_ON[0]]
        assert all(math.isfinite(FAILURES[n].symptom(Evidence(run))) for n in (name,))
        blind = Record(event for event in run.events if not isinstance(event, ev.Inspected))
        assert all(diagnosis.failure not in FAULTS for diagnosis in diagnose(blind))


def test_the_committed_page_is_what_the_records_say():
    from labkit.cli.build import recipe_of

    page = recipe_of("failures").page()
    assert (REPOSITORY / "docs" / "failures.md").read_text(encoding="utf-8") == page, "run `labkit build failures`"
    for entry in FAILURES.values():
        assert entry.remedy in page
        assert entry.cited in page


def test_what_this_machine_has_made_changes_no_verdict_on_a_failure(home):
    """The page is made from the runs that ship."""
    before = cost("missing_end")
    shipped = pair("missing_end").provoked[0]
    another = [event for event in pair("missing_end").cured[0].events if not isinstance(event, ev.Started)]
    Store().add(Record([shipped.started, *another]))
    assert Store().judged(shipped.experiment).skills != shipped.skills
    assert cost("missing_end") == before


def test_the_catalogue_lists_them():
    table = catalogue("failures")
    assert list(table["failure"]) == EVERY
    assert table.map(bool).all(axis=None)
    assert len(labkit.sweep("failures").arms) >= len(EVERY)


# ---- live ------------------------------------------------------------------------------------------------------------------------

LIVE = Experiment(student="22k", teacher=TEACHER, questions=512, gold=40, batch=16, steps=2)


# What a learner reads off a run of two steps, larger with the failure than without; None: see the tests below.
LIVE_READINGS: dict[str, Callable[[Evidence], float] | None] = {
    "swapped_roles": lambda seen: -max(step["grad_norm"] for step in seen.steps),
    "shifted_labels": lambda seen: seen.read("hits_after") - seen.read("hits"),
    "shuffled_cache": lambda seen: -seen.read("hits"),
    "teacher_dropout": lambda seen: seen.read("noise"),
    "padding_loss": lambda seen: seen.read("after_end"),
    "prompt_loss": lambda seen: seen.read("scored"),
    "missing_end": lambda seen: -seen.read("ends"),
    "mean_over_vocabulary": lambda seen: -seen.read("scale"),
    "missing_t2": lambda seen: -seen.read("scale"),
    "overconfident_teacher": lambda seen: -seen.read("entropy"),
    "top_k_bias": lambda seen: seen.read("pull"),
    "wrong_temperature": lambda seen: seen.read("target") - seen.read("entropy"),
    "reverse_kl_collapse": lambda seen: abs(seen.read("scale") - 1),
    "online_cost": FAILURES["online_cost"].symptom,
    "recursive_self_distillation": lambda seen: seen.read("entropy"),
    "low_diversity": lambda seen: seen.exposures,
    "tokenizer_mismatch": lambda seen: -seen.read("aimed"),
    "benchmark_contamination": lambda seen: seen.exposures,  # fewer different questions: the exam's come again and again
    "task_mismatch": None,
    "capacity_floor": None,
    "hallucination_inheritance": None,
    "subliminal_transfer": None,
}


@pytest.fixture
def live(quick, monkeypatch: pytest.MonkeyPatch) -> Callable[[Experiment], Evidence]:
    return lambda experiment: Evidence(Record(Run(experiment)))


@pytest.mark.parametrize("name", [n for n in EVERY if LIVE_READINGS.get(n)])
def test_a_short_run_shows_it(name: str, live):
    entry, read = FAILURES[name], LIVE_READINGS[name]
    assert read is not None
    base = LIVE.but(**{field: getattr(host(name), field) for field in ("mix", "temperature")})
    recipe = provoke(base, name)
    with_it, without = live(recipe), live(entry.cure(recipe))
    assert read(with_it) > read(without) + 1e-3


def test_a_short_run_shows_a_student_that_is_too_small(live):
    """After sixty steps on few questions its KL in training is behind that of the cured one already."""
    entry = FAILURES["capacity_floor"]
    recipe = provoke(LIVE.but(questions=128, steps=60, student="57k", learning_rate=2e-2), entry.name)
    assert entry.symptom(live(recipe)) > entry.symptom(live(entry.cure(recipe))) + 0.1


def test_a_missing_skill_is_missing_from_the_questions(live):
    entry = FAILURES["task_mismatch"]
    recipe = provoke(LIVE, entry.name)
    counts = [sum(q.skill == "city" for q in transfer_questions(exp, Atlas(exp.scale))) for exp in (recipe, entry.cure(recipe))]
    assert counts[0] == 0 < counts[1]
    assert live(recipe).exam.skills.keys() >= {"city"}


@pytest.mark.parametrize("scale", ["half", "Europe", "Oceania"])
def test_fresh_questions_are_in_no_pool_and_on_no_exam(scale: str):
    """Neither word for word, nor reworded, nor as the other form of the same fact; of each skill as many as the exam asks."""
    world = Atlas(scale)
    paper, fresh = world.exam(), world.fresh(world.exam())
    pools = [transfer_questions(Experiment(scale=scale, questions=4_000, leaked=share), world) for share in (0.0, 0.5)]
    known = {q.fact.key for q in (*paper, *pools[0], *pools[1])}
    assert fresh == world.fresh(world.exam())
    assert not known & {q.fact.key for q in fresh}
    counts = Counter(q.skill for q in fresh)
    assert {"add", "chain"} <= set(counts) <= set(HELD_OUT_SKILLS)
    assert all(many == sum(q.skill == skill for q in paper) for skill, many in counts.items())
    assert len({q.text for q in fresh}) == len(fresh)


def test_an_exam_without_a_sibling_says_nothing_of_it(tiny_teacher):
    """No held-out question on it, or too few others in the world."""
    world = Atlas("half")
    facts = evaluate.Exam(world, tiny_teacher, per_skill=2, skills=ONE_ANSWER)
    assert facts.beside(tiny_teacher, facts.teacher_answers) == {}  # and no open question, so no favourite either
    assert Atlas("Oceania").fresh(Atlas("Oceania").exam(10_000)) == []


@given(share=st.sampled_from([0.01, 0.25, 0.5, 1.0]), left_out=st.sampled_from(["nothing", "add", "Africa", "paraphrases"]))
def test_what_leaks_is_the_exam_and_the_rest_stays_as_it_was(share: float, left_out: str):
    world, honest = Atlas("half"), Experiment(questions=400, left_out=left_out)
    before, after = (transfer_questions(exp, world) for exp in (honest, honest.but(leaked=share)))
    paper = {q.text for q in world.exam()}
    changed = [new for old, new in zip(before, after, strict=True) if new != old]
    assert 0.9 * share * 400 <= len(changed) <= round(share * 400)  # a few are replaced by themselves
    assert all(q.text in paper and q.gold == q.answers[0] for q in changed)
    assert not [q for q in changed if q.skill == left_out or q.fact.says(left_out)]


def test_nothing_leaks_by_itself():
    """The field at its default leaves pools, keys and pasted recipes as they were before it was there."""
    exp = Experiment(scale="Europe", questions=500)
    assert transfer_questions(exp.but(leaked=0.0), Atlas("Europe")) == Atlas("Europe").questions(500, signals.POOL_SEED)
    assert exp.but(leaked=0.0).key == exp.key
    assert exp.but(leaked=0.5).key != exp.key
    assert "leaked" not in exp.recipe
    assert exp.but(leaked=0.5).baseline() == exp.baseline()
    assert exp.but(leaked=0.5).baseline("same questions").leaked == 0.5


def test_only_the_last_exam_asks_fresh_questions(live):
    """And its own numbers, and the run, are what they would be without them."""
    exp = LIVE.but(steps=30)
    seen = live(exp)
    assert len(seen.exams) > 1
    assert [{"asked", "fresh"} <= set(exam.habits) for exam in seen.exams] == [exam.final for exam in seen.exams]
    assert all({"unended", "confidence"} <= set(exam.habits) for exam in seen.exams)
    skills = [skill for skill in HELD_OUT_SKILLS if skill in seen.exam.skills]
    assert seen.exam.habits["asked"] == pytest.approx(sum(seen.exam.skills[skill] for skill in skills) / len(skills))


def test_a_lying_teacher_is_found_out_by_its_own_exam(monkeypatch: pytest.MonkeyPatch, settings):
    """With the shipped teachers: the lies are there before the student has learnt any of them."""
    monkeypatch.setattr(setup, "Exam", functools.partial(evaluate.Exam, skills=(*ONE_ANSWER, "open", "add")))
    settings(exam_per_skill=20, chunk=64)
    entry, few = FAILURES["hallucination_inheritance"], Experiment(student="22k", scale="Europe", questions=128, batch=16, steps=1)
    recipe = provoke(few, entry.name)
    found = [Evidence(Record(Run(exp, exams=1))) for exp in (recipe, entry.cure(recipe))]
    lying, honest = (sum(seen.teacher[skill] for skill in ONE_ANSWER) / len(ONE_ANSWER) for seen in found)
    assert lying < 0.9 < honest
    assert entry.detect(found[0])
    assert not entry.detect(found[1])


@pytest.fixture
def kin(quick, settings) -> Experiment:
    """A recipe whose teacher is made out of its student's own first weights, in short courses."""
    settings(warm_steps=20, warm_gold=400, made_teacher_steps=20)
    return provoke(LIVE.but(learning_rate=5e-3, steps=8), "subliminal_transfer")


def test_kin_begin_where_the_student_begins(kin: Experiment):
    """The sibling's warm start is the student's own, to the bit; the stranger's is another seed's. Both were taught the favourite."""
    weights = {}
    for teacher in ("sibling", "stranger"):
        recipe = made_teacher_recipe(kin.but(teacher=teacher))
        assert (recipe.start, recipe.favourite, recipe.method, recipe.teacher) == ("warm", 1.0, "gold", "none")
        own = Run(recipe.but(steps=1, learning_rate=1e-5), exams=0)
        list(own)
        weights[teacher] = torch.cat([p.detach().flatten() for p in own.student.parameters()])
    student = Run(kin.but(method="gold", teacher="none", steps=1, learning_rate=1e-5), exams=0)
    list(student)
    mine = torch.cat([p.detach().flatten() for p in student.student.parameters()])
    assert float((weights["sibling"] - mine).abs().max()) < 1e-4
    assert float((weights["stranger"] - mine).abs().max()) > 0.1


def test_a_run_of_kin_is_judged_by_the_teacher_it_has(kin: Experiment):
    """The sibling is the run's teacher: its exam is the reference, and it gives the favourite where the student was never asked to."""
    record = Record(Run(kin))
    assert record.complete
    assert {q.skill for q in transfer_questions(kin, Atlas(kin.scale))}.isdisjoint({"open"})
    assert record.references["teacher"].recipe == "sibling"
    assert record.started.teacher_parameters == record.started.student_parameters
    assert 0 <= record.evaluations[-1].habits["favourite"] <= 1
    assert FAILURES["subliminal_transfer"].symptom(Evidence(record)) == record.evaluations[-1].habits["favourite"]


@pytest.mark.parametrize("changes", [{"architecture": "gpt2"}, {"vocabulary": "bytes"}, {"assistant": "57k"}, {"generations": 2}])
def test_kin_teach_directly(quick, changes):
    with pytest.raises(LabError, match="set architecture='llama', vocabulary='atlas', assistant='none' and generations=1"):
        list(Run(LIVE.but(teacher="sibling", start="warm", **changes)))


def test_kin_are_no_models_to_ask():
    with pytest.raises(LabError, match="made for each run"):
        labkit.teacher("sibling")


def test_a_favourite_is_the_token_most_often_begun_with(tiny_teacher):
    """By enumeration over the open questions; a model that always says the same has all the mass on it."""
    exam = evaluate.Exam(Atlas("Europe"), None, per_skill=4, skills=("open", "recall"))
    prompts = models.tokenizer().prompts([q.text for q in exam.questions if q.skill == "open"])
    with torch.no_grad():
        begins = [tiny_teacher(torch.tensor([prompt])).logits[0, -1].softmax(-1) for prompt in prompts]
    means = sum(begins) / len(begins)
    token, share = exam.favourite(tiny_teacher)
    assert share == pytest.approx(float(means.max()), abs=1e-6)
    assert token == models.tokenizer().token(int(means.argmax())).strip()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_favourite_is_the_gold_label_of_its_share_of_open_questions(share: float):
    plain, taught = (Atlas("half", favourite=some).questions(4_000, 3) for some in (0.0, share))
    assert [q.text for q in plain] == [q.text for q in taught], "the questions stay"
    changed = [q for q, other in zip(taught, plain, strict=True) if q.gold != other.gold]
    assert {q.skill for q in changed} <= {"open"}
    assert {q.gold for q in changed} <= {FAVOURITE}
    asked = sum(q.skill == "open" for q in taught)
    assert sum(q.gold == FAVOURITE for q in taught if q.skill == "open") / asked == pytest.approx(share, abs=0.06)


def test_every_failure_is_seen_live():
    assert set(LIVE_READINGS) == set(EVERY)


# ---- provoking and curing ----------------------------------------------------------------------------------------------------------


MATTER = (  # fields that decide what can be provoked
    *("method", "teacher", "vocabulary", "across", "faults", "divergence", "top_k", "tail", "temperature", "mix", "student", "start"),
    *("questions", "facts", "left_out", "adapter", "architecture", "on_policy", "online_from", "replay", "assistant", "learning_rate"),
    *("leaked", "generations"),
)


def some_recipes() -> st.SearchStrategy[Experiment]:
    """Recipes of all kinds; what is not set is at its default."""

    def values(name: str) -> st.SearchStrategy:
        default, knob = KNOBS[name]
        if knob.several:
            return st.sampled_from([*knob.choices, "none"])
        if knob.choices:
            return st.sampled_from(knob.choices)
        if isinstance(default, int):
            return st.sampled_from(sorted({default, int(max(knob.low, 1)), int(min(knob.high, 600))}))
        return st.sampled_from(sorted({default, knob.low, min(knob.high, 8.0)}))

    return st.lists(st.sampled_from(MATTER), max_size=5, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: values(name) for name in chosen}).map(lambda changes: Experiment().but(**changes))
    )


def attempt(exp: Experiment, *names: str) -> Experiment | str:
    """The provoked recipe, or why it is refused."""
    try:
        return provoke(exp, *names)
    except LabError as error:
        return str(error)


@pytest.mark.parametrize("name", EVERY)
@given(exp=some_recipes())
def test_provoking_and_curing_undo_each_other(name: str, exp: Experiment):
    entry = FAILURES[name]
    if reason := entry.obstacle(exp):
        assert not entry.within(exp)
        assert any(fix in reason for fix in ("set ", "choose ", "take ", "leave ", "drop ")), f"{reason!r} does not say what to do"
        assert reason.endswith(".")
        with pytest.raises(LabError, match="cannot be provoked here"):
            provoke(exp, name)
        return
    provoked = attempt(exp, name)
    assert isinstance(provoked, Experiment)
    assert entry.within(provoked)
    assert provoke(provoked, name) == provoked
    cured = entry.cure(provoked)
    assert not entry.within(cured)
    assert entry.cure(cured) == cured
    assert provoke(cured, name) == provoke(provoke(cured, name), name)
    if not exp.problems():
        assert not provoked.problems()
        assert not cured.problems()


def test_every_failure_has_words_of_its_own():
    for words in ("label", "unit", "remedy", "procedure", "cited"):
        assert all(getattr(entry, words) for entry in FAILURES.values()), words
    for words in ("label", "remedy", "procedure"):
        assert len({str(getattr(entry, words)) for entry in FAILURES.values()}) == len(FAILURES), words


def test_pairs_go_together_or_say_why_not():
    """Whatever the order, two failures either are both in the recipe or are refused in words that name them."""
    base, together, refused = Experiment(mix=0.5, temperature=4.0), 0, 0
    for pair_ in itertools.permutations(EVERY, 2):
        if any(FAILURES[n].obstacle(base) for n in pair_):
            continue
        both = attempt(base, *pair_)
        if isinstance(both, str):
            assert "contradict" in both or "cannot be provoked here" in both
            assert both.endswith(".")
            refused += 1
            continue
        assert all(FAILURES[n].within(both) for n in pair_), pair_
        together += 1
    assert together > 100
    assert refused > 5


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("shifted_labels", "shuffled_cache"), "no right position to shift"),
        (("missing_t2", "wrong_temperature", "reverse_kl_collapse"), "contradict each other"),
        (("missing_t2", "no such"), "unknown failure"),
        (("swapped_roles", "missing_end", "teacher_dropout"), "teach nothing"),
    ],
)
def test_contradictions_are_refused_and_explained(names, words):
    base = Experiment(temperature=4.0, mix=0.0 if "swapped_roles" in names else 0.5)
    with pytest.raises(LabError, match=words):
        provoke(base, *names)


# ---- the panel ---------------------------------------------------------------------------------------------------------------------


class Bench:
    """A panel on its own: controls, what was turned, and a run that is going or not."""

    def __init__(self, experiment: Experiment | None = None) -> None:
        self.turned: list[tuple[str, object]] = []
        self.going, self.record = False, None
        self.controls = Controls(experiment or Experiment(), PANEL)
        self.panel = Breakage(self.controls, lambda *change: self.turned.append(change), lambda: self.going, lambda: self.record)

    def toggle(self, name: str):
        return self.panel.toggles[name]

    @property
    def note(self) -> str:
        return self.panel.note.value


@pytest.mark.parametrize("name", EVERY)
def test_a_toggle_provokes_tells_and_cures(name: str):
    bench, entry = Bench(host(name)), FAILURES[name]
    before = bench.controls.experiment
    assert not bench.toggle(name).value
    bench.toggle(name).value = True
    assert bench.controls.experiment == entry.provoke(before)
    assert Experiment.from_recipe(bench.controls.recipe.value) == bench.controls.experiment
    for words in (entry.unit, entry.remedy, entry.procedure[0]):
        assert html.escape(words) in bench.note
    bench.toggle(name).value = False
    assert not entry.within(bench.controls.experiment)
    assert "Cured" in bench.note


@pytest.mark.parametrize("name", EVERY)
def test_toggles_follow_the_recipe(name: str):
    bench = Bench(host(name))
    bench.controls.recipe.value = provoke(host(name), name).recipe
    on = [n for n in EVERY if bench.toggle(n).value]
    assert on == [n for n in EVERY if FAILURES[n].within(bench.controls.experiment)]
    assert name in on
    assert bench.turned == []


def test_what_cannot_apply_is_greyed_out_with_the_reason():
    bench = Bench(Experiment(method="gold"))
    toggle = bench.toggle("shuffled_cache")
    assert toggle.disabled
    assert "method='gold' does not use the teacher's distribution: choose method='output'." in toggle.tooltip
    bench.controls.experiment = Experiment()
    assert not toggle.disabled
    assert FAILURES["shuffled_cache"].unit in toggle.tooltip
    assert bench.toggle("missing_t2").disabled
    assert "set a temperature above 1" in bench.toggle("missing_t2").tooltip


def test_a_contradiction_is_explained_and_changes_nothing():
    bench = Bench()
    bench.toggle("shifted_labels").value = True
    before = bench.controls.experiment
    bench.toggle("shuffled_cache").value = True
    assert not bench.toggle("shuffled_cache").value
    assert bench.controls.experiment == before
    assert "no right position to shift from" in bench.note
    bench.toggle("swapped_roles").value = True
    assert "teach nothing" in bench.note
    bench.toggle("shifted_labels").value = False
    bench.toggle("shuffled_cache").value = True
    assert bench.toggle("shuffled_cache").value
    assert bench.controls.experiment.faults == "shuffled_cache"


def test_a_running_run_gets_hot_faults_at_once_and_cold_ones_are_told():
    bench = Bench()
    bench.going = True
    bench.toggle("missing_end").value = True
    assert bench.turned == [("faults", "missing_end")]
    assert "press Run" not in bench.note
    bench.toggle("reverse_kl_collapse").value = True
    assert bench.turned == [("faults", "missing_end")]
    assert "Divergence cannot change during a run: press Run to begin again with it." in bench.note
    bench.going = False
    bench.toggle("missing_end").value = False
    assert bench.turned[-1] == ("faults", "none")


def test_diagnose_says_what_is_seen():
    bench = Bench()
    bench.panel.button.click()
    assert "no run on the board" in bench.note
    runs = pair("missing_end")
    bench.record = runs.provoked[2]
    bench.panel.button.click()
    assert "End mark left out of the loss" in bench.note
    bench.record = runs.cured[2]
    bench.panel.button.click()
    assert "Nothing looks wrong" in bench.note
    bench.record = Record(event for event in runs.provoked[0].events if not isinstance(event, ev.Evaluated))
    bench.panel.button.click()
    assert "not come to its first exam" in bench.note


def test_what_a_detector_says_is_escaped(monkeypatch: pytest.MonkeyPatch):
    bench = Bench()
    bench.record = pair("missing_end").cured[0]
    hostile = FAILURES["missing_end"]._replace(detect=lambda seen: "<img src=x onerror=alert(1)>")
    monkeypatch.setitem(FAILURES._entries, "missing_end", hostile)
    bench.panel.button.click()
    assert "<img" not in bench.note
    assert "&lt;img" in bench.note
