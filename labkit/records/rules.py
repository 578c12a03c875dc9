"""Rules: combinations of knobs that cannot be, one row each, with the reason and a fix (no torch).

    [sentence for rule, sentence in broken(Experiment(vocabulary="bytes", method="hidden"))]
    refuse(experiment, "run", "trl")          # raises `LabError` with the first of them

Runs, sweeps, comparisons, the command line, the controls, failures and exported scripts check them. To add a rule, add a row to `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from labkit.base.errors import LabError
from labkit.records.names import DRAFT_HEADS, FAULTS, MADE_TEACHERS, METHODS, SIZES, named_model

Experiment = Any  # `records.experiment.Experiment`, whose file imports this one
TRL = "1.16.0"  # the version that exported scripts are written for, and tested against
HEARD = tuple(name for name in METHODS if name not in ("gold", "mutual"))  # methods that learn from a teacher
FEATURES = ("hidden", "similarity", "relations")
SOFT = ("output", *FEATURES, "online")  # methods that use the teacher's distribution
TEXT = ("gold", "answers", "sequence", "mutual")  # methods that need no distribution of another model's tokens, only text
OF_HEADS = ("gold", "answers", "output", "next_state")  # methods that draft heads can be trained with
HARD = ("gold", "answers", "sequence")  # methods that TRL's SFTTrainer has
# facts with one answer, by `scale`
STORES = {"whole": 2187, "half": 926, "Africa": 472, "Asia": 420, "Europe": 405, "North America": 247, "Oceania": 187, "South America": 184}
TOKENS = {"other": (1024, 622), "small": (384, 373), "bytes": (257, 257)}  # tokens of a vocabulary, and those that the teacher's has too


class Rule(NamedTuple):
    """A combination of knobs that cannot be, with the reason and a fix."""

    name: str
    breaks: Callable[[Any], Any]  # whether a recipe, as `_facts`, breaks the rule
    why: str  # the first half of the message, in which {e.NAME} is a fact of the recipe
    fix: str  # the second half
    of: str = "run"  # what the rule applies to: "run", "distill", "trl" (an exported script), or what a failure needs to be visible
    loaded: tuple[str, ...] = ()  # the facts about models and data that are needed to check it

    @property
    def at(self) -> str:
        """When it can be checked: "recipe", from the recipe alone, or "live", when models and data are loaded."""
        return "live" if self.loaded else "recipe"

    def broken_by(self, exp: Experiment) -> bool:
        """Whether a recipe breaks the rule, as far as the recipe alone shows."""
        e = _facts(exp, {})
        return all(getattr(e, fact) is not None for fact in self.loaded) and bool(self.breaks(e))


def _facts(exp: Experiment, known: Mapping[str, Any]) -> SimpleNamespace:
    """A recipe's fields, and facts that follow from them or are given in `known`. A fact that is not known is None.

    own, theirs, heard: sizes of the student, of its teacher, and of the model that it learns from (the teacher, an assistant or the
        student before).
    same_tokens: whether student and teacher have the same tokenizer.
    gold_rows: the number of gold responses.
    """
    own = SIZES.get(exp.student)
    theirs = own if exp.teacher in MADE_TEACHERS else SIZES.get(exp.teacher.removeprefix("atlas-").split("-")[0])
    facts = {"own": own, "theirs": theirs, "same_tokens": None, "gold_rows": None, **known}
    relay = f"assistant={exp.assistant!r}" if exp.assistant != "none" else f"generations={exp.generations}" if exp.generations > 1 else ""
    heard = facts["own"] if exp.generations > 1 else SIZES.get(exp.assistant, facts["theirs"])
    return SimpleNamespace(
        **exp.to_dict(),
        **facts,
        heard=heard,
        relay=relay,
        foreign=exp.vocabulary != "atlas",
        heads=exp.student in DRAFT_HEADS,
        bugs=set(exp.faults.split("+")) - {"none"},
        asks=exp.method in HEARD or exp.student in DRAFT_HEADS,
    )


def _faults_together() -> Iterator[Rule]:
    """Pairs of faults that cannot be distinguished in one run."""
    fewer = ("missing_t2", "mean_over_vocabulary", "shifted_labels", "shuffled_cache", "teacher_dropout", "overconfident_teacher")
    for one, other, why in (
        ("missing_t2", "mean_over_vocabulary", "both make the soft term too small, and the larger effect hides the other"),
        ("shifted_labels", "shuffled_cache", "with another question's signal there is no right position to shift from"),
        *((name, "swapped_roles", "with swapped roles the soft labels teach nothing, whatever else is wrong") for name in fewer),
    ):
        breaks = lambda e, pair={one, other}: pair <= e.bugs  # noqa: E731
        yield Rule(f"{one} and {other}", breaks, f"faults={{e.faults!r}} contradicts itself, since {why}", f"leave out {one} or {other}")


def _faults_across() -> Iterator[Rule]:
    """Faults that have no effect on a signal for another vocabulary."""
    for fault in FAULTS:
        if fault not in ("wrong_ids", "prompt_loss", "padding_loss"):
            breaks = lambda e, fault=fault: e.foreign and e.method == "output" and fault in e.bugs  # noqa: E731
            why = f"faults={fault!r} spoils a signal that is compared token by token, and vocabulary={{e.vocabulary!r}} has other tokens"
            yield Rule(f"{fault} across", breaks, why, "set vocabulary='atlas', or leave the fault out")


def _stay(where: str, when: Callable[[Any], Any], why: str, usual: Mapping[str, Any]) -> Iterator[Rule]:
    """Rules that some fields must have their usual values where `when` holds."""
    for name, value in usual.items():
        breaks = lambda e, name=name, value=value: when(e) and getattr(e, name) != value  # noqa: E731
        yield Rule(f"{where}: {name}", breaks, f"{name}={{e.{name}!r}} {why}", f"leave it at {value!r}")


def _lacks(name: str, breaks: Callable[[Any], Any], why: str, fix: str) -> Rule:
    """A rule about what TRL does not have."""
    return Rule(
        f"trl {name}", breaks, f"{name}={{e.{name}!r}} cannot be exported, since TRL {TRL} has {why}", f"set {name} to {fix}", "trl"
    )


# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("teacher", lambda e: e.method in HEARD and e.teacher == "none",
         "method={e.method!r} needs a teacher, and teacher='none'", "choose one, as in teacher='atlas-3m', or set method='gold'"),
    Rule("drawn tail", lambda e: e.top_k and e.tail == "sampled" and e.divergence != "forward_kl",
         "tail='sampled' estimates forward KL, not {e.divergence}", "choose divergence='forward_kl' or another tail"),
    Rule("whole vocabulary", lambda e: e.top_k and e.divergence == "logit_mse",
         "divergence='logit_mse' needs the whole vocabulary", "set top_k=0, or divergence='forward_kl'"),
    *_faults_together(),

    # ---- the teacher, and models between it and the student
    Rule("kin", lambda e: e.teacher in MADE_TEACHERS and (e.architecture != "llama" or e.foreign or e.relay),
         "teacher={e.teacher!r} is a Llama of the student's size with the Atlas tokenizer, and teaches the student directly",
         "set architecture='llama', vocabulary='atlas', assistant='none' and generations=1, or choose another teacher"),
    Rule("relay for nobody", lambda e: e.relay and (e.teacher == "none" or e.method not in HEARD),
         "{e.relay} needs a teacher and a student that learns from it, and this is teacher={e.teacher!r} with method={e.method!r}",
         "set assistant='none' and generations=1, or choose a teacher and method='output'"),
    Rule("two relays", lambda e: e.assistant != "none" and e.generations > 1,
         "assistant={e.assistant!r} and generations={e.generations} both put a student in the teacher's place",
         "set assistant='none' or generations=1"),
    Rule("relay's vocabulary", lambda e: e.relay and e.foreign,
         "{e.relay} makes a student the teacher of the next one, which needs the teacher's tokenizer, and vocabulary={e.vocabulary!r}",
         "set vocabulary='atlas'"),
    Rule("relay's architecture", lambda e: e.relay and e.architecture != "llama",
         "{e.relay} makes a student the teacher of the next one, which must be a Llama, and architecture={e.architecture!r}",
         "set architecture='llama'"),

    # ---- architecture and start of the student
    Rule("features", lambda e: e.architecture != "llama" and e.method in FEATURES,
         "method={e.method!r} compares hidden states of two Llamas, and architecture={e.architecture!r}",
         "choose architecture='llama', or method='output', which compares outputs only"),
    Rule("layers to copy", lambda e: e.architecture != "llama" and e.start == "copied",
         "start='copied' copies layers of the teacher, which is a Llama, and architecture={e.architecture!r}",
         "choose architecture='llama', or start='warm'"),
    Rule("maps to adapt", lambda e: e.architecture == "recurrent" and e.adapter,
         "adapter={e.adapter} adds a LoRA adapter to linear maps, and the units of architecture='recurrent' have none",
         "choose another architecture, or adapter=0"),
    Rule("room in gpt2", lambda e: e.architecture == "gpt2" and e.student in ("3.3k", "7k", "12k"),
         "architecture='gpt2' has no room for its layers in a student of {e.student} parameters",
         "take student='22k' or a larger one, or architecture='llama'"),
    Rule("nobody to copy", lambda e: e.start == "copied" and e.teacher == "none",
         "start='copied' copies the teacher's layers, and teacher='none'", "choose a teacher, or start='warm'"),
    Rule("copied tokens", lambda e: e.foreign and e.start == "copied",
         "start='copied' copies the teacher's embedding, and vocabulary={e.vocabulary!r} has other tokens", "set start='random' or 'warm'"),
    Rule("copied width", lambda e: e.start == "copied" and e.own[::2] != e.theirs[::2],
         "start='copied' needs a student of its teacher's width, and {e.own.hidden} is not {e.theirs.hidden}",
         "choose student='1.5m' with teacher='atlas-3m', or start='warm'", loaded=("own", "theirs")),
    Rule("layers", lambda e: e.method in FEATURES and not _has_layers(e),
         "layers={e.layers!r} names a layer that does not exist, since the student has {e.own.layers} and its teacher {e.heard.layers} "
         "(0 is the embedding)", "name others, or set layers='uniform'", loaded=("own", "heard")),
    Rule("adapter rank", lambda e: e.adapter and e.adapter >= e.own.hidden,
         "adapter={e.adapter} must be less than the student's width, {e.own.hidden}", "choose less, or adapter=0", loaded=("own",)),
    Rule("two whole students", lambda e: e.method == "mutual" and (e.start == "copied" or e.adapter),
         "method='mutual' trains all weights of two different students, so start={e.start!r} with adapter={e.adapter} cannot be",
         "set start='random' or 'warm', and adapter=0"),

    # ---- another vocabulary
    Rule("nothing to cross", lambda e: not e.foreign and e.across != "spans",
         "across={e.across!r} aligns soft labels with another vocabulary, and this student has its teacher's",
         "set vocabulary='other', or across='spans'"),
    Rule("no other ids", lambda e: not e.foreign and "wrong_ids" in e.bugs,
         "faults='wrong_ids' needs a student with another vocabulary, and this student has its teacher's",
         "set vocabulary='other' with across='ids', or leave out the fault"),
    Rule("token by token", lambda e: e.foreign and e.method not in ("output", *TEXT),
         "method={e.method!r} compares both models token by token, and vocabulary={e.vocabulary!r} has other tokens",
         "set method='output' with an alignment (across='spans'), or method='sequence', which needs only text"),
    Rule("text alone", lambda e: e.foreign and e.method in TEXT and (e.across != "spans" or "wrong_ids" in e.bugs),
         "method={e.method!r} needs only text, so it has no alignment", "leave out across and faults"),
    *_faults_across(),
    Rule("by number", lambda e: e.foreign and e.method == "output" and e.across == "ids" and "wrong_ids" not in e.bugs,
         "across='ids' compares token 300 of the teacher with token 300 of the student, and they are different strings",
         "choose across='spans'; or, to see what goes wrong, also set faults='wrong_ids'"),
    Rule("wrong ids", lambda e: e.foreign and e.method == "output" and e.across != "ids" and "wrong_ids" in e.bugs,
         "faults='wrong_ids' compares tokens by number, which is across='ids', and this is across={e.across!r}", "set across='ids'"),
    Rule("other logits", lambda e: e.foreign and e.method == "output" and e.divergence == "logit_mse",
         "divergence='logit_mse' needs the same logits on both sides", "across vocabularies choose divergence='forward_kl'"),
    Rule("top k across", lambda e: e.foreign and e.method in ("output", "mutual") and not _whole_text(e) and e.top_k > _compared(e),
         "top_k={e.top_k} keeps more tokens than method={e.method!r} with across={e.across!r} compares in vocabulary={e.vocabulary!r}",
         "set top_k=200, or top_k=0"),
    Rule("a distance of its own", lambda e: _whole_text(e) and e.divergence != "forward_kl",
         "across={e.across!r} has its own distance, so divergence={e.divergence!r} would have no effect",
         "leave it out, or set across='spans'"),
    Rule("a target of its own", lambda e: _whole_text(e) and e.top_k,
         "across={e.across!r} has its own distance, so top_k={e.top_k} would have no effect", "leave it out, or set across='spans'"),

    # ---- draft heads on a teacher
    Rule("EAGLE's states", lambda e: e.method == "next_state" and e.student != "eagle",
         "method='next_state' compares states that EAGLE predicts, and student={e.student!r} predicts none",
         "set student='eagle', or method='output'"),
    Rule("a target to read", lambda e: e.heads and e.teacher in ("none", *MADE_TEACHERS),
         "student={e.student!r} is draft heads on a frozen teacher, and teacher={e.teacher!r} is not available before the run",
         "name another teacher, as in teacher='atlas-3m'"),
    Rule("nothing for heads", lambda e: e.heads and e.method not in OF_HEADS,
         "method={e.method!r} cannot train student={e.student!r}, which is draft heads on a frozen teacher",
         f"choose {', '.join(OF_HEADS)}"),
    *_stay("heads", lambda e: e.heads, "does not go with student={e.student!r}, which is new draft heads on a frozen teacher",
           dict(start="random", adapter=0, architecture="llama", vocabulary="atlas", faults="none", assistant="none", generations=1,
                top_k=0)),
    Rule("medusa2's target", lambda e: e.student == "medusa2" and e.data,
         "student='medusa2' trains a copy of its teacher, which works on Atlas only", "set student='medusa', or leave out data"),
    Rule("heads alone", lambda e: e.heads,
         "student={e.student!r} is draft heads, which is no model to save by itself", "use labkit.record(...), or name a model", "distill"),

    # ---- the questions asked, and the text written
    Rule("store left out", lambda e: e.facts and e.left_out != "nothing" and e.asks,
         "facts={e.facts} asks for all facts of a store, so left_out={e.left_out!r} cannot be", "leave it out, or set facts=0"),
    Rule("store leaked into", lambda e: e.facts and e.leaked and e.asks,
         "facts={e.facts} asks for the facts of a store only, so leaked={e.leaked:g} cannot be", "set leaked=0, or facts=0"),
    Rule("store's world", lambda e: e.facts > STORES[e.scale],
         "facts={e.facts} is more than scale={e.scale!r} has with one answer",
         f"ask for fewer, or set scale='whole', which has {STORES['whole']}"),
    Rule("samples", lambda e: e.method == "sequence" and e.samples > 1 and e.decoding != "sample",
         "samples={e.samples} with decoding={e.decoding!r} would repeat the same answer", "set samples=1, or decoding='sample'"),
    Rule("agreement", lambda e: e.method == "sequence" and e.keep == "agreement" and e.samples < 2,
         "keep='agreement' needs several answers to a question, and samples={e.samples}", "set samples=5 with decoding='sample'"),

    # ---- your own models and data
    Rule("questions for the teacher", lambda e: not e.data and named_model(e.teacher),
         "teacher={e.teacher!r} is not one of the lab's models, and needs your own questions",
         "set data='mine.jsonl' (`labkit distill` does all of it), or choose one of the lab's models"),
    Rule("questions for the student", lambda e: not e.data and named_model(e.student),
         "student={e.student!r} is not one of the lab's models, and needs your own questions",
         "set data='mine.jsonl' (`labkit distill` does all of it), or choose one of the lab's models"),
    *_stay("own data", lambda e: e.data, "works only with the built-in Atlas task, and this run has your own data",
           dict(faults="none", facts=0, assistant="none", generations=1, architecture="llama", vocabulary="atlas", leaked=0.0,
                left_out="nothing", gold_noise=0.0, falsehoods=0.0, favourite=0.0)),
    Rule("own reasoning", lambda e: not e.data and e.learn != "answer",
         "learn={e.learn!r} is for your own rows with reasoning, and this run asks Atlas", "set data='mine.jsonl', or learn='answer'"),
    Rule("own template", lambda e: not e.data and e.template_option,
         "template_option={e.template_option!r} is for the chat template of your own models, and this run asks Atlas",
         "set data='mine.jsonl', or leave it out"),
    Rule("own start", lambda e: e.data and e.start != "random",
         "start={e.start!r} is for the lab's students, and your own model keeps its weights", "leave out start"),
    Rule("own teacher", lambda e: e.data and (e.teacher in MADE_TEACHERS or e.method == "mutual"),
         "teacher={e.teacher!r} with method={e.method!r} works only with the built-in Atlas task",
         "leave out data; or set method='output' and name a model as the teacher"),
    Rule("own decoding", lambda e: e.data and e.decoding in ("beam", "interpolated"),
         "decoding={e.decoding!r} works only with the lab's teachers", "with your own data choose 'greedy' or 'sample'"),
    Rule("own truth", lambda e: e.data and e.keep in ("truth", "vote"),
         "keep={e.keep!r} asks Atlas what is true", "with your own data choose keep='all', 'confidence' or 'agreement'"),
    Rule("own cache", lambda e: e.data and e.method == "online" and e.top_k and e.signals == "cached",
         "top_k={e.top_k} with signals='cached' stores the teacher's signals at known answers, and method='online' writes new ones",
         "set signals='live', or top_k=0"),
    Rule("one tokenizer", lambda e: e.method in HEARD and e.method != "sequence" and not e.same_tokens,
         "{e.teacher} and {e.student} have different tokenizers, and method={e.method!r} compares them token by token",
         "set method='sequence', which needs only text", loaded=("same_tokens",)),
    Rule("gold responses", lambda e: (e.mix or e.method not in HEARD) and not e.gold_rows,
         "method={e.method!r} with mix={e.mix:g} learns from gold responses, and {e.data} has none", "add them, or set mix=0",
         loaded=("gold_rows",)),

    # ---- what a failure needs to be visible
    Rule("store", lambda e: e.facts, "facts={e.facts} asks for all facts of a store, whatever the questions", "set facts=0", "questions"),
    Rule("distribution", lambda e: e.method not in SOFT,
         "method={e.method!r} does not use the teacher's distribution", "choose method='output'", "soft labels"),
    Rule("own tokens", lambda e: e.foreign, "vocabulary={e.vocabulary!r} has other tokens", "set vocabulary='atlas'", "soft labels"),
    Rule("alignment", lambda e: e.method != "output",
         "method={e.method!r} does not align soft labels with another vocabulary", "choose method='output'", "alignment"),
    Rule("asked", lambda e: e.method not in HEARD, "method={e.method!r} does not use a teacher", "choose method='output'", "teacher"),
    *(Rule(f"weight of {of}", lambda e: e.mix == 1, "mix=1 gives the teacher no weight", "set mix below 1", of)
      for of in ("soft labels", "alignment", "teacher")),
    Rule("heat", lambda e: e.temperature == 1, "T squared is 1 at T = 1", "set a temperature above 1", "heat"),
    Rule("mix", lambda e: e.mix == 0, "with soft labels alone Adam cancels the size of the loss", "set a gold mix above 0", "mix"),
    Rule("gold beside", lambda e: e.mix, "the gold labels still teach the student", "set the gold mix to 0", "soft labels alone"),
    Rule("features beside", lambda e: e.method in FEATURES,
         "the teacher's hidden states still teach the student", "choose method='output'", "soft labels alone"),

    # ---- what TRL does not have
    _lacks("method", lambda e: e.method not in ("output", "online", *HARD), "no such loss", "output, online, answers, sequence or gold"),
    _lacks("divergence", lambda e: e.method not in HARD and e.divergence not in ("forward_kl", "reverse_kl", "jsd"),
           "no such divergence", "forward_kl, reverse_kl or jsd"),
    _lacks("top_k", lambda e: e.method not in HARD and e.top_k,
           "no truncated signals in GKDTrainer, which uses the whole vocabulary", "0"),
    _lacks("mix", lambda e: e.mix and e.method != "gold", "no hard-label term beside the soft one in GKDTrainer", "0"),
    _lacks("student", lambda e: e.heads, "no trainer for draft heads", "a model, such as 200k"),
    _lacks("precision", lambda e: e.precision != "fp32", "bf16 for the loss as well, which the lab computes in fp32", "fp32"),
    _lacks("faults", lambda e: e.bugs, "none of the lab's faults", "none"),
    _lacks("architecture", lambda e: e.architecture != "llama", "no support for models that are not from transformers", "llama"),
    _lacks("vocabulary", lambda e: e.foreign and e.method not in ("gold", "sequence"),
           "no soft labels across tokenizers in GKDTrainer (its experimental GOLDTrainer has other alignments than ours)", "atlas"),
    _lacks("assistant", lambda e: e.assistant != "none", "no runs before the run", "none"),
    _lacks("generations", lambda e: e.generations > 1, "no runs before the run", "1"),
    _lacks("teacher", lambda e: e.teacher in MADE_TEACHERS, "no teacher that is made for the run", "another teacher, such as atlas-3m"),
    _lacks("online_from", lambda e: e.method == "online" and e.online_from, "one on-policy share for the whole run", "0"),
    _lacks("replay", lambda e: e.method == "online" and e.replay, "no buffer of the student's earlier answers", "0"),
    _lacks("sampling_temperature", lambda e: e.method == "online" and not e.sampling_temperature,
           "no greedy decoding of the student's answers", "more than 0, such as 1"),
)
# fmt: on


def _whole_text(e: SimpleNamespace) -> bool:
    """Whether the alignment has its own distance and takes neither a divergence nor a top k."""
    return e.foreign and e.method == "output" and e.across in ("uld", "chunks")


def _compared(e: SimpleNamespace) -> int:
    """The number of outcomes that are compared, including those that stand for all other tokens."""
    every, shared = TOKENS[e.vocabulary]
    return shared + {"spans": 2, "mapped": 1}[e.across] if e.method == "output" and e.across in ("spans", "mapped") else every


def _has_layers(e: SimpleNamespace) -> bool:
    """Whether both models have the layers that `layers` names."""
    pairs = [pair.split(":") for pair in e.layers.split(",") if ":" in pair]
    return all(int(student) <= e.own.layers and int(teacher) <= e.heard.layers for student, teacher in pairs)


def broken(exp: Experiment, *of: str, **known: Any) -> list[tuple[Rule, str]]:
    """The rules that a recipe breaks, each with its message, in the order of `RULES`.

    of: the `Rule.of` to check; "run" if none is given.
    known: facts of loaded models and data (see `_facts`). With them only the rules that need one of these are checked; without, all that
        can be checked from the recipe.
    """
    e = _facts(exp, known)
    rules = (rule for rule in RULES if rule.of in (of or ("run",)) and (not known or known.keys() & set(rule.loaded)))
    rules = (rule for rule in rules if all(getattr(e, fact) is not None for fact in rule.loaded))
    return [(rule, f"{rule.why}: {rule.fix}.".format(e=e)) for rule in rules if rule.breaks(e)]


def refuse(exp: Experiment, *of: str, **known: Any) -> None:
    """Raises `LabError` with the message of the first rule that a recipe breaks (see `broken`)."""
    for _, sentence in broken(exp, *of, **known):
        raise LabError(sentence)
