"""The task of a run: teacher, student, questions and exam. The training loop depends only on this interface.

task_of(Experiment())                                                                    # Atlas, the small world
task_of(Experiment(data="mine.jsonl", teacher="smollm2", student="./small", method="output"))   # your own models and data
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple

import torch

from labkit import models
from labkit.base.errors import LabError
from labkit.base.settings import Settings, default
from labkit.models import pretrained
from labkit.models.architectures import LanguageModel
from labkit.models.heads import io as heads_io
from labkit.models.heads.base import Heads, commonest
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.model_folders import without_hash
from labkit.records.names import DRAFT_HEADS, MADE_TEACHERS, SKILLS, STUDENTS, named_model
from labkit.records.rules import refuse
from labkit.records.store import Store
from labkit.tasks.atlas.exam import Exam, Examiner
from labkit.tasks.atlas.facts import Atlas
from labkit.tasks.custom.content_hash import with_hashes
from labkit.tasks.custom.exam import CustomExam
from labkit.tasks.custom.rows import CustomRows, Problem, Row, read_rows, split
from labkit.tasks.heads_exam import HeadsExam, ahead_skills
from labkit.tasks.types import Asked
from labkit.teachers.signals import Signals, TopKSignals
from labkit.teachers.text_data import Sequences, sequences_for
from labkit.teachers.text_pool import TextPool
from labkit.training.batches import BatchSampler, Source, gold_questions, transfer_questions

LOOKED = 120  # held-out prompts that heads are examined on: some thousand tokens
TEMPLATE = 256  # upper bound on the tokens that a chat template adds to a question
SMALL = 32  # questions that a pretrained teacher answers at a time: its logits are fifty times as wide as those of the lab's teachers


class CustomPrompt(NamedTuple):
    """A prompt of the user's data, with the field names of a `Question`."""

    text: str
    answers: tuple[str, ...]
    gold: str
    line: int = 0  # of its file

    @classmethod
    def of(cls, row: Row, gold: str | None) -> CustomPrompt:
        """gold: the text to learn, or for an exam the reference."""
        return cls(row.prompt, (gold or "",), gold or "", row.line)


class AtlasTask:
    """The small world."""

    skills: tuple[str, ...] = SKILLS  # that the exam scores
    checks_batches: bool = True  # whether batches are checked, for the detectors of failures
    warnings: Sequence[str] = ()  # shown before the first step

    def __init__(self, experiment: Experiment, settings: Settings | None = None) -> None:
        exp = self.experiment = experiment
        self.settings = settings or default()
        self.world = Atlas(exp.scale, gold_noise=exp.gold_noise, falsehoods=exp.falsehoods, favourite=exp.favourite)
        if exp.student in DRAFT_HEADS:
            self.skills, self.checks_batches = ahead_skills(exp.ahead), False

    def teacher(self) -> LanguageModel | None:
        """The teacher; None for a run without one, and for a run that makes it (`MADE_TEACHERS`)."""
        return None if self.experiment.teacher in ("none", *MADE_TEACHERS) else models.teacher(self.experiment.teacher)

    @property
    def reads(self) -> Any:
        """The student's tokenizer."""
        return models.tokenizer(self.experiment.vocabulary)

    def student(self, seed: int, teacher: LanguageModel | None = None) -> Any:
        exp = self.experiment
        if exp.student in DRAFT_HEADS and teacher is not None:
            return _heads(exp, teacher, seed, transfer_questions(exp, self.world), gold_questions(exp, self.world))
        return models.student(exp.student, seed, architecture=exp.architecture, vocabulary=exp.vocabulary)

    def pool(self, source: LanguageModel) -> Signals:
        """Answers and signals of the teacher, or of the model in its place."""
        return Signals(source, transfer_questions(self.experiment, self.world), chunk=self.settings.chunk)

    def texts(self, source: LanguageModel) -> Generator[tuple[int, int], None, Sequences]:
        """The text that it writes, for students that learn from text alone. Yields (rows written, rows in all)."""
        return sequences_for(self.experiment, source, transfer_questions(self.experiment, self.world), self.world, self.settings.chunk)

    def text_pool(self, data: Sequences) -> TextPool:
        return TextPool(data, self.reads)

    def feed(self, rows: Source | None) -> BatchSampler:
        return BatchSampler(self.experiment, gold_questions(self.experiment, self.world), rows, self.reads)

    def exam(self, teacher: LanguageModel | None) -> Examiner:
        if self.experiment.student in DRAFT_HEADS and teacher is not None:
            return HeadsExam(self.world.exam(self.settings.exam_per_skill), teacher, self.experiment.ahead)
        return Exam(self.world, teacher, self.settings.exam_per_skill, vocabulary=self.experiment.vocabulary)

    def references(self) -> Iterable[ev.Event]:
        """The recorded baselines."""
        return Store().references(self.experiment) if self.experiment.teacher != "none" else ()


