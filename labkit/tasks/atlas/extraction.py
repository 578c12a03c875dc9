"""What a free-text answer says: the fact it names, and whether that is right.

    read(question, "Lima is a city in Peru.").named          # "Peru"

A chatty model does not answer "Peru" but a sentence, cut off somewhere. The rule is that of a kind examiner who reads from the left:
what is named *first as an answer* counts, whatever follows it; the question's own words name nothing; a sentence that says something else
("a city is a place") names nothing. `tests/answers_by_hand.csv` holds answers that were read by a person, and how often this agrees.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from labkit.records.names import CONTINENTS
from labkit.tasks.atlas.facts import Atlas, Question, normalise


class Extraction(NamedTuple):
    """named: the answer in Atlas's spelling, or in the model's own where Atlas has no such thing; None if nothing is named.
    start, end: where in the text it stands."""

    named: str | None
    right: bool
    start: int = 0
    end: int = 0


class Found(NamedTuple):
    name: str
    start: int
    end: int


NOTHING = Extraction(None, False)
ITSELF = ("capital", "capital_of", "city")  # relations whose answer may be the very word that was asked about

# How people speak of countries and continents, beside the spellings that Atlas accepts.
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
}  # fmt: skip
SPOKEN = {
    "england": "United Kingdom", "scotland": "United Kingdom", "wales": "United Kingdom", "northern ireland": "United Kingdom",
    "hellenic republic": "Greece", "south african republic": "South Africa",
    "democratic republic of congo": "Democratic Republic of the Congo",
}  # fmt: skip
NO_COUNTRY = (  # but looks like one
    *("south america", "north america", "central america", "latin america", "indian ocean", "south china sea", "east china sea"),
    *("gulf of mexico", "new mexico", "sea of japan", "gulf of guinea", "gulf of oman", "new england", "new south wales", "lake chad"),
    *("french guiana", "french polynesia", "state of georgia", "american samoa", "republic of china", "papua"),
)
NOUNS = {  # what makes "German" say "Germany"
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
ADJECTIVES = ("real", "won", "sol", "som", "mark")  # English words too: money only with a capital letter

BESIDE = r"\bborder(?:s|ed|ing) [^.]*"  # names what something else is
WORD = r"[A-ZÀ-Þ][\w'’-]*"
NAME = rf"(?:St\. |Saint )?{WORD}(?:(?: (?:de|del|da|do|di|of|the|and|au|el|al|la|am|y)){{0,2}} {WORD})*"
NUMBER = r"(\d+(?:\.\d+)?)"
MORE = r"\b(?:more people|more populous|most people|most populous|most numerous|larger|bigger|greater|higher|largest|highest|more)\b"
LESS = r"\b(?:fewer|smaller|less|lower|smallest|lowest|least)\b"


def read(question: Question, text: str, *, cut: bool = False) -> Extraction:
    """What `text` answers to `question`. cut: it was cut off, so a number at its very end may lack digits."""
    found = _READERS.get(question.fact.relation, _country)(question, text)
    if found is None or (cut and found.name.isdigit() and found.end == len(text)):
        return NOTHING
    return Extraction(found.name, _world().is_right(question, found.name), found.start, found.end)


# ---- one reader for each kind of answer --------------------------------------------------------------------------------------------------


def _country(question: Question, text: str) -> Found | None:
    relation = question.fact.relation
    text = _blanked(r"(?i)in the context of (?:the )?[^,.]*", text)
    if relation != "neighbour":
        text = _blanked(rf"(?i)\bnear (?:the (?:coast|border) of )?[\w ]+|{BESIDE}", text)
    named = [_first(text, _countries(), question)]
    if relation in NOUNS:  # "a small German town"
        match = re.search(
            rf"(?i)(?<!latin )(?<!central )(?<!north )(?<!south )\b({'|'.join(NATIONS)})(?= (?:[\w-]+ )?(?:{NOUNS[relation]})\b)", text
        )
        named += [Found(NATIONS[match[1].casefold()], *match.span(1))] if match else []
    found = min((f for f in named if f), key=lambda f: f.start, default=None)
    if found is None and relation == "capital_of":
        return _matched(rf"[Cc]apital of (?:the )?(?:(?:Republic|Kingdom|State) of )?({NAME})", text)
    return found


def _capital(question: Question, text: str) -> Found | None:
    said = _matched(rf"[Cc]apital\b[^.]*? is (?:known as |called |named |the city of )?({NAME})", text)
    said = said or _matched(rf"^({NAME}) is the capital", text) or _first(text, _cities(), question)
    if said is None:
        return None
    for spelling in question.answers:
        if len(said.name) >= 6 and normalise(said.name) not in _cities() and _one_letter_apart(normalise(said.name), normalise(spelling)):
            return said._replace(name=spelling)
    return said


def _continent(question: Question, text: str) -> Found | None:
    return _first(_blanked(rf"\bbetween (?:\w+ )?\w+ and\b|{BESIDE}", text), PARTS, question)


def _currency(question: Question, text: str) -> Found | None:
    first = re.split(r"(?<=\w{3})\. ", text)[0]
    if found := _first(first, _money(), question, capital=ADJECTIVES):
        return found
    own = _matched(rf"\bis (?:known as |called )?(?:the |a )(?:\w+ )??({NAME})", first)
    while own and own.name.partition(" ")[2] and normalise(own.name.partition(" ")[0]) in NATIONS:
        adjective, _, rest = own.name.partition(" ")
        own = Found(rest, own.start + len(adjective) + 1, own.end)
    return own


def _symbol(question: Question, text: str) -> Found | None:
    said = _matched(r"\bis:? [\"“'*(]*(?!(?:a|an|the|represented|denoted|often|known|typically|also|not|used)\b)([\w%]+)", text)
    return said or _matched(r"(?:\(|symbol |symbol of )([A-Z][a-z]?)\b", text)


def _number(question: Question, text: str) -> Found | None:
    return _matched(r"atomic number(?: of [\w ]+?)? (?:is|=|of) (\d+)", text) or _matched(r"(?<![\d.-])(\d+)(?!\.?\d)", text)


def _city(question: Question, text: str) -> Found | None:
    own = normalise(question.fact.subjects[0])
    for pattern in (rf"city of ({NAME})", rf"^(?!In )({NAME}),", rf"(?:city|capital)\b[^.]*? is ({NAME})", rf"^({NAME}) is a"):
        said = _matched(pattern, text)
        if said and (normalise(said.name) != own or said.name in question.answers):
            return said
    return _first(text, _cities(), question)


def _compare(question: Question, text: str) -> Found | None:
    """The country of which a comparative is said: the last one named before it in its sentence, else the first one after it."""
    text = _blanked(r"[\"“][^\"”]*[\"”]", text)  # what it quotes it does not say
    for sentence in re.finditer(r"(?:[^.]|(?<=\d)\.(?=\d))+", text):
        named = list(_all(sentence[0], _countries()))
        word = re.search(f"{MORE}|{LESS}", sentence[0])
        if not word or not named or re.match(r"(?i)\W*(?:while )?both\b", sentence[0]):
            continue
        who = next((f for f in reversed(named) if f.end <= word.start()), named[0])
        if re.fullmatch(LESS, word[0]):
            other = next((s for s in question.fact.subjects if s != who.name), who.name)
            who = who._replace(name=other)
        return who._replace(start=who.start + sentence.start(), end=who.end + sentence.start())
    alone = re.fullmatch(rf"\W*(?:[Tt]he answer is )?(?:the )?({NAME})\W*", text)
    return next(_all(text, _countries()), None) if alone else None


def _sum(question: Question, text: str) -> Found | None:
    """The right-hand side of the sum that was asked, else what is called the answer, else the last sum; or a bare number."""
    terms = question.fact.subjects
    whole = [r" ?\+ ?".join(map(re.escape, order)) for order in (terms, terms[::-1])]
    sums = list(re.finditer(rf"\d \+ \d+ = {NUMBER}", text))
    return (
        _matched(rf"(?<!\d)(?:{'|'.join(whole)}) (?:=|is|equals) {NUMBER}", text)
        or _matched(rf"(?i)\b(?:answer|sum|result|total)\b(?:(?! is )[^\n])*? is {NUMBER}(?!, \d|\w)", text)
        or _matched(rf"(?i)\b(?:you get|gives|equals|which is) {NUMBER}", text)
        or (Found(sums[-1][1], *sums[-1].span(1)) if sums and len(terms) > 2 else None)
        or _matched(rf"^\W*{NUMBER}\W*$", text)
    )


_READERS = {
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
    """The text with what matches turned into spaces, so that places stay where they are."""
    return re.sub(pattern, lambda match: " " * len(match[0]), text)


def _matched(pattern: str, text: str) -> Found | None:
    match = re.search(pattern, text)
    return Found(match[1], match.start(1), match.end(1)) if match else None


def _first(text: str, names: dict[str, str], question: Question, capital: tuple[str, ...] = ()) -> Found | None:
    """The first of these names that is not the question's own, nor within it (Panama in Panama City). Where the question's own could be
    the answer (Monaco), it is one at its second mention, or alone."""
    own = normalise(question.fact.subjects[0])
    spans = [(f.start, f.end) for f in _all(text, {own: own})]
    first = spans[:1] if normalise(text) != own else None
    for found in _all(text, names):
        around = [(start, end) for start, end in spans if start <= found.start and found.end <= end]
        again = question.fact.relation in ITSELF and around == [(found.start, found.end)] != first
        if found.name and (again or not around) and text[found.start : found.end] not in capital:
            return found
    return None


def _all(text: str, names: dict[str, str]) -> Iterator[Found]:
    """Every name in the text, the longest at each place; accents, capitals and hyphens do not matter."""
    folded, at = _fold(text)
    for match in _pattern(tuple(names)).finditer(folded):
        name = names.get(match[1])
        if name is not None:
            yield Found(name, at[match.start(1)], at[match.end(1) - 1] + 1)


@functools.lru_cache(4096)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(r"(?<!\w)(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + r")(?:is)?(?!\w)")


def _fold(text: str) -> tuple[str, list[int]]:
    """The text as `normalise` would have it, sentence by sentence, and where each of its characters came from."""
    text = re.sub(r"['’]s\b", "  ", text)
    folded, at = [], []
    for i, letter in enumerate(text):
        if letter in "'’" or (letter == "." and i + 1 < len(text) and text[i - 1].isupper()):
            continue  # d'Ivoire, D.C.
        for part in unicodedata.normalize("NFKD", " " if letter in "-/" else letter).casefold():
            if not unicodedata.combining(part):
                folded.append(part)
                at.append(i)
    return "".join(folded), at


def _one_letter_apart(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    same = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return long[same + 1 :] in (short[same:], short[same + 1 :])


@functools.cache
def _world() -> Atlas:
    return Atlas("whole")


@functools.cache
def _countries() -> dict[str, str]:
    """Every spelling of every country; those that name none are there too, so that the longest match is theirs."""
    names = dict.fromkeys(NO_COUNTRY, "")
    return {spelling: c.name for c in _world().countries for spelling in _world().spellings(c.name)} | SPOKEN | names


@functools.cache
def _cities() -> dict[str, str]:
    world = _world()
    names = [*(c.name for c in world.cities), *(c.capital for c in world.countries), *(n for c in world.countries for n in c.also_capital)]
    return {spelling: name for name in names for spelling in world.spellings(name)}


@functools.cache
def _money() -> dict[str, str]:
    names = {spelling: c.currency for c in _world().countries for spelling in _world().spellings(c.currency)}
    names |= {word: word.capitalize() for word in OLD_MONEY} | SAME_MONEY
    plurals = {f"{word}s": name for word, name in names.items()}
    return dict.fromkeys(_countries(), "") | plurals | names  # Sierra Leone holds no leone
