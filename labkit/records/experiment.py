"""The recipe of a run: one flat, frozen dataclass of names and numbers, from which controls, flags and text are derived.

A new knob is one new field here, with its label, range, unit and help; ipywidgets controls, command-line flags, the
paste-able recipe and the range checks follow from that one line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Collection, Iterable
from typing import Any, Literal, NamedTuple

from labkit.base.errors import LabError, unknown
from labkit.records.names import (
    ARCHITECTURES,
    CROSSINGS,
    DECODINGS,
    DIVERGENCES,
    FAULTS,
    FAVOURITE,
    HEADS,
    KEEP,
    LEFT_OUT,
    METHODS,
    STUDENTS,
    TAILS,
    TEACHERS,
    VOCABULARIES,
    WORLDS,
    named_model,
)
from labkit.records.rules import broken


class Knob(NamedTuple):
    """What a field of `Experiment` means to a person: label, unit, allowed values, help, and how it may be used.

    pattern: for a text that is not one of a few: what it must look like, as a regular expression.
    models: a model's name will do too: a folder or hub id, which has a slash in it, or one of `FETCHED`.
    several: any number of the choices may be taken, joined by "+"; "none" is none of them.
    hot: may be changed while a run is going.  identity: changes the outcome of a run, so it belongs to the record's key.
    """

    label: str
    help: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    log: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    several: bool = False
    models: bool = False
    hot: bool = False
    identity: bool = True


def knob(default: Any, label: str, help: str, **traits: Any) -> Any:
    return dataclasses.field(default=default, metadata={"knob": Knob(label, help, **traits)})


@dataclasses.dataclass(frozen=True, slots=True)
class Experiment:
    """A recipe: who teaches whom, with what, from which start. Raises `LabError` for a value outside its range."""

    temperature: float = knob(
        1.0,
        "Temperature",
        "Softens teacher and student before they are compared; the loss is multiplied by T squared, so that its gradient keeps its size.",
        low=0.25,
        high=20.0,
        log=True,
        hot=True,
    )
    mix: float = knob(
        0.0,
        "Gold mix",
        "Weight of the hard-label loss on gold labels; the rest goes to the teacher's soft labels.",
        low=0.0,
        high=1.0,
        hot=True,
    )
    learning_rate: float = knob(
        6e-3,
        "Learning rate",
        "Peak step size of AdamW; warms up over 30 steps, then falls along a cosine to a twentieth.",
        low=1e-5,
        high=0.1,
        log=True,
        hot=True,
    )
    student: str = knob(
        "200k",
        "Student size",
        "Parameters of the student, a small Llama; or, with data of your own, a model: a folder, a hub id or smollm2; or heads that read "
        "the teacher's states and guess its next tokens: medusa, medusa2 (which trains a copy of the teacher too), eagle, eagle3.",
        choices=(*STUDENTS, *HEADS),
        models=True,
    )
    start: str = knob(
        "random",
        "Start",
        "Where the student's weights begin: random; warm (300 steps of hard-label training on 20,000 gold questions); or copied "
        "(every so many of the teacher's own layers; needs equal widths).",
        choices=("random", "warm", "copied"),
    )
    gold: int = knob(
        300,
        "Gold labels",
        "Questions with a paid-for, true answer: what the label-budget baseline learns from, and what the gold mix adds.",
        unit="labels",
        low=1,
        high=1_000_000,
        log=True,
    )
    questions: int = knob(
        20_000,
        "Questions",
        "Unlabelled questions the teacher answers for the student.",
        unit="questions",
        low=128,
        high=1_000_000,
        log=True,
    )
    left_out: str = knob(
        "nothing",
        "Left out",
        "What is missing from the questions the teacher answers: a skill; a continent by name, never asked for or about; or every "
        "wording but the first. Gold labels and warm starts keep it.",
        choices=LEFT_OUT,
    )
    seed: int = knob(0, "Seed", "Sets the student's first weights and the order of questions.", low=0, high=2**31 - 1)
    speed: str = knob(
        "full",
        "Speed",
        "How fast the run may go; slower is easier to follow and changes nothing else.",
        choices=("full", "half", "slow"),
        hot=True,
        identity=False,
    )
    teacher: str = knob(
        "atlas-3m",
        "Teacher",
        "The model that answers the questions. sibling and stranger are made for a run, of the student's size: a warm start that was then "
        "taught one favourite answer to every question with many; the sibling began with the student's own weights. With data of your own: "
        "a folder, a hub id or smollm2.",
        choices=TEACHERS,
        models=True,
    )
    method: str = knob(
        "output",
        "Method",
        "output: match the teacher's distribution; answers: the teacher's sampled answers as hard labels; gold: true labels only; "
        "hidden, similarity, relations: output, and the teacher's states, their likenesses, or its attention's; "
        "sequence: hard labels on the teacher's text, decoded and filtered; online: output, partly on answers the student writes itself; "
        "mutual: no teacher, two students on the gold labels that also learn from each other; "
        "next_state: output, and the teacher's next state (eagle only).",
        choices=METHODS,
    )
    divergence: str = knob("forward_kl", "Divergence", "How two distributions are compared.", choices=DIVERGENCES)
    beta: float = knob(0.5, "Beta", "In jsd: the teacher's share of the mixture; 0 is forward KL, 1 reverse KL.", low=0.0, high=1.0)
    skew: float = knob(
        0.1, "Skew", "In skew_forward_kl and skew_reverse_kl: how much of the compared distribution is mixed in.", low=0.0, high=1.0
    )
    top_k: int = knob(0, "Top k", "Tokens a position that the teacher tells; 0 tells all.", unit="tokens", low=0, high=1_024)
    tail: str = knob("bucket", "Tail", "What stands for the teacher's other tokens; sampled: top k draws instead.", choices=TAILS)
    feature: float = knob(
        1.0, "Feature weight", "Weight of the term on the teacher's insides, beside the soft labels.", low=0.0, high=1_000.0, hot=True
    )
    layers: str = knob(
        "uniform",
        "Layers",
        "Which student layer looks at which of the teacher's: uniform, last, or pairs as in 1:2,3:6.",
        pattern=r"uniform|last|\d+:\d+(,\d+:\d+)*",
    )
    adapter: int = knob(
        0, "Adapter rank", "Train only a LoRA adapter of this rank, on a start worth keeping; 0 trains all weights.", low=0, high=64
    )
    on_policy: float = knob(
        0.5, "On-policy share", "Share of the questions that the student of an online run answers itself.", low=0.0, high=1.0, hot=True
    )
    sampling_temperature: float = knob(
        1.0,
        "Sampling temperature",
        "At which text is written: by the student of an online run, by the teacher in sequence. It has nothing to do with the loss.",
        low=0.0,
        high=5.0,
    )
    decoding: str = knob("greedy", "Decoding", "How the teacher writes the text of a sequence run.", choices=DECODINGS)
    samples: int = knob(1, "Samples", "Answers to each question of a sequence run that samples.", unit="answers", low=1, high=64)
    keep: str = knob("all", "Keep", "Which of the teacher's answers a sequence run keeps.", choices=KEEP)
    replay: float = knob(0.0, "Replay", "Share of the on-policy answers that were written earlier, and are read again.", low=0.0, high=1.0)
    signals: str = knob(
        "cached",
        "Signals",
        "cached: the teacher's states are kept in fp16 and reused; live: the teacher reads every batch again in full precision.",
        choices=("cached", "live"),
    )
    scale: str = knob("half", "World", "How much of the world is asked about.", choices=WORLDS)
    steps: int = knob(600, "Steps", "Optimiser steps.", unit="steps", low=1, high=1_000_000, log=True)
    batch: int = knob(128, "Batch", "Questions a step.", unit="questions", low=1, high=8192, log=True)
    gold_noise: float = knob(0.0, "Gold noise", "Chance that a gold label is wrong, at random.", low=0.0, high=1.0)
    falsehoods: float = knob(0.0, "Falsehoods", "Share of the plain facts whose gold label is always the same lie.", low=0.0, high=1.0)
    favourite: float = knob(
        0.0,
        "Favourite",
        f"Chance that the gold label of a question with many answers is one favourite instead ({FAVOURITE}), right or wrong.",
        low=0.0,
        high=1.0,
    )
    faults: str = knob(
        "none",
        "Faults",
        "Bugs of real training code, put into this run on purpose; several are joined by +, as in shuffled_cache+missing_end.",
        choices=FAULTS,
        several=True,
        hot=True,
    )

    facts: int = knob(
        0,
        "Facts",
        "Ask for a store of this many facts with one answer each, in one wording and equally often, and for nothing else; 0 asks for all "
        "there is. Questions and gold labels are then as many as the facts.",
        unit="facts",
        low=0,
        high=10_000,
    )
    assistant: str = knob(
        "none",
        "Teacher assistant",
        "A student of this size is distilled from the teacher first, on the same questions and steps, and then teaches in its place.",
        choices=("none", *STUDENTS),
    )
    architecture: str = knob(
        "llama",
        "Architecture",
        "What the student is made as, with about as many parameters at each size: a Llama, as its teacher is; gpt2; or recurrent.",
        choices=ARCHITECTURES,
    )
    online_from: float = knob(
        0.0,
        "Online from",
        "Share of the steps after which the student of an online run begins to write; before it, output distillation.",
        low=0.0,
        high=1.0,
    )
    vocabulary: str = knob(
        "atlas",
        "Vocabulary",
        "How the student cuts text into tokens: atlas, as its teacher does (1,024 tokens); other, as many learned from other text; small, "
        "384; bytes, one a token.",
        choices=VOCABULARIES,
    )
    across: str = knob(
        "spans",
        "Across vocabularies",
        "How soft labels reach a student with another vocabulary: spans, chunks: by the likelihood of shared spans, among shared tokens or "
        "by itself; mapped: by the tokens both have; uld: sorted probabilities; exact: summed over all segmentations; ids: by number, a "
        "fault.",
        choices=CROSSINGS,
    )
    leaked: float = knob(
        0.0,
        "Leaked exam",
        "Share of the questions the teacher answers that are the exam's own, word for word; nothing else of the recipe changes.",
        low=0.0,
        high=1.0,
    )
    generations: int = knob(
        1,
        "Generations",
        "How many students in a row: the first learns from the teacher, and each next one, of the same recipe, from the one before it; "
        "the last is looked at.",
        unit="generations",
        low=1,
        high=8,
    )
    data: str = knob(
        "",
        "Data",
        "Questions of your own, in place of Atlas: a JSONL, CSV or parquet file with prompts and, where known, responses. A fifth of the "
        "prompts is held out for the exam.",
        pattern=r"\S*",
    )
    score: str = knob(
        "exact",
        "Score",
        "How an answer to your own data is scored: a metric's name, with what it needs behind a colon, as in regex:^[A-Z]+$.",
        pattern=r"\S+",
    )
    precision: str = knob(
        "fp32",
        "Precision",
        "Arithmetic of the student's passes in training, whose weights stay fp32. bf16 is faster where the processor has it.",
        choices=("fp32", "bf16"),
    )
    longest: int = knob(48, "Longest answer", "Tokens an answer to your own data may take.", unit="tokens", low=1, high=4_096)
    ahead: int = knob(
        4, "Guesses ahead", "How many tokens beyond the teacher's own next one its heads guess.", unit="tokens", low=1, high=8
    )
    draft_vocabulary: int = knob(
        0,
        "Draft vocabulary",
        "Tokens that the teacher's heads can say, those most frequent in the training text; 0 for all.",
        unit="tokens",
        low=0,
        high=1_000_000,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, check(field.name, getattr(self, field.name)))

    # ---- variations --------------------------------------------------------------------------------------------------

    def but(self, **changes: Any) -> Experiment:
        """This recipe with some fields changed."""
        for name in changes:
            if name not in KNOBS:
                raise unknown("field", name, KNOBS)
        return dataclasses.replace(self, **changes)

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
            *(("ahead", "draft_vocabulary") if self.student in HEADS else ()),
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
        return dataclasses.asdict(self)

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
        return cls(**given_in_words(words))

    @classmethod
    def from_toml(cls, text: str) -> Experiment:
        return cls().but(**given_in_toml(text))

    @property
    def key(self) -> str:
        """Names the outcome: equal recipes, equal keys. Fields that do not change the outcome are left out, and so are those at
        their default, so that a field added later does not orphan the records made before it."""
        values = {k: v for k, v in self.to_dict().items() if KNOBS[k].knob.identity and v != KNOBS[k].default}
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()


class _Entry(NamedTuple):
    default: Any
    knob: Knob


KNOBS: dict[str, _Entry] = {f.name: _Entry(f.default, f.metadata["knob"]) for f in dataclasses.fields(Experiment)}

# Best of the rates tried with hard labels (LOG.md has the table; above 200k they are the teachers' own); the baselines use these.
# 284k and 815k lie between their neighbours. Heads: medusa and eagle have the best of those tried with
# soft labels on Atlas (300 steps, eagle3 200; one or two seeds); medusa2 is not tuned.
TUNED_RATE = {
    "3.3k": 6e-2, "7k": 5e-2, "12k": 5e-2, "22k": 3e-2, "57k": 2e-2, "200k": 6e-3,
    "284k": 5e-3, "815k": 3e-3, "900k": 3e-3, "1.5m": 2e-3, "3m": 2e-3,
    "medusa": 2e-2, "medusa2": 3e-3, "eagle": 1e-2, "eagle3": 5e-3,
}  # fmt: skip


def check(name: str, value: Any) -> Any:
    """`value` as this field's type. Raises `LabError` with the field, the range and the unit."""
    default, (label, text, unit, low, high, _, choices, pattern, several, models, *_) = KNOBS[name]
    if several:
        wanted = set(str(value).replace(" ", "").split("+")) - {"none", ""}
        if strange := sorted(wanted - set(choices)):
            raise unknown(name, strange[0], choices)
        return "+".join(choice for choice in choices if choice in wanted) or "none"
    spaced = any(letter.isspace() for letter in str(value))
    if spaced and ((models and named_model(str(value))) or name in ("data", "score")):
        mend = r"write \s for it in a regular expression" if name == "score" else "move what it names to a path without one"
        raise LabError(f"{name}={value!r} cannot be read: it has a space in it, which a recipe cannot hold: {mend}.")
    if models and named_model(str(value)):
        return str(value)
    if choices:
        for choice in choices:
            if str(value).casefold().replace("-", " ") == choice.casefold().replace("-", " "):
                return choice
        raise unknown(name, value, choices)
    if pattern:
        if not re.fullmatch(pattern, str(value)):
            raise LabError(f"{name}={value!r} cannot be read. {text}")
        return str(value)
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
            raise LabError(f"{name}={value!r} must be a whole number ({label}, {low:g} to {high:g} {unit}).".replace(" )", ")"))
        value = int(value)
    elif isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise LabError(f"{name}={value!r} must be a number ({label}, {low:g} to {high:g} {unit}).".replace(" )", ")"))
        value = float(f"{value:.6g}")  # as many digits as the recipe prints, so that a pasted recipe is the same recipe
    if not isinstance(default, str) and not low <= value <= high:
        raise LabError(f"{name}={value:g} is out of range: {label.lower()} goes from {low:g} to {high:g} {unit}".rstrip() + ".")
    return value


def given_in_words(words: Iterable[str]) -> dict[str, Any]:
    """The fields that are named as name=value. Raises `LabError` saying which cannot be read."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise LabError(f"cannot read {word!r} in the recipe: write name=value, as in temperature=2.")
        if name not in KNOBS:
            raise unknown("field", name, KNOBS)
        values[name] = parse(name, value)
    return values


def given_in_toml(text: str) -> dict[str, Any]:
    """The fields that the [experiment] table of a TOML text names. Raises `LabError` for what cannot be read."""
    try:
        return dict(tomllib.loads(text)["experiment"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise LabError(f"cannot read the TOML recipe: {error}. It needs an [experiment] table.") from None


def parse(name: str, text: str) -> Any:
    """A field's value from text, as typed on a command line or in a recipe."""
    default = KNOBS[name].default
    if isinstance(default, str):
        return text
    try:
        return float(text) if isinstance(default, float) else int(text.replace("_", ""))
    except ValueError:
        kind = "a number" if isinstance(default, float) else "a whole number"
        raise LabError(f"{name}={text!r} must be {kind}, as in {name}={default:g}.") from None
