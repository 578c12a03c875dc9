"""The text lens: its numbers are those of the models' own logits, and a reader without eyes or mouse gets all of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from helpers import made

import labkit
from labkit import models
from labkit.base.errors import LabError
from labkit.models import pretrained
from labkit.tasks.custom.rows import Row
from labkit.teachers.labelling.replies import _logprob
from labkit.views.figures.token_line import HUE, STRONGEST, STYLE
from labkit.views.lenses.reading import MOST, Reading, read_text

PAIR = ("What is the capital of Chad?", "N'Djamena, or <b>so</b>")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of two random models with one tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    return str(made(folder / "teacher", 2, 1)), str(made(folder / "student", 1, 2))


def by_hand(model, before: list[int], answer: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and their logarithms at the answer's tokens, in double precision."""
    with torch.no_grad():
        logits = model(torch.tensor([before + answer])).logits[0].double().numpy()[len(before) - 1 : -1]
    log = logits - logits.max(-1, keepdims=True)
    log -= np.log(np.exp(log).sum(-1, keepdims=True))
    return np.exp(log), log


def agrees(reading: Reading, teacher, student, before: list[int], answer: list[int]) -> None:
    (p, log_p), (q, log_q) = (by_hand(model, before, answer) for model in (teacher, student))
    tokens = models.tokenizer_of(teacher)
    assert len(reading.tokens) == len(answer)
    np.testing.assert_allclose([token.kl for token in reading.tokens], (p * (log_p - log_q)).sum(-1), rtol=1e-4, atol=2e-5)
    for side, chances, log in ((0, p, log_p), (1, q, log_q)):
        seen = [token.sides[side] for token in reading.tokens]
        np.testing.assert_allclose([one.entropy for one in seen], -(chances * log).sum(-1), rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose([one.probability for one in seen], chances[range(len(answer)), answer], rtol=1e-3, atol=1e-9)
        assert [one.rank for one in seen] == [int((row > row[token]).sum()) + 1 for row, token in zip(chances, answer, strict=True)]
        for one, row in zip(seen, chances, strict=True):
            top = np.argsort(-row)[:3]
            assert [text for text, _ in one.first] == [tokens.token(int(t)) if t != tokens.end else "end \u23ce" for t in top]
            np.testing.assert_allclose([chance for _, chance in one.first], row[top], rtol=1e-3)


def test_the_lab_s_own_models():
    teacher, student, tokens = models.teacher("atlas-3m"), models.teacher("atlas-200k"), models.tokenizer()
    before, answer = tokens.prompts(PAIR[:1])[0], tokens.answers(PAIR[1:])[0]
    agrees(read_text("atlas-3m", "atlas-200k", PAIR), teacher, student, before, answer)
    fresh = models.student("57k").train()
    whole = tokens.prompts([PAIR[1]])[0]
    agrees(read_text(teacher, fresh, PAIR[1]), teacher, fresh.eval(), whole[:1], whole[1:])


def test_models_of_your_own(own):
    teacher, student = (pretrained.load(name, torch.float32) for name in own)
    before, answer = teacher.chat.prompts(PAIR[:1])[0], teacher.chat.answers(PAIR[1:])[0]
    agrees(read_text(*own, PAIR), teacher, student, before, answer)
    whole = teacher.chat.inner(PAIR[1], split_special_tokens=True)["input_ids"]
    agrees(read_text(*own, PAIR[1]), teacher, student, whole[:1], whole[1:])


def test_without_a_text_the_teacher_answers_a_question():
    reading = read_text("atlas-3m", "atlas-200k")
    assert reading.before == "What is the capital of Chad?"
    assert "".join(token.text for token in reading.tokens) == " N'Djamenaend \u23ce"
    assert all(token.sides[0].rank == 1 for token in reading.tokens), "its greedy answer"


def test_a_teacher_against_itself_differs_nowhere():
    view = labkit.lens("text", "atlas-3m", "atlas-3m", PAIR)
    assert all(token.kl == 0 and token.sides[0] == token.sides[1] for token in view.reading.tokens)
    assert set(re.findall(r"rgba\(204,121,0,([\d.]+)\)", view.picture.value)) == {"0.00"}
    assert "0.000 nats a token" in view.words.value


def test_a_student_in_training_stays_so():
    student = models.student("22k").train()
    read_text("atlas-3m", student, PAIR)
    assert student.training
    assert not any(p.grad is not None for p in student.parameters())


# ---- recorded log-probabilities ----------------------------------------------------------------------------------------------------


def recorded(name: str, k: int, text: str = PAIR[1]) -> tuple[dict, torch.Tensor, list[int], list[int]]:
    """A row as `labkit label --logprobs k` writes it if a server has this model; and its logits, prompt and answer."""
    model = pretrained.load(name, torch.float32)
    tokens = model.chat
    before, answer = tokens.prompts(PAIR[:1])[0], tokens.answers([text])[0][:-1]
    with torch.no_grad():
        logits = model(torch.tensor([before + answer])).logits[0, len(before) - 1 : -1]
    logprobs = logits.log_softmax(-1)
    said = []
    for row, token in zip(logprobs, answer, strict=True):
        top = [{"token": tokens.inner.decode([int(i)]), "logprob": float(row[i])} for i in row.topk(k).indices]
        said.append(_logprob({"token": tokens.inner.decode([token]), "logprob": float(row[token]), "top_logprobs": top}))
    return {"prompt": PAIR[0], "response": text, "logprobs": said}, logits, before, answer


def test_a_recorded_row_beside_a_student(own):
    """The KL is over the recorded tokens, of which each is one of the student's, and all others as one."""
    k = 12
    row, logits, before, answer = recorded(own[0], k)
    student = pretrained.load(own[1], torch.float32)
    many = Counter(student.chat.inner.batch_decode([[i] for i in range(student.chat.size)]))
    p, (q, _) = logits.double().softmax(-1).numpy(), by_hand(student, before, answer)
    reading = read_text(row, student)
    assert reading.sides == ("recorded teacher", "student")
    assert "at most 12 tokens" in reading.note
    assert "lower bounds" in reading.note
    for token, teacher, learner, label in zip(reading.tokens, p, q, answer, strict=True):
        top = [int(i) for i in np.argsort(-teacher)[:k]]
        ids = [i for i in dict.fromkeys([*top, label]) if many[student.chat.inner.decode([i])] == 1 or i == label]
        one, other = (np.append(side[ids], 1 - side[ids].sum()) for side in (teacher, learner))
        assert token.kl == pytest.approx((one * np.log(one / other)).sum(), abs=1e-5)
        assert token.kl <= (teacher * np.log(teacher / learner)).sum() + 1e-6
        assert token.sides[1].rank == int((learner > learner[label]).sum()) + 1
        assert token.sides[0].rank == (top.index(label) + 1 if label in top else None)
        assert token.sides[0].probability == pytest.approx(teacher[label], rel=1e-4)


def test_a_recorded_token_s_entropy_and_first_choices(own):
    row = {"prompt": "", "response": "a", "logprobs": [{"token": "a", "logprob": math.log(0.2), "top": [["b", math.log(0.5)]]}]}
    (token,) = read_text(row).tokens
    (seen,) = token.sides
    assert seen.entropy == pytest.approx(-(0.5 * math.log(0.5) + 0.2 * math.log(0.2) + 0.3 * math.log(0.3)))
    assert seen.first == (("b", pytest.approx(0.5)), ("a", pytest.approx(0.2)))
    assert seen.rank is None
    assert token.kl is None


def test_recorded_parts_of_characters_are_told_apart_by_their_bytes():
    tops = [{"token": "\ufffd", "bytes": [part], "logprob": math.log(chance)} for part, chance in ((240, 0.5), (159, 0.3))]
    row = {"prompt": "", "response": "a", "logprobs": [_logprob({**tops[1], "top_logprobs": tops})]}
    (seen,) = read_text(row).tokens[0].sides
    assert seen.first == (("bytes f0", pytest.approx(0.5)), ("bytes 9f", pytest.approx(0.3)))
    assert (seen.rank, seen.probability) == (2, pytest.approx(0.3))


def test_a_recorded_row_of_the_student_itself_differs_nowhere(own):
    row, *_ = recorded(own[1], 5)
    assert max(abs(token.kl) for token in read_text(row, own[1]).tokens) < 1e-5


def test_a_recorded_row_alone_and_with_its_end_mark(own):
    row, *_ = recorded(own[0], 2)
    reading = read_text(Row(row["prompt"], row["response"], 1, {"logprobs": row["logprobs"]}))
    assert reading == read_text(row)
    assert [token.kl for token in reading.tokens] == [None] * len(row["logprobs"])
    assert None in [token.sides[0].rank for token in reading.tokens], "a sampled token below the recorded ones"
    end = {"token": "<eos>", "logprob": -0.5, "top": [["<eos>", -0.5], ["\ufffd", -1.5]]}
    ended = read_text({**row, "logprobs": [*row["logprobs"], end]}, own[1])
    assert len(ended.tokens) == len(reading.tokens) + 1
    assert math.isfinite(ended.tokens[-1].kl)


def test_a_row_of_a_teacher_that_masks_tokens(own):
    row, *_ = recorded(own[0], 3)
    row["logprobs"][0]["top"].append(["zzz", -math.inf])
    assert math.isfinite(read_text(row, own[1]).tokens[0].kl)
    assert math.isfinite(read_text(row).tokens[0].sides[0].entropy)


# ---- the page ----------------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tables and the focusable tokens of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.scopes: list[str] = []
        self.labels: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.scopes += [given["scope"]] if tag == "th" else []
        if given.get("tabindex") == "0":
            self.labels.append(given["aria-label"])

    def handle_data(self, data: str) -> None:
        if self.rows and self.tags[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_the_page_has_every_number_in_words_and_in_a_table():
    view = labkit.lens("text", "atlas-3m", "atlas-200k", PAIR)
    page, tokens = Page(view.picture.value), view.reading.tokens
    assert len(page.labels) == len(page.rows) - 1 == len(tokens)
    assert "caption" in page.tags
    assert page.scopes == ["col"] * len(page.rows[0]) + ["row"] * len(tokens)
    for label, cells, token in zip(page.labels, page.rows[1:], tokens, strict=True):
        assert float(cells[1]) == pytest.approx(token.kl, abs=5e-4)
        assert f"KL {cells[1]} nats" in label
        for seen, (entropy, rank, probability, first) in zip(token.sides, (cells[2:6], cells[6:10]), strict=True):
            assert float(entropy) == pytest.approx(seen.entropy, abs=5e-4)
            assert int(rank) == seen.rank
            assert float(probability) == pytest.approx(seen.probability, abs=5e-4)
            assert f"probability {probability}, rank {seen.rank:,}, entropy {entropy} nats; first {first}" in label
    assert "b" not in page.tags, "a text's own marks are text"
    assert "&lt;" in view.picture.value
    assert f"{len(tokens)} tokens" in view.words.value


def test_the_colour_follows_the_control():
    view = labkit.lens("text", "atlas-3m", "atlas-200k", PAIR)
    assert view.colour.description
    seen = set()
    for name in view.colour.options:
        view.colour.value = name
        assert 'role="alert"' not in view.words.value
        assert f"coloured by {name}" in view.picture.value
        seen.add(tuple(re.findall(r"rgba\(204,121,0,([\d.]+)\)", view.picture.value)))
    assert len(seen) == len(view.colour.options) == 7
    assert len(labkit.lens("text", "atlas-3m", text=PAIR).colour.options) == 3, "a teacher alone has no KL"


@pytest.mark.parametrize("page", [("#ffffff", "#1b1f24"), ("#15181c", "#e8eaed"), ("#111111", "#ffffff"), ("#1f1f1f", "#cccccc")])
def test_text_on_the_strongest_colour_can_be_read_on_any_page(page: tuple[str, str]):
    def luminance(parts):
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in (part / 255 for part in parts)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper, ink = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in page)
    mixed = [STRONGEST * hue + (1 - STRONGEST) * part for hue, part in zip(HUE, paper, strict=True)]
    low, high = sorted([luminance(mixed), luminance(ink)])
    assert (high + 0.05) / (low + 0.05) >= 4.5, "WCAG AA"


def test_no_rule_of_the_board_is_about_its_classes():
    board = (REPOSITORY / "labkit" / "views" / "board" / "board.css").read_text(encoding="utf-8")
    assert not set(re.findall(r"\.dlab-\w+", STYLE)) & set(re.findall(r"\.dlab-\w+", board))


# ---- refusals ----------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_shown_is_refused(own, tmp_path: Path):
    row, *_ = recorded(own[0], 3)
    other = {**row, "logprobs": [{"token": "Abracadabra", "logprob": -1.0, "top": []}]}
    broken = {**row, "logprobs": [{"token": "a", "logprob": math.nan, "top": []}]}
    for given, words in (
        (("atlas-3m", models.student("22k", vocabulary="bytes"), PAIR), r'different tokenizers.*labkit.lens\("alignment"\)'),
        (("atlas-3m", own[1], PAIR), "different tokenizers"),
        ((other, own[1]), r'other tokens than the recorded.*labkit.lens\("alignment"\)'),
        ((broken,), "labkit label --logprobs"),
        (({"prompt": "a", "response": "b"},), "labkit label --logprobs"),
        (({**row, "logprobs": row["logprobs"] * 50},), f"tokens, and the lens shows {MOST}"),
        (("atlas-3m", "atlas-200k", "Chad " * 300), f"tokens, and the lens shows {MOST}"),
        (("atlas-3m", "atlas-200k", ""), "no token to judge"),
        (("atlas-3m", "atlas-200k", ("a", "b", "c")), "neither a text nor a pair"),
        (("atlas-4m",), "Did you mean"),
    ):
        with pytest.raises(LabError, match=words):
            labkit.lens("text", *given)
