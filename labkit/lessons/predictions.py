"""Predictions made before a result, their scores after it, and how well calibrated they are.

    guess = predict("00", 0.6, 0.8, 0.8)      # "I am 80% sure that it lies between 0.6 and 0.8"; kept on this machine
    score(guess, 0.71).sentence               # the truth is stored with it
    calibration()["sentence"]                 # over all predictions made before their truth was known

The file is `predictions.jsonl` in the lab's home folder, one row for each prediction and each truth; rows are only added. It also keeps
the exercises that are passed (`labkit.lessons.passed`).
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.base.errors import UNREADABLE, LabError, shown
from labkit.base.files import append_row, home_dir, left_out, named_lines, rows_of
from labkit.base.kinds import kinds_checked

_FIELDS = ("question_id", "low", "high", "confidence", "unit", "made")  # of a prediction's row; a newer version may add others
FEW = 10  # with fewer scored predictions than this, a hit rate says little


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """A central interval, and the probability (between 0 and 1) that the truth lies in it."""

    question_id: str
    low: float
    high: float
    confidence: float
    unit: str = ""
    made: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.question_id, str) or not self.question_id.strip():
            raise LabError(f"question_id={shown(self.question_id)} must be a text that names the question, such as '00'.")
        for name in ("low", "high", "confidence"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        if self.low > self.high:
            raise LabError(
                f"low={self.low:g} is above high={self.high:g}: give the smaller number first, as in {self.high:g}, {self.low:g}."
            )
        if not 0 < self.confidence < 1:
            value = self.confidence
            fix = f"write {value / 100:g} for {value:g}%" if 1 < value < 100 else "write 0.8 for 80%"
            raise LabError(f"confidence={value:g} must be a probability above 0 and below 1: {fix}.")

    def __repr__(self) -> str:
        low, high = _distinct(self.low, self.high)
        kept = f"{self.question_id}: {low} to {high}{_of(self.unit)}, {self.confidence:.0%} sure."
        if self.low == self.high:
            kept += f" Both ends are {low}, so any other result is a miss: give two ends, unless you mean that."
        return f"Prediction({kept!r})"

    def contains(self, truth: float) -> bool:
        """Whether the truth lies in the interval."""
        return self.low <= truth <= self.high


@dataclasses.dataclass(frozen=True, slots=True)
class ForecastScore:
    """The score of a prediction."""

    prediction: Prediction
    truth: float
    inside: bool
    interval: float  # the interval score, in the unit of the question; smaller is better
    counts: bool  # whether it enters `calibration`: it is the last prediction stored before the truth was first known
    sentence: str

    def __repr__(self) -> str:
        return f"Score({self.sentence!r})"


@kinds_checked
def predict(question_id: str, low: float, high: float, confidence: float, *, unit: str = "") -> Prediction:
    """Store a prediction. A later one for the same question replaces it until the truth is known; both rows stay in the file.

    question_id: names the question, such as "00".
    low, high: the ends of the interval.
    confidence: the probability that the truth lies in it, above 0 and below 1: 0.8, not 80.
    unit: of `low` and `high`, for the sentences.

    Raises `LabError` for a confidence outside that range, for low above high, and for numbers that are not finite.
    """
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    prediction = Prediction(question_id, low, high, confidence, unit, made)
    try:
        append_row(ledger(), {"kind": "prediction", **dataclasses.asdict(prediction)})
    except OSError as error:
        fix = "Free some space, or set LABKIT_HOME to another folder."
        raise LabError(f"the prediction cannot be stored in {ledger()}: {error}. {fix}") from None
    return prediction


def score(prediction: Prediction, truth: float) -> ForecastScore:
    """Compare a prediction with the truth, and store the truth.

    Raises `LabError` if the truth is not a finite number.
    """
    truth = _number("truth", truth)
    counts = standing(prediction.question_id).prediction == prediction
    note = ""
    try:
        if not keep_truth(prediction.question_id, truth) and not counts:
            note = " You made it after the answer was known, so it does not count for your calibration."
    except OSError as error:
        note, counts = f" This could not be kept: {error}.", False
    inside, value = prediction.contains(truth), interval_score(prediction, truth)
    return ForecastScore(prediction, truth, inside, value, counts, _sentence(prediction, truth, value) + note)


def keep_truth(question_id: str, truth: float) -> bool:
    """Store the truth of a question, if none is known: only the first one is what was asked. Returns whether it was stored."""
    if standing(question_id).truth is not None:
        return False
    append_row(ledger(), {"kind": "truth", "question_id": question_id, "truth": truth})
    return True


def standing(question_id: str) -> Entry:
    """What is known of one question."""
    return entries()[0].get(question_id, Entry())


def interval_score(prediction: Prediction, truth: float) -> float:
    """Winkler's interval score: width plus 2/alpha times the distance by which it misses, alpha = 1 - confidence; smaller is better.

    It is a proper score: in expectation, the true quantiles at alpha/2 and 1 - alpha/2 have the best one.

    Source: Gneiting & Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102, equation 43.
    """
    alpha = 1 - prediction.confidence
    miss = max(prediction.low - truth, truth - prediction.high, 0.0)
    return (prediction.high - prediction.low) + 2 / alpha * miss


def calibration() -> dict[str, Any]:
    """How well calibrated your predictions are: for each question whose truth is known, the last one made before that.

    Returns n, hit_rate, mean_confidence and brier, the mean of (inside - confidence) squared with inside 1 or 0 (0 is best; always 50%
    gives 0.25), each None if n is 0; waiting, predictions without a truth; unreadable, damaged rows that are left out, and foreign, rows of
    another version of the lab, which stay in the file too; and sentence, the same in words, with the lines of these rows.
    """
    asked, damaged, foreign = entries()
    known = [(e.prediction, e.truth) for e in asked.values() if e.prediction and e.truth is not None]
    scored = [(prediction, prediction.contains(truth)) for prediction, truth in known]
    result: dict[str, Any] = {"n": len(scored), "hit_rate": None, "mean_confidence": None, "brier": None}
    result |= {"waiting": sum(e.truth is None for e in asked.values()), "unreadable": len(damaged), "foreign": len(foreign)}
    n, hits = len(scored), sum(inside for _, inside in scored)
    told = f"{left_out(ledger(), damaged)} {_of_another_version(foreign)}".strip()
    if not n:
        return {**result, "sentence": f"No prediction has been scored yet. {told}".rstrip()}
    sure = math.fsum(p.confidence for p, _ in scored) / n
    brier = math.fsum((inside - p.confidence) ** 2 for p, inside in scored) / n
    words = f"{hits} of {n} intervals contained the truth ({hits / n:.0%}); you were {sure:.0%} sure on average."
    if n < FEW:
        words += f" With fewer than {FEW}, that may be chance."
    return {**result, "hit_rate": hits / n, "mean_confidence": sure, "brier": brier, "sentence": f"{words} {told}".rstrip()}


def ledger() -> Path:
    """The file of all predictions and truths."""
    return home_dir() / "predictions.jsonl"


@dataclasses.dataclass(slots=True)
class Entry:
    """What is known of a question: the prediction that counts, and the truth."""

    prediction: Prediction | None = None
    truth: float | None = None


def entries(rows: Mapping[int, Mapping[str, Any] | None] | None = None) -> tuple[dict[str, Entry], list[int], list[int]]:
    """For each question, the prediction that counts and its truth; the lines that are damaged; and whole lines of another version.

    rows: of a ledger, by their line; those of this machine if None.
    """
    entries: dict[str, Entry] = {}
    damaged, foreign = list[int](), list[int]()
    for line, row in (rows_of(ledger()) if rows is None else rows).items():
        if row is None:
            damaged.append(line)
            continue
        try:
            if (kind := row["kind"]) == "pass":
                continue
            entry = entries.get(row["question_id"], Entry())
            made = Prediction(**{name: row[name] for name in _FIELDS if name in row}) if kind == "prediction" else None
            truth = None if made else _number("truth", row["truth"])
            if entry.truth is None:  # a prediction made after the truth was known stays in the file, but does not count
                entry.prediction, entry.truth = made or entry.prediction, truth
            entries[row["question_id"]] = entry
        except UNREADABLE:  # its checksum is right, so a lab has written it
            foreign.append(line)
    return entries, damaged, foreign


def _of_another_version(lines: list[int]) -> str:
    """A sentence on rows that only another version of the lab can read; "" if there are none."""
    if not lines:
        return ""
    are, count, them = ("were", "are", "them") if len(lines) > 1 else ("was", "is", "it")
    fix = f"a newer lab, or the one that wrote {them}, reads {them}"
    return f"{named_lines(lines)} of {ledger()} {are} written by another version of the lab, and {count} kept but not counted: {fix}."


# ---- parts -----------------------------------------------------------------------------------------------------------


def _sentence(prediction: Prediction, truth: float, value: float) -> str:
    t, low, high = _distinct(truth, prediction.low, prediction.high)
    held = f"your {low} to {high}{_of(prediction.unit)}, {prediction.confidence:.0%} sure"
    penalty = f"Penalty {value:.3g} = width {prediction.high - prediction.low:.3g}"
    if prediction.contains(truth):
        return f"{t} lies inside {held}. {penalty} (lower is better: a narrower range with the result in it)."
    miss, factor = max(prediction.low - truth, truth - prediction.high), 2 / (1 - prediction.confidence)
    side = "below" if truth < prediction.low else "above"
    fair = f"About {1 - prediction.confidence:.0%} of such ranges should miss, so one miss proves little."
    return f"Missed by {miss:.3g}: {t} lies {side} {held}. {penalty} + {factor:.3g} x miss (lower is better). {fair}"


def _of(unit: str) -> str:
    return f" ({unit})" if unit else ""


def _distinct(*values: float) -> list[str]:
    """The numbers with the fewest digits that keep them distinct: no sentence may say that 0.80 lies above 0.8."""
    for digits in range(2, 17):
        texts = [f"{v:.{digits}g}" for v in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def _number(name: str, value: Any) -> float:
    """A finite float. Accepts single numbers of numpy and torch."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise LabError(f"{name}={shown(value)} must be a number, as in {name}=0.7.")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise LabError(f"{name}={shown(value)} must be a single number, as in {name}=0.7.") from None
    if not math.isfinite(number):
        raise LabError(f"{name}={number} must be finite: give a measured number, as in {name}=0.7.")
    return number
