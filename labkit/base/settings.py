"""How finely a run works: what may differ between the lab and a test of it without being a field of the recipe."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """Handed to a `Run`, and by it to the runs before it; `default()` where none is given. Recorded runs were made with the values here."""

    chunk: int = 512  # questions the teacher answers at a time; what it writes depends on it to the last bit
    evaluations: int = 8  # exams of a run, spread evenly over its steps
    exam_per_skill: int = 40  # questions of each skill in an exam
    warm_steps: int = 300  # steps of the run that makes a warm start
    warm_gold: int = 20_000  # gold labels of that run
    made_teacher_steps: int = 60  # steps of the run that makes a teacher out of a student's warm start
    # Logits held at a time: 64 MB in float32. Smaller blocks (below glibc's 32 MB) are not given back when freed, and pile up.
    logits: int = 2**24


DEFAULT = Settings()


def default() -> Settings:
    return DEFAULT
