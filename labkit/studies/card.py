"""The card of a distilled student, in Markdown: models, data, scores, some wrong answers, and the command to make it again.

What others have written (names, prompts, answers, parts of chat templates) is shown as it is: none of it becomes a picture, a link or HTML.
"""

from __future__ import annotations

import re
from typing import Any

from labkit.records.model_folders import without_hash
from labkit.tasks.custom.exam import CustomExam

Distilled = Any  # `studies.distill.Distilled`, whose file imports this one
WRONG = 5  # wrong answers shown


def card(done: Distilled, exam: CustomExam, command: str, examples: bool) -> str:
    """The card.

    command: makes the student again.
    examples: whether held-out rows of the data are shown.
    """
    exp, table = done.experiment, done.table().round(3)
    rows = [("model", *table.columns), ("---",) * (1 + len(table.columns))]
    rows += [(name, *row) for name, row in zip(table.index, table.values.tolist(), strict=True)]
    student, teacher, data = (_plain(without_hash(name)) for name in (exp.student, exp.teacher, exp.data))
    told = [f"- {who}: {_plain(note)}" for who, notes in done.notes.items() for note in notes]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [distillation]",
            "---",
            f"# {student} " + (f"distilled from {teacher}" if done.own == "distilled" else "fine-tuned on gold labels"),
            "",
            f"Made with the Distillation Lab on {data} ({len(exam.rows)} prompts held out). The licences of both "
            "models and of the data apply to this model: read them before you pass it on."
            + (" This card and record.jsonl.gz show prompts and answers of the data." if examples else ""),
            "",
            *("| " + " | ".join("-" if cell != cell else _plain(cell) for cell in row) + " |" for row in rows),
            "",
            f"Scored by {_code(without_hash(exp.score))}; bands are 95% over prompts. {done.verdict()}",
            "",
            *(["Some of its wrong answers:", "", *_wrong(done, exam), ""] if examples else []),
            *(["How the lab ran the models:", "", *told, ""] if told else []),
            "To make it again:",
            "",
            f"    {command}",
            "",
        ]
    )


def _wrong(done: Distilled, exam: CustomExam) -> list[str]:
    """Some of the student's wrong answers, a line each."""
    sampled = exam.sample(done.grades[done.own].answers, len(exam.rows))
    lines = [
        f"- {_code(repr(row['question']))}: {_code(repr(row['student']))}; expected {_code(repr(row['truth']))} ({row['verdict']})"
        for row in sampled
        if row["verdict"] != "right"
    ]
    return lines[:WRONG] or ["- none on the held-out prompts"]


def _code(line: str) -> str:
    """A line as a code span, whose marks are longer than any run of backticks in it."""
    marks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{marks} {line} {marks}" if "`" in line else f"{marks}{line}{marks}"


def _plain(text: object) -> str:
    """A text in which nothing is markup."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(str(text).split())).replace("<", "&lt;")
