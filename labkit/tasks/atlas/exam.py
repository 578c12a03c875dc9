"""The exam on Atlas: truth against the facts, fidelity to the teacher, validity and coverage, calibration.

    exam = Exam(Atlas("half"), teacher)
    grades = exam.grade(student)          # the student writes its answers; see `Grades`

Recovery and verdicts are computed from these numbers in the records (`labkit.record`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.base.settings import Settings
from labkit.models import EOS, AtlasTokenizer, Written, logits_of, tokenizer, tokenizer_of, write
from labkit.models.parts import row_logits
from labkit.models.score_answers import of_like_length, score_answers, states_of
from labkit.records.names import SKILLS
from labkit.tasks.atlas.contested import contested
from labkit.tasks.atlas.facts import Atlas, Question, normalise
from labkit.tasks.calibration import calibration_error

PER_SKILL = Settings.exam_per_skill


class Graded(NamedTuple):
    """One exam answer."""

    text: str
    probability: float  # of the whole answer, under the model that wrote it
    right: bool
    working: bool | None = None  # whether every step is right; None for an answer without steps


class Grades(NamedTuple):
    """The results of one exam."""

    # Score of each skill in [0, 1]: the share of right greedy answers; for open questions the probability mass on valid answers.
    skills: Mapping[str, float]
    # How close the student is to its teacher, on the teacher's answers.
    # bits_per_byte: bits that the teacher's answers cost the student, per byte of text; an answer's end counts as one byte.
    # truth_bits_per_byte: the same for the gold labels. Both are comparable across vocabularies.
    # Only if student and teacher have the same vocabulary, as means over answer tokens:
    # kl: KL(teacher || student) in nats. agreement: share of equal top-1 tokens.
    # acceptance: sum of min(p, q), the chance that the teacher accepts a token that the student draws at temperature 1.
    # entropy, teacher_entropy: entropy of the student and of the teacher in nats.
    fidelity: Mapping[str, float]
    # Open questions. validity: probability mass on valid answers.
    # coverage: share of the valid answers that have at least half of a uniform share of the mass.
    open: Mapping[str, float]
    truth: Mapping[str, float]  # shares of right, inherited and wrong answers
    ece: float  # expected calibration error of whole answers, 10 bins
    answers: Sequence[Graded]
    habits: Mapping[str, float]  # unended: share of answers without an end token. confidence: mean probability of the model's own answers.
    working: Mapping[str, float] = {}  # of each skill with steps, the share of answers whose every step is right


class Examiner(Protocol):
    """The interface of an exam: `Exam` on Atlas, `CustomExam` on custom data, `HeadsExam` for draft heads."""

    teacher_grades: Grades

    def grade(self, model: Any) -> Grades:
        """Grade a model. The model is left unchanged."""
        ...

    def beside(self, model: Any, answers: Sequence[Graded]) -> dict[str, float]:
        """More habits by name, measured on other questions at the end of a run."""
        ...

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """`n` answers to look at, each with the teacher's answer and the truth."""
        ...

    def probe(self, model: Any, most: int = 8) -> tuple[str, list[str], list[float], list[float]]:
        """Returns one question, the likeliest first tokens of its answer, and their probabilities under teacher and model."""
        ...


class Paper:
    """The questions of an exam and the answers to its open questions, as tokens of one vocabulary."""

    def __init__(self, questions: Sequence[Question], tokens: AtlasTokenizer) -> None:
        self.prompts = tokens.prompts([q.text for q in questions])
        choices = [(i, answer) for i, q in enumerate(questions) if q.skill == "open" for answer in q.answers]
        self.choice_of = [i for i, _ in choices]
        self.choices = list(zip([self.prompts[i] for i, _ in choices], tokens.answers([a for _, a in choices]), strict=True))


