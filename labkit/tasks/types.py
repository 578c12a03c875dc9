"""What all questions have in common, whichever world they are from."""

from __future__ import annotations

from typing import Protocol


class Asked(Protocol):
    """A question: an Atlas one, or a learner's own prompt. `answers` are right ones (if none is known, ""), `gold` is the label it has."""

    @property
    def text(self) -> str: ...
    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def gold(self) -> str: ...
