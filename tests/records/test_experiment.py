"""A recipe round-trips, explains its fields, and refuses what it cannot use in words that name the field and the fix."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import toml
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit.base.errors import LabError
from labkit.records import experiment as ex
from labkit.records import names
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.recipe_text import GROUPS

NUMBERS = {n: e for n, e in KNOBS.items() if not isinstance(e.default, str)}
NAMES = {n: e for n, e in KNOBS.items() if isinstance(e.default, str)}


def _values(name: str) -> st.SearchStrategy:
    default, knob = KNOBS[name]
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.pattern:
        return st.from_regex(knob.pattern, fullmatch=True, alphabet="0123456789:,uniformlast")
    if isinstance(default, int):
        return st.integers(int(knob.low), int(knob.high))
    return st.floats(knob.low, knob.high)


experiments = st.fixed_dictionaries({}, optional={n: _values(n) for n in KNOBS}).map(lambda d: Experiment(**d))


# ---- round trips -----------------------------------------------------------------------------------------------------


@given(experiments)
def test_recipe_round_trip(exp: Experiment):
    assert Experiment.from_recipe(exp.recipe) == exp
    assert Experiment.from_recipe(f"  {exp.recipe}\n") == exp, "as pasted, with blanks around it"
    assert Experiment.from_recipe(exp.recipe).key == exp.key


@given(experiments)
def test_toml_and_dict_round_trip(exp: Experiment):
    assert Experiment.from_toml(toml(exp)) == exp
    assert Experiment.from_dict(exp.to_dict()) == exp


@given(experiments)
def test_what_a_run_tells_of_its_recipe_is_the_recipe(exp: Experiment):
    """A saved record must be found, and re-run, under the key it was made with."""

    from labkit.records import events as ev

    told = ev.from_json(json.loads(ev.dumps(ev.Started(exp.to_dict(), "", 0, 0, 1, 1, (), ""))))
    assert Experiment.from_dict(dict(told.experiment)).key == exp.key


def test_recipe_is_short_and_pasteable():
    assert Experiment().recipe == "labkit"
    assert Experiment(student="57k", temperature=2).recipe == "labkit temperature=2 student=57k"
    assert Experiment(scale="North America").recipe.split() == ["labkit", "scale=North-America"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a recipe"),
        ("temperature=2", "not a recipe"),
        ("labkit temperature", "name=value"),
        ("labkit temprature=2", "'temperature'"),
        ("labkit temperature=hot", "must be a number"),
        ("labkit steps=many", "must be a whole number"),
        ("labkit steps=1.5", "must be a whole number"),
        ("labkit student=58k", "'57k'"),
        ("labkit temperature=99", "20"),
        ("labkit temperature=nan", "temperature"),
    ],
)
def test_recipes_that_cannot_be_read_say_why(text: str, says: str):
    with pytest.raises(LabError) as caught:
        Experiment.from_recipe(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[experiment", "temperature = 2\n", "[experiment]\ntemprature = 2\n", "[experiment]\nstudent = 3\n", "experiment = 3\n"]
)
def test_toml_that_cannot_be_read_says_why(text: str):
    with pytest.raises(LabError):
        Experiment.from_toml(text)


# ---- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOBS)
def test_every_field_explains_itself(name: str):
    default, knob = KNOBS[name]
    assert knob.label
    assert knob.label[0].isupper()
    assert knob.help.endswith(".")
    assert len(knob.help) > 15
    if knob.pattern:
        assert re.fullmatch(knob.pattern, default)
        with pytest.raises(LabError, match="cannot be read"):
            Experiment(**{name: "no such thing"})
    elif isinstance(default, str):
        assert knob.choices
        assert default in knob.choices or (knob.several and default == "none")
        assert len(set(knob.choices)) == len(knob.choices)
    else:
        assert float("-inf") < knob.low <= default <= knob.high < float("inf")
        assert not knob.log or knob.low > 0, "a logarithmic slider cannot show 0"


def test_fields_and_knobs_agree():
    assert list(KNOBS) == [f.name for f in dataclasses.fields(Experiment)]
    assert {n for n, e in KNOBS.items() if e.knob.hot} == {"temperature", "mix", "learning_rate", "speed", "feature", "on_policy", "faults"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().temperature = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("end", ["low", "high"])
def test_out_of_range_names_field_range_and_unit(name: str, end: str):
    default, knob = NUMBERS[name]
    bound = getattr(knob, end)
    step = 1 if isinstance(default, int) else 0.5
    with pytest.raises(LabError) as caught:
        Experiment(**{name: bound + step if end == "high" else bound - step})
    text = str(caught.value)
    assert name in text
    assert knob.label.casefold() in text.casefold()
    assert knob.unit in text
    for limit in (knob.low, knob.high):
        assert f"{limit:g}" in text or f"{limit:,.10g}" in text
    Experiment(**{name: bound})  # the ends themselves are allowed


def test_an_unknown_field_is_told_with_the_nearest():
    for make in (lambda: Experiment(temp=2), lambda: Experiment().but(temp=2), lambda: Experiment.from_recipe("labkit temp=2")):  # type: ignore[call-arg]
        with pytest.raises(LabError, match=r"unknown field 'temp'\. Did you mean 'temperature'"):
            make()
    assert list(inspect.signature(Experiment).parameters) == list(KNOBS), "an editor completes the fields"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("57k", r"'57k' is not a recipe: give one, as in Experiment\(student='57k'\)"),
        ("hidden", r"Experiment\(method='hidden'\)"),
        ("labkit student=57k", r"Experiment\.from_recipe\('labkit student=57k'\)"),
        ({"student": "57k"}, r"Experiment\(student='57k'\)"),
    ],
)
def test_what_is_no_recipe_is_told_with_one(wrong: object, words: str):
    for call in (labkit.record, labkit.run, labkit.rerun, labkit.first_batch, lambda one: labkit.compare([one, one])):
        with pytest.raises(LabError, match=words):
            call(wrong)


@pytest.mark.parametrize("wrong", [None, "atlas-3m"])
def test_what_is_no_model_is_told_with_one(wrong: object):
    with pytest.raises(LabError, match=r"is not a language model: give one, as in labkit\.teacher"):
        labkit.ask(wrong, "What is the capital of Chad?")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("digits", [400, 5000])
def test_a_whole_number_of_hundreds_of_digits_is_out_of_range(name: str, digits: int):
    with pytest.raises(LabError, match=f"{name} is a whole number of about {digits:,} digits"):
        Experiment(**{name: -(10**digits)})


@pytest.mark.parametrize("name", [name for name in KNOBS if name not in NUMBERS])
def test_a_text_of_a_recipe_is_a_text(name: str):
    for value in (0.5, True, None, ValueError("x"), [], 10**5000, "\ud800", "x" * 100_000):
        with pytest.raises(LabError, match=rf"^{name}=.* (must be a text|cannot be in a recipe)") as told:
            Experiment(**{name: value})
        assert len(str(told.value)) < 1_000


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Experiment.from_recipe("labkit steps=5 steps=6"), "steps is given twice"),
        (lambda: Experiment.from_toml("experiment = []"), "is a list and no table"),
        (lambda: Experiment.from_toml("experiment = ''"), "is a str and no table"),
        (lambda: Experiment.from_toml("[[experiment]]\nsteps = 5"), "is a list and no table"),
        (lambda: Experiment.from_toml("steps = 5\n[experiment]"), r"'steps' stands outside \[experiment\]"),
        (lambda: Experiment.from_toml("[experiment]\n[experimental]\nsteps = 5"), r"'experimental' stands outside \[experiment\]"),
        (lambda: Experiment.from_dict({5: 1}), "unknown field 5"),
        (lambda: Experiment.from_dict([1]), r"values=\[1\] must be a dictionary"),
        (lambda: Experiment.from_recipe(Path("a")), "must be a text"),
        (lambda: Experiment(method="hidden", layers=f"{'9' * 500}:1"), "cannot be read"),
    ],
)
def test_a_recipe_says_each_thing_once_and_where_it_belongs(call, said: str):
    with pytest.raises(LabError, match=said):
        call()


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["3", None, True, [1], float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused_in_words(name: str, value: object):
    with pytest.raises(LabError, match=name):
        Experiment(**{name: value})


@pytest.mark.parametrize("name", [n for n, e in NUMBERS.items() if isinstance(e.default, int)])
def test_whole_numbers_stay_whole(name: str):
    with pytest.raises(LabError, match="whole number"):
        Experiment(**{name: KNOBS[name].knob.high - 0.5})
    assert type(getattr(Experiment(**{name: float(KNOBS[name].knob.high)}), name)) is int


def test_a_number_of_an_array_is_a_number():
    """As it comes out of `numpy.linspace` or of a table."""
    for value in (np.float32(0.25), np.float64(2.5), np.float16(4.0)):
        assert Experiment(temperature=value) == Experiment(temperature=float(value))
    for value in (np.int64(50), np.int8(50), np.uint16(50)):
        found = Experiment(steps=value)
        assert (found.steps, type(found.steps), found.recipe) == (50, int, "labkit steps=50")
    with pytest.raises(LabError, match="steps="):
        Experiment(steps=np.bool_(True))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_names_say_the_nearest_and_list_the_rest(name: str):
    for choice in KNOBS[name].knob.choices:
        with pytest.raises(LabError) as caught:
            Experiment(**{name: choice + "x"})
        assert f"Did you mean {choice!r}?" in str(caught.value)
        for other in KNOBS[name].knob.choices:
            assert other in str(caught.value)


def test_unknown_fields_say_the_nearest():
    for call in (Experiment().but, lambda **kw: Experiment.from_dict(kw)):
        with pytest.raises(LabError, match="'temperature'"):
            call(temprature=2)


def test_names_are_forgiving_about_case_and_hyphens():
    assert Experiment(scale="north-america").scale == "North America"
    assert Experiment(student="57K") == Experiment(student="57k")


# ---- identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOBS)
def test_the_key_follows_exactly_the_fields_that_change_the_outcome(name: str):
    default, knob = KNOBS[name]
    if len(knob.choices) == 1:
        assert knob.identity
        return
    number = default + 1 if isinstance(default, int) else knob.high
    texts = {"layers": "1:1", "faults": "wrong_ids", "template_option": "enable_thinking=false", "data": "a.csv", "score": "f1"}
    other = next(c for c in knob.choices if c != default) if knob.choices else texts.get(name, number)
    changed = Experiment().but(**{name: other})
    assert changed != Experiment()
    assert (changed.key == Experiment().key) is not knob.identity


def test_keys_are_equal_for_equal_recipes_and_differ_over_seeds():
    assert Experiment(temperature=2).key == Experiment().but(temperature=2.0).key
    assert len({Experiment(seed=s, student=z).key for s in range(20) for z in names.STUDENTS}) == 20 * len(names.STUDENTS)


# ---- lists that live in two places -----------------------------------------------------------------------------------


def test_lists_agree_with_the_modules_behind_them():
    from labkit.losses import divergences
    from labkit.models.heads import io as heads_io
    from labkit.tasks.atlas import facts
    from labkit.training import methods

    assert set(ex.TUNED_RATE) == {*names.STUDENTS, *names.DRAFT_HEADS}
    assert tuple(facts.SHARES) == names.SKILLS
    assert set(names.METHODS) == set(methods.METHODS)
    assert set(names.DRAFT_HEADS) == set(heads_io.KINDS)
    assert set(names.DIVERGENCES) == set(divergences.DIVERGENCES)
    assert names.TEACHERS[-1] == "none"
    assert len(set(names.TEACHERS)) == len(names.TEACHERS)


def test_teachers_are_those_the_recipe_builds():
    import runpy
    from pathlib import Path

    recipe = runpy.run_path(str(Path(__file__).parent.parent.parent / "data" / "recipes" / "teachers.py"))
    points = {f"{name}-{point}" for name, of in recipe["POINTS"].items() for point in of.values()}
    assert set(names.TEACHERS) - {"none"} - set(names.FAULTY_TEACHERS) - set(names.MADE_TEACHERS) == set(recipe["TEACHERS"]) | points
    for size, _, rate in recipe["TEACHERS"].values():
        Experiment(student=size, learning_rate=rate, method="gold", teacher="none", gold=recipe["QUESTIONS"])


def test_lying_teachers_are_those_the_adapters_recipe_builds_with_the_dose_in_their_name():
    import runpy
    from pathlib import Path

    recipe = runpy.run_path(str(Path(__file__).parent.parent.parent / "data" / "recipes" / "adapters.py"))
    assert tuple(recipe["TEACHERS"]) == names.FAULTY_TEACHERS
    for name, exp in recipe["TEACHERS"].items():
        fault = exp.falsehoods if "lies" in name else exp.gold_noise
        assert fault == int(name.rpartition("-")[2]) / 100
        assert exp.falsehoods + exp.gold_noise == fault, "one fault at a time"


# ---- baselines -------------------------------------------------------------------------------------------------------


@given(experiments, st.sampled_from(["label budget", "same questions"]))
def test_a_baseline_shares_all_that_is_not_the_method(exp: Experiment, name):
    baseline = exp.baseline(name)
    for field in ("student", "start", "seed", "steps", "batch", "scale", "teacher", "gold_noise", "falsehoods", "favourite", "data"):
        assert getattr(baseline, field) == getattr(exp, field), field
    assert baseline.mix == 0
    assert baseline.temperature == 1
    assert baseline.learning_rate == (exp.learning_rate if exp.data else ex.TUNED_RATE[exp.student]), "own data: as it was given"
    assert baseline.baseline(name) == baseline, "a baseline is its own baseline"


def test_the_two_baselines():
    exp = Experiment(temperature=4.0, mix=0.5, learning_rate=1e-3, gold=77, questions=555)
    budget, same = exp.baseline(), exp.baseline("same questions")
    assert (budget.method, budget.gold) == ("gold", 77)
    assert (same.method, same.questions) == ("answers", 555)
    assert exp.but(temperature=2.0).baseline().key == budget.key, "temperature is the method's business, not the baseline's"
    assert exp.but(questions=1000).baseline().key == budget.key
    assert exp.but(gold=9).baseline("same questions").key == same.key
    with pytest.raises(LabError, match="label budget"):
        exp.baseline("lable budget")  # type: ignore[arg-type]


@given(experiments, experiments)
def test_a_change_leaves_the_rest_and_a_key_belongs_to_its_values(one: Experiment, other: Experiment):
    assert one.key == Experiment(**one.to_dict()).key, "worked out once, or again"
    changed = one.but(**other.to_dict())
    assert (changed, changed.key) == (other, other.key)
    same = one.but(seed=one.seed)
    assert (same, same.key) == (one, one.key)
    assert pickle.loads(pickle.dumps(one)).key == one.key


def test_only_what_changes_is_checked(monkeypatch: pytest.MonkeyPatch):
    checked: list[str] = []
    monkeypatch.setattr(ex, "check", lambda name, value, entry: checked.append(name) or value)
    Experiment().but(temperature=2.0, seed=3)
    assert checked == ["temperature", "seed"]
    Experiment(student="57k")
    assert checked == ["temperature", "seed", "student"]


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_every_knob_is_in_a_group_and_every_group_has_one_that_is_shown():
    assert {entry.knob.group for entry in KNOBS.values()} == set(GROUPS)
    assert {entry.knob.group for entry in KNOBS.values() if not entry.knob.advanced} == set(GROUPS) - {"planted", "heads"}
