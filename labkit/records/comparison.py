"""Several recipes over shared seeds, in one table (no torch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.base.html import table
from labkit.base.stats import Band
from labkit.records.experiment import Experiment
from labkit.records.record import Record, mean, paired

if TYPE_CHECKING:
    import pandas


def summary(runs: Sequence[Record], first: Sequence[Record]) -> dict[str, Any]:
    """A recipe's line in a table: seeds, mean core skill, recovery, KL; and, over the same seeds, its difference from the first recipe."""
    row: dict[str, Any] = {"seeds": len(runs)}
    if runs:
        recovered = [r.recovery().mean for r in runs if {"label budget", "teacher"} <= r.scores.keys()]
        row |= {
            "mean skill": sum(mean(r.skills) for r in runs) / len(runs),
            "recovery": sum(recovered) / len(recovered) if len(recovered) == len(runs) else None,
            "KL": sum(r.exam.fidelity.get("kl", math.nan) for r in runs) / len(runs),
        }
    if runs and runs is not first and {r.experiment.seed for r in runs} == {r.experiment.seed for r in first}:
        found = paired(runs, first)
        row |= {"difference": found.middle, "low": found.low, "high": found.high, "verdict": found.verdict}
    return row


class Comparison(NamedTuple):
    """Several recipes over shared seeds; the first is what the others are compared with."""

    experiments: Sequence[Experiment]
    records: Sequence[Sequence[Record]]

    def differences(self) -> list[Band]:
        """Each recipe's mean core skill less the first recipe's: paired by seed, as a 95% band."""
        return [paired(runs, self.records[0]) for runs in self.records[1:]]

    def table(self) -> pandas.DataFrame:
        import pandas

        rows = [{"recipe": e.recipe} | summary(runs, self.records[0]) for e, runs in zip(self.experiments, self.records, strict=True)]
        rows[0] |= {"difference": None, "low": None, "high": None, "verdict": "compared with"}
        return pandas.DataFrame(rows)

    def report(self, path: str | Path | None = None) -> str:
        """One self-contained HTML page about the comparison, also written to `path` if one is given."""
        import labkit

        return labkit.report(self, path)

    def _repr_html_(self) -> str:
        return table(self.table().columns, self.table().itertuples(index=False))