class Exam:
    """A fixed exam for one world. Its compositions, sums and comparisons are in no training set.

    teacher: model that fidelity is measured against, or None.
    per_skill: number of questions of each skill.
    wording: 0 for the canonical wording of each question, 1 for the paraphrase.
    vocabulary: name of the students' vocabulary; the teacher's may differ.
    questions: these are asked instead of drawn ones.
    """

    def __init__(
        self,
        world: Atlas,
        teacher: LlamaForCausalLM | None,
        per_skill: int = PER_SKILL,
        *,
        wording: int = 0,
        skills: Sequence[str] = SKILLS,
        vocabulary: str = "atlas",
        questions: Sequence[Question] | None = None,
    ) -> None:
        self.world = world
        drawn = world.exam(per_skill, wording=wording) if questions is None else questions
        self.questions = [q for q in drawn if q.skill in skills]
        self._papers: dict[str, Paper] = {}
        self.vocabulary = vocabulary
        self.prompts = self._paper(tokenizer(vocabulary)).prompts
        self.teacher_answers: Sequence[Graded] = ()
        self._teacher_states: Tensor | None = None
        self._open = [i for i, q in enumerate(self.questions) if q.skill == "open"]
        self._teacher = teacher
        if teacher is not None:
            written = self._write(teacher)
            self.teacher_answers = self._mark(written, tokenizer_of(teacher))
            self._teacher_ids = [w.ids for w in written]
            with torch.no_grad():
                self._teacher_states = torch.cat(states_of(teacher, self._paper(tokenizer()).prompts, self._teacher_ids))
            self.teacher_grades = self.grade(teacher, written)

    def grade(self, model: LlamaForCausalLM, written: Sequence[Written] | None = None) -> Grades:
        """Grade `model`, which is left unchanged. `written` are its greedy answers, if they are known already."""
        training = model.training
        model.eval()
        written = written or self._write(model)
        answers = self._mark(written, tokenizer_of(model))
        validity, coverage = self._open_questions(model)
        fidelity = self._fidelity(model)
        model.train(training)
        skills = {skill: validity if skill == "open" else share for skill, share in self._skills(answers).items()}
        truth = shares([self.verdict(i, a) for i, a in enumerate(answers)])
        unended = sum(w.ids[-1] != EOS for w in written) / len(written)
        habits = {"unended": unended, "confidence": sum(a.probability for a in answers) / len(answers)}
        working = self._working(answers)
        return Grades(
            skills, fidelity, {"validity": validity, "coverage": coverage}, truth, calibration_error(answers), answers, habits, working
        )

    def beside(self, model: LlamaForCausalLM, answers: Sequence[Graded]) -> dict[str, float]:
        """Habits measured on other questions, by name.

        fresh: mean skill on held-out questions that this exam does not ask.
        asked: mean of the same skills over this exam's `answers`. Both are missing if the world has no such questions.
        favourite: see `favourite`; only if the exam has open questions.
        """
        sibling = Exam(self.world, None, vocabulary=self.vocabulary, questions=self.world.fresh(self.questions))
        skills = list(dict.fromkeys(q.skill for q in sibling.questions))
        training = model.training
        model.eval()
        others = sibling._mark(sibling._write(model), tokenizer_of(model)) if skills else ()
        liked = {"favourite": self.favourite(model)[1]} if self._open else {}
        model.train(training)
        means = {"fresh": sibling._skills(others), "asked": self._skills(answers)}
        return liked | {name: sum(of[skill] for skill in skills) / len(skills) for name, of in means.items() if skills}

    @torch.no_grad()
    def favourite(self, model: LlamaForCausalLM) -> tuple[str, float]:
        """Returns the likeliest first token over all open questions, and its mean probability.

        The open questions have different answers, so an unbiased model has no such token.
        """
        prompts = self._paper(tokenizer_of(model)).prompts
        begins_N_V = torch.stack([first_token(model, prompts[i]) for i in self._open])
        top = int(begins_N_V.mean(0).argmax())
        return tokenizer_of(model).token(top).strip(), float(begins_N_V[:, top].mean())

    def verdict(self, number: int, answer: Graded) -> str:
        return verdict(answer, self.teacher_answers[number] if self.teacher_answers else None)

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """`n` answers to look at, spread over the skills; the questions are always the same, and none is contested."""
        rows = []
        for i in self._shown[:n]:
            question = self.questions[i]
            rows.append(
                {
                    "question": question.text,
                    "skill": question.skill,
                    "student": answers[i].text,
                    "teacher": self.teacher_answers[i].text if self.teacher_answers else "",
                    "truth": listed(question.answers),
                    "verdict": self.verdict(i, answers[i]),
                }
            )
        return rows

    def probe(self, model: LlamaForCausalLM, most: int = 8) -> tuple[str, list[str], list[float], list[float]]:
        """Returns an open question, the likeliest first tokens of its answer, and their probabilities under teacher and student.
        If the vocabularies differ, whole valid answers take the place of the tokens."""
        i = max(
            [i for i in self._open if not contested(self.questions[i])] or self._open,
            key=lambda i: (2 <= len(self.questions[i].answers) <= 8, len(self.questions[i].answers)),
        )
        question = self.questions[i]
        if self._teacher is not None and tokenizer_of(model).name != tokenizer_of(self._teacher).name:
            both = [self._choice_probabilities(m, i)[i] for m in (self._teacher, model)]
            return question.text, list(question.answers[:most]), both[0][:most], both[1][:most]
        student = first_token(model, self._paper(tokenizer_of(model)).prompts[i])
        teacher = first_token(self._teacher, self.prompts[i]) if self._teacher is not None else torch.zeros_like(student)
        top = sorted(range(len(student)), key=lambda t: -max(float(teacher[t]), float(student[t])))[:most]
        names = [tokenizer_of(model).token(t).strip() for t in top]
        return question.text, names, teacher[top].tolist() if self._teacher is not None else [], student[top].tolist()

    # ---- parts -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _shown(self) -> list[int]:
        """Numbers of the questions that may be shown: the first of each skill, then the second of each, and so on."""
        piles: dict[str, list[int]] = {skill: [] for skill in SKILLS}
        for i, question in enumerate(self.questions):
            if not contested(question):
                piles[question.skill].append(i)
        return [i for row in itertools.zip_longest(*piles.values()) for i in row if i is not None]

    def _paper(self, tokens: AtlasTokenizer) -> Paper:
        if tokens.name not in self._papers:
            self._papers[tokens.name] = Paper(self.questions, tokens)
        return self._papers[tokens.name]

    def _write(self, model: LlamaForCausalLM) -> list[Written]:
        """Greedy answers to all questions of the exam."""
        result: dict[int, Written] = {}
        prompts = self._paper(tokenizer_of(model)).prompts
        for part in of_like_length(prompts):
            result |= zip(part, write(model, [prompts[i] for i in part]), strict=True)
        return [result[i] for i in range(len(prompts))]

    def _skills(self, answers: Sequence[Graded]) -> dict[str, float]:
        """Share of right answers in each skill."""
        marks: dict[str, list[bool]] = {}
        for answer, question in zip(answers, self.questions, strict=True):
            marks.setdefault(question.skill, []).append(answer.right)
        return {skill: sum(right) / len(right) for skill, right in marks.items()}

    def _working(self, answers: Sequence[Graded]) -> dict[str, float]:
        """Share of answers with right working in each skill with steps."""
        marks: dict[str, list[bool]] = {}
        for answer, question in zip(answers, self.questions, strict=True):
            if answer.working is not None:
                marks.setdefault(question.skill, []).append(answer.working)
        return {skill: sum(right) / len(right) for skill, right in marks.items()}

    def _mark(self, written: Sequence[Written], tokens: AtlasTokenizer) -> list[Graded]:
        texts = [tokens.text(w.ids) for w in written]
        return [
            Graded(text, math.exp(sum(w.logprobs)), self.world.is_right(question, text), self.world.working(question, text))
            for text, w, question in zip(texts, written, self.questions, strict=True)
        ]

    @torch.no_grad()
    def _choice_probabilities(self, model: LlamaForCausalLM, only: int | None = None) -> dict[int, list[float]]:
        """Probability of each valid answer to each open question, or to the question `only`."""
        paper, mass = self._paper(tokenizer_of(model)), dict[int, list[float]]()
        asked = [(i, *choice) for i, choice in zip(paper.choice_of, paper.choices, strict=True) if only in (None, i)]
        for (i, *_), score in zip(asked, score_answers(model, [p for _, p, _ in asked], [a for _, _, a in asked]), strict=True):
            mass.setdefault(i, []).append(float(score.sum().exp()))
        return mass

    def _open_questions(self, model: LlamaForCausalLM) -> tuple[float, float]:
        """Validity and coverage; see `Grades.open`."""
        mass = self._choice_probabilities(model)
        if not mass:
            return 0.0, 0.0
        validity = sum(min(1.0, sum(p)) for p in mass.values()) / len(mass)
        coverage = sum(sum(x >= 0.5 / len(p) for x in p) / len(p) for p in mass.values()) / len(mass)
        return validity, coverage

    @torch.no_grad()
    def _fidelity(self, model: LlamaForCausalLM) -> dict[str, float]:
        if self._teacher is None or self._teacher_states is None:
            return {}
        student_tokens, teacher_tokens = tokenizer_of(model), tokenizer_of(self._teacher)
        prompts, answers = self._paper(student_tokens).prompts, self._teacher_ids
        if same := student_tokens.name == teacher_tokens.name:
            logprobs = logits_of(model, torch.cat(states_of(model, prompts, answers))).float().log_softmax(-1)
            teacher = logits_of(self._teacher, self._teacher_states).float().log_softmax(-1)
            labels = torch.tensor([token for ids in answers for token in ids], device=logprobs.device)
            spelled = logprobs.gather(1, labels[:, None])[:, 0].split([len(ids) for ids in answers])
        else:
            answers = [[*student_tokens.cut(teacher_tokens.spell(ids)), *([EOS] * (ids[-1] == EOS))] for ids in answers]
            spelled = score_answers(model, prompts, answers)
        bits = [-float(score.sum()) / math.log(2) for score in spelled]
        result = {"bits_per_byte": sum(bits) / sum(len(student_tokens.spell(ids)) + 1 for ids in answers)}
        result["truth_bits_per_byte"] = self._truth_bits(model, answers, bits)
        if same:
            result["kl"] = float((teacher.exp() * (teacher - logprobs)).sum(-1).mean())
            for name, logp in (("entropy", logprobs), ("teacher_entropy", teacher)):
                result[name] = float(-(logp.exp() * logp).sum(-1).mean())
            result["agreement"] = float((teacher.argmax(-1) == logprobs.argmax(-1)).float().mean())
            result["acceptance"] = float(teacher.minimum(logprobs).exp().sum(-1).mean())
        return result

    def _truth_bits(self, model: LlamaForCausalLM, answers: Sequence[Sequence[int]], bits: Sequence[float]) -> float:
        """Bits per byte of the gold labels. Where the gold label is the teacher's answer, `bits` has the number already."""
        tokens = tokenizer_of(model)
        golds, gold_bits = tokens.answers([q.gold for q in self.questions]), list(bits)
        new = [i for i, gold in enumerate(golds) if gold != list(answers[i])]
        scores = score_answers(model, [self._paper(tokens).prompts[i] for i in new], [golds[i] for i in new])
        for i, score in zip(new, scores, strict=True):
            gold_bits[i] = -float(score.sum()) / math.log(2)
        return sum(gold_bits) / sum(len(tokens.spell(gold)) + 1 for gold in golds)


def verdict(answer: Graded, teacher: Graded | None) -> str:
    """Returns "right", "working" if only the last step is right, "inherited" if it repeats the teacher's wrong answer, or "wrong"."""
    if answer.right:
        return "working" if answer.working is False else "right"
    return "inherited" if teacher and normalise(teacher.text) == normalise(answer.text) else "wrong"


def shares(verdicts: Sequence[str]) -> dict[str, float]:
    """Shares of right, inherited and wrong answers. As in the scores, the last step counts: "working" is a right answer."""
    right = ["right" if verdict == "working" else verdict for verdict in verdicts]
    return {name: right.count(name) / len(right) for name in ("right", "inherited", "wrong")}


def listed(answers: Sequence[str], most: int = 3) -> str:
    """The first `most` answers as text, and how many more there are."""
    return ", ".join(answers[:most]) + (f" or {len(answers) - most} more" if len(answers) > most else "")


@torch.no_grad()
def first_token(model: LlamaForCausalLM, prompt: list[int]) -> Tensor:
    """Probabilities `(V,)` of the first token of an answer to `prompt`."""
    return row_logits(model, prompt)[-1].softmax(-1).cpu()
