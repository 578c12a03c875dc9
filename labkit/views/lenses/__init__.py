"""Lenses, with no training: what temperature does to real logits, what a loss makes of them, and what a draft of them gains.

    labkit.lens("temperature")        # a question, T, and the teacher's first guesses
    labkit.lens("loss")               # a library's convention or a known bug, T, and the gradient token by token
    labkit.lens("alignment")          # an answer in two vocabularies, and the loss on every span they share
    labkit.lens("speculation")        # what a draft gains: acceptance, its cost, and how many tokens it proposes

Each is a box of labelled controls with a picture and the same in words; it redraws when a control moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from labkit.base.errors import unknown


def lens(kind: str, **given: Any) -> widgets.VBox:
    """ "temperature", "loss", "alignment" (of a `student`, if one is given) or "speculation" (at an `alpha`, `gamma` and `cost`); the parts
    are attributes of the box. Raises `LabError` for another."""
    from labkit.views.lenses.alignment import AlignmentLens
    from labkit.views.lenses.loss import LossLens
    from labkit.views.lenses.speculation import SpeculationLens
    from labkit.views.lenses.temperature import TemperatureLens

    kinds: dict[str, Callable[..., widgets.VBox]] = {
        "temperature": TemperatureLens,
        "loss": LossLens,
        "alignment": AlignmentLens,
        "speculation": SpeculationLens,
    }
    if kind not in kinds:
        raise unknown("lens", kind, kinds)
    return kinds[kind](**given)
