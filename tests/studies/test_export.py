"""The TRL script of a recipe: its first steps have the lab's loss, on the same rows; what TRL lacks is refused."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys

import pytest
from conftest import TEACHER

from labkit import models
from labkit.base.errors import LabError
from labkit.cli.main import main
from labkit.models import pretrained
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.studies.export import export
from labkit.training.loop import Run

pytest.importorskip("trl")
TINY = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=16, steps=3, signals="live", scale="Europe")


def theirs(exp: Experiment, folder) -> list[float]:
    """The loss of every step of the script, which is run here."""
    spec = importlib.util.spec_from_file_location("script", export(exp, folder / "script.py"))
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    trainer, losses = script.build(), []
    step = trainer.training_step
    trainer.training_step = lambda *args, **kwargs: losses.append(step(*args, **kwargs)) or losses[-1]
    trainer.args.disable_tqdm = True
    trainer.train()
    return [float(loss) for loss in losses]


def ours(exp: Experiment) -> list[float]:
    return [event.values["loss"] for event in Run(exp, exams=0) if isinstance(event, ev.Step)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 2.5, "divergence": "reverse_kl"},
        {"divergence": "jsd", "beta": 0.3},
        {"start": "warm", "adapter": 4},
        {"method": "answers"},
        {"method": "gold", "gold": 20},
        {"method": "sequence", "vocabulary": "other"},
        {"method": "online", "on_policy": 1.0, "sampling_temperature": 1e-4, "temperature": 2.0},  # so cold that both write the same
    ],
    ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()) or "forward_kl",
)
def test_the_losses_are_the_lab_s(changes, quick, tmp_path, monkeypatch):
    exp = TINY.but(**changes)
    found, wanted = theirs(exp, tmp_path), ours(exp)
    assert found[0] == pytest.approx(wanted[0], abs=2e-6)
    assert found == pytest.approx(wanted, abs=1e-4)  # rates, clipping, AdamW and order are the same too


@pytest.mark.parametrize(("method", "near"), [("output", 1e-3), ("gold", 2e-6)])
def test_models_and_data_of_one_s_own(method, near, quick, tmp_path):
    """Cut from an Atlas teacher, and asked through its chat template. A teacher from elsewhere reads in bf16."""
    for name, layers in (("teacher", 3), ("student", 1)):
        assert main(["prune", TEACHER, str(tmp_path / name), "--layers", str(layers)]) == 0
    rows = [{"prompt": f"What is {i} + {j}?", "response": f"{i + j}"} for i in range(8) for j in range(8)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    exp = Experiment(data=str(tmp_path / "mine.jsonl"), teacher=str(tmp_path / "teacher"), student=str(tmp_path / "student"), method=method)
    exp = exp.but(batch=8, steps=1, questions=128, longest=4, signals="live")
    assert theirs(exp, tmp_path) == pytest.approx(ours(exp), abs=near)


def test_a_student_that_learns_its_teachers_format_gets_the_teachers_tokenizer(quick, tmp_path):
    for name, layers in (("teacher", 3), ("student", 1)):
        assert main(["prune", TEACHER, str(tmp_path / name), "--layers", str(layers)]) == 0
        (tmp_path / name / "manifest.json").unlink()  # they are changed on purpose
    (tmp_path / "student" / "chat_template.jinja").unlink()
    (tmp_path / "teacher" / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 5]}))
    rows = [{"prompt": f"What is {i} + {j}?", "response": f"{i + j}"} for i in range(8) for j in range(8)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    exp = Experiment(data=str(tmp_path / "mine.jsonl"), teacher=str(tmp_path / "teacher"), student=str(tmp_path / "student"))
    spec = importlib.util.spec_from_file_location(
        "adopting", export(exp.but(batch=8, steps=1, longest=4, signals="live"), tmp_path / "a.py")
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TOKENIZER.chat_template == pretrained.chat_of(str(tmp_path / "teacher")).template.own
    assert script.build().model.generation_config.eos_token_id == [0, 5]
    assert "end marks are the teacher's" in " ".join(script.__doc__.split())


@pytest.mark.parametrize("score", [r"regex:\x+", 'regex:"""', "regex:\\"])
def test_a_script_is_python_whatever_its_recipe_says(score, quick, tmp_path):
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(json.dumps({"prompt": f"What is {i} + 1?", "response": str(i + 1)}) + "\n" for i in range(40)))
    exp = Experiment(data=str(mine), student="22k", teacher="none", method="gold", score=score, steps=1, batch=4)
    out = tmp_path / 'a"b.py'
    told = ast.parse(export(exp, out).read_text())
    assert ast.get_docstring(told).splitlines()[0] == exp.recipe
    assert any(isinstance(part, ast.Constant) and part.value == 'a"b' for part in ast.walk(told))


def test_the_script_runs_by_itself_and_reads_well(quick, tmp_path, capsys):
    out = tmp_path / "there" / "distil.py"
    assert main(["export", "trl", *TINY.but(steps=2, temperature=2.0).recipe.split(), "--out", str(out)]) == 0
    assert "distil.py" in capsys.readouterr().out
    text = out.read_text()
    assert "T squared" in text and "beta 0 is KL(teacher || student)" in text
    assert max(map(len, text.splitlines())) <= 140
    rows = [json.loads(line) for line in (out.parent / "distil" / "rows.jsonl").read_text().splitlines()]
    own = models.tokenizer()
    assert all(own.prompts([row["prompt"]])[0] == row["prompt_ids"] for row in rows)
    assert all(own.text(row["response_ids"]) == row["response"] for row in rows), "a weak teacher may spell it in other tokens"
    done = subprocess.run([sys.executable, str(out)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert models.teacher(str(out.parent / "distil" / "trained")).config.hidden_size == 16


def test_a_full_disk_leaves_the_older_student(quick, tmp_path, monkeypatch):
    export(TINY, tmp_path / "script.py")
    before = (tmp_path / "script" / "student" / "model.safetensors").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(models.tokenizer(TINY.vocabulary).for_transformers()), "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        export(TINY.but(seed=1), tmp_path / "script.py")
    assert (tmp_path / "script" / "student" / "model.safetensors").read_bytes() == before


def test_a_script_is_a_script(tmp_path):
    with pytest.raises(LabError, match=r"ends in \.py"):
        export(Experiment(), tmp_path / "script")
