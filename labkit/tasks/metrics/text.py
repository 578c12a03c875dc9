"""Answers compared as text: as a whole, by words, by a pattern, as a number, as a label."""

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
    """What two spellings of one answer share: capitals, spaces and full-width forms do not matter, nor quotes, stops and brackets
    around the whole. Signs, accents and points inside do: -5 is not 5, nor C# C."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    around = "\"'`“”‘’!?,;:()[] "
    return text.rstrip(around + ".").lstrip(around) or text  # a point in front may belong to a number


@register("exact", "exact match", "the answer is the reference; capitals, spaces and punctuation around it do not matter")
@each
def exact(answer: str, row: Row, _: Any) -> float:
    return plain(answer) == plain(row.response or "")


@register("contains", "contains", "the reference is in the answer as whole words; a long answer has it more easily")
@each
def contains(answer: str, row: Row, _: Any) -> float:
    return re.search(rf"(?<!\w){re.escape(plain(row.response or ''))}(?!\w)", plain(answer)) is not None


def _pattern(text: str, where: str = "") -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise LabError(f"{text!r}{where} is no regular expression: {error}. A sign such as ( or + itself is written \\( or \\+.") from None


def _given_pattern(text: str) -> re.Pattern[str]:
    return _pattern(text)


@register(
    "regex",
    "regular expression",
    "the pattern is found in the answer; ^ and $ tie it to the ends",
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
    """Words as in the SQuAD script: no capitals, punctuation or articles."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


@register("token_f1", "token F1", "words shared with the reference, as SQuAD counts them (Rajpurkar et al. 2016)")
@each
def token_f1(answer: str, row: Row, _: Any) -> float:
    said, wanted = _tokens(answer), _tokens(row.response or "")
    return f1((collections.Counter(said) & collections.Counter(wanted)).total(), len(said), len(wanted))


def f1(shared: int, said: int, wanted: int) -> float:
    """2 shared / (said + wanted); of two empty things, 1."""
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
        raise LabError(f"numeric:{text} must be a distance of at least 0: write 0.01, or 1% of the reference.")
    relative = text.strip().endswith("%")
    return _Tolerance(size / 100 if relative else size, relative)


def number(text: str) -> float | None:
    """The last number in a text, which is where answers end up; commas may group thousands. None where there is none."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    value = float(found[-1].replace(",", "").replace("\u2212", "-"))
    return value if math.isfinite(value) else None


@register(
    "numeric",
    "numeric tolerance",
    "the last number in the answer is as near to the reference's as allowed (0.01, or 1% of it; default: equal)",
    argument="a distance",
    read=_tolerance,
)
def numeric(answers: Sequence[str], rows: Sequence[Row], given: _Tolerance) -> Look:
    scores, without = [], 0
    for answer, row in zip(answers, rows):
        said, wanted = number(answer), number(row.response or "")
        if wanted is None:
            raise LabError(f"the reference of line {row.line}, {row.response!r}, holds no number: mend it, or take another metric.")
        without += said is None
        allowed = given.size * abs(wanted) if given.relative else given.size
        scores.append(0.0 if said is None else float(abs(said - wanted) <= allowed + 1e-9 * max(1.0, abs(wanted))))
    return columns(scores), {"answers without a number": without}


# ---- labels ------------------------------------------------------------------------------------------------------------


def _macro(sums_D_C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of columns (right, then for each label: right, said, wanted): F1, averaged over the labels that are wanted at all."""
    right, said, wanted = (sums_D_C[..., 1 + k :: 3] for k in range(3))
    present = wanted > 0
    share = 2 * right / np.maximum(said + wanted, 1e-12)
    return (share * present).sum(-1) / present.sum(-1)


@register("label_f1", "label F1", "macro F1: each label of the references weighs the same, however rare it is", overall=_macro)
def label_f1(answers: Sequence[str], rows: Sequence[Row], _: Any) -> Look:
    said, wanted = [plain(answer) for answer in answers], [plain(row.response or "") for row in rows]
    labels = sorted(set(wanted))
    table = [[float(a == b) for a, b in zip(said, wanted)]]
    for label in labels:
        table.append([float(a == b == label) for a, b in zip(said, wanted)])
        table.append([float(a == label) for a in said])
        table.append([float(b == label) for b in wanted])
    table_N_C = np.array(table).T
    sums = table_N_C.sum(0).tolist()
    per_label = {}
    for label, right, claimed, n in zip(labels, sums[1::3], sums[2::3], sums[3::3]):
        precision = right / claimed if claimed else 0.0
        per_label[label] = {"precision": precision, "recall": right / n, "f1": 2 * right / (claimed + n), "n": int(n)}
    other = sum(a not in per_label for a in said)
    return table_N_C, {"labels": per_label, "accuracy": sums[0] / len(rows), "answers that are no label": other}
