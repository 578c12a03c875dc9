"""Draft and verify: the target's text and nothing else, whatever the draft; caches that can go back; the theory on paper."""

import copy
import math
import warnings
from collections import Counter
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import labkit
from labkit import models
from labkit.base.errors import LabError
from labkit.models import tokenizer_of
from labkit.models.heads import io as heads_io
from labkit.speculative import accept, measure, theory
from labkit.speculative.decode import plain, speculate
from labkit.speculative.drafters import ModelDraft, Proposal, likeliest
from labkit.speculative.kv_cache import CachedModel
from labkit.speculative.near_ties import first_difference

QUESTIONS = ("What is the capital of Chad?", "Name a city in Kenya.", "What is 23 + 48 + 7?", "What is the symbol of the element gold?")


@pytest.fixture(scope="module")
def teacher():
    return labkit.teacher("atlas-3m")


@pytest.fixture(scope="module")
def draft():
    return labkit.teacher("atlas-200k")


def tiny(seed: int, words: int = 3) -> LlamaForCausalLM:
    """A Llama of a few words, with everything about its text at hand."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64,
            initializer_range=0.9,
        )
    ).eval()  # fmt: skip
    model.lm_head.weight.data *= 1.5  # so that some words are likelier than others
    model.chat = SimpleNamespace(
        name="tiny",
        vocabulary="tiny",
        ends={-1},
        longest=3,
        token=str,
        text=lambda ids: " ".join(map(str, ids)),
        prompts=lambda t: [[0, 1]],
    )
    return model


def medusa(target):
    """Medusa's heads as they would be after some training: each says something of its own."""
    heads = heads_io.make("medusa", target)
    torch.manual_seed(2)
    for head in heads.heads:
        torch.nn.init.normal_(head.block.weight, std=0.3)
    return heads


class Guesses:
    """A drafter that proposes what it is told to."""

    extra_layers, most = (), 8

    def __init__(self, propose):
        self._propose = propose

    def settle(self, text, seen):
        self.text, self.seen = list(text), seen

    def propose(self, ask):
        return self._propose(self.text, ask.gamma)


@pytest.mark.parametrize("gamma", [1, 4, "adaptive"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_is_the_target_token_for_token(teacher, draft, question, gamma):
    alone = plain(teacher, question)
    assert alone.ids == models.write(teacher, models.tokenizer().prompts([question]))[0].ids
    assert speculate(teacher, draft, question, gamma).ids == alone.ids
    assert speculate(teacher, models.student("57k", 3), question, gamma).ids == alone.ids  # an untrained draft is only slow


def test_a_draft_that_is_the_target_is_always_taken(teacher):
    done = speculate(teacher, teacher, QUESTIONS[1], 3)
    assert done.acceptance == 1 and all(r.bonus for r in done.rounds)
    assert done.target_passes == 1 + math.ceil((len(done.ids) - 1) / 4)
    for seed in range(5):
        assert speculate(teacher, teacher, QUESTIONS[1], 3, temperature=1.0, seed=seed).acceptance == 1


@pytest.mark.parametrize("architecture", ["gpt2", "recurrent"])
def test_drafts_made_otherwise(teacher, architecture):
    other = models.student("57k", 0, architecture=architecture).eval()
    assert speculate(teacher, other, QUESTIONS[2], 3).ids == plain(teacher, QUESTIONS[2]).ids


def test_samples_have_the_targets_distribution():
    """Every text of three tokens: its probability under the target, worked out one by one, against how often it was written."""
    target, chances = tiny(0), {}
    for text in product(range(3), repeat=3):
        with torch.no_grad():
            logp = target(torch.tensor([[0, 1, *text]])).logits[0, 1:-1].div(0.8).log_softmax(-1)
        chances[text] = float(logp[range(3), list(text)].sum().exp())
    assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
    n = 600
    for other, gamma in ((tiny(1), 2), (tiny(1), "adaptive"), (medusa(target), 2), (heads_io.make("eagle", target, [0, 2]), 2)):
        seen = Counter(tuple(speculate(target, other, "?", gamma, temperature=0.8, seed=seed).ids) for seed in range(n))
        cells = [(seen[text], n * chance) for text, chance in chances.items() if n * chance >= 5]
        rest = n - sum(found for found, _ in cells), n - sum(wanted for _, wanted in cells)
        cells += [rest] if rest[1] >= 5 else []
        chi = sum((found - wanted) ** 2 / wanted for found, wanted in cells)
        free = len(cells) - 1
        assert chi < free + 4 * math.sqrt(2 * free), f"chi-square {chi:.1f} on {free} degrees of freedom"  # four standard deviations


def test_one_round_enumerated():
    """For all p and q on a grid: taking and resampling, summed over all proposals, give back p; and 1 - TV of the proposals are taken."""
    generator = torch.Generator().manual_seed(0)
    p, q = torch.tensor([0.5, 0.2, 0.3, 0.0]), torch.tensor([0.1, 0.6, 0.1, 0.2])
    n, said, taken = 20_000, Counter(), 0
    drawn = q.multinomial(n, replacement=True, generator=generator).tolist()
    for x in drawn:
        verdict = accept.sampled(torch.stack([p, p]), q[None], [x], generator)
        taken += len(verdict.path)
        said[x if verdict.path else verdict.token] += 1
    alpha = float(theory.overlap(p.log()[None], q.log()[None]))
    assert alpha == pytest.approx(0.4) and taken / n == pytest.approx(alpha, abs=4 * math.sqrt(alpha * (1 - alpha) / n))
    for x, chance in enumerate(p.tolist()):
        assert said[x] / n == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / n) + 1e-9)


