"""What a reader sees of two cuts: the table, the lens, the exercise, and the claims of lesson 07."""

from __future__ import annotations

import html
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit import models
from labkit.base.errors import LabError
from labkit.lessons.exercises.lesson_07 import CASES, SHARED_MISTAKES
from labkit.losses.cross_tokenizer.spans import spans
from labkit.views import figures
from labkit.views.figures.token_table import shown

TEACHER, STUDENT = [b" Sp", b"ain", b""], [b" S", b"pai", b"n", b""]


def table(teacher=TEACHER, student=STUDENT, values=(1.5, 0.25)):
    return figures.cuts("Name a neighbour.", teacher, student, [(s.teacher, s.student) for s in spans(teacher, student)], values, "KL")


def test_every_token_is_in_the_table_over_its_own_bytes():
    page = table().page
    rows = re.findall(r"<tr.*?</tr>", page)
    found = [re.findall(r'<td colspan="(\d+)"[^>]*>(?:<span aria-hidden="true"[^>]*></span>)?([^<]*)</td>', row) for row in rows]
    cells = [[(int(width), text) for width, text in row] for row in found]
    assert [text for _, text in cells[0]] == ["␣Sp", "ain", "end ⏎"]
    assert [text for _, text in cells[1]] == ["␣S", "pai", "n", "end ⏎"]
    assert {sum(width for width, _ in row) for row in cells} == {7}, "all rows are as wide as the text and its end"
    assert [text for _, text in cells[2]] == ["2 : 3", "1 : 1"]
    assert [text for _, text in cells[3]] == ["1.50", "0.25"]
    assert re.findall(r"height:(\d+)px", rows[3]) == ["36", "6"], "bars are as tall as the numbers are large"
    assert page.count('<th scope="row"') == 4


@given(st.binary(max_size=30), st.lists(st.integers(1, 29)), st.lists(st.integers(1, 29)))
def test_no_byte_of_any_text_is_missing_from_the_table(text, one, other):
    sides = [
        [text[a:b] for a, b in itertools.pairwise([0, *sorted({p for p in places if p < len(text)}), len(text)]) if a < b]
        for places in (one, other)
    ]
    teacher, student = ([*side, b""] for side in sides)
    found = spans(teacher, student)
    page = table(teacher, student, [0.0] * len(found)).page
    rows = re.findall(r"<tr.*?</tr>", page)
    assert len(rows) == 4
    for row, side in zip(rows, (teacher, student), strict=False):
        assert [html.unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", row)] == [shown(token) for token in side]
    assert {sum(map(int, re.findall(r'colspan="(\d+)"', row))) for row in rows} == {len(text) + 1}


def test_the_same_in_words():
    assert table().alt == (
        "Name a neighbour.: 3 tokens against 4, 2 shared spans, 1 of one token on either side. "
        "KL: ␣Sp + ain against ␣S + pai + n: 1.500; end ⏎ against end ⏎: 0.250."
    )


def test_text_that_a_model_wrote_is_escaped():
    page = table([b"<script>", b"&", b""], [b"<", b"script>&", b""]).page
    assert "<script" not in page
    assert "&lt;script&gt;" in page and "&amp;" in page


@pytest.mark.parametrize(("token", "name"), [(b"", "end ⏎"), (b" a", "␣a"), (b"\xc3", "C3"), (b"\n", "U+000A"), ("ô".encode(), "ô")])
def test_any_token_can_be_shown(token, name):
    assert shown(token) == name


def test_a_table_that_would_lose_a_token_is_refused():
    for values in ((1.0,), (1.0, 2.0, 3.0)):
        with pytest.raises(LabError, match="each token once"):
            table(values=values)
    with pytest.raises(LabError, match="each token once"):
        figures.cuts("x", TEACHER, STUDENT, [(range(0, 2), range(0, 3))], [1.0], "KL")


def words(view) -> str:
    assert 'role="alert"' not in view.words.value, view.words.value
    return html.unescape(re.sub(r"<[^>]+>", "", view.words.value))


def test_the_lens_shows_every_crossing_into_every_vocabulary():
    view = labkit.lens("alignment")
    for vocabulary in view.vocabulary.options:
        view.vocabulary.value = vocabulary
        for _, across in view.across.options:
            view.across.value = across
            total = float(re.search(r"([\d.]+) in all", words(view))[1])
            values = [float(v) for v in re.findall(r"</span>(-?[\d.]+)</td>", view.picture.value)]
            assert sum(values) == pytest.approx(total, abs=0.01 * len(values))
            assert values


def test_the_lens_says_which_tokens_are_compared_by_number():
    view = labkit.lens("alignment")
    view.question.value, view.vocabulary.value, view.across.value = "On which continent is Barcelona?", "small", "uld"
    assert "␣Europe\u202f|\u202f␣E, end ⏎\u202f|\u202fur; the last 3 of the student's with nothing." in words(view)
    view.across.value = "spans"
    assert "by number" not in words(view)


def test_the_lens_reads_a_student_in_its_own_tokens():
    view = labkit.lens("alignment", student=models.student("22k", 0, vocabulary="bytes"))
    assert list(view.vocabulary.options) == ["bytes"]
    view.question.value = "Name a neighbour of France."
    assert "1 : 6" in view.picture.value
    with pytest.raises(LabError, match="vocabulary='bytes'"):
        labkit.lens("alignment", student=models.student("22k"))


# ---- the exercise ----------------------------------------------------------------------------------------------------------------


def right(teacher, student):
    ends = []
    for side in (teacher, student):
        place, own = 0, set()
        for token in side:
            place += len(token)
            own.add(place)
        ends.append(own)
    return sorted(ends[0] & ends[1])


def test_the_exercise_knows_a_right_answer_and_agrees_with_the_lab():
    assert labkit.check("07.shared", right)
    for teacher, student in CASES:
        assert right(teacher, student) == [s.stop for s in spans(teacher, student)]
    assert labkit.check("07.shared", lambda t, s: iter(right(t, s)))


def ends(tokens):
    return list(itertools.accumulate(map(len, tokens)))


WRONG = {  # as learners would write it
    "by number": lambda t, s: [a for a, b in zip(ends(t), ends(s)) if a == b],
    "all cuts": lambda t, s: sorted({*ends(t), *ends(s)}),
    "same token": lambda t, s: [end for end, token in zip(ends(t), t) if any((end, token) == other for other in zip(ends(s), s))],
    "with the beginning": lambda t, s: [0, *right(t, s)],
    "characters": lambda t, s: [len(b"".join(t)[:place].decode(errors="ignore")) for place in right(t, s)],
    "without the end": lambda t, s: right(t, s)[:-1],
    "lengths": lambda t, s: [b - a for a, b in itertools.pairwise([0, *right(t, s)])],
}


@pytest.mark.parametrize("name", SHARED_MISTAKES)
def test_the_exercise_names_the_mistake(name):
    verdict = labkit.check("07.shared", WRONG[name])
    assert not verdict
    assert verdict.misconception == name, verdict


@pytest.mark.parametrize("answer", [3, None, "A", lambda t, s: None, lambda t, s: 7, lambda t, s: ["a"], lambda t: [], lambda t, s: [1, 2]])
def test_whatever_is_answered_gets_a_verdict(answer):
    assert not labkit.check("07.shared", answer)
