"""How good a student is: truth against the facts, fidelity to the teacher, validity and coverage, calibration.

    exam = Exam(Atlas("half"), teacher)
    grades = exam.grade(student)          # answers come from real generation; see `Grades`

Recovery and verdicts are sums over what is recorded here and live with the records (`labkit.record`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from labkit.base.settings import Settings
from labkit.models import EOS, AtlasTokenizer, Written, tokenizer, tokenizer_of, write
from labkit.models.score_answers import of_like_length, score_answers, states_of
from labkit.records.names import SKILLS
from labkit.tasks.atlas.facts import Atlas, Question, normalise
from labkit.tasks.calibration import calibration_error

PER_SKILL = Settings.exam_per_skill


class Graded(NamedTuple):
    """One exam answer: the text, its probability under the model that gave it, and whether it is right."""

    text: str
    probability: float
    right: bool


class Grades(NamedTuple):
    """skills: score in [0, 1] a skill (share of right greedy answers; for open questions the probability mass on valid
    answers). fidelity: bits_per_byte, what the teacher's answers cost the student to spell (their end counts as one byte), and
    truth_bits_per_byte, what the gold labels do, both comparable across vocabularies; with the teacher's own also kl (nats per answer
    token, teacher to student, on the teacher's answers), agreement (share of equal top-1 tokens) and acceptance (sum of min(p, q): the
    chance that the teacher accepts a token the student draws at temperature 1). open: validity (mass on valid answers) and coverage
    (share of valid answers given at least half of an even share). truth: shares of right, inherited and wrong answers. ece: expected
    calibration error of whole answers, 10 bins.
    fidelity has the mean entropies too, in nats a token, of the student and of the teacher. habits: unended (share of answers that found no
    end) and confidence (mean probability of its own answers)."""

    skills: Mapping[str, float]
    fidelity: Mapping[str, float]
    open: Mapping[str, float]
    truth: Mapping[str, float]
    ece: float
    answers: Sequence[Graded]
    habits: Mapping[str, float]


class Examiner(Protocol):
    """What a run asks of an exam: an `Exam` of the world, one on a learner's own prompts (`CustomExam`), or one of heads (`HeadsExam`)."""

    teacher_grades: Grades

    def grade(self, model: Any) -> Grades:
        """Examine a model, which is left as it was found."""
        ...

    def beside(self, model: Any, answers: Sequence[Graded]) -> dict[str, float]:
        """Habits that other questions show, by name; asked at a run's end."""
        ...

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """`n` answers to look at, beside the teacher's and the truth."""
        ...

    def probe(self, model: Any, most: int = 8) -> tuple[str, list[str], list[float], list[float]]:
        """One question, the likeliest tokens of its answer, and the teacher's and the model's probabilities of them."""
        ...


class Paper:
    """The questions of an exam, and the answers to open ones, in one vocabulary."""

    def __init__(self, questions: Sequence[Question], own: AtlasTokenizer) -> None:
        self.prompts = own.prompts([q.text for q in questions])
        choices = [(i, answer) for i, q in enumerate(questions) if q.skill == "open" for answer in q.answers]
        self.choice_of = [i for i, _ in choices]
        self.choices = list(zip([self.prompts[i] for i, _ in choices], own.answers([a for _, a in choices]), strict=True))


