"""Marks are what a person would give; measures are what their formulas say; and grading changes nothing."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from oracles import answer_logprob, answer_logprobs
from table import table_teacher

from labkit import models
from labkit.base.errors import LabError
from labkit.records.names import SKILLS
from labkit.records.record import recovery
from labkit.tasks.atlas.ask import ask
from labkit.tasks.atlas.exam import Exam, Graded, calibration_error, listed
from labkit.tasks.atlas.facts import HELD_OUT_SKILLS, Atlas


@pytest.fixture(scope="module")
def world() -> Atlas:
    return Atlas("half")


@pytest.fixture
def exam(world: Atlas, tiny_teacher) -> Exam:
    return Exam(world, tiny_teacher, per_skill=4)


def probability(model, question: str, answer: str) -> float:
    prompt, tokens = models.tokenizer().prompts([question])[0], models.tokenizer().answers([answer])[0]
    return math.exp(answer_logprob(model, prompt, tokens))


# ---- the teacher against itself ------------------------------------------------------------------------------------------


def test_a_teacher_agrees_with_itself(exam: Exam, tiny_teacher):
    assert exam.teacher_grades.fidelity["kl"] == pytest.approx(0, abs=1e-9)
    assert exam.teacher_grades.fidelity["agreement"] == 1.0
    assert [a.text for a in exam.teacher_answers] == [a.text for a in exam.teacher_grades.answers]
    assert exam.teacher_grades.truth["wrong"] == 0, "its wrong answers are, word for word, its own"


def test_a_copied_teacher_has_nothing_left_to_learn(exam: Exam, tiny_teacher):
    student = models.student("200k", 5)
    before = exam.grade(student)
    assert before.fidelity["kl"] > 0.5
    assert before.fidelity["agreement"] < 0.9
    student.load_state_dict(tiny_teacher.state_dict())
    grades = exam.grade(student)
    assert grades.fidelity["kl"] == pytest.approx(0, abs=1e-9)
    assert grades.fidelity["agreement"] == 1.0
    assert grades.skills == exam.teacher_grades.skills
    nothing = dict.fromkeys(grades.skills, -1.0)  # a baseline so low that every skill has a gap, whatever the tiny teacher learnt
    found = recovery(grades.skills, nothing, exam.teacher_grades.skills, "label budget")
    assert found.mean == found.all_skills == 1.0
    assert set(found.per_skill.values()) == {1.0}


def test_fidelity_is_the_mean_over_the_teacher_s_answer_tokens(exam: Exam, tiny_teacher):
    student = models.student("57k", 2)
    total, agreed, accepted, n = 0.0, 0, 0.0, 0
    with torch.no_grad():
        for prompt, written in zip(exam.prompts, models.write(tiny_teacher, exam.prompts), strict=True):
            p, q = (answer_logprobs(m, prompt, written.ids) for m in (tiny_teacher, student))
            total += float((p.exp() * (p - q)).sum())
            agreed += int((p.argmax(-1) == q.argmax(-1)).sum())
            accepted += float((q.exp() * (p - q).exp().clamp(max=1)).sum())  # drawn from the student, kept with chance min(1, p/q)
            n += len(written.ids)
    found = exam.grade(student).fidelity
    assert found["kl"] == pytest.approx(total / n, rel=1e-4)
    assert found["agreement"] == pytest.approx(agreed / n, abs=1.5 / n)
    assert found["acceptance"] == pytest.approx(accepted / n, rel=1e-4)


# ---- truth -----------------------------------------------------------------------------------------------------------------


def test_verdicts(exam: Exam):
    number = next(
        i for i, (q, a) in enumerate(zip(exam.questions, exam.teacher_answers, strict=True)) if not a.right and q.skill == "recall"
    )
    lie, truth = exam.teacher_answers[number].text, exam.questions[number].answers[0]
    assert exam.verdict(number, Graded(truth, 0.5, True)) == "right"
    assert exam.verdict(number, Graded(lie, 0.5, False)) == "inherited"
    assert exam.verdict(number, Graded(f" {lie.upper()}.", 0.5, False)) == "inherited"
    assert exam.verdict(number, Graded("Atlantis", 0.5, False)) == "wrong"


def test_without_a_teacher_nothing_is_inherited(world: Atlas):
    exam = Exam(world, None, per_skill=2)
    grades = exam.grade(models.student("22k"))
    assert grades.fidelity == {}
    assert grades.truth["inherited"] == 0
    assert exam.teacher_answers == ()


def test_grades_add_up(exam: Exam, world: Atlas, tiny_teacher):
    grades = exam.grade(tiny_teacher)
    assert tuple(grades.skills) == SKILLS
    assert all(0 <= v <= 1 for v in grades.skills.values())
    assert sum(grades.truth.values()) == pytest.approx(1)
    for question, answer, prompt in zip(exam.questions, grades.answers, exam.prompts, strict=True):
        assert answer.right is world.is_right(question, answer.text)
        ids = models.write(tiny_teacher, [prompt])[0].ids
        assert models.tokenizer().text(ids) == answer.text
    for skill in SKILLS:
        marks = [a.right for a, q in zip(grades.answers, exam.questions, strict=True) if q.skill == skill]
        if skill != "open":
            assert grades.skills[skill] == sum(marks) / len(marks)
    assert grades.truth["right"] == sum(a.right for a in grades.answers) / len(grades.answers)


def test_the_probability_of_an_answer_is_the_product_of_its_tokens(exam: Exam, tiny_teacher):
    checked = 0
    for question, answer, prompt in zip(exam.questions, exam.teacher_answers, exam.prompts, strict=True):
        ids = models.write(tiny_teacher, [prompt])[0].ids
        if models.tokenizer().answers([answer.text])[0] == ids:  # the shortest way of writing that text
            assert answer.probability == pytest.approx(probability(tiny_teacher, question.text, answer.text), rel=1e-3, abs=1e-9)
            checked += 1
    assert checked > 10


# ---- open questions ----------------------------------------------------------------------------------------------------------


def test_validity_and_coverage_by_enumeration(exam: Exam):
    tokenizer, knows = models.tokenizer(), {}
    for question in exam.questions:  # one right answer of each is likely, and the others are not
        if question.skill == "open":
            path = [tokenizer.prompts([question.text])[0][-2], *tokenizer.answers([question.answers[0]])[0]]
            knows |= {tokenizer.token(a): (tokenizer.token(b), "7") for a, b in itertools.pairwise(path)}
    student = table_teacher(knows)
    validity, coverage, n = 0.0, 0.0, 0
    for question in exam.questions:
        if question.skill == "open":
            mass = [probability(student, question.text, a) for a in question.answers]
            assert sum(mass) <= 1
            validity += sum(mass)
            coverage += sum(m >= 0.5 / len(mass) for m in mass) / len(mass)
            n += 1
    assert n == 4
    assert 0.1 < validity / n < 1
    assert 0 < coverage / n < 1
    found = exam.grade(student)
    assert found.open["validity"] == found.skills["open"] == pytest.approx(validity / n, rel=1e-4)
    assert found.open["coverage"] == pytest.approx(coverage / n, abs=1e-9)


# ---- calibration -------------------------------------------------------------------------------------------------------------


def graded(*pairs: tuple[float, bool]) -> list[Graded]:
    return [Graded("", p, right) for p, right in pairs]


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        (graded((1.0, True), (1.0, True)), 0.0),
        (graded((1.0, False)), 1.0),
        (graded((0.0, False)), 0.0),
        (graded((0.75, True), (0.75, True), (0.75, True), (0.75, False)), 0.0),
        (graded((0.25, True), (0.85, False)), 0.5 * 0.75 + 0.5 * 0.85),  # two bins, no cancelling between them
        (graded((0.81, True), (0.89, False)), abs(0.85 - 0.5)),  # one bin, cancelling inside it
        (graded((0.95, True), (0.9, True), (0.15, False), (0.12, True)), 0.5 * 0.075 + 0.5 * abs(0.135 - 0.5)),
        ([], 0.0),
    ],
)
def test_calibration_error_by_hand(answers, wanted: float):
    assert calibration_error(answers) == pytest.approx(wanted)


def test_calibration_counts_every_answer_once():
    for p in [i / 10 for i in range(11)] + [1.0000001, 0.3 - 1e-17, 0.7, 0.6]:
        assert calibration_error(graded((p, False))) == pytest.approx(p), p


# ---- grading is only looking ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_grading_leaves_the_model_as_it_was(exam: Exam, training: bool):
    student = models.student("57k", 3)
    student.train(training)
    weights, state = models.fingerprint(student), torch.random.get_rng_state()
    exam.grade(student), exam.probe(student)
    assert student.training is training
    assert models.fingerprint(student) == weights
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.requires_grad and p.grad is None for p in student.parameters())


def test_grading_is_deterministic(world: Atlas, exam: Exam, tiny_teacher):
    student = models.student("57k", 3)
    assert exam.grade(student) == exam.grade(student) == Exam(world, tiny_teacher, per_skill=4).grade(copy.deepcopy(student))


def test_the_paper(world: Atlas, tiny_teacher):
    paper = Exam(world, tiny_teacher, per_skill=4)
    assert [q.text for q in paper.questions] == [q.text for q in world.exam(4)]
    assert all(q.fact.held_out == (q.skill in HELD_OUT_SKILLS) for q in paper.questions)
    other = Exam(world, None, per_skill=4, wording=1)
    assert [q.fact for q in other.questions] == [q.fact for q in paper.questions]
    assert all(a.text != b.text for a, b in zip(other.questions, paper.questions, strict=True))


# ---- looking -------------------------------------------------------------------------------------------------------------------


def test_sampled_rows_spread_over_the_skills(world: Atlas, tiny_teacher):
    exam = Exam(world, tiny_teacher)
    rows = exam.sample(exam.teacher_answers, 12)
    assert len(rows) == 12
    assert {r["skill"] for r in rows} == set(SKILLS)
    by_text = {q.text: i for i, q in enumerate(exam.questions)}
    for row in rows:
        number = by_text[row["question"]]
        assert row["student"] == row["teacher"] == exam.teacher_answers[number].text
        assert row["verdict"] == exam.verdict(number, exam.teacher_answers[number])
        assert row["truth"].startswith(exam.questions[number].answers[0])
    assert [r["question"] for r in exam.sample(exam.grade(models.student("22k")).answers)] == [r["question"] for r in rows]


def test_a_probe_shows_both_sides_on_one_open_question(exam: Exam, tiny_teacher):
    student = models.student("57k", 3)
    question, tokens, theirs, own = exam.probe(student)
    assert next(q for q in exam.questions if q.text == question).skill == "open"
    prompt = models.tokenizer().prompts([question])[0]
    with torch.no_grad():
        p, q = (m(torch.tensor([prompt])).logits[0, -1].softmax(-1) for m in (tiny_teacher, student))
    assert len(tokens) == len(theirs) == len(own) == 8
    assert max(theirs) == pytest.approx(float(p.max()), abs=1e-6)
    likely = torch.maximum(p, q).sort(descending=True).values[:8]
    assert [max(a, b) for a, b in zip(theirs, own, strict=True)] == pytest.approx(likely.tolist(), abs=1e-6)
    assert exam.probe(tiny_teacher)[2] == exam.probe(tiny_teacher)[3]


def test_long_lists_are_cut(world: Atlas):
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c or 2 more"


# ---- asking ----------------------------------------------------------------------------------------------------------------------


def test_ask(tiny_teacher):
    text = "What is the capital of Chad?"
    found = ask(tiny_teacher, text)
    prompt = models.tokenizer().prompts([text])[0]
    written = models.write(tiny_teacher, [prompt])[0]
    assert found.answer == models.tokenizer().text(written.ids)
    assert found.probability == pytest.approx(math.exp(sum(written.logprobs)))
    assert found.truth == "N'Djamena"
    assert found.right is (found.answer == "N'Djamena")


@pytest.mark.parametrize("text", ["Who are you?", "¿Qué? 日本 <script>alert(1)</script>"])
def test_ask_anything(tiny_teacher, text: str):
    found = ask(tiny_teacher, text)
    assert found.right is None
    assert found.truth is None
    assert 0 <= found.probability <= 1


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ("\ud800", "half of a character"), ("a " * 300, "do not fit into 256")])
def test_what_no_model_can_read_is_not_asked(tiny_teacher, text: str, said: str):
    with pytest.raises(LabError, match=said):
        ask(tiny_teacher, text)
