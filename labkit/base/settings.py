"""Settings of a run that are not fields of the recipe; tests use smaller values than the lab."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """Passed to a `Run`, which passes them to its prerequisite runs; `default()` if none are given. Recorded runs used these values."""

    chunk: int = 512  # questions that the teacher answers at a time; the last bits of its results depend on it
    evaluations: int = 8  # exams of a run, spread evenly over its steps
    exam_per_skill: int = 40  # questions of each skill in an exam
    warm_steps: int = 300  # steps of the run that makes a warm start
    warm_gold: int = 20_000  # gold labels of that run
    made_teacher_steps: int = 60  # steps of the run that makes a teacher from a student's warm start
    # Logits in memory at a time: 64 MB in float32. glibc does not return freed blocks below 32 MB, so smaller ones would pile up.
    logits: int = 2**24


DEFAULT = Settings()


def default() -> Settings:
    """The settings of the lab. A function, so that tests can replace it."""
    return DEFAULT
