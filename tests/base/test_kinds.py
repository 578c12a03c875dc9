"""A value of the wrong kind, given to any public function, is refused with its name, the kinds that fit, and what the docstring says."""

from __future__ import annotations

import inspect
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

import labkit
from labkit.base.errors import LabError, shown
from labkit.base.kinds import _KINDS, kinds_checked
from labkit.records.results import Recorded
from labkit.studies.sweep import Sweep

DEEP: list[Any] = []
for _ in range(5_000):
    DEEP = [DEEP]
ODD: tuple[Any, ...] = (None, 3, 2.5, "x", [], {}, object(), b"x", True, math.nan, Path("nowhere"), {1}, 10**30, 10**5000)
ODD += (DEEP, np.arange(3), pandas.NA, torch.ones(1, 2), b"x" * 100_000)
RIGHT = {"str": "x", "int": 1, "float": 0.5, "bool": False, "Path": Path("x"), "Callable": print, "Sequence": [], "Iterable": []}
RIGHT |= {"Record": labkit.Record(), "None": None}
CHECKED_ELSEWHERE = {"Experiment", "LlamaForCausalLM", "LanguageModel", "Any"}  # by `Experiment.of` and `tokenizer_of`
CHECKED_ELSEWHERE |= {"ev.Event", "Question", "Fact"}  # of the lab's own making
FUNCTIONS = [name for name in labkit.__all__ if not isinstance(getattr(labkit, name), type)]
OWNERS = (labkit.Record, Recorded, labkit.Atlas, Sweep)
METHODS = {
    f"{owner.__name__}.{name}": member
    for owner in OWNERS
    for name, member in vars(owner).items()
    if inspect.isfunction(member) and (name == "__init__" or not name.startswith("_")) and member is not Recorded.__init__
}


def kinds_of(parameter: inspect.Parameter) -> list[str]:
    return re.sub(r"\[.*\]", "", str(parameter.annotation)).split(" | ")


def public(name: str) -> tuple[Any, list[inspect.Parameter]]:
    function = METHODS.get(name) or getattr(labkit, name)
    named = {p.name: p for p in inspect.signature(function).parameters.values() if p.name != "self"}
    return function, [p for p in named.values() if p.annotation is not p.empty]


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_no_public_call_ends_bare_on_a_value_of_the_wrong_kind(name: str):
    function, parameters = public(name)
    some = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    right = {p.name: RIGHT.get(kinds_of(p)[0]) for p in some} | ({"self": object()} if name in METHODS else {})
    for p in parameters:
        kinds = kinds_of(p)
        if set(kinds) & CHECKED_ELSEWHERE:
            continue
        assert set(kinds) <= _KINDS.keys(), f"{name}({p.name}) has a kind that nothing checks: {kinds}"
        for odd in ODD:
            if not any(_KINDS[kind][1](odd) for kind in kinds):
                given = right | ({"one": odd} if p.kind == p.VAR_KEYWORD else {p.name: odd})
                with pytest.raises(LabError, match=r"(?s)^\w+=.+ must be .+\.$") as told:
                    function(**given)
                assert len(str(told.value)) < 1_000


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: labkit.compare([], sedes=3), r"^unknown argument of compare: 'sedes'\. Did you mean 'seeds'\?"),
        (lambda: labkit.record(temprature=2), r"^unknown field 'temprature'\. Did you mean 'temperature'\?"),
        (lambda: labkit.Experiment(temp=2), r"^unknown field 'temp'\. Did you mean 'temperature'\?"),
        (lambda: labkit.record("57k"), r"^'57k' is not a recipe: give one, as in Experiment\(student='57k'\)\.$"),
        (lambda: labkit.open("0"), r"^unknown lesson '0'\. Did you mean '00'\?"),
        (lambda: labkit.Record.save(labkit.Record(), pth="x"), r"^unknown argument of Record\.save: 'pth'\. Did you mean 'path'\?"),
        (lambda: labkit.inspect(None), r"^name=None must be a text: a fetched model, a folder or a hub id\.$"),
        (lambda: labkit.load(None), r"^path=None must be a text or a pathlib.Path: a file that `Record.save` has written\.$"),
        (lambda: labkit.replay(None), r"^record=None must be a record \(see labkit.record\)"),
        (lambda: labkit.report("x"), r"^result='x' must be a record .* or a comparison"),
        (lambda: labkit.teacher(None), r"^name=None must be a text: a shipped teacher"),
        (lambda: labkit.Atlas(gold_noise="much"), r"^gold_noise='much' must be a number: probability"),
        (lambda: labkit.divergence("jsd", beta="half"), r"^beta='half' must be a number"),
        (lambda: labkit.student("57k", seed=2.5), r"^seed=2.5 must be a whole number of 64 bits: of the weights\.$"),
        (lambda: labkit.predict("00", 0, 1, 0.5, unit=["m"]), r"^unit=\['m'\] must be a text"),
        (lambda: labkit.Record(["x"]), "^'x' is not an event of a run"),
        (lambda: labkit.Experiment(data=None), "^data=None must be a text"),
        (lambda: labkit.lens("speculation", alpha="x"), "^alpha='x' must be a number"),
        (lambda: labkit.lens("loss", nonsense=1), "^the lens 'loss' got 1 values, and takes none"),
        (lambda: labkit.lens("speculation", alhpa=1), "Did you mean 'alpha'"),
        (lambda: labkit.compare([None]), "^compare got 1 recipes"),
        (lambda: labkit.compare(one for one in (None, 3)), "^3 is not a recipe"),
        (lambda: labkit.first_batch(np.arange(3)), r"^array\(\[0, 1, 2\]\) is not a recipe"),
        (lambda: labkit.run(folder=""), "^'' cannot be a path"),
        (lambda: labkit.teacher("x" * 5_000), "^'xxx.+x…' cannot be a path"),
        (lambda: labkit.load("\ud800"), "^.+ cannot be a path"),
        (lambda: labkit.report(labkit.record(student="57k", learning_rate=2e-2), "."), "is a folder"),
        (lambda: labkit.Atlas("Africa").exam(2, wording=7), "^wording=7 must be 0"),
        (lambda: labkit.Atlas("Africa").exam(-3), "^per_skill=-3 must be 0 or more"),
        (lambda: labkit.Atlas("Africa").questions(-3, 0), "^n=-3 must be 0 or more"),
        (lambda: labkit.incident(7).name("no fault", cure=DEEP), "^cure=<list> must be one letter"),
        (lambda: labkit.lens("text", "57k", text=3), "^text=3 is neither a text nor a pair"),
    ],
)
def test_the_message_has_the_value_the_rule_and_the_fix(call: Any, said: str):
    with pytest.raises(LabError, match=said):
        call()


