"""Scores of answers: each against a slow reading of its definition, their bands, and what is refused."""

from __future__ import annotations

import collections
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.base.errors import LabError
from labkit.tasks.custom.rows import Row
from labkit.tasks.metrics import METRICS, better, metric
from labkit.tasks.metrics.text import number, plain

WORDS = st.lists(st.sampled_from(["the", "a", "cat", "Cat!", "sat", "on", "mat.", "-"]), max_size=6).map(" ".join)
LABELS = st.lists(st.tuples(st.sampled_from(["x", "y", "z", "none of them"]), st.sampled_from("xyz")), min_size=1, max_size=30)


def rows_of(*references: str | None) -> list[Row]:
    return [Row(f"prompt {i}", reference, i) for i, reference in enumerate(references, 1)]


def one(spec: str, answer: str, reference: str | None = None) -> float:
    return metric(spec)([answer], rows_of(reference)).mean


# ---- definitions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("Paris.", "paris", True),
        ('  "Paris" ', "Paris", True),
        ("new\n york", "New York", True),
        ("Ｐａｒｉｓ", "Paris", True),
        ("-5", "5", False),
        (".5", "5", False),
        ("C#", "C", False),
        ("résumé", "resume", False),
        ("की", "का", False),
        ("?", "!", False),
        ("", "x", False),
    ],
)
def test_exact(answer, reference, same):
    assert one("exact", answer, reference) == same == (plain(answer) == plain(reference))


def test_contains_takes_whole_words():
    assert one("contains", "It is Lima, I think.", "lima") == 1
    assert one("contains", "Limassol", "Lima") == one("contains", "", "Lima") == 0
    assert one("contains", "use C++ here", "C++") == 1


def test_patterns():
    assert one("regex:^[A-Z]{2}$", " DE\n") == 1 and one("regex:^[A-Z]{2}$", "DEU") == 0
    assert one("regex:a:b", "xa:by") == 1
    assert one("pattern", "4.0", r"^4(\.0+)?$") == 1 and one("pattern", "41", r"^4(\.0+)?$") == 0


def squad_f1(said: str, wanted: str) -> float:
    """As in evaluate-v2.0.py: precision and recall over words without punctuation and articles."""

    def words(text: str) -> list[str]:
        text = re.sub(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]", "", text.lower())
        return [word for word in text.split() if word not in ("a", "an", "the")]

    a, b = words(said), words(wanted)
    if not a or not b:
        return float(a == b)
    rest, shared = list(b), 0
    for word in a:
        if word in rest:
            rest.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(a), shared / len(b)
    return 2 * precision * recall / (precision + recall)


@given(said=WORDS, wanted=WORDS)
def test_token_f1(said, wanted):
    assert one("token_f1", said, wanted) == pytest.approx(squad_f1(said, wanted))


@given(rows=LABELS)
def test_label_f1_is_the_mean_of_f1_over_labels(rows):
    score = metric("label_f1")([said for said, _ in rows], rows_of(*(wanted for _, wanted in rows)))
    found = []
    for label in sorted({wanted for _, wanted in rows}):
        hits = sum(said == wanted == label for said, wanted in rows)
        missed = sum(wanted == label != said for said, wanted in rows)
        false = sum(said == label != wanted for said, wanted in rows)
        found.append(hits / (hits + (missed + false) / 2))
        assert score.detail["labels"][label]["f1"] == pytest.approx(found[-1])
        assert score.detail["labels"][label]["n"] == hits + missed
    assert score.mean == pytest.approx(sum(found) / len(found))
    assert score.detail["answers that are no label"] == sum(said not in score.detail["labels"] for said, _ in rows)
    assert score.per_row == [said == wanted for said, wanted in rows]
    json.dumps(score.detail)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("It is 42.", 42), ("-5", -5), ("\u22127", -7), ("1,234.5 m", 1234.5), ("5-3", 3), ("1e3", 1000), (".5", 0.5), ("10%", 10)),
        *(
            ("1,2,3", 3),
            ("3.", 3),
            ("$12", 12),
            ("7kg", 7),
            ("first 3, then 4", 4),
            ("v2", None),
            ("e5", None),
            ("", None),
            ("1e999", None),
        ),
    ],
)
def test_the_last_number_counts(text, value):
    assert number(text) == value


