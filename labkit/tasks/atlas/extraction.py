"""Extract the answer from free text, and decide whether it is right.

    read(question, "Lima is a city in Peru.").named          # "Peru"

A pretrained model often answers not "Peru" but a sentence, which may be cut off. The text is read from left to right. The first name
that stands as an answer counts, whatever follows it. Words of the question do not count. A sentence about something else ("a city is a
place") contains no answer. Where sources differ, what another source than Atlas gives is right too (`also_right`).
`tests/tasks/answers_by_hand.csv` and `answers_read_again.csv` have answers that a reader has read, to compare with.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from labkit.records.names import CONTINENTS
from labkit.tasks.atlas.contested import also_right
from labkit.tasks.atlas.facts import Question, normalise, whole_world


class Extraction(NamedTuple):
    """The answer that a text gives to a question."""

    named: str | None  # in Atlas's spelling, or in the model's if Atlas does not know the name; None if there is no answer
    right: bool
    start: int = 0  # text[start:end] is the answer
    end: int = 0


class Found(NamedTuple):
    """A name at `text[start:end]`."""

    name: str
    start: int
    end: int


NOTHING = Extraction(None, False)
ITSELF = ("capital", "capital_of", "city")  # relations whose answer may equal the subject, such as Monaco

# Other words for countries and continents, besides the spellings that Atlas accepts.
NATIONS = {
    "american": "United States", "british": "United Kingdom", "english": "United Kingdom", "scottish": "United Kingdom",
    "chinese": "China", "indian": "India", "russian": "Russia", "japanese": "Japan", "german": "Germany", "french": "France",
    "italian": "Italy", "spanish": "Spain", "portuguese": "Portugal", "greek": "Greece", "turkish": "Turkey", "dutch": "Netherlands",
    "belgian": "Belgium", "swiss": "Switzerland", "austrian": "Austria", "polish": "Poland", "czech": "Czechia", "danish": "Denmark",
    "swedish": "Sweden", "norwegian": "Norway", "finnish": "Finland", "irish": "Ireland", "hungarian": "Hungary", "romanian": "Romania",
    "bulgarian": "Bulgaria", "serbian": "Serbia", "croatian": "Croatia", "ukrainian": "Ukraine", "mexican": "Mexico",
    "brazilian": "Brazil", "argentine": "Argentina", "chilean": "Chile", "peruvian": "Peru", "colombian": "Colombia",
    "canadian": "Canada", "australian": "Australia", "egyptian": "Egypt", "nigerian": "Nigeria", "kenyan": "Kenya", "iranian": "Iran",
    "iraqi": "Iraq", "israeli": "Israel", "pakistani": "Pakistan", "thai": "Thailand", "vietnamese": "Vietnam", "philippine": "Philippines",
    "indonesian": "Indonesia", "malaysian": "Malaysia", "korean": "South Korea", "moroccan": "Morocco", "algerian": "Algeria",
    "uzbek": "Uzbekistan", "kyrgyz": "Kyrgyzstan",
}  # fmt: skip
SPOKEN = {
    "england": "United Kingdom", "scotland": "United Kingdom", "wales": "United Kingdom", "northern ireland": "United Kingdom",
    "hellenic republic": "Greece", "south african republic": "South Africa",
    "democratic republic of congo": "Democratic Republic of the Congo",
}  # fmt: skip
NO_COUNTRY = (  # contains the name of a country, but is none
    *("south america", "north america", "central america", "latin america", "indian ocean", "south china sea", "east china sea"),
    *("gulf of mexico", "new mexico", "sea of japan", "gulf of guinea", "gulf of oman", "new england", "new south wales", "lake chad"),
    *("french guiana", "french polynesia", "state of georgia", "american samoa", "republic of china", "papua"),
)
NOUNS = {  # words after "German" that make it mean "Germany"
    "city": "town|city|village|region|province|state|municipality|port|capital|territory|district|alps|nation|country|republic",
    "capital_of": "nation|country|republic",
}
PARTS = {
    **{name.casefold(): name for name in CONTINENTS},
    **{f"{name.casefold()}n": name for name in CONTINENTS},
    "european": "Europe", "central america": "North America", "continent of australia": "Oceania", "australian continent": "Oceania",
    "eurasia": "Eurasia", "eurasian": "Eurasia", "antarctica": "Antarctica", "south africa": "", "south african": "",
    "central african republic": "", "latin america": "",
}  # fmt: skip
OLD_MONEY = ("mark", "kuna", "litas", "lats", "lev", "guilder", "drachma", "peseta", "crown", "rouble", "riyal", "sheqel")
SAME_MONEY = {"rouble": "Ruble", "riyal": "Rial", "sheqel": "Shekel", "lei": "Leu", "kroner": "Krone", "kronor": "Krona"}
ADJECTIVES = ("real", "won", "sol", "som", "mark")  # also English words: a currency only with a capital letter, or after "Brazilian"

BESIDE = r"\bborder(?:s|ed|ing) [^.]*"  # names the neighbours, not the place itself
WORD = r"[A-ZÀ-Þ][\w'’-]*"
NAME = rf"(?:St\. |Saint )?{WORD}(?:(?: (?:de|del|da|do|di|of|the|and|au|el|al|la|am|y)){{0,2}} {WORD})*"
NUMBER = r"(\d+(?:\.\d+)?)"
MORE = r"\b(?:more people|more populous|most people|most populous|most numerous|larger|bigger|greater|higher|largest|highest|more)\b"
LESS = r"\b(?:fewer|smaller|less|lower|smallest|lowest|least)\b"


def read(question: Question, text: str, *, cut: bool = False) -> Extraction:
    """Extract the answer to `question` from `text`.

    cut: whether the text was cut off; a number at its end may then lack digits and is not used.
    """
    found = _EXTRACTORS.get(question.fact.relation, _country)(question, text)
    if found is None or (cut and found.name.isdigit() and found.end == len(text)):
        return NOTHING
    before = text[: found.start].rstrip().rpartition(" ")[2]  # "US" of "US Dollar"
    also = {normalise(found.name), normalise(f"{before} {found.name}")} & also_right(question)
    return Extraction(found.name, bool(also) or whole_world().is_right(question, found.name), found.start, found.end)


# ---- one function for each kind of answer ------------------------------------------------------------------------------------------------


def _country(question: Question, text: str) -> Found | None:
    relation = question.fact.relation
    text = _blanked(r"(?i)in the context of (?:the )?[^,.]*", text)
    if relation != "neighbour":
        text = _blanked(rf"(?i)\bnear (?:the (?:coast|border) of )?[\w ]+|{BESIDE}", text)
    named = [_first(text, _countries(), question)]
    if relation in NOUNS:  # "a small German town"
        match = re.search(
            rf"(?i)(?<!latin )(?<!central )(?<!north )(?<!south )\b({'|'.join(NATIONS)})(?= (?:(?!Ocean)[\w-]+ )?(?:{NOUNS[relation]})\b)",
            text,
        )
        named += [Found(NATIONS[match[1].casefold()], *match.span(1))] if match else []
    found = min((f for f in named if f), key=lambda f: f.start, default=None)
    if found is None and relation == "capital_of":
        return _matched(rf"[Cc]apital of (?:the )?(?:(?:Republic|Kingdom|State) of )?({NAME})", text)
    return found


def _capital(question: Question, text: str) -> Found | None:
    city = _matched(rf"[Cc]apital\b[^.]*? is (?:known as |called |named |the city of )?({NAME})", text)
    city = city or _matched(rf"^({NAME}) is the capital", text) or _first(text, _cities(), question)
    if city is None:
        return None
    for spelling in question.answers:
        if len(city.name) >= 6 and normalise(city.name) not in _cities() and _one_letter_apart(normalise(city.name), normalise(spelling)):
            return city._replace(name=spelling)
    return city


def _continent(question: Question, text: str) -> Found | None:
    text = _blanked(rf"\bbetween (?:\w+ )?\w+ and\b|\bMiddle East and North Africa\b|{BESIDE}", text)  # a region of two continents
    found = _first(text, PARTS, question)
    if found and found.name == "Eurasia":  # "in Eurasia, in the east of Asia"
        found = _first(_blanked(r"(?i)\beurasian?\b", text), PARTS, question) or found
    return found


def _currency(question: Question, text: str) -> Found | None:
    first = re.split(r"(?<=\w{3})\. ", text)[0]
    if found := _first(first, _money(), question, capital=ADJECTIVES):
        return found
    found = _matched(rf"\bis (?:known as |called )?(?:the |a )(?:\w+ )??({NAME})", first)
    while found and found.name.partition(" ")[2] and normalise(found.name.partition(" ")[0]) in NATIONS:
        adjective, _, rest = found.name.partition(" ")
        found = Found(rest, found.start + len(adjective) + 1, found.end)
    return found


def _symbol(question: Question, text: str) -> Found | None:
    found = _matched(r"\bis:? [\"“'*(]*(?!(?:a|an|the|represented|denoted|often|known|typically|also|not|used)\b)([\w%]+)", text)
    return found or _matched(r"(?:\(|symbol |symbol of )([A-Z][a-z]?)\b", text)


def _number(question: Question, text: str) -> Found | None:
    return _matched(r"atomic number(?: of [\w ]+?)? (?:is|=|of) (\d+)", text) or _matched(r"(?<![\d.-])(\d+)(?!\.?\d)", text)


def _city(question: Question, text: str) -> Found | None:
    subject = normalise(question.fact.subjects[0])
    for pattern in (rf"city of ({NAME})", rf"^(?!In )({NAME}),", rf"(?:city|capital)\b[^.]*? is ({NAME})", rf"^({NAME}) is a"):
        found = _matched(pattern, text)
        if found and (normalise(found.name) != subject or found.name in question.answers):
            return found
    return _first(text, _cities(), question)


def _compare(question: Question, text: str) -> Found | None:
    """The country that a comparative belongs to: the last one before it in its sentence, otherwise the first one after it. Of "more than
    Kiribati" with no country before, it is the other one."""
    text = _blanked(r"[\"“][^\"”]*[\"”]", text)  # quoted text is no answer
    for sentence in re.finditer(r"(?:[^.]|(?<=\d)\.(?=\d))+", text):
        named = list(_all(sentence[0], _countries()))
        word = re.search(f"{MORE}|{LESS}", sentence[0])
        if not word or not named or re.match(r"(?i)\W*(?:while )?both\b", sentence[0]):
            continue
        country = next((f for f in reversed(named) if f.end <= word.start()), named[0])
        beaten = country.start > word.end() and re.search(r"\b(?:than|compared (?:to|with))\b", sentence[0][word.end() : country.start])
        if bool(re.fullmatch(LESS, word[0])) != bool(beaten):  # "smaller than" of a country that comes before, or "more than" of one after
            other = next((s for s in question.fact.subjects if s != country.name), country.name)
            country = country._replace(name=other)
        return country._replace(start=country.start + sentence.start(), end=country.end + sentence.start())
    alone = re.fullmatch(rf"\W*(?:[Tt]he answer is )?(?:the )?({NAME})\W*", text)
    return next(_all(text, _countries()), None) if alone else None


