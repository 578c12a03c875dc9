"""Heads on a frozen target: what they read and guess, their loss by hand, decoding against training, and runs through the one engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import TEACHER
from transformers import LlamaConfig, LlamaForCausalLM

from labkit import models
from labkit.base import settings, tensors
from labkit.base.errors import LabError
from labkit.losses.features import next_state_loss
from labkit.models.heads import io as heads_io
from labkit.models.heads.base import DECAY, HeadOutput, Heads, TargetStates, commonest, places
from labkit.records import events as ev
from labkit.records import record as records
from labkit.records.experiment import TUNED_RATE, Experiment
from labkit.records.names import DRAFT_HEADS
from labkit.speculative import drafters
from labkit.speculative.kv_cache import States
from labkit.tasks.atlas.exam import Graded
from labkit.tasks.atlas.facts import Atlas
from labkit.tasks.heads_exam import HeadsExam
from labkit.teachers import signals
from labkit.teachers.signals import Signals
from labkit.training.batches import BatchSampler, gold_questions
from labkit.training.loop import Run
from labkit.training.methods import comparison, method

PROMPTS = [[0, 5, 9], [0, 7], [0, 11, 12, 13]]
ANSWERS = [[21, 22, 23, 24, 0], [31, 0], [41, 42, 43, 0]]
SHORT = Experiment(student="medusa", teacher=TEACHER, questions=128, gold=40, batch=16, steps=3)


@pytest.fixture(autouse=True)
def small(quick, settings):
    settings(exam_per_skill=4)


def heads_of(kind: str, target, **how) -> Heads:
    """Heads that are not as they were made, so that nothing is right by chance."""
    made = heads_io.make(kind, target, **how)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if not name.startswith("trunk."):
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


def finished(exp: Experiment) -> tuple[Run, records.Record]:
    run = Run(exp, exams=1)
    return run, records.Record(run)


# ---- places, tokens, weights -----------------------------------------------------------------------------------------------------


def test_places_are_those_with_a_token_so_far_ahead():
    for d in range(7):
        by_hand = [start + i for start, n in ((0, 5), (5, 2), (7, 4)) for i in range(n) if i + d < n]
        assert places([5, 2, 4], d).tolist() == by_hand


@pytest.mark.parametrize("kind", DRAFT_HEADS)
def test_a_batch_holds_each_depth_with_its_label_signal_and_weight(tiny_teacher, kind: str):
    heads = heads_of(kind, tiny_teacher, ahead=3)
    batch = heads.batch(heads.read_target(PROMPTS, ANSWERS), [False, False, True])
    first = 0 if kind == "medusa2" else 1
    depths = {"eagle": [1]}.get(kind, list(range(first, 4)))
    wanted = [(a[i + d], r == 2, d) for d in depths for r, a in enumerate(ANSWERS) for i in range(len(a) - d)]
    assert batch.labels_N.tolist() == [label for label, _, _ in wanted]
    assert batch.gold_G.tolist() == [i for i, (_, gold, _) in enumerate(wanted) if gold]
    assert sorted([*batch.pool_M.tolist(), *batch.gold_G.tolist()]) == list(range(len(wanted)))
    total = sum(DECAY**d for d in depths if d)
    torch.testing.assert_close(batch.weights_N, torch.tensor([DECAY**d / total if d else 1.0 for _, _, d in wanted]))
    assert sum(w for d, w in heads.weights.items() if d) == pytest.approx(1)
    assert float(batch.weights_N.sum()) == pytest.approx(heads.scored(ANSWERS), rel=1e-5)
    signal = [
        tiny_teacher(torch.tensor([PROMPTS[r] + a[: i + d]])).logits[0, -1]
        for d in depths for r, a in enumerate(ANSWERS) for i in range(len(a) - d) if r != 2
    ]  # fmt: skip
    torch.testing.assert_close(batch.teacher_logits_M_V, torch.stack(signal), atol=1e-4, rtol=1e-4)


def test_medusa_begins_as_the_target_and_its_depths_are_its_heads(tiny_teacher):
    heads, told = heads_io.make("medusa", tiny_teacher), Heads.read_target(heads_io.make("medusa", tiny_teacher), PROMPTS, ANSWERS)
    torch.testing.assert_close(heads(told.states_N_D)[2], tiny_teacher.lm_head(told.states_N_D))
    other = heads_of("medusa", tiny_teacher)
    everywhere = other(told.states_N_D)
    for d, guess in zip((1, 2, 3), other.guesses(told, (1, 2, 3)), strict=True):
        torch.testing.assert_close(guess.logits_M_V, everywhere[d - 1][places(told.lengths, d)])


def test_a_reduced_vocabulary_is_the_most_frequent_and_always_ends(tiny_teacher):
    ids = commonest(tiny_teacher, 4, [[900, 900, 7], [900, 7, 8]])
    assert ids == [0, 7, 8, 900]
    assert commonest(tiny_teacher, 5, [[900]]) == [0, 1, 2, 3, 900], "filled up by number"
    assert commonest(tiny_teacher, 0, []) is None
    assert commonest(tiny_teacher, 10_000, []) is None


@pytest.mark.parametrize("kind", DRAFT_HEADS)
def test_with_a_reduced_vocabulary_what_cannot_be_said_is_left_out(tiny_teacher, kind: str):
    ids = [0, 23, 42, 43, 500]
    heads = heads_of(kind, tiny_teacher, ids=ids, ahead=3)
    told = heads.read_target(PROMPTS, ANSWERS)
    batch = heads.batch(told, [False] * 3)
    sayable = [t for d in heads.trained for a in ANSWERS for t in a[d:] if t in ids]
    assert [ids[column] for column in batch.labels_N.tolist()] == sayable
    assert float(batch.weights_N.sum()) == pytest.approx(heads.scored(ANSWERS), rel=1e-5)
    full = heads_of(kind, tiny_teacher, ahead=3).batch(told, [False] * 3)
    kept = torch.tensor([t in ids for t in full.labels_N.tolist()])
    torch.testing.assert_close(batch.teacher_logits_M_V, full.teacher_logits_M_V[kept][:, ids])
    assert batch.student_logits_N_V.shape == (len(sayable), 5)
    if kind.startswith("eagle"):
        torch.testing.assert_close(batch.student_logits_N_V, full.student_logits_N_V[kept][:, ids])


# ---- EAGLE: decoding is training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_reading_and_rolling_at_decode_time_is_what_was_trained(tiny_teacher, kind: str):
    heads = heads_of(kind, tiny_teacher, ahead=4)
    told = heads.read_target(PROMPTS, ANSWERS)
    guesses = heads.guesses(told, (1, 2, 3, 4))
    features = (told.states_N_D if kind == "eagle" else told.extra_N_L_D.flatten(1)).split(told.lengths)
    starts = {d: [sum(max(0, n - d) for n in told.lengths[:r]) for r in range(3)] for d in (1, 2, 3, 4)}
    for row, answer in enumerate(ANSWERS):
        cache = heads.begin(PROMPTS[row])
        asked = len(cache)
        for i in range(len(answer) - 1):
            states, logits = heads.read(features[row][i : i + 1], torch.tensor(answer[i : i + 1]), cache)
            state, said = states[0], [logits[0]]
            for d in range(2, min(4, len(answer) - 1 - i) + 1):
                states, logits = heads.roll(state[None], [answer[i + d - 1]], cache)
                state, said = states[0], [*said, logits[0]]
            heads.crop(cache, asked + i + 1)
            for d, logit in enumerate(said, 1):
                torch.testing.assert_close(logit, guesses[d - 1].logits_M_V[starts[d][row] + i], atol=1e-5, rtol=1e-5)
        assert len(cache) == len(PROMPTS[row]) - 1 + len(answer) - 1


def test_eagle_reads_many_positions_as_one_by_one(tiny_teacher):
    heads = heads_of("eagle", tiny_teacher)
    features, ids = torch.randn(6, 64), torch.tensor([3, 4, 5, 6, 7, 8])
    cache, other = heads.begin([1]), heads.begin([1])
    first, rest = heads.read(features[:4], ids[:4], cache), heads.read(features[4:], ids[4:], cache)
    singly = [heads.read(features[i : i + 1], ids[i : i + 1], other) for i in range(6)]
    for part in (0, 1):
        torch.testing.assert_close(torch.cat([first[part], rest[part]]), torch.cat([s[part] for s in singly]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_eagles_tree_is_of_the_likeliest_paths_as_each_is_when_rolled_alone(tiny_teacher, monkeypatch, kind: str, temperature: float):
    ids, text, depth = [0, 42, 500], [1, 30, 31, 42], 4
    heads = heads_of(kind, tiny_teacher, ids=ids)
    features = torch.randn(2, *([3, 64] if heads.extra_layers else [64]), generator=torch.Generator().manual_seed(3))
    cache = heads.begin(text[:2])
    states, logits = heads.read(features, torch.tensor(text[2:]), cache)
    chances: dict[tuple[int, ...], float] = {(): 1.0}

    def grow(path: tuple[int, ...], state_D: torch.Tensor, logits_V: torch.Tensor) -> None:
        here = len(cache)
        for token, p in zip(ids, (logits_V / (temperature or 1)).softmax(-1).tolist(), strict=True):
            chances[*path, token] = chances[path] * p
            if len(path) + 1 < depth:
                states, logits = heads.roll(state_D[None], [token], cache)
                grow((*path, token), states[0], logits[0])
                heads.crop(cache, here)

    grow((), states[-1], logits[-1])

    def reference(abreast: int, gamma: int, sure: float, end: int) -> list[tuple[int, ...]]:
        found, ends = list[tuple[int, ...]](), [()]
        for d in range(gamma):
            nexts = [(*path, token) for path in ends for token in ids]
            if not ends or (d and max(chances[path] for path in nexts if path[:-1] == ends[0]) < sure * chances[ends[0]]):
                break
            found += nexts
            ends = sorted((path for path in nexts if path[-1] != end), key=lambda path: -chances[path])[:abreast]
        return sorted(found, key=lambda path: -chances[path])

    def seen(rows: torch.Tensor) -> States:
        return States(torch.zeros(len(rows), 64), rows) if heads.extra_layers else States(rows, None)

    draft = drafters.EagleDraft(heads)
    draft.settle(text[:3], seen(features[:1]))
    draft.propose(drafters.Ask(depth, 0.0, temperature, 9, torch.Generator()))  # what it rolled must be forgotten
    draft.settle(text, seen(features[1:]))
    read = len(draft._cache)
    ways = [
        (200, 4, 0.0, -1),
        (200, 4, 0.0, 42),
        (4, 4, 0.0, 42),
        (1, 4, 0.0, 0),
        (4, 2, 0.0, -1),
        *((4, 4, s / 20, 500) for s in range(7, 20)),
    ]
    for abreast, gamma, sure, end in ways:
        monkeypatch.setattr(drafters, "ABREAST", abreast)
        best = reference(abreast, gamma, sure, end)
        for size in {*range(1, 13), *range(13, len(best), 9), len(best)}:
            said = draft.propose(drafters.Ask(gamma, sure, temperature, size, torch.Generator(), frozenset([end])))
            heads.crop(draft._cache, read)
            paths: dict[int, tuple[int, ...]] = {-1: ()}
            for i, (token, parent) in enumerate(zip(said.ids, said.parents, strict=True)):
                assert parent < i, "a parent comes before its children"
                paths[i] = (*paths[parent], token)
            assert list(paths.values())[1:] == best[:size], (abreast, gamma, sure, end, size)


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_eagle_never_looks_ahead(tiny_teacher, kind: str):
    heads = heads_of(kind, tiny_teacher, ahead=3)
    one, other = (
        heads.guesses(heads.read_target(PROMPTS[:1], [answer]), (1, 2, 3)) for answer in ([21, 22, 23, 24, 0], [21, 22, 23, 99, 7])
    )
    for d in (1, 2):  # what is guessed from position 0 has read the answer's first d tokens
        torch.testing.assert_close(one[d - 1].logits_M_V[: 3 - d], other[d - 1].logits_M_V[: 3 - d])
    assert not torch.allclose(one[0].logits_M_V[3], other[0].logits_M_V[3])


# ---- the loss, through the engine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "how"),
    [("medusa", "output"), ("medusa", "gold"), ("eagle", "next_state"), ("eagle3", "output"), ("medusa2", "answers")],
)
def test_the_first_step_by_hand(tiny_teacher, kind: str, how: str):
    exp = SHORT.but(
        student=kind, method=how, mix=0.0 if how == "gold" else 0.4, feature=10.0, signals="live", ahead=2, steps=1, temperature=2.0
    )
    told = next(e for e in Run(exp, exams=0) if isinstance(e, ev.Step)).values
    pool = Signals(tiny_teacher, Atlas("half").questions(128, signals.POOL_SEED))
    world = Atlas("half")
    feed = BatchSampler(exp, gold_questions(exp, world), pool, models.tokenizer())
    rows = feed.next_rows(exp.batch, method(how).gold_share(exp.mix))
    list(pool.prepare(rows[0]))
    drawn = feed.draw(*rows)
    heads = heads_io.make(kind, tiny_teacher, ahead=2, seed=exp.seed)
    total, weight, features = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}, 0.0
    for r, (prompt, answer) in enumerate(zip(drawn.prompts, drawn.answers, strict=True)):
        alone = heads.read_target([prompt], [answer])
        for d, guess in zip(heads.trained, heads.guesses(alone, heads.trained), strict=True):
            for i in range(len(answer) - d):
                gold, share = drawn.is_gold(r), heads.weights[d]
                own, teacher = guess.logits_M_V[i].detach(), tiny_teacher.lm_head(alone.states_N_D[i + d])
                if gold or how == "answers":
                    term = -float(own.log_softmax(-1)[answer[i + d]])
                else:
                    p = (teacher / 2).softmax(-1)
                    term = 4 * float((p * (p.log() - (own / 2).log_softmax(-1))).sum())
                    if how == "next_state":
                        features += float(next_state_loss(guess.states_M_D[i : i + 1].detach(), alone.states_N_D[i + d : i + d + 1]))
                total[gold] += share * term
                weight[gold] += share
    means = {gold: total[gold] / (weight[gold] or 1) for gold in total}
    by_hand = means[True] if how == "gold" else 0.6 * means[False] + 0.4 * means[True] + 0.6 * 10 * features / (weight[False] or 1)
    assert told["loss"] == pytest.approx(by_hand, rel=2e-4)


def test_the_loss_is_the_same_in_any_number_of_passes(settings):
    once = [e.values for e in Run(SHORT.but(student="eagle3", signals="live"), exams=0) if isinstance(e, ev.Step)]
    settings(logits=60_000)
    often = [e.values for e in Run(SHORT.but(student="eagle3", signals="live"), exams=0) if isinstance(e, ev.Step)]
    for one, other in zip(once, often, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["kl"] == pytest.approx(one["loss"], rel=1e-5), "at temperature 1 without gold the KL told is the loss"


@pytest.mark.parametrize("kind", DRAFT_HEADS)
def test_a_run_learns_to_guess_and_leaves_its_target_alone(tiny_teacher, kind: str):
    before = models.fingerprint(tiny_teacher)
    exp = SHORT.but(student=kind, scale="Europe", questions=256, batch=32, steps=30, learning_rate=1e-2)
    untrained = heads_io.make(kind, tiny_teacher)
    run, record = finished(exp)
    assert models.fingerprint(tiny_teacher) == before
    assert all(parameter.grad is None for parameter in tiny_teacher.parameters())
    assert not [name for name in run.student.state_dict() if name.startswith("target")]
    exam = HeadsExam(Atlas("Europe").exam(settings.default().exam_per_skill), tiny_teacher, 4)
    first, last = exam.grade(untrained), exam.grade(run.student)
    assert last.fidelity["acceptance"] > first.fidelity["acceptance"] + 0.1
    assert last.fidelity["kl"] < 0.8 * first.fidelity["kl"]
    assert record.evaluations[-1].fidelity["acceptance"] == pytest.approx(last.fidelity["acceptance"], rel=1e-4)
    assert list(record.table().index) == ["1 ahead", "2 ahead", "3 ahead", "4 ahead"]
    assert set(record.table()["teacher"]) == {1.0}


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path):
    exp = SHORT.but(student="eagle3", steps=6, mix=0.3)
    whole = [e.values for e in Run(exp, exams=0) if isinstance(e, ev.Step)]
    run = Run(exp, tmp_path, checkpoint_every=3, exams=0)
    for event in run:
        if isinstance(event, ev.Step) and event.step == 4:
            break
    run.folder.close()
    told = list(Run(exp, tmp_path, exams=0))
    assert any(isinstance(e, ev.Warned) and "goes on from step 3" in e.message for e in told)
    assert [e.values for e in told if isinstance(e, ev.Step) and e.step > 3] == whole[3:]


# ---- data of one's own -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama as it comes from elsewhere, in bf16, with fewer keys than queries."""
    folder = tmp_path_factory.mktemp("model") / "target"
    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    torch.manual_seed(1)
    made = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=models.tokenizer().size, eos_token_id=0, bos_token_id=0))
    made.save_pretrained(folder)
    models.tokenizer().for_transformers().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "how"), [("medusa", "gold"), ("eagle", "next_state"), ("eagle3", "answers")])