def test_going_back_is_never_having_read(teacher):
    ids = models.tokenizer().prompts([QUESTIONS[2]])[0]
    straight = CachedModel(teacher)
    wanted = straight.read(ids).final_T_D
    cached = CachedModel(teacher)
    cached.read([*ids[:5], 9, 8, 7])
    cached.back(5)
    assert cached.length == 5
    torch.testing.assert_close(cached.read(ids[5:]).final_T_D, wanted[5:], atol=2e-5, rtol=1e-4)


def test_a_tree_is_its_paths_read_one_by_one(teacher):
    """Every node of a tree has the states it would have as the end of its own text; and what is kept of it reads on as that text."""
    text, tree, parents = models.tokenizer().prompts([QUESTIONS[0]])[0], [11, 12, 13, 14, 15], [-1, -1, 0, 0, 2]
    cached = CachedModel(teacher, extra_layers=(2,))
    cached.read(text)
    seen = cached.read(tree, parents)
    for i in range(len(tree)):
        path, at = [], i
        while at >= 0:
            path, at = [tree[at], *path], parents[at]
        alone = CachedModel(teacher, extra_layers=(2,))
        found = alone.read([*text, *path])
        torch.testing.assert_close(seen.final_T_D[i], found.final_T_D[-1], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(seen.layers_T_L_D[i], found.layers_T_L_D[-1], atol=2e-5, rtol=1e-4)
    cached.keep(5, [0, 2, 4])
    alone = CachedModel(teacher)
    alone.read([*text, 11, 13, 15])
    assert cached.length == alone.length
    torch.testing.assert_close(cached.read([21]).final_T_D, alone.read([21]).final_T_D, atol=2e-5, rtol=1e-4)


def test_a_tree_takes_the_path_the_target_would_go(teacher):
    """The right token among wrong ones at every depth, in a shuffled place: all is taken, and the text is the target's."""
    alone = plain(teacher, QUESTIONS[1])
    start = len(models.tokenizer().prompts([QUESTIONS[1]])[0])

    def guess(text, gamma):
        ids, parents, parent = [], [], -1
        for right in alone.ids[len(text) - start :][:gamma]:
            ids += [(right + 1) % 1024, right]
            parents += [parent, parent]
            parent = len(ids) - 1
        return Proposal(ids, parents)

    done = speculate(teacher, Guesses(guess), QUESTIONS[1], 3)
    assert done.ids == alone.ids and done.acceptance == 1


def test_an_end_inside_what_was_taken_ends_the_answer(teacher):
    alone = plain(teacher, QUESTIONS[0])
    start = len(models.tokenizer().prompts([QUESTIONS[0]])[0])
    done = speculate(teacher, Guesses(lambda text, gamma: Proposal.chain([*alone.ids[len(text) - start :], 5, 5])), QUESTIONS[0], 8)
    assert done.ids == alone.ids and done.rounds[-1].token is None and done.text == alone.text
    shown = done._repr_html_()
    assert 'class="token refused"' not in shown and 'class="token unjudged"' in shown, "what was proposed beyond the end was not rejected"


@pytest.mark.parametrize("kind", ["medusa", "eagle", "eagle3"])
@pytest.mark.parametrize(
    "how", [{"gamma": 3}, {"gamma": "adaptive"}, {"gamma": 2, "candidates": 7}, {"gamma": "adaptive", "candidates": 5}]
)
def test_heads_only_make_it_faster(teacher, kind, how):
    heads = medusa(teacher) if kind == "medusa" else heads_io.make(kind, teacher, range(0, 1024, 2))
    for question in QUESTIONS:
        assert speculate(teacher, heads, question, **how).ids == plain(teacher, question).ids


@pytest.mark.parametrize("kind", ["medusa", "eagle", "model"])
@pytest.mark.parametrize(("gamma", "candidates"), [(4, 4), (4, 2), (1, 3), (2, 9)])
def test_so_many_candidates_are_read_whatever_the_depth(teacher, draft, kind: str, gamma: int, candidates: int):
    guesser = draft if kind == "model" else medusa(teacher) if kind == "medusa" else heads_io.make(kind, teacher)
    done = speculate(teacher, guesser, QUESTIONS[1], gamma, candidates=candidates)
    assert done.ids == plain(teacher, QUESTIONS[1]).ids
    assert max(len(r.proposed) for r in done.rounds) == candidates
    depths = [sum(1 for _ in chain_of(r.parents, i)) for r in done.rounds for i in range(len(r.proposed))]
    assert max(depths) <= gamma


@pytest.mark.parametrize("kind", ["eagle", "model"])
@pytest.mark.parametrize("candidates", [0, 6])
def test_nothing_is_guessed_behind_the_end(teacher, kind: str, candidates: int):
    heads = heads_io.make("eagle", teacher, [0, 7, 65])  # a third of what it guesses is the end
    for question in QUESTIONS:
        done = speculate(teacher, heads if kind == "eagle" else teacher, question, 6, candidates=candidates)
        assert done.ids == plain(teacher, question).ids
        for one in done.rounds:
            assert all(parent < 0 or one.proposed[parent] != tokenizer_of(teacher).end for parent in one.parents)


def chain_of(parents, i):
    while i >= 0:
        yield i
        i = parents[i]


def test_a_token_named_twice_is_said_once(teacher):
    heads = heads_io.make("medusa", teacher, [9, 9, 3, 9])
    assert heads.ids_V.tolist() == [3, 9]


def test_a_tree_of_the_likeliest_combinations():
    chances = [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.9, 0.08, 0.02]]
    ranks, parents = likeliest(chances, 9)
    paths = []
    for rank, parent in zip(ranks, parents, strict=True):
        paths.append([*(paths[parent] if parent >= 0 else []), rank])

    def chance(path):
        return math.prod(chances[depth][rank] for depth, rank in enumerate(path))

    every = [list(path) for depth in (1, 2, 3) for path in product(range(3), repeat=depth)]
    assert sorted(map(chance, paths)) == pytest.approx(sorted(map(chance, sorted(every, key=chance)[-9:])))
    assert len({tuple(path) for path in paths}) == 9 and all(parent < i for i, parent in enumerate(parents))


