"""Figures show the numbers of the record, say what is missing, and depend on nobody's settings."""

from __future__ import annotations

import base64
import errno
import html
import itertools
import math
import os
import pickle
import re
import subprocess
import sys
import threading

import matplotlib
import pytest
from matplotlib.colors import to_hex
from matplotlib.patheffects import withStroke
from stories import GOLD, HARD, STUDENT, TEACHER, events, record
from strokes import Strokes

from labkit.base.errors import DataError, LabError, MissingPackage
from labkit.base.files import data_dir
from labkit.records import events as ev
from labkit.records.names import BESIDE, CORE
from labkit.records.record import Record
from labkit.views import figures
from labkit.views.figures import pen as pens
from labkit.views.figures import run_charts, scales

ARMS = ("gold labels", "hard answers", "soft labels (this run)", "teacher")
PNG = b"\x89PNG\r\n\x1a\n"


def draw(chart, *args):
    pen = Strokes()
    chart(pen, *args)
    return pen


def bars_of(drawing, backend):
    """Right end of the bar of each arm, read back from the finished figure."""
    if backend == "plotly":
        return {t.name: t.base[0] + t.x[0] for t in drawing.figure.data if t.type == "bar" and t.name}
    bars = [c for c in drawing.figure.axes[0].containers if not c.get_label().startswith("_")]
    return {c.get_label(): c[0].get_x() + c[0].get_width() for c in bars}


@pytest.mark.parametrize("backend", figures.BACKENDS)
@pytest.mark.parametrize("hard", [None, HARD])
def test_waterfall_draws_the_records_waterfall(backend, hard):
    rec = record(hard=hard)
    drawing = figures.waterfall(rec, backend)
    wanted = dict(zip(ARMS, rec.waterfall().values(), strict=True))
    bars = bars_of(drawing, backend)
    assert list(bars) == list(ARMS), "four arms, always, in this order"
    for name, value in wanted.items():
        assert bars[name] == pytest.approx(1.0 if value is None else value), name


def test_waterfall_annotates_steps_and_admits_what_is_missing():
    texts = draw(run_charts.draw_waterfall, record(hard=HARD)).texts
    values = [sum(s[k] for k in CORE) / len(CORE) for s in (GOLD, HARD, STUDENT, TEACHER)]
    for before, after in itertools.pairwise(values):
        assert f"{after - before:+.2f}" in texts
    assert "not measured" not in texts

    pen = draw(run_charts.draw_waterfall, record(hard=None))
    assert pen.texts.count("not measured") == 1
    assert len(pen.of("hatch")) == 1
    assert f"{values[2] - values[0]:+.2f}" in pen.texts, "the step goes from the last arm that was measured"

    worse = {k: 0.9 * v for k, v in HARD.items()}
    pen = draw(run_charts.draw_waterfall, record(hard=HARD, student=worse))
    assert any(t.startswith("\u2212") for t in pen.texts), "a step down has a real minus sign"


@pytest.mark.parametrize(("seeds", "said"), [(1, False), (3, True)])
def test_references_over_several_seeds_say_so(seeds, said):
    rec = record(seeds=seeds)
    assert any("mean of 3 seeds" in t for t in draw(run_charts.draw_waterfall, rec).texts) is said
    title = draw(run_charts.draw_recovery, rec).of("title")[0][0][1]
    assert ("mean of 3 seeds" in title) is said
    assert ("mean of 3 seeds" in figures.describe(rec)) is said


