"""What a run is about: who teaches whom, on which questions, and how a student is examined. The engine asks here, and knows no more.

task_of(Experiment())                                                                    # Atlas, our small world
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
from labkit.teachers.text_data import Sequences, TextPool, sequences_for
from labkit.training.batches import BatchSampler, Source, gold_questions, transfer_questions

LOOKED = 120  # held-out prompts that heads guess along: some thousand tokens
TEMPLATE = 256  # tokens that a chat template puts around a question, generously
SMALL = 32  # questions a pretrained teacher answers at a time: its logits are fifty times as wide


class CustomPrompt(NamedTuple):
    """A prompt of one's own, under the names a `Question` has; `line` is where it began in its file."""

    text: str
    answers: tuple[str, ...]
    gold: str
    line: int = 0

    @classmethod
    def of(cls, row: Row) -> CustomPrompt:
        return cls(row.prompt, (row.response or "",), row.response or "", row.line)


class AtlasTask:
    """The small world. skills: what its exam scores. looks: whether single batches are looked at, for the detectors of failures.
    warnings: what a learner should know before the first step."""

    skills: tuple[str, ...] = SKILLS
    checks_batches: bool = True
    warnings: Sequence[str] = ()

    def __init__(self, experiment: Experiment, settings: Settings | None = None) -> None:
        exp = self.experiment = experiment
        self.settings = settings or default()
        self.world = Atlas(exp.scale, gold_noise=exp.gold_noise, falsehoods=exp.falsehoods, favourite=exp.favourite)
        if exp.student in DRAFT_HEADS:
            self.skills, self.checks_batches = ahead_skills(exp.ahead), False

    def teacher(self) -> LanguageModel | None:
        """None for a run without one, and where the run makes it (`MADE_TEACHERS`)."""
        return None if self.experiment.teacher in ("none", *MADE_TEACHERS) else models.teacher(self.experiment.teacher)

    def student(self, seed: int, teacher: LanguageModel | None = None) -> Any:
        exp = self.experiment
        if exp.student in DRAFT_HEADS and teacher is not None:
            return _heads(exp, teacher, seed, transfer_questions(exp, self.world), gold_questions(exp, self.world))
        return models.student(exp.student, seed, architecture=exp.architecture, vocabulary=exp.vocabulary)

    def pool(self, source: LanguageModel) -> Signals:
        """What the teacher (or who stands in its place) says to the questions."""
        return Signals(source, transfer_questions(self.experiment, self.world), chunk=self.settings.chunk)

    def texts(self, source: LanguageModel) -> Generator[tuple[int, int], None, Sequences]:
        """What it writes, for students that learn from text alone; telling as it goes how much is written, and of how much."""
        return sequences_for(self.experiment, source, transfer_questions(self.experiment, self.world), self.world, self.settings.chunk)

    def text_pool(self, data: Sequences) -> TextPool:
        return TextPool(data, models.tokenizer(self.experiment.vocabulary))

    def feed(self, rows: Source | None) -> BatchSampler:
        return BatchSampler(
            self.experiment, gold_questions(self.experiment, self.world), rows, models.tokenizer(self.experiment.vocabulary)
        )

    def exam(self, teacher: LanguageModel | None) -> Examiner:
        if self.experiment.student in DRAFT_HEADS and teacher is not None:
            return HeadsExam(self.world.exam(self.settings.exam_per_skill), teacher, self.experiment.ahead)
        return Exam(self.world, teacher, self.settings.exam_per_skill, vocabulary=self.experiment.vocabulary)

    def references(self) -> Iterable[ev.Event]:
        """Baselines on record."""
        return Store().references(self.experiment) if self.experiment.teacher != "none" else ()


