"""Lenses, with no training: what temperature does to real logits, what a loss makes of them, and what a draft of them gains.

    labkit.lens("temperature")        # a question, T, and the teacher's first guesses
    labkit.lens("loss")               # a library's convention or a known bug, T, and the gradient token by token
    labkit.lens("alignment")          # an answer in two vocabularies, and the loss on every span they share
    labkit.lens("speculation")        # what a draft gains: acceptance, its cost, and how many tokens it proposes

Each is a box of labelled controls with a picture and the same in words; it redraws when a control moves.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from labkit import figures, models
from labkit.atlas import Atlas, Question
from labkit.conventions import CONVENTIONS, Reading, reading
from labkit.errors import LabError, unknown
from labkit.models import pad, tokenizer
from labkit.softening import entropy, gradient_size, soften
from labkit.speculative.theory import best_gamma, speedup, tokens_per_round

TEMPERATURES = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
ASKED = (
    "Name a neighbour of France.",
    "Name a city in Japan.",
    "Name a country in Africa.",
    "What is the capital of Chad?",
    "Which continent is Turkey in?",
    "Which has more people, Spain or Kenya?",
    "On which continent is Barcelona?",
)
_STYLE = {"description_width": "110px"}
_WIDE = {"width": "min(640px, 100%)"}


def lens(kind: str, **given: Any) -> widgets.VBox:
    """ "temperature", "loss", "alignment" (of a `student`, if one is given) or "speculation" (at an `alpha`, `gamma` and `cost`); the parts
    are attributes of the box. Raises `LabError` for another."""
    from labkit.live.alignments import AlignmentLens

    kinds: dict[str, Callable[..., widgets.VBox]] = {
        "temperature": TemperatureLens,
        "loss": LossLens,
        "alignment": AlignmentLens,
        "speculation": SpeculationLens,
    }
    if kind not in kinds:
        raise unknown("lens", kind, kinds)
    return kinds[kind](**given)


class _Lens(widgets.VBox):
    """Controls above a picture; `words` says what it shows, for whoever does not see it."""

    def __init__(self, *controls: widgets.ValueWidget) -> None:
        self.picture, self.words = widgets.HTML(), widgets.HTML()
        for control in controls:
            control.observe(lambda _: self._redraw(), "value")
        super().__init__([*controls, self.picture, self.words])
        self._redraw()

    def _redraw(self) -> None:
        """Draw again, with any error told in the box: one in a callback would be seen by nobody."""
        try:
            drawing, sentence = self.look()
            self.picture.value = drawing._repr_html_()
            self.words.value = f'<p role="status" style="max-width:78ch;line-height:1.4">{sentence}</p>'
        except Exception as error:
            told = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            self.words.value = f'<span role="alert">{html.escape(told)}</span>'

    def look(self) -> tuple[figures.Drawing | figures.Cuts, str]:
        """The picture, and what there is to read off it (HTML)."""
        raise NotImplementedError


def _temperature_slider() -> widgets.SelectionSlider:
    return widgets.SelectionSlider(
        options=[(f"{t:g}", t) for t in TEMPERATURES],
        value=1.0,
        description="Temperature",
        tooltip="Both models' logits are divided by it. Arrow keys move it.",
        style=_STYLE,
        layout=_WIDE,
    )


class TemperatureLens(_Lens):
    """One question, the teacher's first token softened at T, and how large the gradient is beside T = 1 and beside 1/T squared."""

    def __init__(self) -> None:
        world = Atlas()
        self._asked: dict[str, Question] = {text: found for text in ASKED if (found := world.find(text))}
        self._logits: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.question = widgets.Dropdown(options=list(self._asked), description="Question", style=_STYLE, layout=_WIDE)
        self.temperature = _temperature_slider()
        super().__init__(self.question, self.temperature)

    @torch.no_grad()
    def _of(self, text: str) -> tuple[Tensor, Tensor, Tensor]:
        """First-token logits of the teacher, of a fresh student, and of one that has learned most of it."""
        if text not in self._logits:
            prompt = torch.tensor(tokenizer().prompts([text]))
            seen = [
                m(prompt).logits[:, -1].float() for m in (models.teacher("atlas-3m"), models.student("200k"), models.teacher("atlas-200k"))
            ]
            self._logits[text] = (seen[0], seen[1], seen[2])
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
            "first token of the teacher's answer: softened (violet), at T = 1 (grey); \u2713 begins an answer it was taught",
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
            f"Entropy <b>{float(entropy(teacher, T)):.2f} nats</b> (of at most {most:.2f}). Beside the first guess lies {rest:.3f} of the "
            f"mass; {share:.0%} of that begins another answer it was taught.<br>Gradient without the factor T\u00b2, beside that at T = 1: "
            f"<b>{shrink['fresh']:.3f}</b> for a fresh student, <b>{shrink['trained']:.3f}</b> for a trained one; "
            f"1/T\u00b2 would be {1 / T**2:.3f}."
        )
        return drawing, sentence