@pytest.mark.parametrize("backend", figures.BACKENDS)
def test_curves_hold_every_step_exam_and_baseline_point(backend):
    rec = record(hard=HARD)
    figure = figures.curves(rec, backend=backend).figure
    if backend == "plotly":
        drawn = [(t.name, list(t.x), list(t.y)) for t in figure.data]
        assert figure.layout.yaxis.type == "log"
    else:
        axes = figure.axes[0]
        drawn = [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
        assert axes.get_yscale() == "log"
    steps, values = rec.curve("kl")
    assert any(xs == steps and ys == values for _, xs, ys in drawn), "the training curve as measured"
    by_name = {name: list(zip(xs, ys, strict=True)) for name, xs, ys in drawn}
    assert by_name["held-out exam"] == [(e.step, e.fidelity["kl"]) for e in rec.evaluations]
    for name in ("label budget", "same questions"):
        assert by_name[f"{name} baseline"] == list(rec.references[name].curve)
    assert len(by_name["student"]) == len(steps)


def test_curves_mark_knobs_and_the_previous_run():
    story = events()
    story.insert(250, ev.KnobTurned(240, 14.0, "temperature", 1.0, 2.0))
    pen = draw(run_charts.draw_curves, Record(story), record(noise=1))
    assert "T 1 \u2192 2" in pen.texts
    assert any(args[0] == [240, 240] for args, _ in pen.of("line"))
    assert {"student", "previous run", "label budget baseline", "\u25cb held-out exam"} <= set(pen.texts)
    assert "previous run" not in draw(run_charts.draw_curves, record()).texts
    dashes = {args[6]: args[4] for args, _ in pen.of("line") if len(args) > 6 and args[6]} | {
        kwargs.get("name"): kwargs.get("dash") for _, kwargs in pen.of("line")
    }
    assert dashes["label budget baseline"] == "dash"
    text = run_charts.say_curves(Record(story), record(noise=1))
    assert "temperature went from 1 to 2 at step 240" in text
    assert "previous run" in text


@pytest.mark.parametrize("baseline", ["label budget", "same questions"])
def test_recovery_places_three_dots_and_the_number_of_every_skill(baseline):
    rec = record(hard=HARD)
    found = rec.recovery(baseline)
    pen = draw(run_charts.draw_recovery, rec, baseline)
    dots = {}
    for args, _ in pen.of("dots"):
        role, skill = args[5].split(", ", 1)
        dots.setdefault(skill, {})[role] = args[0][0]
    for skill in (*CORE, *BESIDE):
        here = dots[run_charts.skill_name(skill)]
        assert here == {"baseline": found.reference[skill], "student": STUDENT[skill], "teacher": TEACHER[skill]}
    texts = [args for args, _ in pen.of("text")]
    numbers = {args[1]: args[2] for args in texts if args[0] == 1 and (args[2].endswith("%") or args[2] == "no gap")}
    rows = {args[1]: args[2] for args in texts if args[0] == 0 and args[4] == "right"}
    said = {rows[y]: text for y, text in numbers.items() if y in rows}
    assert said["mean of core skills"] == f"{100 * found.mean:.0f}%"
    for skill, share in found.per_skill.items():
        assert said[run_charts.skill_name(skill)] == ("no gap" if share is None else f"{100 * share:.0f}%".replace("-", "\u2212"))
    order = [name for _, name in sorted(((y, n) for y, n in rows.items()), reverse=True)]
    heading = order.index("beside it, not in the mean")
    assert order[heading + 1 :] == [run_charts.skill_name(s) for s in BESIDE], "listed apart, below"


def test_a_run_on_data_of_ones_own_has_one_score_and_its_name():
    own = {"title": "t", "data": "mine.jsonl", "score": "label_f1"}
    rec = record(60, teacher={"label_f1": 0.9}, gold={"label_f1": 0.5}, student={"label_f1": 0.7}, **own)
    rows, _ = run_charts.recovery_rows(rec)
    assert [(row[0], row[4]) for row in rows] == [("mean", "50%")]
    assert figures.describe(rec).count("score (label_f1)") + figures.describe(rec).count("Score (label_f1)") == 2
    assert "core skill" not in figures.describe(rec)
    assert "label_f1" in draw(run_charts.draw_recovery, rec).texts
    assert figures.snapshot(rec).png().startswith(PNG)


def test_no_gap_and_no_baseline_are_said_and_no_number_is_shown():
    assert "no gap" in draw(run_charts.draw_recovery, record()).texts, "two-hop: the teacher is 0.02 above the baseline"
    close = record(teacher={skill: value + 0.02 for skill, value in GOLD.items()})
    assert not any(t.endswith("%") for t in draw(run_charts.draw_recovery, close).texts), "nor for the mean, as on the board"
    pen = draw(run_charts.draw_recovery, record(gold=None))
    assert not any(t.endswith("%") for t in pen.texts)
    assert "no 'label budget' baseline on record" in pen.of("title")[0][0][1]
    assert "%" not in run_charts.say_recovery(record(gold=None))


@pytest.mark.parametrize("missing", [dict(gold=None), dict(teacher=None), dict(student=None), dict(gold=None, teacher=None, student=None)])
@pytest.mark.parametrize("backend", figures.BACKENDS)
def test_every_figure_can_be_drawn_of_an_incomplete_record(missing, backend):
    rec = record(60, end=False, **missing)
    for chart in (figures.waterfall, figures.curves, figures.recovery):
        assert chart(rec, backend=backend).alt
    assert figures.snapshot(rec).png().startswith(PNG)
    short = Record(events(60)[:1])  # nothing but "started"
    assert "no KL on record yet" in draw(run_charts.draw_curves, short).texts
    assert figures.snapshot(short).png().startswith(PNG)


def test_an_empty_record_and_an_unknown_backend_are_refused_with_a_sentence():
    with pytest.raises(LabError, match="empty"):
        figures.snapshot(Record())
    with pytest.raises(LabError, match="same questions"):
        figures.recovery(record(20), "same question")
    with pytest.raises(LabError, match="plotly"):
        figures.waterfall(record(20), backend="plotli")


def test_zero_and_missing_kl_do_not_break_the_log_axis():
    story = events(40)
    story[10] = ev.Step(8, 0.5, 100, {"loss": 1.0, "kl": 0.0})
    story[11] = ev.Step(9, 0.5, 100, {"loss": 1.0, "kl": None})  # a NaN, after a trip through JSON
    story[12] = ev.Step(10, 0.5, 100, {"loss": 1.0})
    lines = run_charts._curve_lines(Record(story), None)
    assert all(y > 0 for line in lines for y in line[2])
    assert figures.curves(Record(story)).png().startswith(PNG)


def test_a_page_shows_one_of_two_pictures_and_the_light_one_without_its_style_sheet():
    page = figures.curves(record(60))._repr_html_()
    looks = re.findall(r'<img alt="([^"]+)"[^>]* src="data:image/svg\+xml;base64,([^"]+)">', page)
    assert [(look, "display:none" in tag) for tag, look in re.findall(r'(<img [^>]*) class="([\w-]+)"', page)] == [
        ("dlab-light", False),
        ("dlab-dark", True),
    ]
    assert len({alt for alt, _ in looks}) == 1
    light, dark = (base64.b64decode(data).decode() for _, data in looks)
    assert pens.PAPER in light and pens.PAPER not in dark
    assert pens.PAPER.dark in dark and pens.PAPER.dark not in light
    assert "<text" not in light, "letters are paths: no font of the reader's is needed"
    assert ".dlab-light { display: none !important }" in page
    assert len(page) < 200_000


def test_a_drawing_shows_itself_with_its_alt_text_and_saves(tmp_path):
    rec = record(60, title='<img src=x onerror="alert(1)">')
    drawing = figures.snapshot(rec)
    page = drawing._repr_html_()
    alt = re.search(r'alt="([^"]*)"', page).group(1)
    assert "Mean core skill of four arms" in alt
    assert "<" not in alt
    assert drawing.bundles()[0][0]["text/plain"] == drawing.alt == figures.describe(rec)
    assert drawing.save(tmp_path / "a.png").read_bytes().startswith(PNG)
    with pytest.raises(LabError, match=r"\.png"):
        drawing.save(tmp_path / "a.jpeg")
    interactive = figures.curves(rec, backend="plotly")
    assert interactive.figure.layout.meta["alt"] == interactive.alt
    assert f'role="img" aria-label="{html.escape(interactive.alt)}"' in interactive.live_html()
    assert "html" in interactive.save(tmp_path / "a.html").read_text()[:200]


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.png", lambda path: figures.waterfall(record()).save(path)),
        ("a.html", lambda path: record().report(path)),
        ("a.jsonl", lambda path: record().save(path)),
    ],
)
def test_a_full_disk_is_told_with_the_file_and_leaves_the_older_one(name, save, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (path := tmp_path / name).write_text("older")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="free some space") as told:
        save(path)
    assert str(told.value).startswith(f"{path} cannot be written ({os.strerror(errno.ENOSPC)}): ")
    assert isinstance(told.value, OSError) and told.value.errno == errno.ENOSPC, "as callers expect of a disk"
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"]


