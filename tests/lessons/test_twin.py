"""The static twin of a board: what a page without a kernel shows of it, and that a page with the live board shows it only once."""

from __future__ import annotations

import html
import re
from collections import Counter

import matplotlib
import nbformat
import pytest
from conftest import REPOSITORY
from matplotlib.figure import Figure
from matplotlib.text import Text
from stories import record

from labkit.base.errors import LabError
from labkit.lessons.catalogue import LESSONS
from labkit.lessons.lab import Lab
from labkit.records.record import Record
from labkit.records.store import Store
from labkit.views.board import twin
from labkit.views.board.twin import MOST, Twin, bundle, scores, svg
from labkit.views.figures import snapshot

WIDGET = "application/vnd.jupyter.widget-view+json"
EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture
def shown(monkeypatch):
    """The outputs of a cell, as a notebook would hold them."""
    outputs: list[dict] = []

    class Handle:
        def __init__(self, at):
            self.at = at

        def update(self, data, raw):
            outputs[self.at] = data

    def display(data, raw=False, display_id=False):
        outputs.append(data)
        return Handle(len(outputs) - 1) if display_id else None

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: object())
    monkeypatch.setattr("threading.Thread.start", lambda thread: thread._target())
    return outputs


def test_a_picture_has_words_and_a_table_of_the_scores():
    rec = record(120, hard=None)
    data = bundle(rec, "Distil", "recovery", svg(rec))
    page = data["text/html"]
    alt = re.search(r'alt="([^"]+)"', page)[1]
    assert "Mean core skill 0.65 of the teacher" in alt and data["text/plain"].startswith("Finished at step 120")
    assert page.count("<tr>") == 1 + 1 + len(rec.skills)
    assert "0.71" in page and "run this cell" in page
    assert "<style" not in page, "the twin of a notebook that ships has nothing to hide behind"


def test_nothing_a_run_says_becomes_markup():
    rec = record(20, title=EVIL)
    assert EVIL not in bundle(rec, EVIL, "recovery", "")["text/html"]
    assert EVIL not in scores(rec)


def test_a_picture_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(twin, "MOST", 10)
    with pytest.raises(LabError, match="10 are allowed"):
        svg(record(20))


@pytest.mark.parametrize("unit", ["recovery", "acceptance"])
def test_a_picture_says_every_text_of_its_figure(unit):
    rec = record(120, learning_rate=0.0234, temperature=2.125)
    texts = snapshot(rec, unit=unit).figure.findobj(Text)
    wanted = Counter(line for text in texts for line in text.get_text().splitlines() if line.strip())
    told = [html.unescape(words) for words in re.findall(r"<text[^>]*>([^<]*)</text>", svg(rec, unit))]
    assert Counter(told) == wanted
    assert any("learning_rate=0.0234" in line for line in wanted)


def test_drawing_reads_and_changes_no_setting_of_the_notebook():
    rec = record(60)
    with matplotlib.rc_context():
        before = svg(rec)
        matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": None, "text.usetex": True, "path.sketch": (9.0, 50.0, 9.0)})
        seen, draw = [], Figure.draw
        held = dict(matplotlib.rcParams)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "draw", lambda *args: (seen.append(dict(matplotlib.rcParams)), draw(*args))[-1])
            assert svg(rec) == before
        assert seen == [held]


@pytest.mark.parametrize("steps", [20, 700, 3000])
def test_pictures_are_small(steps):
    assert len(svg(record(steps)).encode()) <= MOST


def test_a_cell_shows_the_board_and_a_twin_that_it_hides(quick, shown):
    lab = Lab(LESSONS["00"])
    rec = record(30)
    lab.record = rec
    lab._ipython_display_()
    live, still = shown
    assert live[WIDGET]["model_id"] == lab.widget.model_id and "VBox" not in live["text/plain"]
    assert WIDGET not in still
    assert f":root:has(.{lab.twin.mark}) .labkit-twin.{lab.twin.mark}-twin" in still["text/html"]
    assert lab.twin.mark in lab.widget._dom_classes
    assert "data:image/svg+xml" in still["text/html"], "the picture was added"
    lab.twin.take(record(40))
    lab.twin.draw()
    assert "Finished at step 40" in shown[1]["text/plain"], "at the end of a run it is of that run"
    lab.reset()
    assert shown[1]["text/plain"] == "", "there is no recorded run here, so the board is empty, and so is the twin"


def test_a_run_whose_picture_cannot_be_drawn_takes_the_place_of_the_one_before(shown, monkeypatch):
    def fails(*_):
        raise LabError("without matplotlib")

    still = Twin("Distil")
    still.display(record(30))
    still.draw()
    assert "<img" in shown[0]["text/html"]
    monkeypatch.setattr(twin, "svg", fails)
    still.take(record(40))
    still.draw()
    assert "<img" not in shown[0]["text/html"] and "Finished at step 40" in shown[0]["text/plain"]


def test_a_reset_brings_the_recorded_run_back_to_the_twin(quick, shown):
    lesson = LESSONS["00"]._replace(recorded=record(30).experiment)
    Store().add(record(30))
    lab = Lab(lesson)
    lab._ipython_display_()
    before = shown[1]
    lab.twin.take(record(40))
    lab.twin.draw()
    lab.reset()
    assert shown[1] == before and "Finished at step 30" in before["text/plain"]


@pytest.mark.parametrize("story", [record(40, end=False, student=None), Record(record(40).events[:1])])
def test_a_run_that_ended_early_is_shown_as_far_as_it_came(shown, story):
    still = Twin("Distil")
    still.display(record(30))
    still.take(story)
    still.draw()
    assert "step 30" not in shown[0]["text/plain"] and shown[0]["text/plain"]


def test_where_there_is_no_notebook_there_is_no_twin(shown, monkeypatch):
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: None)
    still = Twin("Distil")
    still.display(record(20))
    still.draw()
    still.take(record(20))
    assert shown == []


def test_a_board_without_a_run_has_no_twin_until_it_has_one(shown):
    still = Twin("Distil")
    still.display(None)
    assert shown == []


def test_a_lesson_that_ships_its_twin_has_it_whole():
    """`labkit build twins` writes it into the cell that opens the lesson."""
    found = 0
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code" or "labkit.open(" not in cell.source or not cell.outputs:
                continue
            (output,) = cell.outputs
            page = output.data["text/html"]
            assert len(page) <= 75_000 and len(re.search(r"base64,([^\"]+)", page)[1]) <= 60_000
            assert 'class="labkit-twin"' in page and "<table>" in page and not re.search("<script|<style|VBox", page)
            assert re.search(r'<img [^>]*alt="[^"]{80,}"[^>]*src="data:image/svg', page)
            assert output.data["text/plain"].startswith("Finished at step"), path
            assert cell.metadata.tags == ["keep-output"] and cell.execution_count == 1
            found += 1
    assert found
