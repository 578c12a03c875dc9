"""Write the static twin of each lesson's board into its notebook: `labkit build twins`, or `labkit build twins 00 02` (a second a lesson).

It is the picture and the table of the recorded run that the board opens with, for those who read the notebook without a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nbformat

from labkit.base.errors import LabError
from labkit.lessons.catalogue import LESSONS
from labkit.records.store import Store
from labkit.views.board.twin import bundle, svg

PARTS = tuple(LESSONS)
KEPT = "keep-output"


def build(folder: Path, names: Sequence[str] = PARTS) -> None:
    """Replace the output of the cells that open these lessons.

    Raises `LabError` for a lesson without its recorded run, or a notebook without such a cell.
    """
    for name in names:
        lesson = LESSONS[name]
        record = Store().find(lesson.recorded)
        if record is None:
            raise LabError(f"lesson {name} has no recorded run of {lesson.recorded.recipe}: restore data/records with git, or record it.")
        (path,) = folder.glob(f"{name}_*.ipynb")
        book = nbformat.read(path, as_version=4)
        cells = [cell for cell in book.cells if cell.cell_type == "code" and "labkit.open(" in cell.source]
        if not cells:
            raise LabError(f"{path.name} has no cell that opens a lesson: give it one with labkit.open({name!r}).")
        data = bundle(record, lesson.title, lesson.unit, svg(record, lesson.unit))
        cells[0].outputs = [nbformat.v4.new_output("display_data", data)]
        cells[0].execution_count = 1  # nbval refuses an output of a cell that was never run
        cells[0].metadata["tags"] = sorted({*cells[0].metadata.get("tags", ()), KEPT})
        nbformat.write(book, path)
