"""The page stands alone, says what was measured and what was not, and trusts no text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
import stories

import labkit
from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.comparison import Comparison
from labkit.records.names import METHODS
from labkit.records.record import Record
from labkit.views.figures.pen import MatplotlibPen
from labkit.views.report import report


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(autouse=True)
def unpainted(monkeypatch: pytest.MonkeyPatch):
    """Pictures without strokes: painting them takes longer than all else."""
    monkeypatch.setattr(MatplotlibPen, "svg", staticmethod(lambda figure: "<svg/>"))


def test_it_stands_alone_and_its_pictures_speak(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    page = Page(report(stories.record(60)))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(set(sources)) == len(sources) == 6, "three pictures for light pages, and three for dark ones"
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(len(attributes["alt"]) > 40 for tag, attributes in page.tags if tag == "img")
    assert ("html", {"lang": "en"}) in page.tags
    assert "http" not in "".join(str(attributes) for _, attributes in page.tags).replace("data:", "")


def test_it_says_what_the_record_says():
    record = stories.record(60, temperature=2.0)
    text = Page(record.report()).text
    assert record.experiment.recipe in text
    assert "0.65" in text, "the mean core skill"
    assert "seed 0: no band" in text
    assert "Cost" in text


def test_of_data_of_ones_own_it_says_nothing_of_the_small_world():
    own = {"data": "mine.jsonl", "score": "exact"}
    text = Page(report(stories.record(60, teacher={"exact": 0.9}, gold={"exact": 0.5}, student={"exact": 0.7}, **own))).text
    assert "held out of the same data" in text
    assert "core skill" not in text
    assert "small world" not in text


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (stories.record(60, gold=None), "was not measured, so no recovery"),
        (stories.record(60, seeds=3), "mean over 3 seeds"),
        (stories.record(60, end=False), "did not finish"),
        (Record([*stories.events(60), ev.KnobTurned(30, 1.0, "temperature", 1.0, 4.0)]), "temperature to 4 at step 30"),
        (Record([*stories.events(60), ev.KnobTurned(30, 1.0, "speed", "full", "slow")]), "speed to slow at step 30"),
    ],
)
def test_its_limits_are_told(record: Record, words: str):
    assert words in Page(report(record)).text


METHOD_WORDS = {
    "output": "soft labels (this run)",
    "answers": "hard answers",
    "gold": "gold labels (this run)",
    "hidden": "soft labels, states",
    "similarity": "soft labels, similarities",
    "relations": "soft labels, relations",
    "sequence": "teacher's text",
    "online": "online soft labels",
    "mutual": "gold labels, a peer",
    "next_state": "soft labels, next state",
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_name_and_a_page(method: str):
    assert METHOD_WORDS[method] in Page(report(stories.record(40, method=method))).text


def test_text_from_a_record_is_never_markup():
    record = stories.record(40)
    hostile = [
        ev.Started(record.experiment.to_dict(), "t", 1, 1, 40, 1, (), "<script>alert(1)</script>") if isinstance(e, ev.Started) else e
        for e in record.events
    ]
    page = Page(report(Record(hostile)))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text


def test_a_comparison_has_its_table_and_every_recipe(tmp_path):
    runs = [[stories.record(40, noise=s, seed=s, temperature=t) for s in range(2)] for t in (1.0, 2.0)]
    compared = Comparison([r[0].experiment for r in runs], runs)
    path = tmp_path / "out.html"
    text = compared.report(path)
    assert path.read_text(encoding="utf-8") == text
    page = Page(text)
    assert page.text.count("labkit temperature=2") >= 2
    assert "paired over 2 seeds" in page.text
    assert labkit.report is report


def test_a_run_without_an_exam_is_refused():
    with pytest.raises(LabError, match="no exam"):
        report(stories.record(40, student=None))
