"""The registry of metrics, what a score is, and its bands."""

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

DRAWS = 2000  # resamplings of a band
Look = tuple["NDArray[np.float64]", dict[str, Any]]  # numbers of each row, (rows, columns), and what else is worth telling


def mean_row(sums_D_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of columns (score, 1): the score of the mean row."""
    return sums_D_C[..., 0] / sums_D_C[..., 1]


class Kind(NamedTuple):
    """A registry entry. reference: whether rows must have an answer to compare with. argument: what stands after the colon, or "";
    needed: whether it must. read: makes of the argument what the score takes, or raises `LabError` before any answer is written."""

    name: str
    label: str
    help: str
    look: Callable[[Sequence[str], Sequence[Row], Any], Look]
    reference: bool = True
    argument: str = ""
    needed: bool = False
    read: Callable[[str], Any] = str
    overall: Callable[[NDArray[np.float64]], NDArray[np.float64]] = mean_row


METRICS = Registry("metric", Kind, "look", *(f"{__package__}.{part}" for part in ("text", "structure", "python")))
register = METRICS.register


def each(score: Callable[[str, Row, Any], float]) -> Callable[[Sequence[str], Sequence[Row], Any], Look]:
    """A score of one row, as one of all: columns (score, 1), so that the overall score is the mean."""

    @functools.wraps(score)
    def look(answers: Sequence[str], rows: Sequence[Row], given: Any) -> Look:
        return columns([float(score(answer, row, given)) for answer, row in zip(answers, rows)]), {}

    return look


def columns(scores: Sequence[float]) -> NDArray[np.float64]:
    return np.stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))], axis=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """A score that is ready to use: its kind, and the argument it was given."""

    kind: Kind
    argument: str
    given: Any

    def __str__(self) -> str:
        return f"{self.kind.name}:{self.argument}" if self.argument else self.kind.name

    def check(self, rows: Sequence[Row]) -> Score:
        """The score of the references themselves; raises `LabError` for what the real answers would fail by as well.

        Worth a call before anything is trained or paid for: below 1 means that no model can be right everywhere.
        """
        return self([row.response or "" for row in rows], rows)

    def __call__(self, answers: Sequence[str], rows: Sequence[Row]) -> Score:
        """The score of one answer a row. Raises `LabError` for rows that lack the reference it needs."""
        if isinstance(answers, str) or len(answers) != len(rows):
            what = "one text" if isinstance(answers, str) else f"{len(answers):,} answers"
            raise LabError(f"{what} for {len(rows):,} rows: give a list with one answer for each row, in the same order.")
        wrong = next(((i, answer) for i, answer in enumerate(answers) if not isinstance(answer, str)), None)
        if wrong:
            raise LabError(f"answer {wrong[0] + 1} is {wrong[1]!r}, and must be a text: write an empty one for no answer.")
        if not len(rows):
            raise LabError("no row to score: give at least one, and some hundreds for a narrow band.")
        lacking = [row.line for row in rows if row.response is None] if self.kind.reference else []
        if lacking:
            some = ", ".join(map(str, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
            raise LabError(
                f"{self.kind.label} compares with a reference, and {len(lacking):,} of {len(rows):,} rows have none (lines {some}): add "
                f"answers, leave these rows out, or take one of {', '.join(n for n, kind in METRICS.items() if not kind.reference)}."
            )
        table_N_C, detail = self.kind.look(answers, rows, self.given)
        prompts = tuple(same(row.prompt) for row in rows)
        return Score(str(self), self.kind.overall, table_N_C, prompts, detail)


def metric(spec: str) -> Metric:
    """The score of a name in `METRICS`, with its argument after a colon, or of a function of your own: `path/to/file.py:function`.

    Such a function is called with (answer, reference or None, prompt) and returns a number, True or False. Its file is run as it is,
    with all your rights: name only a file that you have read.
    """
    own = function_file(spec)
    spec = without_hash(spec) if own else spec
    name, _, argument = spec.partition(":")
    if own and name.strip() not in METRICS:
        name, argument = "python", spec
    if name.strip() not in METRICS:
        raise unknown("metric", name, [*METRICS, "path/to/file.py:function"])
    kind = METRICS[name.strip()]
    if argument and not kind.argument:
        raise LabError(f"{spec!r}: {kind.name} takes nothing after its name: write {kind.name!r}.")
    if kind.needed and not argument:
        raise LabError(f"{spec!r} must say {kind.argument}: write '{kind.name}:...'.")
    return Metric(kind, argument, kind.read(argument))


# ---- bands -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """What answers were worth. `detail` holds what the metric tells besides: labels of label F1, reasons of a schema, and so on.

    table_N_C: the numbers of each row, whose sums `overall` makes the score of. prompts: of each row, to pair it and to draw rows of
    one prompt together.
    """

    metric: str
    overall: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    table_N_C: NDArray[np.float64]
    prompts: tuple[str, ...]
    detail: Mapping[str, Any]

    @property
    def mean(self) -> float:
        return float(self.overall(self.table_N_C.sum(0)))

    @property
    def per_row(self) -> list[float]:
        """The score of each row by itself; for label F1, whether the label was right."""
        return self.table_N_C[:, 0].tolist()

    @property
    def band(self) -> Band:
        """The score with a 95% band for other prompts of the same kind: percentiles of resampled prompts."""
        return _band(self, None)

    def __repr__(self) -> str:
        middle, low, high, n = self.band
        return f"Score({self.metric}: {middle:.3f}, {low:.3f} to {high:.3f} over {n} prompts)"


def better(a: Score, b: Score) -> Band:
    """How much higher `a` scores than `b` on the same rows, with its 95% band; both are resampled together, prompt by prompt.

    The band is for other prompts of the same kind; what another seed of training would give is not in it.
    """
    if a.metric != b.metric or a.prompts != b.prompts:
        what = f"{a.metric} and {b.metric}" if a.metric != b.metric else "answers to different rows"
        raise LabError(f"{what} cannot be compared: score both sets of answers with one metric on the same rows.")
    return _band(a, b)


def _band(a: Score, b: Score | None) -> Band:
    """Percentile bootstrap over prompts (Efron & Tibshirani 1993, chapter 13); rows of one prompt are drawn together.

    Where no prompt differs from another, resampling would call the score certain. Then the ends are what n prompts without an
    exception leave possible at 95%: a rate of at most 1 - 0.025^(1/n) (Clopper & Pearson 1934).
    """
    middle = a.mean - (b.mean if b else 0.0)
    where = {prompt: i for i, prompt in enumerate(dict.fromkeys(a.prompts))}
    group_N, n = np.array([where[prompt] for prompt in a.prompts]), len(where)
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
        few = 1 - 0.025 ** (1 / n)
        return Band(middle, max(middle - few, -1.0 if b else 0.0), min(middle + few, 1.0), n)
    low, high = np.quantile(drawn_D, [0.025, 0.975])
    return Band(middle, float(low), float(high), n)
