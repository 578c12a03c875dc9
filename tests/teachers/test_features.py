"""What is seen inside a model, against `transformers` and plain loops; and training on it, against the same written by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import TEACHER

from labkit import models
from labkit.losses.features import Projectors, hidden_loss, relation_loss, similarity_loss
from labkit.models.hooks import RELATION_HEADS, run_with_hooks
from labkit.models.layers import copy_layers, layer_map
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers.features import TeacherFeatures
from labkit.teachers.signals import Signals
from labkit.training import batches, loop
from labkit.training.loop import Run

TINY = Experiment(student="22k", teacher=TEACHER, questions=128, gold=40, batch=8, steps=8, method="hidden")
METHODS = ["hidden", "similarity", "relations"]


@pytest.fixture
def rows() -> models.Rows:
    texts, answers = ["What is the capital of Chad?", "Add 14, 2 and 9."], ["N'Djamena", "14 + 2 = 16, 16 + 9 = 25"]
    return models.pad(models.tokenizer().prompts(texts), models.tokenizer().answers(answers))


def steps(events) -> list[ev.Step]:
    return [e for e in events if isinstance(e, ev.Step)]


# ---- layer maps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "own", "theirs", "wanted"),
    [
        ("uniform", 3, 6, ((1, 2), (2, 4), (3, 6))),
        ("uniform", 2, 3, ((1, 2), (2, 3))),
        ("uniform", 4, 4, ((1, 1), (2, 2), (3, 3), (4, 4))),
        ("uniform", 3, 2, ((1, 1), (2, 2), (3, 2))),
        ("last", 3, 6, ((3, 6),)),
        ("0:0, 2:5", 3, 6, ((0, 0), (2, 5))),
    ],
)
def test_layer_maps(spec: str, own: int, theirs: int, wanted: tuple):
    assert layer_map(spec, own, theirs) == wanted


# ---- looking -------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_states_are_those_of_transformers(rows: models.Rows):
    model = models.student("200k", 1)
    seen = run_with_hooks(model, rows, layers=(0, 1, 2, 3))
    assert not any(m._forward_hooks for m in model.modules()), "nothing is left behind"
    theirs = model.model(rows.tokens_B_T, output_hidden_states=True).hidden_states
    torch.testing.assert_close(seen.final_N_D, models.answer_states(model, rows))
    for i in (0, 1, 2):
        torch.testing.assert_close(seen.hidden_N_L_D[:, i], theirs[i][rows.mask_B_T])
    torch.testing.assert_close(model.model.norm(seen.hidden_N_L_D[:, 3]), seen.final_N_D)


@torch.no_grad()
def test_relations_by_hand(rows: models.Rows):
    model = models.student("57k", 2)
    seen = run_with_hooks(model, rows, relations=True).relations_N_R_T
    assert seen.shape == (int(rows.mask_B_T.sum()), 3 * RELATION_HEADS, rows.tokens_B_T.shape[1])
    hidden = model.model(rows.tokens_B_T, output_hidden_states=True).hidden_states[-2]
    layer = model.model.layers[-1]
    normed = layer.input_layernorm(hidden)
    where = rows.mask_B_T.nonzero().tolist()
    for n in (0, len(where) // 2, len(where) - 1):
        row, position = where[n]
        for r, project in enumerate((layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)):
            vectors = project(normed[row]).view(-1, RELATION_HEADS, 32 // RELATION_HEADS)
            for head in range(RELATION_HEADS):
                scores = [float(vectors[position, head] @ vectors[i, head]) / math.sqrt(32 // RELATION_HEADS) for i in range(position + 1)]
                wanted = torch.tensor(scores).softmax(0)
                torch.testing.assert_close(seen[n, r * RELATION_HEADS + head, : position + 1], wanted)
                assert float(seen[n, r * RELATION_HEADS + head, position + 1 :].sum()) == 0


# ---- losses --------------------------------------------------------------------------------------------------------------------


def states(seed: int, n: int = 5, pairs: int = 2, width: int = 6) -> torch.Tensor:
    return torch.randn(n, pairs, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_loss_is_zero_at_the_teacher_and_positive_elsewhere():
    for loss in (hidden_loss, similarity_loss):
        assert loss(states(1), states(1)).abs().max() < 1e-12
        assert (loss(states(1), states(2)) > 0).all()
    p, q = states(1).softmax(-1), states(2).softmax(-1)
    assert relation_loss(p, p).abs().max() < 1e-12
    torch.testing.assert_close(relation_loss(q, p), F.kl_div(q.log(), p, reduction="none").sum(-1).mean(-1))


def test_positions_neither_can_see_add_nothing():
    p, q = (F.pad(states(s).softmax(-1), (0, 4)) for s in (1, 2))
    torch.testing.assert_close(relation_loss(q, p), relation_loss(q[..., :6], p[..., :6]))
    moving = q.clone().requires_grad_()
    relation_loss(moving, p).sum().backward()
    assert moving.grad.isfinite().all()


def test_the_hidden_loss_is_a_share_of_the_teacher_s_square():
    student, teacher = states(1), states(2)
    torch.testing.assert_close(hidden_loss(torch.zeros_like(teacher), teacher), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(hidden_loss(7 * student, 7 * teacher), hidden_loss(student, teacher))


def test_similarities_do_not_care_how_states_are_turned_or_stretched():
    student, teacher = states(1), states(2)
    turn, _ = torch.linalg.qr(states(3, 6, 1, 6)[:, 0])
    torch.testing.assert_close(similarity_loss(3 * student @ turn, teacher), similarity_loss(student, teacher))
    by_hand = torch.zeros(5, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            for pair in range(2):
                own = F.cosine_similarity(student[i, pair], student[j, pair], dim=0)
                by_hand[i] += (own - F.cosine_similarity(teacher[i, pair], teacher[j, pair], dim=0)) ** 2 / 10
    torch.testing.assert_close(similarity_loss(student, teacher), by_hand)


# ---- the teacher's side ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relations", [False, True])
def test_what_is_kept_of_the_teacher_is_what_it_has(quick, tiny_teacher, monkeypatch: pytest.MonkeyPatch, relations: bool):
    pool = Signals(tiny_teacher, Atlas("half").questions(60, 7), chunk=16)
    list(pool.prepare(range(60)))
    wanted_rows = [3, 40, 3, 17]
    read = models.pad([pool.prompt(i) for i in wanted_rows], [pool.answer(i) for i in wanted_rows])
    found = TeacherFeatures(pool, () if relations else (1, 3), relations).of(wanted_rows, read.tokens_B_T.shape[1])
    with torch.no_grad():
        seen = run_with_hooks(tiny_teacher, read, () if relations else (1, 3), relations)
    wanted = seen.relations_N_R_T if relations else seen.hidden_N_L_D
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=2e-3)


# ---- training --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_first_steps_by_hand(quick, tiny_teacher, method: str):
    exp = TINY.but(method=method, feature=0.5, signals="live", temperature=2.0)
    told = [e for e in Run(exp.but(steps=2)) if isinstance(e, ev.Step)]
    run = Run(exp)
    for event in run:
        if isinstance(event, ev.Labelled):
            break
    student = models.student(exp.student, exp.seed)
    pool = Signals(tiny_teacher, Atlas(exp.scale).questions(exp.questions, 7))
    list(pool.prepare(range(exp.questions)))
    maps = Projectors(2, 16, 64, exp.seed)
    learnt = [*student.parameters(), *(maps.parameters() if method == "hidden" else ())]
    optimiser = torch.optim.AdamW(learnt, betas=(0.9, 0.95), weight_decay=0.01)
    feed = batches.BatchSampler(exp, (), pool, models.tokenizer())
    for step in (1, 2):
        drawn = feed.draw(*feed.next_rows(exp.batch, 0.0))
        rows = models.pad(drawn.prompts, drawn.answers)
        own, theirs = run_with_hooks(student, rows, (1, 2), True), run_with_hooks(tiny_teacher, rows, (2, 3), True)
        p, q = (m.lm_head(s.final_N_D) for m, s in ((tiny_teacher, theirs), (student, own)))
        soft = 4 * F.kl_div((q / 2).log_softmax(-1), (p / 2).log_softmax(-1), reduction="none", log_target=True).sum(-1)
        term = {
            "hidden": lambda own=own, theirs=theirs: hidden_loss(maps(own.hidden_N_L_D), theirs.hidden_N_L_D),
            "similarity": lambda own=own, theirs=theirs: similarity_loss(own.hidden_N_L_D, theirs.hidden_N_L_D),
            "relations": lambda own=own, theirs=theirs: relation_loss(own.relations_N_R_T, theirs.relations_N_R_T),
        }[method]()
        loss = (soft + 0.5 * term).mean()
        assert told[step - 1].values["loss"] == pytest.approx(loss.item(), rel=2e-4)
        assert told[step - 1].values["feature"] == pytest.approx(term.mean().item(), rel=2e-3)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = exp.learning_rate * loop.schedule(step, 2)
        optimiser.step()


@pytest.mark.parametrize("method", ["hidden", "relations"])
def test_the_split_into_passes_changes_nothing(quick, monkeypatch: pytest.MonkeyPatch, method: str):
    exp = TINY.but(method=method, steps=3, mix=0.5)
    told = []
    for passes in (1, 3):
        split = lambda lengths, *_, n=passes: [list(range(i, len(lengths), n)) for i in range(n)]  # noqa: E731
        monkeypatch.setattr("labkit.training.readers.split_by_length", split)
        told.append([e.values for e in steps(Run(exp))])
    for one, three in zip(*told, strict=True):
        assert one == pytest.approx(three, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_to_the_same_result(quick, tmp_path, method: str):
    exp = TINY.but(method=method)
    whole = Run(exp)
    wanted = steps(whole)
    first = Run(exp, tmp_path, 3)
    for event in first:
        if isinstance(event, ev.Step) and event.step == 5:
            first.folder._lock.release()
            break
    again = Run(exp, tmp_path, 3)
    told = list(again)
    assert any(isinstance(e, ev.Warned) and "goes on from step 3" in e.message for e in told)
    assert models.fingerprint(again.student) == models.fingerprint(whole.student)
    assert [e.values for e in steps(told)][3:] == [e.values for e in wanted][3:]


def test_the_projectors_are_trained_and_not_part_of_the_student(quick):
    run = Run(TINY)
    told = steps(run)
    assert told[-1].values["feature"] < told[0].values["feature"]
    assert models.parameters(run.student) == models.parameters(models.student("22k"))


def test_the_feature_weight_is_a_hot_knob(quick):
    run, told = Run(TINY.but(steps=4)), []
    for event in run:
        if isinstance(event, ev.Step):
            told.append(event.values)
            run.turn(feature=0.0)
    assert told[0]["loss"] == pytest.approx(told[0]["kl"] + told[0]["feature"], rel=1e-4)
    assert told[1]["loss"] == pytest.approx(told[1]["kl"], rel=1e-4)


def test_a_copied_start_of_equal_size_is_the_teacher(quick, tiny_teacher):
    (told, *_) = steps(Run(TINY.but(student="200k", start="copied", method="output", signals="live", steps=1)))
    assert told.values["kl"] == pytest.approx(0, abs=1e-6)


def test_copied_layers_are_the_teacher_s_own():
    teacher, student = models.student("3m", 1), models.student("1.5m", 2)
    copy_layers(student, teacher)
    for to, source in ((0, 1), (1, 3), (2, 5)):
        for name, parameter in student.model.layers[to].named_parameters():
            assert torch.equal(parameter, teacher.model.layers[source].get_parameter(name))
    assert torch.equal(student.lm_head.weight, teacher.model.embed_tokens.weight)
