"""Shared fixtures: a home of its own for every test, and a teacher small enough that a run takes about a second."""

from __future__ import annotations

import dataclasses
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
    """A copy of `data/` with a small teacher, as `table.tiny_data` makes it."""
    import torch
    from table import tiny_data

    torch.set_num_threads(1)  # tiny matrices; and one thread adds in one order, on any machine
    folder = tmp_path_factory.mktemp("data")
    tiny_data(folder)
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
def settings(monkeypatch: pytest.MonkeyPatch):
    """`settings(chunk=16)`: what a run takes that is given no settings of its own."""
    from labkit.base import settings

    def use(**changes: int) -> None:
        monkeypatch.setattr(settings, "DEFAULT", dataclasses.replace(settings.DEFAULT, **changes))

    return use


@pytest.fixture
def quick(tiny_data: Path, settings):
    """Short exams and small chunks, so that a run costs its steps and little else, and a warm start costs next to nothing."""
    settings(chunk=32, evaluations=2, exam_per_skill=2, warm_steps=6, warm_gold=50, made_teacher_steps=20)
    return tiny_data
