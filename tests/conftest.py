"""Shared fixtures: a home of its own for every test, and a teacher small enough that a run takes about a second."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import hypothesis
import hypothesis.configuration
import pytest

import labkit  # noqa: F401 - before torch, as everywhere

REPOSITORY = Path(__file__).resolve().parent.parent
TEACHER = "atlas-200k"  # the name under which the tiny teacher is shipped to the tests

# Nothing a test writes may land in the repository or in the user's own cache, even outside a fixture.
_scratch = Path(tempfile.mkdtemp(prefix="labkit-tests-"))
os.environ["LABKIT_HOME"] = str(_scratch / "home")
hypothesis.configuration.set_hypothesis_home_dir(_scratch / "hypothesis")
hypothesis.settings.register_profile("lab", deadline=None, derandomize=True, database=None, max_examples=60)
hypothesis.settings.load_profile("lab")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LABKIT_HOME for this test alone."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LABKIT_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `data/` (atlas, tokenizers and vocabularies linked) whose only teacher is the 200k table."""
    import torch
    from table import table_teacher

    from labkit import models

    torch.set_num_threads(1)  # tiny matrices; and one thread adds in one order, on any machine
    folder = tmp_path_factory.mktemp("data")
    for name in ("atlas", "tokenizers", "vocabularies"):
        (folder / name).symlink_to(REPOSITORY / "data" / name)
    models.save(table_teacher(), folder / "teachers" / TEACHER, {"made_by": "tests/table.py"})
    return folder


@pytest.fixture
def tiny_data(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """LABKIT_DATA pointed at the tiny teacher's folder."""
    from labkit import models

    monkeypatch.setenv("LABKIT_DATA", str(tiny_folder))
    models.teacher.cache_clear()
    yield tiny_folder
    models.teacher.cache_clear()


@pytest.fixture
def tiny_teacher(tiny_data: Path):
    """The tiny teacher, loaded the way every teacher is."""
    from labkit import models

    return models.teacher(TEACHER)


@pytest.fixture
def quick(tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    """Exams of two questions a skill, so that an engine run costs its steps and little else."""
    from labkit.tasks.atlas import exam
    from labkit.training import loop, setup

    monkeypatch.setattr(setup, "Exam", functools.partial(exam.Exam, per_skill=2))
    monkeypatch.setattr(loop, "EVALUATIONS", 2)
    return tiny_data
