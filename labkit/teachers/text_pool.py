"""The rows of a sequence-level data set as a student reads them."""

from __future__ import annotations

from labkit.base.errors import LabError
from labkit.base.thinking import split_thinking
from labkit.models import AtlasTokenizer, tokenizer
from labkit.teachers.text_data import Sequences


class TextPool:
    """The rows of a data set in the student's tokens. Rows whose thought was cut are left out: they have no answer.

    own: the student's tokenizer; by default that of Atlas.
    learn: what is learned of a response that begins with a thought: "answer", "reasoning" or "both".

    Raises `LabError` if all responses are empty or cut, or if all rows are equal.
    """

    growing = False  # all rows are known at the start

    def __init__(self, data: Sequences, own: AtlasTokenizer | None = None, learn: str = "answer") -> None:
        thoughts = [split_thinking(row.response) for row in data.rows]
        self.cut = sum(thought.cut for thought in thoughts)  # rows that are left out
        if self.cut == len(data):
            raise LabError(
                f"all {len(data)} answers of the teacher are thoughts that were cut: raise longest, or switch thinking off with "
                "template_option=enable_thinking=false, if its chat template has that switch."
            )
        if not any(row.response.strip() for row in data.rows):
            raise LabError(f"all {len(data)} responses are empty: the teacher ended at once. Use another teacher or another decoding.")
        if len(data) > 1 and len({(row.prompt, row.response) for row in data.rows}) == 1:
            raise LabError(f"the {len(data)} rows are all the same ({data.rows[0].prompt!r}): use different questions.")
        self.data = data
        own = own or tokenizer()
        whole = [(row, thought) for row, thought in zip(data.rows, thoughts, strict=True) if not thought.cut]
        learned = {
            "answer": lambda row, thought: thought.answer,
            "reasoning": lambda row, thought: thought.reasoning or thought.answer,
            "both": lambda row, thought: row.response,
        }[learn]
        self._prompts = own.prompts([row.prompt for row, _ in whole])
        self._answers = own.answers([learned(row, thought) for row, thought in whole])

    def __len__(self) -> int:
        return len(self._prompts)

    def prompt(self, row: int) -> list[int]:
        return self._prompts[row]

    def answer(self, row: int) -> list[int]:
        return self._answers[row]
