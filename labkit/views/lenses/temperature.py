"""The temperature lens: what temperature does to real logits, and to the size of the gradient."""

from __future__ import annotations

import ipywidgets as widgets
import torch
from torch import Tensor

from labkit import models
from labkit.base.palette import GLYPHS
from labkit.losses.temperature import entropy, gradient_size, soften
from labkit.models import tokenizer
from labkit.tasks.atlas.facts import Atlas, Question
from labkit.views import figures
from labkit.views.lenses.base import ASKED, STYLE, WIDE, Lens, temperature_slider


class TemperatureLens(Lens):
    """Controls: question and T. Picture: the teacher's softened first token. Words: the gradient relative to T = 1, and 1/T squared."""

    def __init__(self) -> None:
        world = Atlas()
        self._asked: dict[str, Question] = {text: question for text in ASKED if (question := world.find(text))}
        self._logits: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.question = widgets.Dropdown(options=list(self._asked), description="Question", style=STYLE, layout=WIDE)
        self.temperature = temperature_slider()
        super().__init__(self.question, self.temperature)

    @torch.no_grad()
    def _of(self, text: str) -> tuple[Tensor, Tensor, Tensor]:
        """First-token logits of the teacher, of an untrained student, and of a trained one."""
        if text not in self._logits:
            prompt = torch.tensor(tokenizer().prompts([text]))
            logits = [
                m(prompt).logits[:, -1].float() for m in (models.teacher("atlas-3m"), models.student("200k"), models.teacher("atlas-200k"))
            ]
            self._logits[text] = (logits[0], logits[1], logits[2])
        return self._logits[text]

    def look(self) -> tuple[figures.Drawing, str]:
        text, T = self.question.value, self.temperature.value
        teacher, fresh, learned = self._of(text)
        soft, plain = soften(teacher, T)[0], soften(teacher, 1.0)[0]
        top = plain.topk(9).indices
        right = {ids[0] for ids in tokenizer().answers(self._asked[text].answers)}
        names = [tokenizer().token(int(t)).strip() + (" \u2713" if int(t) in right else "") for t in top]
        drawing = figures.bars(
            f"{text}  T = {T:g}",
            f"first token of the teacher's answer: {GLYPHS['teacher']} softened, {GLYPHS['ghost']} at T = 1; "
            "\u2713 begins an answer that it was taught",
            names,
            {"teacher": soft[top].tolist(), "ghost": plain[top].tolist()},
        )
        rest, valid = 1 - float(soft[top[0]]), sum(float(soft[t]) for t in right if t != int(top[0]))
        shrink = {
            name: float(gradient_size(teacher, student, T) / gradient_size(teacher, student, 1.0))
            for name, student in (("fresh", fresh), ("trained", learned))
        }
        most, share = float(torch.tensor(float(len(soft))).log()), valid / rest if rest > 0 else 0.0
        sentence = (
            f"Entropy <b>{float(entropy(teacher, T)):.2f} nats</b> (of at most {most:.2f}). The mass that is not on the top token is "
            f"{rest:.3f}; {share:.0%} of it begins another answer that it was taught.<br>Gradient without the factor T\u00b2, divided by "
            f"that at T = 1: <b>{shrink['fresh']:.3f}</b> for an untrained student, <b>{shrink['trained']:.3f}</b> for a trained one; "
            f"1/T\u00b2 would be {1 / T**2:.3f}."
        )
        return drawing, sentence