class Exam:
    """A fixed paper for one world; compositions, sums and comparisons on it were never in any training set. `vocabulary` is that of the
    students who sit it; their teacher has its own. `questions` are asked in place of the drawn ones."""

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
        """Examine `model`, which is left as it was found; `written` are its greedy answers, if they are at hand."""
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
        return Grades(skills, fidelity, {"validity": validity, "coverage": coverage}, truth, calibration_error(answers), answers, habits)

    def beside(self, model: LlamaForCausalLM, answers: Sequence[Graded]) -> dict[str, float]:
        """fresh: mean skill on a sibling paper, of held-out questions that this one does not ask; asked: the same of this paper's `answers`
        in the same skills; neither where the world has no such questions. favourite: see `favourite`."""
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
        """The token most often begun with, whatever the open question, and its mean probability over all of them: an even-handed model has
        no such token, since the questions have different answers."""
        prompts = self._paper(tokenizer_of(model)).prompts
        begins_N_V = torch.stack([first_token(model, prompts[i]) for i in self._open])
        top = int(begins_N_V.mean(0).argmax())
        return tokenizer_of(model).token(top).strip(), float(begins_N_V[:, top].mean())

    def verdict(self, number: int, answer: Graded) -> str:
        return verdict(answer, self.teacher_answers[number] if self.teacher_answers else None)

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """`n` rows to look at, spread over the skills, always the same questions."""
        skills = [q.skill for q in self.questions]
        order = sorted(range(len(skills)), key=lambda i: (skills[:i].count(skills[i]), SKILLS.index(skills[i])))
        rows = []
        for i in order[:n]:
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
        """One open question: the tokens that teacher and student find likeliest to begin an answer, and how likely. With different
        vocabularies, valid answers as a whole instead."""
        i = max(self._open, key=lambda i: (2 <= len(self.questions[i].answers) <= 8, len(self.questions[i].answers)))
        question = self.questions[i]
        if self._teacher is not None and tokenizer_of(model).name != tokenizer_of(self._teacher).name:
            both = [self._choice_probabilities(m, i)[i] for m in (self._teacher, model)]
            return question.text, list(question.answers[:most]), both[0][:most], both[1][:most]
        own = first_token(model, self._paper(tokenizer_of(model)).prompts[i])
        teacher = first_token(self._teacher, self.prompts[i]) if self._teacher is not None else torch.zeros_like(own)
        top = sorted(range(len(own)), key=lambda t: -max(float(teacher[t]), float(own[t])))[:most]
        names = [tokenizer_of(model).token(t).strip() for t in top]
        return question.text, names, teacher[top].tolist() if self._teacher is not None else [], own[top].tolist()

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _paper(self, own: AtlasTokenizer) -> Paper:
        if own.name not in self._papers:
            self._papers[own.name] = Paper(self.questions, own)
        return self._papers[own.name]

    def _write(self, model: LlamaForCausalLM) -> list[Written]:
        """Greedy answers to the whole paper."""
        found: dict[int, Written] = {}
        prompts = self._paper(tokenizer_of(model)).prompts
        for part in of_like_length(prompts):
            found |= zip(part, write(model, [prompts[i] for i in part]), strict=True)
        return [found[i] for i in range(len(prompts))]

    def _skills(self, answers: Sequence[Graded]) -> dict[str, float]:
        """Share of right answers, skill by skill."""
        marks: dict[str, list[bool]] = {}
        for answer, question in zip(answers, self.questions, strict=True):
            marks.setdefault(question.skill, []).append(answer.right)
        return {skill: sum(right) / len(right) for skill, right in marks.items()}

    def _mark(self, written: Sequence[Written], own: AtlasTokenizer) -> list[Graded]:
        texts = [own.text(w.ids) for w in written]
        return [
            Graded(text, math.exp(sum(w.logprobs)), self.world.is_right(question, text))
            for text, w, question in zip(texts, written, self.questions, strict=True)
        ]

    @torch.no_grad()
    def _choice_probabilities(self, model: LlamaForCausalLM, only: int | None = None) -> dict[int, list[float]]:
        """How likely a model gives each right answer to each open question, or to `only` one of them."""
        paper, mass = self._paper(tokenizer_of(model)), dict[int, list[float]]()
        asked = [(i, *choice) for i, choice in zip(paper.choice_of, paper.choices, strict=True) if only in (None, i)]
        for (i, *_), score in zip(asked, score_answers(model, [p for _, p, _ in asked], [a for _, _, a in asked]), strict=True):
            mass.setdefault(i, []).append(float(score.sum().exp()))
        return mass

    def _open_questions(self, model: LlamaForCausalLM) -> tuple[float, float]:
        """Mean probability mass on valid answers, and mean share of valid answers with at least half an even share."""
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
        own, theirs = tokenizer_of(model), tokenizer_of(self._teacher)
        prompts, answers = self._paper(own).prompts, self._teacher_ids
        if same := own.name == theirs.name:
            logprobs = model.lm_head(torch.cat(states_of(model, prompts, answers))).float().log_softmax(-1)
            teacher = self._teacher.lm_head(self._teacher_states).float().log_softmax(-1)
            labels = torch.tensor([token for ids in answers for token in ids], device=logprobs.device)
            spelled = logprobs.gather(1, labels[:, None])[:, 0].split([len(ids) for ids in answers])
        else:
            answers = [[*own.cut(theirs.spell(ids)), *([EOS] * (ids[-1] == EOS))] for ids in answers]
            spelled = score_answers(model, prompts, answers)
        bits = [-float(score.sum()) / math.log(2) for score in spelled]
        found = {"bits_per_byte": sum(bits) / sum(len(own.spell(ids)) + 1 for ids in answers)}
        found["truth_bits_per_byte"] = self._truth_bits(model, answers, bits)
        if same:
            found["kl"] = float((teacher.exp() * (teacher - logprobs)).sum(-1).mean())
            for name, logp in (("entropy", logprobs), ("teacher_entropy", teacher)):
                found[name] = float(-(logp.exp() * logp).sum(-1).mean())
            found["agreement"] = float((teacher.argmax(-1) == logprobs.argmax(-1)).float().mean())
            found["acceptance"] = float(teacher.minimum(logprobs).exp().sum(-1).mean())
        return found

    def _truth_bits(self, model: LlamaForCausalLM, answers: Sequence[Sequence[int]], bits: Sequence[float]) -> float:
        """Bits per byte of the gold labels; most are what the teacher said, and known already."""
        own = tokenizer_of(model)
        golds, known = own.answers([q.gold for q in self.questions]), list(bits)
        new = [i for i, gold in enumerate(golds) if gold != list(answers[i])]
        scores = score_answers(model, [self._paper(own).prompts[i] for i in new], [golds[i] for i in new])
        for i, score in zip(new, scores, strict=True):
            known[i] = -float(score.sum()) / math.log(2)
        return sum(known) / sum(len(own.spell(gold)) + 1 for gold in golds)


