"""The alignment lens: one answer in the tokens of teacher and student, and the loss that an alignment gives for each shared span.

labkit.lens("alignment")                                    # a fresh student
labkit.lens("alignment", student=run.student)               # a trained one, in its vocabulary
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

NAMES = {  # the values of an alignment for each span
    "ids": "KL by number, nats",
    "mapped": "KL of shared tokens, nats",
    "uld": "1.5 \u00d7 ULD, no nats",
    "spans": "KL of the span, nats",
    "chunks": "binary KL, nats",
    "exact": "KL, summed, nats",
}
BY_NUMBER = ("ids", "uld")  # these compare token n with token n, wherever both are in the text


class AlignmentLens(Lens):
    """Controls: question, vocabulary and alignment. Picture: both tokenizations, one above the other, with the loss on each span.

    Raises `LabError` for a student with its teacher's vocabulary.
    """

    def __init__(self, student: LlamaForCausalLM | None = None) -> None:
        self._given = student
        kinds = VOCABULARIES[1:] if student is None else (tokenizer_of(student).name,)
        if kinds == ("atlas",):
            raise LabError("this student has its teacher's vocabulary, so there is one tokenization: train one with vocabulary='bytes'.")
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
    """Both tokenizations of the teacher's answer to a question, with the loss on each span.

    text: the question.
    vocabulary: of the student.
    across: the alignment.
    student: an untrained one if not given.

    Returns the table, and a comment as HTML. Raises `LabError` for a question that Atlas does not know.
    """
    both = CrossTokenizerPool(_pool(text), vocabulary, across)
    model = student or _fresh(vocabulary)
    aligned = both.aligned([0])
    rows = models.pad([both.prompt(0)], [both.answer(0)])
    logits = models.logits_of(model, models.answer_states(model, rows)).float().cpu()
    term_N = cross_tokenizer_terms(aligned, logits, comparison(Experiment()), 1.0)["crossed"]
    per_span = _by_span(aligned, across, term_N)
    sides = [tokenizer().pieces[t] for t in both.pool.answer(0)], [both.student.pieces[t] for t in both.answer(0)]
    shared = [(span.teacher, span.student) for span in spans(*sides)]
    table = figures.cuts(text, *sides, shared, per_span, NAMES[across])
    entry = ALIGNMENTS[across]
    comment = f"<b>{entry.label}</b> <small>({entry.source})</small>: {sum(per_span):.2f} in all."
    if across in BY_NUMBER:
        comment += f" {_by_number(*sides)}"
    return table, comment + " The text is also learned, as hard labels." * entry.text


def _by_number(teacher: Sequence[bytes], student: Sequence[bytes]) -> str:
    """Which tokens are compared by an alignment that pairs them by their number in the row."""
    pairs = ", ".join(f"{shown(a)}\u202f|\u202f{shown(b)}" for a, b in zip(teacher, student, strict=False))
    left = len(student) - len(teacher)
    alone = f"; the last {abs(left)} of the {'student' if left > 0 else 'teacher'}'s with nothing" if left else ""
    return f"Compared by number, a value under the student's token: {html.escape(pairs + alone)}."


def _by_span(aligned: Aligned, across: str, found_N: torch.Tensor) -> list[float]:
    """A term summed over each span. It has one value for each span, student token, or pair of tokens with the same number."""
    count = len(aligned.first_of_student_S)
    if across not in ("exact", *BY_NUMBER):
        return found_N.tolist()
    span = aligned.span_M[aligned.pairs[1]] if across in BY_NUMBER else aligned.span_M
    return torch.zeros(count).index_add(0, span, found_N).tolist()


@functools.lru_cache(maxsize=16)
def _pool(text: str) -> Signals:
    question = Atlas().find(text)
    if question is None:
        raise LabError(f"Atlas does not know the question {text!r}: use one in its wording, such as {ASKED[3]!r}.")
    pool = Signals(models.teacher("atlas-3m"), [question])
    list(pool.prepare([0]))
    return pool


@functools.cache
def _fresh(vocabulary: str) -> LlamaForCausalLM:
    return models.student("57k", vocabulary=vocabulary).eval()