def test_untrusted_text_is_never_markup_or_mathtext():
    rec = record(40, title="$\\frac{1}{$ <b>bold</b> \u202e\n")
    assert figures.snapshot(rec).png().startswith(PNG), "an unbalanced $ would raise in mathtext"
    story = events(40)
    story.insert(9, ev.KnobTurned(8, 1.0, "<img src=x>", 1.0, 2.0))
    texts = [a.text for a in figures.curves(Record(story), backend="plotly").figure.layout.annotations]
    assert any("&lt;img" in t for t in texts)
    assert not any("<img" in t for t in texts)
    assert scales.shown("a\u202eb\nc\x1b[0m", 80) == "a b c [0m"


def test_a_notebooks_dark_style_changes_nothing():
    rec = record(80)
    plain = figures.snapshot(rec).png()
    with matplotlib.rc_context():
        matplotlib.rcParams.update({"figure.facecolor": "black", "text.color": "white", "axes.facecolor": "none", "font.size": 30})
        matplotlib.rcParams.update({"savefig.transparent": True, "lines.linewidth": 9, "axes.edgecolor": "red"})
        matplotlib.rcParams.update({"text.usetex": True, "path.sketch": (9.0, 50.0, 9.0), "path.effects": [withStroke(linewidth=9)]})
        styled = figures.snapshot(rec)
        assert styled.png() == plain
        matplotlib.rcParams["svg.fonttype"] = "none"
        assert "<text" not in pens.MatplotlibPen.svg(styled.figure)
        assert "<text" in pens.MatplotlibPen.svg(styled.figure, paths=False)
    assert to_hex(styled.figure.get_facecolor()) == pens.PAPER