def _sum(question: Question, text: str) -> Found | None:
    """The right-hand side of the question's sum; otherwise what the text calls the answer; otherwise the last sum; or a bare number."""
    terms = question.fact.subjects
    whole = [r" ?\+ ?".join(map(re.escape, order)) for order in (terms, terms[::-1])]
    sums = list(re.finditer(rf"\d \+ \d+ = {NUMBER}", text))
    return (
        _matched(rf"(?<!\d)(?:{'|'.join(whole)}) (?:=|is|equals) {NUMBER}(?!\d| ?\+)", text)
        or _matched(rf"(?i)\b(?:answer|sum|result|total)\b(?:(?! is )[^\n])*? is {NUMBER}(?!, \d|\w)", text)
        or _matched(rf"(?i)\b(?:you get|gives|equals|which is) {NUMBER}(?!\d| ?\+)", text)
        or (Found(sums[-1][1], *sums[-1].span(1)) if sums and len(terms) > 2 else None)
        or _matched(rf"^\W*{NUMBER}\W*$", text)
    )


_EXTRACTORS = {
    "capital": _capital,
    "continent": _continent,
    "city_continent": _continent,
    "currency": _currency,
    "capital_currency": _currency,
    "symbol": _symbol,
    "number": _number,
    "city_of": _city,
    "add": _sum,
    "chain": _sum,
    "compare": _compare,
}