class CustomTask:
    """A learner's own models and data: a Hugging Face pair that shares a tokenizer, or any teacher's text for any student."""

    checks_batches = False

    def __init__(self, experiment: Experiment, settings: Settings | None = None) -> None:
        self.settings = settings or default()
        exp = self.experiment = with_hashes(experiment)
        path = without_hash(exp.data)
        rows = read_rows(path)
        self.fingerprint = rows.fingerprint
        rows = self._that_fit(rows)
        self.summary = rows.summary
        self.warnings = [f"{path}: {len(rows.problems):,} rows could not be used; {rows.problems[0]}."] if rows.problems else []
        train, held = split(rows)
        self.train, self.held = [CustomPrompt.of(row) for row in train], [CustomPrompt.of(row) for row in held if row.response is not None]
        if not self.train or not self.held:
            raise LabError(
                f"{path} has {len(train)} prompts to learn from and {len(self.held)} with a response to be examined on: a fifth is "
                "held out, so give at least 20 prompts, and responses to some."
            )
        paid_for = [row for row in self.train if row.answers[0]]
        self.answered, self.gold = len(paid_for), paid_for[: exp.gold]
        refuse(exp, gold_rows=len(self.gold))
        self.skills = ahead_skills(exp.ahead) if exp.student in DRAFT_HEADS else (exp.score.partition(":")[0],)

    def _that_fit(self, rows: CustomRows) -> CustomRows:
        """The rows that both models have room for, with an answer of `longest` tokens or the response there is; the others are problems
        of their lines. Raises `LabError` if none is left."""
        exp = self.experiment
        problems: dict[int, Problem] = {}
        for name in filter(named_model, dict.fromkeys((exp.teacher, exp.student))):
            room = pretrained.context_of(name)
            # A token is a byte or more, so that most rows are known to fit before they are cut into tokens.
            long = [r for r in rows if len(r.prompt.encode()) + max(exp.longest, len((r.response or "").encode())) + TEMPLATE > room]
            if not long:
                continue
            own = pretrained.ChatTokenizer(pretrained.folder_of(name), name, exp.longest)
            asked, wanted = own.prompts([row.prompt for row in long]), own.answers([row.response or "" for row in long])
            for row, prompt, answer in zip(long, asked, wanted, strict=True):
                if (tokens := len(prompt) + max(exp.longest, len(answer)) - 1) > room:  # the last is never read
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
        found = pretrained.kept(exp.teacher, exp.longest) if named_model(exp.teacher) else models.teacher(exp.teacher)
        refuse(exp, same_tokens=models.tokenizer_of(found).fingerprint == self.reads.fingerprint)
        return found

    @functools.cached_property
    def reads(self) -> Any:
        """The student's tokenizer; heads have their target's."""
        exp = self.experiment
        name = exp.teacher if exp.student in DRAFT_HEADS else exp.student
        if not named_model(name):
            return models.tokenizer(exp.vocabulary)
        return pretrained.ChatTokenizer(pretrained.folder_of(name), name, exp.longest)

    def student(self, seed: int, teacher: LanguageModel | None = None) -> Any:
        exp = self.experiment
        if exp.student in DRAFT_HEADS and teacher is not None:
            return _heads(exp, teacher, seed, self.train, [row for row in self.train if row.gold])
        if exp.student in STUDENTS:
            return models.student(exp.student, seed)
        return pretrained.load(exp.student, torch.float32, exp.longest).requires_grad_(True)

    def pool(self, source: LanguageModel) -> Signals:
        exp, asked = self.experiment, self.train[: self.experiment.questions]
        if exp.top_k and exp.signals == "cached":
            return TopKSignals(source, asked, k=exp.top_k, chunk=SMALL, temperature=0.0)
        return Signals(source, asked, chunk=SMALL, temperature=0.0)

    def texts(self, source: LanguageModel) -> Generator[tuple[int, int], None, Sequences]:
        return sequences_for(self.experiment, source, self.train[: self.experiment.questions], None, self.settings.chunk)

    def text_pool(self, data: Sequences) -> TextPool:
        return TextPool(data, self.reads)

    def feed(self, rows: Source | None) -> BatchSampler:
        return BatchSampler(self.experiment, self.gold, rows, self.reads)

    def exam(self, teacher: LanguageModel | None) -> Examiner:
        exp = self.experiment
        if exp.student in DRAFT_HEADS and teacher is not None:
            return _heads_exam(tuple(self.held[:LOOKED]), teacher, exp.ahead)
        return _exam(tuple(self.held), teacher, exp.teacher, exp.score, exp.longest)

    def references(self) -> Iterable[ev.Event]:
        """Baselines on record."""
        return Store().references(self.experiment)


Task = AtlasTask | CustomTask


@functools.lru_cache(maxsize=2)
def _exam(held: tuple[CustomPrompt, ...], teacher: LanguageModel | None, name: str, score: str, longest: int) -> CustomExam:
    """One paper for several runs, so that a large teacher sits it once."""
    return CustomExam(held, teacher, score)


@functools.lru_cache(maxsize=1)
def _heads_exam(held: tuple[CustomPrompt, ...], teacher: LanguageModel, ahead: int) -> HeadsExam:
    return HeadsExam(held, teacher, ahead)


def _heads(exp: Experiment, teacher: LanguageModel, seed: int, asked: Sequence[Asked], answered: Sequence[Asked]) -> Heads:
    """Heads on a teacher that can say what is most frequent in the questions asked of it and the answers at hand."""
    own, texts = models.tokenizer_of(teacher), list[list[int]]()
    if exp.draft_vocabulary:
        texts = own.prompts([row.text for row in (*asked, *answered)]) + own.answers([row.gold for row in answered])
    return heads_io.make(exp.student, teacher, commonest(teacher, exp.draft_vocabulary, texts), exp.ahead, seed)


def task_of(experiment: Experiment, settings: Settings | None = None) -> Task:
    """What a recipe is about. Raises `LabError` for data that cannot be read, or does not go with the recipe."""
    return (CustomTask if experiment.data else AtlasTask)(experiment, settings)
