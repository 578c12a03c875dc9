"""Charts of plain numbers: every number drawn, in both libraries, and said in the alt text."""

from __future__ import annotations

import html
import itertools
import math
import re

import pytest
from strokes import Strokes

from labkit.base.errors import LabError
from labkit.views import figures
from labkit.views.figures import Cell, Interval, Line, charts, line_chart
from labkit.views.figures import pen as pens
from labkit.views.figures.scales import even_ticks, short

ROWS = [Interval("output", 0.53, 0.49, 0.57), Interval("online", -0.2, role="teacher", note="100 steps")]
LINES = {"right": Line([(0.5, 1.0), (2.0, 0.25)], "teacher"), "different": Line([(0.5, 0.125), (2.0, 0.75)], dash="dash")}
CELLS = [[Cell(0.5, 0.02), None], [Cell(-0.1), Cell(0.3, 0.1)]]


def drawn(chart, *arguments):
    pen = Strokes()
    chart(pen, "Title", "note", *arguments)
    return pen


def numbers_in(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", text)]


GROUPS = {"teacher": [0.1, 0.2], "student": [0.3, 0.4]}
OF_LINES = [number for line in LINES.values() for x, y in line.points for number in (y, x)]
MADE = {
    "intervals": (
        lambda backend: figures.intervals("Title", "note", ROWS, zero=0, backend=backend),
        [v for row in ROWS for v in (row.middle, row.low, row.high) if math.isfinite(v)],
    ),
    "bars": (
        lambda backend: figures.bars("Title", "note", ["a", "b"], GROUPS, backend=backend),
        [values[i] for i in (0, 1) for values in GROUPS.values()],
    ),
    "lines": (lambda backend: figures.lines("Title", "note", LINES, "T", backend=backend), OF_LINES),
    "log lines": (lambda backend: figures.lines("Title", "note", LINES, "T", log=True, backend=backend), OF_LINES),
    "heat": (
        lambda backend: figures.heat("Title", "note", ["a", "b"], ["c", "d"], CELLS, backend=backend),
        [2, 2, CELLS[0][0].value, CELLS[0][0].half, CELLS[1][0].value],  # rows, columns, the highest with its band, the lowest
    ),
}


@pytest.mark.parametrize("backend", figures.BACKENDS)
@pytest.mark.parametrize("kind", MADE)
def test_each_is_drawn_by_both_libraries_and_its_alt_text_gives_the_numbers(kind, backend):
    make, numbers = MADE[kind]
    drawing = make(backend)
    assert drawing.alt.startswith("Title, note")
    assert numbers_in(drawing.alt) == numbers
    assert html.escape(drawing.alt) in drawing._repr_html_()


def test_words_and_pointer_give_the_band_after_the_value():
    banded = Line([(1, 0.5), (2, 0.25), (3, 0.125)], bands=[(0.25, 0.75), (math.nan, math.nan), (0.0, 0.5)])
    drawing = figures.lines("Title", "note", {"x": banded}, "T", backend="plotly")
    assert "x: 0.5 (0.25 to 0.75) at 1, 0.25 at 2, 0.125 (0 to 0.5) at 3." in drawing.words
    assert list(drawing.figure.data[0].text) == ["T 1: 0.5 (0.25 to 0.75)", "T 2: 0.25", "T 3: 0.125 (0 to 0.5)"]
    tall = figures.lines("Title", "note", {"x": banded}, "T", log=True, backend="plotly")
    assert "0.125 at 3." in tall.words, "a band that reaches 0 is not drawn on a logarithmic axis, nor told"
    assert [rule.x0 for rule in tall.figure.layout.shapes if rule.x0 == rule.x1] == [1]


@pytest.mark.parametrize("log", [False, True])
def test_words_give_the_points_that_are_drawn_and_no_others(log):
    lines = {
        "x": Line([(-1, 0.5), (0, 0.0), (1, -0.25), (2, math.nan), (3, 0.75), (4, math.inf), (math.nan, 0.5)]),
        "empty": Line([(1, math.nan)]),
    }
    drawing = figures.lines("Title", "note", lines, "T", log=log, backend="plotly")
    (line,) = [trace for trace in drawing.figure.data if trace.name]
    points = list(zip(line.x, line.y, strict=True))
    assert points == ([(-1, 0.5), (3, 0.75)] if log else [(-1, 0.5), (0, 0.0), (1, -0.25), (3, 0.75)])
    assert drawing.words == f"Title, note, over T. x: {', '.join(f'{y:g} at {x:g}' for x, y in points)}."
    assert drawing.alt == "Title, note, over T. x from 0.5 at -1 to 0.75 at 3."
    assert len(line.text) == len(points)


def test_intervals_show_band_number_and_line():
    pen = drawn(charts.draw_intervals, ROWS, 0.0)
    assert "0.53  0.49 to 0.57" in pen.texts
    assert "\u22120.20" in pen.texts, "no band where there is none"
    assert {"output", "online", "100 steps"} <= set(pen.texts)
    assert ([0, 0], [0.0, -0.6]) in [args[:2] for args, _ in pen.of("line")]
    assert "output 0.53 (0.49 to 0.57); online -0.20" in charts.say_intervals("Title", "note", ROWS)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ((0.004, 0.001, 0.007), "0.004 (0.001 to 0.007)"),
        ((0.599, 0.596, 0.602), "0.599 (0.596 to 0.602)"),
        ((0.03, 0.004, 0.056), "0.030 (0.004 to 0.056)"),  # all of it above 0
        ((-0.002, -0.03, 0.026), "0.00 (-0.03 to 0.03)"),  # never -0.00
        ((0.5, 0.42, 0.58), "0.50 (0.42 to 0.58)"),
        ((0.0, -1e-17, 1e-17), "0.00 (0.00 to 0.00)"),
        ((0.0042,), "0.004"),
        ((0.75,), "0.75"),
    ],
)
def test_a_band_has_as_many_digits_as_it_needs(row, told):
    rows = [Interval("x", *row)]
    assert charts.say_intervals("Title", "note", rows) == f"Title, note: x {told}."
    says = told.replace(" (", "  ").replace(")", "").replace("-", "\u2212")
    assert says in drawn(charts.draw_intervals, rows).texts


