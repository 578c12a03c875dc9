"""Prompts of several turns.

    prompt = prompt_of([("system", "Be brief."), ("user", "What is 2 + 2?")])
    messages_of(prompt)        # [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}]
    str(prompt)                # "Be brief.\\n\\nWhat is 2 + 2?", for display, and for models without a chat template

A prompt is a text everywhere in the lab. One with a system message or several turns is a `Chat`, a text that also has its turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Turn = tuple[str, str]  # role (system, user or assistant) and text


class Chat(str):
    """A prompt with its turns. As a text it is flattened: system texts come first; if there are several other turns, each begins with
    its role."""

    __slots__ = ("turns",)
    turns: tuple[Turn, ...]

    def __new__(cls, turns: Sequence[Turn]) -> Chat:
        opening = [text for role, text in turns if role == "system"]
        dialogue = [(role, text) for role, text in turns if role != "system"]
        named = [f"{role.capitalize()}: {text}" for role, text in dialogue] if len(dialogue) > 1 else [text for _, text in dialogue]
        made = super().__new__(cls, "\n\n".join([*opening, *named]))
        made.turns = tuple(turns)
        return made

    def __getnewargs__(self) -> tuple[tuple[Turn, ...]]:  # type: ignore[override]
        return (self.turns,)  # for copies and pickles


def prompt_of(turns: Sequence[Turn]) -> str:
    """A prompt from its turns: plain text if it is a single turn of the user."""
    return turns[0][1] if len(turns) == 1 and turns[0][0] == "user" else Chat(turns)


def messages_of(prompt: str) -> list[dict[str, str]]:
    """The messages of a prompt, as chat templates and endpoints take them."""
    turns = prompt.turns if isinstance(prompt, Chat) else [("user", prompt)]
    return [{"role": role, "content": text} for role, text in turns]


def to_json(prompt: str) -> str | list[dict[str, str]]:
    """A prompt for a JSON file: a text, or the list of its messages."""
    return messages_of(prompt) if isinstance(prompt, Chat) else prompt


def from_json(value: Any) -> str:
    """The prompt of `to_json`."""
    return value if isinstance(value, str) else prompt_of([(message["role"], message["content"]) for message in value])
