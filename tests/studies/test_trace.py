"""`labkit trace`: one batch from question to gradient, as CONTRIBUTING quotes it."""

from __future__ import annotations

import re
import sys

import pytest
from conftest import REPOSITORY, TEACHER

from labkit.base.errors import LabError
from labkit.cli.main import main
from labkit.records.experiment import Experiment
from labkit.studies import trace as module
from labkit.studies.trace import PACKAGES, Trace, trace

TINY = Experiment(student="22k", teacher=TEACHER, questions=128, batch=4, steps=8)


def test_contributing_quotes_what_is_printed(capsys):
    """But for numbers, which may differ in a token on another processor."""
    assert main(["trace"]) == 0
    printed = capsys.readouterr().out.strip()
    quoted = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").split("labkit trace\n", 1)[1].split("```")[0].strip()
    assert re.sub(r"\d+", "0", quoted) == re.sub(r"\d+", "0", printed)
    entered, back = map(int, re.search(r"(\d+) files entered; (\d+) calls back to the right", printed).groups())
    assert entered <= 10
    assert back <= 8


@pytest.mark.parametrize("changes", [{}, {"method": "hidden", "mix": 0.5}, {"student": "medusa"}, {"vocabulary": "bytes"}], ids=str)
def test_the_shapes_are_of_one_batch(quick, changes: dict):
    """Whatever is read: N answer tokens reach the loss, and each trained tensor has a gradient."""
    found = trace(TINY.but(**changes))
    (weigh,) = (call for call in found.calls if call.function == "weigh")
    shapes = dict(part.replace(module.UNBROKEN, " ").split(" ", 1) for part in weigh.given)
    assert shapes["student_logits_N_V"].split(",")[0] == shapes["labels_N"].split(",")[0]
    assert found.rows == 4
    assert sum(found.gradient) > 0
    assert found.files[0] == "training/loop.py"
    assert "labels_N" in found.text(full=True)
    assert len(found.text(full=True)) > len(str(found))
    assert sys.getprofile() is None


def test_a_call_back_is_by_a_file_further_left(quick):
    for caller, called in trace(TINY).back:
        left, right = (PACKAGES.index(side.split("/")[0]) for side in (caller, called))
        assert left < right


def test_nothing_is_seen_of_a_run_that_ends_at_once(quick, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labkit.training.loop.EXPLODED", 0.01)
    with pytest.raises(LabError, match=r"ended before its second step.*the loss became"):
        trace(TINY)
    assert sys.getprofile() is None


def test_a_recipe_that_breaks_a_rule_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(module, "Run", lambda *_, **__: pytest.fail("a run was begun"))
    assert main(["trace", "--method", "hidden", "--vocabulary", "bytes"]) == 2
    assert "token by token" in capsys.readouterr().err


def test_a_page_without_calls_has_no_lines_for_them():
    assert "0 files entered; 0 calls back to the right" in str(Trace("labkit", 0, (), (), (), ()))
