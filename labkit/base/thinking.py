"""Separates what a thinking model wrote for itself from its answer.

split_thinking("<think>\\n2 and 2 are 4.\\n</think>\\n\\n4")       # Thought(reasoning="2 and 2 are 4.", answer="4", cut=False)
split_thinking("<think>\\n2 and 2 are")                         # Thought(reasoning="2 and 2 are", answer="", cut=True)
"""

from __future__ import annotations

from typing import NamedTuple

CHANNELS = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>")  # of gpt-oss, whose turn has a part for thoughts and one for the answer
FINAL = "<|channel|>final<|message|>"  # begins the answer
MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis<|message|>", f"<|end|><|start|>assistant{FINAL}"),
)
BEFORE_A_QUOTED_MARK = " \t`'\"(<"  # what stands before a mark of which a text speaks
OPENING = tuple(opening for opening, _ in MARKS)


class Thought(NamedTuple):
    """The two parts of a model's text."""

    reasoning: str
    answer: str
    cut: bool = False  # whether the text ended before the reasoning did, so that there is no answer


def split_thinking(text: str) -> Thought:
    """Split a text into reasoning and answer.

    Reasoning stands between two marks at the beginning, also several times. The first mark may be missing, since some chat templates write
    it: then the second must end a line, or follow the text without a space. Other marks in an answer are part of its text.
    """
    start = text.lstrip()
    if start.startswith(FINAL):
        answer = start.removeprefix(FINAL).strip()
        return split_thinking(answer) if answer.startswith(OPENING) else Thought("", answer)
    for opening, closing in MARKS:
        begun = start.startswith(opening)
        reasoning, found, answer = start.removeprefix(opening).partition(closing)
        if begun and answer.lstrip().startswith(OPENING):
            more = split_thinking(answer)
            return Thought(f"{reasoning.strip()}\n{more.reasoning}".strip(), more.answer, more.cut)
        if begun:
            return Thought(reasoning.strip(), answer.strip(), cut=not found)
        ends_a_line = not answer.partition("\n")[0].strip()
        if found and opening not in reasoning and (ends_a_line or reasoning[-1:] not in BEFORE_A_QUOTED_MARK):
            return Thought(reasoning.strip(), answer.strip())
    return Thought("", text)


def join_thinking(reasoning: str, answer: str) -> str:
    """The text of reasoning and answer, with the first marks of `MARKS`; the answer alone if there is no reasoning."""
    opening, closing = MARKS[0]
    return f"{opening}\n{reasoning}\n{closing}\n\n{answer}" if reasoning else answer