def test_heads_of_another_model_are_refused(teacher, draft):
    with pytest.raises(LabError, match="another model"):
        speculate(teacher, heads_io.make("eagle", draft), QUESTIONS[0])
    joint = heads_io.make("medusa2", teacher)
    with torch.no_grad():
        joint.trunk.lm_head.weight.mul_(1.01)  # as training would
    with pytest.raises(LabError, match=r"heads\.trunk"):
        speculate(teacher, joint, QUESTIONS[0])
    assert speculate(joint.trunk, joint, QUESTIONS[0]).ids
    assert speculate(copy.deepcopy(teacher), heads_io.make("eagle", teacher), QUESTIONS[0], 2).ids  # the same weights are the same model
    assert "at most 4 tokens" in speculate(teacher, heads_io.make("medusa", teacher), QUESTIONS[0], 9).note
    with pytest.raises(LabError, match="one chain"):
        speculate(teacher, draft, QUESTIONS[0], candidates=8, temperature=1.0)


def test_a_draft_goes_on_from_the_text_whatever_branch_was_taken(teacher):
    """One whose first choice is always the target's second, so that branches are taken: its cache holds the text and nothing
    else, and what it says first is what it would say having read the text anew."""
    right: list[bool] = []

    class Swapped(ModelDraft):
        def start(self):
            logits = super().start()
            right.append(torch.allclose(logits, teacher(torch.tensor([self._text])).logits[0, -1], atol=1e-3))
            return logits

        def full(self, logits_V):
            top = logits_V.topk(2)
            return logits_V.index_copy(0, top.indices, top.values.flip(0)), None

    done = [speculate(teacher, Swapped(teacher, 12), question, 2, candidates=12) for question in QUESTIONS]
    assert any(r.path and r.path[-1] >= 2 for one in done for r in one.rounds[:-1])
    assert len(right) > 4 and all(right)


