"""What a run is about: who teaches whom, on which questions, and how a student is examined. The engine asks here, and knows no more.

subject_of(Experiment())                                                                    # Atlas, our small world
subject_of(Experiment(data="mine.jsonl", teacher="smollm2", student="./small", method="output"))   # your own models and data
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

import torch

from labkit import events as ev
from labkit import models, pretrained
from labkit.architectures import LanguageModel
from labkit.atlas import SKILLS, Atlas
from labkit.batches import Feed, Source, paid, unlabelled
from labkit.errors import LabError
from labkit.evaluate import Exam
from labkit.experiment import KIN, STUDENTS, Experiment, named_model
from labkit.methods import method
from labkit.own_data import Row, read_rows, split
from labkit.own_exam import OwnExam
from labkit.pinning import pinned, unmarked
from labkit.records import Store
from labkit.sequences import Sequences, TextPool, sequences_for
from labkit.signals import Signals, TopKSignals

SMALL = 32  # questions a pretrained teacher answers at a time: its logits are fifty times as wide


class Prompt(NamedTuple):
    """A prompt of one's own, under the names a `Question` has."""

    text: str
    answers: tuple[str, ...]
    gold: str

    @classmethod
    def of(cls, row: Row) -> Prompt:
        return cls(row.prompt, (row.response or "",), row.response or "")


class AtlasSubject:
    """The small world. skills: what its exam scores. looks: whether single batches are looked at, for the detectors of failures."""

    skills: tuple[str, ...] = SKILLS
    looks = True

    def __init__(self, experiment: Experiment) -> None:
        exp = self.experiment = experiment
        for name in ("teacher", "student"):
            if named_model(getattr(exp, name)):
                raise LabError(
                    f"{name}={getattr(exp, name)!r} is a model from elsewhere, and learns from your own questions: set data='mine.jsonl' "
                    "(`labkit distill` does all of it), or choose one of the lab's models."
                )
        self.world = Atlas(exp.scale, gold_noise=exp.gold_noise, falsehoods=exp.falsehoods, favourite=exp.favourite)

    def teacher(self) -> LanguageModel | None:
        """None for a run without one, and where the run makes it (`KIN`)."""
        return None if self.experiment.teacher in ("none", *KIN) else models.teacher(self.experiment.teacher)

    def student(self, seed: int) -> LanguageModel:
        exp = self.experiment
        return models.student(exp.student, seed, architecture=exp.architecture, vocabulary=exp.vocabulary)

    def pool(self, source: LanguageModel) -> Signals:
        """What the teacher (or who stands in its place) says to the questions."""
        return Signals(source, unlabelled(self.experiment, self.world))

    def texts(self, source: LanguageModel) -> Generator[tuple[int, int], None, Sequences]:
        """What it writes, for students that learn from text alone; telling as it goes how much is written, and of how much."""
        return sequences_for(self.experiment, source, unlabelled(self.experiment, self.world), self.world)

    def text_pool(self, data: Sequences) -> TextPool:
        return TextPool(data, models.tokenizer(self.experiment.vocabulary))

    def feed(self, rows: Source | None) -> Feed:
        return Feed(self.experiment, paid(self.experiment, self.world), rows, models.tokenizer(self.experiment.vocabulary))

    def exam(self, teacher: LanguageModel | None) -> Exam:
        return Exam(self.world, teacher, vocabulary=self.experiment.vocabulary)

    def references(self) -> Iterable[ev.Event]:
        """Baselines on record."""
        return Store().references(self.experiment) if self.experiment.teacher != "none" else ()


