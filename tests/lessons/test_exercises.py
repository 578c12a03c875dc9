"""Each checker takes right answers in several styles, and rejects each known wrong one by its name."""

from __future__ import annotations

import ast
import math
import random
import re
import zlib

import numpy as np
import pytest
from conftest import REPOSITORY

from labkit.base.errors import LabError
from labkit.lessons import exercises
from labkit.lessons.exercises import EXERCISES, ExerciseVerdict, check, verdict


def log_softmax(x, axis=-1):
    x = np.asarray(x, dtype=float)
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def softmax(x, axis=-1):
    return np.exp(log_softmax(x, axis))


def forward(t, s):
    return (softmax(t) * (log_softmax(t) - log_softmax(s))).sum(-1)


def naive(t, s):
    p, q = np.exp(t) / np.exp(t).sum(-1, keepdims=True), np.exp(s) / np.exp(s).sum(-1, keepdims=True)
    return (p * np.log(p / q)).sum(-1)


def torch_style(t, s):
    import torch

    return torch.nn.functional.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="none", log_target=True).sum(-1)


def numpy_only(t, s):
    if not isinstance(t, np.ndarray):
        raise TypeError("numpy, please")
    return forward(t, s)


@pytest.fixture(params=["torch", "numpy alone"])
def library(request, monkeypatch):
    if request.param != "torch":
        monkeypatch.setattr(verdict.importlib.util, "find_spec", lambda name: None)
    return request.param


@pytest.mark.parametrize("answer", [forward, numpy_only])
def test_kl_takes_a_right_answer(answer, library):
    found = check("00.kl", answer)
    assert found.ok
    assert found
    assert not found.misconception
    assert "Worth knowing" not in found.reason


def test_kl_takes_torch_and_lists():
    assert check("00.kl", torch_style).ok
    assert check("00.kl", lambda t, s: [float(v) for v in torch_style(t, s)]).ok


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_kl_that_overflows_is_right_with_a_remark(library):
    found = check("00.kl", naive)
    assert found.ok
    assert "log_softmax" in found.reason


WRONG_KL = {
    "reverse direction": [lambda t, s: forward(s, t)],
    "mean over vocabulary": [lambda t, s: (softmax(t) * (log_softmax(t) - log_softmax(s))).mean(-1)],
    "log base 2": [lambda t, s: forward(t, s) / math.log(2)],
    "reverse direction, log base 2": [lambda t, s: forward(s, t) / math.log(2)],
    "wrong sign": [lambda t, s: -forward(t, s)],
    "cross-entropy": [lambda t, s: -(softmax(t) * log_softmax(s)).sum(-1)],
    "missing softmax": [
        lambda t, s: (softmax(t) * (log_softmax(t) - np.asarray(s))).sum(-1),
        lambda t, s: (np.asarray(t) * (np.asarray(t) - np.asarray(s))).sum(-1),
        lambda t, s: (np.asarray(t) * np.log(np.asarray(t) / np.asarray(s))).sum(-1),
        lambda t, s: (np.exp(np.asarray(t)) * (np.asarray(t) - np.asarray(s))).sum(-1),
    ],
    "softmax over rows": [lambda t, s: (softmax(t, 0) * (log_softmax(t, 0) - log_softmax(s, 0))).sum(-1)],
    "not summed": [lambda t, s: softmax(t) * (log_softmax(t) - log_softmax(s))],
    "wrong axis": [lambda t, s: (softmax(t) * (log_softmax(t) - log_softmax(s))).sum(0)],
    "wrong shape": [lambda t, s: forward(t, s)[:, None]],
    "reduced": [lambda t, s: forward(t, s).mean(), lambda t, s: float(forward(t, s).sum()), lambda t, s: 3],
}


@pytest.mark.parametrize(("name", "answer"), [(name, f) for name, wrongs in WRONG_KL.items() for f in wrongs])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_kl_names_each_misconception(name, answer, library):
    found = check("00.kl", answer)
    assert (found.ok, found.misconception) == (False, name), found


def test_kl_reasons_say_what_the_brief_promises():
    assert "reverse KL" in check("00.kl", WRONG_KL["reverse direction"][0]).reason
    assert "bits" in check("00.kl", WRONG_KL["log base 2"][0]).reason
    assert "softmax" in check("00.kl", WRONG_KL["missing softmax"][0]).reason
    assert "mean over the vocabulary" in check("00.kl", WRONG_KL["mean over vocabulary"][0]).reason
    assert "the mean for the whole batch" in check("00.kl", WRONG_KL["reduced"][0]).reason