@given(value=st.floats(-1e6, 1e6), size=st.floats(0, 10), off=st.floats(-20, 20))
def test_numbers_may_be_as_far_off_as_said(value, size, off):
    if abs(abs(off) - size) > 1e-3:
        assert one(f"numeric:{size}", f"about {value + off:.6f}", f"{value:.6f}") == (abs(off) < size)


def test_numbers_may_be_a_share_off():
    assert one("numeric:1%", "101", "100") == 1 and one("numeric:1%", "101.1", "100") == 0
    assert one("numeric", "4.0", "four: 4") == 1 and one("numeric", "none", "4") == 0
    with pytest.raises(LabError, match=r"line 1.*no number"):
        one("numeric", "4", "four")


# ---- JSON ------------------------------------------------------------------------------------------------------------


def schema_at(path, schema) -> str:
    path.write_text(json.dumps(schema), encoding="utf-8")
    return f"schema:{path}"


def test_schema_wants_the_whole_answer_to_be_valid(tmp_path):
    spec = schema_at(tmp_path / "s.json", {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}})
    answers = {'{"a": 1}': 1, '```json\n{"a": 1}\n```': 1, '{"a": 1} ok': 0, '{"a": "1"}': 0, "{}": 0, "": 0, '{"a": NaN}': 0}
    answers |= {'{"a": 1e999}': 0, "[" * 100_000: 0, "null": 0}
    score = metric(spec)(list(answers), rows_of(*[None] * len(answers)))
    assert dict(zip(answers, score.per_row)) == answers
    assert score.detail["reasons"] == {"not JSON": 5, "$.a: type is not met": 1, "$: required is not met": 1, "$: type is not met": 1}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, "at type"),
        ({"pattern": "("}, "at pattern"),
        ([], "top level must be"),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "not in its file"),
    ],
)
def test_schemas_that_are_none_are_refused_and_nothing_is_fetched(tmp_path, schema, says):
    with pytest.raises(LabError, match=says):
        one(schema_at(tmp_path / "s.json", schema), '"x"')


def test_fields_count_names_and_values():
    wanted = '{"item": "Zinc", "kg": 3, "to": {"city": "Lima"}}'
    assert one("fields", '{"to": {"city": "lima"}, "kg": 3.0, "item": "zinc"}', wanted) == 1
    assert one("fields", '{"item": "zinc", "kg": 4, "to": {"city": "Lima"}}', wanted) == pytest.approx(2 / 3)
    assert one("fields", '{"item": "zinc"}', wanted) == pytest.approx(0.5)
    assert one("fields", "zinc", wanted) == one("fields", '{"kg": "3"}', wanted) == 0
    assert one("fields", '{"kg": true}', '{"kg": 1}') == 0
    with pytest.raises(LabError, match=r"line 1.*not JSON"):
        one("fields", "{}", "zinc")


# ---- a function of one's own -------------------------------------------------------------------------------------------


def test_own_functions_are_called_with_all_three(tmp_path):
    path = tmp_path / "judge.py"
    path.write_text("def judge(answer, reference, prompt):\n    return (answer, reference, prompt) == ('a', None, 'prompt 1')\n")
    assert one(f"{path}:judge", "a") == 1 and one(f"python:{path}:judge", "b") == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    return 1 / 0", r"line 1 .*ZeroDivisionError: division by zero \(line 2 of"),
        ("    raise SystemExit(3)", "SystemExit: 3"),
        ("    return None", "returned None"),
        ("    return 'good'", "returned 'good'"),
        ("    return float('nan')", "returned nan"),
        ("    return (", "SyntaxError"),
        ("    pass\nimport not_there", "ModuleNotFoundError"),
        ("    pass\ndel judge", "unknown function"),
    ],
)
def test_own_functions_that_fail_say_where(tmp_path, body, says):
    path = tmp_path / "judge.py"
    path.write_text(f"def judge(answer, reference, prompt):\n{body}\n")
    with pytest.raises(LabError, match=says):
        one(f"{path}:judge", "a")


# ---- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("exat", "Did you mean 'exact'"),
        ("exact:3", "write 'exact'"),
        ("regex", "needs a pattern"),
        ("regex:(", "not a regular expression"),
        ("numeric:-1", "at least 0"),
        ("numeric:x", "write numeric:0.01"),
        ("schema:/not/there.json", "cannot be read"),
        ("/not/there.py:judge", "must name an existing file"),
    ],
)
def test_specs_are_read_before_any_answer_is(spec, says):
    with pytest.raises(LabError, match=says):
        metric(spec)


