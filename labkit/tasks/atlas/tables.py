"""The tables behind Atlas in `data/atlas`: countries, cities and elements."""

from __future__ import annotations

import csv
import functools
from typing import NamedTuple

from labkit.base.files import data_dir
from labkit.base.manifest import checked
from labkit.tasks.atlas.questions import normalise


class Country(NamedTuple):
    """A row of `countries.csv`."""

    iso: str
    name: str
    capital: str
    also_capital: tuple[str, ...]  # other capitals that are accepted
    continent: str
    currency: str
    population: int
    neighbours: tuple[str, ...]  # their iso codes


class City(NamedTuple):
    """A row of `cities.csv`."""

    name: str
    iso: str  # of its country
    also_in: tuple[str, ...]  # iso codes of other countries with a city of this name


class Element(NamedTuple):
    """A row of `elements.csv`."""

    number: int
    symbol: str
    name: str


@functools.cache
def tables() -> tuple[dict[str, Country], tuple[City, ...], tuple[Element, ...], dict[str, tuple[str, ...]]]:
    """Returns countries by iso code, cities with the most populous first, elements, and other spellings by normalised name."""
    countries = {
        row["iso"]: Country(
            row["iso"],
            row["name"],
            row["capital"],
            _several(row["also_capital"]),
            row["continent"],
            row["currency"],
            int(row["population"]),
            _several(row["neighbours"]),
        )
        for row in _read("countries.csv")
    }
    cities = tuple(City(row["name"], row["iso"], _several(row["also_in"])) for row in _read("cities.csv"))
    elements = tuple(Element(int(row["number"]), row["symbol"], row["name"]) for row in _read("elements.csv"))
    aliases = {normalise(row["name"]): _several(row["aliases"]) for row in _read("aliases.csv")}
    return countries, cities, elements, aliases


@functools.cache
def places() -> dict[str, frozenset[str]]:
    """Normalised names of all places of at least 15,000 people in GeoNames, by iso code. Each is a right answer to "Name a city in ..."."""
    places: dict[str, set[str]] = {}
    for row in _read("places.csv"):
        places.setdefault(row["iso"], set()).add(normalise(row["name"]))
    return {iso: frozenset(names) for iso, names in places.items()}


def _read(name: str) -> list[dict[str, str]]:
    path = checked(data_dir() / "atlas" / name)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _several(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(";")) if cell else ()
