"""Lenses: interactive views, without training, of temperature, losses, alignments and speculative decoding.

    labkit.lens("temperature")        # a question, T, and the teacher's most likely first tokens
    labkit.lens("loss")               # a library's convention or a known bug, T, and the gradient token by token
    labkit.lens("alignment")          # an answer in two vocabularies, and the loss on every span they share
    labkit.lens("speculation")        # the speed-up by a draft: acceptance, cost, and tokens a round
    labkit.lens("text", teacher, student, "a text of your own")    # what both models say of each token

Each is a box of labelled controls with a picture and its content in words. It redraws when a control moves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from labkit.base.errors import LabError, unknown
from labkit.base.kinds import kinds_checked


@kinds_checked
def lens(kind: str, *given: Any, **named: Any) -> widgets.VBox:
    """Make a lens.

    kind: "temperature", "loss", "alignment", "speculation" or "text".
    given, named: of "alignment": `student`; of "speculation": `alpha`, `gamma`, `cost` and `verify`, the first values of its controls; of
        "text": `teacher`, `student` and `text`, as in `reading.read_text`.

    Returns a box; its controls are its attributes. Raises `LabError` for another kind, or for what the lens cannot show.
    """
    from labkit.views.lenses.alignment import AlignmentLens
    from labkit.views.lenses.loss import LossLens
    from labkit.views.lenses.speculation import SpeculationLens
    from labkit.views.lenses.temperature import TemperatureLens
    from labkit.views.lenses.text import TextLens

    kinds: dict[str, Callable[..., widgets.VBox]] = {
        "temperature": TemperatureLens,
        "loss": LossLens,
        "alignment": AlignmentLens,
        "speculation": SpeculationLens,
        "text": TextLens,
    }
    if kind not in kinds:
        raise unknown("lens", kind, kinds)
    takes = inspect.signature(kinds[kind]).parameters
    if len(given) + len(named) > len(takes):
        raise LabError(f"the lens {kind!r} got {len(given) + len(named)} values, and takes {', '.join(takes) or 'none'}.")
    for name in named:
        if name not in takes:
            raise unknown(f"argument of the lens {kind!r}:", name, takes)
    return kinds[kind](*given, **named)
