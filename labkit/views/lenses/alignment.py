"""The alignment lens: one answer of the teacher in its own tokens and in a student's, and what an alignment gives for each shared span.

labkit.lens("alignment")                                    # a fresh student
labkit.lens("alignment", student=run.student)               # one that has been trained, in its own vocabulary
"""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence

import ipywidgets as widgets
import torch
from transformers import LlamaForCausalLM

from labkit import models
from labkit.base.errors import LabError
from labkit.losses.cross_tokenizer.losses import ALIGNMENTS, Aligned, cross_tokenizer_terms
from labkit.losses.cross_tokenizer.spans import spans
from labkit.models import tokenizer, tokenizer_of
from labkit.records.experiment import Experiment
from labkit.records.names import VOCABULARIES
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers.cross_tokenizer_pool import CrossTokenizerPool
from labkit.teachers.signals import Signals
from labkit.training.methods import comparison
from labkit.views import figures
from labkit.views.figures.token_table import shown
from labkit.views.lenses.base import ASKED, STYLE, WIDE, Lens

NAMES = {  # what an alignment gives for each span
    "ids": "KL by number, nats",
    "mapped": "KL of shared tokens, nats",
    "uld": "1.5 \u00d7 ULD, no nats",
    "spans": "KL of the span, nats",
    "chunks": "binary KL, nats",
    "exact": "KL, summed, nats",
}
BY_NUMBER = ("ids", "uld")  # compare token 1 with token 1, token 2 with token 2, wherever these are in the text


class AlignmentLens(Lens):
    """A question, a student's vocabulary and an alignment: both tokenizations, one above the other, with the loss on each span."""

    def __init__(self, student: LlamaForCausalLM | None = None) -> None:
        self._given = student
        kinds = VOCABULARIES[1:] if student is None else (tokenizer_of(student).name,)
        if kinds == ("atlas",):
            raise LabError("this student has its teacher's vocabulary, so both cuts are one: train one with vocabulary='bytes'.")
        self.question = widgets.Dropdown(options=list(ASKED), description="Question", style=STYLE, layout=WIDE)
        self.vocabulary = widgets.Dropdown(options=kinds, description="Vocabulary", style=STYLE, layout=WIDE)
        labels = [(f"{name}: {how.label}", name) for name, how in ALIGNMENTS.items()]
        self.across = widgets.Dropdown(options=labels, value="spans", description="Across", style=STYLE, layout=WIDE)
        super().__init__(self.question, self.vocabulary, self.across)

    def look(self) -> tuple[figures.Cuts, str]:
        text, vocabulary, across = self.question.value, self.vocabulary.value, self.across.value
        return look_across(text, vocabulary, across, self._given)


@torch.no_grad()
def look_across(text: str, vocabulary: str, across: str, student: LlamaForCausalLM | None = None) -> tuple[figures.Cuts, str]:
    """The table of one answer's two cuts, and what there is to read off it. Raises `LabError` for a question Atlas does not know."""
    both = CrossTokenizerPool(_pool(text), vocabulary, across)
    model = student or _fresh(vocabulary)
    aligned = both.aligned([0])
    read = models.pad([both.prompt(0)], [both.answer(0)])
    logits = model.lm_head(models.answer_states(model, read)).float().cpu()
    found = cross_tokenizer_terms(aligned, logits, comparison(Experiment()), 1.0)["crossed"]
    per_span = _by_span(aligned, across, found)
    sides = [tokenizer().pieces[t] for t in both.pool.answer(0)], [both.student.pieces[t] for t in both.answer(0)]
    shared = [(span.teacher, span.student) for span in spans(*sides)]
    table = figures.cuts(text, *sides, shared, per_span, NAMES[across])
    how = ALIGNMENTS[across]
    told = f"<b>{how.label}</b> <small>({how.source})</small>: {sum(per_span):.2f} in all."
    if across in BY_NUMBER:
        told += f" {_by_number(*sides)}"
    return table, told + " Beside it the text itself is learned, as hard labels." * how.text


def _by_number(teacher: Sequence[bytes], student: Sequence[bytes]) -> str:
    """Which tokens are compared, where that goes by their number in the row."""
    pairs = ", ".join(f"{shown(a)}\u202f|\u202f{shown(b)}" for a, b in zip(teacher, student, strict=False))
    left = len(student) - len(teacher)
    alone = f"; the last {abs(left)} of the {'student' if left > 0 else 'teacher'}'s with nothing" if left else ""
    return f"Compared by number, a value under the student's token: {html.escape(pairs + alone)}."


def _by_span(aligned: Aligned, across: str, found_N: torch.Tensor) -> list[float]:
    """A term summed over each span: it has a value a span, a student token, or a pair of tokens with the same number."""
    count = len(aligned.first_of_student_S)
    if across not in ("exact", *BY_NUMBER):
        return found_N.tolist()
    of = aligned.span_M[aligned.pairs[1]] if across in BY_NUMBER else aligned.span_M
    return torch.zeros(count).index_add(0, of, found_N).tolist()


@functools.lru_cache(maxsize=16)
def _pool(text: str) -> Signals:
    question = Atlas().find(text)
    if question is None:
        raise LabError(f"Atlas does not know the question {text!r}: ask one as it is worded there, such as {ASKED[3]!r}.")
    pool = Signals(models.teacher("atlas-3m"), [question])
    list(pool.prepare([0]))
    return pool


@functools.cache
def _fresh(vocabulary: str) -> LlamaForCausalLM:
    return models.student("57k", vocabulary=vocabulary).eval()