def test_a_value_is_shown_in_a_line():
    class Faulty:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    values = (10**5000, DEEP, Faulty(), "x" * 100_000, pandas.DataFrame({"a": [1, 2]}), "a\nb")
    assert all(len(text := shown(value)) < 90 and "\n" not in text for value in values)
    assert [shown(value) for value in (10**5000, DEEP, "a  b", [1, "x"])] == ["<int>", "<list>", "'a  b'", "[1, 'x']"]


def test_a_run_takes_its_folder_as_a_text(tmp_path):
    assert labkit.run(student="3.3k", folder=f"{tmp_path}/run").folder.path == tmp_path / "run"


def test_numbers_of_other_packages_are_numbers():
    assert labkit.predict("00", np.float32(0.25), torch.tensor(0.5), 0.5).high == 0.5
    assert labkit.student("57k", seed=np.int64(3)).config.hidden_size


def test_a_call_with_too_many_arguments_says_so_itself():
    @kinds_checked
    def one(name: str) -> str:
        return name

    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        one("a", "b")
    assert one("a") == "a"


@pytest.mark.parametrize("name", [name for name in labkit.__all__ if inspect.isfunction(getattr(labkit, name))])
def test_public_functions_can_be_sent_to_other_processes(name: str):
    assert pickle.loads(pickle.dumps(getattr(labkit, name))) is getattr(labkit, name)


def test_numbers_and_mappings_of_other_libraries_are_taken():
    exp = labkit.Experiment(student="57k")
    assert labkit.record(exp, fresh=0).experiment == exp
    assert labkit.Experiment.from_dict(pandas.Series(exp.to_dict(), dtype=object)) == exp
    assert len(labkit.Atlas("Africa").questions(np.int64(5), 0, skills={"recall"})) == 5


def test_a_file_s_name_may_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = labkit.record(labkit.Experiment(student="57k"))
    assert labkit.load(record.save("~nobody-of-this-name.jsonl")).experiment == record.experiment
    assert (tmp_path / "~nobody-of-this-name.jsonl").exists()
