"""The tables behind Atlas: countries, cities and elements, as `data/atlas` has them."""

from __future__ import annotations

import csv
import functools
from typing import NamedTuple

from labkit.base.files import data_dir
from labkit.base.manifest import checked
from labkit.tasks.atlas.questions import normalise


class Country(NamedTuple):
    iso: str
    name: str
    capital: str
    also_capital: tuple[str, ...]
    continent: str
    currency: str
    population: int
    neighbours: tuple[str, ...]


class City(NamedTuple):
    name: str
    iso: str
    also_in: tuple[str, ...]


class Element(NamedTuple):
    number: int
    symbol: str
    name: str


@functools.cache
def tables() -> tuple[dict[str, Country], tuple[City, ...], tuple[Element, ...], dict[str, tuple[str, ...]]]:
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
    """Every populated place GeoNames lists with at least 15,000 people, by country: any of them answers "Name a city in ..."."""
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
