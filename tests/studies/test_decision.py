"""The decision after a distillation follows from scores on the same prompts; what an exam cannot tell is said with what would tell it."""

from __future__ import annotations

import dataclasses
import random

import pytest
import stories

from labkit.base.stats import Band
from labkit.records import events as ev
from labkit.records.record import Record
from labkit.studies.decision import Decision, _needed, decide, examples, head
from labkit.tasks.custom.rows import Row
from labkit.tasks.metrics import better, metric


@pytest.mark.parametrize(
    ("result", "verdict", "why"),
    [
        (
            dict(n=200, untouched=0.1, gold=0.5, distilled=0.8),
            "Use the distilled student.",
            "+0.30 (+0.24 to +0.36) against the same student",
        ),
        (dict(n=200, untouched=0.1, gold=0.8, distilled=0.5), "Use the student on gold labels.", "It scores more."),
        (dict(n=200, untouched=0.1, gold=0.8, distilled=0.8), "Use the student on gold labels.", "It is as good, and needs no teacher."),
        (dict(n=200, untouched=0.1, gold=0.2, distilled=0.3), "Keep the teacher.", "went 22% of the way"),
        (dict(n=200, untouched=0.0, gold=0.0, distilled=0.0), "Keep the teacher.", "begun to learn, in 60 steps, but"),
        (
            dict(n=200, untouched=0.0, gold=0.0, distilled=0.0, kl=(6.9, 6.8)),
            "Keep the teacher.",
            "did not learn, in 60 steps. It scores 0.00",
        ),
        (dict(n=40, untouched=0.1, gold=0.6, distilled=0.65), "Cannot tell.", "more rows with responses (one in 5 is held out)"),
        (dict(n=200, untouched=0.1, distilled=0.8), "Cannot tell.", "Run the same again without --no-baseline."),
        (
            dict(n=200, untouched=0.9, gold=0.9, distilled=0.9, teacher=0.9),
            "Use the student as it came.",
            "The teacher does not score more",
        ),
        (
            dict(n=12, untouched=0.0, gold=0.0, distilled=0.0, teacher=0.1),
            "Cannot tell.",
            "12 held-out prompts. It cannot tell a difference under ±0.26",
        ),
        (dict(n=200, untouched=0.8, gold=0.4, distilled=0.4, teacher=0.6), "Use the student as it came.", "Try a lower --learning-rate"),
        (dict(n=200, untouched=0.8, gold=0.4, distilled=0.4, teacher=1.0), "Keep the teacher.", "Training made the student worse: -0.40"),
        (
            dict(n=200, untouched=0.8, gold=0.4, distilled=0.4, teacher=None),
            "Use the student as it came.",
            "Training made the student worse",
        ),
        (dict(n=200, untouched=0.8, gold=0.8, distilled=0.4, teacher=0.85), "Keep the teacher.", "more than the student as it came."),
        (dict(n=19, untouched=0.0, gold=0.1, distilled=1.0), "Cannot tell.", "fewer than 20 prompts, a difference can come from chance"),
        (dict(n=20, untouched=0.0, gold=0.1, distilled=1.0), "Use the distilled student.", "+0.90"),
        (dict(n=20, untouched=0.0, gold=0.75, distilled=1.0), "Cannot tell.", "Only 5 of the prompts differ, which can come from chance."),
        (dict(n=20, untouched=0.0, gold=0.7, distilled=1.0), "Use the distilled student.", "+0.30"),
        (dict(n=1, untouched=0.0, gold=1.0, distilled=1.0), "Cannot tell.", "Give some hundred rows with responses."),
    ],
)
def test_each_decision_and_its_reason(result: dict, verdict: str, why: str):
    decision = decide(stories.distilled(**result))
    assert decision.verdict == verdict
    assert why in " ".join(decision.reasons)
    assert any(reason.startswith(f"Exam: {result['n']} held-out prompt") for reason in decision.reasons)


def test_a_difference_hardly_matters_only_if_its_whole_band_is_small():
    """A narrow band around 0.04 may reach 0.07: more rows would tell. It is the band of the two that are to be chosen from."""
    small, more = "it hardly matters which", "more rows with responses"
    for low, high, told in ((-0.04, 0.05, small), (-0.05, 0.01, small), (-0.01, 0.07, more), (-0.02, 0.0501, more), (-0.3, 0.3, more)):
        assert told in _needed(Band((low + high) / 2, low, high, 400)), (low, high)
    assert more in _needed(Band(0.0, -0.04, 0.04, 5)), "a few prompts that happen to agree tell nothing"
    told = decide(stories.distilled(200, untouched=0.0, gold=0.02, distilled=0.02, teacher=0.025))
    assert told.verdict == "Cannot tell." and "\N{PLUS-MINUS SIGN}0.02" in told.reasons[-1], "the student against itself before"


