"""Facts on which sources differ, and names that mean another place to most readers, each with the reason (no torch).

    contested(question)           # the reason, or "" for a plain fact: no question with a reason is shown on a board
    also_right(question)          # answers that other sources give: right in free text, whose writer never saw Atlas's tables

The exam still asks these questions, and its marks follow Atlas alone, so that scores stay comparable. No question names
Taiwan, Kosovo, Western Sahara or Crimea; two cities of Crimea are right answers to "Name a city in Ukraine." The tables take all else
from GeoNames; see `data/atlas/README.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from labkit.records import events as ev
from labkit.records.names import SKILLS
from labkit.tasks.atlas.facts import Question, whole_world
from labkit.tasks.atlas.tables import tables

ATLAS = (*SKILLS, "1 ahead")  # the "skill" of sampled rows that ask about Atlas: of students, and of draft heads
SHOWN = 3  # of an open question's answers, these are shown


class Contested(NamedTuple):
    """A row of `CONTESTED`."""

    name: str
    reason: str
    relations: tuple[str, ...] = ()  # of the questions whose subject is `name`; none: every question that says the name
    also: tuple[str, ...] = ()  # answers to these questions that other sources give


CONTINENT, CITY = ("continent", "city_continent"), ("city", "city_continent")
CURRENCY = ("currency", "capital_currency")
_TWO_CONTINENTS = "it lies on two continents, and the tables name one"
_CAUCASUS = "the Caucasus is counted to Asia and to Europe"
_RAND = "the South African rand is legal tender too"

CONTESTED = (
    # States, capitals and territories that are disputed
    *(Contested(name, "its status is disputed") for name in ("Israel", "Palestine", "Jerusalem", "East Jerusalem", "West Jerusalem")),
    Contested("Jerusalem", "Israel and Palestine both name it their capital", ("capital_of",), ("Palestine",)),
    Contested("Palestine", "it names Jerusalem as its capital", ("capital",), ("Jerusalem",)),
    *(Contested(name, "Gaza and the West Bank are disputed") for name in ("Gaza", "Hebron", "Nablus", "Battir", "Ramallah", "Old City")),
    *(Contested(name, "the north of Cyprus is disputed") for name in ("Nicosia", "Famagusta", "Kyrenia")),
    *(Contested(name, "Transnistria is disputed") for name in ("Tiraspol", "Bender")),
    *(Contested(name, "Somaliland is disputed") for name in ("Hargeysa", "Berbera", "Borama")),
    Contested("Sokhumi", "Abkhazia is disputed"),
    Contested("Donetsk", "it is at war, and claimed by two countries"),
    *(
        Contested(name, "Western Sahara, a neighbour, is disputed and in no table", ("neighbour",))
        for name in ("Morocco", "Algeria", "Mauritania")
    ),
    *(
        Contested(name, "Kosovo, a neighbour, is disputed and in no table", ("neighbour",))
        for name in ("Serbia", "Montenegro", "Albania", "North Macedonia")
    ),
    # Names of another place
    Contested("Liberia", "a city of Costa Rica with the name of a country", CITY, ("Liberia", "Africa")),
    Contested("Georgia", "also a state of the United States"),
    Contested("Micronesia", "also a region of several countries"),
    Contested("Timor Leste", "few know this spelling of East Timor, and the United Nations count it to Asia"),
    # Continents: GeoNames gives each country one
    Contested("Timor Leste", "the United Nations count it to Asia", CONTINENT, ("Asia",)),
    *(Contested(name, _CAUCASUS, CONTINENT, ("Europe",)) for name in ("Armenia", "Azerbaijan", "Georgia")),
    Contested("Cyprus", "the United Nations count it to Asia", CONTINENT, ("Asia",)),
    *(Contested(name, _TWO_CONTINENTS, ("continent",), ("Europe",)) for name in ("Turkey", "Kazakhstan")),
    *(Contested(name, _TWO_CONTINENTS, ("continent",), ("Asia",)) for name in ("Russia", "Egypt")),
    Contested("Indonesia", _TWO_CONTINENTS, ("continent",), ("Oceania",)),
    Contested("Istanbul", "it lies on two continents", ("city_continent",), ("Europe",)),
    *(
        Contested(name, "east of the Urals, in the Asian part of Russia", ("city_continent",), ("Asia",))
        for name in ("Novosibirsk", "Yekaterinburg", "Chelyabinsk")
    ),
    # Currencies: GeoNames gives each country one
    Contested("Panama", "the US dollar is legal tender too", CURRENCY, ("US Dollar", "American Dollar")),
    *(Contested(name, "its pound is also called lira", CURRENCY, ("Lira",)) for name in ("Lebanon", "Syria")),
    *(Contested(name, _RAND, CURRENCY, ("Rand",)) for name in ("Lesotho", "Eswatini", "Namibia")),
    Contested("Bhutan", "the Indian rupee is legal tender too", CURRENCY, ("Indian Rupee",)),
    Contested("Zimbabwe", "the US dollar is legal tender too", CURRENCY, ("US Dollar", "American Dollar")),
)


@functools.lru_cache(4096)  # an exam asks the same questions again and again
def contested(question: Question) -> str:
    """Why a question is not shown; "" if it may be.

    Besides the rows of `CONTESTED`, these are capitals of a country with several, and cities whose name places of several countries have.
    """
    relation, named = question.fact.relation.removesuffix("_steps"), question.fact.subjects + question.answers[:SHOWN]
    said = {part for text in named for part in text.split(", ")}
    if reason := next((row.reason for row in _rows(question)), "") or next(
        (r.reason for r in CONTESTED if r.name in said and not r.relations), ""
    ):
        return reason
    if relation in CITY and question.fact.subjects[0] in _shared():
        return "places in several countries have this name"
    return "the country has several capitals" if relation == "capital" and question.fact.subjects[0] in _several() else ""


def also_right(question: Question) -> set[str]:
    """Every spelling of the answers that other sources than Atlas give, normalised; empty for a plain fact."""
    return {spelling for row in _rows(question) for name in row.also for spelling in whole_world().spellings(name)}


def _rows(question: Question) -> list[Contested]:
    """The rows about what a question asks: about its subject, or about the country of the city or capital that is its subject."""
    relation, subjects = question.fact.relation.removesuffix("_steps"), question.fact.subjects
    country = _countries().get(relation, {}).get(subjects[0], "")
    return [
        row
        for row in CONTESTED
        if relation in row.relations and (row.name in subjects or (row.name == country and row.relations in (CONTINENT, CURRENCY)))
    ]


# ---- recorded answers --------------------------------------------------------------------------------------------------------------------


def for_show(event: ev.Event) -> ev.Event:
    """An event as a board shows it: `Sampled` with the rows of `rows_for_show`, others as they are."""
    return ev.Sampled(event.step, tuple(rows_for_show(event.rows))) if isinstance(event, ev.Sampled) else event


def rows_for_show(rows: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Sampled answers without contested questions, and with today's verdict on wrong working: older records have neither."""
    told = ((row, _asked(row.get("question", "")) if row.get("skill") in ATLAS else None) for row in rows)
    return [row if question is None else _marked(question, row) for row, question in told if question is None or not contested(question)]


def _marked(question: Question, row: Mapping[str, str]) -> Mapping[str, str]:
    wrong = row.get("verdict") == "right" and whole_world().working(question, row.get("student", "")) is False
    return {**row, "verdict": "working"} if wrong else row


@functools.lru_cache(256)
def _asked(text: str) -> Question | None:
    return whole_world().find(text)


# ---- from the tables ---------------------------------------------------------------------------------------------------------------------


@functools.cache
def _countries() -> dict[str, dict[str, str]]:
    """For each two-hop relation, the country of each subject."""
    countries, cities, *_ = tables()
    of_city = {city.name: countries[city.iso].name for city in cities}
    return {"city_continent": of_city, "capital_currency": {c.capital: c.name for c in countries.values()}}


@functools.cache
def _shared() -> set[str]:
    """Cities of `cities.csv` whose name places of other countries have too."""
    return {city.name for city in tables()[1] if city.also_in}


@functools.cache
def _several() -> set[str]:
    """Countries with several capitals."""
    return {country.name for country in tables()[0].values() if country.also_capital}