def test_heads_learn_from_data_of_ones_own(own_target: Path, tmp_path: Path, kind: str, how: str):
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Say {n}.", "response": f"it is {n}"}) + "\n" for n in range(100, 160)), "utf-8")
    exp = Experiment(
        student=kind, teacher=str(own_target), data=str(data), method=how, longest=6, steps=3, batch=8, mix=0.2 * (how == "answers"),
        draft_vocabulary=300, ahead=3,
    )  # fmt: skip
    run, record = finished(exp)
    assert record.complete
    assert tuple(record.skills) == record.started.skills == ("1 ahead", "2 ahead", "3 ahead")
    assert set(record.evaluations[-1].fidelity) == {"kl", "agreement", "acceptance", "tokens_per_round"}
    said = models.tokenizer_of(run.student).answers([f"it is {n}" for n in range(100, 160)])
    assert {token for answer in said for token in answer} <= set(run.student.ids_V.tolist())
    assert len(run.student.ids_V) == 300


# ---- the exam --------------------------------------------------------------------------------------------------------------------


class Fixed(Heads):
    """Guesses by a table: the right token `d` ahead wherever that is among `knows`, another elsewhere."""

    kind = "fixed"

    def __init__(self, target, knows: set[int]) -> None:
        super().__init__(target, None, 3)
        self.knows = knows

    def guesses(self, told: TargetStates, depths):
        flat, found = torch.tensor([t for a in told.answers for t in a]), []
        for d in depths:
            aim = flat[places(told.lengths, d) + d]
            said = torch.tensor([t if t in self.knows else (t + 1) % 1024 for t in aim.tolist()], dtype=torch.long)
            found.append(HeadOutput(20.0 * F.one_hot(said, 1024).float()))
        return found