def test_kl_that_is_wrong_in_a_new_way_gets_the_first_number():
    found = check("00.kl", lambda t, s: forward(t, s) * 1.1 + 0.05)
    assert not found.ok
    assert not found.misconception
    assert "nats and gives" in found.reason


def test_kl_is_given_copies():
    def spoils(t, s):
        value = forward(t, s)
        t *= 0
        s *= 0
        return value

    assert check("00.kl", spoils).ok


def test_kl_in_torch_with_gradients_is_taken():
    import torch

    def tracked(t, s):
        return torch_style(t, s.requires_grad_())

    assert check("00.kl", tracked).ok
    assert torch.is_grad_enabled()


def share(s, b, t):
    return (s - b) / (t - b)


WRONG_RECOVERY = {
    "plain ratio": lambda s, b, t: s / t,
    "gain over the teacher": lambda s, b, t: (s - b) / t,
    "what is left": lambda s, b, t: 1 - share(s, b, t),
    "difference": lambda s, b, t: s - b,
    "gap to the teacher": lambda s, b, t: t - s,
    "ratio to the baseline": lambda s, b, t: s / b,
    "percent": lambda s, b, t: 100 * share(s, b, t),
    "swapped arguments": lambda b, s, t: share(s, b, t),
    "clipped": lambda s, b, t: min(1, max(0, share(s, b, t))),
    "clipped at 0": lambda s, b, t: max(0, share(s, b, t)),
    "clipped at 1": lambda s, b, t: min(1, share(s, b, t)),
}


@pytest.mark.parametrize("answer", [share, lambda s, b, t: np.float32(share(s, b, t)), lambda s, b, t: 1 - (t - s) / (t - b)])
def test_recovery_takes_a_right_answer(answer):
    assert check("00.recovery", answer).ok


@pytest.mark.parametrize("name", WRONG_RECOVERY)
def test_recovery_names_each_misconception(name):
    found = check("00.recovery", WRONG_RECOVERY[name])
    assert (found.ok, found.misconception) == (False, name), found


def test_recovery_knows_every_rule_it_lists():
    assert set(WRONG_RECOVERY) == set(exercises.lesson_00.RECOVERY_MISTAKES)
    assert set(WRONG_KL) - {"not summed", "wrong axis", "wrong shape", "reduced"} == set(exercises.lesson_00.KL_MISTAKES)


def test_recovery_that_is_wrong_in_a_new_way_gets_a_counterexample():
    found = check("00.recovery", lambda s, b, t: share(s, b, t) ** 2)
    assert not found.ok
    assert "and should give" in found.reason


@pytest.mark.parametrize("answer", ["C", "c", " C) ", "(c)", EXERCISES["02.squared"].choices["C"]])
def test_squared_takes_the_right_choice(answer):
    assert check("02.squared", answer).ok


@pytest.mark.parametrize(("answer", "name"), [("A", "faster learning"), ("B", "undoes the softening"), ("d", "temperature at use")])
def test_squared_names_each_misconception(answer, name):
    found = check("02.squared", answer)
    assert not found.ok
    assert found.misconception == name


def test_squared_every_choice_has_a_verdict():
    verdicts = [check("02.squared", letter) for letter in EXERCISES["02.squared"].choices]
    assert sum(v.ok for v in verdicts) == 1
    assert all(v.ok or v.misconception for v in verdicts)


@pytest.mark.parametrize("answer", ["E", "", 3, None, ["C"], share])
def test_squared_other_answers_get_a_sentence(answer):
    found = check("02.squared", answer)
    assert not found.ok
    assert "A, B, C, D" in found.reason


class Raises:
    def __init__(self, error):
        self.error = error

    def __call__(self, *_):
        raise self.error


@pytest.mark.parametrize("exercise", ["00.kl", "00.recovery"])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Raises(ZeroDivisionError("division by zero")), "ZeroDivisionError: division by zero"),
        (Raises(NotImplementedError()), "not written yet"),
        (Raises(RuntimeError("a\n  long\n story")), "RuntimeError: a long story"),
        (lambda: 1, "TypeError"),
        (lambda *_: None, "returned nothing"),
        (lambda *_: "0.4", "returned"),
        (lambda *_: {"a": 1}, "of type dict"),
        (0.4, "function itself"),
        (None, "function itself"),
        ("kl", "function itself"),
        (dict, "class dict"),
    ],
)
def test_whatever_a_function_does_a_sentence_comes_back(exercise, answer, says):
    found = check(exercise, answer)
    assert isinstance(found, ExerciseVerdict)
    assert not found.ok
    assert says in found.reason
    assert "Traceback" not in found.reason


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        check("00.recovery", Raises(KeyboardInterrupt()))


