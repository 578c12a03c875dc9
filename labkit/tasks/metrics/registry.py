"""The registry of metrics, scores and their bands."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labkit.base.errors import LabError, unknown
from labkit.base.registry import Registry
from labkit.base.stats import Band
from labkit.records.model_folders import without_hash
from labkit.tasks.custom.content_hash import function_file
from labkit.tasks.custom.rows import Row, same

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 2000  # resamplings for a band
Look = tuple["NDArray[np.float64]", dict[str, Any]]  # numbers of each row, (N, C), and further results


def mean_row(sums_D_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean score, for columns (score, 1). `sums_D_C`: their sums over rows, one line for each resampling."""
    return sums_D_C[..., 0] / sums_D_C[..., 1]


class Kind(NamedTuple):
    """A registry entry."""

    name: str
    label: str
    help: str
    look: Callable[[Sequence[str], Sequence[Row], Any], Look]  # the numbers of all rows, from answers, rows and the parsed argument
    reference: bool = True  # whether each row must have a reference
    argument: str = ""  # what the argument after the colon is; "" if there is none
    needed: bool = False  # whether the argument is required
    read: Callable[[str], Any] = str  # parses the argument; raises `LabError` before any answer is written
    overall: Callable[[NDArray[np.float64]], NDArray[np.float64]] = mean_row


METRICS = Registry("metric", Kind, "look", *(f"{__package__}.{part}" for part in ("text", "structure", "python")))
register = METRICS.register


def each(score: Callable[[str, Row, Any], float]) -> Callable[[Sequence[str], Sequence[Row], Any], Look]:
    """Turn a score of one row into the `look` of a registry entry whose overall score is the mean."""

    @functools.wraps(score)
    def look(answers: Sequence[str], rows: Sequence[Row], given: Any) -> Look:
        return columns([float(score(answer, row, given)) for answer, row in zip(answers, rows)]), {}

    return look