def test_a_narrow_band_of_a_cell_is_not_told_as_none():
    cells = [[Cell(0.967, 0.003), Cell(0.5, 0.02), Cell(0.004)]]
    pen = drawn(charts.draw_heat, ["22k"], ["a", "b", "c"], cells)
    assert {"0.967", "\u00b1 0.003", "0.50", "\u00b1 0.02", "0.004"} <= set(pen.texts)
    told = "22k: 0.967 plus or minus 0.003 at a, 0.50 plus or minus 0.02 at b, 0.004 at c."
    assert charts.say_heat("t", "n", ["22k"], ["a", "b", "c"], cells).endswith(told)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((999.4, "999"), (999.7, "1k"), (-999.7, "-1k"), (1_000, "1k"), (3_333, "3.33k"), (815_248, "815k")),
        *((999_400, "999k"), (999_600, "1M"), (2_850_000, "2.85M"), (999.9e6, "1B"), (0.25, "0.25"), (0, "0"), (0.9996, "1")),
    ],
)
def test_a_short_number_has_the_unit_of_its_rounded_value(value: float, told: str):
    assert short(value) == told


def test_no_large_number_of_a_line_is_told_with_an_exponent():
    line = Line([(999.7, 999_600.0), (2e6, 4_321.0)], bands=[(999.6, 2e6), (1.0, 5e3)])
    drawing = figures.lines("Title", "note", {"x": line}, "tokens", log_across=True)
    assert "x from 1M at 1k to 4.32k at 2M" in drawing.alt
    assert "x: 1M (1k to 2M) at" in drawing.words


