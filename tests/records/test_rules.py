"""What knobs may not be joined: every rule has a recipe that breaks it, and a recipe breaks none exactly if a run of it begins."""

from __future__ import annotations

import functools
import json

import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import models
from labkit.base.errors import LabError
from labkit.base.settings import Settings
from labkit.cli.main import main
from labkit.diagnosis.failures import FAILURES
from labkit.lessons.catalogue import LESSONS
from labkit.lessons.lab import Lab
from labkit.losses import divergences
from labkit.records import events as ev
from labkit.records import names, rules
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.names import STUDENTS, WORLDS, Size
from labkit.records.results import rows
from labkit.records.rules import RULES, broken
from labkit.studies.distill import distill
from labkit.studies.export import export
from labkit.studies.run import compare, record
from labkit.studies.sweep import Sweep, sweep
from labkit.tasks.atlas import facts
from labkit.teachers import text_data
from labkit.training import loop, methods
from labkit.training.loop import Run
from labkit.training.prerequisites import Prerequisites

EXAMPLES = {  # a recipe that breaks each rule
    "teacher": dict(teacher="none"),
    "drawn tail": dict(divergence="jsd", top_k=5, tail="sampled"),
    "whole vocabulary": dict(divergence="logit_mse", top_k=5),
    "missing_t2 and mean_over_vocabulary": dict(faults="missing_t2+mean_over_vocabulary"),
    "shifted_labels and shuffled_cache": dict(faults="shifted_labels+shuffled_cache"),
    **{
        f"{fault} and swapped_roles": dict(faults=f"{fault}+swapped_roles")
        for fault in (
            *("missing_t2", "mean_over_vocabulary", "shifted_labels", "shuffled_cache", "teacher_dropout", "overconfident_teacher"),
        )
    },
    "kin": dict(teacher="sibling", vocabulary="bytes"),
    "relay for nobody": dict(generations=3, method="gold"),
    "two relays": dict(assistant="57k", generations=2),
    "relay's vocabulary": dict(assistant="57k", vocabulary="bytes"),
    "relay's architecture": dict(generations=3, architecture="gpt2"),
    "features": dict(method="relations", architecture="recurrent"),
    "layers to copy": dict(start="copied", architecture="gpt2"),
    "maps to adapt": dict(adapter=4, architecture="recurrent"),
    "room in gpt2": dict(architecture="gpt2", student="12k"),
    "nobody to copy": dict(start="copied", teacher="none", method="gold"),
    "copied tokens": dict(start="copied", vocabulary="bytes"),
    "copied width": dict(start="copied", student="57k"),
    "layers": dict(method="hidden", layers="1:9"),
    "adapter rank": dict(adapter=64),
    "two whole students": dict(method="mutual", adapter=2),
    "nothing to cross": dict(across="uld"),
    "no other ids": dict(faults="wrong_ids"),
    "token by token": dict(vocabulary="bytes", method="online"),
    "text alone": dict(vocabulary="bytes", method="sequence", across="uld"),
    **{
        f"{fault} across": dict(vocabulary="bytes", faults=fault)
        for fault in KNOBS["faults"].knob.choices
        if fault not in ("wrong_ids", "prompt_loss", "padding_loss")
    },
    "by number": dict(vocabulary="bytes", across="ids"),
    "wrong ids": dict(vocabulary="bytes", faults="wrong_ids"),
    "other logits": dict(vocabulary="bytes", divergence="logit_mse"),
    "top k across": dict(vocabulary="bytes", top_k=300),
    "a distance of its own": dict(vocabulary="bytes", across="chunks", divergence="jsd"),
    "a target of its own": dict(vocabulary="bytes", across="uld", top_k=4),
    "EAGLE's states": dict(method="next_state", student="medusa"),
    "a target to read": dict(student="medusa", teacher="sibling"),
    "nothing for heads": dict(student="eagle", method="hidden"),
    "heads: start": dict(student="eagle", start="warm"),
    "heads: adapter": dict(student="eagle", adapter=4),
    "heads: architecture": dict(student="eagle", architecture="gpt2"),
    "heads: vocabulary": dict(student="eagle", vocabulary="other"),
    "heads: faults": dict(student="eagle", faults="missing_end"),
    "heads: assistant": dict(student="eagle", assistant="57k"),
    "heads: generations": dict(student="eagle", generations=2),
    "heads: top_k": dict(student="eagle", top_k=8),
    "medusa2's target": dict(student="medusa2", data="mine.jsonl"),
    "heads alone": dict(student="eagle", data="mine.jsonl"),
    "store left out": dict(facts=50, left_out="Africa"),
    "store leaked into": dict(facts=50, leaked=0.5),
    "store's world": dict(facts=927),
    "samples": dict(method="sequence", samples=3),
    "agreement": dict(method="sequence", keep="agreement", decoding="sample"),
    "questions for the teacher": dict(teacher="smollm2"),
    "questions for the student": dict(student="./mine"),
    **{
        f"own data: {name}": {"data": "mine.jsonl", name: value}
        for name, value in dict(
            faults="missing_end", facts=5, assistant="57k", generations=2, architecture="gpt2", vocabulary="bytes", leaked=0.5,
            left_out="city", gold_noise=0.5, falsehoods=0.5, favourite=0.5,
        ).items()
    },
    "own reasoning": dict(learn="both"),
    "own template": dict(template_option="enable_thinking=false"),
    "own start": dict(data="mine.jsonl", start="warm"),
    "own teacher": dict(data="mine.jsonl", teacher="sibling"),
    "own decoding": dict(data="mine.jsonl", decoding="beam"),
    "own truth": dict(data="mine.jsonl", keep="vote"),
    "own cache": dict(data="mine.jsonl", method="online", top_k=8),
    "one tokenizer": dict(data="mine.jsonl", teacher="./theirs"),
    "gold responses": dict(data="mine.jsonl", mix=0.5),
    "store": dict(facts=5),
    "distribution": dict(method="answers"),
    "own tokens": dict(vocabulary="bytes"),
    "alignment": dict(method="answers", vocabulary="bytes"),
    "asked": dict(method="gold"),
    "weight of soft labels": dict(mix=1.0),
    "weight of alignment": dict(mix=1.0),
    "weight of teacher": dict(mix=1.0),
    "mix": dict(mix=0.0),
    "heat": dict(temperature=1.0),
    "gold beside": dict(mix=0.5),
    "features beside": dict(method="hidden"),
    "trl method": dict(method="hidden"),
    "trl divergence": dict(divergence="total_variation"),
    "trl top_k": dict(top_k=8),
    "trl mix": dict(mix=0.5),
    "trl student": dict(student="eagle"),
    "trl precision": dict(precision="bf16"),
    "trl faults": dict(faults="missing_t2"),
    "trl architecture": dict(architecture="gpt2"),
    "trl vocabulary": dict(vocabulary="small"),
    "trl assistant": dict(assistant="57k"),
    "trl generations": dict(generations=2),
    "trl teacher": dict(teacher="sibling"),
    "trl online_from": dict(method="online", online_from=0.5),
    "trl replay": dict(method="online", replay=0.5),
    "trl sampling_temperature": dict(method="online", sampling_temperature=0.0),
}  # fmt: skip
LOADED = {"same_tokens": False, "gold_rows": 0}
TINY = dict(student="22k", teacher="atlas-200k", steps=2)
SENTENCE = "method='online' compares both models token by token, and vocabulary='bytes' has other tokens: set method='output'"


