"""Each fault changes one thing, by an amount that can be worked out by hand; and a run without faults is what it was."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import TEACHER
from hypothesis import given
from hypothesis import strategies as st

from labkit import models
from labkit.base.errors import LabError
from labkit.models import EOS
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import FAULTS
from labkit.training.batches import StepRows
from labkit.training.faults import FAULTS as ROWS
from labkit.training.faults import SHARPENED, Faults
from labkit.training.loop import Run
from labkit.training.methods import comparison

TINY = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=4)


pytestmark = pytest.mark.usefixtures("quick")


def losses(experiment: Experiment) -> list[float]:
    return [event.values["loss"] for event in Run(experiment) if isinstance(event, ev.Step)]


def looks(experiment: Experiment) -> dict[str, float]:
    return next(dict(event.values) for event in Run(experiment) if isinstance(event, ev.Inspected))


def logits(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 11, generator=torch.Generator().manual_seed(seed)) * 3


# ---- names -------------------------------------------------------------------------------------------------------------------------


def test_names_and_rows_agree():
    assert list(ROWS) == list(FAULTS)
    for row in ROWS.values():
        assert row.label and row.source
        assert any((row.states, row.logits, row.factor, row.strays, row.blind, row.endless, row.foreign))


def test_order_and_repetition_of_names_do_not_matter():
    assert Experiment(faults="missing_end+shuffled_cache+missing_end") == Experiment(faults="shuffled_cache + missing_end")
    assert Experiment(faults="").faults == Experiment().faults == "none"
    with pytest.raises(LabError, match="unknown faults"):
        Experiment(faults="no such")


@given(st.sets(st.sampled_from(FAULTS)))
def test_any_set_is_a_recipe_that_reads_back(chosen: set[str]):
    made = Experiment(faults="+".join(chosen))
    assert set(made.faults.split("+")) - {"none"} == chosen
    assert Experiment.from_recipe(made.recipe) == made


# ---- one by one --------------------------------------------------------------------------------------------------------------------


def test_without_faults_nothing_is_touched():
    none, x = Faults(), logits(4)
    assert not none
    assert none.states(x) is x
    assert none.logits(x, [2, 2]) is x
    compare = comparison(Experiment())
    assert none.compare(compare) is compare
    assert none.strays([[0, 1]], [[2, 0]]) == ([], [])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_factors_are_what_they_say(temperature: float):
    teacher, student, compare = logits(5), logits(5, 1), comparison(Experiment())
    right = compare(teacher, student, temperature)
    plain = (teacher / temperature).log_softmax(-1)
    by_hand = (plain.exp() * (plain - (student / temperature).log_softmax(-1))).sum(-1)
    torch.testing.assert_close(Faults("missing_t2").compare(compare)(teacher, student, temperature), by_hand)
    torch.testing.assert_close(Faults("mean_over_vocabulary").compare(compare)(teacher, student, temperature) * 11, right)


def test_a_shift_and_a_shuffle_move_whole_rows():
    x, lengths = logits(9), [2, 3, 4]
    rows = x.split(lengths)
    for row, moved in zip(rows, Faults("shifted_labels").logits(x, lengths).split(lengths), strict=True):
        assert torch.equal(moved[:-1], row[1:])
        assert torch.equal(moved[-1], row[0])
    for i, moved in enumerate(Faults("shuffled_cache").logits(x, lengths).split(lengths)):
        other = rows[(i + 1) % 3]
        assert all(torch.equal(moved[k], other[k % len(other)]) for k in range(len(moved)))
    assert torch.equal(Faults("shuffled_cache").logits(x[:2], [2]), x[:2]), "one row has no other to be taken for"


def test_a_sharpened_teacher_keeps_its_choices_and_loses_its_entropy():
    x = logits(50)
    sharp = Faults("overconfident_teacher").logits(x, [50])
    assert torch.equal(sharp.argmax(-1), x.argmax(-1))
    torch.testing.assert_close(sharp.softmax(-1), (x * SHARPENED).softmax(-1))


def test_dropout_keeps_the_mean_and_follows_its_seed():
    x = torch.ones(400, 50)
    one, same, other = (Faults("teacher_dropout", seed).states(x) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert math.isclose(float(one.mean()), 1.0, abs_tol=0.02)


def test_swapped_roles_leave_no_gradient_for_the_student():
    student = logits(5, 1).requires_grad_()
    value = Faults("swapped_roles").compare(comparison(Experiment()))(logits(5), student, 1.0)
    torch.testing.assert_close(value.detach(), comparison(Experiment())(logits(5), student, 1.0).detach())
    value.sum().backward()
    assert not student.grad.any()


def test_strays_are_the_prompts_and_the_padding():
    prompts, answers = [[EOS, 5, 6, 7], [EOS, 8]], [[9, EOS], [9, 9, EOS]]
    assert Faults("prompt_loss").strays(prompts, answers) == ([[EOS], [EOS]], [[5, 6, 7], [8]])
    assert Faults("padding_loss").strays(prompts, answers) == ([[EOS, 8, 9, 9, EOS]], [[EOS]])
    drawn = StepRows(prompts, answers, [0, 1])
    assert Faults().scored(drawn, gold=False) == 5
    assert Faults("missing_end").scored(drawn, gold=False) == 3
    assert Faults("missing_end").lengths([[9, 9]]) == [2], "an answer without an end mark loses nothing"


# ---- in a run ----------------------------------------------------------------------------------------------------------------------


def test_the_first_loss_of_a_run_with_strays_is_the_mean_over_all_it_reads():
    """By hand: the soft term over answer tokens and cross-entropy over the strays, divided by all of them."""
    told = {name: losses(TINY.but(faults=name))[0] for name in ("none", "prompt_loss", "padding_loss")}
    student = models.student("22k", 0)
    from labkit.tasks.atlas.facts import Atlas
    from labkit.teachers.signals import Signals
    from labkit.training.batches import BatchSampler, gold_questions, transfer_questions

    world = Atlas(TINY.scale)
    pool = Signals(models.teacher(TEACHER), transfer_questions(TINY, world))
    feed = BatchSampler(TINY, gold_questions(TINY, world), pool, models.tokenizer())
    rows = feed.next_rows(TINY.batch, 0.0)
    list(pool.prepare(rows[0]))
    drawn = feed.draw(*rows)
    tokens = sum(map(len, drawn.answers))
    for name in ("prompt_loss", "padding_loss"):
        prompts, strays = Faults(name).strays(drawn.prompts, drawn.answers)
        total = 0.0
        with torch.no_grad():
            for prompt, stray in zip(prompts, strays, strict=True):
                whole = torch.tensor([prompt + stray])
                scores = student(whole[:, :-1]).logits[0, len(prompt) - 1 :]
                total += float(F.cross_entropy(scores, torch.tensor(stray), reduction="sum"))
        by_hand = (told["none"] * tokens + total) / (tokens + sum(map(len, strays)))
        assert math.isclose(told[name], by_hand, rel_tol=1e-4), name


def test_what_a_look_at_a_batch_finds():
    healthy = looks(TINY)
    assert healthy["scored"] == healthy["ends"] == 1
    assert healthy["after_end"] == healthy["noise"] == 0
    assert healthy["hits"] > 3 * max(healthy["hits_before"], healthy["hits_after"])
    assert math.isclose(healthy["scale"], 1, rel_tol=1e-4)
    assert math.isclose(healthy["target"], healthy["entropy"], rel_tol=1e-4)
    assert abs(healthy["pull"]) < 1e-5
    assert looks(TINY.but(faults="missing_end"))["ends"] == 0
    assert looks(TINY.but(faults="padding_loss"))["after_end"] > 0
    prompts = looks(TINY.but(faults="prompt_loss"))
    assert prompts["scored"] > 2
    assert prompts["after_end"] == 0
    assert looks(TINY.but(faults="teacher_dropout"))["noise"] > 0.01
    shifted = looks(TINY.but(faults="shifted_labels"))
    assert shifted["hits_after"] > shifted["hits"]
    assert looks(TINY.but(faults="shuffled_cache"))["hits"] < healthy["hits"]
    assert looks(TINY.but(faults="overconfident_teacher"))["entropy"] < healthy["entropy"]
    assert math.isclose(looks(TINY.but(faults="mean_over_vocabulary"))["scale"], 1 / 1024, rel_tol=1e-3)
    assert looks(TINY.but(temperature=4.0))["target"] > healthy["target"]
    assert looks(TINY.but(top_k=1, tail="teacher_renormalised"))["pull"] > 1e-3
    assert "hits" not in looks(TINY.but(method="gold"))
    assert "scale" not in looks(TINY.but(method="answers"))


def test_a_look_across_vocabularies_finds_whether_the_loss_means_the_tokens_that_stand_there():
    crossed = TINY.but(vocabulary="other")
    by_number = looks(crossed.but(across="ids", faults="wrong_ids"))["aimed"]
    for across in ("spans", "mapped", "uld", "chunks"):
        assert looks(crossed.but(across=across))["aimed"] > by_number + 0.1, across
    assert "aimed" not in looks(crossed.but(method="answers"))
    assert "aimed" not in looks(TINY)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "skew_forward_kl", "skew_reverse_kl", "logit_mse"])
def test_no_divergence_pulls_a_student_away_from_its_teacher(divergence: str):
    assert abs(looks(TINY.but(divergence=divergence, temperature=2.0))["pull"]) < 1e-4


def test_a_fault_may_come_and_go_during_a_run():
    run, seen = Run(TINY.but(steps=6, faults="swapped_roles")), []
    for event in run:
        if isinstance(event, ev.Step):
            seen.append(event.values["grad_norm"])
            if event.step == 3:
                run.turn(faults="none")
        if isinstance(event, ev.KnobTurned):
            assert (event.name, event.old, event.new) == ("faults", "swapped_roles", "none")
    assert seen[:3] == [0, 0, 0]
    assert all(norm > 0 for norm in seen[3:])
    with pytest.raises(LabError, match="contradicts itself"):
        run.turn(faults="shifted_labels+shuffled_cache")


@pytest.mark.parametrize("name", [n for n in FAULTS if n not in ("missing_t2", "mean_over_vocabulary", "wrong_ids")])
def test_every_fault_changes_a_run_and_does_so_again(name: str):
    first, again = losses(TINY.but(faults=name)), losses(TINY.but(faults=name))
    assert first == again
    assert all(math.isfinite(loss) for loss in first)
    if name != "swapped_roles":  # its loss is right, and nothing comes of it
        assert first != losses(TINY)


def test_micro_batches_do_not_change_a_faulty_run(monkeypatch: pytest.MonkeyPatch):
    from labkit.training import readers

    for name in ("shifted_labels", "missing_end", "prompt_loss", "overconfident_teacher"):
        whole = losses(TINY.but(faults=name, steps=2))
        with monkeypatch.context() as patch:
            patch.setattr(readers, "split_by_length", lambda lengths, *_: [[i] for i in range(len(lengths))])
            if name != "shuffled_cache":  # whose other rows are those of the same micro-batch
                assert all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(whole, losses(TINY.but(faults=name, steps=2)), strict=True)), (
                    name
                )


@pytest.mark.parametrize("name", ["none", "missing_end", "shifted_labels", "shuffled_cache", "teacher_dropout", "overconfident_teacher"])
def test_a_fault_is_the_same_however_many_logits_are_held(name: str, settings):
    """Without a fault logits are made a few tokens at a time; faults act on whole rows."""
    whole = losses(TINY.but(faults=name, mix=0.5, steps=2))
    settings(logits=7 * 1024)
    assert losses(TINY.but(faults=name, mix=0.5, steps=2)) == pytest.approx(whole, rel=1e-5)


def test_pairs_of_faults_go_together_unless_they_are_refused():
    for pair in itertools.combinations(("missing_end", "prompt_loss", "teacher_dropout", "shuffled_cache"), 2):
        assert not TINY.but(faults="+".join(pair)).problems()
        assert all(math.isfinite(loss) for loss in losses(TINY.but(faults="+".join(pair), steps=2)))