def verdict(answer: Graded, teacher: Graded | None) -> str:
    """ "right"; "inherited" if it repeats the teacher's own wrong answer; else "wrong"."""
    if answer.right:
        return "right"
    return "inherited" if teacher and normalise(teacher.text) == normalise(answer.text) else "wrong"


def shares(verdicts: Sequence[str]) -> dict[str, float]:
    """How much of them says what, by name."""
    return {name: verdicts.count(name) / len(verdicts) for name in ("right", "inherited", "wrong")}


def listed(answers: Sequence[str], most: int = 3) -> str:
    """Valid answers in a few words."""
    return ", ".join(answers[:most]) + (f" or {len(answers) - most} more" if len(answers) > most else "")


@torch.no_grad()
def first_token(model: LlamaForCausalLM, prompt: list[int]) -> Tensor:
    return model(torch.tensor([prompt], device=model.device)).logits[0, -1].float().softmax(-1).cpu()


@functools.cache
def whole_world() -> Atlas:
    """Truth is that of the whole world, whatever part of it is asked about."""
    return Atlas()


class Answer(NamedTuple):
    """What `ask` returns; `truth` is None for a question Atlas does not know."""

    answer: str
    probability: float
    right: bool | None
    truth: str | None


def ask(model: LlamaForCausalLM, text: str) -> Answer:
    """A model's greedy answer to any question, how sure it is, and the truth if Atlas knows it."""
    own = tokenizer_of(model)
    written = write(model, own.prompts([text]))[0]
    world = whole_world()
    question: Question | None = world.find(text)
    said = own.text(written.ids)
    return Answer(
        said,
        math.exp(sum(written.logprobs)),
        world.is_right(question, said) if question else None,
        listed(question.answers) if question else None,
    )
