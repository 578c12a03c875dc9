"""The exercise of lesson 07: where two tokenizers split the same text."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, call, exercise, must_be_function

SHARED_ASKS = (
    "Write shared(teacher, student): two lists of tokens (bytes) of the same text. Return the list of byte positions at which a token "
    "ends on both sides: the ends of the shared spans, including the end of the text."
)
CASES: tuple[tuple[list[bytes], list[bytes]], ...] = (
    ([b" Sp", b"ain", b",", b" Eur", b"ope"], [b" S", b"pai", b"n", b",", b" E", b"urope"]),
    ([b" ", b"6", b"1"], [b" ", b"6", b"1"]),
    ([b" C", b"\xc3\xb4", b"te"], [b" ", b"C", b"\xc3", b"\xb4", b"t", b"e"]),
    ([b" Peru"], [b" ", b"P", b"e", b"r", b"u"]),
    ([], []),
)
SHARED_MISTAKES = {
    "by number": "it compares token 1 with token 1, token 2 with token 2: after the first different split these are at different "
    "positions.",
    "all cuts": "these are the positions where either side ends a token: return only those where both do.",
    "same token": "the tokens need not be equal: '␣Sp' + 'ain' and '␣S' + 'pai' + 'n' end at the same position.",
    "with the beginning": "no token ends at position 0: the first span begins there.",
    "characters": "it counts characters: an ô is two bytes, and a token may end between them.",
    "without the end": "the end of the text is missing: the last span ends there.",
    "lengths": "these are the lengths of the spans: sum them up to get positions.",
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
        True, "between two such positions both sides have the same bytes, so their likelihoods are of the same event and can be compared."
    )
