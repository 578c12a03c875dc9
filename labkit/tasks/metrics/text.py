"""Metrics of text answers: whole text, words, pattern, number, label."""

from __future__ import annotations

import collections
import math
import re
import string
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labkit.base.errors import LabError
from labkit.tasks.custom.rows import Row
from labkit.tasks.metrics.registry import Look, columns, each, register

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")


def plain(text: str) -> str:
    """Normal form of an answer. Capitals, spaces, full-width forms, and quotes, stops and brackets around the whole do not matter.
    Signs, accents and inner points do: -5 is not 5, and C# is not C."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    around = "\"'`“”‘’!?,;:()[] "
    return text.rstrip(around + ".").lstrip(around) or text  # a leading point may belong to a number


@register("exact", "exact match", "the answer is the reference; capitals, spaces and punctuation around it do not matter")
@each
def exact(answer: str, row: Row, _: Any) -> float:
    return plain(answer) == plain(row.response or "")


@register("contains", "contains", "the reference is in the answer as whole words; this favours long answers")
@each
def contains(answer: str, row: Row, _: Any) -> float:
    return re.search(rf"(?<!\w){re.escape(plain(row.response or ''))}(?!\w)", plain(answer)) is not None


def _pattern(text: str, where: str = "") -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise LabError(f"{text!r}{where} is not a regular expression: {error}. Write a literal ( or + as \\( or \\+.") from None


def _given_pattern(text: str) -> re.Pattern[str]:
    return _pattern(text)


@register(
    "regex",
    "regular expression",
    "the pattern is found in the answer; ^ and $ match its start and end",
    reference=False,
    argument="a pattern",
    needed=True,
    read=_given_pattern,
)
@each
def regex(answer: str, row: Row, given: re.Pattern[str]) -> float:
    return given.search(answer.strip()) is not None


@register("pattern", "reference pattern", "the reference is a regular expression, which is found in the answer")
@each
def pattern(answer: str, row: Row, _: Any) -> float:
    return _pattern(row.response or "", f" (line {row.line})").search(answer.strip()) is not None


def _tokens(text: str) -> list[str]:
    """Words as in the SQuAD script, without capitals, punctuation and articles."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


@register("token_f1", "token F1", "words shared with the reference, as SQuAD counts them (Rajpurkar et al. 2016)")
@each
def token_f1(answer: str, row: Row, _: Any) -> float:
    given, wanted = _tokens(answer), _tokens(row.response or "")
    return f1((collections.Counter(given) & collections.Counter(wanted)).total(), len(given), len(wanted))


def f1(shared: int, said: int, wanted: int) -> float:
    """F1 score: 2 shared / (said + wanted), from numbers of items; 1 if both are empty."""
    return 2 * shared / (said + wanted) if said + wanted else 1.0


class _Tolerance(NamedTuple):
    size: float
    relative: bool


def _tolerance(text: str) -> _Tolerance:
    try:
        size = float(text.strip().removesuffix("%") or 0)
    except ValueError:
        size = math.nan
    if not (math.isfinite(size) and size >= 0):
        raise LabError(f"numeric:{text} must have a distance of at least 0: write numeric:0.01, or numeric:1% for 1% of the reference.")
    relative = text.strip().endswith("%")
    return _Tolerance(size / 100 if relative else size, relative)


def number(text: str) -> float | None:
    """The last number in a text, or None. Commas may group thousands."""
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    value = float(numbers[-1].replace(",", "").replace("\u2212", "-"))
    return value if math.isfinite(value) else None


@register(
    "numeric",
    "numeric tolerance",
    "the last number in the answer is within a distance of the reference's (0.01, or 1% of it; default: equal)",
    argument="a distance",
    read=_tolerance,
)
def numeric(answers: Sequence[str], rows: Sequence[Row], given: _Tolerance) -> Look:
    scores, without = [], 0
    for answer, row in zip(answers, rows):
        value, wanted = number(answer), number(row.response or "")
        if wanted is None:
            raise LabError(f"the reference of line {row.line}, {row.response!r}, has no number: correct it, or use another metric.")
        without += value is None
        allowed = given.size * abs(wanted) if given.relative else given.size
        scores.append(0.0 if value is None else float(abs(value - wanted) <= allowed + 1e-9 * max(1.0, abs(wanted))))
    return columns(scores), {"answers without a number": without}


# ---- labels ------------------------------------------------------------------------------------------------------------


def _macro(sums_D_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 averaged over the labels of the references, from columns: right, then for each label right, given, wanted."""
    right, given, wanted = (sums_D_C[..., 1 + k :: 3] for k in range(3))
    present = wanted > 0
    share = 2 * right / np.maximum(given + wanted, 1e-12)
    return (share * present).sum(-1) / present.sum(-1)


@register("label_f1", "label F1", "macro F1: all labels of the references have the same weight, also rare ones", overall=_macro)
def label_f1(answers: Sequence[str], rows: Sequence[Row], _: Any) -> Look:
    given, wanted = [plain(answer) for answer in answers], [plain(row.response or "") for row in rows]
    labels = sorted(set(wanted))
    table = [[float(a == b) for a, b in zip(given, wanted)]]
    for label in labels:
        table.append([float(a == b == label) for a, b in zip(given, wanted)])
        table.append([float(a == label) for a in given])
        table.append([float(b == label) for b in wanted])
    table_N_C = np.array(table).T
    sums = table_N_C.sum(0).tolist()
    per_label = {}
    for label, right, claimed, n in zip(labels, sums[1::3], sums[2::3], sums[3::3]):
        precision = right / claimed if claimed else 0.0
        per_label[label] = {"precision": precision, "recall": right / n, "f1": 2 * right / (claimed + n), "n": int(n)}
    other = sum(a not in per_label for a in given)
    return table_N_C, {"labels": per_label, "accuracy": sums[0] / len(rows), "answers that are no label": other}
