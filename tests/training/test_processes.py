"""The same loop on two processes: the same losses and the same student, to rounding; and what ships for more than two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labkit.base.settings import Settings
from labkit.base.threads import LIMITS
from labkit.cli.main import main
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.record import load
from labkit.studies.run import record
from labkit.training.loop import Run

ROOT = Path(__file__).parent.parent.parent
EXPERIMENT = Experiment(student="22k", teacher="atlas-200k", steps=4, batch=24, questions=128, gold=32)

PROGRAM = """
import json, os, sys
import torch
from labkit.records import events as ev
from labkit.training import loop as engine, setup as subjects
from labkit.training.loop import Run
from labkit.records.experiment import Experiment

class NoExam:  # what is compared here is the training
    def __init__(self, *args, **named): pass

engine.Run._examine = lambda *args, **kwargs: iter(())
subjects.Exam = NoExam
run = Run(Experiment.from_dict(json.loads(sys.argv[1])))
losses = [event.values["loss"] for event in run if isinstance(event, ev.Step)]
if int(os.environ.get("RANK", 0)) == 0:
    torch.save(run.student.state_dict(), sys.argv[2])
    print(json.dumps({"losses": losses, "processes": int(os.environ.get("WORLD_SIZE", 1))}))
torch.distributed.barrier()  # neither leaves while the other still talks to it, which would abort it
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("changes", [{"steps": 20}, {"mix": 0.5}, {"method": "answers"}, {"method": "gold"}], ids=str)
def test_two_processes_train_the_same_student(quick, settings, tmp_path, changes):
    settings(chunk=Settings.chunk)  # as in the other processes: what a teacher writes depends on it
    experiment = EXPERIMENT.but(**changes)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = ran([*command, str(program), json.dumps(experiment.to_dict()), str(tmp_path / "student.pt")])
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["processes"] == 2

    run = Run(experiment)
    losses = [event.values["loss"] for event in run if isinstance(event, ev.Step)]
    assert found["losses"] == pytest.approx(losses, rel=1e-5)
    theirs = torch.load(tmp_path / "student.pt")
    for name, own in run.student.state_dict().items():
        assert torch.allclose(theirs[name], own, rtol=0, atol=1e-5), name


def test_the_command_line_under_accelerate_launch(tiny_data, tmp_path):
    """The real `labkit run`, exams and all, on two processes of this machine (gloo; accelerate calls any such launch "multi_gpu")."""
    experiment = EXPERIMENT.but(steps=20, scale="Europe")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m", "labkit", "run"]
    done = ran(
        [*launch, *experiment.recipe.split(), "--out", str(tmp_path / "two.jsonl")], LABKIT_HOME=str(tmp_path), OMP_DISPLAY_ENV="verbose"
    )
    if sys.platform == "linux":  # where OpenMP is GNU's, and tells its settings
        assert done.stderr.count(f"GOMP_SPINCOUNT = '{LIMITS['GOMP_SPINCOUNT']}'") == 2, "both bound how long their threads spin"
    assert done.stdout.count("saved to") == 1, "one process speaks for all"
    two, one = load(tmp_path / "two.jsonl"), record(experiment)
    assert two.complete
    assert [s.values["loss"] for s in two.steps] == pytest.approx([s.values["loss"] for s in one.steps], rel=1e-5)
    assert two.skills == pytest.approx(one.skills, abs=1e-5)
    assert two.evaluations[-1].fidelity["kl"] == pytest.approx(one.evaluations[-1].fidelity["kl"], rel=1e-5)


def test_a_launch_that_would_cut_the_student_up_is_refused(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert main(["run", "--steps", "1"]) == 2
    assert "keeps the whole student in every process" in capsys.readouterr().err


def test_accelerate_reads_the_fsdp2_config(monkeypatch: pytest.MonkeyPatch):
    """As `accelerate launch --config_file` does: the file, then the variables it sets, then what a training process makes of them."""
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    path = str(ROOT / "data" / "configs" / "fsdp2.yaml")
    config = load_config_from_file(path)
    assert (config.distributed_type, config.num_processes, config.mixed_precision) == ("FSDP", 8, "bf16")
    options, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", path, "train.py"]))
    assert options.use_fsdp
    for name, value in prepare_multi_gpu_env(options).items():
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert str(plugin.state_dict_type).endswith("SHARDED_STATE_DICT")
    assert plugin.activation_checkpointing is True


def ran(command: list[str], **places: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in LIMITS}
    environment = inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | places
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done