def test_an_unknown_exercise_is_named_with_its_neighbour():
    with pytest.raises(LabError, match=r"Did you mean '00\.recovery'"):
        check("00.recover", share)


def test_a_verdict_shows_a_symbol_and_a_word_and_escapes_the_rest():
    bad = check("00.recovery", Raises(ValueError("<script>alert(1)</script>")))
    page = bad._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\u2717 Not yet." in page
    assert repr(bad).startswith("\u2717 not yet: ")
    good = check("00.recovery", share)
    assert "\u2713 Right." in good._repr_html_()
    assert repr(good).startswith("\u2713 right: ")
    assert "A  It makes" in repr(EXERCISES["02.squared"])
    assert "<li><b>A</b>" in EXERCISES["02.squared"]._repr_html_()


def test_a_new_exercise_is_one_decorated_function(monkeypatch):
    monkeypatch.setattr(EXERCISES, "_entries", dict(EXERCISES))

    @exercises.exercise("99.answer", "What is six times seven?")
    def judge(answer):
        return ExerciseVerdict(answer == 42, "six sevens")

    assert check("99.answer", 42).ok
    assert not check("99.answer", 41).ok
    assert "99.answer" in EXERCISES


# ---- lessons 01 to 04


def plain(prompt):
    return " ".join(prompt.casefold().split())


def digest(text):
    return zlib.crc32(text.encode())


def distinct(p, n):
    return (1 - (1 - p) ** n).sum()


def softened(logits, T):
    log_p = log_softmax(np.asarray(logits) / T)
    return -(np.exp(log_p) * log_p).sum(-1)


def reduced(kl, mask):
    return (kl * mask).sum() / mask.sum()


def residual(p, q):
    rest = np.maximum(np.asarray(p) - np.asarray(q), 0)
    return rest / rest.sum() if rest.sum() else p


def a_round(a, g):
    return (1 - a ** (g + 1)) / (1 - a)


def quickest(a, c, low=0, tokens=a_round):
    return max(range(low, 17), key=lambda g: tokens(a, g) / (1 + g * c))


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("01.distinct", distinct),
        ("01.distinct", lambda p, n: sum(1 - (1 - x) ** n for x in p)),
        ("02.entropy", softened),
        ("02.entropy", lambda x, T: -((x / T).softmax(-1) * (x / T).log_softmax(-1)).sum(-1)),
        ("02.knob", "B"),
        ("03.reduce", reduced),
        ("03.reduce", lambda kl, m: kl[m].mean()),
        ("04.say", "c"),
        ("05.paid", lambda price, share, right: price / share / right),
        ("05.preferred", "b)"),
        ("06.bits", lambda nats, n, p: (np.log2(np.asarray(n)) - np.asarray(nats) / np.log(2)).sum() / p),
        ("06.bits", lambda nats, n, p: (n.log2().sum() - nats.sum() / math.log(2)) / p),
        ("06.room", "C"),
        ("11.detector", lambda seen: seen.read("hits") < 0.5 and seen.read("hits_after") <= 0.7 and not seen.on_policy),
        ("11.detector", lambda seen: "of other rows" * (max(seen.read("hits"), seen.read("hits_after")) < 0.4 and not seen.on_policy)),
        ("11.first", "b"),
        ("13.split", lambda prompts: [digest(plain(p)) % 5 == 0 for p in prompts]),
        ("13.read", "C"),
        ("10.residual", residual),
        ("10.residual", lambda p, q: (p - q).clamp(min=0) / (p - q).clamp(min=0).sum() if (p != q).any() else p),
        ("10.gamma", quickest),
        ("10.gamma", lambda a, c: (quickest(a, c), 1.5)),
        ("08.flip", lambda w, t: (w - t) / (1 + w - t)),
        ("08.flip", lambda w, t: 1 - 1 / (1 + w - t)),
    ],
)
def test_right_answers_to_the_later_lessons(exercise, answer):
    found = check(exercise, answer)
    assert found.ok, found


