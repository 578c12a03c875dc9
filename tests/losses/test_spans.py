"""Spans, texts and cross-vocabulary losses, against enumeration and against each other."""

from __future__ import annotations

import itertools
import math
import os
import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from labkit.losses.cross_tokenizer import spans as alignment
from labkit.losses.cross_tokenizer.spans import END, LabError, next_tokens, offsets, segmentations, spans, texts
from labkit.losses.divergences import divergence
from labkit.models import EOS, tokenizer
from labkit.teachers.cross_tokenizer_pool import _asking, retokenize

OTHERS = ("other", "small", "bytes")
AWKWARD = ["", "Lima", "N'Djamena", "日本 🗾", "Ωмега\t\n", "\x00\x7f", "<eos>", "é" * 3, "7" * 400, "Lima, " * 3_000]


def cut_at(text: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(set(places) - {0, len(text)}), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(ends) if a < b] + [END]


# ---- spans ---------------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=40), st.lists(st.integers(0, 40)), st.lists(st.integers(0, 40)))
def test_spans_lose_nothing_and_cannot_be_cut_further(text, one, other):
    teacher, student = (cut_at(text, [p for p in places if p < len(text)]) for places in (one, other))
    found = spans(teacher, student)
    assert [i for span in found for i in span.teacher] == list(range(len(teacher)))
    assert [i for span in found for i in span.student] == list(range(len(student)))
    assert [span.stop for span in found] == sorted(set(offsets(teacher)) & set(offsets(student)))
    for span in found:
        spelled = [b"".join(side[i] for i in tokens) for side, tokens in ((teacher, span.teacher), (student, span.student))]
        assert spelled[0] == spelled[1] == text[span.start : span.stop]


def test_an_example_by_hand():
    found = spans([b" Sp", b"ain", b",", END], [b" S", b"pai", b"n", b",", END])
    assert [(list(s.teacher), list(s.student)) for s in found] == [([0, 1], [0, 1, 2]), ([2], [3]), ([3], [4])]
    assert [(s.start, s.stop) for s in found] == [(0, 6), (6, 7), (7, 8)]


def test_two_texts_are_not_aligned():
    for other in ([b"Lim", END], [b"Lima"], [b"Peru", END]):
        with pytest.raises(LabError, match="two tokenizations of one text"):
            spans([b"Lima", END], other)


@pytest.mark.parametrize("vocabulary", OTHERS)
@pytest.mark.parametrize("text", AWKWARD, ids=range(len(AWKWARD)))
def test_any_string_crosses_with_nothing_lost(vocabulary, text):
    own = tokenizer(vocabulary)
    prompt, answer = tokenizer().prompts([text])[0], tokenizer().answers([text])[0] if text else [EOS]
    cut = retokenize(tokenizer(), own, prompt, answer)
    assert own.spell(cut.prompt) == text.encode()
    assert own.spell(cut.answer) == (f" {text}" if text else "").encode()
    assert cut.prompt == own.prompts([text])[0]
    assert cut.answer == (own.answers([text])[0] if text else [EOS])
    assert len(cut.span_of_teacher) == len(answer) and len(cut.span_of_student) == len(cut.answer)
    assert sorted(set(cut.span_of_teacher)) == sorted(set(cut.span_of_student)) == list(range(cut.span_of_teacher[-1] + 1))


@given(st.lists(st.integers(1, 1023), max_size=30), st.booleans(), st.sampled_from(OTHERS))
def test_whatever_a_teacher_writes_crosses(ids, ended, vocabulary):
    """Halves of characters too: random tokens are seldom text."""
    answer = [*ids, EOS] if ended or not ids else ids
    cut = retokenize(tokenizer(), tokenizer(vocabulary), [EOS], answer)
    assert tokenizer(vocabulary).spell(cut.answer) == tokenizer().spell(ids)
    assert (cut.answer[-1] == EOS) == (answer[-1] == EOS)


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(OTHERS))
def test_any_question_and_answer_cross(question, answer, vocabulary):
    own, prompt = tokenizer(vocabulary), tokenizer().prompts([question])[0]
    cut = retokenize(tokenizer(), own, prompt, tokenizer().answers([answer])[0])
    assert (own.spell(cut.prompt), own.spell(cut.answer)) == (question.encode(), f" {answer}".encode())
    assert cut.prompt.count(EOS) == cut.answer.count(EOS) == 1, "marks are tokens, never text that looks like one"


# ---- texts against enumeration ---------------------------------------------------------------------------------------------------

VOCABULARY = [END, b"a", b"b", b"ab", b"ba", b"aab"]


def test_segmentations_are_counted():
    assert len(list(segmentations(b"a" * 12, [b"a", b"aa"]))) == 233  # Fibonacci
    assert list(segmentations(b"c", [b"a"])) == []
    assert list(segmentations(b"", [b"a"])) == [()]


