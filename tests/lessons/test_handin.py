"""What is handed in is what was done: written, read again and compared, and a page that somebody edited is found."""

from __future__ import annotations

import csv
import gzip
import html
import io
import re
import shutil
from pathlib import Path

import pytest
from soak.files import _story

import labkit
from labkit.base.errors import DataError, LabError
from labkit.base.files import append_row, home_dir, rows_of
from labkit.cli.main import main
from labkit.diagnosis.incidents import history
from labkit.lessons.exercises import EXERCISES
from labkit.lessons.grading import as_text, grade
from labkit.lessons.handin import Changed, handin, read
from labkit.lessons.passed import keep
from labkit.lessons.predictions import calibration, interval_score, ledger, predict, score
from labkit.records.store import Store

HOSTILE = '</pre><script>alert("1")</script><img src=x onerror=alert(2)>&amp;\u0000\u2028\ud800'
CASE = history.IncidentAnswer("7", ("dead_head",), ("dead_head", "x"), (), ("loss curve",), 3)


def recall(answer: float = 0.25) -> None:
    """A learner's work: two predictions, one exercise, one run, one incident."""
    score(predict("00", 0.2, 0.5, 0.8, unit="recovery"), 0.3)
    score(predict("01", 0.6, 0.8, 0.8), 0.5)
    predict("02", 0.1, 0.2, 0.5)
    assert labkit.check("00.recovery", lambda student, baseline, teacher: (student - baseline) / (teacher - baseline))
    Store().add(_story())
    history.keep(CASE)


def resealed(page: str, change: tuple[str, str]) -> str:
    """The page with a text of its data replaced by another, as an editor would."""
    old, new = map(html.escape, change)
    assert old in page
    return page.replace(old, new)


def test_what_is_read_is_what_was_written(tmp_path: Path):
    recall()
    said = handin(tmp_path / "ada.html", "Ada Łovelace", "")
    found = read(tmp_path / "ada.html")
    assert found == said
    assert (found.name, found.version, found.lesson) == ("Ada Łovelace", labkit.__version__, "")
    assert {question: (entry.prediction and entry.prediction.low, entry.truth) for question, entry in found.asked.items()} == {
        "00": (0.2, 0.3),
        "01": (0.6, 0.5),
        "02": (0.1, None),
    }
    assert list(found.solved) == ["00.recovery"]
    assert found.cases == [CASE]
    (run,) = found.runs
    assert (run.ended, run.steps, run.skill) == ("completed", 2, 0.5)
    assert run.recovery == pytest.approx((0.5 - 0.25) / (1 - 0.25))
    assert labkit.Experiment.from_recipe(run.recipe) == labkit.Experiment()
    assert said.sentence == "3 predictions, 1 exercise passed, 1 run, 1 incident."


def test_a_record_s_hash_is_that_of_its_file(tmp_path: Path):
    import subprocess

    path = Store().add(_story())
    (run,) = handin(tmp_path / "a.html").runs
    assert run.file == path.name
    assert subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.startswith(f"{run.sha256} ")


def test_a_browser_that_saves_the_page_changes_nothing(tmp_path: Path):
    """It writes quotes as they are, and adds what the page left out."""
    recall()
    said = handin(tmp_path / "a.html", "A \u00a0\"B\" <c> & 'd'")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    text = text.replace("&quot;", '"').replace("&#x27;", "'").replace("\u00a0", "&nbsp;").replace("\n", "\r\n")
    (tmp_path / "a.html").write_text(text.replace("</head>", '<base href="."></head>'), encoding="utf-8", newline="")
    assert read(tmp_path / "a.html") == said


@pytest.mark.parametrize(
    "change",
    [
        ('"truth": 0.5', '"truth": 0.7'),
        ('"name": "Ada"', '"name": "Bob"'),
        ('"recovery": 0.3333', '"recovery": 0.9333'),
        ('"seal":"', '"seal":"0'),
        ('"lesson": ""', '"lesson":  ""'),
    ],
)
def test_an_edited_page_is_found(tmp_path: Path, change: tuple[str, str], capsys):
    recall()
    page = tmp_path / "a.html"
    handin(page, "Ada")
    page.write_text(resealed(page.read_text(encoding="utf-8"), change), encoding="utf-8")
    with pytest.raises(Changed, match="was changed by hand"):
        read(page)
    assert main(["grade", str(page)]) == 0
    assert re.search(rf"{page}.*CHANGED by hand", capsys.readouterr().out)


