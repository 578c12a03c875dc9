"""How a run goes on is told in one line where a line can be written over, and in a line now and then elsewhere."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest
import stories
from conftest import REPOSITORY

import labkit
from labkit.records import events as ev
from labkit.records.comparison import Comparison
from labkit.records.experiment import Experiment
from labkit.records.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_renews_itself_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    with Progress() as progress:
        progress.doing("Loading the models")
        assert screen.getvalue().rstrip(" ").endswith("\rLoading the models ...")
        progress.of("baseline")
        for event in stories.events(60):
            progress(event)
        progress(ev.Labelled(5, 10, 1.0))
        assert re.search(r"\rbaseline: step 1 of 60 .* left, KL 6\.\d", screen.getvalue())
    assert "\n" not in screen.getvalue() and screen.getvalue().endswith("\r")
    assert "the teacher answers" not in screen.getvalue(), "once it trains, that is told by its steps"


def test_a_terminal_that_does_not_tell_its_size_has_a_line_too():
    """As in a container without one: a new pseudo-terminal has 0 columns."""
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    code = "from labkit.records.progress import Progress\nwith Progress() as progress: progress.doing('Loading')"
    subprocess.run([sys.executable, "-c", code], stdout=child, env=os.environ | {"TERM": "xterm"}, check=True, cwd=REPOSITORY)
    os.write(child, b"END")
    shown = b""
    while not shown.endswith(b"END"):
        shown += os.read(parent, 10_000)
    os.close(child)
    os.close(parent)
    assert b"\rLoading ..." in shown


def test_what_stays_is_written_above_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    with Progress() as progress:
        progress.doing("Loading")
        progress(ev.Warned(0, "A warning."))
        progress(ev.Labelled(1_000, 20_000, 1.0))
    said = screen.getvalue()
    assert re.search(r"\r *\rA warning\.\n", said) and said.count("\n") == 1
    assert "\rthe teacher answers questions: 1,000 of 20,000" in said


def test_elsewhere_lines_are_printed_now_and_then(capsys):
    with Progress(every=20) as progress:
        progress.doing("Loading")
        for event in stories.events(60):
            progress(event)
    said = capsys.readouterr().out
    assert "\r" not in said and said.startswith("Loading ...\n")
    assert re.findall(r"step (\d+) of 60  loss \d+\.\d+  kl \d+\.\d+  (\d) s left", said) == [("20", "2"), ("40", "1"), ("60", "0")]
    assert said.count("exam: ") == 5


def test_the_time_left_is_that_of_steps_alone_and_a_run_that_is_over_has_none(capsys):
    """Labelling and the first exam take 100 s here, and each step 1 s."""
    started, *_ = stories.events(60)
    events = [started, *(ev.Step(step, 100.0 + step, step, {"loss": 1.0}) for step in range(1, 61))]
    for past in (False, True):
        progress = Progress(every=20, live=False, past=past)
        for event in events:
            progress(event)
        said = capsys.readouterr().out
        assert re.findall(r"step (\d+) of 60  loss 1.000(.*)", said) == [
            (str(step), "" if past else f"  {60 - step} s left") for step in (20, 40, 60)
        ]


def test_of_no_lines_none_is_printed(capsys):
    with Progress(every=0) as progress:
        progress.doing("Loading")
        progress.of("run 1 of 2")
        for event in [*stories.events(60), ev.Warned(60, "A warning.")]:
            progress(event)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_compare_tells_which_run_goes_on_where_somebody_looks(quick, monkeypatch, terminal: bool, capsys):
    shown = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    tiny = Experiment(student="22k", teacher="atlas-200k", steps=2, batch=8, questions=128, gold=32)
    compared = labkit.compare([tiny, tiny.but(temperature=2.0)], seeds=2)
    assert [[r.experiment.seed for r in runs] for runs in compared.records] == [[0, 1], [0, 1]]
    assert {f"run {n} of 4" in shown.getvalue() for n in range(1, 5)} == {terminal}
    assert terminal or not shown.getvalue()
    before = len(shown.getvalue())
    labkit.compare([tiny, tiny.but(temperature=2.0)], seeds=2)
    assert len(shown.getvalue()) == before, "of runs on record there is nothing to tell"


def test_a_comparison_is_one_table():
    runs = [[stories.record(40, noise=s, seed=s, temperature=t) for s in range(3)] for t in (1.0, 2.0)]
    first, *rows, how = repr(Comparison([r[0].experiment for r in runs], runs)).split("\n")
    assert first.split() == ["seeds", "mean", "skill", "recovery", "KL", "difference", "low", "high", "verdict"]
    assert [row.split("  ")[0] for row in rows] == [r[0].experiment.recipe for r in runs]
    assert rows[0].endswith("compared with") and "nan" not in "".join(rows).lower()
    assert how.startswith("Differences from the first recipe, paired over 3 seeds")
