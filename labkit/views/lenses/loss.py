"""The loss lens: what a library's convention or a known bug does with the same real logits."""

from __future__ import annotations

import html

import ipywidgets as widgets
import torch

from labkit import models
from labkit.base.palette import GLYPHS
from labkit.losses.conventions import CONVENTIONS, LossReport, loss_report
from labkit.models import pad, tokenizer
from labkit.tasks.atlas.facts import Atlas
from labkit.views import figures
from labkit.views.lenses.base import STYLE, WIDE, Lens, temperature_slider


class LossLens(Lens):
    """Loss and gradient of a teacher and a half-trained student on a few real rows, under each convention."""

    def __init__(self) -> None:
        world = Atlas("half")
        questions = sorted(world.questions(6, 3, skills=("recall", "open", "two_hop_steps")), key=lambda q: len(q.text) + len(q.gold))
        prompts, answers = tokenizer().prompts([q.text for q in questions]), tokenizer().answers([q.gold for q in questions])
        self._first, self._prompt = [*prompts[0], *answers[0]], len(prompts[0])  # the shortest row, so padding follows it
        self.rows = pad(prompts, answers)
        with torch.no_grad():
            self.teacher_logits, self.student_logits = (
                models.teacher(n)(self.rows.tokens_B_T).logits.float() for n in ("atlas-3m", "atlas-3m-early")
            )
        self._known: dict[tuple[str, float], LossReport] = {}
        kinds = [(f"{c.name}  ({c.kind})", c.name) for c in CONVENTIONS.values()]
        self.convention = widgets.Dropdown(options=kinds, value="mask not shifted", description="Convention", style=STYLE, layout=WIDE)
        self.temperature = temperature_slider()
        super().__init__(self.convention, self.temperature)

    def loss_report(self, name: str) -> LossReport:
        key = (name, self.temperature.value)
        if key not in self._known:
            self._known[key] = loss_report(name, self.teacher_logits, self.student_logits, self.rows.mask_B_T, key[1])
        return self._known[key]

    def _name(self, place: int) -> str:
        """The token at this position of the first row, and whether it should be scored."""
        if place >= len(self._first):
            return "(padding)"
        token = tokenizer().token(self._first[place]).strip() or "\u2423"
        return f"answer: {token}" if place >= self._prompt else token

    def look(self) -> tuple[figures.Drawing, str]:
        T, entry = self.temperature.value, CONVENTIONS[self.convention.value]
        shown, right = self.loss_report(entry.name), self.loss_report(entry.against)
        places = range(min(len(self._first), self.rows.tokens_B_T.shape[1]))  # to one position after the answer's end
        names = [self._name(i + 1) for i in places]
        drawing = figures.bars(
            f"{entry.name}, T = {T:g}",
            f"size of the gradient for each token of the first row: {GLYPHS['truth']} {entry.against}, {GLYPHS['student']} {entry.name}",
            names,
            {"truth": [float(right.per_token_B_T[0, i]) for i in places], "student": [float(shown.per_token_B_T[0, i]) for i in places]},
        )
        kind, used_by, source, symptom, against = map(html.escape, (entry.kind, entry.used_by, entry.source, entry.symptom, entry.against))
        sentence = (
            f"<b>{kind}</b>: {used_by} <small>({source})</small>. Look for: {symptom}.<br>"
            f"Loss <b>{shown.value:.4f}</b>; of a perfect student <b>{shown.at_match:.4f}</b>; its gradient is "
            f"<b>{shown.gradient_ratio:.3g}</b> times as large as that of {against}, and the cosine between them <b>{shown.cosine:.3f}</b>."
        )
        return drawing, sentence