def test_threads_may_draw_at_the_same_time_and_pyplot_knows_nothing():
    rec = record(120)
    wanted, found = figures.snapshot(rec).png(72), []
    threads = [threading.Thread(target=lambda: found.append(figures.snapshot(rec).png(72))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 3
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_without_the_libraries_it_still_imports_and_says_what_to_install():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('matplotlib', 'plotly', 'numpy', 'pandas', 'ipywidgets', 'torch')))\n"
        "import labkit.lessons.predictions, labkit.lessons.exercises, labkit.views.figures as f\n"
        "from labkit.base.errors import MissingPackage\nfrom stories import record\n"
        "for backend in f.BACKENDS:\n"
        "    try: f.waterfall(record(20), backend); print('drawn')\n"
        "    except MissingPackage as e: print(backend, f'{backend}' in str(e))\n"
    )
    root = data_dir().parent
    env = {"PYTHONPATH": f"{root}:{root / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.stdout.split() == ["matplotlib", "True", "plotly", "True"], done.stderr
    assert issubclass(MissingPackage, LabError)


def test_smoothing_does_not_lag_and_keeps_a_constant():
    falling = [(float(i), math.exp(-i / 30)) for i in range(600)]
    for (x, y), (_, true) in zip(scales.smooth(falling)[20:-20], falling[20:-20], strict=True):
        assert y == pytest.approx(true, rel=1e-6), f"a straight line on a log axis stays where it is, at {x}"
    assert {round(y, 9) for _, y in scales.smooth([(i, 2.5) for i in range(50)])} == {2.5}
    assert scales.smooth([]) == []


def test_axes_cover_the_values_with_round_ends():
    assert scales.log_domain([0.34, 6.9]) == (0.1, 10.0)
    assert scales.log_domain([0.03]) == pytest.approx((0.02, 1.0))
    for longest in (1, 7, 40, 700, 1500, 100_000):
        found = scales.step_ticks(longest)
        assert found[0] == 0
        assert found[-1] <= longest
        assert 2 <= len(found) <= 7
    assert scales.spread([0.1, 0.11, 0.5], 0.1, 0, 1) == pytest.approx([0.1, 0.2, 0.5])
    assert scales.spread([0.97, 0.98], 0.1, 0, 1) == pytest.approx([0.9, 1.0])
