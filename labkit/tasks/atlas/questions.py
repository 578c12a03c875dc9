"""What can be asked of Atlas: relations with their wordings, facts, and questions about them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import unicodedata
from typing import NamedTuple


class Relation(NamedTuple):
    """One kind of question: the skill it exercises, its wordings (the first is the canonical one), and how often it is asked
    beside the other relations of its skill: the more answers there are to learn, the oftener."""

    skill: str
    wordings: tuple[str, ...]
    share: int = 1


RELATIONS: dict[str, Relation] = {
    "capital": Relation("recall", ("What is the capital of {}?", "Tell me the capital city of {}.")),
    "continent": Relation("recall", ("Which continent is {} in?", "{} lies on which continent?")),
    "currency": Relation("recall", ("What currency is used in {}?", "How do people pay in {}?")),
    "capital_of": Relation("reverse", ("{} is the capital of which country?", "Which country has the capital {}?")),
    "city": Relation("city", ("In which country is {}?", "{} is a city in which country?")),
    "symbol": Relation("element", ("What is the symbol of {}?", "Give the chemical symbol for {}.")),
    "number": Relation("element", ("What is the atomic number of {}?", "How many protons does {} have?")),
    "neighbour": Relation("open", ("Name a neighbour of {}.", "Which country borders {}?"), 3),
    "city_of": Relation("open", ("Name a city in {}.", "Give me one city of {}."), 4),
    "country_in": Relation("open", ("Name a country in {}.", "Give me one country of {}.")),
    "user_of": Relation("open", ("Name a country that uses the {}.", "Where do people pay with the {}?")),
    "city_continent": Relation("two_hop", ("On which continent is {}?", "{} is a city on which continent?"), 2),
    "capital_currency": Relation(
        "two_hop", ("What currency is used where {} is the capital?", "How do people pay where {} is the capital?")
    ),
    "city_continent_steps": Relation("two_hop_steps", ("Think: on which continent is {}?", "Think: {} is a city on which continent?"), 2),
    "capital_currency_steps": Relation(
        "two_hop_steps",
        ("Think: what currency is used where {} is the capital?", "Think: how do people pay where {} is the capital?"),
    ),
    "add": Relation("add", ("What is {} + {}?", "How much is {} plus {}?")),
    "chain": Relation("chain", ("Add {}, {} and {}.", "What is the sum of {}, {} and {}?")),
    "compare": Relation("compare", ("Which has more people, {} or {}?", "Is {} or {} more populous?")),
}

# How often each skill comes up among the questions asked; facts and open questions need the most exposures.
SHARES = {
    "recall": 5.0,
    "reverse": 2.0,
    "city": 4.0,
    "element": 2.0,
    "open": 8.0,
    "two_hop": 2.0,
    "two_hop_steps": 3.0,
    "add": 4.0,
    "chain": 3.0,
    "compare": 4.0,
}
HELD_OUT_SKILLS = ("two_hop", "two_hop_steps", "add", "chain", "compare")
FACTS = ("capital", "continent", "currency", "capital_of", "city", "symbol", "number")  # relations known by heart, one right answer each
ONE_ANSWER = tuple(dict.fromkeys(RELATIONS[name].skill for name in FACTS))  # the skills that ask for them


class Fact(NamedTuple):
    """Something that can be asked: `answers` are the ones taught, the first being what a single-answer question wants."""

    relation: str
    subjects: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names the fact, not the wording: both forms of a two-hop share it, and so do sums in any order."""
        relation = self.relation.removesuffix("_steps")
        subjects = sorted(self.subjects) if relation in ("add", "chain", "compare") else self.subjects
        return f"{relation}({', '.join(subjects)})"

    def says(self, name: str) -> bool:
        """Whether this name is in its question or in an answer, as a whole or as one of the steps."""
        return any(name in text.split(", ") for text in (*self.subjects, *self.answers))

    @property
    def held_out(self) -> bool:
        """True for one composition, sum or comparison in five: by hash, so no seed, scale or wording can leak it."""
        return RELATIONS[self.relation].skill in HELD_OUT_SKILLS and _in_fifth(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One question as asked. `gold` is the label handed out with it: true unless noise or a planted falsehood got in."""

    text: str
    fact: Fact
    gold: str

    @property
    def skill(self) -> str:
        return RELATIONS[self.fact.relation].skill

    @property
    def answers(self) -> tuple[str, ...]:
        return self.fact.answers


def ask_about(fact: Fact, wording: int = 0) -> Question:
    """A fact as a question, in its canonical wording unless another is asked for, with the true label."""
    return Question(RELATIONS[fact.relation].wordings[wording].format(*fact.subjects), fact, fact.answers[0])


@functools.lru_cache(maxsize=2**16)
def normalise(text: str) -> str:
    """What two spellings of one answer share: no accents, case, punctuation, leading "the" or doubled spaces."""
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    text = re.sub(r"[^\w\s+=\x00]", "", text.replace("-", " "))
    return re.sub(r"\s+", " ", text).strip().removeprefix("the ")


@functools.cache
def _in_fifth(fact: Fact) -> bool:
    return stable_hash(fact.key) % 5 == 0  # worked out once: an exam asks it of all compositions, sums and comparisons there are


def stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
