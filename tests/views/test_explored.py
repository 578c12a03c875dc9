"""Figures to explore: plotly's and matplotlib's tell the same, stand alone in a notebook and in a page, and load nothing."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import re
from collections import Counter

import matplotlib.image
import nbformat
import pytest
from matplotlib.colors import to_hex
from stories import record

from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.record import Record
from labkit.views import figures
from labkit.views.figures import PLOTLY, Cell, Line, charts
from labkit.views.figures.drafts import alt_speedups
from labkit.views.figures.line_chart import alt_lines
from labkit.views.report import report

ROWS, COLUMNS = ["22k", "57k <b>"], ["T = 1", "T = 2", "T = 4"]
CELLS = [[Cell(0.5, 0.02), None, Cell(0.25)], [Cell(-0.1), Cell(0.7, 0.1), Cell(0.0)]]
LINES = {
    "held": Line([(10, 0.2), (100, 0.9), (1000, 0.6)], "teacher", bands=[(0.1, 0.3), (0.8, 1.0), (0.5, 0.7)]),
    "asked": Line([(10, 0.3), (1000, 0.4)], dash="dash"),
}
NAMES, GROUPS = ["Peru", "Chad <b>"], {"teacher": [0.125, 0.5], "student": [0.0625, 0.375], "ghost": [0.25, 1.0]}
RUN = record(60)  # the answers of "same questions" were not measured
TAKEN = {e.step: (0.5 + e.step / 240, 0.6 + e.step / 240) for e in RUN.evaluations}  # step: acceptance, agreement


def taught() -> Record:
    """The run, with acceptance and agreement as in `TAKEN` at its exams."""

    def told(e: ev.Event) -> ev.Event:
        if not isinstance(e, ev.Evaluated):
            return e
        return dataclasses.replace(e, fidelity={**e.fidelity, **dict(zip(("acceptance", "agreement"), TAKEN[e.step], strict=True))})

    return Record([told(e) for e in RUN.events])


KINDS = {
    "heat": lambda backend: figures.heat("Map", "a note", ROWS, COLUMNS, CELLS, "size", backend=backend),
    "lines": lambda backend: figures.lines(
        "Knee", "a note", LINES, "parameters", log_across=True, marks={"half & half": 50.0}, backend=backend
    ),
    "speedups": lambda backend: figures.speedups(0.8, 4, 0.27, backend=backend),
    "intervals": lambda backend: figures.intervals(
        "Gain", "a note", [figures.Interval("a" * 20 + " " + "b" * 30, 0.3, 0.2, 0.4)], zero=0, backend=backend
    ),
    "bars": lambda backend: figures.bars("Chances", "a note", NAMES, GROUPS, backend=backend),
    "acceptance": lambda backend: figures.acceptance(taught(), previous=taught(), backend=backend),
    "waterfall": lambda backend: figures.waterfall(RUN, backend=backend),
    "curves": lambda backend: figures.curves(RUN, previous=RUN, backend=backend),
    "recovery": lambda backend: figures.recovery(RUN, backend=backend),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def outputs(drawing) -> str:
    """Everything a notebook is given, but for pictures, whose base64 may spell any word."""
    return json.dumps([{k: v for k, v in data.items() if k != "image/png"} for data, _ in drawing.bundles()])


def test_both_say_the_same_words_in_the_same_colours(kind):
    live, paper = kind("plotly"), kind("matplotlib")
    assert (live.alt, live.words) == (paper.alt, paper.words or paper.alt)
    axes, layout = paper.figure.axes[0], live.figure.layout
    printed = Counter((text.get_text(), to_hex(text.get_color())) for text in axes.texts)
    shown = Counter((html.unescape(re.sub(r"</?b>", "", note.text).replace("<br>", "\n")), note.font.color) for note in layout.annotations)
    assert printed == shown
    bars = [patch for patch in axes.patches if not patch.get_hatch()]
    plain_bars = [trace for trace in live.figure.data if trace.type == "bar" and trace.marker.pattern.shape is None]
    assert [to_hex(patch.get_facecolor()) for patch in bars] == [trace.marker.color for trace in plain_bars]
    strokes = Counter(to_hex(line.get_color()) for line in axes.lines if line.get_linestyle() != "None")
    ruled = [rule.line.color for rule in layout.shapes] + [
        t.line.color for t in live.figure.data if t.type == "scatter" and t.mode == "lines"
    ]
    assert strokes == Counter(ruled)


def test_an_output_has_a_picture_and_words_and_loads_nothing(kind):
    drawing = kind("plotly")
    (shown, metadata), (told, _) = drawing.bundles()
    assert shown[PLOTLY]["layout"]["width"] == 740
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(shown["image/png"])))
    assert abs(picture.shape[0] - shown[PLOTLY]["layout"]["height"]) <= 1, "or the page would jump when the pointer comes"
    assert picture.shape[1] == 740
    assert len(set(map(tuple, picture.reshape(-1, picture.shape[2])[::7]))) > 3, "not an empty sheet"
    assert shown["text/plain"] == metadata["image/png"]["alt"] == drawing.alt
    assert html.escape(drawing.alt) in told["text/html"]
    assert html.escape(drawing.words) in told["text/html"]
    assert sum(map(len, map(json.dumps, shown.values()))) < 200_000
    for word in ("<script", "cdn", "http", "src="):
        assert word not in outputs(drawing)


def test_a_printed_figure_has_words_beside_its_alt_text_only_where_these_are_more(kind):
    drawing = kind("matplotlib")
    ((data, _),) = drawing.bundles()
    assert f'alt="{html.escape(drawing.alt)}"' in data["text/html"]
    assert ("<details>" in data["text/html"]) is bool(drawing.words)
    assert drawing.words != drawing.alt


def test_alt_texts_give_the_main_numbers_in_two_sentences():
    assert charts.alt_heat("Map", "a note", ROWS, COLUMNS, CELLS) == (
        "Map, a note: a map of 2 rows, 22k to 57k <b>, and 3 columns, T = 1 to T = 4. "
        "The highest is 0.70 plus or minus 0.10 (57k <b>, T = 2), the lowest -0.10 (57k <b>, T = 1)."
    )
    assert "Nothing was measured" in charts.alt_heat("t", "n", ["a"], ["b"], [[None]])
    assert alt_lines("Knee", "a note", LINES, "parameters") == (
        "Knee, a note, over parameters. held from 0.2 at 10 to 0.6 at 1k, at most 0.9 at 100; asked from 0.3 at 10 to 0.4 at 1k."
    )
    assert alt_speedups(0.8, 4, 0.27).endswith(
        "The highest is 4.73 with 12 at cost 0; none pays from cost 1 on. With 4 at cost 0.27: 1.62."
    )
    assert "None pays from cost 0 on" in alt_speedups(0.0)


def test_the_pointer_is_told_the_numbers_of_what_it_is_over():
    told = [trace.hovertemplate for trace in KINDS["heat"]("plotly").figure.data]
    assert told[0] == "22k, T = 1<br>0.50 \u00b1 0.02<extra></extra>"
    assert told[1] == "22k, T = 2<br>not measured<extra></extra>"
    assert told[3] == "57k &lt;b&gt;, T = 1<br>\u22120.10<extra></extra>"
    lines = {trace.name: list(trace.text) for trace in KINDS["lines"]("plotly").figure.data if trace.name}
    assert lines["held"] == ["parameters 10: 0.2 (0.1 to 0.3)", "parameters 100: 0.9 (0.8 to 1)", "parameters 1k: 0.6 (0.5 to 0.7)"], (
        "the axis's own numbers, not their logarithms, and the band after the value"
    )
    assert lines["asked"] == ["parameters 10: 0.3", "parameters 1k: 0.4"], "no band where there is none"
    tall = figures.lines("t", "n", {"x": Line([(1, 0.5), (2, 50.0)])}, "T", log=True, backend="plotly").figure.data[0]
    assert "step" not in tall.hovertemplate
    cells = [trace.hovertemplate for trace in KINDS["speedups"]("plotly").figure.data if trace.type == "bar"]
    assert "\u03b3 = 12, c = 0<br>4.73 times as fast<extra></extra>" in cells


def test_every_bar_tells_its_name_and_its_number():
    told = [trace.hovertemplate for trace in KINDS["bars"]("plotly").figure.data if trace.type == "bar"]
    assert told == [
        f"{html.escape(name)}, {role}<br>{values[i]:.3f}<extra></extra>" for i, name in enumerate(NAMES) for role, values in GROUPS.items()
    ]


def test_acceptance_tells_the_step_and_the_share_at_every_exam():
    told = {trace.name: (trace.hovertemplate, list(trace.text)) for trace in KINDS["acceptance"]("plotly").figure.data if trace.name}
    sampled, greedy = ([f"step {step}: {shares[i]:.2f}" for step, shares in TAKEN.items()] for i in (0, 1))
    assert {name: points for name, (_, points) in told.items()} == {"previous run": sampled, "greedy": greedy, "sampled": sampled}
    assert {shape for shape, _ in told.values()} == {f"{name}<br>%{{text}}<extra></extra>" for name in told}


@pytest.mark.parametrize("name", KINDS)
def test_what_has_a_name_tells_a_number_or_that_there_is_none(name):
    named = [trace for trace in KINDS[name]("plotly").figure.data if trace.hoverinfo != "skip"]
    assert named
    for trace in named:
        numbers = trace.hovertemplate.removeprefix(f"{html.escape(trace.name)}<br>").removesuffix("<extra></extra>")
        if trace.type == "bar":
            assert re.search(r"\d\.\d\d|not measured", numbers)
        elif numbers == "%{text}":
            assert len(trace.text) == len(trace.x)
        else:
            upwards = name == "curves"
            assert numbers == ("step %{x:,}: %{y:.3g}" if upwards else "%{x:.2f}")
            assert upwards or len(trace.x) == 1, "x is the number where each mark is a row's own, never a step"


def scripts(page: str) -> list[str]:
    return re.findall(r"<script[^>]*>", page)


def test_a_saved_page_holds_the_script_once_and_loads_nothing(tmp_path):
    page = report(record(60), tmp_path / "run.html", backend="plotly")
    assert (tmp_path / "run.html").read_text(encoding="utf-8") == page
    assert page.count("Plotly.newPlot(") == 3
    assert page.count("* plotly.js v") == 1
    assert not [tag for tag in scripts(page) if "src" in tag]
    assert page.count('role="img"') == 3
    assert len(report(record(60))) < 1_000_000, "the page that is mailed has pictures, and no script"
    alone = KINDS["heat"]("plotly").save(tmp_path / "map.html").read_text(encoding="utf-8")
    assert alone.count("* plotly.js v") == 1
    assert not [tag for tag in scripts(alone) if "src" in tag]
    with pytest.raises(LabError, match="plotli"):
        report(record(60), backend="plotli")


def test_a_notebook_saved_as_html_shows_the_picture_with_its_alt_text():
    nbconvert = pytest.importorskip("nbconvert")

    def page(drawings) -> str:
        made = [nbformat.v4.new_output("display_data", data, metadata=m) for d in drawings for data, m in d.bundles()]
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("figures", outputs=made)])
        return nbconvert.HTMLExporter().from_notebook_node(book)[0]

    drawing = KINDS["heat"]("plotly")
    bare, full = page([]), page([drawing, KINDS["lines"]("plotly")])
    assert full.count("data:image/png;base64,") - bare.count("data:image/png;base64,") == 2
    assert html.escape(drawing.alt) in full
    addresses = re.compile(r"https?://[^\s\"'<>)]+")
    assert set(addresses.findall(full)) == set(addresses.findall(bare)), "nbconvert's page loads what it loads; our figures add nothing"
    assert "plotly" not in full.lower().replace(PLOTLY, "")
