"""The recipe of a run: one flat, frozen dataclass of names and numbers, from which controls, flags and text are derived.

A new knob is one new field here, with its label, range, unit and help; ipywidgets controls, command-line flags, the
paste-able recipe and the range checks follow from that one line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection
from typing import Any, Literal

from labkit.base.errors import LabError, unknown
from labkit.records import names
from labkit.records.recipe_text import Entry, check, given_in_toml, given_in_words, knob
from labkit.records.rules import broken


class _Keyed:
    """A place for the key, which is worked out once."""

    __slots__ = ("_key",)
    _key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Experiment(_Keyed):
    """A recipe: who teaches whom, with what, from which start. Raises `LabError` for a value outside its range."""

    # fmt: off
    temperature: float = knob(1.0, "Temperature", "signal", low=0.25, high=20.0, log=True, hot=True,
        help="Softens teacher and student before they are compared; the loss is multiplied by T squared, so that its gradient keeps its "
             "size.")
    mix: float = knob(0.0, "Gold mix", "signal", low=0.0, high=1.0, hot=True,
        help="Weight of the hard-label loss on gold labels; the rest goes to the teacher's soft labels.")
    learning_rate: float = knob(6e-3, "Learning rate", "optimiser", low=1e-5, high=0.1, log=True, hot=True,
        help="Peak step size of AdamW; warms up over 30 steps, then falls along a cosine to a twentieth.")
    student: str = knob("200k", "Student size", "student", choices=(*names.STUDENTS, *names.DRAFT_HEADS), models=True,
        help="Parameters of the student, a small Llama; or, with data of your own, a model: a folder, a hub id or smollm2; or heads that"
             " read the teacher's states and guess its next tokens: medusa, medusa2 (which trains a copy of the teacher too), eagle, "
             "eagle3.")
    start: str = knob("random", "Start", "student", choices=("random", "warm", "copied"),
        help="Where the student's weights begin: random; warm (300 steps of hard-label training on 20,000 gold questions); or copied "
             "(every so many of the teacher's own layers; needs equal widths).")
    gold: int = knob(300, "Gold labels", "data", unit="labels", low=1, high=1_000_000, log=True,
        help="Questions with a paid-for, true answer: what the label-budget baseline learns from, and what the gold mix adds.")
    questions: int = knob(20_000, "Questions", "data", unit="questions", low=128, high=1_000_000, log=True,
        help="Unlabelled questions the teacher answers for the student.")
    left_out: str = knob("nothing", "Left out", "data", choices=names.LEFT_OUT, advanced=True,
        help="What is missing from the questions the teacher answers: a skill; a continent by name, never asked for or about; or every "
             "wording but the first. Gold labels and warm starts keep it.")
    seed: int = knob(0, "Seed", "student", low=0, high=2**31 - 1,
        help="Sets the student's first weights and the order of questions.")
    speed: str = knob("full", "Speed", "optimiser", choices=("full", "half", "slow"), hot=True, identity=False, advanced=True,
        help="How fast the run may go; slower is easier to follow and changes nothing else.")
    teacher: str = knob("atlas-3m", "Teacher", "teacher", choices=names.TEACHERS, models=True,
        help="The model that answers the questions. sibling and stranger are made for a run, of the student's size: a warm start that "
             "was then taught one favourite answer to every question with many; the sibling began with the student's own weights. With "
             "data of your own: a folder, a hub id or smollm2.")
    method: str = knob("output", "Method", "signal", choices=names.METHODS,
        help="output: match the teacher's distribution; answers: the teacher's sampled answers as hard labels; gold: true labels only; "
             "hidden, similarity, relations: output, and the teacher's hidden states, their similarities, or its attention relations; sequence: hard "
             "labels on the teacher's text, decoded and filtered; online: output, partly on answers the student writes itself; mutual: "
             "no teacher, two students on the gold labels that also learn from each other; next_state: output, and the teacher's next "
             "state (eagle only).")
    divergence: str = knob("forward_kl", "Divergence", "signal", choices=names.DIVERGENCES,
        help="How two distributions are compared.")
    beta: float = knob(0.5, "Beta", "signal", low=0.0, high=1.0, advanced=True,
        help="In jsd: the teacher's share of the mixture; 0 is forward KL, 1 reverse KL.")
    skew: float = knob(0.1, "Skew", "signal", low=0.0, high=1.0, advanced=True,
        help="In skew_forward_kl and skew_reverse_kl: how much of the compared distribution is mixed in.")
    top_k: int = knob(0, "Top k", "signal", unit="tokens", low=0, high=1_024,
        help="Tokens a position that the teacher tells; 0 tells all.")
    tail: str = knob("bucket", "Tail", "signal", choices=names.TAILS, advanced=True,
        help="What stands for the teacher's other tokens; sampled: top k draws instead.")
    feature: float = knob(1.0, "Feature weight", "signal", low=0.0, high=1_000.0, hot=True, advanced=True,
        help="Weight of the term on the teacher's hidden states, beside the soft labels.")
    layers: str = knob("uniform", "Layers", "signal", pattern=r"uniform|last|\d+:\d+(,\d+:\d+)*", advanced=True,
        help="Which student layer looks at which of the teacher's: uniform, last, or pairs as in 1:2,3:6.")
    adapter: int = knob(0, "Adapter rank", "student", low=0, high=64, advanced=True,
        help="Train only a LoRA adapter of this rank, on a start worth keeping; 0 trains all weights.")
    on_policy: float = knob(0.5, "On-policy share", "text", low=0.0, high=1.0, hot=True,
        help="Share of the questions that the student of an online run answers itself.")
    sampling_temperature: float = knob(1.0, "Sampling temperature", "text", low=0.0, high=5.0, advanced=True,
        help="At which text is written: by the student of an online run, by the teacher in sequence. It has nothing to do with the loss.")
    decoding: str = knob("greedy", "Decoding", "text", choices=names.DECODINGS, advanced=True,
        help="How the teacher writes the text of a sequence run.")
    samples: int = knob(1, "Samples", "text", unit="answers", low=1, high=64, advanced=True,
        help="Answers to each question of a sequence run that samples.")
    keep: str = knob("all", "Keep", "text", choices=names.KEEP, advanced=True,
        help="Which of the teacher's answers a sequence run keeps.")
    replay: float = knob(0.0, "Replay", "text", low=0.0, high=1.0, advanced=True,
        help="Share of the on-policy answers that were written earlier, and are read again.")
    signals: str = knob("cached", "Signals", "teacher", choices=("cached", "live"), advanced=True,
        help="cached: the teacher's states are kept in fp16 and reused; live: the teacher reads every batch again in full precision.")
    scale: str = knob("half", "World", "data", choices=names.WORLDS,
        help="How much of the world is asked about.")
    steps: int = knob(600, "Steps", "optimiser", unit="steps", low=1, high=1_000_000, log=True,
        help="Optimiser steps.")
    batch: int = knob(128, "Batch", "optimiser", unit="questions", low=1, high=8192, log=True,
        help="Questions a step.")
    gold_noise: float = knob(0.0, "Gold noise", "planted", low=0.0, high=1.0, advanced=True,
        help="Chance that a gold label is wrong, at random.")
    falsehoods: float = knob(0.0, "Falsehoods", "planted", low=0.0, high=1.0, advanced=True,
        help="Share of the plain facts whose gold label is always the same lie.")
    favourite: float = knob(0.0, "Favourite", "planted", low=0.0, high=1.0, advanced=True,
        help=f"Chance that the gold label of a question with many answers is one favourite instead ({names.FAVOURITE}), right or wrong.")
    faults: str = knob("none", "Faults", "planted", choices=names.FAULTS, several=True, hot=True, advanced=True,
        help="Bugs of real training code, put into this run on purpose; several are joined by +, as in shuffled_cache+missing_end.")
    facts: int = knob(0, "Facts", "data", unit="facts", low=0, high=10_000, advanced=True,
        help="Ask for a store of this many facts with one answer each, in one wording and equally often, and for nothing else; 0 asks "
             "for all there is. Questions and gold labels are then as many as the facts.")
    assistant: str = knob("none", "Teacher assistant", "teacher", choices=("none", *names.STUDENTS), advanced=True,
        help="A student of this size is distilled from the teacher first, on the same questions and steps, and then teaches in its place.")
    architecture: str = knob("llama", "Architecture", "student", choices=names.ARCHITECTURES,
        help="What the student is made as, with about as many parameters at each size: a Llama, as its teacher is; gpt2; or recurrent.")
    online_from: float = knob(0.0, "Online from", "text", low=0.0, high=1.0, advanced=True,
        help="Share of the steps after which the student of an online run begins to write; before it, output distillation.")
    vocabulary: str = knob("atlas", "Vocabulary", "student", choices=names.VOCABULARIES,
        help="How the student cuts text into tokens: atlas, as its teacher does (1,024 tokens); other, as many learned from other text; "
             "small, 384; bytes, one a token.")
    across: str = knob("spans", "Across vocabularies", "signal", choices=names.ALIGNMENTS, advanced=True,
        help="How soft labels reach a student with another vocabulary: spans, chunks: by the likelihood of shared spans, among shared "
             "tokens or by itself; mapped: by the tokens both have; uld: sorted probabilities; exact: summed over all segmentations; "
             "ids: by number, a fault.")
    leaked: float = knob(0.0, "Leaked exam", "planted", low=0.0, high=1.0, advanced=True,
        help="Share of the questions the teacher answers that are the exam's own, word for word; nothing else of the recipe changes.")
    generations: int = knob(1, "Generations", "teacher", unit="generations", low=1, high=8, advanced=True,
        help="How many students in a row: the first learns from the teacher, and each next one, of the same recipe, from the one before "
             "it; the last is looked at.")
    data: str = knob("", "Data", "data", pattern=r"\S*",
        help="Questions of your own, in place of Atlas: a JSONL, CSV or parquet file with prompts and, where known, responses. A fifth "
             "of the prompts is held out for the exam.")
    score: str = knob("exact", "Score", "data", pattern=r"\S+", advanced=True,
        help="How an answer to your own data is scored: a metric's name, with what it needs behind a colon, as in regex:^[A-Z]+$.")
    precision: str = knob("fp32", "Precision", "optimiser", choices=("fp32", "bf16"), advanced=True,
        help="Arithmetic of the student's passes in training, whose weights stay fp32. bf16 is faster where the processor has it.")
    longest: int = knob(48, "Longest answer", "data", unit="tokens", low=1, high=4_096, advanced=True,
        help="Tokens an answer to your own data may take.")
    ahead: int = knob(4, "Guesses ahead", "heads", unit="tokens", low=1, high=8, advanced=True,
        help="How many tokens beyond the teacher's own next one its heads guess.")
    draft_vocabulary: int = knob(0, "Draft vocabulary", "heads", unit="tokens", low=0, high=1_000_000, advanced=True,
        help="Tokens that the teacher's heads can say, those most frequent in the training text; 0 for all.")
    # fmt: on

    def __post_init__(self) -> None:
        for name, entry in KNOBS.items():
            if (value := getattr(self, name)) is not entry.default:
                object.__setattr__(self, name, check(name, value, entry))

    # ---- variations --------------------------------------------------------------------------------------------------

    def but(self, **changes: Any) -> Experiment:
        """This recipe with some fields changed."""
        for name in changes:
            if name not in KNOBS:
                raise unknown("field", name, KNOBS)
        made = object.__new__(Experiment)
        for name, entry in KNOBS.items():  # what does not change has been checked
            object.__setattr__(made, name, check(name, changes[name], entry) if name in changes else getattr(self, name))
        return made

    def baseline(self, name: Literal["label budget", "same questions"] = "label budget") -> Experiment:
        """The run this one is measured against: same student, initialisation, steps and batch.

        label budget: hard labels on the G gold questions one can afford. same questions: the teacher's sampled answers as
        hard labels on the very questions, so that the difference is what the softness of the labels adds.
        """
        if name not in ("label budget", "same questions"):
            raise unknown("baseline", name, ("label budget", "same questions"))
        same = (
            *("student", "architecture", "start", "seed", "teacher", "scale", "steps", "batch"),
            *("gold_noise", "falsehoods", "favourite", "facts", "vocabulary"),
            *(("data", "score", "longest", "adapter", "precision") if self.data else ()),
            *(("ahead", "draft_vocabulary") if self.student in names.DRAFT_HEADS else ()),
        )
        rate = self.learning_rate if self.data else TUNED_RATE.get(self.student, self.learning_rate)
        plain = Experiment(**{name: getattr(self, name) for name in same}, learning_rate=rate)
        if name == "label budget":
            return plain.but(method="gold", gold=self.gold)
        return plain.but(method="answers", questions=self.questions, left_out=self.left_out, leaked=self.leaked)

    def problems(self) -> list[str]:
        """The rules this recipe breaks, as sentences; none for a recipe that can be run."""
        return [sentence for _, sentence in broken(self)]

    # ---- text --------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in KNOBS}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Experiment:
        return cls().but(**values)

    @property
    def recipe(self) -> str:
        """A short string to paste anywhere: the fields that differ from the defaults."""
        return " ".join(["labkit", *self.words()])

    def words(self, also: Collection[str] = ()) -> list[str]:
        """The fields that differ from the defaults, and those that are named, as name=value."""
        told = [(k, v) for k, v in self.to_dict().items() if v != KNOBS[k].default or k in also]
        return [(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}").replace(" ", "-") for k, v in told]

    @classmethod
    def from_recipe(cls, text: str) -> Experiment:
        """The recipe behind a pasted string. Raises `LabError` saying which part cannot be read."""
        head, *words = text.strip().split() or [""]
        if head != "labkit":
            raise LabError(f"{text.strip()[:60]!r} is not a recipe: one begins with 'labkit', as in {cls(student='57k').recipe!r}.")
        return cls(**given_in_words(words, KNOBS))

    @classmethod
    def from_toml(cls, text: str) -> Experiment:
        return cls().but(**given_in_toml(text))

    @property
    def key(self) -> str:
        """Names the outcome: equal recipes, equal keys. Fields that do not change the outcome are left out, and so are those at
        their default, so that a field added later does not orphan the records made before it."""
        if not hasattr(self, "_key"):
            values = {k: v for k, v in self.to_dict().items() if KNOBS[k].knob.identity and v != KNOBS[k].default}
            digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8)
            object.__setattr__(self, "_key", digest.hexdigest())
        return self._key


KNOBS: dict[str, Entry] = {f.name: Entry(f.default, f.metadata["knob"]) for f in dataclasses.fields(Experiment)}

# Best of the rates tried with hard labels (LOG.md has the table; above 200k they are the teachers' own); the baselines use these.
# 284k and 815k lie between their neighbours. Heads: medusa and eagle have the best of those tried with
# soft labels on Atlas (300 steps, eagle3 200; one or two seeds); medusa2 is not tuned.
TUNED_RATE = {
    "3.3k": 6e-2, "7k": 5e-2, "12k": 5e-2, "22k": 3e-2, "57k": 2e-2, "200k": 6e-3,
    "284k": 5e-3, "815k": 3e-3, "900k": 3e-3, "1.5m": 2e-3, "3m": 2e-3,
    "medusa": 2e-2, "medusa2": 3e-3, "eagle": 1e-2, "eagle3": 5e-3,
}  # fmt: skip
