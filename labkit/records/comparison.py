"""A comparison of several recipes over shared seeds, in one table (no torch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.base.html import table
from labkit.base.stats import NO_EFFECT, Band
from labkit.records.experiment import Experiment
from labkit.records.record import Record, mean, paired

if TYPE_CHECKING:
    import pandas


def summary(runs: Sequence[Record], first: Sequence[Record]) -> dict[str, Any]:
    """A recipe's row in a table: seeds, mean core skill, recovery, KL (nats per answer token), and the difference from the first recipe.

    runs: the recipe's records.
    first: those of the first recipe; there is no difference unless both have the same seeds.
    """
    row: dict[str, Any] = {"seeds": len(runs)}
    if runs:
        recovered = [r.recovery().mean for r in runs if {"label budget", "teacher"} <= r.scores.keys()]
        row |= {
            "mean skill": sum(mean(r.skills) for r in runs) / len(runs),
            "recovery": sum(recovered) / len(recovered) if len(recovered) == len(runs) else None,
            "KL": sum(r.exam.fidelity.get("kl", math.nan) for r in runs) / len(runs),
        }
    if runs and runs is not first and {r.experiment.seed for r in runs} == {r.experiment.seed for r in first}:
        band = paired(runs, first)
        row |= {"difference": band.middle, "low": band.low, "high": band.high, "verdict": band.verdict}
    return row


class Comparison(NamedTuple):
    """Several recipes over shared seeds; the others are compared with the first."""

    experiments: Sequence[Experiment]
    records: Sequence[Sequence[Record]]

    def differences(self) -> list[Band]:
        """For each other recipe: its mean core skill minus the first recipe's, paired by seed, as a 95% band."""
        return [paired(runs, self.records[0]) for runs in self.records[1:]]

    def table(self) -> pandas.DataFrame:
        """One row a recipe (see `summary`)."""
        import pandas

        rows = [{"recipe": e.recipe} | summary(runs, self.records[0]) for e, runs in zip(self.experiments, self.records, strict=True)]
        rows[0] |= {"difference": None, "low": None, "high": None, "verdict": "compared with"}
        return pandas.DataFrame(rows)

    @property
    def how(self) -> str:
        """How the recipes were compared, in words."""
        if len(self.records[0]) < 2:
            return "One seed: no band, and therefore no verdict."
        seeds = f"paired over {len(self.records[0])} seeds, with 95% t-intervals"
        return f"Differences from the first recipe, {seeds}. Within {NO_EFFECT:g} of 0 is no practical effect."

    def __repr__(self) -> str:
        table = self.table().set_index("recipe").rename_axis(None)
        text = table.to_string(float_format=lambda x: f"{x:.3f}", na_rep="")
        return f"{text}\n{self.how}"

    def report(self, path: str | Path | None = None) -> str:
        """A self-contained HTML page about the comparison; also written to `path` if it is given."""
        import labkit

        return labkit.report(self, path)

    def _repr_html_(self) -> str:
        return table(self.table().columns, self.table().itertuples(index=False))