WRONG = [
    ("13.split", "share", lambda prompts: [False for _ in prompts]),
    ("13.split", "by row", lambda prompts: random.Random(0).choices([True, False], [1, 4], k=len(prompts))),
    ("13.split", "by row", lambda prompts: [i % 5 == 0 for i in range(len(prompts))]),
    ("13.split", "by spelling", lambda prompts: [digest(p) % 5 == 0 for p in prompts]),
    ("13.split", "by place", lambda prompts: [plain(p) in sorted({plain(q) for q in prompts})[::5] for p in prompts]),
    ("13.split", "salted hash", lambda prompts: [hash(plain(p)) % 5 == 0 for p in prompts]),
    ("13.split", "one a prompt", lambda prompts: [p for p in prompts if digest(p) % 5 == 0]),
    ("13.split", "", lambda prompts: 0.2),
    ("13.read", "the easy baseline", "a"),
    ("13.read", "no band", "B"),
    ("13.read", "plain ratio", "D"),
    ("01.distinct", "certainty", lambda p, n: (p > 0).sum()),
    ("01.distinct", "expected count", lambda p, n: n * p.sum()),
    ("01.distinct", "product", lambda p, n: np.minimum(n * p, 1).sum()),
    ("01.distinct", "never seen", lambda p, n: ((1 - p) ** n).sum()),
    ("01.distinct", "perplexity", lambda p, n: np.exp(-(p * np.log(p)).sum())),
    ("01.distinct", "", lambda p, n: 42.0),
    ("01.distinct", "not reduced", lambda p, n: 1 - (1 - p) ** n),
    ("01.distinct", "not reduced", lambda p, n: []),
    ("02.entropy", "multiplied", lambda x, T: softened(x, 1 / T)),
    ("02.entropy", "not softened", lambda x, T: softened(x, 1)),
    ("02.entropy", "probabilities divided", lambda x, T: -(softmax(x) / T * np.log(softmax(x) / T)).sum(-1)),
    ("02.entropy", "log base 2", lambda x, T: softened(x, T) / np.log(2)),
    ("02.entropy", "wrong sign", lambda x, T: -softened(x, T)),
    ("02.entropy", "mean over vocabulary", lambda x, T: softened(x, T) / np.shape(x)[-1]),
    ("02.entropy", "wrong shape", lambda x, T: softmax(np.asarray(x) / T)),
    ("02.entropy", "", lambda x, T: softened(x, T) + 1),
    ("02.knob", "loss temperature", "A"),
    ("02.knob", "one temperature", "C"),
    ("02.knob", "learning rate", "D"),
    ("03.reduce", "no mask", lambda kl, m: kl.mean()),
    ("03.reduce", "mean over everything", lambda kl, m: (kl * m).mean()),
    ("03.reduce", "per row", lambda kl, m: (kl * m).sum() / len(kl)),
    ("03.reduce", "mean of row means", lambda kl, m: ((kl * m).sum(1) / m.sum(1)).mean()),
    ("03.reduce", "sum", lambda kl, m: (kl * m).sum()),
    ("03.reduce", "divided twice", lambda kl, m: (kl * m).sum() / m.sum() ** 2),
    ("03.reduce", "not shifted", lambda kl, m: (kl * m.roll(1, 1)).sum() / m.sum()),
    ("03.reduce", "", lambda kl, m: 7.0),
    ("03.reduce", "not reduced", lambda kl, m: kl * m),
    ("04.say", "no band", "A"),
    ("04.say", "absence of evidence", "B"),
    ("04.say", "cost ignored", "D"),
    ("05.paid", "not filtered", lambda price, share, right: price / right),
    ("05.paid", "wrong ones counted", lambda price, share, right: price / share),
    ("05.paid", "upside down", lambda price, share, right: price * share * right),
    ("05.paid", "left twice", lambda price, share, right: price / (share * share * right)),
    ("05.paid", "added", lambda price, share, right: price / (share + right)),
    ("05.paid", "", lambda price, share, right: 7.0),
    ("05.preferred", "style taken for facts", "A"),
    ("05.preferred", "more of the same", "C"),
    ("05.preferred", "not measured", "D"),
    ("06.bits", "nats taken for bits", lambda nats, n, p: (n.log2().sum() - nats.sum()) / p),
    ("06.bits", "nats", lambda nats, n, p: (n.log().sum() - nats.sum()) / p),
    ("06.bits", "mean over facts", lambda nats, n, p: (n.log2() - nats / math.log(2)).mean() / p),
    ("06.bits", "asked, not held", lambda nats, n, p: n.log2().sum() / p),
    ("06.bits", "what is missing", lambda nats, n, p: nats.sum() / math.log(2) / p),
    ("06.bits", "a fact", lambda nats, n, p: (n.log2() - nats / math.log(2)).mean()),
    ("06.room", "more data", "A"),
    ("11.detector", "always", lambda seen: True),
    ("11.detector", "never", lambda seen: False),
    ("11.detector", "shifted", lambda seen: seen.read("hits") < 0.5 and not seen.on_policy),
    ("11.detector", "on its own text", lambda seen: seen.read("hits") < 0.5 and seen.read("hits_after") < 0.7),
    ("11.detector", "symptom, not cause", lambda seen: seen.exam.fidelity["kl"] > 2.5),
    ("11.detector", "too strict", lambda seen: seen.read("hits") < 0.106 and seen.read("hits_after") < 0.7 and not seen.on_policy),
    ("11.detector", "nothing returned", lambda seen: None),
    ("11.first", "a gap is overfitting", "A"),
    ("11.first", "turning knobs", "C"),
    ("11.first", "capacity", "D"),
    ("06.room", "a better loss", "B"),
    ("06.room", "a stronger teacher", "D"),
    ("10.residual", "the target", lambda p, q: p),
    ("10.residual", "the draft", lambda p, q: q),
    ("10.residual", "not divided", lambda p, q: (p - q).clip(min=0)),
    ("10.residual", "absolute", lambda p, q: abs(p - q) / abs(p - q).sum()),
    ("10.residual", "upside down", lambda p, q: (q - p).clip(min=0) / (q - p).clip(min=0).sum()),
    ("10.residual", "overlap", lambda p, q: p.minimum(q) / p.minimum(q).sum()),
    ("10.residual", "softmax", lambda p, q: (p - q).softmax(-1)),
    ("10.residual", "q is p", lambda p, q: (p - q).clip(min=0) / (p - q).clip(min=0).sum()),
    ("10.residual", "shape", lambda p, q: 0.5),
    ("10.residual", "", lambda p, q: (p + q) / 2),
    ("10.gamma", "more is better", lambda a, c: 16),
    ("10.gamma", "more is better", lambda a, c: max(range(17), key=lambda g: a_round(a, g) + 1e-12 * g)),
    ("10.gamma", "never none", lambda a, c: quickest(a, c, low=1)),
    ("10.gamma", "expected run", lambda a, c: min(16, round(a / (1 - a)))),
    ("10.gamma", "independent", lambda a, c: quickest(a, c, tokens=lambda a, g: 1 + g * a)),
    ("10.gamma", "wrong type", lambda a, c: 4.0),
    ("10.gamma", "", lambda a, c: 4),
    ("08.flip", "always half", lambda w, t: 0.5),
    ("08.flip", "not divided", lambda w, t: w - t),
    ("08.flip", "truth's own share", lambda w, t: w / (1 + w)),
    ("08.flip", "the teacher's weight", lambda w, t: 1 / (1 + w - t)),
    ("08.flip", "shares of two", lambda w, t: t / (w + t)),
    ("08.flip", "shares of two", lambda w, t: w / (w + t)),
    ("08.flip", "upside down", lambda w, t: (t - w) / (1 + t - w)),
    ("08.flip", "", lambda w, t: w * t),
    ("08.flip", "wrong type", lambda w, t: "0.5"),
]


