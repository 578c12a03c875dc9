"""What a run cost, against counts made by hand."""

from __future__ import annotations

import math

import pytest
from conftest import TEACHER

from labkit import models
from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.cost import Prices, cost
from labkit.records.experiment import Experiment
from labkit.records.record import Record
from labkit.training.loop import Run

EXP = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=8)


def made(student: int = 50, teacher: int = 1000, reason: str = "completed", **told: float) -> Record:
    started = ev.Started(EXP.to_dict(), "t", teacher, student, 8, 128, ("recall",), "m")
    return Record([started, ev.Finished(8, 7200.0, reason, {"questions": 64, "student_tokens": 10, **told})])


def test_arithmetic_and_money_by_hand():
    spent = cost(made(teacher_tokens=2_000_000, student_written_tokens=3, cache_bytes=5_000_000_000))
    assert spent.student_flops == 50 * (6 * 10 + 2 * 3)
    assert spent.teacher_flops == 1000 * 2 * 2_000_000
    assert spent.flops == spent.student_flops + spent.teacher_flops
    assert spent.money(Prices(machine_hour=0.5, storage=0.1)) == {"machine": 1.0, "storage": 0.5}
    assert spent.from_endpoint(Prices(endpoint_out=3.0)) == 6.0


def test_a_real_run_counts_its_tokens(quick):
    record = Record(Run(EXP))
    spent = cost(record)
    assert spent.questions == 64
    assert spent.student_tokens > 64 * 2
    assert spent.student_flops == 6 * models.parameters(models.student("22k")) * spent.student_tokens
    assert spent.teacher_tokens > 0
    assert spent.cache_bytes > 0
    assert spent.seconds == record.finished.seconds


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cost(Record()), "did not finish"),
        (lambda: Prices(machine_hour=-1), "machine_hour=-1"),
        (lambda: Prices(storage=math.nan), "storage=nan"),
    ],
)
def test_bad_input_is_told(call, words: str):
    with pytest.raises(LabError, match=words):
        call()