class ByPath:
    """A toy transformer: its next token depends on the tokens so far, so two cuts of one text go on differently."""

    def __init__(self, seed: int, longest: int) -> None:
        self.seed, self.longest, self.paths = seed, longest, [()]

    def probabilities(self, path: tuple[int, ...]) -> list[float]:
        if len(path) == self.longest - 1:
            return [1.0] + [0.0] * (len(VOCABULARY) - 1)  # it has to end
        rng = random.Random(f"{self.seed} {path}")
        weights = [rng.random() ** 3 for _ in VOCABULARY]
        return [w / sum(weights) for w in weights]

    def __call__(self, parents, tokens):
        if parents is not None:
            self.paths = [(*self.paths[p], t) for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
        return torch.tensor([self.probabilities(path) for path in self.paths], dtype=torch.float64)

    def everything(self) -> dict[bytes, float]:
        """Text by text, added up over every token path: the brute force."""
        found: dict[bytes, float] = {}
        for n in range(self.longest):
            for path in itertools.product(range(1, len(VOCABULARY)), repeat=n):
                full = (*path, 0)
                likely = math.prod(self.probabilities(full[:i])[token] for i, token in enumerate(full))
                text = b"".join(VOCABULARY[t] for t in path)
                found[text] = found.get(text, 0.0) + likely
        return found


@pytest.mark.parametrize("seed", range(3))
def test_all_texts_agree_with_brute_force(seed):
    model = ByPath(seed, 5)
    (found,), wanted = texts(model, VOCABULARY, 0.0, 5), model.everything()
    assert sum(found.values()) == pytest.approx(1, abs=1e-9)
    assert set(found) == {text for text, p in wanted.items() if p}
    assert all(found[text] == pytest.approx(wanted[text], abs=1e-6) for text in found)


@pytest.mark.parametrize("seed", range(2))
def test_a_transformer_s_texts_agree_with_brute_force(seed):
    """A real one, with its branching cache and prompts of unequal length: each of 781 token paths a prompt, read in one plain pass."""
    longest = 5
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, initializer_range=0.5)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(VOCABULARY), **sizes)).double().eval()
    prompts = [[0, 3, 1], [0, 2, 2, 4, 1]]
    with torch.no_grad():
        found = texts(_asking(model, prompts), VOCABULARY, 0.0, longest)
    for prompt, texts_of in zip(prompts, found, strict=True):
        wanted: dict[bytes, float] = {}
        for n in range(longest):
            paths = torch.tensor([[*prompt, *path, EOS] for path in itertools.product(range(1, len(VOCABULARY)), repeat=n)])
            with torch.no_grad():
                logprobs = model(paths).logits[:, len(prompt) - 1 : -1].log_softmax(-1)
            likely = logprobs.gather(2, paths[:, len(prompt) :, None])[..., 0].sum(1).exp().tolist()
            for path, p in zip(paths[:, len(prompt) : -1].tolist(), likely, strict=True):
                text = b"".join(VOCABULARY[token] for token in path)
                wanted[text] = wanted.get(text, 0.0) + p
        assert texts_of.keys() == wanted.keys()
        assert all(texts_of[text] == pytest.approx(wanted[text], abs=1e-6) for text in wanted)
        assert max(wanted.values()) > 1e-2, "or 1e-6 says nothing"


def test_a_floor_leaves_out_what_it_says():
    exact, (some,) = ByPath(1, 5).everything(), texts(ByPath(1, 5), VOCABULARY, 0.01, 5)
    assert 0.3 < sum(some.values()) < 1
    assert all(p <= exact[text] + 1e-9 for text, p in some.items())


@pytest.mark.parametrize("seed", range(3))
def test_the_next_token_of_another_vocabulary_agrees_with_brute_force(seed):
    """What a student that cuts greedily by its own tokens should give the next one, among all texts that begin as the answer does."""
    other = [END, b"a", b"b", b"bb", b"aba"]
    model = ByPath(seed, 5)

    def cut(text: bytes) -> list[int]:
        ids = []
        while text:
            ids.append(max((t for t in range(1, len(other)) if text.startswith(other[t])), key=lambda t: len(other[t])))
            text = text[len(other[ids[-1]]) :]
        return [*ids, EOS]

    (found,) = texts(model, VOCABULARY, 0.0, 5)
    weighted = [(cut(text), p) for text, p in found.items()]
    everything = model.everything()
    for answer in (cut(b"abab"), cut(b"aabab"), cut(b"")):
        for place, following in enumerate(next_tokens(weighted, answer)):
            begun = {text: p for text, p in everything.items() if cut(text)[:place] == answer[:place] and len(cut(text)) > place}
            total = sum(begun.values())
            for token in range(len(other)):
                wanted = sum(p for text, p in begun.items() if cut(text)[place] == token) / total
                assert following.get(token, 0.0) == pytest.approx(wanted, abs=1e-6)


def test_an_answer_nobody_gives_is_learned_as_it_is():
    assert next_tokens([([1, 2, 0], 0.5), ([1, 0], 0.5)], [1, 3, 0]) == [{1: 1.0}, {2: 0.5, 0: 0.5}, {0: 1.0}]


# ---- losses ----------------------------------------------------------------------------------------------------------------------