@pytest.mark.parametrize(("exercise", "misconception", "answer"), WRONG)
def test_wrong_answers_to_the_later_lessons_are_named(exercise, misconception, answer):
    found = check(exercise, answer)
    assert not found.ok
    assert found.misconception == misconception
    assert len(found.reason) > 20


@pytest.mark.parametrize("exercise", ["01.distinct", "02.entropy", "03.reduce", "08.flip"])
def test_not_a_function_and_not_written_yet(exercise):
    assert not check(exercise, 3).ok
    assert "return" in check(exercise, lambda a, b: None).reason


@pytest.mark.parametrize("name", EXERCISES)
def test_no_backtick_is_left_in_what_a_learner_reads(name: str):
    assert "`" not in EXERCISES[name]._repr_html_()
    assert "`" not in check(name, lambda *given: None)._repr_html_()


def test_code_in_a_task_and_in_a_reply_is_shown_as_code():
    assert "<code>price</code>" in EXERCISES["05.paid"]._repr_html_()
    assert "<code>share</code>" not in check("05.paid", lambda price, share, right: price)._repr_html_()
    reply = check("05.paid", lambda price, share, right: price / (share * share * right))._repr_html_()
    assert "<code>right</code>" in reply


def test_no_task_or_reply_has_raw_asterisks():
    for path in (REPOSITORY / "labkit" / "lessons" / "exercises").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
        docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
        said = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        raw = [text for text in said if text not in docs and re.search(r"(?<![\w*])\*\w[^*]*\*", text)]
        assert not raw, f"{path.name}: a reader sees these marks as they are"
