"""A machine without torch: recorded runs, predictions and figures work, and what does not says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "accelerate", "tokenizers", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import labkit
"""


def without_torch(code: str, home: Path) -> str:
    """What a program prints where torch cannot be imported."""
    environment = os.environ | {"LABKIT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


RECORD = """
from labkit.records import events as ev
from labkit.tasks.atlas.facts import SKILLS
from labkit.records.record import Record
scores = lambda x: dict.fromkeys(SKILLS, x)
rec = Record([
    ev.Started(labkit.Experiment().to_dict(), "t", 3, 2, 2, 2, SKILLS, "m"), ev.Step(1, 0.1, 128, {"loss": 3.0, "kl": 3.0}),
    ev.Reference("teacher", scores(1.0)), ev.Reference("label budget", scores(0.2)),
    ev.Evaluated(1, 0.2, scores(0.8), {"kl": 1.0, "agreement": 0.5}, {}, 0.1, {}, True), ev.Finished(1, 0.3, "completed"),
])
"""


def test_a_record_is_loaded_read_and_drawn(home, tmp_path):
    path = tmp_path / "rec.jsonl"
    code = (
        RECORD
        + f"""
rec.save({str(path)!r})
rec = labkit.load({str(path)!r})
from labkit.views import figures
print(round(rec.recovery().mean, 2), len(rec.table()), len(figures.waterfall(rec).png()) > 1000, len(list(labkit.replay(rec))))
"""
    )
    assert without_torch(code, home).split() == ["0.75", "12", "True", "6"]


def test_predictions_and_checks_work(home):
    code = """
guess = labkit.predict("00", 0.6, 0.8, 0.8)
from labkit.lessons.predictions import score
print(score(guess, 0.7).inside, labkit.check("00.recovery", lambda s, b, t: (s - b) / (t - b)).ok)
"""
    assert without_torch(code, home).split() == ["True", "True"]


def test_the_lesson_opens_and_run_says_what_is_missing(home):
    code = """
lab = labkit.open("00")
lab.run()
try:
    lab.wait()
except labkit.LabError as error:
    print(error)
print(lab.board.state[0])
"""
    said = without_torch(code, home)
    assert "Training a student needs the package" in said
    assert "pip install" in said
    assert said.strip().endswith("failed")


def test_training_from_python_says_what_is_missing(home):
    code = """
for call in (lambda: labkit.run(), lambda: labkit.teacher("atlas-3m"), lambda: labkit.record()):
    try:
        call()
    except labkit.LabError as error:
        print("needs the package" in str(error))
"""
    assert without_torch(code, home).split() == ["True"] * 3