@pytest.mark.parametrize("note", ["", "not distinguishable"])
def test_a_long_name_never_reaches_into_the_bands(note):
    rows = [Interval("another teacher, not a student of its size, early in its training", 0.1, 0.0, 0.2, note=note), Interval("b", 0.3)]
    figure = figures.intervals("Title", "note", rows, zero=0).figure
    figure.canvas.draw()
    name = next(text for text in figure.axes[0].texts if text.get_text().startswith("another"))
    rule = next(line for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1 and len(set(line.get_xdata())) == 2)
    left, right = (figure.axes[0].transData.transform((x, 0))[0] for x in rule.get_xdata())
    box = name.get_window_extent()
    assert right - left >= figure.dpi, "an inch at least for the bands"
    assert 0 <= box.x0 < box.x1 <= left


def test_bars_are_as_long_as_their_numbers():
    pen = drawn(charts.draw_bars, ["a", "b"], {"teacher": [0.1, 0.2], "student": [0.3, 0.4]})
    assert sorted(args[1] for args, _ in pen.of("bar")) == [0.1, 0.2, 0.3, 0.4]
    ys = [args[2] for args, _ in pen.of("bar")]
    assert len(set(ys)) == 4, "none lies on another"


def test_lines_leave_out_what_a_log_axis_cannot_show():
    pen = drawn(line_chart.draw_lines, {"x": Line([(1, 0.0), (2, 0.5), (3, 0.25)])}, "T", True)
    assert ([2, 3], [0.5, 0.25]) in [args[:2] for args, kwargs in pen.of("line") if kwargs.get("name") == "x"]


def test_bands_of_points_are_drawn_and_widen_the_axis():
    banded = Line([(1, 0.5), (2, 0.25)], bands=[(0.25, 0.75), (math.nan, math.nan)])
    pen = drawn(line_chart.draw_lines, {"x": banded}, "T")
    assert [args[1] for args, _ in pen.of("line") if args[0] == [1, 1]] == [[0.25, 0.75]]
    assert not [args for args, _ in pen.of("line") if args[0] == [2, 2]], "a band that is no number is not drawn"
    (_, (low, high)), _ = pen.of("frame")[0]
    assert low <= 0
    assert high >= 0.75
    (_, (low, _)), _ = drawn(line_chart.draw_lines, {"x": banded._replace(bands=[(-1.25, 0.75)] * 2)}, "T").of("frame")[0]
    assert low <= -1.25


def test_a_band_has_the_dashes_of_its_line():
    lines = {dash or "solid": Line([(1, 0.5)], dash=dash, bands=[(0.25, 0.75)]) for dash in ("", "dash")}
    pen = drawn(line_chart.draw_lines, lines, "T")
    assert [args[4] for args, _ in pen.of("line") if args[:2] == ([1, 1], [0.25, 0.75])] == ["", "dash"]


def test_an_axis_across_of_many_points_has_round_numbers():
    pen = drawn(line_chart.draw_lines, {"x": Line([(0.05 * i, 70.0) for i in range(1, 21)])}, "share")
    assert [t for t in pen.texts if t in ("0.2", "0.4", "0.6", "0.8", "1", "0.05", "0.2875")] == ["0.2", "0.4", "0.6", "0.8", "1"]
    assert {"1", "2", "4"} <= set(drawn(line_chart.draw_lines, {"x": Line([(1, 0.3), (2, 0.3), (4, 0.3)])}, "T").texts), (
        "few points, each its own"
    )


@pytest.mark.parametrize("across", [(0.115, 0.153, 1.396, 5.283), (0.123456, 0.323456, 0.987654), (1, 1.1, 1.2, 9)])
def test_numbers_of_an_axis_across_never_overlap(across):
    figure = figures.lines("Title", "note", {"x": Line([(x, 0.5) for x in across])}, "TFLOP").figure
    boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_ha() == "center" and t.get_text() != "TFLOP"]
    ticks = sorted((box.x0, box.x1) for box in boxes)
    assert len(ticks) >= 2
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(ticks))


