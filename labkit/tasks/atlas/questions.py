"""Relations with their wordings, facts, and questions about facts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import unicodedata
from typing import NamedTuple


class Relation(NamedTuple):
    """One kind of question."""

    skill: str
    wordings: tuple[str, ...]  # the first is the canonical one
    share: int = 1  # how often it is drawn, relative to the other relations of its skill; higher if there are more answers to learn


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

# How often each skill is drawn, relative to the others; facts and open questions need the most repetitions.
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
FACTS = ("capital", "continent", "currency", "capital_of", "city", "symbol", "number")  # relations to memorise, each with one right answer
ONE_ANSWER = tuple(dict.fromkeys(RELATIONS[name].skill for name in FACTS))  # the skills of these relations


class Fact(NamedTuple):
    """A fact that a question can be about."""

    relation: str
    subjects: tuple[str, ...]  # for the gaps of the relation's wordings
    answers: tuple[str, ...]  # the answers that are taught; the first is the only one if the question has a single answer

    @property
    def key(self) -> str:
        """Identifies the fact. Both forms of a two-hop question share the key, and so do sums and comparisons in any order."""
        relation = self.relation.removesuffix("_steps")
        subjects = sorted(self.subjects) if relation in ("add", "chain", "compare") else self.subjects
        return f"{relation}({', '.join(subjects)})"

    def says(self, name: str) -> bool:
        """Whether `name` is a subject or an answer, or one step of an answer."""
        return any(name in text.split(", ") for text in (*self.subjects, *self.answers))

    @property
    def held_out(self) -> bool:
        """True for one composition, sum or comparison in five. A hash of the key decides, so seed, scale and wording change nothing."""
        return RELATIONS[self.relation].skill in HELD_OUT_SKILLS and _in_fifth(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One question in one wording."""

    text: str
    fact: Fact
    gold: str  # the gold label; true unless the world has faults in its labels

    @property
    def skill(self) -> str:
        return RELATIONS[self.fact.relation].skill

    @property
    def answers(self) -> tuple[str, ...]:
        return self.fact.answers


def ask_about(fact: Fact, wording: int = 0) -> Question:
    """A question about `fact` with the true label. `wording` is an index into the relation's wordings; 0 is the canonical one."""
    return Question(RELATIONS[fact.relation].wordings[wording].format(*fact.subjects), fact, fact.answers[0])


@functools.lru_cache(maxsize=2**16)
def normalise(text: str) -> str:
    """Normal form of an answer: without accents, capitals, punctuation, a leading "the", and double spaces."""
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    text = re.sub(r"[^\w\s+=\x00]", "", text.replace("-", " "))
    return re.sub(r"\s+", " ", text).strip().removeprefix("the ")


@functools.cache
def _in_fifth(fact: Fact) -> bool:
    return stable_hash(fact.key) % 5 == 0  # cached: an exam needs it for all compositions, sums and comparisons


def stable_hash(text: str) -> int:
    """A 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