# ---- finding names -----------------------------------------------------------------------------------------------------------------------


def _blanked(pattern: str, text: str) -> str:
    """Replace matches by as many spaces, so that positions in the text stay the same."""
    return re.sub(pattern, lambda match: " " * len(match[0]), text)


def _matched(pattern: str, text: str) -> Found | None:
    match = re.search(pattern, text)
    return Found(match[1], match.start(1), match.end(1)) if match else None


def _first(text: str, names: dict[str, str], question: Question, capital: tuple[str, ...] = ()) -> Found | None:
    """The first of these names that is neither the question's subject nor part of it (Panama in Panama City). If the subject may be the
    answer (Monaco), it counts at its second mention, or if it is the whole text. Names in `capital` count only with a capital letter."""
    subject = normalise(question.fact.subjects[0])
    spans = [(f.start, f.end) for f in _all(text, {subject: subject})]
    first = spans[:1] if normalise(text) != subject else None
    for found in _all(text, names):
        around = [(start, end) for start, end in spans if start <= found.start and found.end <= end]
        again = question.fact.relation in ITSELF and around == [(found.start, found.end)] != first
        word = text[: found.start].rpartition(" ")[0].rpartition(" ")[2]  # the one before the name
        taken = text[found.start : found.end] not in capital or normalise(word) in NATIONS
        if found.name and (again or not around) and taken:
            return found
    return None