class OwnSubject:
    """A learner's own models and data: a Hugging Face pair that shares a tokenizer, or any teacher's text for any student."""

    looks = False

    def __init__(self, experiment: Experiment) -> None:
        _plain(experiment)
        exp = self.experiment = pinned(experiment)
        path = unmarked(exp.data)
        rows = read_rows(path)
        self.problems, self.fingerprint = rows.problems, rows.fingerprint
        train, held = split(rows)
        self.train, self.held = [Prompt.of(row) for row in train], [Prompt.of(row) for row in held if row.response is not None]
        if not self.train or not self.held:
            raise LabError(
                f"{path} has {len(train)} prompts to learn from and {len(self.held)} with a response to be examined on: a fifth is "
                "held out, so give at least 20 prompts, and responses to some."
            )
        paid_for = [row for row in self.train if row.answers[0]]
        self.answered, self.gold = len(paid_for), paid_for[: exp.gold]
        if method(exp.method).gold_share(exp.mix) and not self.gold:
            raise LabError(
                f"method={exp.method!r} with mix={exp.mix:g} learns from gold responses, and {path} has none: add them, or set mix=0."
            )
        self.skills = (exp.score.partition(":")[0],)

    def teacher(self) -> LanguageModel | None:
        exp = self.experiment
        if exp.teacher == "none":
            return None
        found = pretrained.kept(exp.teacher, exp.longest) if named_model(exp.teacher) else models.teacher(exp.teacher)
        self._room_for_rows(found, gold=False)
        how, student = method(exp.method), self.reads
        if how.needs_signal and models.tokenizer_of(found).fingerprint != student.fingerprint:
            raise LabError(
                f"{exp.teacher} and {exp.student} have different tokenizers, and method={exp.method!r} compares them token by token: set "
                "method='sequence', which passes text alone."
            )
        return found

    @functools.cached_property
    def reads(self) -> Any:
        """The student's tokenizer."""
        exp = self.experiment
        if not named_model(exp.student):
            return models.tokenizer(exp.vocabulary)
        return pretrained.ChatTokenizer(pretrained.folder_of(exp.student), exp.student, exp.longest)

    def student(self, seed: int) -> LanguageModel:
        exp = self.experiment
        if exp.student in STUDENTS:
            return models.student(exp.student, seed)
        found = pretrained.load(exp.student, torch.float32, exp.longest).requires_grad_(True)
        self._room_for_rows(found, gold=True)
        return found

    def _room_for_rows(self, model: Any, gold: bool) -> None:
        """Raises `LabError`, before any work, for a row to learn from that is longer than the model has positions for: a prompt with the
        longest answer that may be written to it, or a row with its gold response."""
        own, how, lengths = models.tokenizer_of(model), method(self.experiment.method), list[tuple[int, str]]()
        if how.needs_signal or how.text:
            texts = [row.text for row in self.train[: self.experiment.questions]]
            lengths += [(len(ids) + own.longest, text) for text, ids in zip(texts, own.prompts(texts), strict=True)]
        if gold and how.gold_share(self.experiment.mix):
            texts, answers = [row.text for row in self.gold], own.answers([row.gold for row in self.gold])
            lengths += [(len(ids) + len(said), text) for text, ids, said in zip(texts, own.prompts(texts), answers, strict=True)]
        tokens, text = max(lengths, default=(0, ""))
        if hasattr(model, "chat") and tokens > model.config.max_position_embeddings:
            raise LabError(
                f"the row that begins {text[:40]!r} takes up to {tokens} tokens with its answer, and {unmarked(own.name)} has room for "
                f"{model.config.max_position_embeddings}: shorten it, or set longest={self.experiment.longest} lower."
            )

    def pool(self, source: LanguageModel) -> Signals:
        exp, asked = self.experiment, self.train[: self.experiment.questions]
        if exp.top_k and exp.signals == "cached":
            return TopKSignals(source, asked, k=exp.top_k, chunk=SMALL, temperature=0.0)
        return Signals(source, asked, chunk=SMALL, temperature=0.0)

    def texts(self, source: LanguageModel) -> Generator[tuple[int, int], None, Sequences]:
        return sequences_for(self.experiment, source, self.train[: self.experiment.questions], None)

    def text_pool(self, data: Sequences) -> TextPool:
        return TextPool(data, self.reads)

    def feed(self, rows: Source | None) -> Feed:
        return Feed(self.experiment, self.gold, rows, self.reads)

    def exam(self, teacher: LanguageModel | None) -> OwnExam:
        exp = self.experiment
        return _exam(tuple(self.held), teacher, exp.teacher, exp.score, exp.longest)

    def references(self) -> Iterable[ev.Event]:
        """Baselines on record."""
        return Store().references(self.experiment)


Subject = AtlasSubject | OwnSubject


@functools.lru_cache(maxsize=2)
def _exam(held: tuple[Prompt, ...], teacher: LanguageModel | None, name: str, score: str, longest: int) -> OwnExam:
    """One paper for several runs, so that a large teacher sits it once."""
    return OwnExam(held, teacher, score)


def subject_of(experiment: Experiment) -> Subject:
    """What a recipe is about. Raises `LabError` for a recipe whose parts do not go together, or data that cannot be read."""
    return OwnSubject(experiment) if experiment.data else AtlasSubject(experiment)


def _plain(exp: Experiment) -> None:
    """Raises `LabError` for knobs of the small world in a run on data of one's own."""
    small = {
        "faults": "none", "facts": 0, "assistant": "none", "generations": 1, "architecture": "llama", "vocabulary": "atlas", "leaked": 0.0,
        "left_out": "nothing", "gold_noise": 0.0, "falsehoods": 0.0, "favourite": 0.0,
    }  # fmt: skip
    for name, usual in small.items():
        if getattr(exp, name) != usual:
            raise LabError(
                f"{name}={getattr(exp, name)!r} belongs to the small world, and this run has data of your own: leave it at {usual!r}."
            )
    if exp.start != "random":
        raise LabError(f"start={exp.start!r} is for the lab's own students: a model of yours begins as it is; leave out start.")
    if exp.teacher in KIN or exp.method == "mutual":
        raise LabError(
            f"teacher={exp.teacher!r} with method={exp.method!r} is made in the small world only: leave out data, or name a model."
        )
    if exp.decoding in ("beam", "interpolated"):
        raise LabError(f"decoding={exp.decoding!r} is for the lab's own teachers: on data of your own choose 'greedy' or 'sample'.")
    if exp.keep in ("truth", "vote"):
        raise LabError(f"keep={exp.keep!r} asks Atlas what is true: on data of your own choose keep='all', 'confidence' or 'agreement'.")
    if exp.method == "online" and exp.top_k and exp.signals == "cached":
        raise LabError("a student's own answers cannot be in a cache of top-k signals: set signals='live', or top_k=0.")
