"""The recipe of a run: one flat, frozen dataclass of names and numbers.

A new knob is one new field here, with its label, range, unit and help. The ipywidgets controls, the command-line flags, the recipe
string and the range checks are derived from it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Any, Literal

from labkit.base.errors import LabError, shown, unknown
from labkit.base.kinds import kinds_checked
from labkit.records import names
from labkit.records.recipe_text import Entry, check, given_in_toml, given_in_words, knob
from labkit.records.rules import broken


class _Keyed:
    """A slot for the key, which is computed once."""

    __slots__ = ("_key",)
    _key: str


@dataclasses.dataclass(frozen=True, slots=True)
class Experiment(_Keyed):
    """A recipe: all settings of a run. Two equal recipes are the same run. Raises `LabError` for a value outside its range."""

    # fmt: off
    temperature: float = knob(1.0, "Temperature", "signal", low=0.25, high=20.0, log=True, hot=True,
        help="Softens the distributions of teacher and student before they are compared. The loss is multiplied by T squared, so that "
             "its gradient keeps its size.")
    mix: float = knob(0.0, "Gold mix", "signal", low=0.0, high=1.0, hot=True,
        help="Weight of the hard-label loss on gold labels; the loss on the teacher's soft labels has the rest.")
    learning_rate: float = knob(6e-3, "Learning rate", "optimiser", low=1e-5, high=0.1, log=True, hot=True,
        help="Peak learning rate of AdamW. It warms up over 30 steps, then falls along a cosine to a twentieth.")
    student: str = knob("200k", "Student size", "student", choices=(*names.STUDENTS, *names.DRAFT_HEADS), models=True,
        help="Parameters of the student, a small Llama; or, with your own data, a model: a folder, a hub id or smollm2; or draft heads "
             "that read the teacher's states and predict its next tokens: medusa, medusa2 (which also trains a copy of the teacher), "
             "eagle, eagle3.")
    start: str = knob("random", "Start", "student", choices=("random", "warm", "copied"),
        help="The student's first weights: random; warm (after 300 steps of hard-label training on 20,000 gold labels); or copied "
             "(evenly spread layers of the teacher; needs equal widths).")
    gold: int = knob(300, "Gold labels", "data", unit="labels", low=1, high=1_000_000, log=True,
        help="Questions with a paid, true answer. The label-budget baseline learns from them, and the gold mix adds them.")
    questions: int = knob(20_000, "Questions", "data", unit="questions", low=128, high=1_000_000, log=True,
        help="Unlabelled questions that the teacher answers for the student: the transfer set.")
    left_out: str = knob("nothing", "Left out", "data", choices=names.LEFT_OUT, advanced=True,
        help="What the transfer set lacks: a skill; a continent by name, which is neither asked for nor about; or all wordings of a "
             "question but the first (paraphrases). Gold labels and warm starts keep it.")
    seed: int = knob(0, "Seed", "student", low=0, high=2**31 - 1,
        help="Determines the student's first weights and the order of questions.")
    speed: str = knob("full", "Speed", "optimiser", choices=("full", "half", "slow"), hot=True, identity=False, advanced=True,
        help="How fast the run may go. A slower run is easier to follow; nothing else changes.")
    teacher: str = knob("atlas-3m", "Teacher", "teacher", choices=names.TEACHERS, models=True,
        help="The model that answers the questions. sibling and stranger are made for a run, in the student's size: a warm start that "
             "was then taught one favourite answer to each question with many answers. The sibling began with the student's weights. With "
             "your own data: a folder, a hub id or smollm2.")
    method: str = knob("output", "Method", "signal", choices=names.METHODS,
        help="output: match the teacher's distribution; answers: the teacher's sampled answers as hard labels; gold: true labels only; "
             "hidden, similarity, relations: output, plus the teacher's hidden states, their similarities, or its attention relations; "
             "sequence: hard labels on the teacher's text, decoded and filtered; online: output, partly on answers that the student "
             "writes; mutual: no teacher, two students learn from gold labels and from each other; next_state: output, plus the "
             "teacher's next state (eagle only).")
    divergence: str = knob("forward_kl", "Divergence", "signal", choices=names.DIVERGENCES,
        help="How the distributions of teacher and student are compared.")
    beta: float = knob(0.5, "Beta", "signal", low=0.0, high=1.0, advanced=True,
        help="In jsd: the teacher's share of the mixture; 0 is forward KL, 1 reverse KL.")
    skew: float = knob(0.1, "Skew", "signal", low=0.0, high=1.0, advanced=True,
        help="In skew_forward_kl and skew_reverse_kl: the share of the first distribution that is mixed into the second.")
    top_k: int = knob(0, "Top k", "signal", unit="tokens", low=0, high=1_024,
        help="How many of the teacher's likeliest tokens are kept at each position; 0 keeps all.")
    tail: str = knob("bucket", "Tail", "signal", choices=names.TAILS, advanced=True,
        help="What is done with the probability outside the top k; sampled: as many draws from the teacher instead of the top k.")
    feature: float = knob(1.0, "Feature weight", "signal", low=0.0, high=1_000.0, hot=True, advanced=True,
        help="Weight of the feature-matching term, beside the soft labels.")
    layers: str = knob("uniform", "Layers", "signal", pattern=r"uniform|last|\d{1,4}:\d{1,4}(,\d{1,4}:\d{1,4})*", advanced=True,
        help="Which student layer is compared with which teacher layer: uniform, last, or pairs as in 1:2,3:6.")
    adapter: int = knob(0, "Adapter rank", "student", low=0, high=64, advanced=True,
        help="Train only a LoRA adapter of this rank, which suits a trained start; 0 trains all weights.")
    on_policy: float = knob(0.5, "On-policy share", "text", low=0.0, high=1.0, hot=True,
        help="In method=online: share of the questions that the student answers itself.")
    sampling_temperature: float = knob(1.0, "Sampling temperature", "text", low=0.0, high=5.0, advanced=True,
        help="Temperature of the student's answers in method=online and of the teacher's in method=sequence; not of the loss.")
    decoding: str = knob("greedy", "Decoding", "text", choices=names.DECODINGS, advanced=True,
        help="In method=sequence: how the teacher writes its answers.")
    samples: int = knob(1, "Samples", "text", unit="answers", low=1, high=64, advanced=True,
        help="In method=sequence with decoding=sample: answers to each question.")
    keep: str = knob("all", "Keep", "text", choices=names.KEEP, advanced=True,
        help="In method=sequence: which of the teacher's answers are kept.")
    replay: float = knob(0.0, "Replay", "text", low=0.0, high=1.0, advanced=True,
        help="In method=online: share of the student's answers that are taken from earlier steps.")
    signals: str = knob("cached", "Signals", "teacher", choices=("cached", "live"), advanced=True,
        help="cached: the teacher's states are stored in fp16 and reused; live: the teacher reads every batch again in full precision.")
    scale: str = knob("half", "World", "data", choices=names.WORLDS,
        help="The part of the world that the questions are about.")
    steps: int = knob(600, "Steps", "optimiser", unit="steps", low=1, high=1_000_000, log=True,
        help="Optimiser steps.")
    batch: int = knob(128, "Batch", "optimiser", unit="questions", low=1, high=8192, log=True,
        help="Questions per step.")
    gold_noise: float = knob(0.0, "Gold noise", "planted", low=0.0, high=1.0, advanced=True,
        help="Chance that a gold label is wrong, at random.")
    falsehoods: float = knob(0.0, "Falsehoods", "planted", low=0.0, high=1.0, advanced=True,
        help="Share of the plain facts whose gold label is always the same wrong answer.")
    favourite: float = knob(0.0, "Favourite", "planted", low=0.0, high=1.0, advanced=True,
        help=f"Chance that the gold label of a question with many answers is one favourite instead ({names.FAVOURITE}), right or wrong.")
    faults: str = knob("none", "Faults", "planted", choices=names.FAULTS, several=True, hot=True, advanced=True,
        help="Bugs of real training code that are switched on in this run; several are joined by +, as in shuffled_cache+missing_end.")
    facts: int = knob(0, "Facts", "data", unit="facts", low=0, high=10_000, advanced=True,
        help="Ask only for this many facts with one answer each, in one wording and equally often. Questions and gold labels are then as "
             "many as the facts. 0 asks for all there is.")
    assistant: str = knob("none", "Teacher assistant", "teacher", choices=("none", *names.STUDENTS), advanced=True,
        help="A student of this size is first distilled from the teacher, with the same questions and steps, and is then the teacher.")
    architecture: str = knob("llama", "Architecture", "student", choices=names.ARCHITECTURES,
        help="The student's architecture: llama, as its teacher; gpt2; or recurrent. At each size all have about as many parameters.")
    online_from: float = knob(0.0, "Online from", "text", low=0.0, high=1.0, advanced=True,
        help="In method=online: share of the steps after which the student begins to write; before it, as method=output.")
    vocabulary: str = knob("atlas", "Vocabulary", "student", choices=names.VOCABULARIES,
        help="The student's tokenizer: atlas, its teacher's (1,024 tokens); other, as many tokens, learned from other text; small, 384 "
             "tokens; bytes, one byte a token.")
    across: str = knob("spans", "Across vocabularies", "signal", choices=names.ALIGNMENTS, advanced=True,
        help="How soft labels are aligned with another vocabulary. spans: likelihoods of shared spans, beside shared tokens; chunks: "
             "likelihoods of shared spans alone; mapped: tokens that both have; uld: sorted probabilities; exact: sums over all "
             "segmentations; ids: by token number, a fault.")
    leaked: float = knob(0.0, "Leaked exam", "planted", low=0.0, high=1.0, advanced=True,
        help="Share of the transfer set that is replaced by the exam's questions, word for word; nothing else of the recipe changes.")
    generations: int = knob(1, "Generations", "teacher", unit="generations", low=1, high=8, advanced=True,
        help="How many students in a row: the first learns from the teacher, each later one, of the same recipe, from the one before. "
             "The last one is evaluated.")
    data: str = knob("", "Data", "data", pattern=r"\S*",
        help="Your own questions instead of Atlas: a JSONL, CSV or parquet file with prompts and, if known, responses. A fifth of the "
             "prompts is held out for the exam.")
    score: str = knob("exact", "Score", "data", pattern=r"\S+", advanced=True,
        help="How answers to your own data are scored: a metric's name, and what it needs after a colon, as in regex:^[A-Z]+$.")
    precision: str = knob("fp32", "Precision", "optimiser", choices=("fp32", "bf16"), advanced=True,
        help="Arithmetic of the student's passes in training; its weights stay fp32. bf16 is faster on processors that support it.")
    longest: int = knob(48, "Longest answer", "data", unit="tokens", low=1, high=4_096, advanced=True,
        help="The most tokens that an answer to your own data may have.")
    learn: str = knob("answer", "Learn", "data", choices=names.LEARN, advanced=True,
        help="What the student learns of your own rows with reasoning: the answer, the reasoning, or both. It is scored by its answer.")
    template_option: str = knob("", "Template option", "data", pattern=r"(\w+=\S+)?", advanced=True,
        help="Switches of your models' chat template, as in enable_thinking=false; several are joined by commas.")
    ahead: int = knob(4, "Guesses ahead", "heads", unit="tokens", low=1, high=8, advanced=True,
        help="How many tokens after the teacher's next one the draft heads predict.")
    draft_vocabulary: int = knob(0, "Draft vocabulary", "heads", unit="tokens", low=0, high=1_000_000, advanced=True,
        help="Tokens that the draft heads can predict, the most frequent ones of the training text; 0 for all.")
    # fmt: on

    def __post_init__(self) -> None:
        for name, entry in KNOBS.items():
            if (value := getattr(self, name)) is not entry.default:
                object.__setattr__(self, name, check(name, value, entry))

    @classmethod
    def of(cls, given: Any) -> Experiment:
        """The recipe that a caller gives, the default one for None. Raises `LabError` for anything else, as a name or a recipe's text."""
        if isinstance(given, cls | None):
            return given or cls()
        name = given if isinstance(given, str) else ""
        field = next((field for field, entry in KNOBS.items() if name in entry.knob.choices), "student")
        value = name if name in KNOBS[field].knob.choices else "57k"
        whole = f"Experiment.from_recipe({shown(name)})" if name.startswith("labkit") else f"Experiment({field}={value!r})"
        raise LabError(f"{shown(given)} is not a recipe: give one, as in {whole}.")

    # ---- variations --------------------------------------------------------------------------------------------------

    def but(self, **changes: Any) -> Experiment:
        """This recipe with some fields changed. Raises `LabError` for an unknown field or a value outside its range."""
        _known(changes)
        made = object.__new__(Experiment)
        for name, entry in KNOBS.items():  # unchanged values were checked before
            object.__setattr__(made, name, check(name, changes[name], entry) if name in changes else getattr(self, name))
        return made

    @kinds_checked
    def baseline(self, name: Literal["label budget", "same questions"] = "label budget") -> Experiment:
        """The baseline of this run: the same student, initialisation, steps and batch, trained without soft labels.

        name: "label budget" trains on the run's gold labels; "same questions" on the teacher's sampled answers to the same questions as
            hard labels, so that the difference is what soft labels add.

        Raises `LabError` for another name.
        """
        if name not in ("label budget", "same questions"):
            raise unknown("baseline", name, ("label budget", "same questions"))
        same = (
            *("student", "architecture", "start", "seed", "teacher", "scale", "steps", "batch"),
            *("gold_noise", "falsehoods", "favourite", "facts", "vocabulary"),
            *(("data", "score", "longest", "learn", "template_option", "adapter", "precision") if self.data else ()),
            *(("ahead", "draft_vocabulary") if self.student in names.DRAFT_HEADS else ()),
        )
        rate = self.learning_rate if self.data else TUNED_RATE.get(self.student, self.learning_rate)
        plain = Experiment(**{name: getattr(self, name) for name in same}, learning_rate=rate)
        if name == "label budget":
            return plain.but(method="gold", gold=self.gold)
        return plain.but(method="answers", questions=self.questions, left_out=self.left_out, leaked=self.leaked)

    def problems(self) -> list[str]:
        """The rules that this recipe breaks, as sentences; empty for a recipe that can be run."""
        return [sentence for _, sentence in broken(self)]

    # ---- text --------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return {name: getattr(self, name) for name in KNOBS}

    @classmethod
    @kinds_checked
    def from_dict(cls, values: dict[str, Any]) -> Experiment:
        """The recipe with these fields; the others have their defaults. Raises `LabError` as `but` does."""
        _known(values.keys())  # also those that are no texts, which `but` cannot be given
        return cls().but(**values)

    @property
    def recipe(self) -> str:
        """The recipe as a short string: the fields that differ from the defaults."""
        return " ".join(["labkit", *self.words()])

    def words(self, also: Collection[str] = ()) -> list[str]:
        """The fields that differ from the defaults, and those named in `also`, as name=value."""
        fields = [(k, v) for k, v in self.to_dict().items() if v != KNOBS[k].default or k in also]
        return [(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}").replace(" ", "-") for k, v in fields]

    @classmethod
    @kinds_checked
    def from_recipe(cls, text: str) -> Experiment:
        """The recipe of a string. Raises `LabError` with the part that cannot be read."""
        head, *words = text.strip().split() or [""]
        if head != "labkit":
            raise LabError(f"{shown(text.strip())} is not a recipe: begin it with 'labkit', as in {cls(student='57k').recipe!r}.")
        return cls(**given_in_words(words, KNOBS))

    @classmethod
    @kinds_checked
    def from_toml(cls, text: str) -> Experiment:
        """The recipe in the [experiment] table of a TOML text. Raises `LabError` for what cannot be read."""
        return cls().but(**given_in_toml(text))

    @property
    def key(self) -> str:
        """A hash of the fields that change the outcome: equal recipes have equal keys. Fields at their default are left out, so that
        older records keep their keys when a field is added."""
        if not hasattr(self, "_key"):
            values = {k: v for k, v in self.to_dict().items() if KNOBS[k].knob.identity and v != KNOBS[k].default}
            digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8)
            object.__setattr__(self, "_key", digest.hexdigest())
        return self._key