def logits(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_uld_is_blind_to_names():
    own, shuffled = logits(6, 40), logits(6, 40)[:, torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    assert alignment.uld_loss(own, shuffled).abs().max() < 1e-12
    assert divergence("forward_kl")(own, shuffled).min() > 0.5


def test_uld_is_a_distance_of_the_sorted_and_does_not_mind_padding():
    one, two, three = (logits(5, 7, seed) for seed in range(3))
    assert torch.allclose(alignment.uld_loss(one, two), alignment.uld_loss(two, one))
    assert (alignment.uld_loss(one, two) <= alignment.uld_loss(one, three) + alignment.uld_loss(three, two) + 1e-12).all()
    padded = torch.cat([two, torch.full((5, 4), -math.inf, dtype=two.dtype)], -1)
    assert torch.allclose(alignment.uld_loss(one, two), alignment.uld_loss(one, padded))
    by_hand = (one.softmax(-1).sort(-1).values - two.softmax(-1).sort(-1).values).abs().sum(-1)
    assert torch.allclose(alignment.uld_loss(one, two), by_hand)


def test_chunk_loss_is_a_binary_kl():
    teacher, student = (torch.tensor(p, dtype=torch.float64) for p in ([0.9, 0.2, 0.5], [0.9, 0.6, 0.01]))
    wanted = teacher * (teacher / student).log() + (1 - teacher) * ((1 - teacher) / (1 - student)).log()
    assert torch.allclose(alignment.chunk_loss(teacher.log(), student.log()), wanted)
    assert alignment.chunk_loss(teacher.log(), student.log(), 100.0)[0].abs() < 1e-9
    assert torch.isfinite(alignment.chunk_loss(torch.tensor([0.0, -200.0, 0.0]), torch.tensor([-200.0, 0.0, 0.0]))).all()


def test_merging_tokens_cannot_increase_kl():
    """The data-processing inequality: the KL of coarser outcomes is at most that of all tokens."""
    forward, columns = divergence("forward_kl"), torch.tensor([1, 4, 5])
    teacher, student = logits(8, 9, 1).log_softmax(-1), logits(8, 9, 2).log_softmax(-1)
    full = forward(teacher, student)
    coarse = forward(alignment.shared_outcomes(teacher, columns), alignment.shared_outcomes(student, columns))
    assert (coarse <= full + 1e-5).all() and (coarse >= 0).all() and (coarse < full - 1e-3).any()


def test_merged_outcomes_are_one_distribution_over_the_same_things():
    logprobs, columns = logits(4, 9, 3).log_softmax(-1), torch.tensor([1, 4, 5])
    begun = torch.tensor([[True, False, False], [False, False, False], [False, True, True], [False, False, True]])
    span = logprobs[:, 7] - 1.5  # the product over a span that begins with token 7
    found = alignment.merged_outcomes(logprobs, columns, span, begun)
    assert found.shape == (4, 5)
    assert torch.allclose(found.exp().sum(-1), torch.ones(4, dtype=found.dtype), atol=1e-9)
    assert torch.equal(found[:, 3], span)
    assert (found[:, :3].exp()[begun] < 1e-12).all() and torch.equal(found[:, :3][~begun], logprobs[:, columns][~begun])


def test_likelihoods_of_spans_are_products():
    logprobs = torch.tensor([0.5, 0.25, 0.1, 0.2]).log()
    assert torch.allclose(alignment.add_up(logprobs, torch.tensor([0, 0, 1, 2]), 3).exp(), torch.tensor([0.125, 0.1, 0.2]))


# ---- a peer ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer():
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    return pytest.importorskip("trl.experimental.gold.gold_trainer").ULDLoss


def test_spans_are_a_peer_s_groups(peer):
    rng = random.Random(5)
    for _ in range(50):
        text = bytes(rng.choices(b"abc ", k=rng.randint(1, 30)))
        sides = [cut_at(text, [rng.randrange(len(text)) for _ in range(rng.randint(0, 12))])[:-1] for _ in range(2)]
        pairs = [[(end - len(token), end) for token, end in zip(side, offsets(side), strict=True)] for side in sides]
        student, teacher = peer._align_by_byte_offsets(pairs[1], pairs[0])
        found = spans(*sides)
        assert teacher == [list(span.teacher) for span in found]
        assert student == [list(span.student) for span in found]


def test_uld_is_a_peer_s(peer):
    settings = dict(uld_crossentropy_weight=0.0, uld_distillation_weight=1.0, uld_student_temperature=2.0, uld_teacher_temperature=2.0)
    settings |= dict(uld_skip_student_eos=False, uld_skip_teacher_eos=False, use_extended_uld=False, uld_token_merge_strategy="bayesian")
    theirs = peer(SimpleNamespace(**settings))
    teacher, student = logits(1 + 4, 9, 1)[None], logits(1 + 6, 7, 2)[None]  # one position of prompt; 4 and 6 tokens of answer
    labels = [torch.tensor([[-100, *range(1, n)]]) for n in (7, 5)]
    found = theirs(student, teacher, *labels, *labels)
    wanted = alignment.uld_loss(teacher[0, :4], student[0, :4], 2.0).mean()  # by number, the longer one cut off
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