class CustomTask:
    """The user's own models and data: two Hugging Face models that share a tokenizer, or any two by the teacher's text."""

    checks_batches = False

    def __init__(self, experiment: Experiment, settings: Settings | None = None) -> None:
        self.settings = settings or default()
        exp = self.experiment = with_hashes(experiment)
        path = without_hash(exp.data)
        rows = read_rows(path, learn=exp.learn)
        self.fingerprint = rows.fingerprint
        if exp.template_option:
            both = [name for name in dict.fromkeys((exp.teacher, exp.student)) if named_model(name)]
            pretrained.refuse_unread(exp.template_option, [pretrained.chat_of(name, options=exp.template_option) for name in both])
        rows = self._that_fit(rows)
        self.summary = rows.summary
        self.warnings = [f"{path}: {len(rows.problems):,} rows could not be used; {rows.problems[0]}."] if rows.problems else []
        self.warnings += [f"{path}: {remark}" for remark in rows.remarks]
        train, held = split(rows)
        self.train = [CustomPrompt.of(row, row.learned) for row in train]
        self.held = [CustomPrompt.of(row, row.response) for row in held if row.response is not None]
        if not self.train or not self.held:
            raise LabError(
                f"{path} has {len(train)} prompts to learn from and {len(self.held)} with a response for the exam. A fifth of the prompts "
                "is held out: give at least 20 prompts, some of them with responses."
            )
        paid_for = [row for row in self.train if row.answers[0]]
        self.answered, self.gold = len(paid_for), paid_for[: exp.gold]
        refuse(exp, gold_rows=len(self.gold))
        self.skills = ahead_skills(exp.ahead) if exp.student in DRAFT_HEADS else (exp.score.partition(":")[0],)

    def _that_fit(self, rows: CustomRows) -> CustomRows:
        """The rows that fit into the context of both models, with `longest` tokens for the answer, or the response if that is longer. The
        other rows become problems of their lines.

        Raises `LabError` if no row fits.
        """
        exp = self.experiment
        problems: dict[int, Problem] = {}
        for name in filter(named_model, dict.fromkeys((exp.teacher, exp.student))):
            room = pretrained.context_of(name)
            # A token has at least one byte, so most rows are known to fit without tokenizing them.
            long = [r for r in rows if len(r.prompt.encode()) + max(exp.longest, len((r.learned or "").encode())) + TEMPLATE > room]
            if not long:
                continue
            tokenizer = pretrained.chat_of(name, exp.longest, exp.template_option)
            prompts, answers = tokenizer.prompts([row.prompt for row in long]), tokenizer.answers([row.learned or "" for row in long])
            for row, prompt, answer in zip(long, prompts, answers, strict=True):
                if (tokens := len(prompt) + max(exp.longest, len(answer)) - 1) > room:  # the last token is never read
                    why = f"it takes up to {tokens:,} tokens with its answer, and {without_hash(name)} has room for {room:,}: shorten it"
                    problems.setdefault(row.line, Problem(row.line, why))
        fitting = tuple(row for row in rows if row.line not in problems)
        if not fitting:
            first = next(iter(problems.values()))
            raise LabError(f"no row of {rows.source} fits into both models. {first}, or set a smaller longest (it is {exp.longest}).")
        return dataclasses.replace(rows, rows=fitting, problems=tuple(sorted((*rows.problems, *problems.values()))))

    def teacher(self) -> LanguageModel | None:
        exp = self.experiment
        if exp.teacher == "none":
            return None
        model = pretrained.kept(exp.teacher, exp.longest, exp.template_option) if named_model(exp.teacher) else models.teacher(exp.teacher)
        refuse(exp, same_tokens=models.tokenizer_of(model).vocabulary == self.reads.vocabulary)
        return model

    @functools.cached_property
    def reads(self) -> Any:
        """The student's tokenizer; for heads, that of their target.

        If its teacher has the same tokens but another template or other end marks, it is the teacher's: the student learns its format.
        """
        exp = self.experiment
        name = exp.teacher if exp.student in DRAFT_HEADS else exp.student
        if not named_model(name):
            return models.tokenizer(exp.vocabulary)
        own = pretrained.chat_of(name, exp.longest, exp.template_option)
        if exp.teacher == "none" or not named_model(exp.teacher):
            return own
        theirs = pretrained.chat_of(exp.teacher, exp.longest, exp.template_option)
        return theirs if theirs.vocabulary == own.vocabulary else own

    def student(self, seed: int, teacher: LanguageModel | None = None) -> Any:
        exp = self.experiment
        if exp.student in DRAFT_HEADS and teacher is not None:
            return _heads(exp, teacher, seed, self.train, [row for row in self.train if row.gold])
        if exp.student in STUDENTS:
            return models.student(exp.student, seed)
        model = pretrained.load(exp.student, torch.float32, exp.longest, exp.template_option)
        if model.chat.fingerprint != self.reads.fingerprint:
            model.chat, model.adopted = self.reads, self.reads.end_marks
        self.warnings = [*self.warnings, *pretrained.notes_of(model.requires_grad_(True))[1:]]  # without the verdict of its check
        return model

    def pool(self, source: LanguageModel) -> Signals:
        exp, asked = self.experiment, self.train[: self.experiment.questions]
        if exp.top_k and exp.signals == "cached":
            return TopKSignals(source, asked, k=exp.top_k, chunk=SMALL, temperature=0.0)
        return Signals(source, asked, chunk=SMALL, temperature=0.0)

    def texts(self, source: LanguageModel) -> Generator[tuple[int, int], None, Sequences]:
        return sequences_for(self.experiment, source, self.train[: self.experiment.questions], None, self.settings.chunk)

    def text_pool(self, data: Sequences) -> TextPool:
        return TextPool(data, self.reads, self.experiment.learn)

    def feed(self, rows: Source | None) -> BatchSampler:
        return BatchSampler(self.experiment, self.gold, rows, self.reads)

    def exam(self, teacher: LanguageModel | None) -> Examiner:
        exp = self.experiment
        if exp.student in DRAFT_HEADS and teacher is not None:
            return _heads_exam(tuple(self.held[:LOOKED]), teacher, exp.ahead)
        return _exam(tuple(self.held), teacher, exp.teacher, exp.score, exp.longest)

    def references(self) -> Iterable[ev.Event]:
        """The recorded baselines."""
        return Store().references(self.experiment)