class LossLens(_Lens):
    """A teacher and a half-trained student on a few real rows, under one convention after the other."""

    def __init__(self) -> None:
        world = Atlas("half")
        questions = sorted(world.questions(6, 3, skills=("recall", "open", "two_hop_steps")), key=lambda q: len(q.text) + len(q.gold))
        prompts, answers = tokenizer().prompts([q.text for q in questions]), tokenizer().answers([q.gold for q in questions])
        self._first, self._prompt = [*prompts[0], *answers[0]], len(prompts[0])  # the shortest row, so that padding follows it
        self.rows = pad(prompts, answers)
        with torch.no_grad():
            self.teacher_logits, self.student_logits = (
                models.teacher(n)(self.rows.tokens_B_T).logits.float() for n in ("atlas-3m", "atlas-3m-early")
            )
        self._known: dict[tuple[str, float], Reading] = {}
        kinds = [(f"{c.name}  ({c.kind})", c.name) for c in CONVENTIONS.values()]
        self.convention = widgets.Dropdown(options=kinds, value="mask not shifted", description="Convention", style=_STYLE, layout=_WIDE)
        self.temperature = _temperature_slider()
        super().__init__(self.convention, self.temperature)

    def reading(self, name: str) -> Reading:
        key = (name, self.temperature.value)
        if key not in self._known:
            self._known[key] = reading(name, self.teacher_logits, self.student_logits, self.rows.mask_B_T, key[1])
        return self._known[key]

    def _name(self, place: int) -> str:
        """The token of the first row that this position holds, and whether it is to be scored."""
        if place >= len(self._first):
            return "(padding)"
        token = tokenizer().token(self._first[place]).strip() or "\u2423"
        return f"answer: {token}" if place >= self._prompt else token

    def look(self) -> tuple[figures.Drawing, str]:
        T, entry = self.temperature.value, CONVENTIONS[self.convention.value]
        found, right = self.reading(entry.name), self.reading(entry.against)
        places = range(min(len(self._first), self.rows.tokens_B_T.shape[1]))  # to one position behind the answer's end
        names = [self._name(i + 1) for i in places]
        drawing = figures.bars(
            f"{entry.name}, T = {T:g}",
            f"size of the gradient for each token of the first row: {entry.against} (green), {entry.name} (blue)",
            names,
            {"truth": [float(right.per_token_B_T[0, i]) for i in places], "student": [float(found.per_token_B_T[0, i]) for i in places]},
        )
        kind, used_by, source, symptom, against = map(html.escape, (entry.kind, entry.used_by, entry.source, entry.symptom, entry.against))
        sentence = (
            f"<b>{kind}</b>: {used_by} <small>({source})</small>. Look for: {symptom}.<br>"
            f"Loss <b>{found.value:.4f}</b>; of a perfect student <b>{found.at_match:.4f}</b>; its gradient is "
            f"<b>{found.gradient_ratio:.3g}</b> times as large as that of {against}, and the cosine between them <b>{found.cosine:.3f}</b>."
        )
        return drawing, sentence


class SpeculationLens(_Lens):
    """How often guesses are accepted, what they cost and how many are made: the speed-up, over tokens a round and over the cost."""

    def __init__(self, alpha: float = 0.8, gamma: int = 4, cost: float = 0.1, verify: float = 0.0) -> None:
        def slider(kind: Any, name: str, value: float, low: float, high: float, step: float, help: str) -> widgets.ValueWidget:
            looks = {"tooltip": help, "style": _STYLE, "layout": _WIDE, "continuous_update": False}
            return kind(value=min(high, max(low, value)), min=low, max=high, step=step, description=name, **looks)

        real, whole = widgets.FloatSlider, widgets.IntSlider
        self.alpha = slider(real, "Acceptance", alpha, 0.0, 0.99, 0.01, "Chance that the target accepts a guess. Arrow keys move it.")
        self.gamma = slider(whole, "Tokens a round", gamma, 1, figures.GAMMAS[-1], 1, "How many tokens the draft proposes a round.")
        self.cost = slider(real, "Draft's cost", cost, 0.01, 1.0, 0.01, "What it takes to draft one, in passes of the target.")
        self.verify = slider(real, "To verify", verify, 0.0, 0.2, 0.01, "What each token to be judged makes the target's pass dearer.")
        super().__init__(self.alpha, self.gamma, self.cost, self.verify)

    def look(self) -> tuple[figures.Drawing, str]:
        alpha, gamma, cost, verify = self.alpha.value, self.gamma.value, self.cost.value, self.verify.value
        best, most = best_gamma(alpha, cost, verify, most=figures.GAMMAS[-1])
        gain = speedup(alpha, gamma, cost, verify)
        told = f"best: <b>\u03b3 = {best}</b>, {most:.2f} times." if best else "no number of them pays: leave the target alone."
        sentence = (
            f"\u03b3 = {gamma}: {tokens_per_round(alpha, gamma):.2f} tokens a round that costs {1 + gamma * (cost + verify):.2f} passes, "
            f"<b>{gain:.2f}</b> times as fast as the target alone; {told} Drafting pays as long as acceptance is above what a guess costs, "
            f"{cost + verify:.2f}."
        )
        return figures.speedups(alpha, gamma, cost, verify), sentence