def test_a_limit_is_kept(teacher, draft):
    for limit in (1, 2, 3):
        assert speculate(teacher, draft, QUESTIONS[1], 4, limit=limit).ids == plain(teacher, QUESTIONS[1]).ids[:limit]


def test_typical_takes_what_is_likely_and_is_not_exact():
    even, sure = torch.full((2, 4), 0.25), torch.tensor([[0.97, 0.01, 0.01, 0.01]] * 2)
    generator = torch.Generator().manual_seed(0)
    assert accept.typical(even, [3], [-1], generator).path == [0]  # where anything goes, anything is taken
    assert accept.typical(sure, [3], [-1], generator).path == []
    written = Counter(accept.typical(even, [3], [-1], generator).path == [0] for _ in range(50))
    assert "NOT distributed" in speculate(tiny(0), tiny(1), "?", rule="typical", temperature=1.0)._repr_html_()
    assert written == {True: 50}  # exact sampling from this p would say 3 a quarter of the time


def test_bad_input(teacher, draft):
    with pytest.raises(LabError, match="token numbers would mean different words"):
        speculate(teacher, models.student("57k", vocabulary="small"), QUESTIONS[0])
    for gamma in (0, -1, 2.5, "many", True):
        with pytest.raises(LabError, match="gamma="):
            speculate(teacher, draft, QUESTIONS[0], gamma)
    for warmth in (-1.0, float("nan"), float("inf"), 1e-9, "1", True):
        with pytest.raises(LabError, match="temperature="):
            speculate(teacher, draft, QUESTIONS[0], temperature=warmth)
    for name, value in (("limit", 0), ("limit", 2.5), ("limit", True), ("candidates", -1), ("candidates", "8")):
        with pytest.raises(LabError, match=f"{name}="):
            speculate(teacher, draft, QUESTIONS[0], **{name: value})
    for seed in ("x", 1.5, True):
        with pytest.raises(LabError, match="seed="):
            speculate(teacher, draft, QUESTIONS[0], temperature=1.0, seed=seed)
    for strange in (5, None, b"abc"):
        with pytest.raises(LabError, match=r"a text, or (a list of token numbers|token ids)"):
            speculate(teacher, draft, strange)
    for ahead in (0, 1.5, True):
        with pytest.raises(LabError, match="ahead="):
            heads_io.make("medusa", teacher, ahead=ahead)
    with pytest.raises(LabError, match="numbers from 0 to"):
        heads_io.make("eagle", teacher, [1.5, 2.0])
    tree = Guesses(lambda text, gamma: Proposal([5, 6], [-1, -1]))
    with pytest.raises(LabError, match="checks a chain"):
        speculate(teacher, tree, QUESTIONS[0], temperature=1.0)
    with pytest.raises(LabError, match="Propose a chain"):
        speculate(models.student("57k", 0, architecture="recurrent").eval(), tree, QUESTIONS[0])
    with pytest.raises(LabError, match="candidates=0"):
        measure.judged(teacher, draft, [speculate(teacher, draft, QUESTIONS[0], 2, candidates=5)])
    long = [5] * 250
    assert speculate(teacher, draft, long, "adaptive", limit=2).ids == plain(teacher, long, limit=2).ids, "nobody asked for 12"
    assert speculate(teacher, heads_io.make("medusa", teacher), long, 9, limit=2).ids == plain(teacher, long, limit=2).ids
    for strange in ("atlas-200k", None):
        with pytest.raises(LabError, match="cannot draft"):
            speculate(teacher, strange, QUESTIONS[0])
    with pytest.raises(LabError, match="not a language model"):
        speculate("atlas-3m", draft, QUESTIONS[0])
    with pytest.raises(LabError, match="half of a character"):
        speculate(teacher, draft, "\ud800")
    for ids in ([1, 5000], [-1, 3], ["a"], [True, False]):
        with pytest.raises(LabError, match="not a token of the model"):
            speculate(teacher, draft, ids)
    recurrent = models.student("57k", 0, architecture="recurrent").eval()
    with pytest.raises(LabError, match="keeps a state"):
        speculate(recurrent, recurrent, QUESTIONS[0], candidates=8)
    for ids in ([], [5000]):
        with pytest.raises(LabError, match="numbers from 0 to"):
            heads_io.make("medusa", teacher, ids)
    with pytest.raises(LabError, match="medusa"):
        heads_io.make("eagle", models.student("57k", 0, architecture="recurrent"))
    with pytest.raises(LabError, match="do not fit"):
        speculate(teacher, draft, QUESTIONS[0], 10_000)
    for empty in ("", "  ", []):
        with pytest.raises(LabError, match="empty"):
            speculate(teacher, draft, empty)
    with pytest.raises(LabError, match="rule"):
        speculate(teacher, draft, QUESTIONS[0], rule="loose")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = speculate(draft, teacher, QUESTIONS[0])
    assert "slower" in str(caught[0].message) and "slower" in done.note


