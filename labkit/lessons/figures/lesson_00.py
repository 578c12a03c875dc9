"""Tables of lesson 00: what a run recovered, counted in three ways, and what its two models answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.lessons.figures.tables import Table
from labkit.records.record import Record

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def counted(record: Record) -> Table:
    """How far the student of a run got, in three numbers, each with what it counts.

    Raises `LabError` if the run or its baseline has no exam.
    """
    found, gold = record.recovery(), record.experiment.gold
    return Table(
        ["number", "value", "what it counts"],
        [
            ["recovery, core skills", found.mean, f"the share of the gap between {gold} true answers and the teacher that is closed"],
            ["recovery, all skills", found.all_skills, "the same, with two-hop questions and chains in the mean"],
            ["student / teacher", found.ratio, f"looks better than it is: it also counts what {gold} true answers alone would have given"],
        ],
    )


def answers(models: Mapping[str, LlamaForCausalLM], questions: Sequence[str]) -> Table:
    """What some models answer, with the probability that each gives to its answer.

    models: by the name that the table has for each.

    Raises `LabError` for a question that is empty or too long.
    """
    import labkit

    rows = []
    for question in questions:
        said = {name: labkit.ask(model, question) for name, model in models.items()}
        signs = {name: {True: " \u2713", False: " \u2717", None: ""}[one.right] for name, one in said.items()}
        cells = [f"{one.answer}{signs[name]} ({one.probability:.0%} sure)" for name, one in said.items()]
        rows.append([question, *cells, next(iter(said.values())).truth])
    return Table(["question", *models, "right answers"], rows)