def test_answers_must_fit_the_rows():
    exact = metric("exact")
    for answers, rows, says in (
        (["a"], rows_of("a", "b"), "1 answers for 2 rows"),
        ("ab", rows_of("a", "b"), "one text for 2"),
        ([None], rows_of("a"), "must be a text"),
        ([], [], "no row"),
        (["a", "b"], rows_of("a", None), "1 of 2 rows have none .lines 2.*regex, schema, python"),
    ):
        with pytest.raises(LabError, match=says):
            exact(answers, rows)
    with pytest.raises(LabError, match="different rows"):
        better(exact(["a"], rows_of("a")), exact(["a"], [Row("another", "a", 1)]))
    with pytest.raises(LabError, match="exact and contains"):
        better(exact(["a"], rows_of("a")), metric("contains")(["a"], rows_of("a")))


@pytest.mark.parametrize("name", [name for name, kind in METRICS.items() if not kind.needed])
def test_references_are_right_by_their_own_metric(name):
    rows = rows_of("4", "17", "17", "0.5")
    assert metric(name).check(rows).mean == 1 and METRICS[name].help and METRICS[name].label
    assert metric(name)([""] * 4, rows).mean == 0


# ---- bands -------------------------------------------------------------------------------------------------------------


def answers_of(right: np.ndarray) -> list[str]:
    return ["yes" if ok else "no" for ok in right]


def test_bands_are_as_wide_as_theory_says():
    rng = np.random.default_rng(1)
    right, also = rng.random(800) < 0.7, rng.random(800) < 0.6
    rows = rows_of(*["yes"] * 800)
    a, b = (metric("exact")(answers_of(x), rows) for x in (right, also))
    for found, values in ((a.band, right * 1.0), (better(a, b), right * 1.0 - also)):
        assert found.middle == pytest.approx(values.mean())
        assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(800), rel=0.08)
        assert found.low < found.middle < found.high and found.n == 800


def test_bands_hold_the_truth_about_as_often_as_they_say():
    rng, rows = np.random.default_rng(2), rows_of(*["yes"] * 60)
    bands = [metric("exact")(answers_of(rng.random(60) < 0.7), rows).band for _ in range(60)]
    assert 0.88 < np.mean([found.low <= 0.7 <= found.high for found in bands]) < 0.99


@settings(max_examples=25)
@given(rows=LABELS, seed=st.integers(0, 9))
def test_differences_turn_round(rows, seed):
    asked = rows_of(*(wanted for _, wanted in rows))
    a = metric("label_f1")([said for said, _ in rows], asked)
    b = metric("label_f1")([str(x) for x in np.random.default_rng(seed).choice(list("xyz"), len(rows))], asked)
    there, back = better(a, b), better(b, a)
    assert there.middle == pytest.approx(-back.middle)
    if there.n > 1:
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
        assert -1 <= there.low <= there.high <= 1


def test_rows_of_one_prompt_count_once():
    right = np.random.default_rng(3).random(100) < 0.6
    once = metric("exact")(answers_of(right), rows_of(*["yes"] * 100))
    thrice = metric("exact")(answers_of(np.tile(right, 3)), rows_of(*["yes"] * 100) * 3)
    assert thrice.band == pytest.approx(once.band)


def test_all_right_is_not_certain():
    rows = rows_of(*["yes"] * 30)
    all_right, none = (metric("exact")([text] * 30, rows) for text in ("yes", "no"))
    assert all_right.band.high == 1 and all_right.band.low**30 == pytest.approx(0.025)
    assert none.band.low == 0 and (1 - none.band.high) ** 30 == pytest.approx(0.025)
    same = better(all_right, all_right)
    assert (same.middle, same.verdict) == (0, "not distinguishable") and same.low == -same.high < 0
    assert better(all_right, none)[:3] == pytest.approx((1, all_right.band.low, 1))
    assert math.isnan(metric("exact")(["yes"], rows[:1]).band.low)


def test_wrong_in_other_ways_is_told_apart():
    """Two sets of answers that are right on the same rows, and differ in the labels they name where they are wrong."""
    rows = rows_of(*"xyz" * 20)
    a = metric("label_f1")(["x" if i % 2 else "q" for i in range(60)], rows)
    b = metric("label_f1")([row.response if i % 2 and row.response == "x" else "q" for i, row in enumerate(rows)], rows)
    assert a.per_row == b.per_row and collections.Counter(a.per_row)[1.0] == 10
    found = better(b, a)
    assert 0 < found.low < found.middle < found.high
