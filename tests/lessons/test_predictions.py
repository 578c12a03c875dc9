"""Predictions are kept, scored by a proper rule, and counted honestly."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import re
import statistics
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import LabError
from labkit.base.files import append_row
from labkit.lessons.predictions import Prediction, calibration, interval_score, ledger, predict, score

FINITE = st.floats(-1e6, 1e6)


def rows():
    return [json.loads(line) for line in ledger().read_text().splitlines()]


@pytest.mark.parametrize(
    ("low", "high", "confidence", "truth", "value"),
    [
        (0.6, 0.8, 0.8, 0.71, 0.2),  # inside: the width
        (0.6, 0.8, 0.8, 0.6, 0.2),  # the ends belong to it
        (0.6, 0.8, 0.8, 0.9, 0.2 + 2 / 0.2 * 0.1),  # above
        (0.6, 0.8, 0.5, 0.5, 0.2 + 2 / 0.5 * 0.1),  # below
        (0.6, 0.8, 0.95, -0.4, 0.2 + 2 / 0.05 * 1.0),
        (0.7, 0.7, 0.9, 0.7, 0.0),  # a point that is hit costs nothing
    ],
)
def test_interval_score_by_hand(low, high, confidence, truth, value):
    assert interval_score(Prediction("q", low, high, confidence), truth) == pytest.approx(value)


@given(a=FINITE, b=FINITE, confidence=st.floats(0.01, 0.99), truth=FINITE)
def test_interval_score_is_the_sum_of_two_pinball_losses(a, b, confidence, truth):
    """Gneiting & Raftery: the score is 2/alpha times the quantile losses of both ends."""
    low, high = sorted((a, b))
    alpha = 1 - confidence

    def pinball(quantile, level):
        return (truth - quantile) * (level - (truth < quantile))

    oracle = 2 / alpha * (pinball(low, alpha / 2) + pinball(high, 1 - alpha / 2))
    assert interval_score(Prediction("q", low, high, confidence), truth) == pytest.approx(oracle, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_no_other_interval_beats_the_true_quantiles(confidence):
    rng, normal = random.Random(0), statistics.NormalDist(0.7, 0.1)
    draws = [rng.gauss(0.7, 0.1) for _ in range(20_000)]
    ends = [normal.inv_cdf((1 - confidence) / 2), normal.inv_cdf((1 + confidence) / 2)]

    def average(low, high):
        prediction = Prediction("q", low, high, confidence)
        return statistics.fmean(interval_score(prediction, x) for x in draws)

    best = average(*ends)
    for dl, dh in ((0.05, 0), (-0.05, 0), (0, 0.05), (0, -0.05), (0.04, -0.04), (-0.04, 0.04), (0.05, 0.05)):
        if ends[0] + dl <= ends[1] + dh:
            assert average(ends[0] + dl, ends[1] + dh) > best


def test_the_sentence_tells_what_happened():
    inside = score(predict("a", 0.6, 0.8, 0.8, unit="recovery"), 0.71)
    assert inside.inside
    assert inside.counts
    assert inside.sentence.startswith("0.71 lies inside your 0.6 to 0.8 (recovery), 80% sure. Penalty 0.2 = width 0.2 (lower is better")
    above, below = score(predict("b", 0.6, 0.8, 0.9), 0.85), score(predict("c", 0.6, 0.8, 0.9), -0.2)
    assert not above.inside
    assert above.sentence.startswith(
        "Missed by 0.05: 0.85 lies above your 0.6 to 0.8, 90% sure. Penalty 1.2 = width 0.2 + 20 x miss (lower"
    )
    assert "lies below" in below.sentence
    assert above.interval == pytest.approx(1.2)


@pytest.mark.parametrize("truth", [0.8004, 0.80000001, 0.5996])
def test_no_sentence_says_that_a_number_lies_above_itself(truth):
    words = score(predict("q", 0.6, 0.8, 0.8), truth).sentence
    said = words.split(": ")[1].split()[0]
    assert said not in ("0.8", "0.6")
    assert said in words


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"low": 0.9}, r"low=0\.9 is above high=0\.8: give the smaller number first, as in 0\.8, 0\.9"),
        ({"confidence": 80}, "write 0.8 for 80%"),
        ({"confidence": 1}, "below 1"),
        ({"confidence": 0}, "above 0"),
        ({"confidence": 250}, "write 0.8 for 80%"),
        ({"low": math.nan}, "finite"),
        ({"high": math.inf}, "finite"),
        ({"high": "0.8"}, "must be a number"),
        ({"low": None}, "must be a number"),
        ({"confidence": True}, "must be a number"),
        ({"question_id": " "}, "names the question"),
        ({"question_id": 7}, "names the question"),
    ],
)
def test_what_cannot_be_a_prediction_is_refused_and_not_kept(changes, says):
    with pytest.raises(LabError, match=says):
        predict(**({"question_id": "q", "low": 0.6, "high": 0.8, "confidence": 0.8} | changes))
    assert not ledger().exists()


@pytest.mark.parametrize("truth", [math.nan, math.inf, None, "0.7", True])
def test_a_truth_that_is_no_number_is_refused_and_not_kept(truth):
    prediction = predict("q", 0.6, 0.8, 0.8)
    with pytest.raises(LabError, match="truth="):
        score(prediction, truth)
    assert len(rows()) == 1


def test_predictions_are_frozen_and_numbers_of_other_libraries_are_taken():
    import numpy

    prediction = predict("q", numpy.float32(0.5), 1, numpy.float64(0.9))
    assert type(prediction.low) is type(prediction.high) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.low = 0.0


def test_the_last_prediction_before_the_truth_counts_and_all_rows_stay():
    predict("q", 0.0, 0.1, 0.5)
    last = predict("q", 0.6, 0.8, 0.9)
    assert calibration()["n"] == 0
    assert calibration()["waiting"] == 1
    assert score(last, 0.7).counts
    late = predict("q", 0.69, 0.71, 0.95)  # made with the answer on the screen
    scored = score(late, 0.7)
    assert not scored.counts
    assert "after the answer was known" in scored.sentence
    found = calibration()
    assert (found["n"], found["hit_rate"], found["mean_confidence"]) == (1, 1.0, 0.9)
    assert found["brier"] == pytest.approx(0.01)
    assert found["unreadable"] == 0
    assert [row["kind"] for row in rows()] == ["prediction", "prediction", "truth", "prediction"]


def test_an_earlier_prediction_that_was_replaced_does_not_count():
    first = predict("q", 0.6, 0.8, 0.9)
    predict("q", 0.0, 0.1, 0.5)
    assert not score(first, 0.7).counts
    assert calibration()["hit_rate"] == 0.0


def test_a_second_run_of_the_same_question_does_not_change_the_first_truth():
    guess = predict("q", 0.6, 0.8, 0.8)
    score(guess, 0.7)
    assert not score(guess, 0.95).inside
    assert calibration()["hit_rate"] == 1.0
    assert len(rows()) == 2


def test_calibration_counts_hits_against_confidence():
    for i, (confidence, truth) in enumerate([(0.5, 0.5), (0.8, 0.5), (0.8, 2.0), (0.9, 0.5)]):
        score(predict(f"q{i}", 0.0, 1.0, confidence), truth)
    found = calibration()
    assert found["n"] == 4
    assert found["hit_rate"] == 0.75
    assert found["mean_confidence"] == pytest.approx(0.75)
    assert found["brier"] == pytest.approx((0.25 + 0.04 + 0.64 + 0.01) / 4)
    assert "3 of 4" in found["sentence"]
    assert "may be chance" in found["sentence"]


def test_calibration_of_nothing():
    assert calibration() == {
        "n": 0,
        "hit_rate": None,
        "mean_confidence": None,
        "brier": None,
        "waiting": 0,
        "unreadable": 0,
        "foreign": 0,
        "sentence": "No prediction has been scored yet.",
    }


def test_a_line_cut_short_costs_only_itself():
    score(predict("a", 0.0, 1.0, 0.8), 0.5)
    with ledger().open("ab") as file:
        file.write('{"kind": "prediction", "question_id": "cut \u00e9'.encode()[:-1])  # in the middle of a character
    assert calibration()["n"] == 1
    assert calibration()["unreadable"] == 1
    assert score(predict("b", 0.0, 1.0, 0.8), 3.0).counts, "the next row begins on a line of its own"
    found = calibration()
    assert found["n"] == 2
    assert found["hit_rate"] == 0.5
    assert found["unreadable"] == 1


@pytest.mark.parametrize(
    ("line", "said", "edited", "n"),
    [
        (1, '"low": 0.6', '"low": 0.1', 1),  # the truth of a has no prediction
        (2, '"truth": 0.9', '"truth": 0.7', 1),  # a has no truth yet
        (3, '"seal":"', '"seal":"0', 1),  # b has no prediction
        (3, '"confidence": 0.8', '"confidence": 0.9', 1),
    ],
)
def test_a_row_with_another_digit_is_not_believed(line: int, said: str, edited: str, n: int):
    score(predict("a", 0.6, 0.8, 0.8), 0.9)
    score(predict("b", 0.0, 1.0, 0.8), 0.5)
    lines = ledger().read_text().splitlines()
    assert said in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(said, edited)
    ledger().write_text("\n".join(lines) + "\n")
    found = calibration()
    assert (found["n"], found["unreadable"]) == (n, 1)
    assert found["sentence"].endswith(
        f"Line {line} of {ledger()} is damaged, cut short or edited, and is left out: put it back from a copy of the file, or delete it."
    )
    score(predict("c", 0.0, 1.0, 0.8), 0.5)
    assert calibration()["n"] == n + 1, "and the file is still of use"


def test_a_row_of_before_without_a_checksum_is_read():
    score(predict("a", 0.0, 1.0, 0.8), 0.5)
    ledger().write_text(re.sub(',"seal":"[0-9a-f]+"', "", ledger().read_text()))
    assert "seal" not in ledger().read_text()
    assert calibration()["n"] == 1 and calibration()["unreadable"] == 0


@pytest.mark.parametrize("junk", ["[]", "7", '{"kind": "truth"}', '{"kind": "guess", "question_id": "x"}', '{"question_id": []}'])
def test_rows_that_are_not_ours_are_left_out(junk):
    score(predict("a", 0.0, 1.0, 0.8), 0.5)
    with ledger().open("a") as file:
        file.write(junk + "\n")
    assert calibration()["n"] == 1
    assert calibration()["unreadable"] == 1


def test_a_range_of_no_width_is_told_what_it_means():
    assert "any other result is a miss" in repr(predict("q", 0.36, 0.36, 0.8))
    assert repr(predict("q", 0.3, 0.4, 0.8, unit="recovery")) == "Prediction('q: 0.3 to 0.4 (recovery), 80% sure.')"


def test_rows_of_another_version_are_kept_and_told():
    """A newer lab may write more fields of a prediction, which do no harm, and rows of other kinds, which are for it alone."""
    append_row(ledger(), {"kind": "prediction", "question_id": "a", "low": 0.0, "high": 1.0, "confidence": 0.8, "mood": "brave"})
    score(Prediction("a", 0.0, 1.0, 0.8), 0.5)
    before = calibration()
    assert (before["n"], before["foreign"]) == (1, 0)
    append_row(ledger(), {"kind": "hunch", "question_id": "b", "sort": "up"})
    append_row(ledger(), {"kind": "prediction", "question_id": "c", "span": [0, 1]})
    found = calibration()
    assert (found["n"], found["unreadable"], found["foreign"]) == (1, 0, 2)
    assert f"Lines 3, 4 of {ledger()} were written by another version of the lab, and are kept but not counted" in found["sentence"]
    assert len(rows()) == 4


def test_threads_do_not_mix_their_rows():
    threads = [threading.Thread(target=lambda k=k: [predict(f"{k}-{i}", 0, 1, 0.5) for i in range(50)]) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({row["question_id"] for row in rows()}) == 200


def test_a_full_disk_is_a_sentence_for_a_prediction_and_no_harm_to_a_score(monkeypatch):
    kept = predict("q", 0.6, 0.8, 0.8)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LabError, match="No space left"):
        predict("r", 0.6, 0.8, 0.8)
    found = score(kept, 0.7)
    assert found.inside
    assert not found.counts
    assert "could not be kept" in found.sentence
