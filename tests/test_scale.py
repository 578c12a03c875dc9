"""The same loop on two processes: the same losses and the same student, to rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit import events as ev
from labkit.engine import Run
from labkit.experiment import Experiment

ROOT = Path(__file__).parent.parent
EXPERIMENT = Experiment(student="22k", teacher="atlas-200k", steps=4, batch=24, questions=128, gold=32)

PROGRAM = """
import json, os, sys
import torch
from labkit import engine, subjects, events as ev
from labkit.engine import Run
from labkit.experiment import Experiment

class NoExam:  # what is compared here is the training
    def __init__(self, *args, **named): pass

engine.Run._examine = lambda *args, **kwargs: iter(())
subjects.Exam = NoExam
run = Run(Experiment.from_dict(json.loads(sys.argv[1])))
losses = [event.values["loss"] for event in run if isinstance(event, ev.Step)]
total = float(sum(p.double().abs().sum() for p in run.student.parameters()))
if int(os.environ.get("RANK", 0)) == 0:
    print(json.dumps({"losses": losses, "total": total, "processes": int(os.environ.get("WORLD_SIZE", 1))}))
torch.distributed.barrier()  # neither leaves while the other still talks to it, which would abort it
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("changes", [{}, {"mix": 0.5}, {"method": "answers"}, {"method": "gold"}], ids=str)
def test_two_processes_train_the_same_student(quick, tmp_path, changes):
    experiment = EXPERIMENT.but(**changes)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--rdzv_backend=c10d"]
    command += ["--rdzv_endpoint=127.0.0.1:0", str(program), json.dumps(experiment.to_dict())]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["processes"] == 2

    run = Run(experiment)
    losses = [event.values["loss"] for event in run if isinstance(event, ev.Step)]
    assert found["losses"] == pytest.approx(losses, rel=1e-5)
    assert found["total"] == pytest.approx(float(sum(p.double().abs().sum() for p in run.student.parameters())), rel=1e-6)