# ---- the table ---------------------------------------------------------------------------------------------------------------------


def test_every_rule_has_a_name_and_a_recipe_that_breaks_it():
    assert [rule.name for rule in RULES] == list(dict.fromkeys(rule.name for rule in RULES))
    assert {rule.name for rule in RULES} == set(EXAMPLES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_broken_rule_names_the_value_and_the_way_out(rule: rules.Rule):
    exp = Experiment().but(**EXAMPLES[rule.name])
    known = {name: LOADED[name] for name in rule.loaded if name in LOADED}
    found = {rule.name: sentence for rule, sentence in broken(exp, rule.of, **known)}
    assert rule.name in found
    sentence = found[rule.name]
    why, _, fix = sentence.partition(": ")
    assert why and fix.endswith(".") and "{" not in sentence
    assert any(word in fix for word in ("set ", "choose ", "leave ", "take ", "drop ", "ask ", "name ", "add ", "use "))
    told = [name for name, value in EXAMPLES[rule.name].items() if name in sentence or str(value) in sentence]
    assert told or rule.of not in ("run", "trl")
    assert not broken(Experiment(), "run", "distill", "trl"), "the default breaks none"


def test_lists_agree_with_what_they_are_lists_of():
    registry = methods.METHODS.values()
    assert set(rules.HEARD) == {m.name for m in registry if m.needs_signal or m.text}
    assert set(rules.FEATURES) == {m.name for m in registry if m.features}
    assert [name for name, entry in divergences.DIVERGENCES.items() if not entry.on_distributions] == ["logit_mse"]
    for scale in WORLDS:
        assert facts.Atlas(scale).store(rules.STORES[scale])
        with pytest.raises(LabError):
            facts.Atlas(scale).store(rules.STORES[scale] + 1)


@pytest.mark.parametrize("size", STUDENTS)
def test_a_size_has_room_for_a_gpt2_or_a_rule_says_so(size: str):
    exp = Experiment(student=size, architecture="gpt2")
    try:
        models.student(size, architecture="gpt2")
    except LabError as error:
        (sentence,) = exp.problems()
        (named,) = [other for other in STUDENTS if f"student='{other}'" in str(error) and f"student='{other}'" in sentence]
        assert models.student(named, architecture="gpt2"), "what is advised can be had"
    else:
        assert exp.problems() == []


def test_what_shipped_breaks_no_rule():
    names = [path.stem for path in (REPOSITORY / "data" / "sweeps").glob("*.toml")]
    assert len(names) > 20 and all(sweep(name).recipes() for name in names)
    shipped = {key: Experiment.from_recipe(row["recipe"]) for key, row in rows().items()}
    assert {exp.key for exp in shipped.values()} == set(shipped) != set()
    assert {key: exp.problems() for key, exp in shipped.items() if exp.problems()} == {}


# ---- a recipe breaks none <=> a run of it begins -----------------------------------------------------------------------------------

BASE = Experiment(student="22k", teacher="atlas-200k", questions=128, gold=40, batch=4, steps=2, signals="live")
FEW: dict[str, tuple] = {  # values of knobs that are no choice of a few: small where large ones only take longer
    "seed": (0, 2**31 - 1), "questions": (128, 150), "gold": (1, 40), "batch": (1, 4), "steps": (1, 3), "samples": (1, 2),
    "facts": (0, 5, 926, 927),
    "adapter": (0, 1, 3, 64), "layers": ("uniform", "last", "0:0", "2:3", "9:1", "1:9"), "data": ("",), "score": ("exact",),
    "faults": ("none", "missing_t2", "wrong_ids", "prompt_loss", "shifted_labels+shuffled_cache", "missing_end+swapped_roles"),
    "template_option": ("", "enable_thinking=false"),
    "ahead": (1, 4), "draft_vocabulary": (0, 50), "longest": (1, 48), "top_k": (0, 5, 257, 260, 375, 500, 1_024),
}  # fmt: skip


def values(name: str) -> st.SearchStrategy:
    default, knob = KNOBS[name]
    own = ("smollm2", "./mine") if knob.models else ()
    return st.sampled_from(FEW.get(name) or (*knob.choices, *own) or (default, knob.low, knob.high))


@functools.cache
def model(size: str):
    return models.student(size).eval().requires_grad_(False)


def says(teacher, texts, *_):
    """Right answers, in place of a teacher's."""
    return [text_data.TextRow(text, facts.Atlas("whole").find(text).answers[0], 0.0) for text in texts]


def begins(exp: Experiment) -> str:
    """ "" where a run of the recipe takes its first step, or why not. Untrained students stand in for those of runs before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "teacher", lambda name: model(name.split("-")[1]))
        patch.setattr(text_data, "_answer", says)
        patch.setattr(Prerequisites, "successor", lambda self, exp, before, device: model(before[-1].student))
        patch.setattr(Prerequisites, "warm_up", lambda self, exp, student, seed: iter(()))
        patch.setattr(loop, "check_batch", lambda *_: {})
        try:
            for event in Run(exp, exams=0, settings=Settings(chunk=8)):
                if isinstance(event, ev.Step):
                    return ""
        except LabError as error:
            return str(error)
    assert isinstance(event, ev.Failed) and "the loss became" in event.message, "neither a step nor an error"
    return ""


@settings(max_examples=80)
@given(st.data())
def test_a_recipe_breaks_no_rule_exactly_if_a_run_of_it_begins(data):
    turned = data.draw(st.lists(st.sampled_from(list(KNOBS)), max_size=6, unique=True))
    exp = BASE.but(**{name: data.draw(values(name), name) for name in turned})
    assert begins(exp) == "".join(exp.problems()[:1])


@pytest.mark.parametrize("name", names.METHODS)
@pytest.mark.parametrize("vocabulary", names.VOCABULARIES)
@pytest.mark.parametrize("student", ["22k", *names.DRAFT_HEADS])
def test_no_recipe_needs_two_readers(student: str, vocabulary: str, name: str):
    """What a step reads is one class of `training/readers.py`; a recipe that would need two breaks a rule, before anything is loaded."""
    exp, how = BASE.but(student=student, vocabulary=vocabulary, method=name), methods.method(name)
    needed = [student in names.DRAFT_HEADS, how.peer, vocabulary != "atlas" and name == "output", bool(how.features)]
    assert sum(needed) <= 1 or exp.problems()


@pytest.mark.parametrize("vocabulary", rules.TOKENS)
@pytest.mark.parametrize("how", ["spans", "mapped", "exact", "ids", "mutual"])
def test_as_many_tokens_are_kept_as_there_are_and_no_more(vocabulary, how, monkeypatch):
    changes = dict(method="mutual") if how == "mutual" else dict(across=how, faults="wrong_ids" if how == "ids" else "none")
    exp = BASE.but(vocabulary=vocabulary, **changes)
    limit = next((k for k in range(1, 1_024) if exp.but(top_k=k + 1).problems()), 1_024)
    assert begins(exp.but(top_k=limit)) == ""
    monkeypatch.setattr(loop, "refuse", lambda *_, **__: None)
    if limit < 1_024:
        assert f"there are {limit} tokens" in begins(exp.but(top_k=limit + 1))


CANNOT = {  # rules without which the run would fail; without the others it would train, and something in it would mean nothing
    *("teacher", "whole vocabulary", "features", "layers to copy", "maps to adapt", "room in gpt2", "copied tokens", "token by token"),
    *("top k across", "a target to read", "heads: adapter", "heads: generations", "store's world", "samples", "agreement"),
    *("questions for the teacher", "questions for the student"),
}


@pytest.mark.parametrize(
    "rule", [r for r in RULES if r.of == "run" and r.at == "recipe" and "data" not in EXAMPLES[r.name]], ids=lambda r: r.name
)
def test_what_a_rule_keeps_out_would_fail_or_mean_nothing(rule, monkeypatch):
    """Which rules spare a learner an error inside a run, and which a run that trains and misleads."""
    monkeypatch.setattr(loop, "refuse", lambda *_, **__: None)
    try:
        failed = bool(begins(BASE.but(**EXAMPLES[rule.name])))
    except Exception:
        failed = True
    assert failed == (rule.name in CANNOT)


# ---- who reads the table -----------------------------------------------------------------------------------------------------------

GRID = f"""
[experiment]
{chr(10).join(f"{name} = {json.dumps(value)}" for name, value in TINY.items())}
[grid]
vocabulary = ["bytes"]
method = ["output", "online"]
"""


@pytest.mark.parametrize("rule", [r for r in RULES if r.of == "run" and r.at == "recipe"], ids=lambda rule: rule.name)
def test_a_run_that_breaks_a_rule_ends_before_anything_is_loaded(rule: rules.Rule):
    run = Run(Experiment().but(**EXAMPLES[rule.name]))
    first = next(run)
    assert isinstance(first, ev.Failed) and first.message == run.experiment.problems()[0]
    with pytest.raises(LabError):
        next(run)


@pytest.mark.parametrize(
    "start",
    [
        lambda exp: record(exp),
        lambda exp: compare([exp.but(method="output"), exp]),
        lambda exp: Sweep.from_toml(GRID),
        lambda exp: export(exp, "script.py"),
        lambda exp: Lab(LESSONS["00"]).run(**EXAMPLES["token by token"]),
        lambda exp: Lab(LESSONS["00"]._replace(experiment=exp)).run(),
    ],
)
def test_a_contradiction_is_told_before_anything_is_run(start, monkeypatch):
    monkeypatch.setattr(loop.Run, "__init__", lambda *_: pytest.fail("a run was begun"))
    with pytest.raises(LabError, match=SENTENCE):
        start(Experiment(**TINY, **EXAMPLES["token by token"]))


def test_a_sweep_names_the_arm_and_the_point_that_cannot_be_run():
    """It was accepted, and failed run by run."""
    with pytest.raises(LabError, match=f"^vocabulary='bytes', method='online' of this sweep cannot be run: {SENTENCE}"):
        Sweep.from_toml(GRID)
    arms = '[[arm]]\nname = "plain"\n[[arm]]\nname = "crossed"\nvocabulary = "bytes"\nmethod = "online"\n'
    with pytest.raises(LabError, match=r"^arm 'crossed' of this sweep cannot be run: method='online'"):
        Sweep.from_toml(arms)


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--vocabulary", "bytes", "--method", "online"],
        ["sweep", "grid.toml"],
        ["export", "trl", "labkit", "vocabulary=bytes", "method=online", "--out", "script.py"],
    ],
)
def test_the_command_line_says_it_in_one_sentence(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(GRID)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert SENTENCE in error and error.count("\n") == 1


def test_heads_are_no_student_to_distil_into(tmp_path):
    with pytest.raises(LabError, match="no model to save by itself"):
        distill("atlas-200k", "eagle", "faq", out=tmp_path / "out")


def test_a_failure_s_obstacle_is_the_first_rule_it_would_break():
    for name, entry in FAILURES.items():
        for exp in (Experiment(), Experiment(method="gold"), Experiment(vocabulary="bytes"), Experiment(mix=1.0), Experiment(facts=50)):
            sentences = [sentence for _, sentence in broken(entry.provoke(exp), "run", *entry.needs)]
            assert entry.obstacle(exp) == "".join(sentences[:1]), name


# ---- rules that need models or data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "known", "words"),
    [
        (dict(method="hidden", layers="2:7"), dict(own=Size(8, 2, 1), theirs=Size(16, 6, 2)), "the student has 2 and its teacher 6"),
        (dict(method="hidden", layers="2:6"), dict(own=Size(8, 2, 1), theirs=Size(16, 6, 2)), ""),
        (dict(adapter=8), dict(own=Size(8, 2, 1)), "adapter=8 must be less than the student's width, 8"),
        (dict(adapter=7), dict(own=Size(8, 2, 1)), ""),
        (dict(start="copied"), dict(own=Size(8, 2, 1), theirs=Size(16, 2, 1)), "8 is not 16"),
        (dict(method="output"), dict(same_tokens=False), "have different tokenizers"),
        (dict(method="sequence"), dict(same_tokens=False), ""),
        (dict(method="output"), dict(same_tokens=True), ""),
        (dict(mix=0.5), dict(gold_rows=0), "has none: add them"),
        (dict(mix=0.0), dict(gold_rows=0), ""),
        (dict(method="gold"), dict(gold_rows=3), ""),
    ],
)
def test_live_rules_are_checked_by_what_was_found(changes, known, words):
    exp = Experiment(student="./mine", teacher="./theirs", data="mine.jsonl").but(**changes)
    live = {rule.name for rule in RULES if rule.at == "live"}
    assert live.isdisjoint(rule.name for rule, _ in broken(exp)), "before anything is loaded"
    found = broken(exp, **known)
    assert {rule.name for rule, _ in found} <= live
    assert words in "".join(sentence for _, sentence in found) if words else not found


def test_a_hot_knob_may_not_be_turned_into_a_contradiction():
    run = Run(Experiment(vocabulary="bytes"))
    with pytest.raises(LabError, match="faults='missing_end' spoils"):
        run.turn(faults="missing_end")
    assert run.knobs["faults"] == "none"
    run.turn(faults="prompt_loss")
