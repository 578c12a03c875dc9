"""The alignment lens: one answer of the teacher in its own tokens and in a student's, and what a crossing makes of each shared span.

labkit.lens("alignment")                                    # a fresh student
labkit.lens("alignment", student=run.student)               # one that has been trained, in its own vocabulary
"""

from __future__ import annotations

import functools

import ipywidgets as widgets
import torch
from transformers import LlamaForCausalLM

from labkit import figures, models
from labkit.alignment import spans
from labkit.atlas import Atlas
from labkit.crossing import CROSSINGS, Aligned, crossed
from labkit.errors import LabError
from labkit.experiment import VOCABULARIES, Experiment
from labkit.live.lenses import _STYLE, _WIDE, ASKED, _Lens
from labkit.methods import comparison
from labkit.models import tokenizer, tokenizer_of
from labkit.signals import Signals
from labkit.translation import Crossed

NAMES = {"spans": "KL of the span", "chunks": "binary KL", "exact": "KL, summed", "mapped": "KL of shared tokens", "uld": "1.5 ULD, summed"}


class AlignmentLens(_Lens):
    """A question, a student's vocabulary and a crossing; the two cuts over each other with the loss on each span."""

    def __init__(self, student: LlamaForCausalLM | None = None) -> None:
        self._given = student
        kinds = VOCABULARIES[1:] if student is None else (tokenizer_of(student).name,)
        if kinds == ("atlas",):
            raise LabError("this student has its teacher's vocabulary, so both cuts are one: train one with vocabulary='bytes'.")
        self.question = widgets.Dropdown(options=list(ASKED), description="Question", style=_STYLE, layout=_WIDE)
        self.vocabulary = widgets.Dropdown(options=kinds, description="Vocabulary", style=_STYLE, layout=_WIDE)
        labels = [(f"{name}: {how.label}", name) for name, how in CROSSINGS.items()]
        self.across = widgets.Dropdown(options=labels, value="spans", description="Across", style=_STYLE, layout=_WIDE)
        super().__init__(self.question, self.vocabulary, self.across)

    def look(self) -> tuple[figures.Cuts, str]:
        text, vocabulary, across = self.question.value, self.vocabulary.value, self.across.value
        return look_across(text, vocabulary, across, self._given)


@torch.no_grad()
def look_across(text: str, vocabulary: str, across: str, student: LlamaForCausalLM | None = None) -> tuple[figures.Cuts, str]:
    """The table of one answer's two cuts, and what there is to read off it. Raises `LabError` for a question Atlas does not know."""
    both = Crossed(_pool(text), vocabulary, across)
    model = student or _fresh(vocabulary)
    aligned = both.aligned([0])
    read = models.pad([both.prompt(0)], [both.answer(0)])
    logits = model.lm_head(models.answer_states(model, read)).float().cpu()
    found = crossed(aligned, logits, comparison(Experiment()), 1.0)["crossed"]
    per_span = _by_span(aligned, across, found)
    sides = [tokenizer().pieces[t] for t in both.pool.answer(0)], [both.student.pieces[t] for t in both.answer(0)]
    shared = [(span.teacher, span.student) for span in spans(*sides)]
    table = figures.cuts(text, *sides, shared, per_span, NAMES.get(across, "KL by number"))
    how = CROSSINGS[across]
    beside = " Beside it the text itself is learned, as hard labels." if how.text else ""
    return table, f"<b>{how.label}</b> <small>({how.source})</small>: {sum(per_span):.2f} nats in all.{beside}"


def _by_span(aligned: Aligned, across: str, found_N: torch.Tensor) -> list[float]:
    """A term summed over each span: it has a value a span, a student token, or a pair of tokens with the same number."""
    count = len(aligned.first_of_student_S)
    if len(found_N) == count and across not in ("exact", "uld", "ids"):
        return found_N.tolist()
    of = aligned.span_M if across == "exact" else aligned.span_M[aligned.pairs[1]]
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
