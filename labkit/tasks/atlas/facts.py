"""Atlas, the small world: questions about real countries, cities and elements, and arithmetic. Everyone can check the answers.

    world = Atlas("half")
    world.questions(3, seed=0)            # questions to train on
    world.exam(per_skill=40)              # exam questions: their compositions and sums are in no training set
    world.is_right(question, "Lima")      # compares with the facts, not with the teacher
    world.working(question, "Peru, Sol")  # whether every step is right, for questions that are answered in steps

To add a skill, add rows to `RELATIONS` and the facts behind them in `Atlas._facts_of`.
Tables: GeoNames (CC BY 4.0) and periodictable; see `data/atlas/README.md`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import re
from collections.abc import Iterable, Sequence

from labkit.base.errors import LabError, shown, unknown
from labkit.base.kinds import kinds_checked
from labkit.records.names import CONTINENTS, FAVOURITE, LEFT_OUT, SKILLS, WORLDS
from labkit.tasks.atlas.questions import FACTS, HELD_OUT_SKILLS, RELATIONS, SHARES, Fact, Question, ask_about, normalise, stable_hash
from labkit.tasks.atlas.tables import Country, places, tables

PARAPHRASED = 0.15  # share of the training questions that use a paraphrase
LISTED_CITIES = 4  # cities of a country that are taught; all others of GeoNames are right too
ADDENDS, CHAINED = range(50), range(1, 20)
SUM = re.compile(r"\s*{0}\s*\+\s*{0}\s*=\s*{0}\s*".format(r"(0|[1-9][0-9]{0,8})"))  # one step of a chain


@functools.cache
def _facts_at(scale: str) -> dict[str, list[Fact]]:
    """Cache of the facts of one scale, by relation. Label faults do not change them, so all worlds of a scale share it."""
    return {}


@kinds_checked
class Atlas:
    """The world at one `scale`, with optional faults in its gold labels.

    scale: "whole" (195 countries, over 1,100 cities, 118 elements), "half" (countries of over 5 million people, their three
        largest cities, 50 elements), or one continent. Whether an answer is right is always decided by the whole world.
    gold_noise: probability that a gold label is the answer to another question, drawn for each question.
    falsehoods: share of the facts in `FACTS` whose gold label is always the same wrong answer (a systematic fault). Computed answers,
        such as sums, and questions with many answers never get one.
    favourite: probability that the gold label of a question with many answers is `FAVOURITE`, right or wrong.

    Raises `LabError` for an unknown scale, or a share outside [0, 1].
    """

    def __init__(self, scale: str = "whole", *, gold_noise: float = 0.0, falsehoods: float = 0.0, favourite: float = 0.0) -> None:
        if scale not in WORLDS:
            raise unknown("scale", scale, WORLDS)
        for name, value in (("gold_noise", gold_noise), ("falsehoods", falsehoods), ("favourite", favourite)):
            if not 0 <= value <= 1:
                raise LabError(f"{name}={shown(value)} must be a share: give a number from 0 (none) to 1 (all).")
        self.scale, self.gold_noise, self.falsehoods, self.favourite = scale, gold_noise, falsehoods, favourite
        self._world, cities, elements, self._aliases = tables()
        self.countries = [c for c in self._world.values() if self._within(c)]
        inside = {c.iso for c in self.countries}
        kept: dict[str, int] = {}
        self.cities = []
        for city in cities:  # most populous first
            kept[city.iso] = kept.get(city.iso, 0) + 1
            if city.iso in inside and (scale == "whole" or kept[city.iso] <= 3):
                self.cities.append(city)
        self.elements = elements if scale == "whole" else elements[:50]
        self._cities_of: dict[str, list[str]] = {}
        for city in cities:
            self._cities_of.setdefault(city.iso, []).append(city.name)
        self._facts = _facts_at(scale)
        self._index: dict[str, dict[tuple[str, ...], Fact]] = {}

    def __repr__(self) -> str:
        return f"Atlas({self.scale!r}: {len(self.countries)} countries, {len(self.cities)} cities, {len(self.elements)} elements)"

    def _within(self, country: Country) -> bool:
        if self.scale == "whole":
            return True
        return country.population > 5_000_000 if self.scale == "half" else country.continent == self.scale

    # ---- facts -----------------------------------------------------------------------------------------------------

    def facts(self, relation: str) -> list[Fact]:
        """All facts of a relation at this scale, in a fixed order. Raises `LabError` for an unknown relation."""
        if relation not in RELATIONS:
            raise unknown("relation", relation, RELATIONS)
        if relation not in self._facts:
            pairs = self._facts_of(relation)
            self._facts[relation] = [Fact(relation, subjects, answers) for subjects, answers in pairs if answers]
        return self._facts[relation]

    def _facts_of(self, relation: str) -> Iterable[tuple[tuple[str, ...], tuple[str, ...]]]:
        world, here = self._world, self.countries
        match relation:
            case "capital" | "continent" | "currency":
                return [((c.name,), (getattr(c, relation),)) for c in here]
            case "capital_of":
                return [((c.capital,), (c.name,)) for c in here]
            case "city":
                return [((c.name,), (world[c.iso].name,)) for c in self.cities]
            case "symbol":
                return [((e.name,), (e.symbol,)) for e in self.elements]
            case "number":
                return [((e.name,), (str(e.number),)) for e in self.elements]
            case "neighbour":
                return [((c.name,), tuple(world[n].name for n in c.neighbours)) for c in here]
            case "city_of":
                return [((c.name,), tuple(self._cities_of.get(c.iso, ())[:LISTED_CITIES])) for c in here]
            case "country_in":
                names = dict.fromkeys(c.continent for c in here)
                return [((n,), tuple(c.name for c in world.values() if c.continent == n)) for n in names]
            case "user_of":
                names = dict.fromkeys(c.currency for c in here)
                return [((n,), tuple(c.name for c in world.values() if c.currency == n)) for n in names]
            case "city_continent":
                return [((c.name,), (world[c.iso].continent,)) for c in self.cities]
            case "city_continent_steps":
                return [((c.name,), (f"{world[c.iso].name}, {world[c.iso].continent}",)) for c in self.cities]
            case "capital_currency":
                return [((c.capital,), (c.currency,)) for c in here]
            case "capital_currency_steps":
                return [((c.capital,), (f"{c.name}, {c.currency}",)) for c in here]
            case "add":
                return [((str(a), str(b)), (str(a + b),)) for a, b in itertools.product(ADDENDS, ADDENDS)]
            case "chain":
                triples = itertools.product(CHAINED, CHAINED, CHAINED)
                return [((str(a), str(b), str(c)), (f"{a}+{b}={a + b}, {a + b}+{c}={a + b + c}",)) for a, b, c in triples]
            case "compare":
                pairs = itertools.permutations(here, 2)
                return [((a.name, b.name), ((a if a.population > b.population else b).name,)) for a, b in pairs]
        raise AssertionError(relation)

    # ---- questions -------------------------------------------------------------------------------------------------

    def questions(self, n: int, seed: int, skills: Sequence[str] = SKILLS, left_out: str = "nothing") -> list[Question]:
        """Draw `n` training questions. Held-out facts are never drawn; the same seed gives the same questions.

        left_out: a skill; or a continent, whose name is then in no question and no answer; or "paraphrases", so that every question
            has its canonical wording.

        Raises `LabError` for an unknown skill or `left_out`, for fewer than no questions, or if none is left.
        """
        if n < 0:
            raise LabError(f"n={n} must be 0 or more: it is the number of questions.")
        for skill in skills:
            if skill not in SKILLS:
                raise unknown("skill", skill, SKILLS)
        if left_out not in LEFT_OUT:
            raise unknown("left_out", left_out, LEFT_OUT)
        rng = random.Random(f"questions {self.scale} {seed}")
        askable = [name for name in RELATIONS if left_out not in CONTINENTS or not all(f.says(left_out) for f in self.facts(name))]
        relations = {s: [(name, RELATIONS[name].share) for name in askable if RELATIONS[name].skill == s] for s in skills}
        skills = [s for s in skills if relations[s] and s != left_out]
        if not skills:
            raise LabError(f"left_out={left_out!r} leaves no question to ask in {self.scale!r}: leave out less, or ask other skills.")
        asked = []
        for skill in rng.choices(skills, [SHARES[s] for s in skills], k=n):
            while True:
                named, shares = zip(*relations[skill], strict=True)
                fact = rng.choice(self.facts(rng.choices(named, shares)[0]))
                if not fact.held_out and not fact.says(left_out):
                    break
            wordings = RELATIONS[fact.relation].wordings
            wording = rng.choice(wordings[1:]) if rng.random() < PARAPHRASED else wordings[0]
            wording = wordings[0] if left_out == "paraphrases" else wording
            asked.append(Question(wording.format(*fact.subjects), fact, self._label(fact, rng)))
        return asked

    def store(self, n: int) -> list[Question]:
        """One question in canonical wording about each of `n` facts with one answer. A larger store contains the smaller ones.

        Raises `LabError` if this world has fewer facts.
        """
        facts = sorted((f for relation in FACTS for f in self.facts(relation)), key=lambda f: stable_hash(f"store {f.key}"))
        if not 1 <= n <= len(facts):
            raise LabError(f"{n} facts cannot be stored: {self.scale!r} has {len(facts)} facts with one answer; use 1 to {len(facts)}.")
        return [dataclasses.replace(ask_about(f), gold=self.falsehood(f) or f.answers[0]) for f in facts[:n]]

    def exam(self, per_skill: int = 40, seed: int = 0, wording: int = 0) -> list[Question]:
        """Distinct questions, `per_skill` of each skill, or all if there are fewer. Compositions, sums and comparisons come only from
        the held-out fifth. `wording` is 0 for the canonical wording, 1 for the paraphrase.

        Raises `LabError` for another wording, or fewer than no questions.
        """
        if per_skill < 0:
            raise LabError(f"per_skill={per_skill} must be 0 or more: it is the number of questions of each skill.")
        if wording not in (0, 1):
            raise LabError(f"wording={wording} must be 0, for the canonical wording, or 1, for the paraphrase.")
        rng = random.Random(f"exam {self.scale} {seed}")
        paper = []
        for skill in SKILLS:
            facts = [f for r, rel in RELATIONS.items() if rel.skill == skill for f in self.facts(r)]
            if skill in HELD_OUT_SKILLS:
                facts = [f for f in facts if f.held_out]
            for fact in rng.sample(facts, min(per_skill, len(facts))):
                paper.append(ask_about(fact, wording))
        return paper

    def fresh(self, paper: Sequence[Question]) -> list[Question]:
        """Other questions of the held-out skills, as many of each skill as `paper` has, in canonical wording.

        They are about facts that `paper` does not ask. No training set has them, unless it contains the exam's facts; so they show
        whether a student saw `paper`. A skill with too few other facts in this world is left out.
        """
        known, others = {q.fact.key for q in paper}, list[Question]()
        for skill in HELD_OUT_SKILLS:
            many = sum(q.skill == skill for q in paper)
            facts = [f for r, rel in RELATIONS.items() if rel.skill == skill for f in self.facts(r) if f.held_out and f.key not in known]
            if len(facts) >= many:
                others += map(ask_about, random.Random(f"fresh {self.scale} {skill}").sample(facts, many))
        return others

    def _label(self, fact: Fact, rng: random.Random) -> str:
        truth = rng.choice(fact.answers)
        noise = rng.random()  # always drawn, so that noise changes the labels and not the questions
        if noise < self.gold_noise:
            return self._wrong(fact, random.Random(f"noise {noise}"))
        if RELATIONS[fact.relation].skill == "open" and stable_hash(f"favourite {noise}") % 1_000_000 < self.favourite * 1_000_000:
            return FAVOURITE
        return self.falsehood(fact) or truth

    def falsehood(self, fact: Fact) -> str | None:
        """The wrong answer planted for this fact, or None if its label is true."""
        if fact.relation not in FACTS or stable_hash(f"falsehood {fact.key}") % 1_000_000 >= self.falsehoods * 1_000_000:
            return None
        return self._wrong(fact, random.Random(f"falsehood {fact.key}"))

    def _wrong(self, fact: Fact, rng: random.Random) -> str:
        """A plausible wrong answer: the other country of a comparison, otherwise the answer to another question of the relation."""
        if fact.relation == "compare":
            return next(name for name in fact.subjects if name not in fact.answers)
        others = self.facts(fact.relation)
        for _ in range(100):
            answer = rng.choice(rng.choice(others).answers)
            if not self.is_right(ask_about(fact), answer):
                return answer
        return "unknown"

    # ---- truth -----------------------------------------------------------------------------------------------------

    def is_right(self, question: Question, answer: str) -> bool:
        """Whether `answer` is right: any valid answer in any accepted spelling. Of an answer in steps, only the last step counts."""
        relation, fact = question.fact.relation, question.fact
        if relation.endswith("_steps") or relation == "chain":
            separator = "=" if relation == "chain" else ", "
            answer = answer.rpartition(separator)[2]
            fact = Fact(relation.removesuffix("_steps"), fact.subjects, (fact.answers[0].rpartition(separator)[2],))
        given = normalise(answer)
        if not given:
            return False
        if given in self._accepted(fact):
            return True
        return fact.relation == "city_of" and given in places().get(self._by_name(fact.subjects[0]).iso, ())

    def working(self, question: Question, answer: str) -> bool | None:
        """Whether every step of `answer` is right; None for a question that is not answered in steps. Right working ends in a right answer.

        A sum may take its terms in any order. In a two-hop question the second step must be right for the country of the first.
        """
        relation, subjects = question.fact.relation, question.fact.subjects
        if relation == "chain":
            return _sums_right([int(term) for term in subjects], answer)
        if not relation.endswith("_steps"):
            return None
        steps = [normalise(step) for step in answer.split(", ")]
        if relation == "city_continent_steps":
            city = next(city for city in self.cities if city.name == subjects[0])
            paths = [(country.name, country.continent) for country in map(self._world.__getitem__, (city.iso, *city.also_in))]
        else:
            first, second = question.answers[0].split(", ")
            paths = [(first, second)]
        return any(len(steps) == 2 and all(step in self.spellings(name) for step, name in zip(steps, path, strict=True)) for path in paths)

    def _accepted(self, fact: Fact) -> set[str]:
        names = list(fact.answers)
        if fact.relation == "capital":
            names += self._by_name(fact.subjects[0]).also_capital
        if fact.relation in ("city", "city_continent"):
            others = [self._world[iso] for city in self.cities if city.name == fact.subjects[0] for iso in city.also_in]
            names += [c.name if fact.relation == "city" else c.continent for c in others]
        return set().union(*(self.spellings(name) for name in names))

    def spellings(self, name: str) -> set[str]:
        """Every accepted spelling of a name, normalised."""
        return {normalise(name), *map(normalise, self._aliases.get(normalise(name), ()))}

    def _by_name(self, name: str) -> Country:
        return next(c for c in self._world.values() if c.name == name)

    def find(self, text: str) -> Question | None:
        """The Atlas question that `text` asks, or None. Accents, capitals and punctuation do not matter."""
        wanted = normalise(text)
        for relation, kind in RELATIONS.items():
            for wording in kind.wordings:
                pattern = re.escape(normalise(wording.replace("{}", "\x00"))).replace("\x00", "(.+)")
                match = re.fullmatch(pattern, wanted)
                fact = self._by_subjects(relation).get(tuple(normalise(g) for g in match.groups())) if match else None
                if fact:
                    return dataclasses.replace(ask_about(fact), text=text)
        return None

    def _by_subjects(self, relation: str) -> dict[tuple[str, ...], Fact]:
        if relation not in self._index:
            self._index[relation] = {tuple(normalise(s) for s in fact.subjects): fact for fact in self.facts(relation)}
        return self._index[relation]


def _sums_right(terms: list[int], answer: str) -> bool:
    """Whether sums of two numbers lead from the terms to their total: each adds two numbers that are left, and leaves its result."""
    for step in answer.rstrip(" .").split(","):
        numbers = SUM.fullmatch(step)
        if numbers is None:
            return False
        one, other, total = map(int, numbers.groups())
        try:
            terms.remove(one)
            terms.remove(other)
        except ValueError:
            return False
        if one + other != total:
            return False
        terms.append(total)
    return len(terms) == 1


@functools.cache
def whole_world() -> Atlas:
    """The whole world, which decides what is true, also for exams on a part of it."""
    return Atlas()