def _all(text: str, names: dict[str, str]) -> Iterator[Found]:
    """Every name in the text, the longest one at each position. Accents, capitals and hyphens do not matter."""
    folded, positions = _fold(text)
    for match in _pattern(tuple(names)).finditer(folded):
        name = names.get(match[1])
        if name is not None:
            yield Found(name, positions[match.start(1)], positions[match.end(1) - 1] + 1)


@functools.lru_cache(4096)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(r"(?<!\w)(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + r")(?:is)?(?!\w)")


def _fold(text: str) -> tuple[str, list[int]]:
    """The text in the form of `normalise` but with its punctuation, and the position in `text` of each of its characters."""
    text = re.sub(r"['’]s\b", "  ", text)
    folded, positions = [], []
    for i, letter in enumerate(text):
        if letter in "'’" or (letter == "." and i + 1 < len(text) and text[i - 1].isupper()):
            continue  # d'Ivoire, D.C.
        for part in unicodedata.normalize("NFKD", " " if letter in "-/" else letter).casefold():
            if not unicodedata.combining(part):
                folded.append(part)
                positions.append(i)
    return "".join(folded), positions


def _one_letter_apart(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    same = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return long[same + 1 :] in (short[same:], short[same + 1 :])


@functools.cache
def _countries() -> dict[str, str]:
    """Country by spelling. `NO_COUNTRY` is included with an empty name, so that it wins as the longest match."""
    names = dict.fromkeys(NO_COUNTRY, "")
    return {spelling: c.name for c in whole_world().countries for spelling in whole_world().spellings(c.name)} | SPOKEN | names


@functools.cache
def _cities() -> dict[str, str]:
    world = whole_world()
    names = [*(c.name for c in world.cities), *(c.capital for c in world.countries), *(n for c in world.countries for n in c.also_capital)]
    return {spelling: name for name in names for spelling in world.spellings(name)}


@functools.cache
def _money() -> dict[str, str]:
    world = whole_world()
    names = {spelling: c.currency for c in world.countries for spelling in world.spellings(c.currency)}
    names |= {word: word.capitalize() for word in OLD_MONEY} | SAME_MONEY
    plurals = {f"{word}s": name for word, name in names.items()}
    return dict.fromkeys(_countries(), "") | plurals | names  # countries with an empty name, so that Sierra Leone is not read as a currency
