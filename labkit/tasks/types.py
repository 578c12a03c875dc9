"""The interface that all questions share, from Atlas or from custom data."""

from __future__ import annotations

from typing import Protocol


class Asked(Protocol):
    """A question: one of Atlas, or a custom prompt."""

    @property
    def text(self) -> str: ...
    @property
    def answers(self) -> tuple[str, ...]: ...  # the right answers; "" if none is known
    @property
    def gold(self) -> str: ...  # the gold label