def columns(scores: Sequence[float]) -> NDArray[np.float64]:
    """The columns (score, 1), `(N, 2)`; `mean_row` computes the mean from their sums."""
    return np.stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))], axis=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its argument, ready to score answers."""

    kind: Kind
    argument: str
    given: Any  # the argument as `kind.read` parsed it

    def __str__(self) -> str:
        return f"{self.kind.name}:{self.argument}" if self.argument else self.kind.name

    def check(self, rows: Sequence[Row]) -> Score:
        """The score of the references themselves. Call it before you train or pay: if it is below 1, no model can be right everywhere.

        Raises `LabError` if the metric does not fit the rows.
        """
        return self([row.response or "" for row in rows], rows)

    def __call__(self, answers: Sequence[str], rows: Sequence[Row]) -> Score:
        """The score of `answers`, one for each row. Raises `LabError` if a row has no reference but the metric needs one."""
        if isinstance(answers, str) or len(answers) != len(rows):
            what = "one text" if isinstance(answers, str) else f"{len(answers):,} answers"
            raise LabError(f"{what} for {len(rows):,} rows: give a list with one answer for each row, in the same order.")
        wrong = next(((i, answer) for i, answer in enumerate(answers) if not isinstance(answer, str)), None)
        if wrong:
            raise LabError(f"answer {wrong[0] + 1} is {wrong[1]!r}, but must be a text: use an empty text for no answer.")
        if not len(rows):
            raise LabError("there are no rows to score: give at least one, or some hundreds for a narrow band.")
        lacking = [row.line for row in rows if row.response is None] if self.kind.reference else []
        if lacking:
            some = ", ".join(map(str, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
            raise LabError(
                f"{self.kind.label} compares with a reference, and {len(lacking):,} of {len(rows):,} rows have none (lines {some}): add "
                f"references, remove these rows, or use one of {', '.join(n for n, kind in METRICS.items() if not kind.reference)}."
            )
        table_N_C, detail = self.kind.look(answers, rows, self.given)
        prompts = tuple(same(row.prompt) for row in rows)
        return Score(str(self), self.kind.overall, table_N_C, prompts, detail)


def metric(spec: str) -> Metric:
    """Find a metric by its name in `METRICS`, with its argument after a colon, or load a custom one: `path/to/file.py:function`.

    A custom function is called with (answer, reference or None, prompt) and returns a number, True or False. Its file is executed
    without protection and with all your rights: use only a file that you have read.

    Raises `LabError` for an unknown name, or an argument that is missing, not allowed or invalid.
    """
    custom = function_file(spec)
    spec = without_hash(spec) if custom else spec
    name, _, argument = spec.partition(":")
    if custom and name.strip() not in METRICS:
        name, argument = "python", spec
    if name.strip() not in METRICS:
        raise unknown("metric", name, [*METRICS, "path/to/file.py:function"])
    kind = METRICS[name.strip()]
    if argument and not kind.argument:
        raise LabError(f"{spec!r}: {kind.name} takes no argument: write {kind.name!r}.")
    if kind.needed and not argument:
        raise LabError(f"{spec!r} needs {kind.argument}: write '{kind.name}:...'.")
    return Metric(kind, argument, kind.read(argument))


# ---- bands -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """The score of a list of answers under one metric."""

    metric: str
    overall: Callable[[NDArray[np.float64]], NDArray[np.float64]]  # computes the score from the sums of `table_N_C` over rows
    table_N_C: NDArray[np.float64]  # the numbers of each row
    prompts: tuple[str, ...]  # of each row, to pair rows, and to draw rows of one prompt together
    detail: Mapping[str, Any]  # further results, such as the labels of label F1, or the errors of a schema

    @property
    def mean(self) -> float:
        return float(self.overall(self.table_N_C.sum(0)))

    @property
    def per_row(self) -> list[float]:
        """The score of each row; for label F1, whether the label is right."""
        return self.table_N_C[:, 0].tolist()

    @property
    def band(self) -> Band:
        """The score with a 95% band over prompts, from resampled prompts."""
        return _band(self, None)

    def __repr__(self) -> str:
        middle, low, high, n = self.band
        return f"Score({self.metric}: {middle:.3f}, {low:.3f} to {high:.3f} over {n} prompts)"


def better(a: Score, b: Score) -> Band:
    """How much higher `a` scores than `b` on the same rows, with a 95% band. Both are resampled together, prompt by prompt.

    The band is over prompts: it does not include the variation between training seeds.

    Raises `LabError` for scores of different metrics or rows.
    """
    if a.metric != b.metric or a.prompts != b.prompts:
        what = f"{a.metric} and {b.metric}" if a.metric != b.metric else "answers to different rows"
        raise LabError(f"{what} cannot be compared: score both with the same metric on the same rows.")
    return _band(a, b)


def _band(a: Score, b: Score | None) -> Band:
    """Percentile bootstrap over prompts (Efron & Tibshirani 1993, chapter 13); rows of one prompt are drawn together.

    If all n prompts have the same score, resampling would give a band of width 0. Then the band is that of a rate with no exception
    in n prompts: at most 1 - 0.025^(1/n) at 95% (Clopper & Pearson 1934).
    """
    middle = a.mean - (b.mean if b else 0.0)
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(a.prompts))}
    group_N, n = np.array([numbers[prompt] for prompt in a.prompts]), len(numbers)
    if n == 1:
        return Band(middle, math.nan, math.nan, 1)
    sums = []
    for score in filter(None, (a, b)):
        sums_G_C = np.zeros((n, score.table_N_C.shape[1]))
        np.add.at(sums_G_C, group_N, score.table_N_C)
        sums.append((score.overall, sums_G_C))
    rng, drawn = np.random.default_rng(0), []
    for start in range(0, DRAWS, 100):
        weights_D_G = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(start, min(start + 100, DRAWS))])
        totals = [overall(weights_D_G @ sums_G_C) for overall, sums_G_C in sums]
        drawn.append(totals[0] - totals[1] if b else totals[0])
    drawn_D = np.concatenate(drawn)
    shares = all(0 <= value <= 1 for score in filter(None, (a, b)) for value in score.per_row)
    if shares and np.ptp(drawn_D) < 1e-12:
        rate = 1 - 0.025 ** (1 / n)
        return Band(middle, max(middle - rate, -1.0 if b else 0.0), min(middle + rate, 1.0), n)
    low, high = np.quantile(drawn_D, [0.025, 0.975])
    return Band(middle, float(low), float(high), n)
