"""The widget that asks for a prediction: an interval, a confidence, and a button that stores it.

prediction_widget("How far will the student go?", "recovery", 0, 1, on_save=print)
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from labkit.base.html import note, tag
from labkit.lessons.predictions import Prediction, predict

CONFIDENCES = (0.5, 0.8, 0.9, 0.95)
_STYLE = {"description_width": "98px"}
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
    """A range slider, a confidence and a button. The parts are also attributes of the box: `interval`, `confidence`, `save`, `message`.

    question: the text above.
    unit: of the predicted number.
    low, high: the ends of the slider.
    on_save: called with the `Prediction` that was stored.
    question_id: names the question in the file; the question itself if None.
    """
    span = high - low
    described = f"Lower and upper end of the interval{f', {unit}' if unit else ''}. Arrow keys move the end that has the focus."
    interval = widgets.FloatRangeSlider(
        value=(low + 0.4 * span, low + 0.8 * span),
        min=low,
        max=high,
        step=span / 100,
        readout_format=".2f" if span <= 10 else ".0f",
        description=f"Between ({unit})" if unit and len(unit) < 4 else "Between",
        tooltip=described,
        style=_STYLE,
        layout=_LAYOUT,
    )
    confidence = widgets.Dropdown(
        options=[(f"{value:.0%}", value) for value in CONFIDENCES],
        value=0.8,
        description="How sure",
        tooltip="How sure you are that the result lies in the interval. At 80%, eight of ten such intervals should contain it.",
        style=_STYLE,
        layout=_LAYOUT,
    )
    save = widgets.Button(description="Save prediction", tooltip="Store this prediction. It is scored when the result is known.")
    message = widgets.HTML(layout={"min_height": "1.4em"})
    title = widgets.HTML(tag("strong", question, style="line-height:1.3;font-weight:600"))

    def say(text: str) -> None:
        message.value = note(text, "alert")

    def saved(_: object) -> None:
        try:  # an exception in a callback is not shown anywhere
            lower, upper = interval.value
            kept = predict(question_id or question, lower, upper, confidence.value, unit=unit)
            say(
                f"Kept: {kept.low:.3g} to {kept.high:.3g}, {kept.confidence:.0%} sure. "
                "Save again to change it; the last one before the result counts."
            )
            if on_save:
                on_save(kept)
        except Exception as error:
            say(str(error) or type(error).__name__)

    save.on_click(saved)
    box = widgets.VBox([title, interval, confidence, save, message], layout={"width": "100%", "min_width": "0"})
    box.add_class("labkit-prediction")
    box.interval, box.confidence, box.save, box.message = interval, confidence, save, message
    return box
