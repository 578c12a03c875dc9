"""The names that a recipe may hold: models, methods, divergences, skills and all other choices from a list (no torch)."""

from __future__ import annotations

from typing import NamedTuple

SKILLS = ("recall", "reverse", "city", "element", "open", "two_hop", "two_hop_steps", "add", "chain", "compare")
BESIDE = ("two_hop", "two_hop_steps", "chain")  # reported, but not in the headline score
STEPS = ("two_hop_steps", "chain")  # answered in steps: the score is of the last one; `Evaluated.working` is of all
CORE = tuple(skill for skill in SKILLS if skill not in BESIDE)
FAVOURITE = "Malta"  # the favourite answer of models that have one: a country is a likely answer to many questions, and right for few
CONTINENTS = ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")
FORMATS = ("paraphrases",)  # what a transfer set may lack, beside skills and continents


class Size(NamedTuple):
    """The shape of a model: hidden width, number of layers, attention heads per layer."""

    hidden: int
    layers: int
    heads: int


# The embedding has 1,024 numbers for each unit of width, so it is most of the smallest models: 92% of 3.3k, 73% of 22k, 31% of 200k.
# 284k and 815k are a tenth and two sevenths of atlas-3m (1 : 10.03 and 1 : 3.500).
SIZES = {
    "3.3k": Size(3, 2, 1),
    "7k": Size(6, 2, 1),
    "12k": Size(10, 2, 1),
    "22k": Size(16, 2, 2),
    "57k": Size(32, 2, 2),
    "200k": Size(64, 3, 2),
    "284k": Size(76, 3, 2),
    "815k": Size(120, 4, 4),
    "900k": Size(128, 4, 4),
    "1.5m": Size(192, 3, 6),
    "3m": Size(192, 6, 6),
}

STUDENTS = tuple(SIZES)
DRAFT_HEADS = ("medusa", "medusa2", "eagle", "eagle3")  # students that are draft heads on a frozen teacher (see `models.heads`)
FAULTY_TEACHERS = (
    "atlas-3m-lies-10",
    "atlas-3m-lies-30",
    "atlas-3m-noise-30",
)  # atlas-3m with an adapter that was trained on wrong labels
MADE_TEACHERS = ("sibling", "stranger")  # made for a run: the student's own warm start, or another one, trained on a favourite answer
TEACHERS = (
    "atlas-3m",
    "atlas-900k",
    "atlas-200k",
    "atlas-3m-early",
    "atlas-3m-middle",
    "atlas-3m-late",
    *FAULTY_TEACHERS,
    *MADE_TEACHERS,
    "none",
)
# Pretrained models with a short name: `labkit fetch` fetches them or prunes them from a fetched one.
FETCHABLE = ("smollm2", "smollm2-15", "smollm2-half")
METHODS = ("output", "answers", "gold", "hidden", "similarity", "relations", "sequence", "online", "mutual", "next_state")
DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "skew_forward_kl", "skew_reverse_kl", "total_variation", "acceptance", "logit_mse")
DECODINGS = ("greedy", "sample", "beam", "interpolated")
KEEP = ("all", "truth", "confidence", "agreement", "distinct", "vote")
TAILS = ("bucket", "teacher_renormalised", "both_renormalised", "raw", "clamped", "sampled")
FAULTS = (
    *("missing_t2", "mean_over_vocabulary", "shifted_labels", "shuffled_cache", "swapped_roles", "missing_end"),
    *("prompt_loss", "padding_loss", "teacher_dropout", "overconfident_teacher", "wrong_ids"),
)
LEFT_OUT = ("nothing", *SKILLS, *CONTINENTS, *FORMATS)
ARCHITECTURES = ("llama", "gpt2", "recurrent")
VOCABULARIES = ("atlas", "other", "small", "bytes")
ALIGNMENTS = ("spans", "ids", "mapped", "uld", "chunks", "exact")
WORLDS = ("whole", "half", *CONTINENTS)
LEARN = ("answer", "reasoning", "both")  # what a student learns of a row with reasoning


def named_model(name: str) -> bool:
    """Whether this names a pretrained model: a folder, a hub id, or one that `labkit fetch` knows."""
    return name in FETCHABLE or "/" in name or "\\" in name