def test_a_draft_that_has_said_the_end_says_no_more(teacher):
    done = speculate(teacher, teacher, QUESTIONS[0], 20)
    assert done.acceptance == 1 and done.rounds[0].proposed == done.ids[1:]
    shown = done._repr_html_()
    assert 'class="token refused"' not in shown and 'class="token unjudged"' not in shown
    alone = plain(teacher, QUESTIONS[0], limit=1)._repr_html_()
    assert "nan" not in alone and "1 token in 1 pass" in alone and 'class="token bonus"' not in plain(teacher, QUESTIONS[0])._repr_html_()


def test_theory():
    assert theory.tokens_per_round(0.8, 0) == 1 and theory.tokens_per_round(1.0, 4) == 5
    for gamma, published in ((1, 1.8), (3, 2.95), (5, 3.69), (7, 4.16)):  # Leviathan et al. 2023, table 1's alpha = 0.8
        assert theory.tokens_per_round(0.8, gamma) == pytest.approx(published, abs=0.005)
    assert theory.best_gamma(0.5, 1.0) == (0, 1.0)  # a draft as slow as its target
    gamma, best = theory.best_gamma(0.8, 0.1)
    assert best == max(theory.speedup(0.8, g, 0.1) for g in range(25)) > theory.speedup(0.8, gamma + 1, 0.1)
    with pytest.raises(LabError, match="probability"):
        theory.speedup(1.2, 4, 0.1)
    with pytest.raises(LabError, match="below 0"):
        theory.speedup(0.8, 4, -0.1)


def test_overlap_is_one_minus_total_variation():
    target, other = torch.randn(50, 9), torch.randn(50, 9)
    distance = labkit.divergence("total_variation")(target, other, 1.7)
    torch.testing.assert_close(theory.overlap(target, other, 1.7), 1 - distance)
    assert bool((1 - theory.overlap(target, other) <= (labkit.divergence("forward_kl")(target, other) / 2).sqrt()).all())  # Pinsker


def test_the_page_escapes_what_a_model_wrote(teacher, draft):
    done = speculate(teacher, draft, QUESTIONS[2], 4)
    shown = done._replace(text="<script>", names=dict.fromkeys(done.names, "<b>"))._repr_html_()
    assert "<script>" not in shown and "<b></b>" not in shown and "&lt;script&gt;" in shown
    assert shown.count("<li>") == 1 + len(done.rounds)
    for kind in ("refused", "instead", "first"):
        assert f'class="token {kind}"' in shown


def test_transformers_assisted_generation_writes_the_same(teacher, draft):
    for question in QUESTIONS:
        ids = torch.tensor(models.tokenizer().prompts([question]))
        theirs = teacher.generate(
            ids, assistant_model=draft, do_sample=False, max_new_tokens=28, num_assistant_tokens=4, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        assert theirs[0, ids.shape[1] :].tolist() == speculate(teacher, draft, question, 4).ids


def test_where_two_texts_part(teacher):
    prompt = models.tokenizer().prompts([QUESTIONS[1]])[0]
    alone = plain(teacher, QUESTIONS[1]).ids
    assert first_difference(teacher, prompt, alone, alone) is None
    other = [*alone[:1], (alone[1] + 1) % 1024, *alone[2:]]
    found = first_difference(teacher, prompt, alone, other)
    assert found.position == 1 and found.rank > 1 and found.gap > 0 and not found.near_tie
    assert not first_difference(teacher, prompt, alone, alone[:1]).near_tie
    assert found._replace(rank=2, gap=found.step).near_tie