def test_the_exam_counts_what_is_right_by_depth_and_in_a_row(tiny_teacher):
    exam = HeadsExam(Atlas("Europe").exam(2), tiny_teacher, 3)
    answers = exam._answers
    common = {t for a in answers for t in a if t % 3}
    grades = exam.grade(Fixed(tiny_teacher, common))
    for d in (1, 2, 3):
        aims = [t in common for a in answers for t in a[d:]]
        assert grades.skills[f"{d} ahead"] == pytest.approx(sum(aims) / len(aims))
    rows = []
    for a in answers:
        for i in range(len(a) - 1):
            ahead = [t in common for t in a[i + 1 : i + 4]]
            rows.append(1 + (ahead.index(False) if False in ahead else len(ahead)))
    assert grades.fidelity["tokens_per_round"] == pytest.approx(sum(rows) / len(rows))
    perfect = exam.grade(Fixed(tiny_teacher, set(range(1024))))
    assert perfect.skills == exam.teacher_grades.skills
    assert perfect.fidelity["tokens_per_round"] == pytest.approx(exam.teacher_grades.fidelity["tokens_per_round"])
    assert perfect.truth["right"] == 1.0
    assert {answer.text for answer in perfect.answers} == {answer.text for answer in exam.teacher_answers}
    assert isinstance(perfect.answers[0], Graded)


