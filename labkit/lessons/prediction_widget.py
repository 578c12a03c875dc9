"""The widget that asks for a prediction: a range, a confidence, and a button that stores it.

prediction_widget("How far will the student go?", "recovery", 0, 1, on_save=print)
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from labkit.base.html import note, tag
from labkit.lessons.predictions import Prediction, predict, standing

CONFIDENCES = (0.5, 0.8, 0.9, 0.95)
_SCALES = {
    "recovery": "0 is its gold labels alone, 1 is the teacher, 0.5 is 50%.",
    "acceptance": "0 is none of them, 1 is all, 0.5 is 50%.",
}
_LAYOUT = {"width": "calc(100% - 4px)", "min_width": "0"}


def prediction_widget(
    question: str,
    unit: str = "",
    low: float = 0.0,
    high: float = 1.0,
    on_save: Callable[[Prediction], object] | None = None,
    *,
    question_id: str | None = None,
) -> widgets.VBox:
    """Two numbers, a confidence and a button. The parts are also attributes of the box: `low`, `high`, `confidence`, `save`, `message`;
    `kept` is the prediction that was stored before and whose result is not known, or None.

    question: the text above.
    unit: of the predicted number.
    low, high: the least and the greatest number that can be predicted.
    on_save: called with the `Prediction` that was stored.
    question_id: names the question in the file; the question itself if None.
    """
    span = high - low

    def end(name: str, share: float) -> widgets.BoundedFloatText:
        said = f"{name} end of your range{f', {unit}' if unit else ''}: {low:g} to {high:g}"
        value, look = round(low + share * span, 10), {"description_width": "68px"}
        return widgets.BoundedFloatText(
            value=value, min=low, max=high, step=span / 100, description=name, tooltip=said, style=look, layout=_LAYOUT
        )

    lower, upper = end("Between", 0.4), end("and", 0.8)
    confidence = widgets.Dropdown(
        options=[(f"{value:.0%}", value) for value in CONFIDENCES],
        value=0.8,
        description="How sure",
        tooltip="How sure you are that the result lies in the range. At 80%, eight of ten such ranges should contain it.",
        style={"description_width": "68px"},
        layout=_LAYOUT,
    )
    save = widgets.Button(description="Save prediction", tooltip="Store this prediction. It is scored when the result is known.")
    message = widgets.HTML(layout={"min_height": "1.4em"})
    title = widgets.HTML(tag("strong", question, style="line-height:1.3;font-weight:600") + tag("div", _SCALES.get(unit, "")))

    def say(text: str) -> None:
        message.value = note(text)

    def saved(_: object) -> None:
        try:  # an exception in a callback is not shown anywhere
            truth = standing(question_id or question).truth
            if truth is not None:
                return say(f"Not kept: the result of this question is known already ({truth:.2g}), so a guess would not count.")
            first, last = sorted((lower.value, upper.value))
            kept = predict(question_id or question, first, last, confidence.value, unit=unit)
            turned = "The ends are put in order. " if lower.value > upper.value else ""
            sharp = "This is a single number, and hardly any result is exactly that: widen the range. " if first == last else ""
            say(
                f"Kept: {kept.low:.3g} to {kept.high:.3g}, {kept.confidence:.0%} sure. {turned}{sharp}It may be changed until the run ends."
            )
            lower.value, upper.value = first, last
            if on_save:
                on_save(kept)
        except Exception as error:
            message.value = note(str(error) or type(error).__name__, "alert")

    save.on_click(saved)
    box = widgets.VBox([title, lower, upper, confidence, save, message], layout={"width": "100%", "min_width": "0"})
    box.add_class("labkit-prediction")
    box.low, box.high, box.confidence, box.save, box.message = lower, upper, confidence, save, message
    before = standing(question_id or question)
    box.kept = before.prediction if before.truth is None else None
    if box.kept:
        lower.value, upper.value = box.kept.low, box.kept.high
        confidence.value = box.kept.confidence if box.kept.confidence in CONFIDENCES else confidence.value
        say(f"Your guess from before stands: {box.kept.low:.3g} to {box.kept.high:.3g}, {box.kept.confidence:.0%} sure.")
    return box