def _known(fields: Iterable[object]) -> None:
    """Raises `LabError` for a field that there is not."""
    for name in fields:
        if name not in KNOBS:
            raise unknown("field", name, KNOBS)


def _named(init: Any) -> Any:
    """The constructor, with the nearest name for a field that there is not."""

    @functools.wraps(init)
    def construct(self: Experiment, *values: Any, **fields: Any) -> None:
        _known(fields)
        init(self, *values, **fields)

    return construct


Experiment.__init__ = _named(Experiment.__init__)  # type: ignore[method-assign]
KNOBS: dict[str, Entry] = {f.name: Entry(f.default, f.metadata["knob"]) for f in dataclasses.fields(Experiment)}

# Learning rates of the baselines: the best of those tried with hard labels (table in LOG.md); above 200k those of the teachers.
# Those of 284k and 815k lie between their neighbours'. Draft heads: medusa, eagle and eagle3 have the best of those tried with soft
# labels on Atlas (300 steps, eagle3 200; one or two seeds); medusa2 is not tuned.
TUNED_RATE = {
    "3.3k": 6e-2, "7k": 5e-2, "12k": 5e-2, "22k": 3e-2, "57k": 2e-2, "200k": 6e-3,
    "284k": 5e-3, "815k": 3e-3, "900k": 3e-3, "1.5m": 2e-3, "3m": 2e-3,
    "medusa": 2e-2, "medusa2": 3e-3, "eagle": 1e-2, "eagle3": 5e-3,
}  # fmt: skip