def test_acceptance_and_kl_are_those_of_the_distributions(tiny_teacher):
    exam, heads = HeadsExam(Atlas("Europe").exam(1), tiny_teacher, 2), heads_of("medusa", tiny_teacher, ids=[*range(700)], ahead=2)
    accepted, kl = [], []
    for prompt, answer in zip(exam._prompts, exam._answers, strict=True):
        told = heads.read_target([prompt], [answer])
        for i in range(len(answer) - 1):
            p, q = tiny_teacher.lm_head(told.states_N_D[i + 1]).softmax(-1), heads(told.states_N_D)[0, i].detach().softmax(-1)
            accepted.append(float(torch.minimum(p[:700], q).sum()))
            inside = p[:700] / p[:700].sum()
            kl.append(float((inside * (inside.log() - q.log())).sum()))
    grades = exam.grade(heads)
    assert grades.fidelity["acceptance"] == pytest.approx(sum(accepted) / len(accepted), rel=1e-4)
    assert grades.fidelity["kl"] == pytest.approx(sum(kl) / len(kl), rel=1e-4)


# ---- keeping, and what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DRAFT_HEADS)
def test_heads_come_back_as_they_were_kept(tiny_teacher, tmp_path: Path, kind: str):
    heads = heads_of(kind, tiny_teacher, ids=[*range(0, 1024, 2)], ahead=3)
    heads_io.save(heads, tmp_path / "heads.safetensors", {"recipe": "labkit"})
    again = heads_io.load(tmp_path / "heads.safetensors", tiny_teacher)
    assert (again.kind, again.ahead, again.ids_V.tolist()) == (kind, 3, heads.ids_V.tolist())
    told = heads.read_target(PROMPTS, ANSWERS)
    for mine, theirs in zip(heads.guesses(told, (1, 2)), again.guesses(told, (1, 2)), strict=True):
        torch.testing.assert_close(mine.logits_M_V, theirs.logits_M_V, atol=5e-2, rtol=1e-2)
    assert tensors.note(tmp_path / "heads.safetensors")["recipe"] == "labkit"
    with pytest.raises(LabError, match="belongs to a target with weights"):
        heads_io.load(tmp_path / "heads.safetensors", models.student("200k", seed=9))
    tensors.save(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(LabError, match="holds no heads"):
        heads_io.load(tmp_path / "other.safetensors", tiny_teacher)
    kept, note = tensors.load(tmp_path / "heads.safetensors")
    weight = next(name for name, tensor in kept.items() if name.startswith("weight/") and len(tensor) > 1)
    odd = [(kept, {"heads": text}) for text in ("[]", "null", "{}", "[" * 100_000)]
    odd += [
        ({name: tensor for name, tensor in kept.items() if name not in ("ids", weight)}, note),
        (kept | {weight: kept[weight][:1]}, note),
    ]
    for content in odd:
        tensors.save(tmp_path / "odd.safetensors", *content)
        with pytest.raises(LabError, match=r"odd\.safetensors (holds no heads|is damaged)"):
            heads_io.load(tmp_path / "odd.safetensors", tiny_teacher)


def test_a_recipe_keeps_its_key_and_a_baseline_its_heads():
    assert Experiment().key == Experiment(ahead=4, draft_vocabulary=0).key
    assert Experiment(student="medusa").key != Experiment(student="medusa", ahead=3).key
    budget = Experiment(student="eagle", ahead=2, draft_vocabulary=100, method="next_state").baseline()
    assert (budget.student, budget.method, budget.ahead, budget.draft_vocabulary) == ("eagle", "gold", 2, 100)
    assert budget.learning_rate == TUNED_RATE["eagle"]
    assert comparison(budget)
