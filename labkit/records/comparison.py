"""Several recipes over shared seeds, in one table (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labkit.base.html import table
from labkit.base.stats import Band
from labkit.records.experiment import Experiment
from labkit.records.record import Record, mean, paired

if TYPE_CHECKING:
    import pandas


class Comparison(NamedTuple):
    """Several recipes over shared seeds; the first is what the others are compared with."""

    experiments: Sequence[Experiment]
    records: Sequence[Sequence[Record]]

    def differences(self) -> list[Band]:
        """Each recipe's mean core skill less the first recipe's: paired by seed, as a 95% band."""
        return [paired(runs, self.records[0]) for runs in self.records[1:]]

    def table(self) -> pandas.DataFrame:
        import pandas

        rows = []
        for experiment, runs, found in zip(self.experiments, self.records, [None, *self.differences()], strict=True):
            recovered = [r.recovery().mean for r in runs if {"label budget", "teacher"} <= r.references.keys()]
            rows.append(
                {
                    "recipe": experiment.recipe,
                    "seeds": len(runs),
                    "mean skill": sum(mean(r.skills) for r in runs) / len(runs),
                    "recovery": sum(recovered) / len(recovered) if len(recovered) == len(runs) else None,
                    "KL": sum(r.evaluations[-1].fidelity.get("kl", float("nan")) for r in runs) / len(runs),
                    "difference": found.middle if found else None,
                    "low": found.low if found else None,
                    "high": found.high if found else None,
                    "verdict": found.verdict if found else "compared with",
                }
            )
        return pandas.DataFrame(rows)

    def report(self, path: str | Path | None = None) -> str:
        """One self-contained HTML page about the comparison, also written to `path` if one is given."""
        import labkit

        return labkit.report(self, path)

    def _repr_html_(self) -> str:
        return table(self.table().columns, self.table().itertuples(index=False))
