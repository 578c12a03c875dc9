"""The exercises of lesson 13: a split of your data that does not leak, and a table with two baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, call, exercise, must_be_function, must_be_right_choice

SPLIT_ASKS = (
    "Write split(prompts): return a list of True (held out) or False (to train on), one for each prompt. About a fifth is held out. Two "
    "prompts that differ only in capitals and spaces are on the same side. No prompt changes sides when others are added."
)
SPLIT_MISTAKES = {
    "by row": "a prompt that comes twice is on both sides: the student has seen that answer. Decide by the prompt, not by the row.",
    "by spelling": "two spellings of one prompt (other capitals or spaces) are on both sides: normalise them before you decide.",
    "salted hash": "Python's hash() of a text differs between processes, so the split is another one tomorrow. Use hashlib.",
    "by place": "a prompt changes sides when other rows are added, so an old exam is trained on: decide by a hash of the prompt.",
}

N = 397  # number of prompts; a prime, so that no periodic pattern of positions repeats


@exercise("13.split", SPLIT_ASKS)
def split(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "split(prompts)")
    plain = [f"Where is order {number}?" for number in range(N)]
    shares = [(side := _sides(answer, plain)).count(True) / len(side), (again := _sides(answer, plain * 2)).count(True) / len(again)]
    for share in shares:
        if not 0.1 <= share <= 0.3:
            raise NotYet(f"it holds out {share:.0%} of {N} prompts, and should hold out about a fifth.", "share")
    if again[:N] != again[N:]:
        raise NotYet(SPLIT_MISTAKES["by row"], "by row")
    spelled = _sides(answer, [*plain, *(f" {prompt.upper().replace(' ', '  ')}" for prompt in plain)])
    if spelled[:N] != spelled[N:]:
        raise NotYet(SPLIT_MISTAKES["by spelling"], "by spelling")
    if _sides(answer, [f"Is parcel {number} here?" for number in range(151)] + plain)[151:] != side:
        raise NotYet(SPLIT_MISTAKES["by place"], "by place")
    if _calls(getattr(answer, "__code__", None), "hash") and "hash" not in getattr(answer, "__globals__", {}):
        raise NotYet(SPLIT_MISTAKES["salted hash"], "salted hash")
    return ExerciseVerdict(
        True, "only a hash of the prompt decides, so added rows do not change the exam. (Prompts that are nearly equal still leak.)"
    )


def _calls(code: Any, name: str) -> bool:
    """Whether a function's code, or a function inside it, uses a name."""
    return code is not None and (name in code.co_names or any(_calls(part, name) for part in code.co_consts if hasattr(part, "co_names")))


def _sides(answer: Any, prompts: Sequence[str]) -> list[bool]:
    returned = call(answer, list(prompts))
    try:
        sides = [bool(side) for side in returned]
    except (TypeError, ValueError):
        raise NotYet(f"it returns {type(returned).__name__}, and should return a list of True or False.") from None
    if len(sides) != len(prompts):
        raise NotYet(f"it returns {len(sides)} values for {len(prompts)} prompts: return one for each, in the same order.", "one a prompt")
    return sides


READ_ASKS = (
    "Suppose your table reads: untouched student 0.05 (0.02 to 0.09), fine-tuned on 100 gold labels 0.71 (0.63 to 0.78), distilled 0.68 "
    "(0.60 to 0.75), teacher 0.92; distilled minus gold labels -0.03 (-0.09 to +0.04). What do you report?"
)
READ_CHOICES = {
    "A": "Distillation works: it takes the student from 0.05 to 0.68.",
    "B": "Distillation is harmful: 0.68 is below 0.71.",
    "C": "It beats the untouched student, and is not distinguishable from 100 gold labels: we have those labels, so we use them.",
    "D": "0.68 of 0.92: the student keeps 74% of its teacher's quality.",
}
READ_MISTAKES = {
    "A": ("the easy baseline", "your 100 gold labels do the same. The untouched student is not the baseline that matters."),
    "B": ("no band", "the band of the paired difference is -0.09 to +0.04: these prompts do not show which is better."),
    "D": ("plain ratio", "fine-tuning without a teacher keeps 77% by the same measure: a ratio to the teacher hides the baseline."),
}


@exercise("13.read", READ_ASKS, READ_CHOICES)
def read(answer: Any) -> ExerciseVerdict:
    must_be_right_choice(answer, READ_CHOICES, READ_MISTAKES)
    return ExerciseVerdict(
        True, "one sentence for each baseline. More prompts without labels, or fewer labels, could still be a reason to distil."
    )