def test_heat_frames_the_best_of_a_row_and_says_what_was_not_measured():
    pen = drawn(charts.draw_heat, ["22k", "57k"], ["T = 1", "T = 2"], CELLS)
    framed = [args[:3] for args, kwargs in pen.of("bar") if kwargs["edge"] == pens.INK]
    assert framed == [(0.03, 0.97, -0.26), (1.03, 1.97, -0.78)]
    assert "not measured" in pen.texts
    assert "\u00b1 0.02" in pen.texts
    assert "22k: 0.50 plus or minus 0.02 at T = 1, not measured at T = 2" in charts.say_heat(
        "t", "n", ["22k", "57k"], ["T = 1", "T = 2"], CELLS
    )


def test_maps_on_one_scale_give_a_value_one_colour():
    def of(cells, scale):
        return [args[4] for args, _ in drawn(charts.draw_heat, ["a"], ["b", "c"], cells, "", scale).of("bar")]

    one, other = [[Cell(0.4), Cell(0.7)]], [[Cell(0.4), Cell(0.5)]]
    assert of(one, None)[0] == of(other, None)[0] != of(one, (0.0, 1.0))[0] == of(other, (0.0, 1.0))[0]
    assert of(one, None)[1] == of(other, None)[1], "without a scale 0.7 of one map looks like 0.5 of the other"
    assert of(one, (0.0, 1.0))[1] != of(other, (0.0, 1.0))[1]
    with pytest.raises(LabError, match="the first end must be the smaller one"):
        figures.heat("t", "n", ["a"], ["b", "c"], one, scale=(1.0, 0.0))


def test_nothing_to_draw_is_said():
    with pytest.raises(LabError, match="at least one row"):
        figures.intervals("Title", "note", [])
    with pytest.raises(LabError, match="at least one point"):
        figures.lines("Title", "note", {"x": Line([(1, math.nan)])}, "T")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: figures.bars("t", "n", [], {}), "at least one name"),
        (lambda: figures.bars("t", "n", ["a"], {"nobody": [1.0]}), "unknown role"),
        (lambda: figures.bars("t", "n", ["a", "b"], {"teacher": [1.0]}), "1 values for 2 names"),
        (lambda: figures.intervals("t", "n", [Interval("x", 0.1, role="nobody")]), "unknown role"),
        (lambda: figures.intervals("t", "n", [Interval("x", math.nan)]), "no row has a number"),
        (lambda: figures.heat("t", "n", ["a"], ["x", "y"], [[Cell(0.1)]]), "2 columns"),
        (lambda: figures.heat("t", "n", ["a"], ["x"], [[Cell(math.nan)]]), "give None"),
        (lambda: figures.heat("t", "n", [], [], []), "nothing to draw: give at least one row and one column"),
        (lambda: figures.heat("t", "n", ["a"], [], [[]]), "nothing to draw: give at least one row and one column"),
        (lambda: figures.lines("t", "n", {"x": Line([(1, 0.5)], "nobody")}, "T"), "unknown role"),
        (lambda: figures.lines("t", "n", {"x": Line([(1, 0.5), (2, 0.5)], bands=[(0.1, 0.9)])}, "T"), "1 bands for 2 points"),
        (lambda: figures.lines("t", "n", {"x": Line([(1, 0.0)])}, "T", log=True), "at least one point"),
    ],
)
def test_bad_input_is_told(call, words: str):
    with pytest.raises(LabError, match=words):
        call()


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.967298), (-3.39, 8.0), (0.0, 1e-9), (0.0, 1.0), (-0.2, -0.1), (0.0, 4_321.0), (2.0, 2.0)]
)
def test_ticks_are_round_and_hold_everything(low, high):
    found = even_ticks(low, high)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12
    assert 2 <= len(found) <= 7 or low == high
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert all(step == pytest.approx(steps[0], rel=1e-3) for step in steps)
    assert all(f"{step:.3e}"[0] in "125" for step in steps)
