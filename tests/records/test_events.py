"""Events survive the trip through JSON, and say so when they cannot."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import LabError
from labkit.records import events as ev

EXAMPLES = [
    ev.Started({"student": "57k", "temperature": 2.0, "seed": 3}, "57k student", 2_900_000, 57_000, 700, 20_000, ("recall", "add"), "x86"),
    ev.Labelled(512, 20_000, 1.25),
    ev.Inspected(1, {"hits": 0.5, "ends": 1.0}),
    ev.Reference("label budget", {"recall": 0.5, "add": 0.25}, ((1, 6.9), (700, 0.5)), "labkit student=57k", 3),
    ev.Step(7, 0.5, 896, {"loss": 1.5, "kl": 0.25, "lr": 0.006, "grad_norm": 1.0}),
    ev.Probe(7, "Name a neighbour of Côte d'Ivoire.", ("Mali", "日本"), (0.5, 0.25), (0.125, 0.0)),
    ev.Evaluated(7, 0.5, {"recall": 0.5}, {"kl": 0.25, "agreement": 1.0}, {"validity": 0.5, "coverage": 0.0}, 0.125, {"right": 1.0}, True),
    ev.Sampled(7, ({"question": "What is <b>2</b> + 2?", "student": 'a "quote"\nand a line', "verdict": "wrong"}, {"question": "?"})),
    ev.KnobTurned(8, 0.75, "temperature", 1.0, 2.0),
    ev.Warned(8, "careful"),
    ev.Finished(9, 1.5, "completed", {"student_tokens": 1024}),
    ev.Failed(9, "the loss became nan", "lower the learning rate"),
]


def test_every_kind_has_an_example_and_a_truthful_name():
    assert {type(e) for e in EXAMPLES} == set(ev.KINDS.values())
    for kind, cls in ev.KINDS.items():
        assert kind == cls.kind == re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        assert getattr(ev, cls.__name__) is cls, "KINDS holds the class that users import"
        assert cls.__doc__


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: e.kind)
def test_round_trip(event: ev.Event):
    text = ev.dumps(event)
    assert "\n" not in text, "one line an event"
    back = ev.from_json(json.loads(text))
    assert type(back) is type(event)
    assert back == event
    assert json.loads(text)["event"] == event.kind


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: e.kind)
def test_events_are_frozen_and_complete_on_disk(event: ev.Event):
    name = dataclasses.fields(event)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, name, None)
    assert set(event.to_json()) == {"event", *(f.name for f in dataclasses.fields(event))}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_becomes_null(bad: float):
    step = ev.Step(1, bad, 8, {"loss": bad, "lr": 0.5})
    row = json.loads(ev.dumps(step))
    assert row["seconds"] is None
    assert row["values"] == {"loss": None, "lr": 0.5}
    assert ev.from_json(row | {"seconds": 1.0}).values["loss"] is None
    with pytest.raises(LabError, match="seconds"):
        ev.from_json(row)  # a time is never NaN
    probe = json.loads(ev.dumps(ev.Probe(1, "?", ("a",), (bad,), (0.5,))))
    assert probe["teacher"] == [None]
    assert probe["student"] == [0.5]


@given(st.dictionaries(st.text(min_size=1), st.floats(), max_size=5), st.floats(min_value=0, allow_infinity=False))
def test_six_digits_are_kept_and_a_second_trip_changes_nothing(values, seconds):
    once = ev.from_json(json.loads(ev.dumps(ev.Step(1, seconds, 8, values))))
    for name, value in values.items():
        if math.isfinite(value):
            assert once.values[name] == pytest.approx(value, rel=1e-5, abs=5e-324)
        else:
            assert once.values[name] is None
    assert ev.from_json(json.loads(ev.dumps(once))) == once


@given(st.text(), st.text())
def test_any_text_survives(question, answer):
    event = ev.Sampled(1, ({"question": question, "student": answer},))
    line = ev.dumps(event)
    assert "\n" not in line
    assert "\r" not in line
    assert ev.from_json(json.loads(line)) == event


def test_unknown_kind_lists_the_known_ones():
    with pytest.raises(LabError) as caught:
        ev.from_json({"event": "exploded", "step": 1})
    assert "'exploded'" in str(caught.value)
    for kind in ev.KINDS:
        assert kind in str(caught.value)
    with pytest.raises(LabError):
        ev.from_json({"step": 1})


def test_missing_fields_are_named_and_extra_ones_ignored():
    with pytest.raises(LabError, match=r"warned.*message"):
        ev.from_json({"event": "warned", "step": 1})
    assert ev.from_json({"event": "warned", "step": 1, "message": "x", "from_a_newer_lab": 7}) == ev.Warned(1, "x")


def test_fields_with_defaults_may_be_left_out():
    assert ev.from_json({"event": "finished", "step": 1, "seconds": 1.0, "reason": "stopped"}) == ev.Finished(1, 1.0, "stopped", {})
