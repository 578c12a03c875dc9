"""The command line: flags from fields, sentences for errors, records that can be replayed."""

from __future__ import annotations

import datetime
import errno
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unicodedata

import pytest
from conftest import REPOSITORY
from helpers import toml

import labkit
from labkit.base.files import data_dir
from labkit.cli import build, output, run
from labkit.cli.knobs import TITLES
from labkit.cli.main import COMMANDS, main
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.recipe_text import GROUPS
from labkit.records.record import Record
from labkit.records.store import Store

TINY = ["--student", "22k", "--teacher", "atlas-200k", "--steps", "4", "--batch", "16", "--questions", "128", "--gold", "32"]


def test_a_run_prints_its_recipe_and_can_be_replayed(quick, tmp_path, capsys):
    path = tmp_path / "run.jsonl.gz"
    assert main(["run", *TINY, "--out", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("labkit student=22k")
    first, second = said.splitlines()[1:3]
    assert (first, second) == ("Loading PyTorch ...", "Loading the teacher and the student ...")
    assert "recovery: not shown, since the label-budget baseline is not on record" in said
    kept = Store().place(Experiment.from_recipe(said.splitlines()[0]))
    assert said.splitlines()[-1] == f"record: {kept}" and kept.exists()
    assert "\r" not in said and "read from" not in said
    assert main(["replay", str(path), "--events"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events][0] == "started"
    assert events[-1]["event"] == "finished"


def test_the_advised_command_measures_the_baseline_and_says_what_came_from_a_record(quick, capsys):
    assert main(["run", *TINY]) == 0
    said = capsys.readouterr().out
    assert "recovery: not shown" in said
    (advised,) = [line.split("python -m labkit ")[1] for line in said.splitlines() if "python -m labkit run" in line]
    assert main(advised.split()) == 0
    said = capsys.readouterr().out
    today, place = datetime.date.today(), Store().place(Experiment.from_recipe(said.splitlines()[0]))
    assert f"read from the record of {today}, at {place}; --fresh runs it again" in said
    assert "-- baseline" in said and "step 4 of 4" not in said and "recovery over the label budget" in said
    assert main(["run", *TINY]) == 0
    said = capsys.readouterr().out
    assert "recovery over the label budget" in said and "-- baseline" not in said


def test_a_shipped_record_has_a_place_and_no_date(capsys):
    assert main(["run", "--student", "57k", "--learning-rate", "0.02"]) == 0
    said = capsys.readouterr().out
    place = Store().place(Experiment(student="57k", learning_rate=0.02))
    assert place.exists() and f"read from the record that ships with the lab, at {place}" in said


@pytest.mark.parametrize(("answer", "measured"), [("", True), ("y", True), ("n", False)])
def test_on_a_terminal_the_baseline_is_asked_for_and_one_line_renews_itself(answer, measured, quick, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen, asked = Terminal(), []
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    assert main(["run", *TINY]) == 0
    said = screen.getvalue()
    assert len(asked) == 1 and "the same student on the 32 gold labels alone" in asked[0]
    assert ("recovery over the label budget" in said) is measured
    assert "\rLoading PyTorch ..." in said and re.search(r"\rstep 1 of 4 .*\| .* left, KL \d", said)
    assert ("\rbaseline: " in said) is measured
    assert not [line for line in said.split("\n") if re.match(r" +\d+\.\d s ", line)], "no lines besides"


def test_a_recorded_recipe_is_run_again_and_compared(quick, tmp_path, capsys):
    experiment = Experiment(student="22k", teacher="atlas-200k", steps=60, batch=8, questions=128, gold=32)
    assert main(["rerun", *experiment.recipe.split()]) == 2
    assert "is not on record" in capsys.readouterr().err
    assert main(["run", *experiment.recipe.split()]) == 0
    capsys.readouterr()
    path = tmp_path / "run.toml"
    path.write_text(toml(experiment))
    assert main(["rerun", "--toml", str(path), "--steps", "52"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(experiment.recipe)
    assert re.search(r"step 50 of 60  loss .* s left", said), "its progress, as that of a run"
    assert "the first 52 of 60 steps: losses differ by at most 0 of their size" in said
    assert "The same bits are expected, and every digit on record is the same." in said
    assert main(["rerun", "labkit", "--toml", str(path)]) == 2
    assert "not both" in capsys.readouterr().err
    assert main(["rerun", *experiment.recipe.split(), "--steps", "0"]) == 2
    assert "steps=0 must be at least 1" in capsys.readouterr().err


def test_toml_and_recipe_say_the_same(quick, tmp_path, capsys):
    experiment = Experiment(student="22k", teacher="atlas-200k", steps=2, batch=8, questions=128, gold=32)
    path = tmp_path / "run.toml"
    path.write_text(toml(experiment))
    assert main(["run", "--toml", str(path)]) == 0
    assert main(["run", *experiment.recipe.split()]) == 0
    assert capsys.readouterr().out.count(experiment.recipe) >= 2


def test_version_and_nothing_at_all(capsys):
    assert told(["--version"], capsys) == f"labkit {labkit.__version__}\n"
    assert main([]) == 2
    helped = capsys.readouterr().out
    assert all(re.search(rf"^    {command} ", helped, re.M) for command in COMMANDS)


def told(words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "distill"])
def test_every_field_is_a_flag_and_help_shows_those_that_are_not_advanced(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    short, full = told([command, "--help"], capsys), told([command, "--help-all"], capsys)
    for name, entry in KNOBS.items():
        flag = re.compile(rf"^  --{name.replace('_', '-')} (?!X\b)[A-Z{{0-9-]\S*", re.M)
        assert flag.search(full)
        assert bool(flag.search(short)) is not entry.knob.advanced
    assert "--help-all" in short
    assert list(TITLES) == list(GROUPS)
    titles = [line.removesuffix(":") for line in full.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert [title for title in titles if title in TITLES.values()] == list(TITLES.values())
    for takes in (
        "--student MODEL",
        "--start {random,warm,copied}",
        "--temperature 0.25..20",
        "--gold LABELS",
        "--seed N",
        "--method NAME",
    ):
        assert f"  {takes}" in short
    assert max(map(len, short.splitlines())) <= 100
    if command == "run":
        assert len(short.splitlines()) <= 90


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--temperature", "99"], "0.25 to 20"),
        (["run", "--student", "58k"], "Did you mean '57k'"),
        (["run", "--steps", "many"], "whole number"),
        (["run", "--seed", "9" * 400], "seed is a whole number of about 400 digits, which is out of range"),
        (["run", "--seed", "9" * 5000], "99999…' must be a whole number"),
        (["run", "temperature=2"], "not a recipe"),
        (["run", "--temprature", "2"], "labkit run has no flag --temprature. Did you mean --temperature?"),
        (["distill", "--out", "x", "--no-base-line"], "labkit distill has no flag --no-base-line. Did you mean --no-baseline?"),
        (["run", "--steps"], "argument --steps: expected one argument. `labkit run --help`"),
        (["run", "--st", "2"], "ambiguous option: --st"),
        (["claims", "all"], "labkit claims has no argument all"),
        (["--verison"], "labkit has no flag --verison. Did you mean --version?"),
        (["distill", "--out", "/", "--prompt-column", "q", "--data", "x.csv"], "--out / is the root of the disk"),
        (["distill", "--out", "/", "--teacher", "./a", "--student", "./b", "--data", "c"], "--out / is the root of the disk"),
        (["rnu"], "unknown command 'rnu'. Did you mean 'run'?"),
        (["--quite"], "labkit has no flag --quite. `labkit --help`"),
        (["distill", "--teacher", "atlas-200k"], "required: --out"),
        (["run", "--data", "my mails.jsonl"], "contains a space, which a recipe cannot hold: move the file or folder"),
        (["run", "--data", "tickets", "--score", "regex:^a b$"], "contains a space, which a recipe cannot hold: write \\s"),
        (["run", "--teacher", "./my model"], "contains a space, which a recipe cannot hold: move the file or folder"),
        (["distill", "--out", "my out", "--data", "mails.csv", "--prompt-column", "mail"], "--out 'my out' contains a space"),
        (["distill", "--out", "out", "--teacher", "none", "--student", "57k"], "needs a teacher, a student and data"),
        (["run", "--toml", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["replay", "nowhere.jsonl"], "no record at nowhere.jsonl"),
        (["build", "tables", "all"], "takes no names"),
        (["build", "teachers", "atlas-3n"], "Did you mean 'atlas-3m'"),
        (["build", "adapters", "atlas-3m-lie-30"], "Did you mean 'atlas-3m-lies-30'"),
        (["build", "measurements", "flip"], "Did you mean 'flips'"),
    ],
)
def test_bad_words_get_one_sentence_and_exit_code_2(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


def test_check_counts_damage(tiny_folder, tmp_path, monkeypatch, capsys):
    damaged = tmp_path / "data"
    shutil.copytree(tiny_folder, damaged)
    monkeypatch.setenv("LABKIT_DATA", str(damaged))
    assert main(["check"]) == 0
    model = next((damaged / "teachers").glob("*/model.safetensors"))
    model.write_bytes(model.read_bytes()[:-1])
    assert main(["check"]) == 1
    assert "damaged" in capsys.readouterr().out


def test_check_counts_a_damaged_results_table(tiny_folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(tiny_folder, tmp_path / "data")
    for name in ("results.csv", "manifest.json"):
        shutil.copy(REPOSITORY / "data" / name, tmp_path / "data")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "results.csv").write_text("key\n")
    assert main(["check", "--records"]) == 1
    out, error = capsys.readouterr()
    assert out.count("results.csv is damaged") == 1 and "not counted, nor compared" in out and error == ""


def test_a_damaged_manifest_is_counted_too(tiny_folder, tmp_path, monkeypatch, capsys):
    damaged = tmp_path / "data"
    shutil.copytree(tiny_folder, damaged)
    monkeypatch.setenv("LABKIT_DATA", str(damaged))
    next((damaged / "teachers").glob("*/manifest.json")).write_text("{")
    assert main(["check"]) == 1
    assert "damaged" in capsys.readouterr().out


def test_every_recipe_can_be_built():
    assert sorted(build.RECIPES) == sorted(path.stem for path in (data_dir() / "recipes").glob("*.py"))


def test_a_missing_package_is_a_sentence(monkeypatch, capsys):
    def absent(options):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(run, "run", absent)
    assert main(["run"]) == 2
    assert "pip install torch" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there/x"), "SafetensorError", PermissionError("no")])
def test_a_full_disk_is_a_sentence_and_a_fault_of_the_lab_is_none(error, monkeypatch, capsys):
    from safetensors import SafetensorError

    def fails(options):
        raise SafetensorError("I/O error: no space\nmore") if isinstance(error, str) else error

    monkeypatch.setattr(run, "run", fails)
    assert main(["run"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("labkit: a file cannot be read or written (") and told.count("\n") == 1
    assert "No space left on device: there/x" in told or "I/O error: no space)" in told or "(no)" in told
    monkeypatch.setattr(run, "run", lambda options: [0] * 2**60)
    assert main(["run"]) == 2
    assert capsys.readouterr().err.startswith("labkit: memory ran out. Choose a smaller")
    monkeypatch.setattr(run, "run", lambda options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["run"])


@pytest.mark.parametrize("command", [["run"], ["sweep", "grid.toml"], ["export", "trl", "labkit", "method=gold"]])
def test_where_a_result_goes_is_looked_at_before_it_is_made(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for place in ("labkit.studies.run.record", "labkit.studies.sweep.Sweep.run", "labkit.studies.export.task_of"):
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail("it was made"))
    (tmp_path / "grid.toml").write_text("[grid]\ntemperature = [1, 2]\n")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.py").mkdir()
    for out in ("file/x.py", "file/new/x.py", *(["folder.py"] if command[0] != "export" else [])):
        assert main([*command, "--out", out]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"labkit: --out {out}") and told.count("\n") == 1
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    output.writable(tmp_path / "new" / "x.csv")
    assert list((tmp_path / "new").iterdir()) == []


def test_the_usage_of_export_shows_where_the_recipe_stands(capsys):
    assert "export trl [labkit NAME=VALUE ...] [--toml TOML] --out OUT" in told(["export", "--help"], capsys)


EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\rhidden"


def test_text_of_others_reaches_the_terminal_without_control_characters(tmp_path, capfd):
    story = [
        ev.Started(Experiment().to_dict(), "a title", 3, 2, 2, 2, (EVIL,), "here"),
        ev.Warned(0, f"warned: {EVIL}"),
        ev.Evaluated(1, 0.75, {EVIL: 0.5}, {"kl": 1.0}, {}, 0.5),
        ev.Finished(1, 1.0, "completed", {}),
    ]
    Record(story).save(tmp_path / "rec.jsonl")
    for words in (
        ["replay", str(tmp_path / "rec.jsonl")],
        ["replay", str(tmp_path / f"{EVIL}.jsonl")],
        ["replay", "--events", str(tmp_path / "rec.jsonl")],
    ):
        main(words)
        told = "".join(capfd.readouterr())
        assert "\\u001b[2J\\u009b31m" in told
        assert not [letter for letter in told if letter not in "\n\t" and unicodedata.category(letter) == "Cc"]
        if "--events" in words:
            assert json.loads(told.splitlines()[1])["message"] == f"warned: {EVIL}"


INTERRUPTED = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, as those of a test server, ignore it
wanted, sent = sys.argv.pop(), getattr(signal, sys.argv.pop())

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        try:
            if name == wanted:
                os.kill(os.getpid(), sent)
        except KeyboardInterrupt:
            if name != "numpy":  # which loses it, as compiled packages do
                raise

sys.meta_path.insert(0, Interrupts())
sys.argv += ["claims"]
runpy.run_module("labkit", run_name="__main__")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("name", "told"), [("-m", True), ("/usr/bin/labkit", True), ("my_script.py", False)])
def test_a_command_stopped_before_it_can_listen_ends_in_a_sentence_and_a_script_as_python_does(name, told):
    code = f"import sys; sys.argv = [{name!r}]; import labkit; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stderr == "labkit: stopped.\n") is told
    assert ("Traceback" in done.stderr) is not told
    assert done.returncode


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("when", ["labkit.cli.sweep", "labkit.studies.claims", "numpy"])
def test_an_interrupt_while_a_command_is_imported_is_a_sentence(when, sent, code):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, sent, when], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("labkit: stopped.") and done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="elsewhere no process can become another")
def test_lab_becomes_jupyterlab_and_says_so_to_root(monkeypatch, tmp_path, capsys):
    became = []
    monkeypatch.chdir(tmp_path)  # and back, at the end
    monkeypatch.setattr(os, "execv", lambda *what: became.append((*what, os.getcwd())) or int("became"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a second process"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    for user, told in ((0, "You are root: JupyterLab is started with --allow-root"), (1000, "")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        with pytest.raises(ValueError, match="became"):
            main(["lab", "--port", "8123"])
        path, command, where = became.pop()
        assert path == command[0] == sys.executable
        assert command[1:3] == ["-m", "jupyterlab"] and "--port=8123" in command
        assert ("--allow-root" in command) is (user == 0)
        assert where == str(REPOSITORY)
        assert capsys.readouterr().out.startswith(told) and bool(told) is (user == 0)


def test_a_damaged_workspace_is_written_again_and_a_whole_one_is_left(tmp_path):
    from labkit.cli.lab import server_options

    server_options(tmp_path)
    (workspace,) = (tmp_path / "workspaces").iterdir()
    default = workspace.read_text(encoding="utf-8")
    for damaged in ("{", "", "[]", "\x00"):
        workspace.write_text(damaged)
        server_options(tmp_path)
        assert workspace.read_text(encoding="utf-8") == default
    workspace.write_text(json.dumps(mine := json.loads(default) | {"data": {"mine": 1}}))
    server_options(tmp_path)
    assert json.loads(workspace.read_text(encoding="utf-8")) == mine


WAITS = """
import subprocess, sys
from labkit.cli.lab import _waited_for
server = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(100)"], start_new_session=True)
sys.exit(_waited_for(server) == -15)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_where_lab_cannot_become_jupyterlab_it_hands_signals_on():
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as waiting:
        assert waiting.stdout.readline() == "up\n"
        waiting.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        waiting.terminate()
        assert waiting.wait(60) == 1, "the server ended by SIGTERM"


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize(("words", "code"), [(["claims"], 141), (["inspect", "nothing"], 141), (["--help"], 0), (["run", "--help"], 0)])
def test_a_command_whose_output_nobody_reads_ends_quietly(words: list[str], code: int):
    """As `labkit claims | true`: what is written there goes nowhere, also what was still in a buffer."""
    read, write = os.pipe()
    os.close(read)
    both = {"stderr": subprocess.STDOUT} if "inspect" in words else {"stderr": subprocess.PIPE}
    done = subprocess.run([sys.executable, "-m", "labkit", *words], stdout=write, text=True, cwd=REPOSITORY, **both)
    os.close(write)
    assert (done.returncode, done.stderr or "") == (code, "")


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), ConnectionResetError(errno.ECONNRESET, "reset by peer")])
def test_a_pipe_to_anything_but_the_output_is_told(error: OSError, monkeypatch: pytest.MonkeyPatch, capsys):
    def broken(*_):
        raise error

    monkeypatch.setattr("labkit.studies.claims.claims", broken)
    assert main(["claims"]) == 2
    assert f"the connection to another process or machine broke off ({error})" in capsys.readouterr().err
