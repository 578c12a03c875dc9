"""The card of a distilled student, in Markdown: models, data, scores, some wrong answers, and the command to make it again.

What others have written (names, prompts, answers, parts of chat templates) is shown as it is, in code spans: none of it becomes a
picture, a link or HTML.
"""

from __future__ import annotations

from typing import Any

from labkit.base.html import code_span
from labkit.records.model_folders import without_hash
from labkit.tasks.custom.exam import CustomExam

Distilled = Any  # `studies.distill.Distilled`, whose file imports this one
WRONG = 5  # wrong answers shown


def card(done: Distilled, exam: CustomExam, command: str, examples: bool) -> str:
    """The card.

    command: makes the student again.
    examples: whether held-out rows of the data are shown.
    """
    exp, table, decision = done.experiment, done.table().round(3), done.decision()
    names = (code_span(name).replace("|", r"\|") if name == done.metric else name for name in table.columns)
    rows = [("model", *names), ("---",) * (1 + len(table.columns))]
    rows += [(name, *row) for name, row in zip(table.index, table.values.tolist(), strict=True)]
    student, teacher, data = (code_span(without_hash(name)) for name in (exp.student, exp.teacher, exp.data))
    told = [f"- {who}: {code_span(note)}" for who, notes in done.notes.items() for note in notes]
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
            *("| " + " | ".join("-" if cell != cell else str(cell) for cell in row) + " |" for row in rows),
            "",
            f"**{decision.verdict}** {' '.join(decision.reasons)}",
            "",
            f"Scored by {code_span(without_hash(exp.score))}; bands are 95% over prompts. {done.verdict()}",
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
    shown = ((*(code_span(repr(row[name])) for name in ("question", "student", "truth")), row["verdict"]) for row in sampled)
    lines = [f"- {asked}: {said}; expected {wanted} ({verdict})" for asked, said, wanted, verdict in shown if verdict != "right"]
    return lines[:WRONG] or ["- none on the held-out prompts"]