def test_a_page_without_its_checksum_is_not_believed(tmp_path: Path):
    recall()
    page = tmp_path / "a.html"
    handin(page, "Ada")
    page.write_text(re.sub("&quot;seal&quot;:&quot;[0-9a-f]+&quot;", "&quot;x&quot;:1", page.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(Changed):
        read(page)


def test_two_learners_stand_in_one_table(tmp_path: Path, monkeypatch, capsys):
    pages = []
    for name, truth in (("Ada", 0.3), ("=HYPERLINK(1)", 0.9)):
        monkeypatch.setenv("LABKIT_HOME", str(tmp_path / name[:3]))
        score(predict("00", 0.2, 0.5, 0.8), truth)
        pages.append(str(tmp_path / f"{len(pages)}.html"))
        handin(pages[-1], name, "00")
    assert main(["grade", *pages, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["name"], row["scored"], row["inside"]) for row in rows] == [("Ada", "1", "1"), ("'=HYPERLINK(1)", "1", "0")]
    assert [float(row["penalty"]) for row in rows] == pytest.approx([0.3, 0.3 + 10 * 0.4])
    of = sum(name.startswith("00.") for name in EXERCISES)
    assert {row["exercises"] for row in rows} == {f"0 of {of}"}
    assert main(["grade", *pages]) == 0
    said = capsys.readouterr().out
    assert "no signature" in said and all(page in said for page in pages)


def test_a_copied_record_is_noted(tmp_path: Path, monkeypatch):
    pages = []
    for name in ("Ada", "Bob"):
        monkeypatch.setenv("LABKIT_HOME", str(tmp_path / name))
        Store().add(_story())
        handin(tmp_path / f"{name}.html", name)
        pages.append(str(tmp_path / f"{name}.html"))
    table, refused = grade(pages)
    assert not refused
    assert list(table.note) == [f"same record of a run as in {pages[1]}", f"same record of a run as in {pages[0]}"]


def test_pages_of_one_learner_are_no_copies(tmp_path: Path):
    Store().add(_story())
    predict("00", 0.2, 0.5, 0.8)
    predict("01", 0.2, 0.5, 0.8)
    for lesson in ("00", "01"):
        handin(tmp_path / f"{lesson}.html", "Ada", lesson)
    assert list(grade([str(tmp_path / "00.html"), str(tmp_path / "01.html")])[0].note) == ["", ""]


def test_text_that_is_shown_is_compared_with_the_data(tmp_path: Path, monkeypatch, capsys):
    """A browser that saves the page may change white space, quotes and the head, and nothing else."""
    recall()
    keep("00.kl", "costs $1 \\frac{1}{2} and $2 \x00")
    page = tmp_path / "a.html"
    said = handin(page, "Ada $ \\alpha")
    text = page.read_text(encoding="utf-8")
    assert read(page) == said and read(page).remark == ""
    saved = text.replace("</head>", '<base href="."></head>').replace("<h2", "\n  <h2").replace("&quot;", '"').replace("\x00", "\ufffd")
    page.write_text(saved, encoding="utf-8")
    assert read(page) == said and read(page).remark == ""
    assert text.count("0.2 to 0.5") == 1
    page.write_text(text.replace("0.2 to 0.5", "0.29 to 0.31"), encoding="utf-8")
    assert read(page) == said
    assert read(page).remark == "CHANGED by hand: the page shows '0.29 to 0.31', and its data says '0.2 to 0.5'"
    assert main(["grade", str(page)]) == 0
    assert "the page shows '0.29 to 0.31'" in capsys.readouterr().out
    page.write_text(text.replace("</html>", "</html>All passed."), encoding="utf-8")
    assert "the page shows 'All passed.'" in read(page).remark
    monkeypatch.setattr(labkit, "__version__", "99")
    assert read(page).remark == f"written by labkit {said.version}: the text that it shows was not checked"


def test_a_file_that_is_no_hand_in_is_not_overwritten(tmp_path: Path, capsys):
    recall()
    thesis, page = tmp_path / "thesis.html", tmp_path / "a.html"
    thesis.write_text("<p>My thesis</p>")
    assert main(["handin", "--out", str(thesis)]) == 2
    assert f"{thesis} exists and is no page of `labkit handin`" in capsys.readouterr().err
    assert thesis.read_text() == "<p>My thesis</p>"
    handin(page, "Ada")
    page.write_text(resealed(page.read_text(encoding="utf-8"), ('"name": "Ada"', '"name": "Bob"')), encoding="utf-8")
    assert handin(page, "Eve") == read(page), "a page that was changed is one all the same"


@pytest.mark.parametrize("piece", ["<pre", ' id="labkit-handin"', '<pre id="labkit-handin"', "<", "<pre id=>", "&#", "<!--", "</pre"])
def test_a_page_of_any_content_is_read_in_one_pass(tmp_path: Path, piece: str):
    """A search that goes back at each piece would take hours here."""
    (tmp_path / "a.html").write_text("<pre" + piece * (2_000_000 // len(piece)))
    with pytest.raises(DataError, match="is no hand-in"):
        read(tmp_path / "a.html")


def test_a_page_has_a_largest_size(tmp_path: Path):
    with (tmp_path / "a.html").open("wb") as file:
        file.truncate(30_000_000)
    with pytest.raises(DataError, match=r"is no hand-in \(it has more than 20 MB"):
        read(tmp_path / "a.html")


def test_old_rows_and_records_that_no_page_can_hold_are_damaged(tmp_path: Path):
    """Rows of older versions have no checksum, so a file may hold what JSON has no word for."""
    ledger().parent.mkdir(parents=True, exist_ok=True)
    row = '{"kind": "prediction", "question_id": "%s", "low": %s, "high": 1, "confidence": 0.5}\n'
    ledger().write_text(row % ("00", "0.5") + row % ("01", "NaN") + row % ("02", "-1e999") + row % (r"\ud800", "0"))
    recall_of = _story()
    path = Store().add(recall_of)
    lines = gzip.decompress(path.read_bytes()).decode()
    assert '"skills":' in lines
    path.with_name("0123.jsonl.gz").write_bytes(gzip.compress(re.sub(r'("skills": ?\{"[^"]+": ?)[0-9.]+', r"\1NaN", lines).encode()))
    said = handin(tmp_path / "a.html")
    assert said == read(tmp_path / "a.html")
    assert (list(said.asked), said.damaged) == (["00"], 3)
    assert {run.file: run.ended for run in said.runs} == {path.name: "completed", "0123.jsonl.gz": "cannot be read"}


def test_only_questions_of_the_lessons_are_counted_and_lines_of_another_version_are_noted(tmp_path: Path):
    recall()
    handin(tmp_path / "a.html", "Ada")
    score(predict("the sun rises", 1, 1, 0.999), 1)
    append_row(ledger(), {"kind": "of 2030", "question_id": "00"})
    handin(tmp_path / "b.html", "Ada")
    a, b = grade([str(tmp_path / "a.html"), str(tmp_path / "b.html")])[0].to_dict("records")
    names = ("predictions", "scored", "inside", "penalty")
    assert [a[name] for name in names] == [b[name] for name in names]
    assert b["note"] == "1 line of another version of the lab, not counted"


def test_a_cell_cannot_take_the_table_apart(tmp_path: Path):
    recall()
    handin(tmp_path / "a.html", "Ada\u202e\x1b[2J\n" + "x" * 5_000)
    table, _ = grade([str(tmp_path / "a.html")])
    assert not set("\u202e\x1b\n") & set(table.name[0])
    lines = as_text(table).splitlines()
    assert len(lines) == 2 and len(lines[1]) < 400


def test_a_lesson_s_page_holds_its_own_work_alone(tmp_path: Path):
    recall()
    said = handin(tmp_path / "a.html", lesson="00")
    assert (list(said.asked), list(said.solved), said.cases, len(said.runs)) == (["00"], ["00.recovery"], [], 1)
    assert handin(tmp_path / "b.html", lesson="11").cases == [CASE]
    with pytest.raises(LabError, match="unknown lesson '12'"):
        handin(tmp_path / "c.html", lesson="12")


def test_no_run_yet(tmp_path: Path):
    predict("00", 0.2, 0.5, 0.8)
    assert handin(tmp_path / "a.html").runs == read(tmp_path / "a.html").runs == ()
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "No run yet." in text and "No exercise passed yet." in text


def test_nothing_to_hand_in_is_a_sentence_and_no_file(tmp_path: Path, capsys):
    assert main(["handin", "--out", str(tmp_path / "a.html")]) == 2
    assert f"there is nothing to hand in in {home_dir()}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_damaged_files_cost_only_their_own_rows(tmp_path: Path):
    recall()
    lines = ledger().read_text().splitlines()
    ledger().write_text("\n".join([lines[0].replace("0.2", "0.1"), *lines[1:]]) + "\n")  # the prediction of 00
    broken = Store().own / "0123.jsonl.gz"
    broken.write_bytes(b"no record")
    said = handin(tmp_path / "a.html")
    assert said.damaged == read(tmp_path / "a.html").damaged == 1
    assert said.sentence.endswith("1 damaged line left out.")
    assert said.asked["00"].prediction is None
    assert {run.file: run.ended for run in said.runs}[broken.name] == "cannot be read"
    table, _ = grade([str(tmp_path / "a.html")])
    assert table.note[0] == "1 damaged line in the learner's files"


@pytest.mark.parametrize("content", [b"", b"<p>My homework</p>", b"\xff\xfe", b'<pre id="labkit-handin"></pre>' * 2])
def test_another_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, capsys):
    recall()
    handin(tmp_path / "ada.html", "Ada")
    (tmp_path / "other.html").write_bytes(content)
    assert main(["grade", str(tmp_path / "other.html"), str(tmp_path / "ada.html"), str(tmp_path / "none.html")]) == 2
    said = capsys.readouterr()
    assert "Ada" in said.out, "the others are read all the same"
    other, none = said.err.splitlines()
    assert re.fullmatch(r"labkit: \S+other.html is no hand-in \(.+\)\. Give pages that `labkit handin` wrote\.", other)
    assert re.fullmatch(r"labkit: \S+none.html cannot be read \(No such file or directory\): .+\.", none)


def test_hostile_text_is_text(tmp_path: Path):
    """In every place that a learner, or a file that the learner got, can fill."""
    name = HOSTILE.replace("\ud800", "")
    predict(HOSTILE.replace("\ud800", ""), 0, 1, 0.5)
    keep("00.kl", HOSTILE)
    history.keep(history.IncidentAnswer(name, (name,), (name,), (name,), (name,), 1))
    said = handin(tmp_path / "a.html", name)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert read(tmp_path / "a.html") == said
    assert "<script" not in text and "<img" not in text and text.count("</pre>") == 1 + len(said.solved)
    with pytest.raises(LabError, match="no file can hold"):
        handin(tmp_path / "b.html", "\ud800")


def test_forged_data_of_another_kind_is_refused(tmp_path: Path):
    """A checksum can be made by anyone: what is in a page is checked all the same."""
    from labkit.base.files import sealed_row

    recall()
    handin(tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    whole = {"name": "", "lesson": "", "version": "", "made": "", "predictions": {}, "incidents": {}, "runs": []}
    run = {"file": "", "sha256": "", "recipe": "", "ended": "", "steps": 1, "skill": None, "recovery": None}

    def forged(**changes: object) -> Path:
        data = html.escape(sealed_row(whole | changes).decode())
        (tmp_path / "b.html").write_text(re.sub(r'(id="labkit-handin">)[^<]*', lambda found: found[1] + data, text), encoding="utf-8")
        return tmp_path / "b.html"

    assert read(forged(runs=[run])).runs[0].steps == 1
    wrong = [{"name": 1}, {"runs": {}}, {"runs": [[]]}, {"runs": [run | {"steps": "1"}]}, {"runs": [run | {"skill": True}]}]
    wrong += [{"predictions": []}, {"predictions": {"x": {}}}, {"incidents": {"1": 5}}, {"made": None}]
    for changes in wrong:
        with pytest.raises(DataError, match="is no hand-in"):
            read(forged(**changes))
    odd = read(forged(predictions={"1": {"kind": "pass", "exercise": []}, "2": {"kind": "prediction", "question_id": {}}, "3": None}))
    assert (odd.solved, odd.asked, odd.damaged) == ({}, {}, 1)


def test_a_passed_exercise_is_kept_with_its_answer_and_a_failed_one_is_not(tmp_path: Path, monkeypatch):
    def kl(teacher_logits, student_logits):
        p, q = teacher_logits.log_softmax(-1), student_logits.log_softmax(-1)
        return (p.exp() * (p - q)).sum(-1)

    assert not labkit.check("00.kl", lambda teacher, student: teacher)
    assert not ledger().exists()
    assert labkit.check("00.kl", kl)
    solved = handin(tmp_path / "a.html").solved
    assert list(solved) == ["00.kl"]
    assert "def kl(teacher_logits, student_logits):" in solved["00.kl"].answer
    assert calibration()["n"] == calibration()["unreadable"] == 0, "it is no prediction, and no damage"
    (row,) = rows_of(ledger()).values()
    assert row and row["kind"] == "pass"
    monkeypatch.setenv("LABKIT_HOME", "/proc/none")
    verdict = labkit.check("00.kl", kl)
    assert verdict.ok and "This could not be kept" in verdict.reason


def test_scores_are_worked_out_here(tmp_path: Path):
    recall()
    handin(tmp_path / "a.html")
    table, _ = grade([str(tmp_path / "a.html")])
    guesses = [(entry.prediction, entry.truth) for entry in read(tmp_path / "a.html").asked.values() if entry.truth is not None]
    assert table.penalty[0] == pytest.approx(sum(interval_score(guess, truth) for guess, truth in guesses) / 2)
    assert (table.scored[0], table.inside[0], table.incidents[0]) == (2, 1, 0.5)


def test_the_page_needs_nothing_from_elsewhere_and_fits_a_phone(tmp_path: Path):
    recall()
    handin(tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|url\(|https?://", text)
    assert 'name="viewport" content="width=device-width"' in text and "color-scheme: light dark" in text
    shutil.rmtree(home_dir())
    assert read(tmp_path / "a.html").sentence