def test_no_loss_is_told_of_a_student_whose_record_it_is_not():
    told = decide(stories.distilled(200, untouched=0.2, gold=0.21, distilled=0.1))
    assert told.verdict == "Keep the teacher." and "loss in training" not in told.reasons[0] and "It scores 0.21" in told.reasons[0]


@pytest.mark.parametrize("n", [8, 20])
def test_alike_students_are_seldom_told_apart(n: int):
    """The false alarms of small exams: two students that are right with the same chance on each prompt."""
    chance, wrong = random.Random(0), 0
    for _ in range(100):
        done = stories.distilled(n, untouched=0.0, gold=0.5, distilled=0.5)
        rows = [Row(f"prompt {i}", "right", i) for i in range(n)]
        for name in ("gold labels", "distilled"):
            done.scores[name] = metric("exact")([chance.choice(["right", "wrong"]) for _ in rows], rows)
        wrong += decide(done).verdict in ("Use the distilled student.", "Use the student on gold labels.")
    assert wrong <= 8, "of 100"


@pytest.mark.parametrize(
    ("teacher", "told"),
    [(100_000, ""), (104_000, ""), (106_000, "1.1 times"), (985_000, "9.8 times"), (996_000, "10 times"), (13_600_000, "136 times")],
)
def test_how_many_times_smaller_is_a_plain_number(teacher: int, told: str):
    done = stories.distilled(40, untouched=0.1, gold=0.5, distilled=0.8)
    told_of = Record(
        [
            dataclasses.replace(e, teacher_parameters=teacher, student_parameters=100_000) if isinstance(e, ev.Started) else e
            for e in done.record.events
        ]
    )
    said = done._replace(record=told_of).smaller()
    assert (f" {told} fewer parameters" in said) if told else said == ""


def test_the_loss_tells_whether_it_learned_where_no_kl_can():
    """Between two vocabularies there is no KL. The loss of the story falls from 6.8 to 0.35."""
    told = decide(stories.distilled(200, untouched=0.0, distilled=0.0, kl=()))
    assert "has begun to learn" in told.reasons[0] and "KL" not in told.reasons[0]


def test_as_many_prompts_as_it_asks_for_tell_the_difference():
    """An oracle for the advice: with so many more rows, of which one in five is held out, the band is as narrow as it says."""
    few = stories.distilled(40, untouched=0.1, gold=0.6, distilled=0.65)
    advice = decide(few).reasons[-1]
    wanted = int(advice.split("takes about ")[1].split(" ")[0].replace(",", ""))
    more = int(advice.split("give about ")[1].split(" ")[0].replace(",", ""))
    assert 40 + more / 5 == pytest.approx(wanted, rel=0.1)
    many = stories.distilled(wanted, untouched=0.1, gold=0.6, distilled=0.65)
    band = better(many.scores["distilled"], many.scores["gold labels"])
    assert (band.high - band.low) / 2 == pytest.approx(0.05, rel=0.25)


def test_it_says_what_is_saved_and_what_it_costs():
    result = stories.distilled(200, untouched=0.1, gold=0.5, distilled=0.8)
    assert "14 times fewer parameters" in " ".join(decide(result).reasons)
    assert repr(result).startswith("Decision: Use the distilled student.\n  The student scores 0.80")
    assert "Cost of this run: less than US$ 0.01 for 4 s of this machine" in repr(result)
    stopped = result._replace(record=Record([e for e in result.record.events if not isinstance(e, ev.Finished)]))
    assert "Cost" not in repr(stopped)


def test_a_decision_is_read_line_by_line():
    assert str(Decision("Keep the teacher.", ("Why.", "Exam."))) == "Decision: Keep the teacher.\n  Why.\n  Exam."


HOSTILE = "<script>alert(1)</script>\n" + "x" * 500


def test_rows_of_others_are_cut_to_a_line_and_are_no_markup():
    result = stories.distilled(20, untouched=0.0, distilled=0.5, gold=0.1)._replace(shown=({"prompt": HOSTILE, "student": "a\nb"},))
    told = examples(result).splitlines()
    assert len(told) == 3 and max(map(len, told)) < 200
    page = head(result, shown=True)
    assert "<script" not in page and "&lt;script&gt;" in page and "of 20 held-out prompts" in page
    assert "script" not in head(result, shown=False)
