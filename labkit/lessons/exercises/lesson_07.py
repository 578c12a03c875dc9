"""The exercise of lesson 07: where two tokenizers cut the same text."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, call, exercise, must_be_function

SHARED_ASKS = (
    "Write shared(teacher, student): two lists of tokens (bytes) that spell the same text. Return the list of places, counted in bytes "
    "from the beginning, at which both sides have just finished a token: the ends of the shared spans, the end of the text included."
)
CASES: tuple[tuple[list[bytes], list[bytes]], ...] = (
    ([b" Sp", b"ain", b",", b" Eur", b"ope"], [b" S", b"pai", b"n", b",", b" E", b"urope"]),
    ([b" ", b"6", b"1"], [b" ", b"6", b"1"]),
    ([b" C", b"\xc3\xb4", b"te"], [b" ", b"C", b"\xc3", b"\xb4", b"t", b"e"]),
    ([b" Peru"], [b" ", b"P", b"e", b"r", b"u"]),
    ([], []),
)
SHARED_MISTAKES = {
    "by number": "it compares token 1 with token 1, token 2 with token 2, as naive code does: after the first different cut these are "
    "different places.",
    "all cuts": "these are the places where either side cuts: only those count where both do.",
    "same token": "equal tokens are not needed: '␣Sp' + 'ain' and '␣S' + 'pai' + 'n' end at the same place.",
    "with the beginning": "place 0 is where the first span begins, and no token ends there.",
    "characters": "it counts characters: an ô is two bytes, and a token may end between them.",
    "without the end": "the end of the text is missing: it is where the last span ends.",
    "lengths": "these are the lengths of the spans: add them up to get places.",
}


def _ends(tokens: list[bytes]) -> list[int]:
    return [sum(map(len, tokens[: i + 1])) for i in range(len(tokens))]


def _wrong(teacher: list[bytes], student: list[bytes]) -> dict[str, list[int]]:
    one, other = _ends(teacher), _ends(student)
    right = sorted(set(one) & set(other))
    text = b"".join(teacher)
    return {
        "by number": [a for a, b in zip(one, other, strict=False) if a == b],
        "all cuts": sorted(set(one) | set(other)),
        "same token": [a for a, t in zip(one, teacher, strict=True) if (a, t) in zip(other, student, strict=True)],
        "with the beginning": [0, *right],
        "characters": [len(text[:place].decode(errors="ignore")) for place in right],
        "without the end": right[:-1],
        "lengths": [b - a for a, b in zip([0, *right], right, strict=False)],
    }


@exercise("07.shared", SHARED_ASKS)
def shared(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "shared(teacher, student)")
    for teacher, student in CASES:
        returned = call(answer, list(teacher), list(student))
        try:
            got = [int(place) for place in returned]
        except (TypeError, ValueError):
            raise NotYet(f"it returns {type(returned).__name__} and should return a list of whole numbers.", "no list") from None
        right = sorted(set(_ends(teacher)) & set(_ends(student)))
        if got != right:
            for name, wrong in _wrong(teacher, student).items():
                if got == wrong:
                    raise NotYet(SHARED_MISTAKES[name], name)
            raise NotYet(f"for {teacher} and {student} it gives {got} and should give {right}.")
    return ExerciseVerdict(
        True, "between two such places both sides spell the same bytes, so their likelihoods are of the same event and may be compared."
    )
