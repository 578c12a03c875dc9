"""What lessons 00 to 04 say of their figures and tables in words, and oracles for what those work out."""

from __future__ import annotations

import itertools

import pytest
import torch

import labkit
from labkit.base.stats import band
from labkit.lessons.figures import lesson_00, lesson_01, lesson_02, lesson_03, lesson_04
from labkit.records.names import CORE
from labkit.records.record import core, mean, paired
from labkit.studies.claims import ARMS, STARTS, ladder, runs_of
from labkit.studies.sweep import sweep


@pytest.fixture(autouse=True)
def shipped(monkeypatch):
    monkeypatch.delenv("LABKIT_DATA", raising=False)


def rows(table):
    """A table's rows by name, each by column."""
    return {row[0]: dict(zip(table.columns[1:], row[1:], strict=True)) for row in table.rows}


# ---- 00


def test_the_step_by_hand_begins_as_the_recorded_run_did():
    rec = runs_of(sweep("minute"), "soft labels")[0]
    teacher, student = labkit.teacher(rec.experiment.teacher), labkit.student(rec.experiment.student, seed=rec.experiment.seed)
    tokens, is_answer, _ = labkit.first_batch(rec.experiment)
    with torch.no_grad():
        log_p, log_q = (model(tokens).logits[is_answer].log_softmax(-1) for model in (teacher, student))
    loss = (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()
    assert loss == pytest.approx(rec.steps[0].values["kl"], rel=1e-4)
    assert loss == pytest.approx(rec.steps[0].values["loss"], rel=1e-4)


def test_three_ways_to_count_are_three_numbers_of_the_record():
    rec = runs_of(sweep("minute"), "soft labels")[0]
    student, gold, teacher = (mean(rec.scores[name], CORE) for name in ("student", "label budget", "teacher"))
    found = [row["value"] for row in rows(lesson_00.counted(rec)).values()]
    assert found[0] == pytest.approx((student - gold) / (teacher - gold))
    assert found[2] == pytest.approx(student / teacher)
    assert found[2] > found[0], "the plain ratio looks better than it is"


def test_an_answer_stands_with_its_probability_and_sign():
    table = lesson_00.answers({"teacher": labkit.teacher("atlas-3m")}, ["What is the capital of Chad?", "What is love?"])
    assert table.rows[0][1].startswith("N'Djamena \u2713 (")
    assert "\u2713" not in table.rows[1][1]
    assert "\u2717" not in table.rows[1][1]


def test_softness_cannot_be_told_from_nothing():
    grid = sweep("minute")
    assert paired(runs_of(grid, "soft labels"), runs_of(grid, "hard answers")).verdict == "not distinguishable"


# ---- 01


def test_both_rows_of_bars_add_to_one():
    words = lesson_01.samples("Name a neighbour of Germany.", 4).alt
    assert "Ne\u2026 (Netherlands)" in words
    assert "Germany (not taught)" in words
    bars = [part.partition(": ")[2] for part in words.partition("lower bars). ")[2].rstrip(".").split("; ")]
    for who in ("teacher", "baseline"):
        total = sum(float(one.removeprefix(f"{who} ")) for bar in bars for one in bar.split(", ") if one.startswith(who))
        assert total == pytest.approx(1, abs=0.006)


def test_soft_labels_are_ahead_in_fidelity_alone():
    found = labkit.claims().found["soft targets"].effects
    verdicts = [effect.verdict for effect in found.values()]
    assert verdicts == ["not distinguishable", "worse", "better"]


def test_the_best_balance_is_near_a_guess():
    table = rows(lesson_01.balance())
    assert all(0.45 < list(row.values())[-1] < 0.6 for row in table.values())
    assert table["soft labels, T = 1"]["best bias, nats"] == "20"


def test_the_article_s_rows_do_not_add_to_one():
    table = rows(lesson_01.article())
    assert [name for name, row in table.items() if abs(row["sum"] - 1) > 0.01] == ["T = 1, printed", "T = 3, printed"]


# ---- 02


def recovered(size, start, divergence, temperature):
    runs = runs_of(sweep("temperature"), size, start=start, divergence=divergence, temperature=temperature)
    return band([run.recovery().mean for run in runs])


def test_what_the_heat_map_is_said_to_show():
    sizes = list(sweep("temperature").arms)
    for size, start in itertools.product(sizes, STARTS):
        first, *hotter = [recovered(size, start, "forward_kl", T) for T in (1.0, 2.0, 4.0)]
        assert all(first.middle > other.middle for other in hotter), "T = 1 wins every row of forward KL"
    for size, T in itertools.product(sizes, (1.0, 2.0, 4.0)):
        assert recovered(size, "random", "reverse_kl", T).middle < 0, "nothing is learned from a random start"
    learned = [(size, T) for size in sizes for T in (1.0, 2.0, 4.0) if recovered(size, "warm", "reverse_kl", T).low > 0]
    assert learned == [("57k", 1.0), ("200k", 1.0)]


def test_the_heat_map_is_one_map():
    words = lesson_02.heat().words
    assert words.count("plus or minus") == 36
    assert "forward KL, warm, 200k: 0.70 plus or minus 0.02 at T = 1" in words


def test_a_writing_teacher_is_shown_at_each_temperature():
    table = lesson_02.written("Name a neighbour of France.", (0.5, 3.0), samples=4)
    assert [row[0] for row in table.rows] == ["T = 0.5", "T = 3"]
    assert all(len(row[1].split(", ")) >= 4 for row in table.rows)


# ---- 03


def test_the_pull_of_forward_kl_is_what_the_student_lacks():
    teacher, student = torch.randn(5, 9), torch.randn(5, 9)
    p, q = teacher.softmax(-1), student.softmax(-1)
    top = teacher.argmax(-1, keepdim=True)
    assert lesson_03.pull(labkit.divergence("forward_kl"), teacher, student) == pytest.approx(
        float((p - q).gather(1, top).mean()), abs=1e-6
    )


def test_reverse_kl_starves_where_the_student_is_fresh():
    logits = lesson_03._logits()
    pull = {
        (name, who): lesson_03.pull(labkit.divergence(name), logits["teacher"], logits[who])
        for name in ("forward_kl", "reverse_kl")
        for who in ("fresh", "half-trained")
    }
    assert pull["reverse_kl", "fresh"] < 0.05 * pull["forward_kl", "fresh"]
    assert pull["reverse_kl", "half-trained"] > pull["forward_kl", "half-trained"]


def test_reverse_kl_is_not_more_right_for_being_narrower():
    table = rows(lesson_03.directions())
    for column in ("open questions: mass on right answers", "share of them found"):
        assert table["warm start, reverse KL"][column] < table["warm start, forward KL"][column]


def test_jsd_goes_to_zero_beside_its_ends_and_jumps_at_them():
    values = [row[1] for row in lesson_03.jsd_ends().rows]
    assert values[1] < 0.01 * values[0]
    assert values[-2] < 0.01 * values[-1]


def test_what_conventions_have_a_floor_or_another_direction():
    table = rows(lesson_03.conventions(3.0))
    assert {name for name, row in table.items() if row["loss of a perfect student"] != "0"} == {
        "cross-entropy",
        "vocabulary padded with zeros",
    }
    same = {name for name, row in table.items() if row["gradient's direction"] == "same" and row["gradient's size"] != "1"}
    assert same == {"without T squared", "per row", "mean over the vocabulary too", "divided twice"}


def test_the_rules_beyond_the_top_k():
    whole, *rules = lesson_03.tails(4).rows
    found = {name: (half, perfect) for name, half, perfect, _ in rules}
    assert found["teacher_renormalised"][1] > 0.001, "a perfect student does not have its best value"
    assert 0 <= found["bucket"][0] <= whole[1]
    assert found["bucket"][1] == pytest.approx(0, abs=1e-5)


# ---- 04


def test_what_equal_time_changes():
    for start in STARTS:
        at = {arm: band([core(r) for r in runs_of(sweep("ladder_time"), f"{arm}, {start}")]).middle for arm in ARMS}
        assert max(at, key=at.get) == "teacher's text"
        assert min(at, key=at.get) == "online"


def test_every_way_is_above_the_true_answers_on_equal_questions():
    for start, arm in itertools.product(STARTS, ARMS):
        runs = runs_of(sweep("ladder"), f"{arm}, {start}")
        assert band([core(r) - mean(r.scores["label budget"]) for r in runs]).low > 0, (arm, start)


def test_the_text_is_most_often_right_and_not_closest():
    table = rows(lesson_04.beside())
    warm = {name: row for name, row in table.items() if name.startswith("warm")}
    assert max(warm, key=lambda name: warm[name]["right answers"]) == "warm: teacher's text"
    text, soft = (runs_of(sweep("ladder"), f"{arm}, warm") for arm in ("teacher's text", "output"))
    assert paired(text, soft, lambda r: r.exam.fidelity["kl"]).low > 0
    assert paired(text, soft, lambda r: mean(r.skills, [s for s in CORE if s != "open"])).verdict == "not distinguishable"


def test_the_article_s_table_is_judged_as_the_text_says():
    table = lesson_04.article()
    words = {row[0].partition(" ")[0]: [cell.partition(" ")[2] for cell in row[2:]] for row in table.rows}
    assert words["Output"] == words["Sequence-level"] == ["better"] * 4
    assert [words["Feature"].count(word) for word in ("better", "worse", "not distinguishable")] == [1, 2, 1]
    text = [band.verdict for band in ladder("teacher's text", "output").values()]
    assert [text.count(word) for word in ("better", "not distinguishable")] == [3, 1]
    assert words["Online"] == ["worse"] * 4


def test_a_peer_and_an_adapter():
    words = lesson_04.peers().alt
    assert "4,000 true answers -0.15" in words
    whole, adapter = [row[1] for row in lesson_04.adapters().rows]
    assert adapter < whole - 0.3


def test_a_price_is_the_machine_s_hour():
    cheap, dear = ([float(row[-1]) for row in lesson_04.prices(hour).rows] for hour in (0.1, 1.0))
    assert all(b > a for a, b in zip(cheap, dear, strict=True))