Task = AtlasTask | CustomTask


@functools.lru_cache(maxsize=2)
def _exam(held: tuple[CustomPrompt, ...], teacher: LanguageModel | None, name: str, score: str, longest: int) -> CustomExam:
    """One exam for several runs, so that a large teacher takes it once."""
    return CustomExam(held, teacher, score)


@functools.lru_cache(maxsize=1)
def _heads_exam(held: tuple[CustomPrompt, ...], teacher: LanguageModel, ahead: int) -> HeadsExam:
    return HeadsExam(held, teacher, ahead)


def _heads(exp: Experiment, teacher: LanguageModel, seed: int, asked: Sequence[Asked], answered: Sequence[Asked]) -> Heads:
    """Draft heads on a teacher. Their vocabulary, if limited, has the most frequent tokens of questions and answers."""
    tokenizer, texts = models.tokenizer_of(teacher), list[list[int]]()
    if exp.draft_vocabulary:
        texts = tokenizer.prompts([row.text for row in (*asked, *answered)]) + tokenizer.answers([row.gold for row in answered])
    return heads_io.make(exp.student, teacher, commonest(teacher, exp.draft_vocabulary, texts), exp.ahead, seed)


def task_of(experiment: Experiment, settings: Settings | None = None) -> Task:
    """The task of a recipe.

    Raises `LabError` for data that cannot be read, or do not fit the recipe.
    """
    return (CustomTask if experiment.data else AtlasTask)(experiment, settings)
