"""The loop that a newcomer reads first does what the engine does."""

from __future__ import annotations

import ast
import inspect

import pytest
import torch
from conftest import REPOSITORY, TEACHER

from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.training import minimal
from labkit.training.loop import Run

SHORT = Experiment(student="22k", teacher=TEACHER, questions=128, batch=8, steps=20)


@pytest.mark.parametrize("changes", [{}, {"temperature": 3.0, "seed": 4}], ids=["T = 1", "T = 3"])
def test_it_is_the_engine_without_options(quick, changes: dict):
    exp = SHORT.but(**changes)
    run = Run(exp, exams=0)
    losses = [event.values["loss"] for event in run if isinstance(event, ev.Step)]
    student, mine = minimal.distil(
        exp.student, exp.steps, teacher=exp.teacher, questions=exp.questions, batch=exp.batch,
        temperature=exp.temperature, learning_rate=exp.learning_rate, seed=exp.seed,
    )  # fmt: skip
    assert mine == pytest.approx(losses, rel=1e-6, abs=1e-6)
    with torch.no_grad():
        apart, whole = (torch.nn.utils.parameters_to_vector(p) for p in (student.parameters(), run.student.parameters()))
        assert float((apart - whole).norm() / whole.norm()) < 1e-6


def test_its_defaults_are_a_recipe_s():
    exp = Experiment(student="57k")
    given = {name: parameter.default for name, parameter in inspect.signature(minimal.distil).parameters.items()}
    assert given.pop("size") == exp.student
    assert given.pop("steps") == 100
    assert given == {name: getattr(exp, name) for name in given}


def test_it_is_short_and_shown_in_the_first_lesson_and_nobody_else_uses_it():
    assert len(inspect.getsource(minimal.distil).splitlines()) <= 65
    assert "Code(minimal.__file__" in (REPOSITORY / "notebooks" / "00_distil_in_a_minute.ipynb").read_text(encoding="utf-8")
    for path in (REPOSITORY / "labkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert "minimal" not in names and "minimal" not in str(getattr(node, "module", "")), path
